//! Real servers of HTTP/2 behind the balancer, and real clients of any version before it.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use crate::e2e::harness::program::{Folder, free_port, local};
use crate::e2e::harness::{Evenkeel, Peer, Pki, Replica, Web, peer, until};

fn wait_listening(address: SocketAddr) {
    until("it listens", || TcpStream::connect(address).is_ok());
}

/// nginx that answers with what it was asked in; over TLS with `tls`.
fn nginx(folder: &Folder, tls: bool) -> Option<(Peer, SocketAddr)> {
    let nginx = peer::find("nginx")?;
    let address = local();
    let secure = match tls {
        true => "ssl_certificate a.crt; ssl_certificate_key a.key;",
        false => "",
    };
    let ssl = if tls { "ssl " } else { "" };
    let root = folder.0.display();
    let config = format!(
        "daemon off; master_process off; error_log stderr; pid {root}/{port}.pid;\n\
         events {{}}\n\
         http {{ access_log off; client_body_temp_path {root}/b; proxy_temp_path {root}/p;\n\
           fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n\
           server {{ listen {address} {ssl}http2; {secure}\n\
             location / {{ return 200 \"$server_protocol $scheme $host $request_uri\"; }} }} }}\n",
        port = address.port()
    );
    let file = folder.join(&format!("nginx-{}.conf", address.port()));
    fs::write(&file, config).unwrap();
    let peer = Peer::start(Command::new(nginx).arg("-p").arg(&folder.0).arg("-c").arg(&file));
    wait_listening(address);
    Some((peer, address))
}

fn curl(arguments: &[&str]) -> Option<String> {
    let curl = peer::find("curl")?;
    let output = Command::new(curl).args(["-sS", "--max-time", "20"]).args(arguments).output();
    let output = output.unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {error}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn every_mixture_of_versions_and_tls() {
    let folder = Folder::new();
    let pki = Pki::new(&folder.0, "ca");
    pki.issue("a", &["app.internal", "127.0.0.1"]);
    let Some((_clear, clear)) = nginx(&folder, false) else { return };
    let Some((_secure, secure)) = nginx(&folder, true) else { return };
    let one = Replica::http(|seen| {
        let version = seen.line().rsplit(' ').next().unwrap_or_default();
        let body = format!("{version} http {} /x?y=z", seen.header("host").unwrap_or_default());
        crate::e2e::harness::replica::ok(&body)
    });
    let tls = "tls: { ca: ca.pem, server_name: app.internal }";
    let services = [
        ("one", one.address, String::new(), "HTTP/1.1 http"),
        ("h2c", clear, "protocol: h2c".into(), "HTTP/2.0 http"),
        ("h2", secure, format!("protocol: h2, {tls}"), "HTTP/2.0 https"),
        ("auto", secure, format!("protocol: auto, {tls}"), "HTTP/2.0 https"),
        ("tls", secure, tls.into(), "HTTP/1.1 https"),
    ];
    let (plain, certified) = (local(), local());
    let mut routes = String::new();
    let mut config = String::from("services:\n");
    for (name, address, more, _) in &services {
        let comma = if more.is_empty() { "" } else { ", " };
        config.push_str(&format!(
            "  {name}: {{ endpoints: [ {address} ], health: off{comma}{more} }}\n"
        ));
        routes.push_str(&format!("{{ host: {name}.test, service: {name} }}, "));
    }
    config.push_str(&format!(
        "listeners:\n  plain: {{ bind: {plain}, routes: [ {routes} ] }}\n  \
         certified: {{ bind: {certified}, routes: [ {routes} ], tls: {{ certificates: [ {{ certificate: a.crt, key: a.key }} ] }} }}\n"
    ));
    let program = Evenkeel::spawn_in(folder, &config);
    program.wait_ready();
    let clients = [
        ("http", plain, "--http1.1", "1.1"),
        ("http", plain, "--http2-prior-knowledge", "2"),
        ("https", certified, "--http1.1", "1.1"),
        ("https", certified, "--http2", "2"),
    ];
    for (scheme, at, version, spoken) in clients {
        for (name, _, _, expected) in &services {
            let port = at.port();
            let url = format!("{scheme}://{name}.test:{port}/x?y=z");
            let resolve = format!("{name}.test:{port}:127.0.0.1");
            let said = curl(&[
                "-k",
                version,
                "--resolve",
                &resolve,
                "-w",
                " %{http_version} %{http_code}",
                &url,
            ]);
            let Some(said) = said else { return };
            let host =
                if *name == "one" { format!("{name}.test:{port}") } else { format!("{name}.test") };
            assert_eq!(said, format!("{expected} {host} /x?y=z {spoken} 200"), "{url} {version}");
        }
    }
}

#[test]
fn an_endpoint_that_knows_only_http_1_is_spoken_to_in_it_where_that_is_allowed() {
    let folder = Folder::new();
    let pki = Pki::new(&folder.0, "ca");
    pki.issue("a", &["app.internal"]);
    let (front, inner, mirror) =
        (local(), local(), Replica::http(|s| crate::e2e::harness::replica::ok(s.line())));
    let Some(openssl) = peer::find("openssl") else { return };
    // Its HTTP server knows no ALPN, and answers each request with a page of its own.
    let _peer = Peer::start(
        Command::new(openssl)
            .args(["s_server", "-www", "-quiet", "-accept", &inner.to_string()])
            .args(["-cert", "a.crt", "-key", "a.key"])
            .current_dir(&folder.0),
    );
    wait_listening(inner);
    let tls = "tls: { ca: ca.pem, server_name: app.internal }, health: off";
    let program = Evenkeel::spawn_in(
        folder,
        &format!(
            "listeners:\n  web: {{ bind: {front}, routes: [ {{ path: /h2, service: h2 }}, {{ service: auto }} ] }}\n\
             services:\n  auto: {{ endpoints: [ {inner} ], protocol: auto, {tls} }}\n  \
               h2: {{ endpoints: [ {inner} ], protocol: h2, {tls} }}\n  \
               mirror: {{ endpoints: [ {} ] }}\n",
            mirror.address
        ),
    );
    program.wait_ready();
    for _ in 0..3 {
        let answer = crate::e2e::harness::Client::get(front, "/");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains("s_server"), "{}", answer.text());
    }
    assert_eq!(crate::e2e::harness::Client::get(front, "/h2").status, 502);
}

