//! What a container says of itself by labels: the keys of a service and of a route, with dots
//! between their levels and `evenkeel.` before them, and a few of their own.
//!
//! The labels are written out as the configuration file that says the same, and that is read like
//! any other. So every key that a file knows is a label, too, with the same checks and messages.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::ListenerName;
use model::spec::{DeclaredSpec, DiscoverSpec, DockerSelector, EndpointSource, Protocol};
use model::vocabulary::Vocabulary;

use crate::defect::{Report, Severity};
use crate::{Source, keys, parse, suggest, tree};

/// What all labels of ours begin with.
pub const LABEL_PREFIX: &str = "evenkeel.";

/// Bytes of all labels of one container that are read.
const LABELS_BYTES_MAX: usize = 64 * 1024;

/// Levels of one label: more than any key has.
const LEVELS_MAX: usize = 12;

/// Keys that are neither of a service nor of a route.
const OWN: [&str; 9] =
    ["enable", "service", "port", "network", "listener", "protocol", "weight", "priority", "zone"];
/// Keys of an endpoint that a label may set.
const ENDPOINT: [&str; 3] = ["weight", "priority", "zone"];
/// Keys of a service that a container cannot speak for.
const REFUSED: [&str; 4] = ["endpoints", "run", "discover", "services"];
/// Routes of their own: `evenkeel.routes.NAME.host`.
const ROUTES: &str = "routes";

/// Whether this value of `evenkeel.protocol` is said of the listener alone. Others are of its
/// service, too: in which version of HTTP its endpoints are spoken to.
pub fn is_listener_protocol(word: &str) -> bool {
    matches!(word, "http" | "tcp" | "udp" | "tls")
}

/// Whether a label of this first level is a key of a service that a container may speak for.
pub fn is_service_key(key: &str) -> bool {
    keys::SERVICE.key(key).is_some() && !REFUSED.contains(&key) && !ENDPOINT.contains(&key)
}

/// What is wrong with a label, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelDefect {
    /// With its prefix; the prefix alone if it is about no single label.
    pub label: String,
    pub message: String,
    pub help: Option<String>,
}

impl std::fmt::Display for LabelDefect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "label {}: {}", self.label, self.message)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

/// Reads the labels of a container of the service `service`; those that do not begin with
/// [`LABEL_PREFIX`] are passed over. Without any label of a route, the service is reached as
/// `SERVICE.localhost`.
pub fn read_labels<'a>(
    service: &str,
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    vocabulary: &Vocabulary,
) -> Result<DeclaredSpec, Vec<LabelDefect>> {
    let mut reader = Reader::default();
    let mut bytes = 0;
    for (name, value) in labels {
        let Some(key) = name.strip_prefix(LABEL_PREFIX) else { continue };
        bytes += name.len() + value.len();
        if bytes > LABELS_BYTES_MAX {
            let limit = LABELS_BYTES_MAX / 1024;
            reader.defect(name, format!("the labels have more than {limit} KiB together"), None);
            break;
        }
        reader.take(key, name, value);
    }
    reader.finish(service, vocabulary)
}

#[derive(Default)]
struct Reader {
    service: Tree,
    endpoint: Tree,
    /// By their names; that of the plain labels is empty.
    routes: BTreeMap<String, Tree>,
    own: BTreeMap<String, String>,
    defects: Vec<LabelDefect>,
}

/// Keys below keys; a leaf knows its label.
#[derive(Default)]
struct Tree {
    leaf: Option<(String, String)>,
    children: BTreeMap<String, Tree>,
}

impl Reader {
    fn defect(&mut self, label: &str, message: impl Into<String>, help: Option<String>) {
        self.defects.push(LabelDefect { label: label.into(), message: message.into(), help });
    }

