//! Certificates that came while the program runs, and what a CA asks to see before it gives one.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::certificate::{certificates, dns_names, to_pem};
use crate::provider::provider;
use crate::session::{Session, TlsError};

/// The protocol in which a CA asks for a proof (RFC 8737 section 6.2).
pub const ALPN_ACME: &[u8] = b"acme-tls/1";

/// Bytes of a chain that a CA may send; real ones come to some 5 KiB.
const CHAIN_BYTES_MAX: usize = 256 * 1024;

/// What listeners show that is in no file of the configuration. All listeners share it; handshakes
/// read it without a lock.
#[derive(Default)]
pub struct Issued {
    certificates: ArcSwap<HashMap<String, Arc<CertifiedKey>>>,
    /// Is any proof asked for? Almost always not, so that a request costs one look at this.
    asked: AtomicBool,
    proofs: ArcSwap<Proofs>,
    /// By who wants them shown.
    wanted: Mutex<BTreeMap<String, Vec<Proof>>>,
}

/// As they are looked up.
#[derive(Default)]
struct Proofs {
    /// By token.
    http: HashMap<String, String>,
    /// By domain.
    tls: HashMap<String, Arc<ServerConfig>>,
}

/// What proves to a CA that a domain is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// HTTP-01 (RFC 8555 section 8.3): the body at `/.well-known/acme-challenge/TOKEN`.
    Http { token: String, key_authorization: String },
    /// TLS-ALPN-01 (RFC 8737): a certificate for the domain that holds the digest.
    TlsAlpn { domain: String, key_authorization: String },
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("certificates", &self.certificates.load().len())
            .field("asked", &self.asked)
            .finish_non_exhaustive()
    }
}

impl Issued {
    /// What a certificate is kept by: the same domain may have one of a CA's staging and one of
    /// its production.
    pub fn key(directory: &str, domain: &str) -> String {
        format!("{directory} {domain}")
    }

    /// From the next handshake on. What was there under this key is replaced.
    pub fn install(&self, key: &str, certificate: &IssuedCertificate) {
        self.change(|all| all.insert(key.to_owned(), certificate.key.clone()));
    }

    pub fn remove(&self, key: &str) {
        self.change(|all| all.remove(key));
    }

    fn change<T>(&self, change: impl Fn(&mut HashMap<String, Arc<CertifiedKey>>) -> T) {
        self.certificates.rcu(|all| {
            let mut all = HashMap::clone(all);
            change(&mut all);
            all
        });
    }

    pub(crate) fn find(&self, key: &str) -> Option<Arc<CertifiedKey>> {
        self.certificates.load().get(key).cloned()
    }

    /// All that `owner` wants shown from now on; none: nothing any more.
    ///
    /// # Errors
    /// When a certificate for TLS-ALPN-01 cannot be made; the others are shown.
    pub fn show(&self, owner: &str, proofs: Vec<Proof>) -> Result<(), String> {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted.get(owner).map_or(proofs.is_empty(), |before| *before == proofs) {
            return Ok(());
        }
        if proofs.is_empty() {
            wanted.remove(owner);
        } else {
            wanted.insert(owner.to_owned(), proofs);
        }
        let mut shown = Proofs::default();
        let mut failed = None;
        for proof in wanted.values().flatten() {
            match proof {
                Proof::Http { token, key_authorization } => {
                    shown.http.insert(token.clone(), key_authorization.clone());
                }
                Proof::TlsAlpn { domain, key_authorization } => {
                    match challenge_config(domain, key_authorization) {
                        Ok(config) => {
                            shown.tls.insert(domain.clone(), Arc::new(config));
                        }
                        Err(error) => failed = Some(format!("{domain}: {error}")),
                    }
                }
            }
        }
        let asked = !(shown.http.is_empty() && shown.tls.is_empty());
        self.proofs.store(Arc::new(shown));
        self.asked.store(asked, Relaxed);
        failed.map_or(Ok(()), Err)
    }

