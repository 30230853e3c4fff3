//! Certificates and settings that change while clients are served, and files that are wrong.

use std::fs;
use std::process::Command;

use super::super::harness::program::{BINARY, Folder};
use super::super::harness::{Client, Evenkeel, Pki, Replica, Wrk, until};
use super::*;

/// The number of the certificate that a new client is shown.
fn serial(site: &Site) -> String {
    let said = site.openssl(&["-servername", "a.test"], LAST);
    let pem = said.split("-----BEGIN").nth(1).unwrap_or(&said).to_owned();
    pem.split("-----END").next().unwrap().to_owned()
}

#[test]
fn certificates_are_swapped_under_load() {
    let site = Site::start("", "");
    let kept = Wrk::start_tls(site.web, "/", 32, 60);
    let closing =
        Wrk::start_url(&format!("https://{}/", site.web), &["-H", "Connection: close"], 4, 60);
    let mut before = serial(&site);
    for _ in 0..4 {
        site.pki.issue("a", &["a.test", "127.0.0.1"]);
        until("the new certificate", || serial(&site) != before);
        before = serial(&site);
        assert!(site.curl("a.test", &[]).unwrap().starts_with("HTTP/1.1 200"));
    }
    kept.stop().assert_perfect("kept-alive connections while certificates are swapped");
    closing.stop().assert_perfect("a handshake for each request meanwhile");
}

#[test]
fn what_cannot_be_used_is_not_taken() {
    let site = Site::start("", "");
    let before = serial(&site);
    let key = fs::read_to_string(site.path("a.key")).unwrap();
    Pki::new(&site.program.folder.0, "other").issue("b", &["b.test"]);
    fs::copy(site.path("b.key"), site.path("a.key")).unwrap();
    let said = "does not belong to the certificate";
    until("that is said", || site.program.log().contains(said));
    assert_eq!(serial(&site), before);
    fs::remove_file(site.path("a.key")).unwrap();
    assert_eq!(serial(&site), before);
    // The right one again, by the file and by the signal.
    fs::write(site.path("a.key"), &key).unwrap();
    until("they are read again", || site.program.log().contains("certificates read again"));
    site.pki.issue("a", &["a.test"]);
    site.program.signal("HUP");
    until("the new certificate", || serial(&site) != before);
}

#[test]
fn listeners_and_services_change_under_load() {
    let site = Site::start("", "");
    let other = Replica::named("other");
    let load = Wrk::start_tls(site.web, "/", 32, 60);
    let endpoint = site._mirror.address;
    for (tls, listener) in [
        (", min_version: 1.3", ""),
        (", client_auth: { ca: ca.pem, mode: optional }", ""),
        ("", "\n    limits: { header_count: 50 }"),
        ("", ""),
    ] {
        site.program.reconfigure(&config(site.web, endpoint, tls, listener));
        assert!(site.curl("a.test", &[]).unwrap().starts_with("HTTP/1.1 200"));
    }
    // An endpoint leaves and another takes over; then it is drained by hand, and comes back.
    site.program.reconfigure(&config(site.web, other.address, "", ""));
    until("the other serves", || site.curl("a.test", &[]).unwrap().ends_with("other"));
    site.program.reconfigure(&config(site.web, endpoint, "", ""));
    until("the first serves", || !site.curl("a.test", &[]).unwrap().ends_with("other"));
    load.stop().assert_perfect("changes of a listener with TLS and of what is behind it");
}

#[test]
fn a_stop_lets_requests_finish() {
    let gate = std::sync::Arc::new(std::sync::Barrier::new(2));
    let opened = gate.clone();
    let replica = Replica::http(move |seen| {
        if seen.line().contains("/slow") {
            opened.wait();
            opened.wait();
        }
        super::super::harness::replica::ok("done")
    });
    let folder = Folder::new();
    Pki::new(&folder.0, "ca").issue("a", &["a.test"]);
    let web = local();
    let mut program = Evenkeel::spawn_in(folder, &config(web, replica.address, "", ""));
    program.wait_ready();
    let ca = program.folder.join("ca.pem").display().to_string();
    let asked = std::thread::spawn(move || curl(&ca, "a.test", web, "/slow", &[]).unwrap());
    gate.wait();
    program.signal("TERM");
    until("nobody is let in", || Client::try_connect(web).is_err());
    gate.wait();
    assert!(asked.join().unwrap().ends_with("done"));
    assert_eq!(program.wait_exit(), Some(0));
}

/// What `evenkeel check` says of a configuration whose files are in `folder`.
fn check(folder: &Folder, certificate: &str, key: &str, more: &str) -> (bool, String) {
    let text = format!(
        "listeners:\n  web:\n    bind: 127.0.0.1:0\n    service: web\n    tls:\n      \
         certificates:\n        - certificate: {certificate}\n          key: {key}\n{more}\
         services:\n  web: {{ endpoints: [ :1 ] }}\n"
    );
    fs::write(folder.join("evenkeel.yaml"), text).unwrap();
    let output = Command::new(BINARY)
        .args(["check", "-c", "evenkeel.yaml"])
        .current_dir(&folder.0)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn wrong_files_are_told_with_their_place() {
    let folder = Folder::new();
    let pki = Pki::new(&folder.0, "ca");
    pki.issue("a", &["a.test"]);
    pki.issue("b", &["a.test"]);
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    let ec = &rcgen::PKCS_ECDSA_P256_SHA256;
    pki.issue_with("old", &["a.test"], ec, &|p| {
        (p.not_before, p.not_after) = (year(2020), year(2021));
    });
    pki.issue_with("new", &["a.test"], ec, &|p| p.not_before = year(2095));
    fs::write(folder.join("empty"), "").unwrap();
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    fs::write(folder.join("locked.key"), encrypted).unwrap();
    let (ok, said) = check(&folder, "a.crt", "a.key", "");
    assert!(ok && !said.contains("warning"), "{said}");
    let mtls = "      client_auth: { ca: a.key }\n";
    for (certificate, key, more, place, message) in [
        ("none.crt", "a.key", "", "7:24: error", "none.crt: no such file or directory"),
        ("a.crt", "none.key", "", "8:16: error", "none.key: no such file or directory"),
        ("a.crt", "b.key", "", "8:16: error", "b.key does not belong to the certificate in"),
        ("a.key", "a.key", "", "7:11: error", "a.key holds no certificate"),
        ("a.crt", "a.crt", "", "", "a.crt holds no private key"),
        ("a.crt", "empty", "", "8:16: error", "empty holds no private key"),
        ("a.crt", "locked.key", "", "8:16: error", "locked.key is encrypted"),
        ("a.crt", "a.key", mtls, "9:26: error", "a.key holds no certificate of a CA"),
        ("old.crt", "old.key", "", "7:24: warning", "old.crt expired"),
        ("new.crt", "new.key", "", "7:24: warning", "new.crt is not valid for another"),
    ] {
        let (ok, said) = check(&folder, certificate, key, more);
        assert_eq!(ok, place.contains("warning"), "{said}");
        assert!(said.contains(place) && said.contains(message), "{place} {message}: {said}");
    }
}
