use std::path::{Path, PathBuf};
use std::sync::Arc;

use anstream::eprintln;
use config::Checked;

use super::Verb;
use crate::control::{Reader, read_file};
use crate::failure::Failure;
use crate::output::say;

/// Check a configuration file and say what is wrong, where, and what to write instead
#[derive(clap::Args)]
pub(super) struct Check {
    /// The configuration file
    #[arg(short, long = "config", value_name = "FILE")]
    config: PathBuf,
}

impl Verb for Check {
    const NAME: &'static str = "check";

    fn run(self) -> Result<(), Failure> {
        let text = read_file(&self.config)?.into();
        let name = self.config.to_string_lossy();
        let (checked, _) = check(&self.config, &text)?;
        for warning in &checked.warnings {
            eprintln!("{warning}");
        }
        let listeners = counted(checked.spec.listeners.len(), "listener");
        let services = counted(checked.spec.services.len(), "service");
        say(&format!("{name}: ok ({listeners}, {services})"))
    }
}

/// From which paths in the configuration count.
pub(super) fn directory(file: &Path) -> Result<PathBuf, Failure> {
    let directory = match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    directory.canonicalize().map_err(|error| {
        Failure::Job(format!("cannot find the directory {}: {error}", directory.display()))
    })
}

/// The checked configuration, and what reads those that come after it; otherwise its defects are
/// printed.
pub(super) fn check(file: &Path, text: &Arc<str>) -> Result<(Checked, Reader), Failure> {
    let mut reader = Reader::new(directory(file)?);
    match reader.read(&file.to_string_lossy(), text) {
        Ok(checked) => Ok((checked, reader)),
        Err(defects) => {
            eprintln!("{defects}");
            Err(Failure::Said)
        }
    }
}

fn counted(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}
