//! `evenkeel trust`: the CA for development, in what the system and browsers trust. The system's
//! own lists stay as they are: the verb sees copies of them.

use std::fs;
use std::process::Command;

use super::super::harness::peer::{find, skip};
use super::super::harness::program::{BINARY, Folder};
use super::super::harness::{Evenkeel, until};
use super::*;

/// Runs a script with the lists of the system replaced by copies that are kept in `folder`.
fn beside(folder: &Folder, script: &str) -> (bool, String) {
    let script = format!(
        "set -e\n\
         mount --bind {0}/added /usr/local/share/ca-certificates\n\
         mount --bind {0}/certs /etc/ssl/certs\n{script}",
        folder.0.display()
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .env("HOME", folder.join("home"))
        .env("XDG_DATA_HOME", folder.join("data"))
        .env_remove("SUDO_USER")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn the_system_and_browsers_trust_the_ca_for_development_and_no_more() {
    let (Some(certutil), Some(_)) = (find("certutil"), find("update-ca-certificates")) else {
        return;
    };
    if !Path::new("/usr/local/share/ca-certificates").is_dir() || !is_root() {
        skip("evenkeel trust", "needs root, for a view of the system's certificates of its own");
        return;
    }
    let folder = Folder::new();
    let nss = folder.join("home/.pki/nssdb");
    for name in ["added", "data", "home/.pki/nssdb", "home/.mozilla/firefox/x.default"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    let copy = Command::new("cp").args(["-a", "/etc/ssl/certs"]).arg(folder.join("certs")).status();
    assert!(copy.unwrap().success());
    let profile = folder.join("home/.mozilla/firefox/x.default");
    for database in [&nss, &profile] {
        let at = format!("sql:{}", database.display());
        let made = Command::new(&certutil).args(["-N", "--empty-password", "-d", &at]).status();
        assert!(made.unwrap().success());
    }
    let (mirror, web) = (mirror(), local());
    let text = format!(
        "listeners: {{ web: {{ bind: {web}, service: web, tls: {{ self_signed: true }} }} }}\n\
         services: {{ web: {{ endpoints: [ {} ] }} }}\n",
        mirror.address
    );
    let admin = local();
    let config = Folder::new();
    let file = config.join("evenkeel.yaml");
    fs::write(&file, format!("admin: {{ bind: {admin} }}\n{text}")).unwrap();
    let mut command = Command::new(BINARY);
    command.args(["run", "-c"]).arg(&file).env("XDG_DATA_HOME", folder.join("data"));
    let program = Evenkeel::start(command, admin, config);
    program.wait_ready();
    until("it is told how", || program.log().contains("evenkeel trust"));
    let ask = format!("curl -sS https://localhost:{}/", web.port());
    let (ok, said) = beside(&folder, &ask);
    assert!(!ok && said.contains("certificate"), "{said}");
    // It is said what was done, and is done.
    let (ok, said) = beside(&folder, &format!("{BINARY} trust"));
    assert!(ok, "{said}");
    let system = "system: trusted: /usr/local/share/ca-certificates/evenkeel-development-CA-";
    assert!(said.contains(system), "{said}");
    for database in [&nss, &profile] {
        assert!(said.contains(&format!("browser: trusted: {}", database.display())), "{said}");
    }
    let (ok, said) = beside(&folder, &ask);
    assert!(ok && said.starts_with("GET / HTTP"), "{said}");
    let listed = || {
        let list = |database: &std::path::PathBuf| {
            let at = format!("sql:{}", database.display());
            let output = Command::new(&certutil).args(["-L", "-d", &at]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines().any(|l| l.starts_with("evenkeel development CA") && l.contains("C,,"))
        };
        [list(&nss), list(&profile)]
    };
    assert_eq!(listed(), [true, true]);
    // A second time changes nothing, and `--remove` all of it.
    let (ok, said) = beside(&folder, &format!("{BINARY} trust && {ask}"));
    assert!(ok, "{said}");
    let (ok, said) = beside(&folder, &format!("{BINARY} trust --remove"));
    assert!(ok && said.contains("system: trusted no more"), "{said}");
    assert_eq!(listed(), [false, false]);
    let (ok, said) = beside(&folder, &ask);
    assert!(!ok && said.contains("certificate"), "{said}");
    let (ok, said) = beside(&folder, &format!("{BINARY} trust --remove"));
    assert!(ok && said.contains("system: it was not trusted"), "{said}");
    let (ok, said) = beside(&folder, &format!("SUDO_USER=somebody {BINARY} trust"));
    assert!(!ok && said.contains("run this without sudo"), "{said}");
}

/// By what the kernel says of us.
fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uid.is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"))
}
