use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tls::LocalCa;

use super::Verb;
use crate::failure::Failure;
use crate::output::say;

/// Make this system and its browsers trust the certificates for development (`self_signed`)
///
/// Installs the CA of this user, which is made if there is none, where Debian and its like keep
/// those of the system, and in the databases of Firefox and Chromium that are there. Asks for
/// root's rights by sudo.
#[derive(clap::Args)]
pub(super) struct Trust {
    /// Trust them no more
    #[arg(long)]
    remove: bool,
}

impl Verb for Trust {
    const NAME: &'static str = "trust";

    fn run(self) -> Result<(), Failure> {
        if std::env::var_os("SUDO_USER").is_some() {
            return Err(Failure::Usage(
                "the CA is that of who starts the balancer: run this without sudo, it asks by \
                 itself"
                    .into(),
            ));
        }
        let ca = LocalCa::open().map_err(|error| Failure::Job(error.to_string()))?;
        let work = Work { ca: ca.path().to_owned(), name: ca.name(), remove: self.remove };
        let mut said = Said::default();
        work.system(&mut said);
        work.databases(&mut said);
        if !self.remove {
            let path = work.ca.display();
            said.line(&format!(
                "others are told by themselves: curl --cacert {path}, \
                 NODE_EXTRA_CA_CERTS={path}, REQUESTS_CA_BUNDLE={path}"
            ));
        }
        say(said.text.trim_end())?;
        if said.failed { Err(Failure::Said) } else { Ok(()) }
    }
}

/// Where Debian's `update-ca-certificates` takes what an administrator adds (its man page).
const SYSTEM: &str = "/usr/local/share/ca-certificates";
const UPDATE: &str = "update-ca-certificates";

struct Work {
    ca: PathBuf,
    /// Tells it from those of other users, and from the one before.
    name: String,
    remove: bool,
}

#[derive(Default)]
struct Said {
    text: String,
    failed: bool,
}

impl Said {
    fn line(&mut self, line: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn failure(&mut self, line: &str) {
        self.failed = true;
        self.line(line);
    }
}

impl Work {
    fn system(&self, said: &mut Said) {
        let file = Path::new(SYSTEM).join(format!("{}.crt", self.name.replace(' ', "-")));
        if !Path::new(SYSTEM).is_dir() || find(UPDATE).is_none() {
            said.failure(&format!(
                "system: neither {SYSTEM} nor {UPDATE} is here; install ca-certificates, or add {} \
                 to what this system trusts as its manual says",
                self.ca.display()
            ));
            return;
        }
        let (ca, to) = (self.ca.display().to_string(), file.display().to_string());
        if self.remove && !file.exists() {
            said.line("system: it was not trusted");
            return;
        }
        let first: &[&str] = match self.remove {
            true => &["rm", "-f", &to],
            false => &["install", "-m", "644", &ca, &to],
        };
        // Of removed ones it drops the links only if it begins afresh.
        let second: &[&str] = if self.remove { &[UPDATE, "--fresh"] } else { &[UPDATE] };
        for command in [first, second] {
            if let Err(error) = as_root(command) {
                said.failure(&format!("system: `{}`: {error}", command.join(" ")));
                return;
            }
        }
        let did = if self.remove { "trusted no more" } else { "trusted" };
        said.line(&format!("system: {did}: {to}"));
    }

    /// Browsers keep their own lists, in the databases of NSS.
    fn databases(&self, said: &mut Said) {
        let databases = databases();
        if databases.is_empty() {
            said.line("browsers: none of this user has a database yet");
            return;
        }
        let Some(certutil) = find("certutil") else {
            said.failure("browsers: certutil is missing; install libnss3-tools");
            return;
        };
        for database in databases {
            let shown = database.display().to_string();
            let at = format!("sql:{shown}");
            let ca = self.ca.display().to_string();
            let has = run(&certutil, &["-L", "-d", &at, "-n", &self.name]).is_ok();
            let done = match (self.remove, has) {
                (true, false) => {
                    said.line(&format!("browser: it was not trusted: {shown}"));
                    continue;
                }
                (true, true) => run(&certutil, &["-D", "-d", &at, "-n", &self.name]),
                // C: a CA that is trusted for servers.
                (false, _) => {
                    run(&certutil, &["-A", "-d", &at, "-t", "C,,", "-n", &self.name, "-i", &ca])
                }
            };
            let did = if self.remove { "trusted no more" } else { "trusted" };
            match done {
                Ok(()) => said.line(&format!("browser: {did}: {shown}")),
                Err(error) => said.failure(&format!("browser: {shown}: {error}")),
            }
        }
    }
}

/// Those of Chromium and its like, and of each profile of Firefox.
fn databases() -> Vec<PathBuf> {
    let Some(home) = std::env::var_os("HOME").map(PathBuf::from) else { return Vec::new() };
    let mut folders = vec![home.join(".pki/nssdb"), home.join("snap/chromium/current/.pki/nssdb")];
    for profiles in [".mozilla/firefox", "snap/firefox/common/.mozilla/firefox"] {
        let entries = std::fs::read_dir(home.join(profiles)).into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        found.sort();
        folders.extend(found);
    }
    folders.retain(|folder| folder.join("cert9.db").is_file());
    folders
}

fn as_root(command: &[&str]) -> Result<(), String> {
    if rustix::process::geteuid().is_root() {
        let (program, arguments) = command.split_first().ok_or("nothing to run")?;
        let program = find(program).ok_or("it is not installed")?;
        return run(&program, arguments);
    }
    let sudo = find("sudo").ok_or("it has to be run as root, and there is no sudo")?;
    run(&sudo, command)
}

/// Its last line of complaint is the error.
fn run(program: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(text.trim().lines().last().map_or_else(|| output.status.to_string(), str::to_owned))
}

/// In the search path, and where Debian keeps the system's programs.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}
