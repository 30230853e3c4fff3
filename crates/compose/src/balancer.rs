//! The configuration of the balancer that listens on the published ports of a project. Pure.
//!
//! Which protocol a port speaks, the first of these says:
//! 1. `x-evenkeel: { protocol: http }` of the service, or its label `evenkeel.protocol`;
//! 2. `app_protocol` of the port, in its long form;
//! 3. a health check whose command asks for `http://` at that very port;
//! 4. the container's port is one that web applications use ([`HTTP_PORTS`]);
//! 5. otherwise it is TCP, which carries everything, and is balanced by connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use config::defect::Report;
use config::{Source, tree};
use serde_json::{Map, Value, json};

use crate::project::{AppProtocol, ContainerPort, Port, Project, Service, Transport};
use crate::read::json as as_json;

/// What web applications listen on when nobody tells them otherwise: HTTP itself, Node's and
/// Rails' 3000, Angular's 4200, Flask's 5000, Vite's 5173, Django's and uvicorn's 8000, and the
/// alternatives to 80.
pub const HTTP_PORTS: [u16; 13] =
    [80, 3000, 3001, 4000, 4200, 5000, 5001, 5173, 8000, 8008, 8080, 8081, 8888];

/// What the project's file does not say.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    pub admin: SocketAddr,
    /// Of the engine.
    pub socket: &'a Path,
    /// Ports of this machine, and their protocol, that containers of the project still have.
    pub held: &'a [(u16, String)],
}

/// One port that is listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listened {
    pub service: String,
    /// As the balancer calls the service.
    pub balanced: String,
    pub bind: String,
    pub protocol: &'static str,
    pub container_port: u16,
}

/// How the balancer calls a service's port: by the service, and the further ones by their number,
/// too.
pub fn balanced_names(service: &Service) -> Vec<(String, &Port)> {
    let mut names: BTreeMap<ContainerPort, String> = BTreeMap::new();
    let named = service.balanced_ports().map(|port| {
        let first = names.is_empty();
        let name = names.entry(port.container).or_insert_with(|| match first {
            true => service.name.clone(),
            false => format!("{}.{}", service.name, port.container.text().replace('/', ".")),
        });
        (name.clone(), port)
    });
    named.collect()
}

/// The text of the configuration, and what it listens on; `None`: there is nothing to balance.
pub fn configuration(
    project: &Project,
    settings: &Settings<'_>,
) -> Result<Option<(String, Vec<Listened>)>, String> {
    let mut listeners = Map::new();
    let mut services = Map::new();
    let mut listened = Vec::new();
    let mut by_label = false;
    for service in project.services.values() {
        let labelled = service.labels.keys().any(|label| label.starts_with(config::LABEL_PREFIX));
        by_label |= labelled && service.balanced_ports().next().is_none();
        if sleeps(service) && service.balanced_ports().next().is_none() {
            return Err(format!(
                "service {}: `autoscale` with `min: 0` needs a port that the balancer listens on, \
                 as its labels are gone with its last container",
                service.name
            ));
        }
        for (name, port) in balanced_names(service) {
            let protocol = protocol(service, port);
            let number = port.published.map_or(0, |(first, _)| first);
            let ip = port.host_ip.clone().unwrap_or_default();
            let ip = if ip.contains(':') { format!("[{ip}]") } else { ip };
            let bind = format!("{ip}:{number}");
            services.entry(name.clone()).or_insert(balanced(project, service, port, protocol)?);
            let transport = if protocol == "udp" { "udp" } else { "tcp" };
            let held = settings.held.iter().any(|(n, t)| *n == number && t == transport);
            if !held {
                let listener = json!({ "bind": bind, "protocol": protocol, "service": name });
                let unique = format!("{}-{transport}-{number}", service.name);
                let unique = match listeners.contains_key(&unique) {
                    true => format!("{unique}-{}", listeners.len()),
                    false => unique,
                };
                listeners.insert(unique, listener);
            }
            listened.push(Listened {
                service: service.name.clone(),
                balanced: name,
                bind,
                protocol,
                container_port: port.container.number,
            });
        }
    }
    if services.is_empty() && !by_label {
        return Ok(None);
    }
    let mut file = Map::new();
    file.insert("admin".into(), json!({ "bind": settings.admin.to_string() }));
    let provider = json!({
        "socket": settings.socket.display().to_string(),
        "compose_project": project.name,
        "exposed_by_default": false,
        "statistics": "2s",
    });
    file.insert("providers".into(), json!({ "docker": provider }));
    // Without the key the balancer would make a listener of its own, on port 8080; that is for
    // routes by label alone.
    if !services.is_empty() {
        file.insert("listeners".into(), listeners.into());
    }
    if !services.is_empty() {
        file.insert("services".into(), services.into());
    }
    let json = serde_json::to_string_pretty(&Value::Object(file)).unwrap_or_default();
    let name = &project.name;
    let text =
        format!("# Made by `evenkeel up` for the project {name}, and made anew by it.\n{json}\n");
    Ok(Some((text, listened)))
}

