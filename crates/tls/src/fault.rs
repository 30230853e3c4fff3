use std::fmt;
use std::path::Path;
use std::sync::Arc;

use model::spec::{ListenerSpec, ServerTlsSpec, ServiceSpec};

use crate::{Client, Server};

/// The keys that lead to a value of the configuration, from the outermost; places in lists as
/// numbers from 0: `listeners`, `web`, `tls`, `certificates`, `0`, `key`.
pub type Place = Vec<String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It cannot be used.
    Error,
    /// It can, and clients may not take it.
    Warning,
}

/// What is wrong with a file that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub severity: Severity,
    pub place: Place,
    pub message: String,
    /// What to do about it; may be empty.
    pub help: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place.join("."), self.message)
    }
}

impl Fault {
    pub(crate) fn error(
        place: &[String],
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        let severity = Severity::Error;
        Self { severity, place: place.to_vec(), message: message.into(), help: help.into() }
    }

    pub(crate) fn warning(
        place: &[String],
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, message, help) }
    }

    pub(crate) fn unreadable(place: &[String], path: &Path, error: &std::io::Error) -> Self {
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => "paths count from the directory of the configuration",
            std::io::ErrorKind::PermissionDenied => "let the user that runs this program read it",
            _ => "",
        };
        Self::error(
            place,
            format!("cannot read {}: {}", path.display(), model::reason(error).to_lowercase()),
            help,
        )
    }
}

pub(crate) fn below(place: &[String], key: &str) -> Place {
    place.iter().cloned().chain([key.to_owned()]).collect()
}

pub(crate) fn listener_place(name: &str) -> Place {
    ["listeners", name, "tls"].map(str::to_owned).to_vec()
}

pub(crate) fn service_place(name: &str) -> Place {
    ["services", name, "tls"].map(str::to_owned).to_vec()
}

/// Reads every file that the TLS sections of these name, and answers what is wrong with them.
/// Certificates for development are made only where they are used.
pub fn check<'a>(
    listeners: impl IntoIterator<Item = &'a ListenerSpec>,
    services: impl IntoIterator<Item = &'a Arc<ServiceSpec>>,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    for listener in listeners {
        if let Some(tls) = &listener.tls {
            let tls = ServerTlsSpec { self_signed: Vec::new(), ..tls.clone() };
            let issued = Arc::default();
            match Server::new(listener.name.as_str(), &tls, &[], None, issued) {
                Ok((_, warnings)) => faults.extend(warnings),
                Err(errors) => faults.extend(errors),
            }
        }
    }
    for service in services {
        if let Some(tls) = &service.tls {
            match Client::new(service.name.as_str(), tls) {
                Ok((_, warnings)) => faults.extend(warnings),
                Err(errors) => faults.extend(errors),
            }
        }
    }
    faults
}
