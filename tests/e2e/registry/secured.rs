//! Stores that speak TLS and want to know who asks: etcd itself, and a fake of Consul.

use std::fs;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DistinguishedName};
use serde_json::{Value, json};

use crate::e2e::harness::consul_fake::ConsulFake;
use crate::e2e::harness::etcd::Etcd;
use crate::e2e::harness::pki::Pki;
use crate::e2e::harness::program::Folder;
use crate::e2e::harness::registrar::{ask, balancing, list, local};
use crate::e2e::harness::{Client, Evenkeel, until};

const AT: &str = "/v1/services/web/instances/web-1";
const BODY: &str = r#"{"port":9,"address":"127.0.0.1","ttl_ms":60000}"#;

/// A program whose registry is kept in the store; whether it can be reached is another matter.
fn start(store: &str) -> (Evenkeel, SocketAddr) {
    let (registry, bind) = (local(), local());
    let program = Evenkeel::spawn(&format!(
        "registry: {{ bind: {registry}, data: off, store: {store} }}\n{}",
        balancing(bind)
    ));
    until("its admin API", || Client::try_get(program.admin, "/readyz").is_some());
    (program, registry)
}

fn status(program: &Evenkeel) -> Value {
    program.api("/v1/registry")["registry"].clone()
}

fn until_connected(program: &Evenkeel) {
    until(&format!("connected; {}", program.log()), || status(program)["connected"] == true);
}

fn until_lost(program: &Evenkeel, reason: &str) {
    until(&format!("{reason:?} is told; {}", program.log()), || {
        status(program)["reason"].as_str().is_some_and(|told| told.contains(reason))
    });
}

/// Users of etcd, as a person would make them. Answers the token of `root`.
fn demand_users(server: &Etcd) -> String {
    let range = ("dGVzdC8=", "dGVzdDA="); // test/ and test0
    assert_eq!(STANDARD.encode("test/"), range.0);
    for (path, body) in [
        ("user/add", json!({ "name": "root", "password": "r00t" })),
        ("role/add", json!({ "name": "root" })),
        ("user/grant", json!({ "user": "root", "role": "root" })),
        ("user/add", json!({ "name": "keel", "password": "pw-before" })),
        ("role/add", json!({ "name": "keel" })),
        (
            "role/grant",
            json!({ "name": "keel", "perm": {
            "permType": "READWRITE", "key": range.0, "range_end": range.1 } }),
        ),
        ("user/grant", json!({ "user": "keel", "role": "keel" })),
        ("enable", json!({})),
    ] {
        let said = server.curl(&format!("/v3/auth/{path}"), Some((&body, "")));
        assert!(said.contains("header"), "{path}: {said}");
    }
    token_of_root(server)
}

fn token_of_root(server: &Etcd) -> String {
    let root = json!({ "name": "root", "password": "r00t" });
    let said = server.curl("/v3/auth/authenticate", Some((&root, "")));
    let said: Value = serde_json::from_str(&said).unwrap();
    said["token"].as_str().unwrap().to_owned()
}