/// How a port is served: `http`, `tcp` or `udp`.
pub fn protocol(service: &Service, port: &Port) -> &'static str {
    if port.container.transport == Transport::Udp {
        return "udp";
    }
    match service.balancing.protocol {
        Some(AppProtocol::Http) => return "http",
        Some(AppProtocol::Tcp) => return "tcp",
        None => {}
    }
    let number = port.container.number;
    if let Some(protocol) = &port.app_protocol {
        let http = ["http", "http/1.1", "ws", "kubernetes.io/ws"];
        return if http.contains(&protocol.to_ascii_lowercase().as_str()) { "http" } else { "tcp" };
    }
    let test = service.config.get("Healthcheck").map(|check| check["Test"].to_string());
    let asks = test.is_some_and(|test| {
        let hosts = ["localhost", "127.0.0.1", "0.0.0.0", "[::1]"];
        hosts.iter().any(|host| {
            test.contains(&format!("http://{host}:{number}"))
                || (number == 80 && test.contains(&format!("http://{host}/")))
        })
    });
    if asks || HTTP_PORTS.contains(&number) { "http" } else { "tcp" }
}

/// The service of the balancer: what the file says of it, where its containers are, and how a
/// container that cannot be asked is checked.
fn balanced(
    project: &Project,
    service: &Service,
    port: &Port,
    protocol: &'static str,
) -> Result<Value, String> {
    let mut found = of_labels(service)?;
    found.extend(service.balancing.service.clone());
    let mut place = Map::new();
    place.insert("compose_project".into(), project.name.clone().into());
    place.insert("compose_service".into(), service.name.clone().into());
    place.insert("port".into(), port.container.number.into());
    if let Some(network) = network(project, service) {
        place.insert("network".into(), network.into());
    }
    found.insert("discover".into(), json!({ "docker": place }));
    if sleeps(service) {
        if protocol == "udp" {
            let (name, port) = (&service.name, port.container.text());
            let why = "datagrams are not held until a container has started";
            return Err(format!("service {name}: `min: 0` with port {port}: {why}"));
        }
        found.entry("wake").or_insert(json!({}));
    }
    if protocol == "udp" {
        found.entry("health").or_insert("off".into());
    }
    if protocol == "http" {
        found.entry("policy").or_insert("least_request".into());
    }
    Ok(found.into())
}

/// Whether it has no container while nobody asks for it.
pub fn sleeps(service: &Service) -> bool {
    service.balancing.autoscale.as_ref().is_some_and(|settings| settings.min == 0)
}

/// The network in which the balancer reaches the containers: one that is not internal, if there
/// are several.
fn network(project: &Project, service: &Service) -> Option<String> {
    let mut networks: Vec<_> =
        service.networks.keys().filter_map(|key| project.networks.get(key)).collect();
    networks.sort_by_key(|n| (n.options.get("Internal") == Some(&json!(true)), n.name.clone()));
    networks.first().map(|network| network.name.clone())
}

/// Labels of a service that are keys of the balancer's service, with dots between their levels.
fn of_labels(service: &Service) -> Result<Map<String, Value>, String> {
    let mut found = Map::new();
    for (label, value) in &service.labels {
        let Some(path) = label.strip_prefix(config::LABEL_PREFIX) else { continue };
        let levels: Vec<&str> = path.split('.').collect();
        let says_listener = path == "protocol" && config::is_listener_protocol(value);
        if !config::is_service_key(levels[0]) || says_listener {
            continue;
        }
        let wrong = |what: &str| format!("service {}: label {label}: {what}", service.name);
        let value = match value.trim().starts_with(['{', '[']) {
            false => value.trim().into(),
            true => {
                let report = Report::new(Source { name: label, text: value });
                let node = tree::read(value, &report).ok_or_else(|| wrong("cannot be read"))?;
                as_json(&node)
            }
        };
        let mut map = &mut found;
        let Some((last, above)) = levels.split_last() else { continue };
        for level in above {
            let below = map.entry(*level).or_insert_with(|| Map::new().into());
            let Value::Object(below) = below else {
                return Err(wrong("another label gives it a value of its own"));
            };
            map = below;
        }
        map.insert((*last).to_owned(), value);
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
