//! One service of the file.

use std::collections::BTreeMap;

use config::tree::{Entry, Node, Value, quoted};
use serde_json::{Map, Value as Json, json};

use super::given::Kind;
use super::keys::{Keys, json as as_json, scalar};
use super::{Context, env_file, given, passed, ports, volume};
use crate::autoscale;
use crate::project::{
    AppProtocol, Attachment, Balancing, Build, Condition, Dependency, PullPolicy, Service,
    UpdateOrder,
};

/// Keys of the specification that leave the service what it is.
const WITHOUT_EFFECT: [&str; 8] = [
    "annotations",
    "attach",
    "develop",
    "cpu_percent",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "cpu_count",
    "use_api_socket",
];

/// Keys without which it would be something else.
const UNSUPPORTED: [&str; 19] = [
    "links",
    "external_links",
    "volumes_from",
    "blkio_config",
    "credential_spec",
    "device_cgroup_rules",
    "cgroup",
    "gpus",
    "group",
    "label_file",
    "mac_address",
    "models",
    "platform",
    "post_start",
    "pre_stop",
    "provider",
    "storage_opt",
    "uts",
    "volume_driver",
];

/// Replicas of one service.
const REPLICAS_MAX: i64 = 1_000;

pub(super) fn service(entry: &Entry, project: &str, context: &Context<'_>) -> Service {
    let what = format!("service `{}`", entry.key);
    let keys = Keys::open(context.report, what.clone(), &entry.value);
    let (config, host) = passed::passed(&keys);
    let mut raw = as_json(&entry.value);
    let mut service = Service {
        name: entry.key.to_string(),
        image: keys.text("image").filter(|image| !image.is_empty()),
        build: keys.get("build").and_then(|node| build(node, &what, context)),
        container_name: keys.text("container_name"),
        labels: keys.labels("labels"),
        profiles: keys.texts("profiles").unwrap_or_default(),
        stop_grace: keys.duration("stop_grace_period"),
        config,
        host,
        replicas: 1,
        ..Service::default()
    };
    if service.image.is_none() && service.build.is_none() && entry.value.is_null() {
        context.report.error(entry.key_span, format!("{what} is empty"));
    } else if service.image.is_none() && service.build.is_none() {
        let help = "add `image: NAME` or `build: .`";
        context.report.error_help(
            entry.key_span,
            format!("{what} has neither `image` nor `build`"),
            help,
        );
    }
    service.pull_policy = pull_policy(&keys);
    environment(&keys, &mut service, &mut raw, context);
    for (key, there) in [("command", "Cmd"), ("entrypoint", "Entrypoint")] {
        if let Some(words) = keys.command(key) {
            service.config.insert(there.into(), words.into());
        }
    }
    for item in keys.items("ports") {
        service.ports.extend(ports::ports(item, &format!("`ports` of {what}"), context));
    }
    for item in keys.items("expose") {
        service.expose.extend(ports::exposed(item, context));
    }
    for item in keys.items("volumes") {
        service.mounts.extend(volume::mount(item, &format!("`volumes` of {what}"), context));
    }
    for kind in [Kind::Secret, Kind::Config] {
        given::of_service(kind, &keys, &mut service, context);
    }
    networks(&keys, &mut service, context);
    depends_on(&keys, &mut service, context);
    healthcheck(&keys, &mut service);
    restart(&keys, &mut service);
    if let Some(count) = keys.integer("scale") {
        replicas(&keys, count, "scale", &mut service);
    }
    deploy(&keys, &mut service);
    // Resolved before; what is left of it was reported.
    keys.get("extends");
    service.balancing = balancing(&keys, &service, context);
    keys.finish(&WITHOUT_EFFECT, &UNSUPPORTED);
    if service.container_name.is_some() && service.replicas > 1 {
        context.report.error_help(
            entry.key_span,
            format!("{what} has a `container_name`, and can have one container only"),
            "remove `container_name`, or its replicas",
        );
    }
    if service.image.is_none() {
        // What a build without a name is called; not part of the file.
        service.image = Some(format!("{project}-{}", entry.key.to_lowercase()));
        service.labels.entry(String::new()).or_default();
        service.labels.remove("");
    }
    service.raw = raw;
    service
}

