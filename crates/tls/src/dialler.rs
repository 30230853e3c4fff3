use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use model::spec::ClientTlsSpec;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::client::towards;
use crate::watch::{Fingerprint, fingerprints};

/// What a client of ours makes its connections with: towards a store, a registry or a list, of
/// which it makes few, and looks at the files itself. ([`crate::Client`] is for endpoints.)
///
/// What the files say is kept until one of them is another, so that a connection costs a look at
/// each (`stat`) and, where the other side remembers sessions, half a handshake. Without `ca`, what
/// the system trusts is read once.
#[derive(Debug, Default)]
pub struct Dialler {
    spec: ClientTlsSpec,
    made: Mutex<Option<Made>>,
}

#[derive(Debug)]
struct Made {
    /// As they were before they were read.
    files: Vec<(PathBuf, Option<Fingerprint>)>,
    config: Arc<ClientConfig>,
}

impl Dialler {
    /// Paths count from the working directory where they are relative. Nothing is read yet.
    pub fn new(spec: ClientTlsSpec) -> Self {
        Self { spec, made: Mutex::default() }
    }

    /// For a new connection to `host`, a name or an address without brackets: the settings, and
    /// for whom the certificate must be, which is `server_name` where that is given. SNI is sent
    /// for names alone (RFC 6066 section 3).
    ///
    /// Reads the files if they changed since they were read, at the first time in any case.
    ///
    /// # Errors
    /// What is wrong with the files, that the system trusts nobody, or that `host` is no name.
    pub fn dial(&self, host: &str) -> Result<(Arc<ClientConfig>, ServerName<'static>), String> {
        let name = self.spec.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| format!("{name:?} is no name of a server"))?;
        let files = fingerprints(self.spec.files());
        // Replaced as a whole. Held while files are read: who waits would read the same.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = made.as_ref().filter(|made| made.files == files) {
            return Ok((Arc::clone(&made.config), name));
        }
        let config = towards(&self.spec)?;
        *made = Some(Made { files, config: Arc::clone(&config) });
        Ok((config, name))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustls::pki_types::pem::SectionKind;

    use super::*;
    use crate::certificate::to_pem;

    fn pem() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        to_pem(SectionKind::Certificate, params.self_signed(&key).unwrap().der())
    }

    #[test]
    fn files_are_read_again_only_when_they_change() {
        let folder = std::env::temp_dir().join(format!("evenkeel-dialler-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let ca = folder.join("ca.pem");
        let spec = ClientTlsSpec { ca: Some(ca.clone()), ..ClientTlsSpec::default() };
        let dialler = Dialler::new(spec);
        assert!(dialler.dial("etcd").is_err(), "there is no such file yet");
        fs::write(&ca, pem()).unwrap();
        let (one, _) = dialler.dial("etcd").unwrap();
        let (other, _) = dialler.dial("10.0.0.7").unwrap();
        assert!(Arc::ptr_eq(&one, &other), "and with it the sessions that may go on");
        // As renewals do it: by rename.
        fs::write(folder.join("new.pem"), pem()).unwrap();
        fs::rename(folder.join("new.pem"), &ca).unwrap();
        let (renewed, _) = dialler.dial("etcd").unwrap();
        assert!(!Arc::ptr_eq(&one, &renewed));
        fs::write(&ca, "nonsense").unwrap();
        assert!(dialler.dial("etcd").is_err());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn whom_the_certificate_must_be_for() {
        let spec = ClientTlsSpec { verify: false, ..ClientTlsSpec::default() };
        let named = ClientTlsSpec { server_name: Some("a.test".into()), ..spec.clone() };
        for (spec, host, expected) in [
            (&spec, "etcd.internal", Some("etcd.internal")),
            (&spec, "10.0.0.7", Some("10.0.0.7")),
            (&spec, "::1", Some("::1")),
            (&spec, "a b", None),
            (&named, "10.0.0.7", Some("a.test")),
        ] {
            let name = Dialler::new(spec.clone()).dial(host).ok();
            let name = name.map(|(_, name)| name.to_str().into_owned());
            assert_eq!(name.as_deref(), expected, "{host}");
        }
    }
}