    /// May a CA come and look?
    pub fn is_asked(&self) -> bool {
        self.asked.load(Relaxed)
    }

    /// The body that proves HTTP-01 to who asks with `token`.
    pub fn http_answer(&self, token: &str) -> Option<String> {
        self.proofs.load().http.get(token).cloned()
    }

    /// A session that proves TLS-ALPN-01 for `domain`, and nothing else: it is to be closed after
    /// the handshake (RFC 8737 section 3). `None`: nobody asked for it.
    pub fn challenge(&self, domain: &str) -> Option<Result<Session, TlsError>> {
        let proofs = self.proofs.load();
        let config = proofs.tls.get(&domain.to_ascii_lowercase())?;
        Some(Session::server(config.clone()))
    }
}

/// RFC 8737 section 3: self-signed, with the domain as its only name, and the digest of the key
/// authorization in a critical extension.
fn challenge_config(domain: &str, key_authorization: &str) -> Result<ServerConfig, String> {
    let text = |e: &dyn fmt::Display| e.to_string();
    let mut params = CertificateParams::new(vec![domain.to_owned()]).map_err(|e| text(&e))?;
    params.distinguished_name = DistinguishedName::new();
    let proof = digest(&SHA256, key_authorization.as_bytes());
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(proof.as_ref())];
    let pair = KeyPair::generate().map_err(|e| text(&e))?;
    let made = params.self_signed(&pair).map_err(|e| text(&e))?;
    let key = PrivateKeyDer::try_from(pair.serialize_der()).map_err(|e| text(&e))?;
    let key = provider().key_provider.load_private_key(key).map_err(|e| text(&e))?;
    let shown = CertifiedKey::new(vec![made.der().clone()], key);
    let resolver: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(shown));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| text(&e))?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![ALPN_ACME.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A chain and its key as a CA's answer gives them.
#[derive(Clone, Debug)]
pub struct IssuedCertificate {
    key: Arc<CertifiedKey>,
    /// DNS names in lower case.
    pub names: Vec<String>,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
    /// Who signed it, as text.
    pub issuer: String,
}

impl IssuedCertificate {
    /// Of PEM that holds a chain, the server's own certificate first, and its key.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(pem: &str) -> Result<Self, String> {
        if pem.len() > CHAIN_BYTES_MAX {
            return Err(format!("more than {} KiB", CHAIN_BYTES_MAX >> 10));
        }
        let chain = certificates(pem.as_bytes()).map_err(|e| format!("no PEM: {e}"))?;
        let first = chain.first().ok_or("no certificate")?;
        let (_, parsed) = X509Certificate::from_der(first).map_err(|e| e.to_string())?;
        let names = dns_names(&parsed);
        let validity = parsed.validity();
        let (not_before, not_after) =
            (validity.not_before.timestamp(), validity.not_after.timestamp());
        let issuer = parsed.issuer().to_string();
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| e.to_string())?;
        let key = provider().key_provider.load_private_key(key).map_err(|e| e.to_string())?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match().map_err(|_| "the key does not belong to the certificate")?;
        Ok(Self { key: Arc::new(key), names, not_before, not_after, issuer })
    }

    /// The server's own certificate.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.key.cert[0]
    }
}

/// A request for a certificate (RFC 2986), and the key that it is for.
#[derive(Debug)]
pub struct SigningRequest {
    /// DER.
    pub request: Vec<u8>,
    /// PEM.
    pub key: String,
}

