//! What the watcher tells the balancer: one line of JSON each.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Container, Usage};

/// Bytes of one line. A container with all that is taken of it has less, even if each byte of it
/// must be written as six.
pub const LINE_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The engine answers; its name and version. What there is follows, up to
    /// [`Message::Synced`].
    Connected { engine: String },
    /// This container is so now, whatever it was.
    Container(Box<Container>),
    /// It is no more.
    Gone { id: String },
    /// Everything there is was told since [`Message::Connected`]: what was not is no more.
    /// `networks` are those that the watcher itself is in, if it is in a container of this
    /// engine.
    Synced {
        #[serde(skip_serializing_if = "Option::is_none", default)]
        networks: Option<BTreeSet<String>>,
    },
    /// The engine does not answer, and why. Nothing is known to have changed.
    Lost { reason: String },
    /// What a container uses.
    Usage { id: String, usage: Usage },
}

impl Message {
    /// With its line break.
    pub fn to_line(&self) -> Vec<u8> {
        // Maps with text as keys, and numbers: this cannot fail.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// `None`: it is no message of this version.
    pub fn from_line(line: &[u8]) -> Option<Self> {
        if line.len() > LINE_BYTES_MAX {
            return None;
        }
        serde_json::from_slice(line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Health, Phase, Port, Published, Transport};

    #[test]
    fn what_is_told_is_understood() {
        let port = Port { transport: Transport::Tcp, number: 80 };
        let container = Container {
            id: "4c".repeat(32),
            name: "web-1".into(),
            labels: [("a".to_owned(), "line\nbreak \u{1f980}".to_owned())].into(),
            networks: [("bridge".to_owned(), "172.17.0.2".parse().unwrap())].into(),
            ports: vec![port],
            published: vec![Published { port, host: "::".parse().unwrap(), host_port: 8080 }],
            phase: Phase::Running,
            health: Health::Starting,
            started_at: 1_763_000_000_123_456_789,
            ..Container::default()
        };
        for message in [
            Message::Connected { engine: "Docker 20.10".into() },
            Message::Container(Box::new(container)),
            Message::Gone { id: "x".into() },
            Message::Synced { networks: None },
            Message::Synced { networks: Some(["front".to_owned()].into()) },
            Message::Lost { reason: "connection refused".into() },
            Message::Usage { id: "x".into(), usage: Usage { cpus: 0.5, ..Usage::default() } },
        ] {
            let line = message.to_line();
            assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
            assert_eq!(Message::from_line(line.trim_ascii_end()), Some(message));
        }
        assert_eq!(Message::from_line(b"{}"), None);
        assert_eq!(Message::from_line(&vec![b' '; LINE_BYTES_MAX + 1]), None);
    }
}
