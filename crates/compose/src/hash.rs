//! The hash of a service's configuration, as docker-compose 1.29 computes it (`config_dict` in its
//! `service.py`): SHA-256 over canonical JSON of what it makes of the file. With the same hash in
//! the label, it takes our containers for its own and leaves them as they are, and so do we.

use std::fmt::Write;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::project::{Content, Given, Project, Service};

/// `image`: the id of the service's image, if the engine has it.
pub fn config_hash(project: &Project, service: &Service, image: Option<&str>) -> String {
    let mut text = String::new();
    canonical(&config(project, service, image), &mut text);
    Sha256::digest(text.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn config(project: &Project, service: &Service, image: Option<&str>) -> Value {
    let true_name = |name: &String| project.networks.get(name).map(|network| network.name.clone());
    let raw = service.raw.as_object().cloned().unwrap_or_default();
    let mut networks: Map<String, Value> = Map::new();
    for name in service.networks.keys() {
        let settings = raw.get("networks").and_then(|networks| networks.get(name));
        let settings = settings.filter(|settings| settings.is_object());
        if let Some(name) = true_name(name) {
            networks.insert(name, settings.cloned().unwrap_or_else(|| json!({})));
        }
    }
    let first = networks.keys().min().cloned();
    json!({
        "image_id": image,
        "ipc_mode": raw.get("ipc"),
        "links": [],
        "net": service.network_mode.clone().or(first),
        "networks": networks,
        "options": options(raw, project, service),
        "secrets": given(service),
        "volumes_from": [],
    })
}

/// Secrets and configs, by what they hold: with another one the container is made anew. (Here
/// docker-compose has Swarm's settings; of services with any, the two hashes differ.)
fn given(service: &Service) -> Value {
    let one = |given: &Given| {
        let content = match &given.content {
            Content::File(path) => path.display().to_string(),
            Content::Text { digest, .. } => digest.clone(),
        };
        json!([given.target, content, given.uid, given.gid, given.mode])
    };
    service.given.iter().map(one).collect()
}

/// What docker-compose keeps of the service's keys, and as what.
fn options(mut raw: Map<String, Value>, project: &Project, service: &Service) -> Value {
    for key in ["networks", "network_mode", "scale", "pid", "ipc", "links", "secrets", "profiles"] {
        raw.remove(key);
    }
    if let Some(deploy) = raw.remove("deploy") {
        deployed(&deploy, &mut raw);
    }
    raw.insert("device_requests".into(), Value::Null);
    raw.insert("platform".into(), Value::Null);
    if let (Some(build), Some(value)) = (&service.build, raw.get_mut("build")) {
        let context = json!(build.context.display().to_string());
        match value {
            Value::Object(map) => drop(map.insert("context".into(), context)),
            value => *value = json!({ "context": context }),
        }
    }
    let change = |raw: &mut Map<String, Value>, key: &str, f: &dyn Fn(Value) -> Value| {
        if let Some(value) = raw.remove(key) {
            raw.insert(key.into(), f(value));
        }
    };
    change(&mut raw, "depends_on", &|value| match value {
        Value::Array(names) => {
            let names = names.iter().filter_map(Value::as_str);
            let started = || json!({ "condition": "service_started" });
            Value::Object(names.map(|name| (name.to_owned(), started())).collect())
        }
        map => map,
    });
    for key in ["dns", "dns_search", "tmpfs"] {
        change(&mut raw, key, &|value| match value {
            Value::Array(_) => value,
            one => json!([one]),
        });
    }
    change(&mut raw, "ports", &|value| ports(&value));
    change(&mut raw, "labels", &pairs);
    change(&mut raw, "sysctls", &pairs);
    change(&mut raw, "healthcheck", &|value| healthcheck(value, service));
    change(&mut raw, "restart", &|value| {
        let text = value.as_str().unwrap_or("no");
        let (name, count) = text.split_once(':').unwrap_or((text, "0"));
        json!({ "MaximumRetryCount": count.parse::<u32>().unwrap_or(0), "Name": name })
    });
    let mounts = match raw.remove("volumes") {
        Some(Value::Array(items)) => {
            let mounts = items.iter().zip(&service.mounts);
            mounts.map(|(item, mount)| volume(item, mount, project)).collect()
        }
        _ => Vec::new(),
    };
    raw.insert("volumes".into(), mounts.into());
    Value::Object(raw)
}

/// Limits of `deploy` become keys of a container.
fn deployed(deploy: &Value, raw: &mut Map<String, Value>) {
    let resources = &deploy["resources"];
    for (from, key) in [
        (&resources["limits"]["memory"], "mem_limit"),
        (&resources["limits"]["pids"], "pids_limit"),
        (&resources["reservations"]["memory"], "mem_reservation"),
    ] {
        if !from.is_null() {
            raw.insert(key.into(), from.clone());
        }
    }
    let cpus = &resources["limits"]["cpus"];
    let cpus = cpus.as_f64().or_else(|| cpus.as_str().and_then(|text| text.parse().ok()));
    if let Some(cpus) = cpus {
        raw.insert("cpus".into(), cpus.into());
    }
    let policy = &deploy["restart_policy"];
    if policy.is_object() {
        let name = match policy["condition"].as_str() {
            Some("on-failure") => "on-failure",
            Some("none") => "no",
            _ => "always",
        };
        let count = policy["max_attempts"].as_u64().unwrap_or(0);
        raw.insert("restart".into(), format!("{name}:{count}").into());
    }
}

/// Five fields: target, published, protocol, mode, external address; a range is as many ports.
fn ports(value: &Value) -> Value {
    let mut found = Vec::new();
    for item in value.as_array().into_iter().flatten() {
        if let Value::Object(map) = item {
            let field = |key: &str| map.get(key).cloned().unwrap_or(Value::Null);
            let number = |value: Value| match value.as_str().and_then(|s| s.parse::<u16>().ok()) {
                Some(number) => number.into(),
                None => value,
            };
            let published = number(field("published"));
            found.push(json!([field("target"), published, field("protocol"), field("mode"), null]));
            continue;
        }
        let text = match item {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let (body, protocol) = match text.split_once('/') {
            Some((body, protocol)) => (body, json!(protocol)),
            None => (text.as_str(), Value::Null),
        };
        let mut parts = body.rsplitn(3, ':');
        let container = numbers(parts.next().unwrap_or_default());
        let published = parts.next().filter(|text| !text.is_empty());
        let ip = parts.next().map(|ip| json!(ip)).unwrap_or_default();
        let range = published.map(numbers).unwrap_or_default();
        for (at, number) in container.iter().enumerate() {
            let published = match published {
                Some(text) if container.len() == 1 && range.len() > 1 => json!(text),
                _ => range.get(at).map_or(Value::Null, |number| json!(number)),
            };
            found.push(json!([number, published, protocol, null, ip]));
        }
    }
    Value::Array(found)
}

fn numbers(text: &str) -> Vec<u16> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) => (first..=last).collect(),
        _ => Vec::new(),
    }
}