impl SigningRequest {
    /// For `domain`, with a new key of P-256.
    ///
    /// # Errors
    /// When none can be made.
    pub fn new(domain: &str) -> Result<Self, String> {
        let text = |e: rcgen::Error| e.to_string();
        let mut params = CertificateParams::new(vec![domain.to_owned()]).map_err(text)?;
        params.distinguished_name = DistinguishedName::new();
        let pair = KeyPair::generate().map_err(text)?;
        let request = params.serialize_request(&pair).map_err(text)?.der().to_vec();
        Ok(Self { request, key: to_pem(SectionKind::PrivateKey, &pair.serialize_der()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn self_signed(domain: &str) -> String {
        let pair = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![domain.to_owned()]).unwrap();
        let made = params.self_signed(&pair).unwrap();
        to_pem(SectionKind::Certificate, made.der())
            + &to_pem(SectionKind::PrivateKey, &pair.serialize_der())
    }

    #[test]
    fn what_is_shown_is_what_owners_want() {
        let issued = Issued::default();
        let http = |token: &str| Proof::Http {
            token: token.into(),
            key_authorization: format!("{token}.thumb"),
        };
        let tls = Proof::TlsAlpn { domain: "a.test".into(), key_authorization: "t.thumb".into() };
        assert!(!issued.is_asked());
        issued.show("one", vec![http("x"), tls]).unwrap();
        issued.show("two", vec![http("y")]).unwrap();
        assert!(issued.is_asked());
        assert_eq!(issued.http_answer("x").as_deref(), Some("x.thumb"));
        assert_eq!(issued.http_answer("y").as_deref(), Some("y.thumb"));
        assert_eq!(issued.http_answer("z"), None);
        assert!(issued.challenge("A.test").is_some_and(|made| made.is_ok()));
        assert!(issued.challenge("b.test").is_none());
        issued.show("one", Vec::new()).unwrap();
        assert!(issued.challenge("a.test").is_none() && issued.http_answer("x").is_none());
        assert!(issued.is_asked());
        issued.show("two", Vec::new()).unwrap();
        assert!(!issued.is_asked());
    }

    #[test]
    fn certificates_are_kept_by_directory_and_domain() {
        let issued = Issued::default();
        let key = Issued::key("https://ca.test/dir", "a.test");
        let one = IssuedCertificate::parse(&self_signed("a.test")).unwrap();
        assert_eq!(one.names, ["a.test"]);
        assert!(one.not_before < one.not_after);
        issued.install(&key, &one);
        let other = IssuedCertificate::parse(&self_signed("a.test")).unwrap();
        assert!(Arc::ptr_eq(&issued.find(&key).unwrap(), &one.key));
        issued.install(&key, &other);
        assert!(Arc::ptr_eq(&issued.find(&key).unwrap(), &other.key));
        assert!(issued.find(&Issued::key("https://staging.test/dir", "a.test")).is_none());
        issued.remove(&key);
        assert!(issued.find(&key).is_none());
    }

    #[test]
    fn wrong_answers_are_refused() {
        let good = self_signed("a.test");
        let foreign = self_signed("a.test");
        let (certificate, _) = good.split_once("-----BEGIN PRIVATE").unwrap();
        let (_, key) = foreign.split_once("-----BEGIN PRIVATE").unwrap();
        for (pem, part) in [
            (String::new(), "no certificate"),
            (certificate.to_owned(), "no items found"),
            (format!("{certificate}-----BEGIN PRIVATE{key}"), "does not belong"),
            (good.repeat(500), "more than 256 KiB"),
        ] {
            let error = IssuedCertificate::parse(&pem).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_signing_request_is_for_its_domain_and_key() {
        use x509_parser::certification_request::X509CertificationRequest;
        let made = SigningRequest::new("a.test").unwrap();
        let (_, request) = X509CertificationRequest::from_der(&made.request).unwrap();
        let text = format!("{:?}", request.requested_extensions().unwrap().collect::<Vec<_>>());
        assert!(text.contains("a.test"), "{text}");
        let key = KeyPair::try_from(
            PrivateKeyDer::from_pem_slice(made.key.as_bytes()).unwrap().secret_der(),
        );
        let public = key.unwrap().public_key_raw().to_vec();
        let info = request.certification_request_info.subject_pki;
        assert_eq!(info.subject_public_key.data.as_ref(), public);
    }
}
