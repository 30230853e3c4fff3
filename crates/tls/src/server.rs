use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use model::spec::ServerTlsSpec;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};

use crate::certificate::{self, Certificate};
use crate::fault::{Fault, Severity, below, listener_place};
use crate::issued::Issued;
use crate::local_ca::LocalCa;
use crate::provider::{provider_with, versions};
use crate::session::{Session, TlsError};
use crate::store::Store;
use crate::watch::{Fingerprint, fingerprints};

/// What HTTP/1.1 is called in ALPN (RFC 7301 section 6).
pub const ALPN_HTTP1: &[u8] = b"http/1.1";
/// RFC 9113 section 3.2.
pub const ALPN_HTTP2: &[u8] = b"h2";

/// TLS towards the clients of one listener. Its files can be read again while it is in use:
/// handshakes from then on see what they hold now.
#[derive(Debug)]
pub struct Server {
    place: Vec<String>,
    spec: ServerTlsSpec,
    alpn: Vec<Vec<u8>>,
    current: ArcSwap<ServerConfig>,
    tickets: Mutex<Tickets>,
    hsts: Option<String>,
    files: Vec<(PathBuf, Option<Fingerprint>)>,
    issued: Arc<Issued>,
    shown: ArcSwap<Vec<Shown>>,
}

/// A certificate that is in use and came with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// DNS names in lower case.
    pub names: Vec<String>,
    /// Of the CA for development, and of no file.
    pub self_signed: bool,
    /// Seconds since 1970.
    pub not_after: i64,
}

/// What sessions are resumed with. They say whose certificate was verified, so that they are good
/// only where clients are verified alike.
#[derive(Clone, Debug)]
struct Tickets {
    ticketer: Option<Arc<dyn ProducesTickets>>,
    /// The bundle by which clients are verified.
    ca: Option<Vec<u8>>,
}

impl Server {
    /// Of the listener `name`. `alpn`: the protocols that it speaks, the preferred one first;
    /// empty: clients are told of none. `former`: what it was until now, whose tickets stay good
    /// if clients are verified as before. `issued`: where certificates by ACME come to.
    ///
    /// # Errors
    /// What is wrong with its files. Warnings are answered beside what was made.
    pub fn new(
        name: &str,
        spec: &ServerTlsSpec,
        alpn: &[&[u8]],
        former: Option<&Server>,
        issued: Arc<Issued>,
    ) -> Result<(Self, Vec<Fault>), Vec<Fault>> {
        let place = listener_place(name);
        let former = former.filter(|former| former.spec.client_auth == spec.client_auth);
        let before =
            former.map(|f| f.tickets.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|&name| name.to_vec()).collect();
        let files = fingerprints(files(spec));
        let Built { config, tickets, shown, warnings } =
            build(spec, &place, &alpn, before, &issued)?;
        let server = Self {
            place,
            spec: spec.clone(),
            alpn,
            current: ArcSwap::from_pointee(config),
            tickets: Mutex::new(tickets),
            hsts: spec.hsts.as_ref().map(hsts),
            files,
            issued,
            shown: ArcSwap::from_pointee(shown),
        };
        Ok((server, warnings))
    }

    /// Reads the files again. Sessions that are open go on as they are.
    ///
    /// # Errors
    /// What is wrong with them; then what was read before stays in use.
    pub fn reload(&self) -> Result<Vec<Fault>, Vec<Fault>> {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let before = Some(tickets.clone());
        let built = build(&self.spec, &self.place, &self.alpn, before, &self.issued)?;
        *tickets = built.tickets;
        self.current.store(Arc::new(built.config));
        self.shown.store(Arc::new(built.shown));
        Ok(built.warnings)
    }

    /// The files that it was made of, as they were before they were read first.
    pub fn files(&self) -> &[(PathBuf, Option<Fingerprint>)] {
        &self.files
    }

    /// The protocols that it speaks, the preferred one first.
    pub fn alpn(&self) -> impl Iterator<Item = &[u8]> {
        self.alpn.iter().map(Vec::as_slice)
    }

    pub fn spec(&self) -> &ServerTlsSpec {
        &self.spec
    }

    /// A session for a client that just connected.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn accept(&self) -> Result<Session, TlsError> {
        Session::server(self.current.load_full())
    }

    /// A session for a CA that comes to see a proof by TLS-ALPN-01, to be closed after its
    /// handshake; `None`: no proof for this domain is asked for here.
    pub fn challenge(&self, domain: &str) -> Option<Result<Session, TlsError>> {
        self.spec.acme.as_ref()?;
        self.issued.challenge(domain)
    }

    /// May a CA come to see a proof by TLS-ALPN-01?
    pub fn is_asked(&self) -> bool {
        self.issued.is_asked() && self.spec.acme.is_some()
    }

    /// The certificates of the configuration that are in use.
    pub fn shown(&self) -> Arc<Vec<Shown>> {
        self.shown.load_full()
    }

    pub fn handshake_timeout(&self) -> Duration {
        self.spec.handshake_timeout
    }

    /// The value of `Strict-Transport-Security`.
    pub fn hsts(&self) -> Option<&str> {
        self.hsts.as_deref()
    }
}

