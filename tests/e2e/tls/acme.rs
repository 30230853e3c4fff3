//! Certificates that a CA issues by itself, with `pebble` as the CA.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::super::harness::pebble::{EAB_KEY, Options};
use super::super::harness::{Client, Evenkeel, Pebble, Wrk, until, within};
use super::*;

const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
/// A failed attempt may come first, and the next after some seconds.
const ISSUED_WITHIN: Duration = Duration::from_secs(60);

/// A balancer that gets its certificates from a CA.
struct Automatic {
    program: Evenkeel,
    plain: SocketAddr,
    web: SocketAddr,
    _mirror: Replica,
}

/// Where it listens, in clear and with TLS.
fn places(ip: &str) -> (SocketAddr, SocketAddr) {
    let at = || SocketAddr::new(ip.parse().unwrap(), free_port());
    (at(), at())
}

/// With everything redirected in clear, as sites do, and nothing of a route there.
fn text(
    (plain, web): (SocketAddr, SocketAddr),
    mirror: &Replica,
    pebble: &Pebble,
    domains: &str,
    acme: &str,
) -> String {
    format!(
        "listeners:\n  plain:\n    bind: {plain}\n    \
           routes: [ {{ redirect: \"https://{{host}}{{uri}}\" }} ]\n  \
         web:\n    bind: {web}\n    {domains}\n    tls:\n      acme:\n        \
           directory: {}\n        ca: {}\n        {acme}\n\
         services:\n  web: {{ endpoints: [ {} ] }}\n",
        pebble.directory(),
        pebble.ca().display(),
        mirror.address,
    )
}

const A_TEST: &str = "routes: [ { host: a.test, service: web } ]";

impl Automatic {
    fn start(at: (SocketAddr, SocketAddr), pebble: &Pebble, domains: &str, acme: &str) -> Self {
        Self::start_in(Folder::new(), at, pebble, domains, &format!("store: store\n        {acme}"))
    }

    fn start_in(
        folder: Folder,
        at: (SocketAddr, SocketAddr),
        pebble: &Pebble,
        domains: &str,
        acme: &str,
    ) -> Self {
        let mirror = mirror();
        let program = Evenkeel::spawn_in(folder, &text(at, &mirror, pebble, domains, acme));
        program.wait_ready();
        Self { program, plain: at.0, web: at.1, _mirror: mirror }
    }

    /// What is said of the certificate for `name`.
    fn certificate(&self, name: &str) -> Value {
        let all = self.program.api("/v1/certificates")["certificates"].clone();
        let all = all.as_array().unwrap();
        all.iter().find(|c| c["names"][0] == name).cloned().unwrap_or(Value::Null)
    }

    fn wait_certificate(&self, name: &str) {
        within(ISSUED_WITHIN, &format!("a certificate for {name}: {}", self.program.log()), || {
            self.certificate(name)["not_after_unix"].is_i64()
        });
    }

    fn wait_failure(&self, name: &str, part: &str) {
        within(ISSUED_WITHIN, &format!("{part}: {}", self.program.log()), || {
            let reason = self.certificate(name)["acme"]["reason"].clone();
            reason.as_str().is_some_and(|reason| reason.contains(part))
        });
    }

    fn get(&self, pebble: &Pebble, name: &str) -> Result<String, String> {
        curl(&pebble.root().display().to_string(), name, self.web, "/", &[])
    }

