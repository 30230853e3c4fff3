//! What testssl.sh finds wrong: nothing of medium severity or worse.

use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::super::harness::peer;
use super::super::harness::program::Folder;
use super::*;

/// What is found for reasons of the test alone: there is nobody who would revoke its certificate,
/// no application that sends headers of its own, and the client's OpenSSL may lack GOST.
const OF_THE_TEST: [&str; 3] = ["cert_revocation", "security_headers", "engine_problem"];

/// A certificate as public CAs issue them: for some weeks.
fn issue(folder: &Folder, name: &str, algorithm: &'static rcgen::SignatureAlgorithm) -> Pki {
    let pki = Pki::new(&folder.0, "ca");
    let day = Duration::from_secs(24 * 3600);
    let now = SystemTime::now();
    pki.issue_with(name, &["a.test", "127.0.0.1"], algorithm, &|params| {
        (params.not_before, params.not_after) = ((now - day).into(), (now + 90 * day).into());
    });
    pki
}

/// Runs testssl.sh with these checks against a listener with such a key.
fn finds_nothing(algorithm: &'static rcgen::SignatureAlgorithm, checks: &[&str]) {
    let Some(testssl) = peer::find("testssl") else { return };
    let folder = Folder::new();
    let _pki = issue(&folder, "a", algorithm);
    let (mirror, web) = (mirror(), local());
    let program = Evenkeel::spawn_in(folder, &config(web, mirror.address, ", hsts: 365d", ""));
    program.wait_ready();
    let path = |name: &str| program.folder.join(name).display().to_string();
    let found = path("testssl.json");
    let output = Command::new(testssl)
        .args(["--warnings", "off", "--color", "0", "--jsonfile", &found])
        .args(["--add-ca", &path("ca.pem")])
        .args(checks)
        .arg(web.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let findings: Vec<Value> =
        serde_json::from_str(&std::fs::read_to_string(&found).expect(&said)).expect(&said);
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let weak: Vec<&Value> = findings
        .iter()
        .filter(|f| !matches!(&text(f, "severity")[..], "OK" | "INFO" | "LOW" | "DEBUG"))
        .filter(|f| !OF_THE_TEST.contains(&&text(f, "id")[..]))
        .collect();
    assert!(said.contains("Done") && weak.is_empty(), "{weak:#?}\n{said}");
    // It did look: at the protocols, and at what has a name.
    for (id, severity) in [("TLS1_2", "OK"), ("TLS1_3", "OK"), ("SSLv3", "OK"), ("TLS1", "INFO")] {
        let finding = findings.iter().find(|f| text(f, "id") == id);
        let finding = finding.unwrap_or_else(|| panic!("nothing is said of {id}: {said}"));
        assert_eq!(text(finding, "severity"), severity, "{finding}");
    }
    eprintln!("testssl: {} findings, none of medium severity or worse", findings.len());
}

/// Protocols, ciphers, forward secrecy, the server's defaults, and all weaknesses that have a name:
/// half a minute.
#[test]
fn testssl_finds_no_weakness() {
    finds_nothing(&rcgen::PKCS_ECDSA_P256_SHA256, &["-p", "-s", "-f", "-S", "-U"]);
}

/// All that it can look at, of a listener with a key of each kind: two minutes.
#[cfg(feature = "soak")]
#[test]
fn soak_testssl_finds_no_weakness() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_RSA_SHA256] {
        finds_nothing(algorithm, &[]);
    }
}
