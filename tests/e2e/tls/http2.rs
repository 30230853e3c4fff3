//! HTTP/2 by ALPN.

use super::super::harness::peer;
use super::*;

#[test]
fn curl_agrees_on_http2() {
    let site = Site::start(", hsts: 1d", "");
    for (version, agreed) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let said = site.curl("a.test", &[version, "-w", "%{http_version} %{http_code}"]).unwrap();
        assert!(said.ends_with(&format!("{agreed} 200")), "{said}");
        // What the endpoint saw, which speaks HTTP/1.1.
        assert!(said.contains("GET / HTTP/1.1\r\n"), "{said}");
        assert!(said.contains("X-Forwarded-Proto: https\r\n"), "{said}");
        assert!(said.to_lowercase().contains("strict-transport-security: max-age=86400"), "{said}");
    }
}

#[test]
fn what_clients_claim_is_taken_out_of_http2_as_well() {
    let site = Site::start("", "");
    let more =
        ["--http2", "-H", "Client-Cert: :Zm9yZ2Vk:", "-H", "X-Client-Cert-Subject: CN=forged"];
    let said = site.curl("a.test", &more).unwrap();
    assert!(!said.to_lowercase().contains("client-cert") && !said.contains("forged"), "{said}");
}

#[test]
fn h2load_over_tls_loses_no_request() {
    let Some(h2load) = peer::find("h2load") else { return };
    let site = Site::start("", "");
    let url = format!("https://127.0.0.1:{}/", site.web.port());
    let output =
        Command::new(h2load).args(["-n", "20000", "-c", "8", "-m", "32", &url]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let expected = "requests: 20000 total, 20000 started, 20000 done, 20000 succeeded, 0 failed, 0 errored, 0 timeout";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("Application protocol: h2"), "{text}");
}