#[test]
fn servers_of_node_and_python() {
    let folder = Folder::new();
    let port = free_port();
    let script = folder.join("server.js");
    fs::write(
        &script,
        "const server = require('http2').createServer();\n\
         server.on('stream', (stream, headers) => {\n\
           stream.respond({ ':status': 200, 'x-method': headers[':method'] }, { waitForTrailers: true });\n\
           stream.on('wantTrailers', () => stream.sendTrailers({ 'x-last': 'yes' }));\n\
           stream.pipe(stream);\n\
         });\n\
         server.listen(Number(process.argv[2]), '127.0.0.1');\n",
    )
    .unwrap();
    let mut endpoints = Vec::new();
    let mut peers = Vec::new();
    if let Some(node) = peer::find("node") {
        peers.push(Peer::start(Command::new(node).arg(&script).arg(port.to_string())));
        endpoints.push(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    let app = "async def app(scope, receive, send):\n\
               \x20   body, more = b'', True\n\
               \x20   while more:\n\
               \x20       message = await receive()\n\
               \x20       body += message.get('body', b'')\n\
               \x20       more = message.get('more_body', False)\n\
               \x20   headers = [(b'x-method', scope['method'].encode()), (b'x-version', scope['http_version'].encode())]\n\
               \x20   await send({'type': 'http.response.start', 'status': 200, 'headers': headers})\n\
               \x20   await send({'type': 'http.response.body', 'body': body})\n";
    fs::write(folder.join("app.py"), app).unwrap();
    if crate::e2e::grpc::has_python("hypercorn") {
        let address = local();
        peers.push(Peer::start(
            Command::new("python3")
                // No process of its own for the work, which would outlive this one.
                .args(["-m", "hypercorn", "-w", "0", "--bind", &address.to_string(), "app:app"])
                .current_dir(&folder.0),
        ));
        endpoints.push(address);
    }
    for address in endpoints {
        wait_listening(address);
        let web = Web::before(&[address], "", "protocol: h2c");
        let url = format!("http://{}/", web.address);
        let file = folder.join("body");
        let body = "0123456789".repeat(30_000);
        fs::write(&file, &body).unwrap();
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            for _ in 0..3 {
                let data = format!("@{}", file.display());
                let said = curl(&[version, "-i", "--data-binary", &data, &url]);
                let Some(said) = said else { return };
                assert!(said.contains(" 200"), "{said:.200}");
                assert!(said.to_lowercase().contains("x-method: post"), "{said:.200}");
                assert!(said.contains(&body), "{} bytes", said.len());
            }
        }
    }
}

#[test]
fn h2load_loses_no_request_while_endpoints_are_killed() {
    let Some(h2load) = peer::find("h2load") else { return };
    let folder = Folder::new();
    let start = || nginx(&folder, false);
    let (Some(first), Some(second), Some(third)) = (start(), start(), start()) else { return };
    let web = Web::before(
        &[first.1, second.1, third.1],
        "",
        "protocol: h2c\nhealth: { tcp: true, interval: 100ms, unhealthy_after: 1 }\nretry: { budget: 100% }",
    );
    until("all are healthy", || web.program.count("app", "healthy") == 3);
    let url = format!("http://{}/", web.address);
    let load = Command::new(h2load)
        .args(["-n", "60000", "-c", "8", "-m", "32", &url])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let requests = || web.requests();
    until("the load is there", || requests() > 5_000);
    drop(first);
    until("it goes on", || requests() > 20_000);
    drop(second);
    let output = load.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let expected =
        "60000 total, 60000 started, 60000 done, 60000 succeeded, 0 failed, 0 errored, 0 timeout";
    assert!(text.contains(expected), "{text}\n{}", web.program.log());
    assert!(text.contains("60000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{text}");
    drop(third);
}