fn pull_policy(keys: &Keys<'_>) -> PullPolicy {
    match keys.get("pull_policy").map(|node| (node, scalar(node))) {
        None | Some((_, Some("missing" | "if_not_present"))) => PullPolicy::Missing,
        Some((_, Some("always"))) => PullPolicy::Always,
        Some((_, Some("never"))) => PullPolicy::Never,
        Some((_, Some("build"))) => PullPolicy::Build,
        Some((node, _)) => {
            let _: Option<()> = keys.wrong(node, "pull_policy", "always, never, missing or build");
            PullPolicy::Missing
        }
    }
}

/// Files first, then what stands here; a name alone has the value of our own environment. The
/// same is left in `raw`, for the hash.
fn environment(keys: &Keys<'_>, service: &mut Service, raw: &mut Json, context: &Context<'_>) {
    let mut found: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut written: Map<String, Json> = Map::new();
    if let Some(node) = keys.get("env_file") {
        let items = match &node.value {
            Value::List(items) => items.iter().collect(),
            _ => vec![node],
        };
        for item in items {
            let (path, required) = match &item.value {
                Value::Map(_) => {
                    let file = Keys::open(keys.report, "an item of `env_file`".into(), item);
                    let (path, required) = (file.text("path"), file.bool("required"));
                    file.finish(&[], &["format"]);
                    (path.unwrap_or_default(), required.unwrap_or(true))
                }
                _ => (scalar(item).unwrap_or_default().to_owned(), true),
            };
            let variables = env_file(&context.path(&path), required, item.span, context);
            written.extend(variables.iter().map(|(k, v)| (k.clone(), v.clone().into())));
            found.extend(variables.into_iter().map(|(k, v)| (k, Some(v))));
        }
    }
    for (name, value) in keys.pairs("environment") {
        let value = value.or_else(|| context.input.environment.get(&name).cloned());
        found.insert(name, value);
    }
    if let Json::Object(raw) = raw {
        let had = raw.remove("env_file").is_some();
        match raw.remove("environment") {
            Some(Json::Object(typed)) => written.extend(typed),
            Some(Json::Array(items)) => written.extend(items.iter().filter_map(|item| {
                let item = item.as_str()?;
                Some(match item.split_once('=') {
                    Some((name, value)) => (name.to_owned(), Json::from(value)),
                    None => (item.to_owned(), Json::Null),
                })
            })),
            None if !had => return finish_environment(service, found),
            _ => {}
        }
        for (name, value) in &mut written {
            if value.is_null() {
                *value = context.input.environment.get(name).cloned().into();
            }
        }
        raw.insert("environment".into(), Json::Object(written));
    }
    finish_environment(service, found);
}

fn finish_environment(service: &mut Service, found: BTreeMap<String, Option<String>>) {
    // One without a value anywhere is not set in the container.
    service.environment =
        found.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
}

fn build(node: &Node, what: &str, context: &Context<'_>) -> Option<Build> {
    if let Some(path) = scalar(node) {
        return Some(Build { context: context.path(path), ..Build::default() });
    }
    let keys = Keys::open(context.report, format!("`build` of {what}"), node);
    let path = keys.text("context").unwrap_or_else(|| ".".into());
    if path.contains("://") || path.starts_with("git@") {
        context.report.error_help(
            node.span,
            "building from a repository elsewhere is not supported",
            "clone it, and name its folder as `context`",
        );
    }
    let environment = &context.input.environment;
    let args = keys.pairs("args").into_iter();
    let build = Build {
        context: context.path(&path),
        dockerfile: keys.text("dockerfile"),
        inline: keys.text("dockerfile_inline"),
        args: args
            .filter_map(|(name, value)| {
                let value = value.or_else(|| environment.get(&name).cloned())?;
                Some((name, value))
            })
            .collect(),
        target: keys.text("target"),
        labels: keys.labels("labels"),
        cache_from: keys.texts("cache_from").unwrap_or_default(),
        network: keys.text("network"),
        no_cache: keys.bool("no_cache").unwrap_or(false),
        pull: keys.bool("pull").unwrap_or(false),
    };
    keys.finish(
        &["cache_to", "provenance", "sbom", "shm_size", "extra_hosts", "isolation"],
        &[
            "additional_contexts",
            "entitlements",
            "platforms",
            "privileged",
            "secrets",
            "ssh",
            "tags",
            "ulimits",
        ],
    );
    Some(build)
}

