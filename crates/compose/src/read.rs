//! Reads Compose files: text to a checked [`Project`], or every defect with its place.
//!
//! What the specification knows and this program does not do is reported, too: as a warning where
//! the service is the same without it, otherwise as an error. `x-` keys are passed over.

mod extends;
mod given;
mod keys;
mod merge;
mod network;
mod passed;
mod ports;
mod service;
mod volume;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use config::Source;
use config::defect::{Defect, Defects, Report, Span};
use config::tree::{self, Entry, Node, Value, quoted};

use crate::dotenv;
use crate::interpolate::interpolate;
use crate::project::{Network, Project};
use extends::Extender;
use given::{Kind, Origins};
use keys::Keys;

pub(crate) use keys::json;

/// What a file is read with.
pub struct Input<'a> {
    pub source: Source<'a>,
    /// Absolute, links resolved.
    pub path: PathBuf,
    /// Files that are merged on top of it, one after the other. Their paths are relative to the
    /// first file's folder.
    pub further: Vec<File>,
    /// Of `-p`, else the file's `name`, else that of its folder.
    pub project: Option<String>,
    /// Variables: those of the process over those of `.env`.
    pub environment: BTreeMap<String, String>,
    /// Services of these profiles are there, too.
    pub profiles: BTreeSet<String>,
    /// Named by the user: there, whatever their profiles.
    pub named: BTreeSet<String>,
    /// Reads a file that `env_file` or `extends` names.
    pub read_file: &'a dyn Fn(&Path) -> std::io::Result<String>,
}

/// One more file.
pub struct File {
    /// Absolute, links resolved.
    pub path: PathBuf,
    pub text: String,
}

/// A file without errors.
#[derive(Debug)]
pub struct Checked {
    pub project: Project,
    pub warnings: Vec<Defect>,
}

const UNSUPPORTED: [&str; 2] = ["include", "models"];

/// Reads a file. All defects are reported at once where possible.
pub fn read(input: &Input<'_>) -> Result<Checked, Defects> {
    let report = Report::new(input.source);
    let mut extender = Extender::new(input, &report);
    let mut root = tree::read_tagged(input.source.text, 0, &report);
    if let Some(root) = &mut root {
        substitute(root, input, &report);
        extender.resolve(root, &input.path);
    }
    for File { path, text } in &input.further {
        let name = path.display().to_string();
        let Some(base) = report.include(Source { name: &name, text }) else {
            report.error(Span::default(), "the files are too long to be read together");
            break;
        };
        let Some(mut over) = tree::read_tagged(text, base, &report) else { continue };
        substitute(&mut over, input, &report);
        extender.resolve(&mut over, path);
        if let Some(root) = &mut root {
            merge::files(root, over);
        }
    }
    if let Some(root) = &mut root {
        merge::settle(root, &report);
    }
    let project = root.as_ref().map(|root| project(root, input, &report)).unwrap_or_default();
    let warnings = report.finish()?;
    Ok(Checked { project, warnings })
}

fn substitute(node: &mut Node, input: &Input<'_>, report: &Report<'_>) {
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| substitute(item, input, report)),
        Value::Map(entries) => {
            entries.iter_mut().for_each(|entry| substitute(&mut entry.value, input, report));
        }
        Value::Scalar { text, .. } if text.contains('$') => {
            match interpolate(text, &input.environment) {
                Ok((value, unset)) => {
                    for name in unset {
                        let at = text.find(&name).unwrap_or(0);
                        let span = report.inside(node.span, text, at);
                        let message =
                            format!("the variable {name} is not set, and counts as empty");
                        let help = format!("set it, or write ${{{name}:-default}}");
                        report.warning(span, message, help);
                    }
                    *text = value.into();
                }
                Err(refused) => {
                    let span = report.inside(node.span, text, refused.at);
                    report.error_help(span, refused.message, refused.help);
                }
            }
        }
        Value::Scalar { .. } => {}
    }
}

