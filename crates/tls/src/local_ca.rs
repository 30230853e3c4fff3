use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::certificate::{Certificate, certificates, to_pem, unix_now};
use crate::provider::provider;

/// A CA of this user on this machine, so that a browser that trusts it once takes every
/// certificate for development. Its key never leaves the directory.
#[derive(Debug)]
pub struct LocalCa {
    path: PathBuf,
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

/// Names that every certificate for development has.
const ALWAYS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Browsers refuse certificates that are good for longer than 398 days.
const LEAF_DAYS: u32 = 397;
const CA_DAYS: u32 = 3650;
const DAY: Duration = Duration::from_secs(86_400);

impl LocalCa {
    /// The CA in `evenkeel/ca` below `XDG_DATA_HOME`, or `~/.local/share`; made when there is none.
    ///
    /// # Errors
    /// When the directory cannot be written, or holds something else.
    pub fn open() -> io::Result<Self> {
        let data = std::env::var_os("XDG_DATA_HOME").filter(|d| !d.is_empty()).map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
        let data = data.or_else(home).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "neither XDG_DATA_HOME nor HOME is set")
        })?;
        Self::open_in(&data.join("evenkeel/ca"))
    }

    fn open_in(folder: &Path) -> io::Result<Self> {
        let (path, key_path) = (folder.join("ca.pem"), folder.join("ca.key"));
        if !path.exists() {
            make(folder)?;
        }
        let broken = |what: &dyn std::fmt::Display| {
            let message = format!("{}: {what}; remove it to have a new CA made", folder.display());
            io::Error::new(io::ErrorKind::InvalidData, message)
        };
        let found = certificates(&fs::read(&path)?).map_err(|e| broken(&e))?;
        let certificate = found.into_iter().next().ok_or_else(|| broken(&"no certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(&fs::read(&key_path)?).map_err(|e| broken(&e))?;
        let key = KeyPair::try_from(key.secret_der()).map_err(|e| broken(&e))?;
        Ok(Self { path, certificate, key })
    }

    /// What it is called among others: `evenkeel development CA` and what tells it apart.
    pub fn name(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.certificate);
        let digits: String =
            digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("evenkeel development CA {digits}")
    }

    /// The file to be trusted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A certificate for `names` and those of this machine, which only this process knows.
    pub(crate) fn issue(&self, names: &[String]) -> io::Result<Certificate> {
        let mut all: Vec<String> = ALWAYS.iter().map(|&name| name.to_owned()).collect();
        all.extend(names.iter().filter(|name| !ALWAYS.contains(&name.as_str())).cloned());
        let mut leaf = CertificateParams::new(all.clone()).map_err(io::Error::other)?;
        leaf.distinguished_name = DistinguishedName::new();
        let first = names.first().cloned().unwrap_or_else(|| ALWAYS[0].to_owned());
        leaf.distinguished_name.push(DnType::CommonName, first);
        leaf.use_authority_key_identifier_extension = true;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let now = Duration::from_secs(unix_now().unsigned_abs());
        leaf.not_before = rcgen::date_time_ymd(1970, 1, 1) + (now - DAY);
        leaf.not_after = leaf.not_before + LEAF_DAYS * DAY;
        let pair = KeyPair::generate().map_err(io::Error::other)?;
        let ca = params();
        let issuer = Issuer::from_params(&ca, &self.key);
        let not_after = leaf.not_after.unix_timestamp();
        let made = leaf.signed_by(&pair, &issuer).map_err(io::Error::other)?;
        let key = PrivateKeyDer::try_from(pair.serialize_der()).map_err(io::Error::other)?;
        let key = provider().key_provider.load_private_key(key).map_err(io::Error::other)?;
        let chain = vec![made.der().clone(), self.certificate.clone()];
        let key = Arc::new(CertifiedKey::new(chain, key));
        Ok(Certificate { key, names: all, not_after })
    }
}

/// What certificates say of the CA; the same each time, so that its key is all that has to be kept.
fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "evenkeel development CA");
    // It signs servers, and no other CA.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Makes the CA beside where it is to be, and moves it there as a whole: of several processes
/// that start at once, one is first.
fn make(folder: &Path) -> io::Result<()> {
    let parent = folder.parent().unwrap_or(folder);
    fs::create_dir_all(parent)?;
    let fresh = parent.join(format!("ca.{}", std::process::id()));
    fs::create_dir_all(&fresh)?;
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let mut params = params();
    let now = Duration::from_secs(unix_now().unsigned_abs());
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + (now - DAY);
    params.not_after = params.not_before + CA_DAYS * DAY;
    let made = params.self_signed(&key).map_err(io::Error::other)?;
    write(&fresh.join("ca.key"), &to_pem(SectionKind::PrivateKey, &key.serialize_der()), 0o600)?;
    write(&fresh.join("ca.pem"), &to_pem(SectionKind::Certificate, made.der()), 0o644)?;
    let moved = fs::rename(&fresh, folder);
    if moved.is_err() {
        let _ = fs::remove_dir_all(&fresh);
        if folder.join("ca.pem").exists() {
            return Ok(());
        }
    }
    moved
}

fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{ServerName, UnixTime};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_ca_stays_and_what_it_issues_is_good() {
        let folder = std::env::temp_dir().join(format!("evenkeel-ca-{}", std::process::id()));
        let ca = folder.join("evenkeel/ca");
        let first = LocalCa::open_in(&ca).unwrap();
        let again = LocalCa::open_in(&ca).unwrap();
        assert_eq!(first.certificate, again.certificate);
        let mode = fs::metadata(ca.join("ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let issued = again.issue(&["app.test".into(), "*.app.test".into()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(first.certificate.clone()).unwrap();
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
        let verifier = verifier.build().unwrap();
        for (name, good) in [
            ("app.test", true),
            ("x.app.test", true),
            ("localhost", true),
            ("127.0.0.1", true),
            ("::1", true),
            ("other.test", false),
        ] {
            let name = ServerName::try_from(name).unwrap();
            let chain = &issued.key.cert;
            let verified =
                verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now());
            assert_eq!(verified.is_ok(), good, "{name:?}: {verified:?}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
