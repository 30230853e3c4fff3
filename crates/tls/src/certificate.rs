//! Certificate files: reading them, and what is wrong with them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use model::spec::CertificateFiles;
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::fault::{Fault, below};
use crate::provider::provider;

/// Files of certificates and keys have a few KiB, bundles of CAs some hundred.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// A certificate that ends within this is warned of. Renewal by ACME happens 30 days before the end.
const EXPIRES_SOON_SECS: i64 = 14 * 86_400;

/// A certificate chain with its key, and what its first certificate is for.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) key: Arc<CertifiedKey>,
    /// DNS names in lower case, `*.example.com` among them.
    pub(crate) names: Vec<String>,
    /// Seconds since 1970.
    pub(crate) not_after: i64,
}

/// Reads a chain and its key. `place` is that of the entry; the keys below it are `certificate`
/// and `key`, unless the entry is one path.
pub(crate) fn load(
    files: &CertificateFiles,
    place: &[String],
    faults: &mut Vec<Fault>,
) -> Option<Certificate> {
    let one_file = files.certificate == files.key;
    let at = |key: &str| if one_file { place.to_vec() } else { below(place, key) };
    let path = &files.certificate;
    let text = read(path, &at("certificate"), faults)?;
    let chain = match certificates(&text) {
        Ok(chain) if !chain.is_empty() => chain,
        Ok(_) => {
            let message = format!("{} holds no certificate", path.display());
            let help = "a PEM file begins with `-----BEGIN CERTIFICATE-----`";
            faults.push(Fault::error(&at("certificate"), message, help));
            return None;
        }
        Err(e) => {
            let message = format!("{} is not a PEM file: {e}", path.display());
            faults.push(Fault::error(&at("certificate"), message, ""));
            return None;
        }
    };
    let (names, not_after) = inspect(&chain, path, &at("certificate"), faults)?;
    let key_text = if one_file { text } else { read(&files.key, &at("key"), faults)? };
    let key = private_key(&key_text, &files.key, &at("key"), faults)?;
    let signing = match provider().key_provider.load_private_key(key) {
        Ok(signing) => signing,
        Err(e) => {
            let message = format!("the key in {} cannot be used: {e}", files.key.display());
            let help = "RSA with 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, or Ed25519";
            faults.push(Fault::error(&at("key"), message, help));
            return None;
        }
    };
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(_) => {
            let message = format!(
                "the key in {} does not belong to the certificate in {}",
                files.key.display(),
                path.display()
            );
            let help = "name the key that the certificate was made for; the file begins with the \
                        server's own certificate, and those of its issuers follow";
            faults.push(Fault::error(&at("key"), message, help));
            return None;
        }
    }
    Some(Certificate { key: Arc::new(certified), names, not_after })
}

/// The names of the first certificate, and when it ends; warns of what clients will not take.
fn inspect(
    chain: &[CertificateDer<'static>],
    path: &Path,
    place: &[String],
    faults: &mut Vec<Fault>,
) -> Option<(Vec<String>, i64)> {
    let parsed = chain.first().map(|first| X509Certificate::from_der(first));
    let Some(Ok((_, first))) = parsed else {
        let message = format!("{} holds no certificate that can be read", path.display());
        faults.push(Fault::error(place, message, ""));
        return None;
    };
    let validity = first.validity();
    let (begins, ends) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let now = unix_now();
    let path = path.display();
    let warning = if ends < now {
        Some(format!("the certificate in {path} expired {} ago", days(now - ends)))
    } else if now < begins {
        Some(format!("the certificate in {path} is not valid for another {}", days(begins - now)))
    } else if ends - now < EXPIRES_SOON_SECS {
        Some(format!("the certificate in {path} expires in {}", days(ends - now)))
    } else {
        None
    };
    if let Some(message) = warning {
        faults.push(Fault::warning(place, message, "renew it; the file is read again by itself"));
    }
    if first.is_ca() && chain.len() > 1 {
        let message = format!("{path} begins with the certificate of a CA");
        let help = "put the server's own certificate first, then those of its issuers";
        faults.push(Fault::warning(place, message, help));
    }
    Some((dns_names(&first), ends))
}

pub(crate) fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = names.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

fn days(seconds: i64) -> String {
    match seconds {
        ..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

pub(crate) fn unix_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

pub(crate) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_slice_iter(text).collect()
}

fn private_key(
    text: &[u8],
    path: &Path,
    place: &[String],
    faults: &mut Vec<Fault>,
) -> Option<PrivateKeyDer<'static>> {
    match PrivateKeyDer::from_pem_slice(text) {
        Ok(key) => Some(key),
        Err(e) => {
            let shown = String::from_utf8_lossy(text);
            let (message, help) = if shown.contains("ENCRYPTED") {
                (
                    format!("the key in {} is encrypted", path.display()),
                    "write it without a passphrase: `openssl pkey -in KEY -out NEW`",
                )
            } else if matches!(e, pem::Error::NoItemsFound) {
                (
                    format!("{} holds no private key", path.display()),
                    "a PEM key begins with `-----BEGIN PRIVATE KEY-----`",
                )
            } else {
                (format!("{} is not a PEM file: {e}", path.display()), "")
            };
            faults.push(Fault::error(place, message, help));
            None
        }
    }
}

/// The certificates of a bundle that others are to lead to.
pub(crate) fn roots(
    path: &Path,
    place: &[String],
    faults: &mut Vec<Fault>,
) -> Option<(RootCertStore, Vec<u8>)> {
    let text = read(path, place, faults)?;
    let found = match certificates(&text) {
        Ok(found) => found,
        Err(e) => {
            let message = format!("{} is not a PEM file: {e}", path.display());
            faults.push(Fault::error(place, message, ""));
            return None;
        }
    };
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(found);
    if added == 0 {
        let message = format!("{} holds no certificate of a CA", path.display());
        let help = "a PEM file begins with `-----BEGIN CERTIFICATE-----`";
        faults.push(Fault::error(place, message, help));
        return None;
    }
    if ignored > 0 {
        let message = format!("{ignored} certificates in {} cannot be read", path.display());
        faults.push(Fault::warning(place, message, "remove them"));
    }
    Some((roots, text))
}

fn read(path: &Path, place: &[String], faults: &mut Vec<Fault>) -> Option<Vec<u8>> {
    use std::io::Read;
    let mut text = Vec::new();
    let file = fs::File::open(path);
    match file.and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut text)) {
        Ok(_) => Some(text),
        Err(e) => {
            faults.push(Fault::unreadable(place, path, &e));
            None
        }
    }
}

/// PEM of several sections.
pub(crate) fn to_pem(kind: SectionKind, der: &[u8]) -> String {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    let label = match kind {
        SectionKind::Certificate => "CERTIFICATE",
        _ => "PRIVATE KEY",
    };
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in BASE64_STANDARD.encode(der).as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).unwrap_or_default());
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}