    fn metric(&self, name: &str, domain: &str) -> Option<f64> {
        let text = Client::get(self.program.admin, "/metrics").text();
        let begins = format!("{name}{{listener=\"web\",name=\"{domain}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&begins)?.parse().ok())
    }

    /// What is shown to who asks for `name`.
    fn serial(&self, name: &str) -> String {
        let mut found = None;
        until("a certificate", || {
            let said = s_client(self.web, &["-servername", name], LAST);
            let pem = said.split_once("-----BEGIN").and_then(|(_, pem)| pem.split_once("-----END"));
            found = pem.map(|(pem, _)| pem.to_owned());
            found.is_some()
        });
        found.unwrap()
    }

    fn stop(mut self) -> Folder {
        self.program.signal("TERM");
        assert_eq!(self.program.wait_exit(), Some(0));
        std::mem::replace(&mut self.program.folder, Folder::new())
    }
}

#[test]
fn both_challenges_bring_a_certificate_that_outlives_restarts() {
    for challenge in ["http-01", "tls-alpn-01"] {
        let at = places("127.0.0.1");
        let Some(pebble) = Pebble::start(Options::new(at.0, at.1), LOCAL) else { return };
        let acme = format!("challenge: {challenge}\n        email: ops@a.test");
        let site = Automatic::start(at, &pebble, A_TEST, &acme);
        // Ready before it has one: a CA may have to come through who asks whether we are.
        site.wait_certificate("a.test");
        assert!(site.get(&pebble, "a.test").unwrap().starts_with("HTTP/1.1 200"));
        // In clear it comes as a request, and over TLS as none.
        let requests = site.program.listener("plain")["requests_total"].as_u64().unwrap();
        assert_eq!(requests > 0, challenge == "http-01", "{requests}");
        until("it is told", || site.program.log().contains("certificate for a.test by CN=Pebble"));
        // In clear all is redirected, before and after.
        let redirected = Client::get(site.plain, "/.well-known/acme-challenge/nobody");
        assert_eq!(redirected.status, 302, "{}", redirected.text());
        let shown = site.certificate("a.test");
        assert_eq!((&shown["source"], &shown["listener"]), (&"acme".into(), &"web".into()));
        assert_eq!(shown["acme"]["failures"], 0);
        let (_, status) = site.program.verb(&["status"]);
        assert!(status.contains("in 90 days") && status.contains("renewed in 6"), "{status}");
        let ends = site.metric("evenkeel_certificate_not_after_seconds", "a.test").unwrap();
        assert_eq!(ends, shown["not_after_unix"].as_f64().unwrap());
        assert_eq!(site.metric("evenkeel_acme_issued_total", "a.test"), Some(1.0));
        // What a CA speaks is nothing that anybody else gets.
        let said = s_client(site.web, &["-servername", "a.test", "-alpn", "acme-tls/1"], LAST);
        assert!(said.contains("no application protocol"), "{said}");
        let before = site.serial("a.test");
        let folder = site.stop();
        only_for_its_owner(&folder.join("store"));
        // Nothing is asked of the CA, which may be away, and the listener opens with it.
        let asked = pebble.log().lines().count();
        let again = Automatic::start_in(
            folder,
            at,
            &pebble,
            A_TEST,
            &format!("store: store\n        {acme}"),
        );
        assert_eq!(again.serial("a.test"), before);
        assert_eq!((pebble.orders(), pebble.accounts()), (1, 1), "{}", pebble.log());
        let since: Vec<_> = pebble.log().lines().skip(asked).map(str::to_owned).collect();
        let lines = since.iter().filter(|line| line.contains("POST")).count();
        assert_eq!(lines, 0, "{since:?}");
    }
}

fn only_for_its_owner(path: &Path) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o077;
        assert_eq!(mode, 0, "{path:?}");
        if path.is_dir() {
            only_for_its_owner(&path);
        }
    }
}

