//! The cryptography that everything here is done with: aws-lc-rs, and its safe defaults.

use std::sync::{Arc, OnceLock};

use model::spec::TlsVersion;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CipherSuite, SupportedCipherSuite, SupportedProtocolVersion, version};

pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(preferring_sha256())).clone()
}

/// All suites, those with SHA-256 first: processors have instructions for it, and few for SHA-384,
/// which made up a fifth of a handshake. Nobody breaks the one sooner than the other.
fn preferring_sha256() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| !iana(suite).ends_with("AES_128_GCM_SHA256"));
    // TLS 1.3 before TLS 1.2, as it was.
    provider.cipher_suites.sort_by_key(|suite| suite.tls13().is_none());
    provider
}

/// With these cipher suites alone, in this order; empty: all.
pub(crate) fn provider_with(ciphers: &[String]) -> Arc<CryptoProvider> {
    if ciphers.is_empty() {
        return provider();
    }
    let all = aws_lc_rs::ALL_CIPHER_SUITES;
    let suites = ciphers.iter().filter_map(|name| all.iter().find(|suite| iana(suite) == *name));
    let cipher_suites = suites.copied().collect();
    Arc::new(CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() })
}

/// The suite's name in the registry of IANA; rustls leaves the prefix of TLS 1.3 suites apart.
pub(crate) fn iana(suite: &SupportedCipherSuite) -> String {
    match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256".into(),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384".into(),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256".into(),
        other => other.as_str().unwrap_or_default().into(),
    }
}

pub(crate) fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static FROM_1_2: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
    static FROM_1_3: [&SupportedProtocolVersion; 1] = [&version::TLS13];
    match min {
        TlsVersion::V1_2 => &FROM_1_2,
        TlsVersion::V1_3 => &FROM_1_3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_has_the_name_that_the_configuration_knows() {
        for suite in aws_lc_rs::ALL_CIPHER_SUITES {
            let name = iana(suite);
            assert!(name.starts_with("TLS_"), "{name}");
            let chosen = provider_with(std::slice::from_ref(&name));
            assert_eq!(chosen.cipher_suites.len(), 1, "{name}");
        }
    }
}
