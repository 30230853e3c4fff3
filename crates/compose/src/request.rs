//! What the engine is asked to make: the bodies of its API for containers, networks and volumes.
//! Pure.

use std::collections::BTreeMap;
use std::io;

use serde_json::{Map, Value, json};

use crate::labels;
use crate::project::{
    Attachment, Content, Mount, MountKind, Network, Port, Project, Service, Volume,
};

/// The body of `POST /containers/create`, and the networks that the container joins afterwards:
/// the engine takes one at creation.
#[derive(Clone, Debug, PartialEq)]
pub struct NewContainer {
    pub name: String,
    pub body: Value,
    /// Name of the network, and the body's `EndpointConfig`.
    pub joins: Vec<(String, Value)>,
}

/// `image`: what the engine calls it, by name; `hash`: of the service's configuration.
pub fn container(
    project: &Project,
    service: &Service,
    number: u32,
    image: &str,
    hash: &str,
) -> NewContainer {
    let name = labels::container_name(project, service, number);
    let mut body = service.config.clone();
    body.insert("Image".into(), image.into());
    body.insert("Labels".into(), json!(labels::of_container(project, service, number, hash)));
    let environment = service.environment.iter().map(|(name, value)| format!("{name}={value}"));
    body.insert("Env".into(), environment.collect());
    if let Some(grace) = service.stop_grace {
        // The API takes whole seconds.
        body.insert("StopTimeout".into(), (grace.as_secs_f64().ceil() as u64).into());
    }
    let ports = service.ports.iter().map(|port| port.container).chain(service.expose.clone());
    let exposed: Map<String, Value> = ports.map(|port| (port.text(), json!({}))).collect();
    body.insert("ExposedPorts".into(), exposed.into());
    let mut host = service.host.clone();
    host.insert("PortBindings".into(), bindings(service.engine_ports()));
    mounts(project, service, &mut body, &mut host);
    let mut joins = Vec::new();
    match &service.network_mode {
        Some(mode) => {
            host.insert("NetworkMode".into(), mode.clone().into());
        }
        None => {
            let mut networks = networks(project, service, &name);
            if !networks.is_empty() {
                let (first, settings) = networks.remove(0);
                host.insert("NetworkMode".into(), first.clone().into());
                let endpoints = Map::from_iter([(first, settings)]);
                body.insert("NetworkingConfig".into(), json!({ "EndpointsConfig": endpoints }));
            }
            joins = networks;
        }
    }
    body.insert("HostConfig".into(), host.into());
    NewContainer { name, body: body.into(), joins }
}

/// The archive that `PUT /containers/ID/archive?path=/` takes: secrets and configs that are written
/// into the container. `None`: there are none.
pub fn files(service: &Service) -> io::Result<Option<Vec<u8>>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut any = false;
    for given in &service.given {
        let Content::Text { text, .. } = &given.content else { continue };
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(given.mode);
        header.set_uid(given.uid.into());
        header.set_gid(given.gid.into());
        let path = given.target.trim_start_matches('/');
        archive.append_data(&mut header, path, text.as_bytes())?;
        any = true;
    }
    let bytes = archive.into_inner()?;
    Ok(any.then_some(bytes))
}

fn bindings<'a>(ports: impl Iterator<Item = &'a Port>) -> Value {
    let mut bindings: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for port in ports {
        let published = match port.published {
            None => String::new(),
            Some((first, last)) if first == last => first.to_string(),
            Some((first, last)) => format!("{first}-{last}"),
        };
        let ip = port.host_ip.clone().unwrap_or_default();
        let binding = json!({ "HostIp": ip, "HostPort": published });
        bindings.entry(port.container.text()).or_default().push(binding);
    }
    json!(bindings)
}