#[test]
fn etcd_over_tls_that_wants_certificates_and_passwords() {
    let folder = Folder::new();
    let (pki, _others) = (Pki::new(&folder.0, "ca"), Pki::new(&folder.0, "others"));
    pki.issue("etcd", &["127.0.0.1", "localhost"]);
    // Once it wants users, etcd's gateway refuses certificates with a common name.
    let nameless = |params: &mut CertificateParams| {
        params.distinguished_name = DistinguishedName::new();
    };
    pki.issue_with("client", &["client.test"], &rcgen::PKCS_ECDSA_P256_SHA256, &nameless);
    let Some(mut server) = Etcd::start_secured(&folder.0) else { return };
    demand_users(&server);
    let at = |name: &str| folder.join(name).display().to_string();
    fs::write(folder.join("password"), "pw-before\n").unwrap();
    let store = |ca: &str, more: &str| {
        format!(
            "{{ etcd: {{ endpoints: [ 'https://{}' ], prefix: test/, \
             user: {{ name: keel, password: {{ file: {} }} }}, tls: {{ ca: {}{more} }} }} }}",
            server.address,
            at("password"),
            at(ca),
        )
    };
    let shown = format!(
        ", certificate: {{ certificate: {}, key: {} }}",
        at("client.crt"),
        at("client.key")
    );
    let (one, registry) = start(&store("ca.pem", &shown));
    until_connected(&one);
    // A wrong CA at first, and no certificate of ours: each is told.
    fs::copy(folder.join("others.pem"), folder.join("changing.pem")).unwrap();
    let (two, second) = start(&store("changing.pem", &shown));
    until_lost(&two, "certificate");
    let (three, _) = start(&store("ca.pem", ""));
    until_lost(&three, "ertificate");
    drop(three);
    assert!(matches!(ask(registry, "PUT", AT, BODY).status, 200 | 201));
    // It is tried again, with what the file holds then.
    fs::copy(folder.join("ca.pem"), folder.join("changing.pem")).unwrap();
    until_connected(&two);
    until("it is known here, too", || list(second, "web").len() == 1);

    // etcd forgets its tokens when it restarts.
    server.restart();
    until("both are connected again", || {
        [&one, &two].iter().all(|program| status(program)["connected"] == true)
    });
    assert_eq!(ask(second, "PUT", AT, BODY).status, 200, "{}", two.log());

    // The password changes there, and later in our file.
    let root = token_of_root(&server);
    let change = json!({ "name": "keel", "password": "pw-after" });
    let said = server.curl("/v3/auth/user/changepw", Some((&change, &root)));
    assert!(said.contains("header"), "{said}");
    until_lost(&one, "authentication failed");
    assert_eq!(list(registry, "web").len(), 1, "what was known stays");
    assert_eq!(ask(registry, "PUT", AT, BODY).status, 503);
    fs::write(folder.join("password"), "pw-after\n").unwrap();
    until_connected(&one);
    assert_eq!(ask(registry, "PUT", AT, BODY).status, 200);
    for program in [&one, &two] {
        let shown = format!("{} {}", program.log(), program.api("/v1/registry"));
        assert!(!shown.contains("pw-before") && !shown.contains("pw-after"), "{shown}");
    }
}

/// In front of the fake, which speaks HTTP, a listener that speaks TLS and wants a certificate.
#[test]
fn consul_over_tls_that_wants_certificates_and_a_token() {
    let folder = Folder::new();
    let (pki, _others) = (Pki::new(&folder.0, "ca"), Pki::new(&folder.0, "others"));
    pki.issue("consul", &["127.0.0.1"]);
    pki.issue("client", &["client.test"]);
    let consul = ConsulFake::start();
    consul.demand_token("5e1f3c0a9d2b4477");
    let at = |name: &str| folder.join(name).display().to_string();
    let front = local();
    let _front = Evenkeel::run(&format!(
        "listeners:\n  front:\n    bind: {front}\n    service: consul\n    tls:\n      \
         certificates: [ {{ certificate: {}, key: {} }} ]\n      client_auth: {{ ca: {} }}\n\
         services: {{ consul: {{ endpoints: [ '{}' ], health: off }} }}\n",
        at("consul.crt"),
        at("consul.key"),
        at("ca.pem"),
        consul.replica.address,
    ));
    fs::copy(folder.join("others.pem"), folder.join("changing.pem")).unwrap();
    let store = |token: &str| {
        format!(
            "{{ consul: {{ url: 'https://{front}', token: {token}, tls: {{ ca: {}, \
             certificate: {{ certificate: {}, key: {} }} }} }} }}",
            at("changing.pem"),
            at("client.crt"),
            at("client.key"),
        )
    };
    let (one, registry) = start(&store("5e1f3c0a9d2b4477"));
    let (two, _) = start(&store("0000000000000000"));
    until_lost(&one, "certificate");
    fs::copy(folder.join("ca.pem"), folder.join("changing.pem")).unwrap();
    until_connected(&one);
    until_lost(&two, "403");
    assert!(matches!(ask(registry, "PUT", AT, BODY).status, 200 | 201));
    assert_eq!(consul.keys(), ["evenkeel/registry/web/web-1"]);
    consul.demand_token("another-token-now");
    until_lost(&one, "403");
    assert_eq!(list(registry, "web").len(), 1, "what was known stays");
    consul.demand_token("5e1f3c0a9d2b4477");
    until_connected(&one);
}
