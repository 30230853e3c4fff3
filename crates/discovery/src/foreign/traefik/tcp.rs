//! Routers and services for TCP: an entry point is the listener of that name, everything that comes to
//! it (``HostSNI(`*`)``) is `protocol: tcp`, and TLS that passes through by its name is
//! `protocol: tls`. What would end TLS, or keep somebody out, leaves the router out.

use std::collections::BTreeSet;

use super::super::rule;
use super::Reader;

/// Middlewares for TCP that let everybody through.
const LETS_THROUGH: &str = "inflightconn";

/// How a container is reached: one protocol, at one listener.
#[derive(Clone, PartialEq)]
struct Reached {
    protocol: &'static str,
    listener: Option<String>,
}

/// `has_http`: the container is reached over HTTP, and what is said of TCP is only told of.
pub(super) fn translate(reader: &mut Reader<'_>, has_http: bool) {
    let keys: Vec<String> =
        reader.labels.keys().filter(|key| key.starts_with("tcp.")).cloned().collect();
    if keys.is_empty() {
        return;
    }
    if has_http {
        for key in keys {
            reader.not_understood(&key, "a container with labels for HTTP is reached by those");
        }
        return;
    }
    let service = reader.names("tcp.services.").into_iter().next();
    let mut routers = BTreeSet::new();
    let mut used = BTreeSet::new();
    for key in keys {
        let levels: Vec<&str> = key.split('.').collect();
        match &*levels {
            ["tcp", "services", name, "loadbalancer", rest @ ..] => {
                if service.as_deref() == Some(name) {
                    service_key(reader, &key, rest);
                } else {
                    reader.not_understood(&key, "one service for each container is");
                }
            }
            ["tcp", "routers", name, _, ..] => drop(routers.insert((*name).to_owned())),
            // Read with the routers that use them.
            ["tcp", "middlewares", _, _, ..] => {}
            _ => reader.not_understood(&key, ""),
        }
    }
    let mut reached: Option<Reached> = None;
    for name in routers {
        let Some((way, names)) = router(reader, &name, service.as_deref(), &mut used) else {
            continue;
        };
        if reached.as_ref().is_some_and(|before| *before != way) {
            let why = "a container is reached by one entry point and one protocol, and another \
                       router has said which";
            reader.not_understood(&format!("tcp.routers.{name}"), why);
            continue;
        }
        reader.translation.set("protocol", way.protocol);
        if let Some(listener) = &way.listener {
            reader.translation.set("listener", listener.as_str());
        }
        for (at, host) in names.into_iter().enumerate() {
            reader.translation.set(&format!("routes.{name}-{at}.host"), host);
        }
        reached = Some(way);
    }
    // With no router there Traefik leads nobody to it.
    reader.translation.unreachable |= reached.is_none();
    for name in reader.names("tcp.middlewares.") {
        if !used.contains(&name) {
            reader.not_understood(&format!("tcp.middlewares.{name}"), "");
        }
    }
}

fn service_key(reader: &mut Reader<'_>, key: &str, levels: &[&str]) {
    let value = reader.labels[key];
    match (levels, value) {
        (["server", "port"], _) => reader.translation.set("port", value),
        (["server", "tls"], "false") => {}
        (["proxyprotocol", "version"], "1" | "2") => {
            reader.translation.set("proxy_protocol", format!("v{value}"));
        }
        _ => reader.not_understood(key, ""),
    }
}

/// Where it leads from, and for which names of TLS; `None`: that was told.
fn router(
    reader: &mut Reader<'_>,
    name: &str,
    service: Option<&str>,
    used: &mut BTreeSet<String>,
) -> Option<(Reached, Vec<String>)> {
    let prefix = format!("tcp.routers.{name}.");
    let (mut rule, mut listener) = (None, None);
    let (mut tls, mut passthrough, mut left_out) = (false, false, false);
    let labels = reader.labels;
    for (key, value) in labels.iter().filter(|(key, _)| key.starts_with(&prefix)) {
        match &key[prefix.len()..] {
            "rule" => rule = Some(*value),
            "entrypoints" => {
                let mut names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
                listener = names.next().map(str::to_owned);
                if names.next().is_some() {
                    reader.not_understood(key, "one entry point is, the first");
                }
            }
            "service" => {
                if service.is_some_and(|known| *known != value.to_ascii_lowercase()) {
                    reader.not_understood(key, "one service for each container is");
                    left_out = true;
                }
            }
            "middlewares" => left_out |= !middlewares(reader, key, value, used),
            "tls" => tls |= *value != "false",
            "tls.passthrough" if *value == "false" => tls = true,
            "tls.passthrough" => passthrough = *value == "true",
            other => {
                tls |= other.starts_with("tls.");
                reader.not_understood(key, "");
            }
        }
    }
    let rule = rule.filter(|_| !left_out)?;
    let key = format!("{prefix}rule");
    let names = match rule::server_names(rule) {
        Ok(names) => names,
        Err(why) => {
            reader.not_understood(&key, &why);
            return None;
        }
    };
    if tls && !passthrough {
        let why =
            "TLS that ends at the balancer is a matter of its listener, so the router is left out";
        reader.not_understood(&format!("{prefix}tls"), why);
        return None;
    }
    let all = names.iter().any(|name| name == "*");
    if all && names.len() == 1 {
        return Some((Reached { protocol: "tcp", listener }, Vec::new()));
    }
    if all || !passthrough {
        let why = "a name is known only of TLS, with `tls.passthrough=true`";
        reader.not_understood(&key, if all { "`*` is all there is" } else { why });
        return None;
    }
    Some((Reached { protocol: "tls", listener }, names))
}