fn mounts(
    project: &Project,
    service: &Service,
    body: &mut Map<String, Value>,
    host: &mut Map<String, Value>,
) {
    let mut binds: Vec<Value> = Vec::new();
    let mut long: Vec<Value> = Vec::new();
    let mut anonymous = Map::new();
    for mount in &service.mounts {
        let volume = project.volumes.get(&mount.source).map(|volume| volume.name.clone());
        let source = volume.unwrap_or_else(|| mount.source.clone());
        match mount.kind {
            MountKind::Tmpfs => long.push(tmpfs(mount)),
            MountKind::Volume if source.is_empty() => {
                anonymous.insert(mount.target.clone(), json!({}));
            }
            // The long form fails where the source is not there; the short one makes a folder.
            MountKind::Bind if mount.long => long.push(json!({
                "Type": "bind", "Source": source, "Target": mount.target,
                "ReadOnly": mount.read_only,
            })),
            MountKind::Bind | MountKind::Volume => {
                let mode = if mount.read_only { "ro" } else { "rw" };
                let options = mount.options.iter().map(|option| format!(",{option}"));
                let options: String = options.collect();
                binds.push(format!("{source}:{}:{mode}{options}", mount.target).into());
            }
        }
    }
    if !binds.is_empty() {
        host.insert("Binds".into(), binds.into());
    }
    if !long.is_empty() {
        host.insert("Mounts".into(), long.into());
    }
    if !anonymous.is_empty() {
        body.insert("Volumes".into(), anonymous.into());
    }
}

fn tmpfs(mount: &Mount) -> Value {
    let mut value = json!({ "Type": "tmpfs", "Target": mount.target });
    if let Some(size) = mount.size {
        value["TmpfsOptions"] = json!({ "SizeBytes": size });
    }
    value
}

/// By name; the first is the one that the container is made with.
fn networks(project: &Project, service: &Service, name: &str) -> Vec<(String, Value)> {
    let mut networks: Vec<(String, Value)> = (service.networks.iter())
        .filter_map(|(key, attachment)| {
            let network = project.networks.get(key)?;
            Some((network.name.clone(), endpoint(service, attachment, name)))
        })
        .collect();
    networks.sort_by(|a, b| a.0.cmp(&b.0));
    networks
}

/// Others reach the container by the service's name, and by its own.
fn endpoint(service: &Service, attachment: &Attachment, name: &str) -> Value {
    let mut aliases = vec![service.name.clone(), name.to_owned()];
    aliases.extend(attachment.aliases.clone());
    aliases.dedup();
    let mut value = json!({ "Aliases": aliases });
    if attachment.ipv4.is_some() || attachment.ipv6.is_some() {
        let mut ipam = Map::new();
        ipam.extend(attachment.ipv4.clone().map(|ip| ("IPv4Address".to_owned(), ip.into())));
        ipam.extend(attachment.ipv6.clone().map(|ip| ("IPv6Address".to_owned(), ip.into())));
        value["IPAMConfig"] = ipam.into();
    }
    value
}

/// The body of `POST /networks/create`.
pub fn network(project: &Project, key: &str, network: &Network) -> Value {
    let mut body = network.options.clone();
    let mut all = network.labels.clone();
    all.insert(labels::PROJECT.into(), project.name.clone());
    all.insert(labels::NETWORK.into(), key.to_owned());
    all.insert(labels::VERSION.into(), "2".into());
    body.insert("Name".into(), network.name.clone().into());
    body.insert("CheckDuplicate".into(), true.into());
    body.insert("Labels".into(), json!(all));
    body.into()
}

/// The body of `POST /volumes/create`.
pub fn volume(project: &Project, key: &str, volume: &Volume) -> Value {
    let mut body = volume.options.clone();
    let mut all = volume.labels.clone();
    all.insert(labels::PROJECT.into(), project.name.clone());
    all.insert(labels::VOLUME.into(), key.to_owned());
    all.insert(labels::VERSION.into(), "2".into());
    body.insert("Name".into(), volume.name.clone().into());
    body.insert("Labels".into(), json!(all));
    body.into()
}