/// What the sections of one file share.
struct Context<'a> {
    report: &'a Report<'a>,
    input: &'a Input<'a>,
    directory: PathBuf,
    /// Ports so far, published or exposed.
    ports: Cell<usize>,
    secrets: Origins,
    configs: Origins,
}

impl Context<'_> {
    /// A path of the file, relative to its folder, `~` being the user's home.
    fn path(&self, text: &str) -> PathBuf {
        let home = || self.input.environment.get("HOME").cloned().unwrap_or_else(|| "/".into());
        let text = match text.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => home() + rest,
            _ => text.to_owned(),
        };
        let mut path = PathBuf::new();
        for part in self.directory.join(text).components() {
            match part {
                std::path::Component::CurDir => {}
                std::path::Component::ParentDir => drop(path.pop()),
                part => path.push(part),
            }
        }
        path
    }
}

fn project(root: &Node, input: &Input<'_>, report: &Report<'_>) -> Project {
    let keys = Keys::open(report, "the file".into(), root);
    let directory = input.path.parent().unwrap_or(Path::new("/")).to_owned();
    let name_key = keys.text("name");
    let folder = directory.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = input.project.clone().or(name_key).or(folder).unwrap_or_default();
    let name = normalized(&name);
    if name.is_empty() {
        report.error_help(
            Span::default(),
            "the project has no name",
            "add `name: shop` to the file, or give -p NAME",
        );
    }
    let mut context = Context {
        report,
        input,
        directory: directory.clone(),
        ports: Cell::new(0),
        secrets: Origins::new(),
        configs: Origins::new(),
    };
    context.secrets = given::origins(Kind::Secret, keys.entries("secrets"), &context);
    context.configs = given::origins(Kind::Config, keys.entries("configs"), &context);
    let files = input.further.iter().map(|file| &file.path);
    let files = std::iter::once(&input.path).chain(files).cloned().collect();
    let mut project = Project { name, directory, files, ..Project::default() };
    for entry in keys.entries("networks") {
        let network = network::network(entry, &project.name, &context);
        project.networks.insert(entry.key.to_string(), network);
    }
    for entry in keys.entries("volumes") {
        let volume = volume::volume(entry, &project.name, &context);
        project.volumes.insert(entry.key.to_string(), volume);
    }
    let services = keys.entries("services");
    if services.is_empty() {
        report.error_help(
            keys.span,
            "the file has no `services`",
            "add `services: { web: { image: NAME } }`",
        );
    }
    let mut disabled = BTreeSet::new();
    for entry in services {
        check_name(entry, report);
        let service = service::service(entry, &project.name, &context);
        let profiles = &service.profiles;
        let wanted = profiles.is_empty()
            || input.named.contains(&*entry.key)
            || profiles.iter().any(|p| input.profiles.contains(p));
        if wanted {
            project.services.insert(entry.key.to_string(), service);
        } else {
            disabled.insert(entry.key.to_string());
        }
    }
    // Obsolete by the specification, and in almost every file.
    keys.text("version");
    keys.finish(&[], &UNSUPPORTED);
    default_network(&mut project);
    for entry in services {
        references(entry, &mut project, &disabled, report);
    }
    project.order = order(&project, services, report);
    project
}

/// What Docker Compose makes of a name: lower case, and only letters, digits, `-` and `_`.
fn normalized(name: &str) -> String {
    let fits = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(*c);
    let name: String = name.to_lowercase().chars().filter(fits).collect();
    name.trim_start_matches(['-', '_']).to_owned()
}

fn check_name(entry: &Entry, report: &Report<'_>) {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let first = entry.key.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !first || !entry.key.chars().all(fits) || entry.key.len() > 60 {
        report.error_help(
            entry.key_span,
            format!("{} cannot be the name of a service", quoted(&entry.key)),
            "use up to 60 letters, digits, `-`, `_` and `.`",
        );
    }
}

/// The network of all services that name none.
fn default_network(project: &mut Project) {
    let used = project.services.values().any(|s| s.networks.contains_key("default"));
    if used && !project.networks.contains_key("default") {
        let name = format!("{}_default", project.name);
        project.networks.insert("default".into(), Network { name, ..Network::default() });
    }
}

