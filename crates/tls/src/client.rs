use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use model::spec::ClientTlsSpec;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::certificate;
use crate::fault::{Fault, Severity, below, service_place};
use crate::provider::{provider, versions};
use crate::session::{Session, TlsError};
use crate::watch::{Fingerprint, fingerprints};

/// Sessions kept for each endpoint: as many connections as are likely to be made at once.
const SESSIONS_PER_ENDPOINT: usize = 32;
/// Endpoints whose sessions are kept; beyond it all are forgotten, which costs full handshakes.
const ENDPOINTS_MAX: usize = 4096;

/// TLS towards the endpoints of one service. Its files can be read again while it is in use.
#[derive(Debug)]
pub struct Client {
    place: Vec<String>,
    spec: ClientTlsSpec,
    name: Option<ServerName<'static>>,
    current: ArcSwap<Current>,
    files: Vec<(PathBuf, Option<Fingerprint>)>,
}

#[derive(Debug)]
struct Current {
    config: ClientConfig,
    generation: u64,
    /// Tickets of one endpoint are of no use to another.
    by_endpoint: Mutex<HashMap<SocketAddr, Arc<ClientConfig>>>,
}

impl Current {
    fn new(config: ClientConfig) -> Self {
        static GENERATIONS: AtomicU64 = AtomicU64::new(1);
        let generation = GENERATIONS.fetch_add(1, Relaxed);
        Self { config, generation, by_endpoint: Mutex::default() }
    }
}

/// A session for a new connection, and what it was made of.
#[derive(Debug)]
pub struct Dialling {
    pub session: Session,
    pub generation: u64,
}

impl Client {
    /// Of the service `name`.
    ///
    /// # Errors
    /// What is wrong with its files. Warnings are answered beside what was made.
    pub fn new(name: &str, spec: &ClientTlsSpec) -> Result<(Self, Vec<Fault>), Vec<Fault>> {
        let place = service_place(name);
        let files = fingerprints(spec.files());
        let (config, warnings) = build(spec, &place)?;
        let server_name = spec.server_name.as_ref().map(|name| {
            ServerName::try_from(name.clone()).map_err(|_| {
                let message = format!("{name:?} is no name of a server");
                vec![Fault::error(&below(&place, "server_name"), message, "write a host name")]
            })
        });
        let current = ArcSwap::from_pointee(Current::new(config));
        let client =
            Self { place, spec: spec.clone(), name: server_name.transpose()?, current, files };
        Ok((client, warnings))
    }

    /// Takes every certificate, and asks for `name` if it is one: for checks that ask only
    /// whether an endpoint works.
    ///
    /// # Errors
    /// When TLS cannot be set up at all.
    pub fn unverified(name: &str) -> Result<Self, Vec<Fault>> {
        let spec = ClientTlsSpec { verify: false, ..ClientTlsSpec::default() };
        let (client, _) = Self::new("", &spec)?;
        let name = ServerName::try_from(name.to_owned()).ok();
        Ok(Self { name: name.filter(|name| matches!(name, ServerName::DnsName(_))), ..client })
    }

    /// Reads the files again. Connections that are open go on as they are; what is idle is of an
    /// older [`Client::generation`].
    ///
    /// # Errors
    /// What is wrong with them; then what was read before stays in use.
    pub fn reload(&self) -> Result<Vec<Fault>, Vec<Fault>> {
        let (config, warnings) = build(&self.spec, &self.place)?;
        self.current.store(Arc::new(Current::new(config)));
        Ok(warnings)
    }

    /// The files that it was made of, as they were before they were read first.
    pub fn files(&self) -> &[(PathBuf, Option<Fingerprint>)] {
        &self.files
    }

    pub fn spec(&self) -> &ClientTlsSpec {
        &self.spec
    }

    /// What connections are made of now: a connection of another generation was made under other
    /// terms. Never 0, and never the same for two services.
    pub fn generation(&self) -> u64 {
        self.current.load().generation
    }

