//! The engine's JSON to what we need of it. Pure, and of any bytes: engines differ in what they
//! leave out, so everything but an id may be absent, null, or of a kind not known here.
//!
//! The format: Docker Engine API 1.41, `ContainerInspect`, `ContainerList`, `SystemEvents`,
//! `ContainerStats`; Podman's compatible API follows it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use crate::{Container, Health, Phase, Port, Published, Transport, Usage};

/// Labels that are taken of one container, and bytes of all of them together. Images carry some
/// dozens.
const LABELS_MAX: usize = 500;
const LABELS_BYTES_MAX: usize = 64 * 1024;
/// Networks, exposed and published ports that are taken of one container each.
const LIST_MAX: usize = 100;
/// Bytes of a name, an image or an address.
const NAME_BYTES_MAX: usize = 250;
/// Bytes of one variable of the environment, and how many are taken.
const VARIABLE_BYTES_MAX: usize = 2000;
const VARIABLES_MAX: usize = 20;
/// Containers of one list.
const CONTAINERS_MAX: usize = 20_000;

/// What an inspection says beyond the container itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    pub container: Container,
    /// Of its first process on the engine's machine; 0: it has none.
    pub pid: i32,
    /// What the engine sends to stop it: `SIGTERM` unless the image says otherwise.
    pub stop_signal: i32,
    /// The name that programs in it see.
    pub hostname: String,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The container's.
    pub id: String,
    pub what: What,
    /// Nanoseconds since 1970 by the engine's clock; 0: it does not say.
    pub at: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Start,
    /// A signal was sent to it.
    Kill {
        signal: i32,
    },
    Die,
    Destroy,
    Pause,
    Unpause,
    Health(Health),
    /// Its name or its networks changed.
    Changed,
    /// It left this network.
    Left {
        network: String,
    },
}

/// The ids of a list; `None`: it is no list.
pub fn list(bytes: &[u8]) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Item {
        id: String,
    }
    let items: Vec<Item> = serde_json::from_slice(bytes).ok()?;
    let ids = items.into_iter().map(|item| item.id).filter(|id| is_id(id));
    Some(ids.take(CONTAINERS_MAX).collect())
}

/// Whether it can be part of a request's path as it is: 64 hexadecimal digits.
pub fn is_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

/// One container; `None`: the bytes say nothing of one.
pub fn inspection(bytes: &[u8]) -> Option<Inspection> {
    let raw: Raw = serde_json::from_slice(bytes).ok()?;
    if !is_id(&raw.id) {
        return None;
    }
    let state = raw.state.unwrap_or_default();
    let config = raw.config.unwrap_or_default();
    let settings = raw.network_settings.unwrap_or_default();
    let mode = raw.host_config.unwrap_or_default().network_mode.unwrap_or_default();
    let mut ports: Vec<Port> = Vec::new();
    let mut published = Vec::new();
    let exposed = config.exposed_ports.unwrap_or_default();
    ports.extend(exposed.keys().take(LIST_MAX).filter_map(|text| port(text)));
    for (text, bindings) in settings.ports.unwrap_or_default().into_iter().take(LIST_MAX) {
        let Some(port) = port(&text) else { continue };
        ports.push(port);
        let bindings = bindings.unwrap_or_default().into_iter().take(LIST_MAX);
        published.extend(bindings.filter_map(|binding| binding.read(port)));
    }
    published.truncate(LIST_MAX);
    ports.sort_unstable();
    ports.dedup();
    let networks = settings.networks.unwrap_or_default().into_iter().take(LIST_MAX);
    let networks = networks
        .filter_map(|(name, network)| Some((name, network.unwrap_or_default().address()?)))
        .filter(|(name, _)| name.len() <= NAME_BYTES_MAX)
        .collect();
    let pid = state.pid.and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
    Some(Inspection {
        pid,
        stop_signal: config.stop_signal.as_deref().and_then(signal).unwrap_or(SIGTERM),
        hostname: cut(config.hostname.unwrap_or_default()),
        container: Container {
            id: raw.id.to_ascii_lowercase(),
            name: cut(raw.name.unwrap_or_default().trim_start_matches('/').to_owned()),
            image: cut(config.image.unwrap_or_default()),
            labels: labels(config.labels.unwrap_or_default()),
            environment: environment(config.env.unwrap_or_default()),
            networks,
            host_network: mode == "host",
            ports,
            published,
            phase: state.phase(),
            health: state.health(),
            started_at: state.started_at.as_deref().and_then(nanos).unwrap_or(0),
        },
    })
}