#[test]
fn renewals_are_swapped_in_under_load() {
    let at = places("127.0.0.1");
    let options = Options { life: 16, ..Options::new(at.0, at.1) };
    let Some(pebble) = Pebble::start(options, LOCAL) else { return };
    let site = Automatic::start(at, &pebble, A_TEST, "renew_before: 30d");
    site.wait_certificate("a.test");
    let url = format!("https://{}/", site.web);
    let host = ["-H", "Host: a.test"];
    let kept = Wrk::start_url(&url, &host, 16, 120);
    let closing = Wrk::start_url(&url, &[&host[..], &["-H", "Connection: close"]].concat(), 2, 120);
    let mut before = site.serial("a.test");
    for _ in 0..2 {
        within(ISSUED_WITHIN, "a renewed certificate", || site.serial("a.test") != before);
        before = site.serial("a.test");
        // It is good for some seconds, which may be over; then the next one is.
        until("it is believed", || {
            site.get(&pebble, "a.test").is_ok_and(|said| said.starts_with("HTTP/1.1 200"))
        });
    }
    kept.stop().assert_perfect("kept-alive connections while certificates are renewed");
    closing.stop().assert_perfect("a handshake for each request meanwhile");
    assert_eq!(pebble.accounts(), 1);
}

#[test]
fn a_ca_that_is_away_is_waited_for_and_what_was_held_stays() {
    let at = places("127.0.0.1");
    let options = Options { life: 12, bad_nonces: 20, ..Options::new(at.0, at.1) };
    let Some(mut pebble) = Pebble::prepare(options, LOCAL) else { return };
    let site = Automatic::start(at, &pebble, A_TEST, "challenge: http-01");
    site.wait_failure("a.test", "refused");
    let refused = site.get_without_root("a.test").unwrap_err();
    assert!(refused.contains("alert") || refused.contains("SSL"), "{refused}");
    assert_eq!(site.metric("evenkeel_certificate_not_after_seconds", "a.test"), None);
    assert!(site.metric("evenkeel_acme_failures_total", "a.test").unwrap() >= 1.0);
    assert!(site.metric("evenkeel_acme_last_failure_seconds", "a.test").is_some());
    let (_, status) = site.program.verb(&["status"]);
    assert!(status.contains("failed, again"), "{status}");
    // It comes, by itself and although it refuses nonces,
    pebble.restart();
    site.wait_certificate("a.test");
    // goes while a renewal is due,
    pebble.stop();
    let before = site.serial("a.test");
    site.wait_failure("a.test", "refused");
    assert_eq!(site.serial("a.test"), before, "the last good one stays, even beyond its end");
    // and comes back without knowing us.
    pebble.restart();
    within(ISSUED_WITHIN, "a new certificate", || site.serial("a.test") != before);
    assert!(pebble.accounts() >= 2, "{}", pebble.log());
    until("it is told", || site.program.log().contains("has forgotten our account"));
}

#[test]
fn what_fails_is_told_does_not_hurt_others_and_is_tried_again_on_demand() {
    let at = places("127.0.0.1");
    let Some(pebble) = Pebble::start(Options::new(at.0, at.1), LOCAL) else { return };
    // Nobody is there.
    pebble.point("lost.test", "127.0.0.77");
    let domains = "service: web";
    let acme = "domains: [ lost.test, blocked.test, a.test ]";
    let site = Automatic::start(at, &pebble, domains, acme);
    site.wait_certificate("a.test");
    site.wait_failure("lost.test", "Failed to connect to 127.0.0.77");
    site.wait_failure("blocked.test", "rejectedIdentifier");
    assert!(site.get(&pebble, "a.test").is_ok());
    // A name without a certificate gets that of the first, which is not there either.
    let said = s_client(site.web, &["-servername", "lost.test"], LAST);
    assert!(said.contains("alert") && !said.contains("subject="), "{said}");
    let next = site.certificate("lost.test")["acme"]["next_unix"].as_u64().unwrap();
    let failed = site.certificate("lost.test")["acme"]["failed_unix"].as_u64().unwrap();
    assert!((120..=150).contains(&(next - failed)), "{failed} {next}");
    // Neither a restart nor a look hurries it,
    let orders = pebble.orders();
    let folder = site.stop();
    let acme = format!("store: store\n        {acme}");
    let site = Automatic::start_in(folder, at, &pebble, domains, &acme);
    assert_eq!(site.certificate("lost.test")["acme"]["failures"], 1);
    assert_eq!(pebble.orders(), orders);
    // and a person does.
    pebble.point("lost.test", "127.0.0.1");
    site.program.signal("HUP");
    site.wait_certificate("lost.test");
    assert!(site.get(&pebble, "lost.test").is_ok());
}