fn networks(keys: &Keys<'_>, service: &mut Service, context: &Context<'_>) {
    if let Some(node) = keys.get("network_mode") {
        match scalar(node) {
            Some("bridge") | None => {
                service.network_mode = Some("bridge".into());
            }
            Some(mode @ ("host" | "none")) => service.network_mode = Some(mode.into()),
            Some(_) => {
                let message = format!("`network_mode`: {} is not supported", node.describe());
                context.report.error_help(node.span, message, "write host, none or bridge");
            }
        }
    }
    let Some(node) = keys.get("networks") else {
        if service.network_mode.is_none() {
            service.networks.insert("default".into(), Attachment::default());
        }
        return;
    };
    if service.network_mode.is_some() {
        context.report.error(node.span, "a service has either `networks` or a `network_mode`");
    }
    match &node.value {
        Value::List(items) => {
            for name in items.iter().filter_map(scalar) {
                service.networks.insert(name.to_owned(), Attachment::default());
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                let mut attachment = Attachment::default();
                if !entry.value.is_null() {
                    let what = format!("network `{}` of `{}`", entry.key, service.name);
                    let keys = Keys::open(context.report, what, &entry.value);
                    attachment.aliases = keys.texts("aliases").unwrap_or_default();
                    attachment.ipv4 = keys.text("ipv4_address");
                    attachment.ipv6 = keys.text("ipv6_address");
                    keys.finish(
                        &["priority", "gw_priority"],
                        &["link_local_ips", "mac_address", "driver_opts", "interface_name"],
                    );
                }
                service.networks.insert(entry.key.to_string(), attachment);
            }
        }
        Value::Scalar { .. } => {
            let _: Option<()> = keys.wrong(node, "networks", "a list or a map of networks");
        }
    }
}

fn depends_on(keys: &Keys<'_>, service: &mut Service, context: &Context<'_>) {
    let Some(node) = keys.get("depends_on") else { return };
    let started = Dependency { condition: Condition::Started, required: true };
    let Value::Map(entries) = &node.value else {
        let names = keys.texts("depends_on").unwrap_or_default();
        service.depends_on.extend(names.into_iter().map(|name| (name, started)));
        return;
    };
    for entry in entries {
        let what = format!("`depends_on` of `{}`", service.name);
        let keys = Keys::open(context.report, what, &entry.value);
        let condition = match keys.get("condition").map(|node| (node, scalar(node))) {
            None | Some((_, Some("service_started"))) => Condition::Started,
            Some((_, Some("service_healthy"))) => Condition::Healthy,
            Some((_, Some("service_completed_successfully"))) => Condition::CompletedSuccessfully,
            Some((node, _)) => {
                let expected = "service_started, service_healthy or service_completed_successfully";
                let _: Option<()> = keys.wrong(node, "condition", expected);
                Condition::Started
            }
        };
        let required = keys.bool("required").unwrap_or(true);
        keys.finish(&["restart"], &[]);
        service.depends_on.insert(entry.key.to_string(), Dependency { condition, required });
    }
}

fn healthcheck(keys: &Keys<'_>, service: &mut Service) {
    let Some(keys) = keys.section("healthcheck") else { return };
    let mut check = Map::new();
    let disabled = keys.bool("disable") == Some(true);
    if let Some(node) = keys.get("test") {
        let test = match &node.value {
            Value::Scalar { text, .. } => Some(vec!["CMD-SHELL".into(), text.to_string()]),
            Value::List(_) => keys.texts("test"),
            Value::Map(_) => keys.wrong(node, "test", "a command, or a list"),
        };
        if let Some(test) = test {
            if !matches!(test.first().map(String::as_str), Some("NONE" | "CMD" | "CMD-SHELL")) {
                let _: Option<()> =
                    keys.wrong(node, "test", "a list that begins with CMD, CMD-SHELL or NONE");
            }
            check.insert("Test".into(), test.into());
        }
    }
    for (key, there) in
        [("interval", "Interval"), ("timeout", "Timeout"), ("start_period", "StartPeriod")]
    {
        if let Some(duration) = keys.duration(key) {
            check.insert(there.into(), (duration.as_nanos() as u64).into());
        }
    }
    if let Some(retries) = keys.integer("retries") {
        check.insert("Retries".into(), retries.into());
    }
    keys.finish(&["start_interval"], &[]);
    if disabled {
        check.insert("Test".into(), json!(["NONE"]));
    }
    service.has_healthcheck = check.get("Test").is_some_and(|test| test[0] != "NONE");
    service.config.insert("Healthcheck".into(), check.into());
}