fn files(spec: &ServerTlsSpec) -> Vec<PathBuf> {
    let certificates = spec.certificates.iter();
    let files = certificates.flat_map(|c| [c.certificate.clone(), c.key.clone()]);
    files.chain(spec.client_auth.as_ref().map(|auth| auth.ca.clone())).collect()
}

fn hsts(spec: &model::spec::HstsSpec) -> String {
    let mut value = format!("max-age={}", spec.max_age.as_secs());
    if spec.include_subdomains {
        value += "; includeSubDomains";
    }
    if spec.preload {
        value += "; preload";
    }
    value
}

/// What a specification and its files come to.
struct Built {
    config: ServerConfig,
    tickets: Tickets,
    shown: Vec<Shown>,
    warnings: Vec<Fault>,
}

fn build(
    spec: &ServerTlsSpec,
    place: &[String],
    alpn: &[Vec<u8>],
    before: Option<Tickets>,
    issued: &Arc<Issued>,
) -> Result<Built, Vec<Fault>> {
    let mut faults = Vec::new();
    let (certificates, shown) = certificates(spec, place, &mut faults);
    if let Some(acme) = &spec.acme
        && let Some(ca) = &acme.ca
    {
        certificate::roots(ca, &below(&below(place, "acme"), "ca"), &mut faults);
    }
    let client_ca = spec.client_auth.as_ref().map(|auth| {
        let place = below(&below(place, "client_auth"), "ca");
        (auth, certificate::roots(&auth.ca, &place, &mut faults))
    });
    if faults.iter().any(|fault| fault.severity == Severity::Error) {
        return Err(faults);
    }
    let provider = provider_with(&spec.ciphers);
    let impossible = |error: &dyn std::fmt::Display| {
        vec![Fault::error(place, format!("TLS cannot be set up: {error}"), "")]
    };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions(spec.min_version))
        .map_err(|e| impossible(&e))?;
    let (builder, ca) = match client_ca {
        Some((auth, Some((roots, ca)))) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if auth.required { verifier } else { verifier.allow_unauthenticated() };
            let verifier = verifier.build().map_err(|e| impossible(&e))?;
            (builder.with_client_cert_verifier(verifier), Some(ca))
        }
        _ => (builder.with_no_client_auth(), None),
    };
    let mut store = Store::new(&certificates, spec.strict_names);
    if let Some(acme) = &spec.acme {
        store = store.with_issued(acme, issued.clone());
    }
    let mut config = builder.with_cert_resolver(Arc::new(store));
    config.alpn_protocols = alpn.to_vec();
    config.ignore_client_order = true;
    let ticketer = match before {
        Some(before) if before.ca == ca && before.ticketer.is_some() => before.ticketer,
        _ => Some(Ticketer::new().map_err(|e| impossible(&e))?),
    };
    // Without a cache of sessions on our side: with tickets the clients keep them.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    match &ticketer {
        Some(ticketer) if spec.resumption => {
            config.ticketer = ticketer.clone();
            // One: each resumption brings the next, and each costs a handshake its part.
            config.send_tls13_tickets = 1;
        }
        _ => config.send_tls13_tickets = 0,
    }
    Ok(Built { config, tickets: Tickets { ticketer, ca }, shown, warnings: faults })
}

fn certificates(
    spec: &ServerTlsSpec,
    place: &[String],
    faults: &mut Vec<Fault>,
) -> (Vec<Certificate>, Vec<Shown>) {
    let list = below(place, "certificates");
    let mut certificates = Vec::new();
    for (index, files) in spec.certificates.iter().enumerate() {
        let place = below(&list, &index.to_string());
        certificates.extend(certificate::load(files, &place, faults));
    }
    if !spec.self_signed.is_empty() {
        let place = below(place, "self_signed");
        match LocalCa::open().and_then(|ca| ca.issue(&spec.self_signed)) {
            Ok(certificate) => certificates.push(certificate),
            Err(e) => faults.push(Fault::error(
                &place,
                format!("no certificate for development can be made: {e}"),
                "let XDG_DATA_HOME or HOME name a directory that can be written",
            )),
        }
    }
    let self_signed = !spec.self_signed.is_empty();
    let shown =
        |c: &Certificate| Shown { names: c.names.clone(), self_signed, not_after: c.not_after };
    let shown = certificates.iter().map(shown).collect();
    (certificates, shown)
}
