use std::path::PathBuf;
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

/// TLS towards endpoints: `services.NAME.tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTlsSpec {
    /// Asked for (SNI), and what the endpoint's certificate must be for. Default: the address of
    /// the endpoint, for which no SNI is sent (RFC 6066 section 3).
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