    fn take(&mut self, key: &str, label: &str, value: &str) {
        let levels: Vec<&str> = key.split('.').collect();
        let first = levels[0];
        if levels.iter().any(|level| level.is_empty()) || levels.len() > LEVELS_MAX {
            return self.defect(
                label,
                "is no key",
                Some("write evenkeel.port, for example".into()),
            );
        }
        if value.chars().any(char::is_control) {
            return self.defect(label, "has a line break or another control character", None);
        }
        if value.trim_start().starts_with(['{', '[']) {
            let report = Report::new(Source { name: label, text: value.trim() });
            if tree::read(value.trim(), &report).is_none() {
                let defects = report.finish().err().map(|defects| defects.0).unwrap_or_default();
                for defect in defects {
                    self.defect(label, defect.message, defect.help);
                }
                return;
            }
        }
        let is_service_key = keys::SERVICE.key(first).is_some() && !REFUSED.contains(&first);
        let is_route_key = keys::ROUTE.key(first).is_some() && !OWN.contains(&first);
        if ENDPOINT.contains(&first) {
            self.endpoint.insert(&levels, label, value);
        } else if OWN.contains(&first) && levels.len() == 1 {
            self.own.insert(first.to_owned(), value.to_owned());
        } else if first == ROUTES && levels.len() > 2 {
            if matches!(levels[2], "service" | "services") {
                return self.defect(label, "a container's routes lead to its own service", None);
            }
            self.routes.entry(levels[1].to_owned()).or_default().insert(&levels[2..], label, value);
        } else if REFUSED.contains(&first) {
            self.defect(label, "cannot be said by a container", None);
        } else if is_route_key && !is_service_key {
            self.routes.entry(String::new()).or_default().insert(&levels, label, value);
        } else if is_service_key {
            self.service.insert(&levels, label, value);
        } else {
            let known = keys::SERVICE.available().chain(keys::ROUTE.available());
            let known = known.map(|key| key.name).filter(|name| !REFUSED.contains(name));
            let help = suggest::nearest(first, known.chain(OWN).chain([ROUTES]));
            let help = help.map(|word| format!("did you mean {LABEL_PREFIX}{word}?"));
            self.defect(label, "is not known", help);
        }
    }

