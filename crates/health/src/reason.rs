use std::fmt;

/// Why an endpoint is in its state, as a person reads it in `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `health: off`.
    Off,
    NoCheckYet,
    Passed,
    /// Good checks again, but not yet enough of them.
    Recovering {
        passed: u32,
        needed: u32,
    },
    Failed {
        error: Box<str>,
        in_a_row: u32,
    },
    /// Taken out on the evidence of traffic, before a check noticed.
    Traffic {
        failures: u32,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Off => f.write_str("not checked (health: off)"),
            Reason::NoCheckYet => f.write_str("no check yet"),
            Reason::Passed => f.write_str("check passed"),
            Reason::Recovering { passed, needed } => {
                write!(f, "check passed ({passed} of {needed})")
            }
            Reason::Failed { error, in_a_row } => write!(f, "check: {error} ({in_a_row} in a row)"),
            Reason::Traffic { failures } => write!(f, "traffic: {failures} failures in a row"),
        }
    }
}
