//! An engine that is reached by TLS: it must show a certificate of the authority in `ca.pem`, and
//! sees ours.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use compose::Engine;
use compose::engine::EngineOptions;
use rcgen::{CertificateParams, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = pem("CERTIFICATE", parameters.self_signed(&key).unwrap().der());
        Self { pem, issuer: Issuer::new(parameters, key) }
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new([name.to_owned()]).unwrap();
        (parameters.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// An engine that answers `{"Version": "x"}` to whoever shows a certificate of `clients`.
async fn engine(servers: &Authority, clients: &Authority) -> SocketAddr {
    let (certificate, key) = servers.sign("127.0.0.1");
    let mut roots = RootCertStore::empty();
    let pem = clients.pem.as_bytes();
    roots.add(CertificateDer::from_pem_slice(pem).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let body = "{\"Version\":\"x\"}";
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all((head + body).as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

/// A folder as `DOCKER_CERT_PATH` names one.
fn folder(name: &str, servers: &Authority, clients: &Authority) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("evenkeel-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (certificate, key) = clients.sign("client");
    for (name, text) in [
        ("ca.pem", servers.pem.clone()),
        ("cert.pem", pem("CERTIFICATE", certificate.der())),
        ("key.pem", pem("PRIVATE KEY", &key.serialize_der())),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    folder
}

async fn ask(address: SocketAddr, folder: &Path) -> Result<String, String> {
    let variables = [
        ("DOCKER_HOST", format!("tcp://{address}")),
        ("DOCKER_TLS_VERIFY", "1".into()),
        ("DOCKER_CERT_PATH", folder.display().to_string()),
    ];
    let variables: BTreeMap<String, String> =
        variables.map(|(name, value)| (name.to_owned(), value)).into();
    let engine = Engine::new(EngineOptions::read(None, &variables).unwrap());
    let answer = engine.get("/version").await.map_err(|error| error.to_string())?;
    Ok(answer["Version"].to_string())
}

#[tokio::test]
async fn both_sides_must_show_who_they_are() {
    let (servers, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    let address = engine(&servers, &clients).await;
    let right = folder("right", &servers, &clients);
    assert_eq!(ask(address, &right).await.unwrap(), "\"x\"");
    // An engine of another authority, and one that does not know ours.
    let stranger = folder("stranger", &others, &clients);
    assert!(ask(address, &stranger).await.unwrap_err().contains("TLS"));
    let unknown = folder("unknown", &servers, &others);
    assert!(ask(address, &unknown).await.is_err());
    fs::remove_file(right.join("key.pem")).unwrap();
    assert!(ask(address, &right).await.unwrap_err().contains("key.pem"));
    for folder in [right, stranger, unknown] {
        fs::remove_dir_all(folder).unwrap();
    }
}
