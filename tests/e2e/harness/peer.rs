//! Programs of others that tests start.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Child, Command, Stdio};

/// A running program; killed at the end.
pub struct Peer(pub Child);

impl Peer {
    /// Starts it with its output thrown away; it must stay in the foreground.
    pub fn start(command: &mut Command) -> Peer {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Peer(quiet.spawn().unwrap())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the program is, also where Debian keeps those of the system. `None` is noted as a test
/// that could not run.
pub fn find(program: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let found = path.split(':').map(|folder| format!("{folder}/{program}"));
    let found = found.into_iter().find(|file| std::path::Path::new(file).is_file());
    if found.is_none() {
        skip(program, "is not installed");
    }
    found
}

/// Notes that something could not be tested.
pub fn skip(what: &str, why: &str) {
    eprintln!("could not run: {what}: {why}");
    if let Ok(file) = std::env::var("EVENKEEL_SKIPS") {
        let mut file = OpenOptions::new().append(true).create(true).open(file).unwrap();
        writeln!(file, "{what}: {why}").unwrap();
    }
}
