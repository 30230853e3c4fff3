use std::path::{Path, PathBuf};
use std::time::Duration;

/// TLS towards clients: `listeners.NAME.tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTlsSpec {
    /// Names come from the certificates. The first one is for clients that ask for no name, or
    /// for one that no certificate has. Several may have the same name, for other kinds of key.
    pub certificates: Vec<CertificateFiles>,
    /// Certificates of the development CA of this machine, for these names; empty: not asked
    /// for. `localhost` and the loopback addresses are always among them.
    pub self_signed: Vec<String>,
    /// Certificates that a CA issues by itself. Default: none.
    pub acme: Option<AcmeSpec>,
    /// Default: clients are not asked for certificates.
    pub client_auth: Option<ClientAuthSpec>,
    pub min_version: TlsVersion,
    /// IANA names of cipher suites, the preferred ones first; empty: all that are safe.
    pub ciphers: Vec<String>,
    /// Clients may take up a session again with a ticket, which saves the greater part of the
    /// handshake. Keys of tickets change every six hours, and tickets of the last one are still
    /// good. Default true.
    pub resumption: bool,
    /// Clients that ask for a name which no certificate has are refused, in place of being shown
    /// the first one. Default false.
    pub strict_names: bool,
    /// Sent with every answer over TLS (RFC 6797). Default: not.
    pub hsts: Option<HstsSpec>,
    /// From accept to the end of the handshake, then closed. Default 10 s.
    pub handshake_timeout: Duration,
}

impl Default for ServerTlsSpec {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            self_signed: Vec::new(),
            acme: None,
            client_auth: None,
            min_version: TlsVersion::V1_2,
            ciphers: Vec::new(),
            resumption: true,
            strict_names: false,
            hsts: None,
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// Certificates of a CA that speaks ACME (RFC 8555): one for each domain, renewed in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeSpec {
    /// The URL of the CA's directory, which is https. Default: Let's Encrypt's; with `staging` its
    /// staging one, whose certificates nobody trusts.
    pub directory: String,
    /// DNS names in lower case, none of them a wildcard, each once.
    pub domains: Vec<String>,
    /// They are the hosts of the listener's routes, and follow them. Default true.
    pub from_routes: bool,
    /// Where the CA may write to. Default: nowhere.
    pub email: Option<String>,
    pub challenge: AcmeChallenge,
    /// PEM: the directory's own certificate leads to one of these, and to no other. Default:
    /// those that this system trusts.
    pub ca: Option<PathBuf>,
    /// An account that was made elsewhere (RFC 8555 section 7.3.4). Default: none.
    pub eab: Option<EabSpec>,
    /// The directory that keeps account, keys and certificates. Default: one of this user.
    pub store: Option<PathBuf>,
    /// How long before its end a certificate is renewed. Default: a third of its life, or when the
    /// CA says so (RFC 9773).
    pub renew_before: Option<Duration>,
}

/// How we prove that a domain is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcmeChallenge {
    /// RFC 8555 section 8.3: by the HTTP listeners, on port 80 as clients see it.
    Http01,
    /// RFC 8737: by the TLS listener itself, on port 443 as clients see it.
    TlsAlpn01,
}

/// External account binding.
#[derive(Clone, PartialEq, Eq)]
pub struct EabSpec {
    pub key_id: String,
    pub hmac_key: Vec<u8>,
}

impl std::fmt::Debug for EabSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key is a secret.
        f.debug_struct("EabSpec").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// A certificate chain and its key, as PEM. Both may be in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

/// Who may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuthSpec {
    /// PEM: certificates of clients lead to one of these.
    pub ca: PathBuf,
    /// False: clients without a certificate are served, too; one that is not good never is.
    pub required: bool,
}

/// `Strict-Transport-Security`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HstsSpec {
    pub max_age: Duration,
    pub include_subdomains: bool,
    pub preload: bool,
}

/// TLS towards endpoints: `services.NAME.tls`; and towards stores and lists of endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTlsSpec {
    /// Asked for (SNI), and what the endpoint's certificate must be for. Default: the address of
    /// the endpoint; of a store or a list, the host in its address. No SNI is sent for an IP
    /// address (RFC 6066 section 3).
    pub server_name: Option<String>,
    /// PEM: the endpoints' certificates lead to one of these, and to no other. Default: those
    /// that this system trusts.
    pub ca: Option<PathBuf>,
    /// Shown to endpoints that ask for one.
    pub certificate: Option<CertificateFiles>,
    /// False: any certificate is taken. Default true.
    pub verify: bool,
    pub min_version: TlsVersion,
}

impl ClientTlsSpec {
    /// The same, its relative paths counted from `directory`.
    pub fn placed(mut self, directory: &Path) -> Self {
        let files = self.certificate.iter_mut();
        for path in files.flat_map(|f| [&mut f.certificate, &mut f.key]).chain(&mut self.ca) {
            *path = directory.join(&*path);
        }
        self
    }

    /// All that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        let certificate = self.certificate.iter();
        let files = certificate.flat_map(|c| [c.certificate.clone(), c.key.clone()]);
        files.chain(self.ca.clone()).collect()
    }
}

impl Default for ClientTlsSpec {
    fn default() -> Self {
        Self {
            server_name: None,
            ca: None,
            certificate: None,
            verify: true,
            min_version: TlsVersion::V1_2,
        }
    }
}
