//! `extends`: a service on top of another one, of the same file or of another.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use config::Source;
use config::defect::{Report, Span};
use config::suggest;
use config::tree::{self, Entry, Node, Value, quoted};

use super::keys::{Keys, scalar};
use super::{Input, merge, substitute};

/// Services that extend each other, one after the other.
const CHAIN_MAX: usize = 16;

/// Other files that services are taken from, in all.
const FILES_MAX: usize = 64;

/// Nodes that are copied in all, so that a few services that extend each other, with much in each,
/// cannot fill the memory.
const NODES_MAX: usize = 1_000_000;

/// Reads other files, each once, for all services of a project.
pub(super) struct Extender<'a> {
    input: &'a Input<'a>,
    report: &'a Report<'a>,
    files: BTreeMap<PathBuf, Option<Rc<Node>>>,
    nodes: usize,
}

/// Where a service stands.
#[derive(Clone, PartialEq)]
struct Place {
    file: PathBuf,
    service: String,
}

impl<'a> Extender<'a> {
    pub(super) fn new(input: &'a Input<'a>, report: &'a Report<'a>) -> Self {
        Self { input, report, files: BTreeMap::new(), nodes: 0 }
    }

    /// Puts what they extend below all services of a file.
    pub(super) fn resolve(&mut self, root: &mut Node, file: &Path) {
        let Some(services) = value_mut(root, "services") else { return };
        let Value::Map(entries) = &services.value else { return };
        if !entries.iter().any(|entry| value(&entry.value, "extends").is_some()) {
            return;
        }
        if !self.has_room(services) {
            return;
        }
        let before = services.clone();
        let Value::Map(entries) = &mut services.value else { return };
        for entry in entries {
            if value(&entry.value, "extends").is_none() {
                continue;
            }
            let place = Place { file: file.to_owned(), service: entry.key.to_string() };
            match self.resolved(&before, place, entry.key_span, &mut Vec::new()) {
                Some(resolved) => entry.value = resolved,
                None => drop(take(&mut entry.value, "extends")),
            }
        }
    }

    /// `None`: it was said why not.
    fn resolved(
        &mut self,
        services: &Node,
        place: Place,
        span: Span,
        chain: &mut Vec<Place>,
    ) -> Option<Node> {
        if chain.contains(&place) || chain.len() >= CHAIN_MAX {
            let names: Vec<String> = chain.iter().map(|place| quoted(&place.service)).collect();
            let message = match chain.len() < CHAIN_MAX {
                true => format!("these services extend each other: {}", names.join(", ")),
                false => format!("more than {CHAIN_MAX} services that extend each other"),
            };
            self.report.error(span, message);
            return None;
        }
        let Some(found) = value(services, &place.service) else {
            let known: Vec<&str> = names(services).collect();
            let message = format!("there is no service {} to extend", quoted(&place.service));
            let help = suggest::help(&place.service, known.iter().copied(), "services");
            self.report.error_help(span, message, help);
            return None;
        };
        if !self.has_room(found) {
            return None;
        }
        let mut own = found.clone();
        let Some(extends) = take(&mut own, "extends") else { return Some(own) };
        let (service, file) = self.target(&extends)?;
        chain.push(place.clone());
        let base = match file {
            None => {
                let next = Place { file: place.file, service };
                self.resolved(services, next, extends.span, chain)
            }
            Some(file) => {
                let folder = place.file.parent().unwrap_or(Path::new("/"));
                let file = below(folder, &file);
                let root = self.load(&file, extends.span)?;
                let services = value(&root, "services").unwrap_or(&root);
                let next = Place { file: file.clone(), service };
                let base = self.resolved(services, next, extends.span, chain);
                base.map(|mut base| {
                    absolute(&mut base, file.parent().unwrap_or(Path::new("/")));
                    base
                })
            }
        };
        chain.pop();
        let mut base = base?;
        merge::services(&mut base, own);
        Some(base)
    }

    /// Service and file.
    fn target(&self, extends: &Node) -> Option<(String, Option<String>)> {
        if let Some(service) = scalar(extends).filter(|service| !service.is_empty()) {
            return Some((service.to_owned(), None));
        }
        let keys = Keys::open(self.report, "`extends`".into(), extends);
        let (service, file) = (keys.text("service"), keys.text("file"));
        keys.finish(&[], &[]);
        let help = "write `extends: { service: NAME }`, with `file: FILE` for that of another file";
        match service {
            Some(service) => Some((service, file)),
            None => {
                self.report.error_help(extends.span, "`extends` names no service", help);
                None
            }
        }
    }

