use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use model::spec::AcmeSpec;
use rustls::SignatureAlgorithm;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::certificate::Certificate;
use crate::issued::Issued;

/// The certificates of a listener, by the names that they are for.
#[derive(Debug, Default)]
pub(crate) struct Store {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// `*.example.com` as `example.com`. RFC 6125 section 6.4.3: it stands for one label.
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// For clients that ask for no name, or for one that is not here.
    default: Vec<Arc<CertifiedKey>>,
    strict: bool,
    /// Domains whose certificates a CA issues, with what they are kept by in `issued`.
    managed: HashMap<String, String>,
    /// Of these, the default if there is no other.
    first: Option<String>,
    issued: Arc<Issued>,
}

impl Store {
    /// The first certificate is the default, and so are those of other keys for its names.
    pub(crate) fn new(certificates: &[Certificate], strict: bool) -> Self {
        let mut store = Store { strict, ..Store::default() };
        for certificate in certificates {
            for name in &certificate.names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut store.wildcard, parent),
                    None => (&mut store.exact, name.as_str()),
                };
                map.entry(name.to_owned()).or_default().push(certificate.key.clone());
            }
        }
        if let Some(first) = certificates.first() {
            let alike = |other: &&Certificate| {
                Arc::ptr_eq(&other.key, &first.key)
                    || (!first.names.is_empty() && other.names == first.names)
            };
            store.default = certificates.iter().filter(alike).map(|c| c.key.clone()).collect();
        }
        let all = store.exact.values_mut().chain(store.wildcard.values_mut());
        for keys in all.chain([&mut store.default]) {
            // Smaller and quicker first, for clients that take either.
            keys.sort_by_key(|key| match key.key.algorithm() {
                SignatureAlgorithm::ECDSA => 0,
                SignatureAlgorithm::ED25519 => 1,
                _ => 2,
            });
        }
        store
    }

    /// With certificates that are issued while it is in use. Where a file has the same name, the
    /// file was somebody's choice and is shown; where only a wildcard has, the own one is.
    pub(crate) fn with_issued(mut self, acme: &AcmeSpec, issued: Arc<Issued>) -> Self {
        let domains = acme.domains.iter();
        self.managed = domains.map(|d| (d.clone(), Issued::key(&acme.directory, d))).collect();
        self.first = acme.domains.first().cloned();
        self.issued = issued;
        self
    }

    fn named(&self, name: &str) -> Option<Found<'_>> {
        let name = name.to_ascii_lowercase();
        if let Some(keys) = self.exact.get(&name) {
            return Some(Found::Listed(keys));
        }
        if let Some(key) = self.managed.get(&name).and_then(|key| self.issued.find(key)) {
            return Some(Found::Issued(key));
        }
        let (_, parent) = name.split_once('.')?;
        self.wildcard.get(parent).map(|keys| Found::Listed(keys))
    }

    fn find(&self, name: Option<&str>) -> Option<Found<'_>> {
        match name.and_then(|name| self.named(name)) {
            Some(found) => Some(found),
            None if self.strict && name.is_some() => None,
            None if self.default.is_empty() => {
                let first = self.managed.get(self.first.as_ref()?)?;
                self.issued.find(first).map(Found::Issued)
            }
            None => Some(Found::Listed(&self.default)),
        }
    }
}

impl ResolvesServerCert for Store {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        ASKED.set(hello.server_name().map(Into::into));
        let schemes = hello.signature_schemes();
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        match self.find(hello.server_name())? {
            Found::Listed(keys) => keys.iter().find(fits).cloned(),
            Found::Issued(key) => Some(key),
        }
    }
}

thread_local! {
    /// Whom the ClientHello asked for that was read last on this thread: rustls tells it to nobody
    /// but us, and not to whom the connection belongs.
    static ASKED: Cell<Option<Box<str>>> = const { Cell::new(None) };
}

/// Whom the ClientHello asked for that this thread has just read.
pub(crate) fn take_asked() -> Option<Box<str>> {
    ASKED.take()
}

/// Certificates for one name.
#[derive(Debug)]
enum Found<'a> {
    /// Of several kinds of key.
    Listed(&'a [Arc<CertifiedKey>]),
    Issued(Arc<CertifiedKey>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::provider;
    use rustls::pki_types::PrivateKeyDer;

    fn certificate(names: &[&str], rsa: bool) -> Certificate {
        let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
        let algorithm = if rsa { &rcgen::PKCS_RSA_SHA256 } else { &rcgen::PKCS_ECDSA_P256_SHA256 };
        let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let made =
            rcgen::CertificateParams::new(names.clone()).unwrap().self_signed(&pair).unwrap();
        let key = PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
        let key = provider().key_provider.load_private_key(key).unwrap();
        let key = Arc::new(CertifiedKey::new(vec![made.der().clone()], key));
        Certificate { key, names, not_after: 0 }
    }

    #[test]
    fn names_find_their_certificates() {
        let all = [
            certificate(&["a.example", "www.a.example"], true),
            certificate(&["*.b.example"], false),
            certificate(&["c.b.example"], false),
            certificate(&["a.example", "www.a.example"], false),
        ];
        for (strict, name, expected) in [
            (false, Some("a.example"), Some(vec![3, 0])),
            (false, Some("WWW.A.example"), Some(vec![3, 0])),
            (false, Some("x.b.example"), Some(vec![1])),
            (false, Some("c.b.example"), Some(vec![2])),
            (false, Some("y.x.b.example"), Some(vec![3, 0])),
            (false, Some("b.example"), Some(vec![3, 0])),
            (false, None, Some(vec![3, 0])),
            (true, None, Some(vec![3, 0])),
            (true, Some("nobody.example"), None),
            (true, Some("x.b.example"), Some(vec![1])),
        ] {
            let store = Store::new(&all, strict);
            let found = store.find(name).map(|keys| {
                let at = |key| all.iter().position(|c| Arc::ptr_eq(&c.key, key)).unwrap();
                let Found::Listed(keys) = keys else { panic!("{keys:?}") };
                keys.iter().map(at).collect::<Vec<_>>()
            });
            assert_eq!(found, expected, "{name:?} strict={strict}");
        }
    }
}
