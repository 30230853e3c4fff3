//! Account, keys and certificates, as files of a directory that several balancers may share.
//!
//! Files are replaced as a whole (written beside, then renamed), and only their owner reads them:
//! keys are among them. A short lock of the kernel (flock) guards the lease and nothing else.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::lease::{Lease, Watched};
use crate::renewal::Plan;

/// What is read of a file here; the largest ones are chains, of some 10 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// As many as a long chain and a plan take.
const PROBE_BYTES: usize = 32 << 10;

/// What is kept for one CA.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    /// Tells this process from the others.
    owner: String,
    watched: Watched,
    beat: Cell<u64>,
}

/// A proof that all balancers show while the CA looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptProof {
    pub(crate) http: bool,
    pub(crate) domain: String,
    pub(crate) token: String,
    pub(crate) key_authorization: String,
}

impl KeptProof {
    pub(crate) fn shown(&self) -> tls::Proof {
        let key_authorization = self.key_authorization.clone();
        match self.http {
            true => tls::Proof::Http { token: self.token.clone(), key_authorization },
            false => tls::Proof::TlsAlpn { domain: self.domain.clone(), key_authorization },
        }
    }
}

impl Store {
    /// Of the CA with this directory, below `root`. `owner`: tells this process from all others.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub(crate) fn open(root: &Path, directory: &str, owner: String) -> io::Result<Self> {
        let folder = root.join(name_of(directory));
        for part in [&folder, &folder.join("certificates"), &folder.join("proofs")] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(part)?;
        }
        Ok(Self { folder, owner, watched: Watched::default(), beat: Cell::new(0) })
    }

    fn certificate(&self, domain: &str, kind: &str) -> PathBuf {
        // Names are letters, digits, `-`, `_` and `.`, and never `..`: the configuration saw to it.
        self.folder.join("certificates").join(format!("{domain}.{kind}"))
    }

    /// The files of a domain: what is held, and what is planned.
    pub(crate) fn files(&self, domain: &str) -> [PathBuf; 2] {
        ["pem", "json"].map(|kind| self.certificate(domain, kind))
    }

    /// Chain and key, as PEM; `None`: there is none.
    pub(crate) fn certificate_of(&self, domain: &str) -> io::Result<Option<String>> {
        read(&self.certificate(domain, "pem"))
    }

    pub(crate) fn keep_certificate(&self, domain: &str, pem: &str) -> io::Result<()> {
        self.write(&self.certificate(domain, "pem"), pem.as_bytes())
    }

    /// Whether a certificate could be kept now: what a CA issues counts there, kept or not.
    pub(crate) fn probe(&self) -> io::Result<()> {
        let name = format!("probe.{}.new", digits(&self.owner));
        let path = self.folder.join("certificates").join(name);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| {
            file.write_all(&[b'\n'; PROBE_BYTES])?;
            file.sync_all()
        });
        let removed = remove(&path);
        written.and(removed)
    }

    /// What is planned for the domain; one that cannot be read begins anew.
    pub(crate) fn plan_of(&self, domain: &str) -> io::Result<Plan> {
        Ok(self.read_json(&self.certificate(domain, "json"))?.unwrap_or_default())
    }

    pub(crate) fn keep_plan(&self, domain: &str, plan: &Plan) -> io::Result<()> {
        self.write_json(&self.certificate(domain, "json"), plan)
    }

    /// What the library keeps of the account: its URL and key.
    pub(crate) fn account<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        self.read_json(&self.folder.join("account.json"))
    }

    pub(crate) fn keep_account<T: Serialize>(&self, account: &T) -> io::Result<()> {
        self.write_json(&self.folder.join("account.json"), account)
    }

    /// The CA does not know it any more.
    pub(crate) fn forget_account(&self) -> io::Result<()> {
        remove(&self.folder.join("account.json"))
    }

    /// All that are to be shown now, by whichever balancer orders.
    pub(crate) fn proofs(&self) -> io::Result<Vec<KeptProof>> {
        let mut proofs = Vec::new();
        for entry in fs::read_dir(self.folder.join("proofs"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                // Another balancer may just have taken it away.
                proofs.extend(self.read_json::<KeptProof>(&path)?);
            }
        }
        proofs.sort_by(|a, b| a.token.cmp(&b.token));
        Ok(proofs)
    }

    /// Only who has the lease.
    pub(crate) fn keep_proof(&self, proof: &KeptProof) -> io::Result<()> {
        self.write_json(&self.proof(&proof.token), proof)
    }

    /// Only who has the lease: those of an order that was broken off, too.
    pub(crate) fn clear_proofs(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.folder.join("proofs"))? {
            remove(&entry?.path())?;
        }
        Ok(())
    }

    fn proof(&self, token: &str) -> PathBuf {
        // A token is the CA's text: it names no file by itself.
        self.folder.join("proofs").join(format!("{}.json", digits(token)))
    }

    /// Whether the lease is ours now. `now`: on a clock that only goes forward.
    ///
    /// # Errors
    /// When the store cannot be read, written or locked.
    pub(crate) fn take_lease(&mut self, now: Duration) -> io::Result<bool> {
        let path = self.folder.join("lease.json");
        let seen: Option<Lease> = self.read_json(&path)?;
        let ours = seen.as_ref().is_some_and(|lease| lease.owner == self.owner);
        if !ours && !self.watched.is_free(seen.as_ref(), now) {
            return Ok(false);
        }
        let _locked = self.lock()?;
        // Somebody may have taken it since it was looked at.
        if self.read_json::<Lease>(&path)? != seen {
            return Ok(false);
        }
        self.beat(&path)?;
        Ok(true)
    }

    /// Says that we are still at it; whether the lease is still ours.
    pub(crate) fn keep_lease(&self) -> io::Result<bool> {
        let path = self.folder.join("lease.json");
        let _locked = self.lock()?;
        let lease: Option<Lease> = self.read_json(&path)?;
        if lease.is_none_or(|lease| lease.owner != self.owner) {
            return Ok(false);
        }
        self.beat(&path)?;
        Ok(true)
    }

    /// Under the lock.
    fn beat(&self, path: &Path) -> io::Result<()> {
        self.beat.set(self.beat.get() + 1);
        self.write_json(path, &Lease { owner: self.owner.clone(), beat: self.beat.get() })
    }

    pub(crate) fn give_lease_back(&self) -> io::Result<()> {
        let path = self.folder.join("lease.json");
        let _locked = self.lock()?;
        match self.read_json::<Lease>(&path)? {
            Some(lease) if lease.owner == self.owner => remove(&path),
            _ => Ok(()),
        }
    }

    /// Held for some file operations, never while waiting: the kernel lets go of it if we die.
    fn lock(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600);
        let file = file.open(self.folder.join("lock"))?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    fn write_json<T: Serialize>(&self, path: &Path, value: &T) -> io::Result<()> {
        self.write(path, &serde_json::to_vec_pretty(value)?)
    }

    /// `None`: it is not there, or does not hold what it should, which is as good as nothing.
    fn read_json<T: DeserializeOwned>(&self, path: &Path) -> io::Result<Option<T>> {
        Ok(read(path)?.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// As a whole, and on the disk before it has its name: a certificate counts at the CA, and is
    /// not to be ordered again because the power failed.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let next = path.with_extension(format!("{}.new", digits(&self.owner)));
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&next, path)
    }
}

fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(Some(text))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A folder's name for a CA: its host, for people, and what tells its directories apart.
fn name_of(directory: &str) -> String {
    let rest = directory.strip_prefix("https://").unwrap_or(directory);
    let host = rest.split('/').next().unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    let host: String = host.chars().take(100).map(|c| if fits(c) { c } else { '_' }).collect();
    format!("{host}-{}", digits(directory))
}

/// What names a text in the name of a file.
pub(crate) fn digits(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const CA: &str = "https://ca.test:14000/dir";

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("evenkeel-acme-{name}-{}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }
        fn open(&self, owner: &str) -> Store {
            Store::open(&self.0, CA, owner.into()).unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_kept_is_found_by_all_and_read_by_nobody_else() {
        let folder = Folder::new("kept");
        let (one, two) = (folder.open("one"), folder.open("two"));
        assert!(two.certificate_of("a.test").unwrap().is_none());
        one.keep_certificate("a.test", "PEM").unwrap();
        assert_eq!(two.certificate_of("a.test").unwrap().as_deref(), Some("PEM"));
        let plan = Plan { failures: 3, ..Plan::default() };
        one.keep_plan("a.test", &plan).unwrap();
        assert_eq!(two.plan_of("a.test").unwrap(), plan);
        one.keep_account(&"account").unwrap();
        assert_eq!(two.account::<String>().unwrap().as_deref(), Some("account"));
        two.forget_account().unwrap();
        assert_eq!(one.account::<String>().unwrap(), None);
        let proof = |token: &str| KeptProof {
            http: true,
            domain: "a.test".into(),
            token: token.into(),
            key_authorization: format!("{token}.thumb"),
        };
        one.keep_proof(&proof("../../../etc/passwd")).unwrap();
        one.keep_proof(&proof("A")).unwrap();
        assert_eq!(two.proofs().unwrap(), [proof("../../../etc/passwd"), proof("A")]);
        let mut files = vec![one.folder.clone()];
        while let Some(path) = files.pop() {
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode & 0o077, 0, "{path:?}");
            if path.is_dir() {
                files.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        one.clear_proofs().unwrap();
        assert!(two.proofs().unwrap().is_empty());
    }

    #[test]
    fn what_is_half_a_file_is_none() {
        let folder = Folder::new("half");
        let store = folder.open("one");
        let path = store.certificate("a.test", "json");
        fs::write(&path, "{\"failures\": 1").unwrap();
        assert_eq!(store.plan_of("a.test").unwrap(), Plan::default());
    }

    #[test]
    fn the_lease_is_one_balancers_until_it_is_given_back_or_stands_still() {
        let folder = Folder::new("lease");
        let (mut one, mut two) = (folder.open("one"), folder.open("two"));
        let at = Duration::from_secs;
        assert!(one.take_lease(at(0)).unwrap());
        assert!(one.take_lease(at(0)).unwrap(), "its own again");
        assert!(!two.take_lease(at(100)).unwrap());
        assert!(one.keep_lease().unwrap());
        assert!(!two.take_lease(at(114)).unwrap(), "it moved");
        assert!(!two.take_lease(at(128)).unwrap());
        // One died.
        assert!(two.take_lease(at(129)).unwrap());
        assert!(!one.keep_lease().unwrap());
        one.give_lease_back().unwrap();
        assert!(two.keep_lease().unwrap(), "what is not ours is not given back");
        two.give_lease_back().unwrap();
        assert!(one.take_lease(at(0)).unwrap());
    }

    #[test]
    fn directories_of_one_ca_are_kept_apart() {
        let names = ["https://ca.test/a", "https://ca.test/b", "https://ca.test:1/a"].map(name_of);
        assert!(
            names[0].starts_with("ca.test-") && names[2].starts_with("ca.test_1-"),
            "{names:?}"
        );
        assert_ne!(names[0], names[1]);
    }
}