    /// A file, its variables put in.
    fn load(&mut self, path: &Path, span: Span) -> Option<Rc<Node>> {
        if let Some(known) = self.files.get(path) {
            return known.clone();
        }
        let root = if self.files.len() < FILES_MAX {
            self.read(path, span)
        } else {
            self.report.error(span, format!("services of more than {FILES_MAX} other files"));
            None
        };
        self.files.insert(path.to_owned(), root.clone());
        root
    }

    fn read(&self, path: &Path, span: Span) -> Option<Rc<Node>> {
        let shown = path.display().to_string();
        let text = match (self.input.read_file)(path) {
            Ok(text) => text,
            Err(error) => {
                self.report.error(span, format!("cannot read {shown}: {error}"));
                return None;
            }
        };
        let base = self.report.include(Source { name: &shown, text: &text })?;
        let mut root = tree::read_tagged(&text, base, self.report)?;
        substitute(&mut root, self.input, self.report);
        Some(Rc::new(root))
    }

    /// Counts what is copied.
    fn has_room(&mut self, node: &Node) -> bool {
        self.nodes += node.nodes();
        if self.nodes > NODES_MAX {
            let message = format!("more than {NODES_MAX} values, with `extends` written out");
            self.report.error(node.span, message);
        }
        self.nodes <= NODES_MAX
    }
}

fn names(node: &Node) -> impl Iterator<Item = &str> {
    let entries: &[Entry] = match &node.value {
        Value::Map(entries) => entries,
        _ => &[],
    };
    entries.iter().map(|entry| &*entry.key)
}

fn value<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    let Value::Map(entries) = &node.value else { return None };
    entries.iter().find(|entry| &*entry.key == key).map(|entry| &entry.value)
}

fn value_mut<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
    let Value::Map(entries) = &mut node.value else { return None };
    entries.iter_mut().find(|entry| &*entry.key == key).map(|entry| &mut entry.value)
}

fn take(node: &mut Node, key: &str) -> Option<Node> {
    let Value::Map(entries) = &mut node.value else { return None };
    let at = entries.iter().position(|entry| &*entry.key == key)?;
    Some(entries.remove(at).value)
}

/// Paths of a service are relative to the file that it stands in.
fn absolute(service: &mut Node, folder: &Path) {
    if let Some(build) = value_mut(service, "build") {
        match &mut build.value {
            Value::Scalar { .. } => in_folder(build, folder),
            Value::Map(entries) if entries.iter().all(|entry| &*entry.key != "context") => {
                let text = folder.display().to_string().into();
                let value = Value::Scalar { text, plain: false };
                let node = Node { span: build.span, value, tag: None };
                entries.push(Entry { key: "context".into(), key_span: build.span, value: node });
            }
            _ => {
                value_mut(build, "context").into_iter().for_each(|node| in_folder(node, folder));
            }
        }
    }
    if let Some(files) = value_mut(service, "env_file") {
        for item in items(files) {
            match &item.value {
                Value::Map(_) => {
                    value_mut(item, "path").into_iter().for_each(|node| in_folder(node, folder));
                }
                _ => in_folder(item, folder),
            }
        }
    }
    for item in value_mut(service, "volumes").into_iter().flat_map(items) {
        let is_bind = value(item, "type").and_then(scalar) == Some("bind");
        match &mut item.value {
            Value::Scalar { text, .. } if text.starts_with('.') => {
                let (source, rest) = text.split_once(':').unwrap_or((text, ""));
                *text = format!("{}:{rest}", below(folder, source).display()).into();
            }
            Value::Map(_) if is_bind => {
                value_mut(item, "source").into_iter().for_each(|node| in_folder(node, folder));
            }
            _ => {}
        }
    }
}

fn items(node: &mut Node) -> &mut [Node] {
    match node.value {
        Value::List(_) => match &mut node.value {
            Value::List(items) => items,
            _ => &mut [],
        },
        _ => std::slice::from_mut(node),
    }
}

/// Not those of the home folder, and not addresses.
fn in_folder(node: &mut Node, folder: &Path) {
    if let Value::Scalar { text, .. } = &mut node.value
        && !text.starts_with('~')
        && !text.contains("://")
    {
        *text = below(folder, text).display().to_string().into();
    }
}

fn below(folder: &Path, path: &str) -> PathBuf {
    let mut whole = PathBuf::new();
    for part in folder.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(whole.pop()),
            part => whole.push(part),
        }
    }
    whole
}
