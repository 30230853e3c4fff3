//! What start-up prints: what listens where, and how many endpoints are up behind it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use model::ServiceName;
use model::spec::{ActionSpec, ListenerSpec, Protocol, Spec};
use model::status::{AgentStatus, ListenerStatus};

use crate::output::{BOLD, GREEN, RED, RESET, YELLOW};

pub(super) struct Overview<'a> {
    pub(super) spec: &'a Spec,
    pub(super) listeners: &'a [ListenerStatus],
    pub(super) admin: Option<SocketAddr>,
    pub(super) registry: Option<SocketAddr>,
    pub(super) agent: Option<AgentStatus>,
    /// How many endpoints of a service are healthy, of how many.
    pub(super) healthy: &'a dyn Fn(&ServiceName) -> (usize, usize),
}

pub(super) fn text(overview: &Overview<'_>) -> String {
    let mut lines: Vec<[String; 4]> = Vec::new();
    for (name, listener) in &overview.spec.listeners {
        let status = overview.listeners.iter().find(|status| status.name == name.as_str());
        // Port 0 was asked for, perhaps: what counts is what was bound.
        let bind = status.map_or(listener.bind, |status| status.bind);
        let (protocol, address) = match listener.protocol {
            Protocol::Http if listener.tls.is_some() => ("https", format!("https://{bind}")),
            Protocol::Http => ("http", format!("http://{bind}")),
            Protocol::Tcp if listener.tls.is_some() => ("tcp+tls", bind.to_string()),
            Protocol::Tls => ("tls", bind.to_string()),
            Protocol::Tcp => ("tcp", bind.to_string()),
            Protocol::Udp => ("udp", bind.to_string()),
        };
        lines.push([name.to_string(), protocol.into(), address, targets(listener, overview)]);
    }
    for (protocol, address) in overview.agent.iter().flat_map(agent) {
        let services = match overview.spec.services.len() {
            1 => "1 service, as callers ask".to_owned(),
            many => format!("{many} services, as callers ask"),
        };
        lines.push(["agent".into(), protocol.into(), address, services]);
    }
    if let Some(admin) = overview.admin {
        let address = format!("http://{admin}");
        lines.push(["admin".into(), "http".into(), address, "admin API, /metrics".into()]);
    }
    if let Some(registry) = overview.registry {
        let address = format!("http://{registry}");
        lines.push(["registry".into(), "http".into(), address, "registry, /openapi.json".into()]);
    }
    if let Some(dns) = &overview.spec.dns {
        let names = format!("SERVICE.{}", dns.domain.trim_end_matches('.'));
        lines.push(["dns".into(), "dns".into(), dns.bind.to_string(), names]);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let (name_width, protocol_width, address_width) = (width(0), width(1), width(2));
    let lines: Vec<String> = lines
        .iter()
        .map(|[name, protocol, address, targets]| {
            format!(
                "{BOLD}{name:name_width$}{RESET}  {protocol:protocol_width$}  \
                 {address:address_width$} -> {targets}"
            )
        })
        .collect();
    lines.join("\n")
}

/// Where callers ask, by protocol.
fn agent(status: &AgentStatus) -> Vec<(&'static str, String)> {
    let http = status.http.map(|address| format!("http://{address}")).into_iter();
    let mut places: Vec<(&str, String)> =
        http.chain(status.socket.clone()).map(|place| ("http", place)).collect();
    if let Some([first, .., last]) = status.lars.as_ref().map(|lars| &lars.udp[..]) {
        // Mostly three ports in a row.
        let rest = if last.ip() == first.ip() { last.port().to_string() } else { last.to_string() };
        places.push(("lars", format!("{first}-{rest}")));
    }
    places
}

/// Of more services than this a listener's line names one less, and says how many more there are.
const NAMES_MAX: usize = 8;

fn targets(listener: &ListenerSpec, overview: &Overview<'_>) -> String {
    let mut services: BTreeSet<&ServiceName> = listener.service.iter().collect();
    for route in listener.all_routes() {
        if let ActionSpec::Forward(targets) = &route.action {
            services.extend(targets.iter().map(|target| &target.service));
        }
    }
    let (mut healthy, mut all) = (0, 0);
    for service in &services {
        let (service_healthy, service_all) = (overview.healthy)(service);
        healthy += service_healthy;
        all += service_all;
    }
    let colour = match healthy {
        0 => RED,
        _ if healthy < all => YELLOW,
        _ => GREEN,
    };
    let count = services.len();
    let plural = if count == 1 { "" } else { "s" };
    let routes = match listener.all_routes().count() {
        0 | 1 => String::new(),
        count => format!("{count} routes, "),
    };
    if count == 0 {
        return format!("{routes}no service");
    }
    let named = if count > NAMES_MAX { NAMES_MAX - 1 } else { count };
    let names: Vec<&str> = services.iter().take(named).map(|service| service.as_str()).collect();
    let names = names.join(", ");
    let more = match count - named {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "{routes}service{plural} {names}{more} ({colour}{healthy} of {all} endpoints healthy{RESET})"
    )
}

#[cfg(test)]
mod tests {
    use config::Source;
    use model::status::LarsStatus;

    use super::*;
    use crate::control::vocabulary;

    #[test]
    fn one_line_for_each_listener() {
        let text = "
listeners:
  web: { bind: 127.0.0.1:8080, protocol: http, service: web }
  stream: { bind: '127.0.0.1:0', protocol: tcp, service: web }
  site:
    bind: 127.0.0.1:8082
    protocol: http
    routes: [ { path: /i/*, service: images }, { service: web } ]
services:
  web: { endpoints: [ ':5001', ':5002', ':5003' ] }
  images: { endpoints: [ ':5004' ] }
";
        let spec = config::parse(&Source { name: "test", text }, &vocabulary())
            .unwrap_or_else(|defects| panic!("{defects}"))
            .spec;
        let stream = ListenerStatus {
            name: "stream".into(),
            bind: "127.0.0.1:40000".parse().unwrap(),
            protocol: "tcp".into(),
            routes: 1,
            connections: 0,
            connections_total: 0,
            requests_total: 0,
        };
        let overview = Overview {
            spec: &spec,
            listeners: &[stream],
            admin: Some("127.0.0.1:9900".parse().unwrap()),
            registry: None,
            agent: Some(AgentStatus {
                http: Some("127.0.0.1:9901".parse().unwrap()),
                lars: Some(LarsStatus {
                    udp: [8888, 8889, 8890].map(|port| ([127, 0, 0, 1], port).into()).into(),
                    routes: None,
                    reports: None,
                    keys: 1,
                    told: Default::default(),
                }),
                ..AgentStatus::default()
            }),
            healthy: &|name| if name.as_str() == "web" { (3, 3) } else { (0, 1) },
        };
        let plain = anstream::adapter::strip_str(&super::text(&overview)).to_string();
        assert_eq!(
            plain,
            "\
site    http  http://127.0.0.1:8082 -> 2 routes, services images, web (3 of 4 endpoints healthy)
stream  tcp   127.0.0.1:40000       -> service web (3 of 3 endpoints healthy)
web     http  http://127.0.0.1:8080 -> service web (3 of 3 endpoints healthy)
agent   http  http://127.0.0.1:9901 -> 2 services, as callers ask
agent   lars  127.0.0.1:8888-8890   -> 2 services, as callers ask
admin   http  http://127.0.0.1:9900 -> admin API, /metrics"
        );
    }

    #[test]
    fn of_many_services_the_first_are_named() {
        let line = |count: usize| {
            let names = (0..count).map(|n| format!("s{n:04}"));
            let routes: String =
                names.clone().map(|s| format!("{{ path: /{s}, service: {s} }}, ")).collect();
            let services: String =
                names.map(|s| format!("  {s}: {{ endpoints: [ ':5001' ] }}\n")).collect();
            let text = format!(
                "listeners:\n  web: {{ bind: ':80', protocol: http, routes: [ {routes}] }}\n\
                 services:\n{services}"
            );
            let spec = config::parse(&Source { name: "test", text: &text }, &vocabulary())
                .unwrap_or_else(|defects| panic!("{defects}"))
                .spec;
            let overview = Overview {
                spec: &spec,
                listeners: &[],
                admin: None,
                registry: None,
                agent: None,
                healthy: &|_| (1, 1),
            };
            let plain = anstream::adapter::strip_str(&super::text(&overview)).to_string();
            plain.split_once("-> ").unwrap().1.to_owned()
        };
        assert_eq!(
            line(8),
            "8 routes, services s0000, s0001, s0002, s0003, s0004, s0005, s0006, s0007 \
             (8 of 8 endpoints healthy)"
        );
        assert_eq!(
            line(1000),
            "1000 routes, services s0000, s0001, s0002, s0003, s0004, s0005, s0006 \
             and 993 more (1000 of 1000 endpoints healthy)"
        );
    }
}
