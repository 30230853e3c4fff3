//! Certificates for tests, as files.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SignatureAlgorithm,
};

/// A CA in a folder, whose certificate is `NAME.pem` there.
pub struct Pki {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub fn new(folder: &Path, name: &str) -> Pki {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(folder.join(format!("{name}.pem")), issuer.pem()).unwrap();
        Pki { folder: folder.to_owned(), issuer }
    }

    /// `NAME.crt` and `NAME.key`, for these names or addresses, with a key of P-256.
    pub fn issue(&self, name: &str, names: &[&str]) {
        self.issue_with(name, names, &rcgen::PKCS_ECDSA_P256_SHA256, &|_| {});
    }

    pub fn issue_with(
        &self,
        name: &str,
        names: &[&str],
        algorithm: &'static SignatureAlgorithm,
        edit: &dyn Fn(&mut CertificateParams),
    ) {
        let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        edit(&mut params);
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.write(&format!("{name}.key"), &key.serialize_pem());
        self.write(&format!("{name}.crt"), &certificate.pem());
    }

    /// As tools that renew certificates do: a new file takes the old one's name.
    fn write(&self, name: &str, text: &str) {
        let next = self.folder.join(format!("{name}.next"));
        fs::write(&next, text).unwrap();
        fs::rename(&next, self.folder.join(name)).unwrap();
    }
}
