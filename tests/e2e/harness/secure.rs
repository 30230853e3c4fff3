use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A client's side of TLS, which blocks as its socket does.
pub type SecureStream = StreamOwned<ClientConnection, TcpStream>;

/// What clients that trust one CA agree on with a server.
#[derive(Clone)]
pub struct Secure(Arc<ClientConfig>);

impl Secure {
    /// `ca`: its certificate as PEM. `alpn`: what is offered, the preferred protocol first.
    pub fn trusting(ca: &Path, alpn: &[&[u8]]) -> Secure {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&fs::read(ca).unwrap()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Secure(Arc::new(config))
    }

    /// On a socket that is connected. The handshake comes with what is written or read first.
    pub fn over(&self, socket: TcpStream) -> SecureStream {
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let name = ServerName::try_from("a.test").unwrap();
        let connection = ClientConnection::new(self.0.clone(), name).unwrap();
        StreamOwned::new(connection, socket)
    }
}