fn pairs(value: Value) -> Value {
    let text = |value: Value| match value {
        Value::Null => json!(""),
        Value::String(_) => value,
        other => json!(other.to_string()),
    };
    let pairs: Map<String, Value> = match value {
        Value::Array(items) => items
            .iter()
            .filter_map(Value::as_str)
            .map(|item| item.split_once('=').unwrap_or((item, "")))
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .collect(),
        Value::Object(map) => map.into_iter().map(|(k, v)| (k, text(v))).collect(),
        other => return other,
    };
    Value::Object(pairs)
}

fn healthcheck(value: Value, service: &Service) -> Value {
    let Value::Object(mut map) = value else { return value };
    if map.remove("disable").is_some() {
        map.insert("test".into(), json!(["NONE"]));
    }
    let check = service.config.get("Healthcheck");
    for (key, there) in
        [("interval", "Interval"), ("timeout", "Timeout"), ("start_period", "StartPeriod")]
    {
        if let Some(nanos) = check.and_then(|check| check.get(there))
            && map.contains_key(key)
        {
            map.insert(key.into(), nanos.clone());
        }
    }
    Value::Object(map)
}

fn volume(item: &Value, mount: &crate::project::Mount, project: &Project) -> Value {
    let named = project.volumes.get(&mount.source).map(|volume| volume.name.clone());
    let source = named.unwrap_or_else(|| mount.source.clone());
    match item {
        Value::Object(map) => {
            let mut map = map.clone();
            map.retain(|_, value| *value != json!(false) && !value.is_null());
            if !source.is_empty() {
                map.insert("source".into(), source.into());
            }
            Value::Object(map)
        }
        item => {
            let text = item.as_str().unwrap_or_default();
            let mode = text.splitn(3, ':').nth(2).unwrap_or("rw");
            let source = if source.is_empty() { Value::Null } else { source.into() };
            json!([source, mount.target, mode])
        }
    }
}

/// As Python writes it with `sort_keys`, `separators=(',', ':')` and `ensure_ascii`.
fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            text.push('{');
            for (at, key) in keys.into_iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                string(key, text);
                text.push(':');
                canonical(&map[key], text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                canonical(item, text);
            }
            text.push(']');
        }
        Value::String(value) => string(value, text),
        other => text.push_str(&other.to_string()),
    }
}

fn string(value: &str, text: &mut String) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            ' '..='~' => text.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::tests::checked;

    /// What docker-compose 1.29.2 made of the same file, for an engine without the images.
    #[test]
    fn the_same_as_docker_compose_computes() {
        let project = checked(include_str!("hash/compose.yaml")).project;
        for (service, expected) in [
            ("web", include_str!("hash/web.json")),
            ("redis", include_str!("hash/redis.json")),
            ("db", include_str!("hash/db.json")),
        ] {
            let mut text = String::new();
            canonical(&config(&project, &project.services[service], None), &mut text);
            assert_eq!(text, expected.trim_end(), "{service}");
        }
    }
}
