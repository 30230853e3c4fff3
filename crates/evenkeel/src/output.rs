//! Standard output: colours only on terminals, and no panic when the reader goes away
//! (`evenkeel schema | head`).

use std::io::{self, Write};

use crate::failure::Failure;

// ECMA-48 "select graphic rendition"; `anstream` removes them where nobody would see colours.
pub(crate) const RESET: &str = "\x1b[0m";
pub(crate) const BOLD: &str = "\x1b[1m";
pub(crate) const BOLD_RED: &str = "\x1b[1;31m";
pub(crate) const RED: &str = "\x1b[31m";
pub(crate) const GREEN: &str = "\x1b[32m";
pub(crate) const YELLOW: &str = "\x1b[33m";

/// Writes `text` and a line end.
pub(crate) fn say(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        // Whoever read has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::Job(format!("cannot write to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

pub(crate) fn say_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::Job(format!("cannot write JSON: {error}")))?;
    say(&text)
}
