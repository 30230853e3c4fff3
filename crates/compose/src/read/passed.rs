//! Keys of a service that the engine's API knows under another name, and nothing more: one table.

use serde_json::{Map, Value as Json, json};

use super::keys::Keys;

/// How a key's value is read.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Bool,
    Integer,
    Bytes,
    Texts,
    /// Processors, which the API counts in billionths.
    Cpus,
}

/// Key of the file, key of the API, kind.
type Passed = (&'static str, &'static str, Kind);

/// Of a container's configuration.
static CONFIG: [Passed; 7] = [
    ("user", "User", Kind::Text),
    ("working_dir", "WorkingDir", Kind::Text),
    ("hostname", "Hostname", Kind::Text),
    ("domainname", "Domainname", Kind::Text),
    ("tty", "Tty", Kind::Bool),
    ("stdin_open", "OpenStdin", Kind::Bool),
    ("stop_signal", "StopSignal", Kind::Text),
];

/// Of its `HostConfig`.
static HOST: [Passed; 29] = [
    ("privileged", "Privileged", Kind::Bool),
    ("read_only", "ReadonlyRootfs", Kind::Bool),
    ("init", "Init", Kind::Bool),
    ("cap_add", "CapAdd", Kind::Texts),
    ("cap_drop", "CapDrop", Kind::Texts),
    ("dns", "Dns", Kind::Texts),
    ("dns_search", "DnsSearch", Kind::Texts),
    ("dns_opt", "DnsOptions", Kind::Texts),
    ("security_opt", "SecurityOpt", Kind::Texts),
    ("group_add", "GroupAdd", Kind::Texts),
    ("ipc", "IpcMode", Kind::Text),
    ("pid", "PidMode", Kind::Text),
    ("userns_mode", "UsernsMode", Kind::Text),
    ("cgroup_parent", "CgroupParent", Kind::Text),
    ("runtime", "Runtime", Kind::Text),
    ("isolation", "Isolation", Kind::Text),
    ("shm_size", "ShmSize", Kind::Bytes),
    ("mem_limit", "Memory", Kind::Bytes),
    ("mem_reservation", "MemoryReservation", Kind::Bytes),
    ("memswap_limit", "MemorySwap", Kind::Bytes),
    ("mem_swappiness", "MemorySwappiness", Kind::Integer),
    ("cpu_shares", "CpuShares", Kind::Integer),
    ("cpu_quota", "CpuQuota", Kind::Integer),
    ("cpu_period", "CpuPeriod", Kind::Integer),
    ("cpuset", "CpusetCpus", Kind::Text),
    ("cpus", "NanoCpus", Kind::Cpus),
    ("oom_kill_disable", "OomKillDisable", Kind::Bool),
    ("oom_score_adj", "OomScoreAdj", Kind::Integer),
    ("pids_limit", "PidsLimit", Kind::Integer),
];

/// The container's configuration and its `HostConfig`, as far as keys are passed on.
pub(super) fn passed(keys: &Keys<'_>) -> (Map<String, Json>, Map<String, Json>) {
    let (config, mut host) = (table(keys, &CONFIG), table(keys, &HOST));
    for name in ["ipc", "pid"] {
        let mode = keys.get(name).and_then(super::keys::scalar);
        if let Some(node) = keys.get(name).filter(|_| {
            mode.is_some_and(|mode| mode.starts_with("service:") || mode.starts_with("container:"))
        }) {
            let message = format!("`{name}` of another service or container is not supported");
            keys.report.error_help(node.span, message, "write `host`, or remove it");
        }
    }
    let hosts = extra_hosts(keys);
    if !hosts.is_empty() {
        host.insert("ExtraHosts".into(), hosts.into());
    }
    let sysctls = keys.labels("sysctls");
    if !sysctls.is_empty() {
        host.insert("Sysctls".into(), json!(sysctls));
    }
    let ulimits = ulimits(keys);
    if !ulimits.is_empty() {
        host.insert("Ulimits".into(), ulimits.into());
    }
    if let Some(paths) = keys.texts("tmpfs") {
        let one = |path: String| match path.split_once(':') {
            Some((path, options)) => (path.to_owned(), Json::from(options)),
            None => (path, Json::from("")),
        };
        host.insert("Tmpfs".into(), Json::Object(paths.into_iter().map(one).collect()));
    }
    if let Some(logging) = keys.section("logging") {
        let driver = logging.text("driver").unwrap_or_default();
        let options = logging.labels("options");
        logging.finish(&[], &[]);
        host.insert("LogConfig".into(), json!({ "Type": driver, "Config": options }));
    }
    if let Some(devices) = keys.texts("devices") {
        let one = |device: String| {
            let mut parts = device.splitn(3, ':');
            let from = parts.next().unwrap_or_default().to_owned();
            let to = parts.next().unwrap_or(&from).to_owned();
            let permissions = parts.next().unwrap_or("rwm").to_owned();
            json!({ "PathOnHost": from, "PathInContainer": to, "CgroupPermissions": permissions })
        };
        host.insert("Devices".into(), devices.into_iter().map(one).collect());
    }
    (config, host)
}

fn table(keys: &Keys<'_>, table: &'static [Passed]) -> Map<String, Json> {
    let mut found = Map::new();
    for (key, there, kind) in table {
        let value = match kind {
            Kind::Text => keys.text(key).map(Json::from),
            Kind::Bool => keys.bool(key).map(Json::from),
            Kind::Integer => keys.integer(key).map(Json::from),
            Kind::Bytes => keys.bytes(key).map(Json::from),
            Kind::Texts => keys.texts(key).map(Json::from),
            Kind::Cpus => keys.number(key).map(|cpus| ((cpus * 1e9) as i64).into()),
        };
        if let Some(value) = value {
            found.insert((*there).into(), value);
        }
    }
    found
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`, or a map of them.
fn extra_hosts(keys: &Keys<'_>) -> Vec<String> {
    let pairs = keys.pairs("extra_hosts");
    let one = |(name, address): (String, Option<String>)| match address {
        Some(address) => format!("{name}:{address}"),
        None => name,
    };
    pairs.into_iter().map(one).collect()
}

fn ulimits(keys: &Keys<'_>) -> Vec<Json> {
    let mut found = Vec::new();
    for entry in keys.entries("ulimits") {
        let name = entry.key.to_string();
        match super::keys::scalar(&entry.value) {
            Some(text) => match text.parse::<i64>() {
                Ok(limit) => found.push(json!({ "Name": name, "Soft": limit, "Hard": limit })),
                Err(_) => {
                    let message = format!("`{name}` must be a number");
                    keys.report.error(entry.value.span, message);
                }
            },
            None => {
                let limits = Keys::open(keys.report, format!("ulimit `{name}`"), &entry.value);
                let (soft, hard) = (limits.integer("soft"), limits.integer("hard"));
                limits.finish(&[], &[]);
                if let (Some(soft), Some(hard)) = (soft, hard) {
                    found.push(json!({ "Name": name, "Soft": soft, "Hard": hard }));
                }
            }
        }
    }
    found
}