#[test]
fn balancers_that_share_a_store_order_once_and_prove_for_each_other() {
    for challenge in ["http-01", "tls-alpn-01"] {
        let one = places("127.0.0.1");
        let two = (
            SocketAddr::new("127.0.0.2".parse().unwrap(), one.0.port()),
            SocketAddr::new("127.0.0.2".parse().unwrap(), one.1.port()),
        );
        let Some(pebble) = Pebble::start(Options::new(one.0, one.1), LOCAL) else { return };
        // The CA comes to the second one for one name, and to the first for the other: whoever
        // orders, one of them is not who is seen.
        pebble.point("b.test", "127.0.0.2");
        let store = Folder::new();
        let domains = "routes: [ { host: a.test, service: web }, { host: b.test, service: web } ]";
        let acme = format!("challenge: {challenge}\n        store: {}", store.0.display());
        let sites =
            [one, two].map(|at| Automatic::start_in(Folder::new(), at, &pebble, domains, &acme));
        for name in ["a.test", "b.test"] {
            sites.iter().for_each(|site| site.wait_certificate(name));
            let shown = sites.each_ref().map(|site| site.serial(name));
            assert!(!shown[0].is_empty() && shown[0] == shown[1], "{name}");
        }
        assert_eq!((pebble.orders(), pebble.accounts()), (2, 1), "{}", pebble.log());
    }
}

#[test]
fn a_balancer_that_dies_while_it_orders_is_followed_by_another() {
    let one = places("127.0.0.1");
    let Some(pebble) = Pebble::start(Options::new(one.0, one.1), LOCAL) else { return };
    // The lease is taken before the CA is asked, which answers nothing for now.
    pebble.signal("STOP");
    let store = Folder::new();
    let acme = format!("store: {}", store.0.display());
    let mut site = Automatic::start_in(Folder::new(), one, &pebble, A_TEST, &acme);
    until("the lease", || leases(&store.0) == 1);
    site.program.child.kill().unwrap();
    let _ = site.program.child.wait();
    assert_eq!(leases(&store.0), 1, "it could not give it back");
    drop(site);
    pebble.signal("CONT");
    let again = Automatic::start_in(Folder::new(), one, &pebble, A_TEST, &acme);
    again.wait_certificate("a.test");
    until("the lease is given back", || leases(&store.0) == 0);
}

fn leases(store: &Path) -> usize {
    let folders = fs::read_dir(store).into_iter().flatten().flatten();
    folders.filter(|folder| folder.path().join("lease.json").is_file()).count()
}

