//! `secrets` and `configs`: files that containers are given. Without Swarm there is no store that
//! keeps them: a file of this machine is mounted, and a text (of a variable, or in the Compose file
//! itself) is written into the container before it starts, as Docker Compose does it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use config::defect::Span;
use config::suggest;
use config::tree::{Entry, Node, Value, quoted};
use sha2::{Digest, Sha256};

use super::Context;
use super::keys::{Keys, scalar};
use crate::project::{Content, Given, Mount, MountKind, Service};

/// What Docker Compose gives one that is written, where nothing else is said.
const MODE: u32 = 0o444;

/// Where one comes from.
pub(super) enum Origin {
    File(PathBuf),
    Variable(String),
    Text(Arc<str>, String),
    /// In Swarm's store, or wrong, which was told.
    Nowhere,
}

/// All secrets, or configs, of the file, by name.
pub(super) type Origins = BTreeMap<String, Origin>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Secret,
    Config,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Secret => "secret",
            Kind::Config => "config",
        }
    }

    /// The key of the file, and of a service.
    pub(super) fn key(self) -> &'static str {
        match self {
            Kind::Secret => "secrets",
            Kind::Config => "configs",
        }
    }

    /// Where its files are, unless the file says otherwise.
    fn folder(self) -> &'static str {
        match self {
            Kind::Secret => "/run/secrets/",
            Kind::Config => "/",
        }
    }
}

pub(super) fn origins(kind: Kind, entries: &[Entry], context: &Context<'_>) -> Origins {
    let one = |entry: &Entry| (entry.key.to_string(), origin(kind, entry, context));
    entries.iter().map(one).collect()
}

fn origin(kind: Kind, entry: &Entry, context: &Context<'_>) -> Origin {
    let what = format!("{} `{}`", kind.name(), entry.key);
    let keys = Keys::open(context.report, what.clone(), &entry.value);
    let mut found: Vec<Origin> = Vec::new();
    found.extend(keys.text("file").map(|path| Origin::File(context.path(&path))));
    found.extend(keys.text("environment").map(Origin::Variable));
    if kind == Kind::Config {
        found.extend(keys.text("content").map(|content| text(&content)));
    }
    if keys.bool("external") == Some(true) {
        found.push(Origin::Nowhere);
    }
    keys.finish(&["name", "labels"], &["driver", "driver_opts", "template_driver"]);
    if found.len() != 1 {
        let message = format!("{what} needs one thing that it comes from");
        let help = match kind {
            Kind::Secret => "write `file: ./FILE` or `environment: VARIABLE`",
            Kind::Config => "write `file: ./FILE`, `environment: VARIABLE` or `content: TEXT`",
        };
        context.report.error_help(entry.key_span, message, help);
    }
    found.pop().unwrap_or(Origin::Nowhere)
}

fn text(content: &str) -> Origin {
    let digest = Sha256::digest(content.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    Origin::Text(content.into(), digest)
}

/// Those of one service: `NAME`, or a map with `source` and `target`.
pub(super) fn of_service(
    kind: Kind,
    keys: &Keys<'_>,
    service: &mut Service,
    context: &Context<'_>,
) {
    for item in keys.items(kind.key()) {
        give(kind, item, service, context);
    }
}

fn give(kind: Kind, item: &Node, service: &mut Service, context: &Context<'_>) {
    let mut target = None;
    let (mut uid, mut gid, mut mode) = (None, None, None);
    let source = match &item.value {
        Value::Map(_) => {
            let what = format!("an item of `{}` of service `{}`", kind.key(), service.name);
            let keys = Keys::open(context.report, what, item);
            let source = keys.text("source");
            target = keys.text("target");
            (uid, gid) = (number(&keys, "uid", 10), number(&keys, "gid", 10));
            mode = number(&keys, "mode", 8);
            keys.finish(&[], &[]);
            source
        }
        _ => scalar(item).map(str::to_owned),
    };
    let Some(source) = source.filter(|source| !source.is_empty()) else {
        let help = "write its name, or `{ source: NAME, target: /PATH }`";
        context.report.error_help(item.span, format!("a {} needs its name", kind.name()), help);
        return;
    };
    let target = target.unwrap_or_else(|| source.clone());
    let target = match target.starts_with('/') {
        true => target,
        false => format!("{}{target}", kind.folder()),
    };
    if target.split('/').any(|part| part == "..") || target.ends_with('/') {
        let message = format!("{} is no path of a file in a container", quoted(&target));
        context.report.error(item.span, message);
        return;
    }
    let Some((path, content)) = content(kind, &source, item.span, service, context) else { return };
    if let Some(path) = path {
        if uid.is_some() || gid.is_some() || mode.is_some() {
            let message =
                format!("`uid`, `gid` and `mode` of {} have no effect here", quoted(&source));
            let help = "the file itself is mounted: change its owner and mode";
            context.report.warning(item.span, message, help);
        }
        service.mounts.push(Mount {
            kind: MountKind::Bind,
            source: path.display().to_string(),
            target: target.clone(),
            read_only: true,
            options: Vec::new(),
            long: true,
            size: None,
        });
    }
    let (uid, gid) = (uid.unwrap_or(0), gid.unwrap_or(0));
    service.given.push(Given { target, content, uid, gid, mode: mode.unwrap_or(MODE) });
}

/// What it holds, and the file that is mounted for it.
fn content(
    kind: Kind,
    source: &str,
    span: Span,
    service: &Service,
    context: &Context<'_>,
) -> Option<(Option<PathBuf>, Content)> {
    let origins = match kind {
        Kind::Secret => &context.secrets,
        Kind::Config => &context.configs,
    };
    let (name, known) = (kind.name(), origins.keys().map(String::as_str));
    match origins.get(source) {
        Some(Origin::File(path)) => Some((Some(path.clone()), Content::File(path.clone()))),
        Some(Origin::Text(text, digest)) => {
            Some((None, Content::Text { text: Arc::clone(text), digest: digest.clone() }))
        }
        Some(Origin::Variable(variable)) => match context.input.environment.get(variable) {
            Some(value) => match text(value) {
                Origin::Text(text, digest) => Some((None, Content::Text { text, digest })),
                _ => None,
            },
            None => {
                let message = format!("the variable {variable} of {name} {source} is not set");
                context.report.error(span, message);
                None
            }
        },
        Some(Origin::Nowhere) => {
            let message =
                format!("{name} {} is external, in a store that only Swarm has", quoted(source));
            let help = "give it with `file: ./FILE` or `environment: VARIABLE`";
            context.report.error_help(span, message, help);
            None
        }
        None => {
            let message =
                format!("service `{}` uses {name} `{source}`, which is not there", service.name);
            let help = suggest::help(source, known, kind.key());
            context.report.error_help(span, message, help);
            None
        }
    }
}

fn number(keys: &Keys<'_>, name: &'static str, radix: u32) -> Option<u32> {
    let node = keys.get(name)?;
    let text = scalar(node).unwrap_or_default();
    let digits = if radix == 8 { text.strip_prefix("0o").unwrap_or(text) } else { text };
    match u32::from_str_radix(digits, radix) {
        Ok(number) if radix != 8 || number <= 0o7777 => Some(number),
        _ if radix == 8 => keys.wrong(node, name, "a mode in octal, such as 0440"),
        _ => keys.wrong(node, name, "a number"),
    }
}