fn restart(keys: &Keys<'_>, service: &mut Service) {
    let Some(node) = keys.get("restart") else { return };
    let policy = scalar(node).unwrap_or_default();
    let (name, count) = policy.split_once(':').unwrap_or((policy, "0"));
    let count = count.parse::<u32>();
    match (name, count) {
        ("no" | "always" | "unless-stopped" | "on-failure", Ok(count)) => {
            let policy = json!({ "Name": name, "MaximumRetryCount": count });
            service.host.insert("RestartPolicy".into(), policy);
        }
        // YAML's own `no`.
        ("false", _) => {}
        _ => {
            let expected = "\"no\", always, unless-stopped, on-failure or on-failure:N";
            let _: Option<()> = keys.wrong(node, "restart", expected);
        }
    }
}

fn replicas(keys: &Keys<'_>, count: i64, name: &'static str, service: &mut Service) {
    if (0..=REPLICAS_MAX).contains(&count) {
        service.replicas = count as usize;
    } else if let Some(node) = keys.get(name) {
        let _: Option<()> = keys.wrong(node, name, "a number from 0 to 1,000");
    }
}

fn deploy(keys: &Keys<'_>, service: &mut Service) {
    let Some(keys) = keys.section("deploy") else { return };
    if let Some(count) = keys.integer("replicas") {
        replicas(&keys, count, "replicas", service);
    }
    if let Some(node) = keys.get("mode")
        && scalar(node) != Some("replicated")
    {
        let message = "only `mode: replicated` is supported: there is one machine";
        keys.report.error(node.span, message);
    }
    if let Some(resources) = keys.section("resources") {
        if let Some(limits) = resources.section("limits") {
            if let Some(cpus) = limits.number("cpus") {
                service.host.insert("NanoCpus".into(), ((cpus * 1e9) as i64).into());
            }
            if let Some(bytes) = limits.bytes("memory") {
                service.host.insert("Memory".into(), bytes.into());
            }
            if let Some(count) = limits.integer("pids") {
                service.host.insert("PidsLimit".into(), count.into());
            }
            limits.finish(&[], &[]);
        }
        if let Some(reserved) = resources.section("reservations") {
            if let Some(bytes) = reserved.bytes("memory") {
                service.host.insert("MemoryReservation".into(), bytes.into());
            }
            reserved.finish(&["cpus"], &["devices", "generic_resources"]);
        }
        resources.finish(&[], &[]);
    }
    if let Some(policy) = keys.section("restart_policy") {
        let name = match policy.text("condition").as_deref() {
            None | Some("any") => "always",
            Some("on-failure") => "on-failure",
            Some("none") => "no",
            Some(_) => {
                let message = "`condition` must be none, on-failure or any";
                keys.report.error(policy.span, message);
                "no"
            }
        };
        let count = policy.integer("max_attempts").filter(|_| name == "on-failure").unwrap_or(0);
        policy.finish(&["delay", "window"], &[]);
        let restart = json!({ "Name": name, "MaximumRetryCount": count });
        service.host.entry("RestartPolicy").or_insert(restart);
    }
    if let Some(update) = keys.section("update_config") {
        service.update_order = match update.get("order").map(|node| (node, scalar(node))) {
            None => None,
            Some((_, Some("start-first"))) => Some(UpdateOrder::StartFirst),
            Some((_, Some("stop-first"))) => Some(UpdateOrder::StopFirst),
            Some((node, _)) => update.wrong(node, "order", "start-first or stop-first"),
        };
        let passed_over =
            ["parallelism", "delay", "failure_action", "monitor", "max_failure_ratio"];
        update.finish(&passed_over, &[]);
    }
    keys.finish(&["endpoint_mode", "labels", "placement", "rollback_config"], &[]);
}