/// Each network, volume and service that a service names must be there.
fn references(
    entry: &Entry,
    project: &mut Project,
    disabled: &BTreeSet<String>,
    report: &Report<'_>,
) {
    let Some(mut service) = project.services.remove(&*entry.key) else { return };
    let span = |key: &str| place(&entry.value, key).unwrap_or(entry.key_span);
    let missing = |what: &str, name: &str, known: Vec<&str>, key: &str| {
        let message = format!("service `{}` uses {what} `{name}`, which is not there", entry.key);
        let help = config::suggest::help(name, known.iter().copied(), &format!("{what}s"));
        report.error_help(span(key), message, help);
    };
    for name in service.networks.keys() {
        if !project.networks.contains_key(name) {
            let known = project.networks.keys().map(String::as_str).collect();
            missing("network", name, known, "networks");
        }
    }
    for mount in &service.mounts {
        let named = mount.kind == crate::project::MountKind::Volume && !mount.source.is_empty();
        if named && !project.volumes.contains_key(&mount.source) {
            let known = project.volumes.keys().map(String::as_str).collect();
            missing("volume", &mount.source, known, "volumes");
        }
    }
    let other = |name: &str| project.services.contains_key(name);
    let absent: Vec<String> =
        service.depends_on.keys().filter(|name| !other(name)).cloned().collect();
    for name in absent {
        let required = service.depends_on.remove(&name).is_some_and(|d| d.required);
        if name == *entry.key {
            report.error(span("depends_on"), format!("service `{name}` depends on itself"));
        } else if disabled.contains(&name) {
            let message = format!(
                "service `{}` depends on `{name}`, which has a profile that \
                                   is not chosen",
                entry.key
            );
            if required {
                report.error_help(span("depends_on"), message, "give --profile NAME");
            }
        } else if required {
            let known = project.services.keys().map(String::as_str).collect();
            missing("service", &name, known, "depends_on");
        }
    }
    project.services.insert(entry.key.to_string(), service);
}

fn place(node: &Node, key: &str) -> Option<Span> {
    let Value::Map(entries) = &node.value else { return None };
    entries.iter().find(|entry| &*entry.key == key).map(|entry| entry.value.span)
}

/// Those that others depend on first; otherwise in the order of the file.
fn order(project: &Project, services: &[Entry], report: &Report<'_>) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    let mut left: Vec<&Entry> =
        services.iter().filter(|entry| project.services.contains_key(&*entry.key)).collect();
    while !left.is_empty() {
        let ready = |entry: &&Entry| {
            let service = &project.services[&*entry.key];
            service.depends_on.keys().all(|name| order.contains(name))
        };
        let Some(at) = left.iter().position(ready) else {
            // Of those that are left, each waits for another one.
            let names: Vec<String> = left.iter().map(|e| quoted(&e.key)).collect();
            let message = format!("these services depend on each other: {}", names.join(", "));
            report.error(left[0].key_span, message);
            break;
        };
        order.push(left.remove(at).key.to_string());
    }
    order
}

/// Reads the files of variables that `env_file` names.
fn env_file(
    path: &Path,
    required: bool,
    span: Span,
    context: &Context<'_>,
) -> BTreeMap<String, String> {
    let shown = path.display();
    let text = match (context.input.read_file)(path) {
        Ok(text) => text,
        Err(error) if !required && error.kind() == std::io::ErrorKind::NotFound => {
            return BTreeMap::new();
        }
        Err(error) => {
            context.report.error(span, format!("cannot read {shown}: {error}"));
            return BTreeMap::new();
        }
    };
    dotenv::read(&text, &context.input.environment).unwrap_or_else(|refused| {
        let message = format!("{shown}:{}: {}", refused.line, refused.message);
        context.report.error(span, message);
        BTreeMap::new()
    })
}

#[cfg(test)]
pub(crate) mod tests;
