//! Certificates of clients, and what applications learn of them.

use super::super::harness::Client;
use super::*;

const FORGED: [&str; 10] = [
    "-H",
    "Client-Cert: :Zm9yZ2Vk:",
    "-H",
    "client_cert: :Zm9yZ2Vk:",
    "-H",
    "X-Client-Cert-Subject: CN=forged",
    "-H",
    "X-Client-Cert-SHA256: f0f0forged",
    "-H",
    "X-CLIENT-CERT-NAMES: DNS:forged",
];

struct Parties {
    site: Site,
}

impl Parties {
    fn start(mode: &str, listener: &str) -> Parties {
        let site = Site::start("", listener);
        let trusted = Pki::new(&site.program.folder.0, "clients");
        trusted.issue("alice", &["alice.test"]);
        let stranger = Pki::new(&site.program.folder.0, "strangers");
        stranger.issue("mallory", &["alice.test"]);
        let auth = format!(", client_auth: {{ ca: clients.pem, mode: {mode} }}");
        site.program.reconfigure(&config(site.web, site._mirror.address, &auth, listener));
        Parties { site }
    }

    /// With forged headers each time.
    fn curl(&self, who: Option<&str>) -> Result<String, String> {
        let files =
            who.map(|who| ["crt", "key"].map(|kind| self.site.path(&format!("{who}.{kind}"))));
        let mut more = FORGED.to_vec();
        if let Some([certificate, key]) = &files {
            more.extend(["--cert", certificate, "--key", key]);
        }
        self.site.curl("a.test", &more)
    }
}

#[test]
fn clients_without_a_good_certificate_are_refused() {
    let parties = Parties::start("require", "");
    let said = parties.curl(Some("alice")).unwrap();
    for header in ["Client-Cert: :", "X-Client-Cert-Subject: ", "X-Client-Cert-SHA256: "] {
        assert_eq!(said.matches(header).count(), 1, "{header} {said}");
    }
    assert!(said.contains("X-Client-Cert-Names: DNS:alice.test\r\n"), "{said}");
    assert!(said.contains("CN=alice") && !said.contains("forged") && !said.contains("Zm9yZ2Vk"));
    for who in [None, Some("mallory")] {
        let refused = parties.curl(who).unwrap_err();
        assert!(refused.contains("alert"), "{who:?}: {refused}");
    }
    let metrics = Client::get(parties.site.program.admin, "/metrics").text();
    let failed = "evenkeel_listener_tls_handshakes_failed_total{listener=\"web\"} 2\n";
    assert!(metrics.contains(failed), "{metrics}");
}

#[test]
fn optional_certificates_are_looked_at_when_they_are_shown() {
    let parties = Parties::start("optional", "");
    let said = parties.curl(None).unwrap();
    assert!(!said.to_lowercase().contains("client-cert") && !said.contains("forged"), "{said}");
    assert!(parties.curl(Some("alice")).unwrap().contains("CN=alice"));
    parties.curl(Some("mallory")).unwrap_err();
}

#[test]
fn nobody_can_pose_as_verified_elsewhere() {
    let site = Site::start("", "");
    let said = site.curl("a.test", &FORGED).unwrap();
    assert!(!said.to_lowercase().contains("client-cert") && !said.contains("Zm9yZ2Vk"), "{said}");
    // A proxy in front that is trusted may say whom it verified.
    let site = Site::start("", "\n    forwarding: { trusted: [ 127.0.0.1 ] }");
    let said = site.curl("a.test", &FORGED).unwrap();
    assert!(said.contains("Client-Cert: :Zm9yZ2Vk:\r\n"), "{said}");
}
