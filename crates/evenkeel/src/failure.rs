use std::fmt;
use std::process::ExitCode;

use anstream::eprintln;

use crate::output::{BOLD_RED, RESET};

/// Why a verb did not do its job. Exit status 1 says that the answer is no or that the job
/// failed, 2 that the verb was used wrongly.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Exit status 1, with this message.
    Job(String),
    /// Exit status 1; everything was said already.
    Said,
    /// Exit status 2, with this message.
    Usage(String),
}

impl Failure {
    pub(crate) fn report(self) -> ExitCode {
        let (code, message) = match self {
            Failure::Said => return ExitCode::from(1),
            Failure::Job(message) => (1, message),
            Failure::Usage(message) => (2, message),
        };
        eprintln!("{BOLD_RED}error:{RESET} {message}");
        ExitCode::from(code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Job(message) | Failure::Usage(message) => f.write_str(message),
            Failure::Said => Ok(()),
        }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Failure::Job(message)
    }
}