    fn finish(
        mut self,
        service: &str,
        vocabulary: &Vocabulary,
    ) -> Result<DeclaredSpec, Vec<LabelDefect>> {
        let port = self.own.get("port").cloned();
        let port = port.and_then(|text| match text.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => {
                let help = Some("write a number from 1 to 65535".into());
                self.defect("evenkeel.port", format!("{text:?} is no port"), help);
                None
            }
        });
        let protocol = self.own.get("protocol").cloned();
        let protocol = protocol.and_then(|word| match &*word {
            "http" => Some(Protocol::Http),
            // Of the endpoints: clients speak what they like.
            "h2c" | "h2" | "auto" => {
                self.service.insert(&["protocol"], "evenkeel.protocol", &word);
                Some(Protocol::Http)
            }
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            "tls" => Some(Protocol::Tls),
            _ => {
                let help = Some("write http, h2c, h2, auto, tcp, udp or tls".into());
                self.defect("evenkeel.protocol", format!("{word:?} is no protocol"), help);
                None
            }
        });
        if self.routes.is_empty() {
            let host = DeclaredSpec::default_host(service);
            let route = self.routes.entry(String::new()).or_default();
            route.insert(&["host"], "evenkeel.host", &host);
        }
        let text = self.text(service, protocol);
        let source = Source { name: "labels", text: &text.text };
        let parsed = parse(&source, vocabulary);
        if let Err(defects) = &parsed {
            for defect in defects.iter().filter(|defect| defect.severity == Severity::Error) {
                let label = text.labels.get(defect.line - 1).cloned().unwrap_or_default();
                let label = if label.is_empty() { LABEL_PREFIX.into() } else { label };
                self.defects.push(LabelDefect {
                    label,
                    message: defect.message.clone(),
                    help: defect.help.clone(),
                });
            }
        }
        let (Ok(mut checked), []) = (parsed, &*self.defects) else { return Err(self.defects) };
        let listener = checked.spec.listeners.pop_first();
        let name = checked.spec.services.keys().next().cloned();
        let service = name.and_then(|name| checked.spec.services.remove(name.as_str()));
        let (Some((_, listener)), Some(service)) = (listener, service) else {
            return Err(self.defects);
        };
        let endpoint = match &service.source {
            EndpointSource::Static(endpoints) => endpoints.first().cloned(),
            _ => None,
        };
        let mut service = Arc::unwrap_or_clone(service);
        service.source = EndpointSource::Discover(DiscoverSpec::Docker(DockerSelector::default()));
        Ok(DeclaredSpec {
            service,
            routes: Arc::unwrap_or_clone(listener.routes),
            listener: self.own.get("listener").map(|name| ListenerName::new(name.as_str())),
            protocol,
            port,
            network: self.own.get("network").cloned(),
            weight: endpoint.as_ref().map(|e| e.weight).unwrap_or_default(),
            priority: endpoint.as_ref().map_or(0, |e| e.priority),
            zone: endpoint.and_then(|e| e.zone).map(|zone| zone.to_string()),
        })
    }

    /// The configuration file that says the same.
    fn text(&self, service: &str, protocol: Option<Protocol>) -> Text {
        let name = quoted(service);
        let mut text = Text::default();
        text.line(0, "services:", "");
        text.line(1, &format!("{name}:"), "");
        text.line(2, "endpoints:", "");
        // Where it is, is seen elsewhere.
        text.line(2, "- address: \"127.0.0.1:1\"", "");
        text.children(3, &self.endpoint);
        text.children(2, &self.service);
        text.line(0, "listeners:", "");
        text.line(1, "listener:", "");
        text.line(2, "bind: \"127.0.0.1:1\"", "");
        if protocol == Some(Protocol::Tls) {
            // Of what a route can be, less has a meaning there.
            text.line(2, "protocol: tls", "");
        }
        text.line(2, "routes:", "");
        for route in self.routes.values() {
            text.line(2, &format!("- service: {name}"), "");
            text.children(3, route);
        }
        text
    }
}

impl Tree {
    fn insert(&mut self, levels: &[&str], label: &str, value: &str) {
        match levels {
            [] => self.leaf = Some((label.to_owned(), value.to_owned())),
            [first, rest @ ..] => {
                self.children.entry((*first).to_owned()).or_default().insert(rest, label, value);
            }
        }
    }

    fn label(&self) -> &str {
        match &self.leaf {
            Some((label, _)) => label,
            None => self.children.values().next().map_or("", Tree::label),
        }
    }
}

/// The text so far, and which label each of its lines stands for.
#[derive(Default)]
struct Text {
    text: String,
    labels: Vec<String>,
}

impl Text {
    fn line(&mut self, indent: usize, line: &str, label: &str) {
        self.text.push_str(&"  ".repeat(indent));
        self.text.push_str(line);
        self.text.push('\n');
        self.labels.push(label.to_owned());
    }

    fn children(&mut self, indent: usize, tree: &Tree) {
        for (key, child) in &tree.children {
            let key = quoted(key);
            if let Some((label, value)) = &child.leaf {
                // A list or a map is written as in a file. Everything else is text: `*` and `~`
                // mean something at the beginning of a value in a file, and here they must not.
                let value = value.trim();
                let raw = value.starts_with(['{', '[']);
                let value = if raw { value.to_owned() } else { quoted(value) };
                self.line(indent, &format!("{key}: {value}"), label);
            }
            if !child.children.is_empty() {
                // Beside a value of its own this is a key given twice, and reported as such.
                self.line(indent, &format!("{key}:"), child.label());
                self.children(indent + 1, child);
            }
        }
    }
}

/// A JSON string is a YAML string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