    /// A session for a new connection to the endpoint at `address`. `alpn`: what we offer to
    /// speak, the preferred one first.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn dial(&self, address: SocketAddr, alpn: &[&[u8]]) -> Result<Dialling, TlsError> {
        let current = self.current.load();
        let config = {
            let mut configs = current.by_endpoint.lock().unwrap_or_else(PoisonError::into_inner);
            if configs.len() >= ENDPOINTS_MAX && !configs.contains_key(&address) {
                configs.clear();
            }
            let fresh = || {
                let mut config = current.config.clone();
                config.resumption = Resumption::in_memory_sessions(SESSIONS_PER_ENDPOINT);
                Arc::new(config)
            };
            configs.entry(address).or_insert_with(fresh).clone()
        };
        let name = self.name.clone();
        let name = name.unwrap_or_else(|| ServerName::IpAddress(address.ip().into()));
        let alpn = alpn.iter().map(|&name| name.to_vec()).collect();
        let session = Session::client(config, name, alpn)?;
        Ok(Dialling { session, generation: current.generation })
    }
}

/// What a client of ours that speaks to a CA or the like trusts: the certificates of a PEM file,
/// and no others; without a file, what this system trusts.
///
/// # Errors
/// What is wrong with the file, or that the system trusts nobody.
pub fn trusting(ca: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    towards(&ClientTlsSpec { ca: ca.map(Path::to_path_buf), ..ClientTlsSpec::default() })
}

/// As [`trusting`], of which the specification says more.
pub(crate) fn towards(spec: &ClientTlsSpec) -> Result<Arc<ClientConfig>, String> {
    match build(spec, &[]) {
        Ok((config, _)) => Ok(Arc::new(config)),
        Err(faults) => {
            Err(faults.into_iter().map(|fault| fault.message).collect::<Vec<_>>().join("; "))
        }
    }
}

fn build(spec: &ClientTlsSpec, place: &[String]) -> Result<(ClientConfig, Vec<Fault>), Vec<Fault>> {
    let mut faults = Vec::new();
    let shown = spec
        .certificate
        .as_ref()
        .map(|files| certificate::load(files, &below(place, "certificate"), &mut faults));
    let roots = if spec.verify { roots(spec, place, &mut faults) } else { None };
    if faults.iter().any(|fault| fault.severity == Severity::Error) {
        return Err(faults);
    }
    let impossible = |error: &dyn std::fmt::Display| {
        vec![Fault::error(place, format!("TLS cannot be set up: {error}"), "")]
    };
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions(spec.min_version))
        .map_err(|e| impossible(&e))?;
    let builder = match roots {
        Some(roots) => {
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_webpki_verifier(verifier.build().map_err(|e| impossible(&e))?)
        }
        None => {
            let verifier = Arc::new(AnyCertificate(provider));
            builder.dangerous().with_custom_certificate_verifier(verifier)
        }
    };
    let config = match shown.flatten() {
        Some(shown) => {
            let resolver = rustls::sign::SingleCertAndKey::from(shown.key);
            builder.with_client_cert_resolver(Arc::new(resolver))
        }
        None => builder.with_no_client_auth(),
    };
    Ok((config, faults))
}

/// Whom the endpoints' certificates must lead to.
fn roots(spec: &ClientTlsSpec, place: &[String], faults: &mut Vec<Fault>) -> Option<RootCertStore> {
    if let Some(ca) = &spec.ca {
        return certificate::roots(ca, &below(place, "ca"), faults).map(|(roots, _)| roots);
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        faults.push(Fault::error(
            place,
            "this system trusts no CA, so nobody could be verified",
            "install ca-certificates, or write `ca: FILE`",
        ));
        return None;
    }
    Some(roots)
}

/// Accepts every certificate, and still demands that its key signed the handshake.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