/// Whether they let everybody through.
fn middlewares(
    reader: &mut Reader<'_>,
    key: &str,
    value: &str,
    used: &mut BTreeSet<String>,
) -> bool {
    let mut open = true;
    for name in value.split(',') {
        let name = name.trim().to_ascii_lowercase();
        let name = name.split('@').next().unwrap_or("").to_owned();
        let kinds = reader.names(&format!("tcp.middlewares.{name}."));
        if !kinds.is_empty() && kinds.iter().all(|kind| kind == LETS_THROUGH) {
            reader.not_understood(key, &format!("`{value}`"));
        } else {
            open = false;
            let why =
                format!("`{name}` may be what keeps strangers out, so the router is left out");
            reader.not_understood(key, &why);
        }
        used.insert(name);
    }
    open
}

#[cfg(test)]
mod tests {
    use super::super::tests::translated;

    #[test]
    fn everything_that_comes_to_an_entry_point() {
        let (labels, notes) = translated(&[
            ("tcp.routers.mqtt.rule", "HostSNI(`*`)"),
            ("tcp.routers.mqtt.entrypoints", "mqtt"),
            ("tcp.routers.mqtt.service", "Mqtt"),
            ("tcp.services.mqtt.loadbalancer.server.port", "1883"),
            ("tcp.services.mqtt.loadbalancer.proxyprotocol.version", "2"),
            ("tcp.services.mqtt.loadbalancer.terminationdelay", "100"),
        ]);
        assert_eq!(labels, ["listener=mqtt", "port=1883", "protocol=tcp", "proxy_protocol=v2"]);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].contains("terminationdelay is not understood"), "{notes:?}");
    }

    #[test]
    fn tls_that_passes_through_by_its_name() {
        let (labels, notes) = translated(&[
            ("tcp.routers.db.rule", "HostSNI(`DB.example`) || HostSNI(`a.example`, `b.example`)"),
            ("tcp.routers.db.tls.passthrough", "true"),
            ("tcp.services.db.loadbalancer.server.port", "5432"),
        ]);
        let expected = [
            "port=5432",
            "protocol=tls",
            "routes.db-0.host=db.example",
            "routes.db-1.host=a.example",
            "routes.db-2.host=b.example",
        ];
        assert_eq!((&labels[..], notes.len()), (&expected.map(str::to_owned)[..], 0), "{notes:?}");
    }

    #[test]
    fn what_is_left_out_is_told() {
        let check = |more: &[(&str, &str)], expected: &str| {
            let port = ("tcp.services.a.loadbalancer.server.port", "1");
            let (labels, notes) = translated(&[&[port], more].concat());
            assert_eq!(labels, ["port=1", "unreachable"], "{more:?}");
            assert!(notes.iter().any(|note| note.contains(expected)), "{notes:?}");
        };
        let all = ("tcp.routers.a.rule", "HostSNI(`*`)");
        let named = ("tcp.routers.a.rule", "HostSNI(`a.example`)");
        check(&[("tcp.routers.a.rule", "ClientIP(`10.0.0.0/8`)")], "`ClientIP` is not understood");
        check(&[("tcp.routers.a.rule", "HostSNI(`*`, `a`)")], "`*` is all there is");
        check(&[("tcp.routers.a.rule", "Host(`a`)")], "`Host` is not understood");
        check(&[named], "a name is known only of TLS");
        check(&[all, ("tcp.routers.a.tls", "true")], "TLS that ends at the balancer");
        check(&[named, ("tcp.routers.a.tls.certresolver", "le")], "TLS that ends at the balancer");
        check(&[named, ("tcp.routers.a.tls.passthrough", "false")], "TLS that ends at");
        check(&[all, ("tcp.routers.a.service", "b")], "one service for each container");
        check(&[all, ("tcp.routers.a.middlewares", "m@file")], "`m` may be what keeps strangers");
        let list = ("tcp.middlewares.m.ipallowlist.sourcerange", "10.0.0.0/8");
        check(&[all, ("tcp.routers.a.middlewares", "m"), list], "`m` may be what keeps strangers");
    }

    #[test]
    fn http_comes_first_and_one_entry_point_is_understood() {
        let tcp = [
            ("tcp.routers.a.rule", "HostSNI(`*`)"),
            ("tcp.routers.a.entrypoints", "one"),
            ("tcp.routers.b.rule", "HostSNI(`*`)"),
            ("tcp.routers.b.entrypoints", "two"),
        ];
        let (labels, notes) = translated(&tcp);
        assert_eq!(labels, ["listener=one", "protocol=tcp"]);
        assert!(notes.len() == 1 && notes[0].contains("tcp.routers.b is"), "{notes:?}");
        let http = [("http.routers.a.rule", "Host(`a`)")];
        let (labels, notes) = translated(&[&http[..], &tcp].concat());
        assert_eq!((labels, notes.len()), (vec!["routes.a-0.host=a".to_owned()], 4));
    }
}
