//! What a listener with TLS serves, and to whom.

use std::process::Command;

use super::super::harness::peer::skip;
use super::super::harness::program::{BINARY, Folder};
use super::super::harness::{Client, Evenkeel, Pki, Replica, until};
use super::*;

#[test]
fn certificates_are_chosen_by_name_and_key() {
    let folder = Folder::new();
    let others = Pki::new(&folder.0, "others");
    others.issue_with("rsa", &["a.test", "127.0.0.1"], &rcgen::PKCS_RSA_SHA256, &|_| {});
    others.issue("wild", &["*.b.test"]);
    others.issue("exact", &["c.b.test"]);
    let pem = ["wild.crt", "wild.key"].map(|f| std::fs::read_to_string(folder.join(f)).unwrap());
    std::fs::write(folder.join("wild.pem"), pem.concat()).unwrap();
    let (mirror, web) = (mirror(), local());
    Pki::new(&folder.0, "ca").issue("a", &["a.test", "127.0.0.1"]);
    let text = config(web, mirror.address, "", "").replace(
        "key: a.key }",
        "key: a.key }, { certificate: rsa.crt, key: rsa.key }, wild.pem, \
         { certificate: exact.crt, key: exact.key }",
    );
    let program = Evenkeel::spawn_in(folder, &text);
    program.wait_ready();
    let subject = |more: &[&str]| {
        let said = s_client(web, more, LAST);
        let line = said.lines().find(|l| l.starts_with("subject="));
        line.unwrap_or(&said).replace("subject=", "").replace("CN = ", "")
    };
    for (more, expected) in [
        (&["-servername", "a.test"][..], "a"),
        (&["-servername", "A.TEST"], "a"),
        (&["-servername", "a.test", "-sigalgs", "RSA-PSS+SHA256"], "rsa"),
        (&["-servername", "a.test", "-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], "rsa"),
        (&["-servername", "a.test", "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], "a"),
        (&["-servername", "x.b.test"], "wild"),
        (&["-servername", "c.b.test"], "exact"),
        (&["-servername", "y.x.b.test"], "a"),
        (&["-servername", "nobody.test"], "a"),
        (&["-noservername"], "a"),
    ] {
        assert_eq!(subject(more), expected, "{more:?}");
    }
}

#[test]
fn unknown_names_are_refused_where_names_are_strict() {
    let site = Site::start(", strict_names: true", "");
    assert!(site.curl("a.test", &[]).unwrap().starts_with("HTTP/1.1 200"));
    let refused = site.openssl(&["-servername", "nobody.test"], LAST);
    assert!(refused.contains("alert") && !refused.contains("subject="), "{refused}");
    assert!(site.openssl(&["-noservername"], LAST).contains("HTTP/1.1 200"));
}

#[test]
fn versions_and_ciphers_are_as_configured() {
    let ciphers = "TLS_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    for (tls, more, expected) in [
        ("", &["-tls1_2"][..], "Protocol  : TLSv1.2"),
        ("", &["-tls1_3"], "TLSv1.3"),
        ("", &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], "alert"),
        (", min_version: 1.3", &["-tls1_2"], "alert protocol version"),
        (", min_version: 1.3", &["-tls1_3"], "TLSv1.3"),
        (&format!(", ciphers: [ {ciphers} ]"), &[], "Cipher is TLS_AES_128_GCM_SHA256"),
        (
            &format!(", ciphers: [ {ciphers} ]"),
            &["-tls1_2"],
            "Cipher is ECDHE-ECDSA-AES128-GCM-SHA256",
        ),
        (", min_version: 1.2", &["-alpn", "http/1.1"], "ALPN protocol: http/1.1"),
        ("", &["-alpn", "nonsense"], "alert no application protocol"),
    ] {
        let said = Site::start(tls, "").openssl(more, LAST);
        assert!(said.contains(expected), "{tls} {more:?}: {said}");
    }
}

#[test]
fn sessions_are_resumed_where_they_were_made() {
    for version in ["-tls1_2", "-tls1_3"] {
        let mut site = Site::start("", "");
        let kept = site.path("session");
        let made = site.openssl(&[version, "-sess_out", &kept], LAST);
        assert!(made.contains("HTTP/1.1 200"), "{made}");
        let resumed = |site: &Site| {
            let said = site.openssl(&[version, "-sess_in", &kept], LAST);
            assert!(said.contains("HTTP/1.1 200"), "{said}");
            said.contains("Reused, ")
        };
        assert!(resumed(&site), "{version}");
        // Tickets outlive new settings of the listener,
        let mirror = &site._mirror;
        site.program.reconfigure(&config(site.web, mirror.address, ", hsts: 1d", ""));
        until("the new settings", || site.curl("a.test", &[]).unwrap().contains("max-age=86400"));
        assert!(resumed(&site), "{version}");
        // and are worth nothing where clients are looked at in another way.
        let auth = ", client_auth: { ca: ca.pem, mode: optional }";
        site.program.reconfigure(&config(site.web, mirror.address, auth, ""));
        until("clients are asked", || {
            site.openssl(&["-tls1_2"], LAST).contains("Acceptable client certificate CA names")
        });
        assert!(!resumed(&site), "{version}");
        site.program.signal("TERM");
        assert_eq!(site.program.wait_exit(), Some(0));
    }
    let site = Site::start(", resumption: false", "");
    let said = site.openssl(&["-tls1_3"], LAST);
    assert!(said.contains("HTTP/1.1 200") && !said.contains("Session Ticket arrived"), "{said}");
}

#[test]
fn applications_and_browsers_are_told() {
    let routes = "\n    forwarding: { forwarded: true }\n    routes:\n      \
                  - { path: /go, redirect: \"{scheme}://{host}/there\" }\n      \
                  - { path: /no, respond: 404 }\n";
    let hsts = ", hsts: { max_age: 365d, include_subdomains: true, preload: true }";
    let site = Site::start(hsts, routes);
    let said = site.curl("a.test", &["-H", "X-Forwarded-Proto: http"]).unwrap();
    for line in [
        "X-Forwarded-Proto: https\r\n",
        ";proto=https;host=\"a.test",
        "strict-transport-security: max-age=31536000; includeSubDomains; preload\r\n",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!said.contains("X-Forwarded-Proto: http\r\n"), "{said}");
    let ca = site.path("ca.pem");
    let said = curl(&ca, "a.test", site.web, "/go", &[]).unwrap();
    assert!(said.contains("location: https://a.test/there\r\n"), "{said}");
    for path in ["/go", "/no"] {
        let said = curl(&ca, "a.test", site.web, path, &[]).unwrap();
        assert!(said.contains("strict-transport-security: max-age=31536000"), "{said}");
    }
    let metrics = Client::get(site.program.admin, "/metrics").text();
    let line = "evenkeel_listener_tls_handshakes_total{listener=\"web\"} 4\n";
    assert!(metrics.contains(line), "{metrics}");
}

#[test]
fn plain_http_is_redirected() {
    let (plain, site_folder) = (local(), Folder::new());
    let mirror = mirror();
    let web = local();
    Pki::new(&site_folder.0, "ca").issue("a", &["a.test"]);
    let port = web.port();
    let text = config(web, mirror.address, "", "").replace(
        "services:",
        &format!(
            "  plain:\n    bind: {plain}\n    routes:\n      \
               - {{ redirect: {{ to: \"https://{{host}}:{port}{{uri}}\", status: 308 }} }}\nservices:"
        ),
    );
    let program = Evenkeel::spawn_in(site_folder, &text);
    program.wait_ready();
    let resolve = [plain, web].map(|at| format!("a.test:{}:127.0.0.1", at.port()));
    let ca = program.folder.join("ca.pem").display().to_string();
    let output = Command::new("curl")
        .args(["-sSL", "--cacert", &ca, "--resolve", &resolve[0], "--resolve", &resolve[1]])
        .arg(format!("http://a.test:{}/x?y=1", plain.port()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with("GET /x?y=1 HTTP/1.1"), "{said}");
}

#[test]
fn large_bodies_arrive_whole_both_ways() {
    let replica = Replica::http(|seen| {
        let mut answer =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", seen.body.len()).into_bytes();
        answer.extend_from_slice(&seen.body);
        answer
    });
    let folder = Folder::new();
    Pki::new(&folder.0, "ca").issue("a", &["a.test"]);
    let body: Vec<u8> =
        (0..20_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(folder.join("body"), &body).unwrap();
    let web = local();
    let program = Evenkeel::spawn_in(folder, &config(web, replica.address, "", ""));
    program.wait_ready();
    let path = |name: &str| program.folder.join(name).display().to_string();
    for more in
        [&["--limit-rate", "40M"][..], &["-H", "Transfer-Encoding: chunked"], &["--tls-max", "1.2"]]
    {
        let upload = format!("@{}", path("body"));
        let back = path("back");
        let output = Command::new("curl")
            .args(["-sS", "--fail", "--cacert", &path("ca.pem"), "-o", &back, "-X", "POST"])
            .args(["--resolve", &format!("a.test:{}:127.0.0.1", web.port())])
            .args(["--data-binary", &upload, "-H", "Expect:"])
            .args(more)
            .arg(format!("https://a.test:{}/", web.port()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{more:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(std::fs::read(&back).unwrap() == body, "{more:?}");
    }
}

#[test]
fn streams_are_decrypted_for_tcp_services() {
    let echo = Replica::raw(|connection| {
        let mut reader = connection.stream.try_clone().unwrap();
        let _ = std::io::copy(&mut reader, &mut connection.stream);
    });
    let folder = Folder::new();
    Pki::new(&folder.0, "ca").issue("a", &["a.test"]);
    let web = local();
    let program = Evenkeel::spawn_in(folder, &config(web, echo.address, "", "\n    protocol: tcp"));
    program.wait_ready();
    let ca = program.folder.join("ca.pem").display().to_string();
    // Its end, said by TLS, is passed on, and what was echoed before comes back whole.
    let said = python(
        "import socket, ssl, sys\n\
         context = ssl.create_default_context(cafile=sys.argv[1])\n\
         plain = socket.create_connection(('127.0.0.1', int(sys.argv[2])))\n\
         s = context.wrap_socket(plain, server_hostname='a.test', suppress_ragged_eofs=False)\n\
         sent = bytes(range(256)) * 2000\n\
         import threading\n\
         threading.Thread(target=lambda: s.sendall(sent)).start()\n\
         got = b''\n\
         while len(got) < len(sent): got += s.recv(65536)\n\
         assert got == sent\n\
         s = s.unwrap()\n\
         print('ended', s.recv(10))\n",
        &[&ca, &web.port().to_string()],
    );
    assert!(said.contains("ended b''"), "{said}");
}

#[test]
fn proxy_protocol_comes_before_tls() {
    let site = Site::start("", "\n    proxy_protocol: { from: [ 127.0.0.0/8 ] }");
    let said = site.curl("a.test", &["--haproxy-protocol"]).unwrap();
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    // Header and ClientHello in one segment, and cut in every other way by the peer's TCP.
    let said = python(
        "import socket, ssl, sys\n\
         context = ssl.create_default_context(cafile=sys.argv[1])\n\
         plain = socket.create_connection(('127.0.0.1', int(sys.argv[2])))\n\
         i, o = ssl.MemoryBIO(), ssl.MemoryBIO()\n\
         s = context.wrap_bio(i, o, server_hostname='a.test')\n\
         head = b'PROXY TCP4 203.0.113.7 192.0.2.1 1 443\\r\\n'\n\
         def turn(f):\n\
        \x20 global head\n\
        \x20 while True:\n\
        \x20   try: r = f()\n\
        \x20   except ssl.SSLWantReadError: r = None\n\
        \x20   if o.pending: plain.sendall(head + o.read()); head = b''\n\
        \x20   if r is not None: return r\n\
        \x20   i.write(plain.recv(65536))\n\
         turn(lambda: s.do_handshake() or 1)\n\
         turn(lambda: s.write(b'GET / HTTP/1.1\\r\\nHost: a.test\\r\\n\\r\\n'))\n\
         print(turn(lambda: s.read(65536)).decode())\n",
        &[&site.path("ca.pem"), &site.web.port().to_string()],
    );
    assert!(said.contains("X-Forwarded-For: 203.0.113.7"), "{said}");
}

#[test]
fn websockets_run_over_tls() {
    let found = Command::new("python3").args(["-c", "import websockets"]).output();
    if !found.is_ok_and(|o| o.status.success()) {
        return skip("python3 with websockets", "is not installed");
    }
    let echo = local();
    let _echo = super::super::harness::Peer::start(Command::new(BINARY).args([
        "echo",
        "--http",
        &echo.to_string(),
    ]));
    let folder = Folder::new();
    Pki::new(&folder.0, "ca").issue("a", &["a.test", "127.0.0.1"]);
    let web = local();
    let program = Evenkeel::spawn_in(folder, &config(web, echo, "", ""));
    program.wait_ready();
    let ca = program.folder.join("ca.pem").display().to_string();
    let said = python(
        "import ssl, sys\n\
         from websockets.sync.client import connect\n\
         context = ssl.create_default_context(cafile=sys.argv[1])\n\
         with connect(f'wss://127.0.0.1:{sys.argv[2]}/', ssl=context) as ws:\n\
        \x20 for text in ['one', 'two', 'x' * 200000]:\n\
        \x20   ws.send(text)\n\
        \x20   got = ws.recv()\n\
        \x20   assert text in got, (text[:20], got[:20])\n\
         print('all came back')\n",
        &[&ca, &web.port().to_string()],
    );
    assert!(said.contains("all came back"), "{said}");
}

#[test]
fn a_certificate_for_development_needs_no_files() {
    let folder = Folder::new();
    let (mirror, web) = (mirror(), local());
    let admin = local();
    let text = format!(
        "admin: {{ bind: {admin} }}\nlisteners:\n  web: {{ bind: {web}, service: web, tls: {{ self_signed: [ app.test ] }} }}\n\
         services: {{ web: {{ endpoints: [ {} ] }} }}\n",
        mirror.address
    );
    std::fs::write(folder.join("evenkeel.yaml"), text).unwrap();
    let ca = folder.join("evenkeel/ca/ca.pem");
    let file = folder.join("evenkeel.yaml");
    let checked = Command::new(BINARY)
        .args(["check", "-c"])
        .arg(&file)
        .env("XDG_DATA_HOME", &folder.0)
        .status();
    assert!(checked.unwrap().success() && !is_there(&ca), "a check makes nothing");
    let mut command = Command::new(BINARY);
    command.args(["run", "-c"]).arg(&file).env("XDG_DATA_HOME", &folder.0);
    let program = Evenkeel::start(command, admin, folder);
    program.wait_ready();
    for host in ["app.test", "localhost"] {
        let said = curl(&ca.display().to_string(), host, web, "/", &[]).unwrap();
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    }
    let trust =
        format!("to trust it: evenkeel trust; or for one call: curl --cacert '{}'", ca.display());
    until("how to trust it", || program.log().contains(&trust));
}
#[test]
fn the_access_log_tells_what_was_agreed_on() {
    let folder = Folder::new();
    Pki::new(&folder.0, "ca").issue("a", &["a.test"]);
    let (mirror, web, stream, passed) = (mirror(), local(), local(), local());
    let log = folder.join("access.log");
    let tls = "tls: { certificates: [ { certificate: a.crt, key: a.key } ] }";
    let text = format!(
        "access_log: {{ file: {} }}\n\
         listeners:\n  web: {{ bind: {web}, service: web, {tls} }}\n  \
           stream: {{ bind: {stream}, protocol: tcp, service: web, {tls} }}\n  \
           passed: {{ bind: {passed}, protocol: tls, service: secure }}\n\
         services:\n  web: {{ endpoints: [ {} ] }}\n  secure: {{ endpoints: [ {web} ] }}\n",
        log.display(),
        mirror.address
    );
    let program = Evenkeel::spawn_in(folder, &text);
    program.wait_ready();
    let ca = program.folder.join("ca.pem").display().to_string();
    let line = |listener: &str| {
        let mut found = serde_json::Value::Null;
        until("the line", || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let lines = text.lines().filter_map(|l| serde_json::from_str(l).ok());
            found = lines
                .filter(|line: &serde_json::Value| line["listener"] == listener)
                .last()
                .unwrap_or_default();
            found != serde_json::Value::Null
        });
        std::fs::write(&log, "").unwrap();
        program.signal("USR1");
        found
    };
    for (at, listener, more, expected) in [
        (web, "web", &[][..], ["1.1", "TLSv1.3", "TLS_AES_128_GCM_SHA256", "a.test"]),
        (web, "web", &["--http2"], ["2", "TLSv1.3", "TLS_AES_128_GCM_SHA256", "a.test"]),
        (
            web,
            "web",
            &["--tls-max", "1.2"],
            ["1.1", "TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "a.test"],
        ),
        (stream, "stream", &[], ["", "TLSv1.3", "TLS_AES_128_GCM_SHA256", "a.test"]),
        (passed, "passed", &[], ["", "", "", "a.test"]),
    ] {
        assert!(curl(&ca, "a.test", at, "/", more).is_ok(), "{listener} {more:?}");
        let line = line(listener);
        let fields = ["version", "tls_version", "tls_cipher", "server_name"]
            .map(|name| line[name].as_str().unwrap_or_default().to_owned());
        assert_eq!(fields, expected, "{line}");
    }
}