/// `x-evenkeel` of the service, and labels that say the same.
fn balancing(keys: &Keys<'_>, service: &Service, context: &Context<'_>) -> Balancing {
    let mut balancing = Balancing::default();
    for (label, value) in &service.labels {
        let Some(key) = label.strip_prefix(config::LABEL_PREFIX) else { continue };
        if key == "protocol" {
            balancing.protocol = app_protocol(value);
            // Of a datagram port, which says so itself.
            if balancing.protocol.is_none() && value != "udp" {
                let message =
                    format!("label {label} must be {PROTOCOLS}, or udp, not {}", quoted(value));
                context.report.error(keys.span, message);
            }
        }
    }
    let Some(node) = keys.get("x-evenkeel") else { return balancing };
    let own = Keys::open(context.report, format!("`x-evenkeel` of `{}`", service.name), node);
    if let Some(node) = own.get("protocol") {
        balancing.protocol = scalar(node).and_then(app_protocol);
        if balancing.protocol.is_none() {
            let _: Option<()> = own.wrong(node, "protocol", PROTOCOLS);
        }
    }
    if let Some(node) = own.get("publish") {
        match scalar(node) {
            Some("engine") => balancing.published_by_engine = true,
            Some("balancer") => {}
            _ => drop::<Option<()>>(own.wrong(node, "publish", "balancer or engine")),
        }
    }
    if let Some(section) = own.section("autoscale") {
        balancing.autoscale = autoscale_settings(section);
    }
    // Everything else is the balancer's, and is checked where its configuration is made.
    if let Value::Map(entries) = &node.value {
        let ours = |entry: &&Entry| match &*entry.key {
            "publish" | "autoscale" => true,
            "protocol" => scalar(&entry.value).is_none_or(config::is_listener_protocol),
            _ => false,
        };
        let others = entries.iter().filter(|entry| !ours(entry));
        balancing.service = others.map(|e| (e.key.to_string(), as_json(&e.value))).collect();
    }
    balancing
}

const PROTOCOLS: &str = "http, h2c, h2, auto or tcp";

/// How clients are served. Of HTTP, the service itself may say in which version it speaks to
/// endpoints.
fn app_protocol(word: &str) -> Option<AppProtocol> {
    match word {
        "http" | "h2c" | "h2" | "auto" => Some(AppProtocol::Http),
        "tcp" => Some(AppProtocol::Tcp),
        _ => None,
    }
}

fn autoscale_settings(keys: Keys<'_>) -> Option<autoscale::Settings> {
    let mut settings = autoscale::Settings::default();
    let count = |value: Option<i64>, default: usize| match value {
        None => Some(default),
        Some(value) => usize::try_from(value).ok().filter(|n| *n <= REPLICAS_MAX as usize),
    };
    let (min, max) = (count(keys.integer("min"), 1), count(keys.integer("max"), 10));
    settings.in_flight = keys.number("in_flight");
    settings.cpu = keys.get("cpu").and_then(|node| {
        let text = scalar(node).unwrap_or_default();
        let share = match text.strip_suffix('%') {
            Some(percent) => percent.parse::<f64>().ok().map(|p| p / 100.0),
            None => text.parse().ok(),
        };
        match share {
            Some(share) if share > 0.0 && share <= 1.0 => Some(share),
            _ => keys.wrong(node, "cpu", "a share, such as 60%"),
        }
    });
    settings.queue_time = keys.duration("queue_time");
    if let Some(cool) = keys.duration("up_after") {
        settings.up_after = cool;
    }
    if let Some(cool) = keys.duration("down_after") {
        settings.down_after = cool;
    }
    if let Some(idle) = keys.duration("idle") {
        settings.idle = idle;
    }
    let span = keys.span;
    let report = keys.report;
    keys.finish(&[], &[]);
    let fits = |target: Option<f64>| target.is_none_or(|t| t > 0.0);
    match (min, max) {
        (Some(min), Some(max))
            if min <= max
                && max >= 1
                && fits(settings.in_flight)
                && (min == 0
                    || settings.in_flight.is_some()
                    || settings.cpu.is_some()
                    || settings.queue_time.is_some()) =>
        {
            settings.min = min;
            settings.max = max;
            Some(settings)
        }
        _ => {
            report.error_help(
                span,
                "`autoscale` needs a target or `min: 0`, and a `min` that is not above `max`",
                "write `autoscale: { min: 1, max: 5, in_flight: 20 }`, `cpu: 60%`, or \
                 `{ min: 0, max: 1, idle: 5m }`",
            );
            None
        }
    }
}
