use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// Who a client proved to be, as applications are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Header lines, ready to be sent: `Client-Cert` (RFC 9440), and for applications that read
    /// no certificates `X-Client-Cert-Subject`, `X-Client-Cert-SHA256` and `X-Client-Cert-Names`.
    pub header_lines: Vec<u8>,
    /// `CN=alice, O=Example`
    pub subject: String,
}

impl Identity {
    /// Of the certificate that was verified. `None`: there is none, or it cannot be read.
    pub fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let first = chain.first()?;
        let (_, certificate) = X509Certificate::from_der(first).ok()?;
        let subject = printable(&certificate.subject().to_string());
        let mut lines = format!("Client-Cert: :{}:\r\n", BASE64_STANDARD.encode(first));
        lines += &format!("X-Client-Cert-Subject: {subject}\r\nX-Client-Cert-SHA256: ");
        for byte in digest(&SHA256, first).as_ref() {
            let _ = write!(lines, "{byte:02x}"); // a String takes everything
        }
        lines += "\r\n";
        let names = alternative_names(&certificate);
        if !names.is_empty() {
            lines += &format!("X-Client-Cert-Names: {}\r\n", names.join(", "));
        }
        Some(Self { header_lines: lines.into_bytes(), subject })
    }
}

/// `DNS:a.example`, `URI:spiffe://..`, `email:..`
fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let named = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(("DNS", *name)),
        GeneralName::URI(uri) => Some(("URI", *uri)),
        GeneralName::RFC822Name(address) => Some(("email", *address)),
        _ => None,
    });
    // A comma would read as the next name.
    named.map(|(kind, name)| format!("{kind}:{}", printable(name).replace(',', "%2C"))).collect()
}

/// What is not visible ASCII is percent-encoded: it was written by whom the CA signed for, and
/// must not end the header.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..0x20 | 0x7f.. => {
                let _ = write!(out, "%{byte:02X}"); // a String takes everything
            }
            _ => out.push(char::from(byte)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_cannot_leave_its_header() {
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let name = "eve\r\nX-Admin: yes, 100% \u{e9}";
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params
            .subject_alt_names
            .push(rcgen::SanType::URI("spiffe://d/w,DNS:b".try_into().unwrap()));
        let key = rcgen::KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        let identity = Identity::of(&[made.der().clone()]).unwrap();
        let lines = String::from_utf8(identity.header_lines).unwrap();
        let names: Vec<&str> =
            lines.lines().filter_map(|l| l.split_once(": ")).map(|p| p.0).collect();
        let expected =
            ["Client-Cert", "X-Client-Cert-Subject", "X-Client-Cert-SHA256", "X-Client-Cert-Names"];
        assert_eq!(names, expected, "{lines}");
        assert!(identity.subject.contains("eve%0D%0AX-Admin: yes, 100%25 %C3%A9"), "{lines}");
        assert!(lines.ends_with("DNS:a.example, URI:spiffe://d/w%2CDNS:b\r\n"), "{lines}");
        assert_eq!(Identity::of(&[]), None);
    }
}
