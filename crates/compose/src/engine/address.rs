//! Where an engine is, as `DOCKER_HOST` says it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where the engine is if nothing says otherwise.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `unix:///var/run/docker.sock`
    Unix(PathBuf),
    /// `tcp://HOST:PORT`
    Tcp { host: String, port: u16 },
    /// `ssh://[USER@]HOST[:PORT]`; the `docker` program must be there.
    Ssh { user: Option<String>, host: String, port: Option<u16> },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Address::Ssh { user, host, port } => {
                let user = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                write!(f, "ssh://{user}{host}{port}")
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    pub address: Address,
    /// Folder of `ca.pem`, `cert.pem` and `key.pem`; `None`: no TLS.
    pub tls: Option<PathBuf>,
}

impl EngineOptions {
    /// Of the variables of the `docker` command: `DOCKER_HOST`, `DOCKER_TLS_VERIFY`,
    /// `DOCKER_CERT_PATH`. `host` goes before the first.
    pub fn read(
        host: Option<&str>,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        let host = host.or_else(|| variable("DOCKER_HOST").map(String::as_str));
        let address = match host {
            None => Address::Unix(DEFAULT_SOCKET.into()),
            Some(text) => address(text)?,
        };
        let tls = variable("DOCKER_TLS_VERIFY").map(|_| match variable("DOCKER_CERT_PATH") {
            Some(path) => PathBuf::from(path),
            None => {
                let home = variable("HOME").map(String::as_str).unwrap_or("/");
                PathBuf::from(home).join(".docker")
            }
        });
        let tls = tls.filter(|_| matches!(address, Address::Tcp { .. }));
        Ok(Self { address, tls })
    }
}

fn address(text: &str) -> Result<Address, String> {
    let wrong = || {
        format!(
            "{text:?} is no address of an engine; write unix:///run/docker.sock, \
             tcp://host:2376 or ssh://user@host"
        )
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let rest = rest.trim_end_matches('/');
    let split = |rest: &str| -> Result<(String, Option<u16>), String> {
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, Some(port.parse().map_err(|_| wrong())?))
            }
            _ => (rest, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        // It becomes a word of a command line, or part of a header.
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
        if host.is_empty() || host.starts_with('-') || !host.chars().all(fits) {
            return Err(wrong());
        }
        Ok((host.to_owned(), port))
    };
    match scheme {
        "unix" if !rest.is_empty() => Ok(Address::Unix(rest.into())),
        "tcp" | "http" | "https" => {
            let (host, port) = split(rest)?;
            Ok(Address::Tcp { host, port: port.unwrap_or(2375) })
        }
        "ssh" => {
            let (user, rest) = match rest.split_once('@') {
                Some((user, rest)) => (Some(user.to_owned()), rest),
                None => (None, rest),
            };
            let fits = |user: &String| {
                !user.is_empty()
                    && !user.starts_with('-')
                    && user.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
            };
            if user.as_ref().is_some_and(|user| !fits(user)) {
                return Err(wrong());
            }
            let (host, port) = split(rest)?;
            Ok(Address::Ssh { user, host, port })
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_docker_writes_them() {
        for (text, expected) in [
            ("unix:///run/docker.sock", Some("unix:///run/docker.sock")),
            ("tcp://10.0.0.7:2376", Some("tcp://10.0.0.7:2376")),
            ("tcp://host", Some("tcp://host:2375")),
            ("tcp://[::1]:1", Some("tcp://::1:1")),
            ("ssh://me@host", Some("ssh://me@host")),
            ("ssh://host:22/", Some("ssh://host:22")),
            ("ssh://-oProxyCommand=x", None),
            ("ssh://-x@host", None),
            ("ssh://a b@host", None),
            ("tcp://", None),
            ("tcp://a:b", None),
            ("/run/docker.sock", None),
            ("npipe://x", None),
        ] {
            let found = address(text).ok().map(|address| address.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn variables_of_the_docker_command() {
        let read = |host, variables: &[(&str, &str)]| {
            let variables = variables.iter().map(|(k, v)| ((*k).into(), (*v).into()));
            EngineOptions::read(host, &variables.collect()).unwrap()
        };
        assert_eq!(read(None, &[]).address.to_string(), "unix:///var/run/docker.sock");
        let tls = [("DOCKER_HOST", "tcp://h:1"), ("DOCKER_TLS_VERIFY", "1"), ("HOME", "/home/me")];
        assert_eq!(read(None, &tls).tls, Some("/home/me/.docker".into()));
        assert_eq!(read(Some("unix:///x"), &tls).tls, None);
    }
}
