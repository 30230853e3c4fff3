//! Connects to the engine.

use std::path::Path;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, Join, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{Address, EngineOptions};

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(super) async fn connect(options: &EngineOptions) -> Result<Box<dyn Stream>, String> {
    match &options.address {
        Address::Unix(path) => {
            Ok(Box::new(UnixStream::connect(path).await.map_err(|error| error.to_string())?))
        }
        Address::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await;
            let stream = stream.map_err(|error| error.to_string())?;
            match &options.tls {
                None => Ok(Box::new(stream)),
                Some(folder) => {
                    let name = ServerName::try_from(host.clone()).map_err(|e| e.to_string())?;
                    let connector = TlsConnector::from(Arc::new(tls(folder)?));
                    let stream = connector.connect(name, stream).await;
                    Ok(Box::new(stream.map_err(|error| format!("TLS: {error}"))?))
                }
            }
        }
        Address::Ssh { user, host, port } => ssh(user.as_deref(), host, *port),
    }
}

/// As the `docker` command does it: the other side's authority in `ca.pem`, and ourselves in
/// `cert.pem` and `key.pem`.
fn tls(folder: &Path) -> Result<ClientConfig, String> {
    let path = |name: &str| folder.join(name);
    let wrong =
        |name: &str, error: &dyn std::fmt::Display| format!("{}: {error}", path(name).display());
    let certificates = |name: &str| -> Result<Vec<CertificateDer<'static>>, String> {
        let found = CertificateDer::pem_file_iter(path(name)).map_err(|e| wrong(name, &e))?;
        found.collect::<Result<_, _>>().map_err(|e| wrong(name, &e))
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca.pem")? {
        roots.add(certificate).map_err(|error| wrong("ca.pem", &error))?;
    }
    let key = PrivateKeyDer::from_pem_file(path("key.pem")).map_err(|e| wrong("key.pem", &e))?;
    ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates("cert.pem")?, key)
        .map_err(|error| wrong("cert.pem", &error))
}

/// As the `docker` command does it: its counterpart there carries the bytes to the socket.
fn ssh(user: Option<&str>, host: &str, port: Option<u16>) -> Result<Box<dyn Stream>, String> {
    let mut command = Command::new("ssh");
    if let Some(user) = user {
        command.args(["-l", user]);
    }
    if let Some(port) = port {
        command.args(["-p", &port.to_string()]);
    }
    let mut child = command
        .args(["-o", "ConnectTimeout=30", "-T", "--", host, "docker", "system", "dial-stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot run ssh: {error}"))?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("ssh has no pipes".into());
    };
    Ok(Box::new(Piped { pipes: tokio::io::join(output, input), _child: child }))
}

/// The two pipes of a process, which ends with them.
struct Piped {
    pipes: Join<ChildStdout, ChildStdin>,
    _child: Child,
}

impl AsyncRead for Piped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.pipes).poll_read(context, buffer)
    }
}

impl AsyncWrite for Piped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.pipes).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.pipes).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.pipes).poll_shutdown(context)
    }
}
