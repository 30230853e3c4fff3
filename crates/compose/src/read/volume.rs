//! `volumes`: those of the file, and what a service mounts.

use config::tree::{Entry, Node, Value, quoted};

use super::Context;
use super::keys::{Keys, parse_bytes, scalar};
use super::network::{Named, named};
use crate::project::{Mount, MountKind, Volume};

pub(super) fn volume(entry: &Entry, project: &str, context: &Context<'_>) -> Volume {
    let keys = Keys::open(context.report, format!("volume `{}`", entry.key), &entry.value);
    let Named { name, external, options } = named(&keys, entry, project, "DriverOpts");
    let labels = keys.labels("labels");
    keys.finish(&[], &[]);
    Volume { name, external, labels, options }
}

/// One item of a service's `volumes`.
pub(super) fn mount(node: &Node, what: &str, context: &Context<'_>) -> Option<Mount> {
    match &node.value {
        Value::Map(_) => long(node, what, context),
        Value::Scalar { text, .. } => short(text, node, context),
        Value::List(_) => {
            context.report.error(node.span, format!("an item of {what} must be text or a map"));
            None
        }
    }
}

/// `[SOURCE:]TARGET[:OPTIONS]`
fn short(text: &str, node: &Node, context: &Context<'_>) -> Option<Mount> {
    let wrong = |message: String| {
        let help = "write `./data:/data`, `volume:/data:ro` or `/data`";
        context.report.error_help(node.span, message, help);
        None
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => ("", target, ""),
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return wrong(format!("{} is no mount", quoted(text))),
    };
    if !target.starts_with('/') {
        return wrong(format!("{}: the container's path must be absolute", quoted(text)));
    }
    let mut mount = Mount {
        kind: MountKind::Volume,
        source: source.to_owned(),
        target: target.to_owned(),
        read_only: false,
        options: Vec::new(),
        long: false,
        size: None,
    };
    if source.starts_with(['.', '/', '~']) {
        mount.kind = MountKind::Bind;
        mount.source = context.path(source).display().to_string();
    }
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => mount.read_only = true,
            "rw" => mount.read_only = false,
            "z" | "Z" | "nocopy" | "cached" | "delegated" | "consistent" | "shared" | "rshared"
            | "slave" | "rslave" | "private" | "rprivate" => mount.options.push(option.into()),
            _ => return wrong(format!("{}: unknown option {}", quoted(text), quoted(option))),
        }
    }
    Some(mount)
}

fn long(node: &Node, what: &str, context: &Context<'_>) -> Option<Mount> {
    let keys = Keys::open(context.report, format!("an item of {what}"), node);
    let kind = keys.get("type").and_then(scalar).unwrap_or("volume");
    let kind = match kind {
        "bind" => MountKind::Bind,
        "volume" => MountKind::Volume,
        "tmpfs" => MountKind::Tmpfs,
        other => {
            let message = format!("mounts of type {} are not supported", quoted(other));
            context.report.error_help(node.span, message, "write bind, volume or tmpfs");
            return None;
        }
    };
    let source = keys.text("source").unwrap_or_default();
    let target = keys.text("target").unwrap_or_default();
    let read_only = keys.bool("read_only").unwrap_or(false);
    let mut options = Vec::new();
    let mut may_be_made = false;
    if let Some(bind) = keys.section("bind") {
        options.extend(bind.text("propagation"));
        may_be_made = bind.bool("create_host_path").unwrap_or(true);
        options.extend(bind.text("selinux"));
        bind.finish(&["recursive"], &[]);
    }
    if let Some(volume) = keys.section("volume") {
        if volume.bool("nocopy") == Some(true) {
            options.push("nocopy".into());
        }
        volume.finish(&["labels"], &["subpath"]);
    }
    let mut size = None;
    if let Some(tmpfs) = keys.section("tmpfs") {
        size = tmpfs.get("size").and_then(scalar).and_then(parse_bytes).map(|b| b as u64);
        tmpfs.finish(&["mode"], &[]);
    }
    keys.finish(&["consistency"], &[]);
    if !target.starts_with('/') {
        context.report.error(node.span, "a mount needs a `target`, an absolute path");
        return None;
    }
    let source = match kind {
        MountKind::Bind if source.is_empty() => {
            context.report.error(node.span, "a bind mount needs a `source`");
            return None;
        }
        MountKind::Bind => context.path(&source).display().to_string(),
        _ => source,
    };
    Some(Mount { kind, source, target, read_only, options, long: !may_be_made, size })
}