/// `None`: it does not concern us.
pub fn event(bytes: &[u8]) -> Option<Event> {
    let raw: RawEvent = serde_json::from_slice(bytes).ok()?;
    let actor = raw.actor.unwrap_or_default();
    let attributes = actor.attributes.unwrap_or_default();
    let attribute = |name: &str| match attributes.get(name) {
        Some(serde_json::Value::String(text)) => Some(text.clone()),
        Some(serde_json::Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let action = raw.action.or(raw.status).unwrap_or_default();
    let (action, detail) = action.split_once(':').unwrap_or((&action, ""));
    let (id, what) = match (raw.kind.as_deref().unwrap_or("container"), action) {
        ("network", "connect") => (attribute("container")?, What::Changed),
        ("network", "disconnect") => {
            let network = attribute("name").unwrap_or_default();
            (attribute("container")?, What::Left { network })
        }
        ("container", action) => (actor.id?, container_event(action, detail, &attribute)?),
        _ => return None,
    };
    let at = raw.time_nano.or_else(|| Some(raw.time?.saturating_mul(1_000_000_000))).unwrap_or(0);
    is_id(&id).then(|| Event { id: id.to_ascii_lowercase(), what, at })
}

fn container_event(
    action: &str,
    detail: &str,
    attribute: &impl Fn(&str) -> Option<String>,
) -> Option<What> {
    Some(match action {
        "start" | "restart" => What::Start,
        "kill" => What::Kill { signal: attribute("signal").as_deref().and_then(signal)? },
        // Podman says "died".
        "die" | "died" => What::Die,
        "destroy" | "remove" => What::Destroy,
        "pause" => What::Pause,
        "unpause" => What::Unpause,
        "health_status" => {
            // Docker: `health_status: healthy`; Podman: an attribute.
            let word = match detail.trim() {
                "" => attribute("health_status").unwrap_or_default(),
                word => word.to_owned(),
            };
            What::Health(health(&word)?)
        }
        "rename" | "update" => What::Changed,
        _ => return None,
    })
}

/// One look at what a container has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Nanoseconds of processor time, its own and that of the whole machine.
    pub used: u64,
    pub system: u64,
    pub processors: u32,
    pub memory: u64,
    pub memory_limit: u64,
}

/// `None`: it does not run, or the engine cannot say.
pub fn sample(bytes: &[u8]) -> Option<Sample> {
    let raw: RawStats = serde_json::from_slice(bytes).ok()?;
    let cpu = raw.cpu_stats?;
    let memory = raw.memory_stats.unwrap_or_default();
    let stats = memory.stats.unwrap_or_default();
    // Control groups 2 and 1 call it differently.
    let cache = stats.inactive_file.or(stats.total_inactive_file).unwrap_or(0);
    Some(Sample {
        used: cpu.cpu_usage?.total_usage?,
        system: cpu.system_cpu_usage?,
        processors: cpu.online_cpus.unwrap_or(1).max(1),
        memory: memory.usage.unwrap_or(0).saturating_sub(cache),
        memory_limit: memory.limit.unwrap_or(0),
    })
}

impl Sample {
    /// What was used since `before`; `None`: no time has passed, or it was restarted.
    pub fn since(&self, before: &Sample) -> Option<Usage> {
        let system = self.system.checked_sub(before.system).filter(|time| *time > 0)?;
        let used = self.used.checked_sub(before.used)?;
        let processors = f64::from(self.processors);
        Some(Usage {
            cpus: used as f64 / system as f64 * processors,
            cpus_limit: processors,
            memory: self.memory,
            memory_limit: self.memory_limit,
        })
    }
}

/// The name and version of the engine.
pub fn version(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Version {
        version: String,
        #[serde(default)]
        components: Option<Vec<Component>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Component {
        name: String,
    }
    let version: Version = serde_json::from_slice(bytes).ok()?;
    let components = version.components.unwrap_or_default();
    let name = components.first().map_or("Engine", |component| component.name.as_str());
    let name = if name == "Engine" { "Docker" } else { name };
    let name = name.trim_end_matches(" Engine");
    Some(cut(format!("{name} {}", version.version)))
}

const SIGTERM: i32 = 15;

/// `SIGTERM`, `TERM` or `15`.
fn signal(text: &str) -> Option<i32> {
    const NAMES: [(&str, i32); 13] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ABRT", 6),
        ("KILL", 9),
        ("USR1", 10),
        ("USR2", 12),
        ("ALRM", 14),
        ("TERM", SIGTERM),
        ("CONT", 18),
        ("STOP", 19),
        ("WINCH", 28),
        ("PWR", 30),
    ];
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        // systemd as the first process is stopped by SIGRTMIN+3. Signal 34 is the first of them.
        let offset = offset.strip_prefix('+').unwrap_or("0").parse::<i32>().ok()?;
        return Some(34 + offset.clamp(0, 30));
    }
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

fn health(word: &str) -> Option<Health> {
    Some(match word {
        "starting" => Health::Starting,
        "healthy" => Health::Healthy,
        "unhealthy" => Health::Unhealthy,
        _ => return None,
    })
}

/// `80/tcp`; without a transport it is TCP.
fn port(text: &str) -> Option<Port> {
    let (number, transport) = text.split_once('/').unwrap_or((text, "tcp"));
    let transport = match transport {
        "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        _ => return None,
    };
    let number = number.parse().ok().filter(|number| *number > 0)?;
    Some(Port { transport, number })
}

fn cut(mut text: String) -> String {
    if text.len() > NAME_BYTES_MAX {
        let end = (0..=NAME_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

fn labels(all: BTreeMap<String, Option<String>>) -> BTreeMap<String, String> {
    let mut bytes = 0;
    let mut taken = BTreeMap::new();
    // Ours first, so that no others crowd them out.
    let ours = |name: &str| {
        ["evenkeel.", "com.docker.compose.", "traefik."].iter().any(|p| name.starts_with(p))
    };
    let (first, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, _)| ours(name));
    for (name, value) in first.into_iter().chain(rest) {
        let value = value.unwrap_or_default();
        bytes += name.len() + value.len();
        if taken.len() >= LABELS_MAX || bytes > LABELS_BYTES_MAX {
            break;
        }
        taken.insert(name, value);
    }
    taken
}

fn environment(all: Vec<String>) -> BTreeMap<String, String> {
    let ours = |text: &String| text.starts_with("VIRTUAL_") && text.len() <= VARIABLE_BYTES_MAX;
    let pairs = all.iter().filter(|text| ours(text)).filter_map(|text| text.split_once('='));
    pairs.take(VARIABLES_MAX).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// `2026-11-21T14:03:11.123456789Z` (RFC 3339) to nanoseconds since 1970. The engine's "never"
/// (year 1) is negative, and therefore before everything.
fn nanos(text: &str) -> Option<i64> {
    let digits = |from: usize, to: usize| -> Option<i64> {
        let part = text.get(from..to)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let (hour, minute, second) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let rest = text.get(19..)?;
    let fraction: &str = rest.strip_prefix('.').unwrap_or("");
    let fraction = &fraction[..fraction.bytes().take_while(u8::is_ascii_digit).count()];
    let zone = &rest[rest.len().min(if fraction.is_empty() { 0 } else { 1 + fraction.len() })..];
    let nanos: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    // Days from civil (Howard Hinnant's algorithm, proleptic Gregorian calendar).
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let offset = match zone.get(..1) {
        Some(sign @ ("+" | "-")) => {
            let part = |from, to| zone.get(from..to)?.parse::<i64>().ok();
            let seconds = part(1, 3)? * 3600 + part(4, 6)? * 60;
            if sign == "+" { seconds } else { -seconds }
        }
        _ => 0,
    };
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset;
    seconds.checked_mul(1_000_000_000).and_then(|all| all.checked_add(nanos)).or(Some(-1))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    id: String,
    name: Option<String>,
    state: Option<State>,
    config: Option<Config>,
    host_config: Option<HostConfig>,
    network_settings: Option<NetworkSettings>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: Option<String>,
    running: Option<bool>,
    paused: Option<bool>,
    restarting: Option<bool>,
    pid: Option<i64>,
    started_at: Option<String>,
    health: Option<RawHealth>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawHealth {
    status: Option<String>,
}

impl State {
    fn phase(&self) -> Phase {
        let is = |flag: Option<bool>| flag.unwrap_or(false);
        match self.status.as_deref() {
            _ if is(self.paused) => Phase::Paused,
            _ if is(self.restarting) => Phase::Ended,
            Some("stopping") => Phase::Stopping,
            Some("running") => Phase::Running,
            None if is(self.running) => Phase::Running,
            _ => Phase::Ended,
        }
    }

    fn health(&self) -> Health {
        let status = self.health.as_ref().and_then(|health| health.status.as_deref());
        status.and_then(health).unwrap_or_default()
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    hostname: Option<String>,
    image: Option<String>,
    labels: Option<BTreeMap<String, Option<String>>>,
    env: Option<Vec<String>>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    // Podman 4 writes a number here.
    #[serde(default, deserialize_with = "text_or_number")]
    stop_signal: Option<String>,
}

fn text_or_number<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    Ok(match serde_json::Value::deserialize(input)? {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    network_mode: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    networks: Option<BTreeMap<String, Option<RawNetwork>>>,
    ports: Option<BTreeMap<String, Option<Vec<Binding>>>>,
}

#[derive(Default, Deserialize)]
struct RawNetwork {
    #[serde(rename = "IPAddress")]
    v4: Option<String>,
    #[serde(rename = "GlobalIPv6Address")]
    v6: Option<String>,
}

impl RawNetwork {
    fn address(&self) -> Option<IpAddr> {
        let read = |text: &Option<String>| text.as_deref()?.parse::<IpAddr>().ok();
        read(&self.v4).or_else(|| read(&self.v6)).filter(|ip| !ip.is_unspecified())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Binding {
    host_ip: Option<String>,
    host_port: Option<String>,
}

impl Binding {
    fn read(&self, port: Port) -> Option<Published> {
        let host = match self.host_ip.as_deref() {
            None | Some("") => IpAddr::from([0, 0, 0, 0]),
            Some(text) => text.parse().ok()?,
        };
        let host_port = self.host_port.as_deref()?.parse().ok().filter(|port| *port > 0)?;
        Some(Published { port, host, host_port })
    }
}

#[derive(Deserialize)]
struct RawEvent {
    #[serde(rename = "Type")]
    kind: Option<String>,
    #[serde(rename = "Action")]
    action: Option<String>,
    /// Older engines, and Podman, say it here; Docker says it twice.
    status: Option<String>,
    #[serde(rename = "Actor")]
    actor: Option<Actor>,
    time: Option<i64>,
    #[serde(rename = "timeNano")]
    time_nano: Option<i64>,
}

#[derive(Default, Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: Option<String>,
    #[serde(rename = "Attributes")]
    attributes: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
struct RawStats {
    cpu_stats: Option<RawCpu>,
    memory_stats: Option<RawMemory>,
}

#[derive(Clone, Copy, Deserialize)]
struct RawCpu {
    cpu_usage: Option<RawCpuUsage>,
    system_cpu_usage: Option<u64>,
    online_cpus: Option<u32>,
}

#[derive(Clone, Copy, Deserialize)]
struct RawCpuUsage {
    total_usage: Option<u64>,
}

#[derive(Default, Deserialize)]
struct RawMemory {
    usage: Option<u64>,
    limit: Option<u64>,
    stats: Option<RawMemoryStats>,
}

#[derive(Default, Deserialize)]
struct RawMemoryStats {
    inactive_file: Option<u64>,
    total_inactive_file: Option<u64>,
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