/// Pebble has no windows; a listener of ours stands in for its directory and says them.
#[test]
fn the_ca_says_when_to_renew() {
    let at = places("127.0.0.1");
    // Without a word of the CA it would be renewed after 120 s, and not before half of its life.
    let options = Options { life: 180, ..Options::new(at.0, at.1) };
    let Some(pebble) = Pebble::start(options, LOCAL) else { return };
    let folder = Folder::new();
    Pki::new(&folder.0, "front").issue("front", &["127.0.0.1"]);
    let front = local();
    let listed = Command::new("curl").args(["-sSk", &pebble.directory()]).output().unwrap();
    let mut directory: Value = serde_json::from_slice(&listed.stdout).unwrap();
    directory["renewalInfo"] = format!("https://{front}/ari").into();
    let window =
        r#"{"suggestedWindow":{"start":"2021-01-03T00:00:00Z","end":"2021-01-07T00:00:00Z"}}"#;
    // RFC 9773 section 4.3: when to ask again has to be said.
    let ari = Replica::http(move |_| {
        let length = window.len();
        format!("HTTP/1.1 200 OK\r\nRetry-After: 21600\r\nContent-Length: {length}\r\n\r\n{window}")
            .into_bytes()
    });
    let stand_in = Evenkeel::spawn_in(
        folder,
        &format!(
            "listeners:\n  front:\n    bind: {front}\n    \
               tls: {{ certificates: [ {{ certificate: front.crt, key: front.key }} ] }}\n    routes:\n      \
                 - {{ path: /dir, respond: {{ status: 200, body: '{directory}' }} }}\n      \
                 - {{ path: /ari/*, service: ari }}\n\
             services: {{ ari: {{ endpoints: [ {} ], health: tcp }} }}\n",
            ari.address,
        ),
    );
    stand_in.wait_ready();
    // Both are trusted: the stand-in, and pebble, to which the rest goes.
    let both = [pebble.ca(), stand_in.folder.join("front.pem")]
        .map(|file| fs::read_to_string(file).unwrap())
        .concat();
    let trusted = stand_in.folder.join("both.pem");
    fs::write(&trusted, both).unwrap();
    let folder = Folder::new();
    let mirror = mirror();
    let text = text(at, &mirror, &pebble, A_TEST, "store: store")
        .replace(&pebble.directory(), &format!("https://{front}/dir"))
        .replace(&pebble.ca().display().to_string(), &trusted.display().to_string());
    let program = Evenkeel::spawn_in(folder, &text);
    let site = Automatic { program, plain: at.0, web: at.1, _mirror: mirror };
    site.program.wait_ready();
    site.wait_certificate("a.test");
    let before = site.serial("a.test");
    within(ISSUED_WITHIN, "the renewal that the CA wants", || site.serial("a.test") != before);
    assert!(ari.received().starts_with(b"GET /ari/"), "it was asked");
}

#[test]
fn domains_come_and_go_and_accounts_are_bound() {
    let at = places("127.0.0.1");
    let options = Options { binding: true, ..Options::new(at.0, at.1) };
    let Some(pebble) = Pebble::start(options, LOCAL) else { return };
    let eab = format!("eab: {{ key_id: kid-1, hmac_key: {EAB_KEY} }}\n        store: store");
    let site = Automatic::start_in(Folder::new(), at, &pebble, A_TEST, &eab);
    site.wait_certificate("a.test");
    let shown = Client::get(site.program.admin, "/v1/config").text();
    assert!(!shown.contains(EAB_KEY) && shown.contains("hmac_key: REDACTED"), "{shown}");
    let before = site.serial("a.test");
    let both = "routes: [ { host: a.test, service: web }, { host: c.test, service: web } ]";
    site.program.write_config(&text(at, &site._mirror, &pebble, both, &eab));
    site.wait_certificate("c.test");
    assert_eq!((site.serial("a.test"), pebble.orders()), (before, 2));
    let without = "routes: [ { host: c.test, service: web } ]";
    site.program.write_config(&text(at, &site._mirror, &pebble, without, &eab));
    until("a.test to go", || site.certificate("a.test") == Value::Null);
    assert_eq!(site.serial("a.test"), site.serial("c.test"), "the default is what is left");
    assert_eq!((pebble.orders(), pebble.accounts()), (2, 1));
}

#[test]
fn a_stream_gets_its_certificate_as_well() {
    let at = places("127.0.0.1");
    let Some(pebble) = Pebble::start(Options::new(at.0, at.1), LOCAL) else { return };
    let domains = "protocol: tcp\n    service: web";
    let site = Automatic::start(at, &pebble, domains, "domains: [ db.test ]");
    site.wait_certificate("db.test");
    assert!(site.get(&pebble, "db.test").unwrap().starts_with("HTTP/1.1 200"));
}

impl Automatic {
    fn get_without_root(&self, name: &str) -> Result<String, String> {
        curl("/dev/null", name, self.web, "/", &["-k"])
    }
}
