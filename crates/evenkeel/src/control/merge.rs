//! The configuration, and beside it what containers say of services and routes. What is configured
//! comes first, and one container's labels never undo another's: what does not fit is left out,
//! and told.

use std::collections::BTreeMap;

use config::route_matchers;
use discovery::{Declared, Way};
use model::spec::{DOMAINS_MAX, ListenerSpec, Protocol, RouteSpec, Spec};
use model::{ListenerName, ServiceName};

/// The two together, and a sentence for each thing that was left out.
pub(super) fn merge(
    configured: &Spec,
    declared: &BTreeMap<ServiceName, Declared>,
) -> (Spec, Vec<String>) {
    let mut merge = Merge {
        spec: configured.clone(),
        by_default: configured.providers.docker.as_ref().and_then(|docker| docker.listener.clone()),
        taken: BTreeMap::new(),
        problems: Vec::new(),
    };
    if configured.providers.docker.is_some() {
        let mut in_turn: Vec<(&ServiceName, &Declared)> = declared.iter().collect();
        in_turn.sort_by_key(|(name, declared)| (declared.rank, *name));
        for (service, declared) in in_turn {
            if merge.spec.services.contains_key(service) {
                continue;
            }
            merge.spec.services.insert(service.clone(), declared.spec.clone());
            for way in &declared.ways {
                if let Err(problem) = merge.add(service, way) {
                    merge.problems.push(format!("service {service}: {problem}"));
                }
            }
        }
    }
    for (name, listener) in &mut merge.spec.listeners {
        let left_out = listener.follow_routes();
        if left_out > 0 {
            merge.problems.push(format!(
                "listener {name}: acme gets certificates for the first {DOMAINS_MAX} hosts of \
                 routes; {left_out} more are left out"
            ));
        }
    }
    (merge.spec, merge.problems)
}

struct Merge {
    spec: Spec,
    /// The listener of those that name none.
    by_default: Option<ListenerName>,
    /// What the routes of a listener match, and whose they are.
    taken: BTreeMap<ListenerName, BTreeMap<String, Option<ServiceName>>>,
    problems: Vec<String>,
}

impl Merge {
    fn add(&mut self, service: &ServiceName, way: &Way) -> Result<(), String> {
        let name = self.listener(way)?;
        let Some(listener) = self.spec.listeners.get_mut(&name) else {
            return Err(format!("there is no listener {name}"));
        };
        if let Some(protocol) = way.protocol.filter(|protocol| *protocol != listener.protocol) {
            let (has, wants) = (listener.protocol.name(), protocol.name());
            return Err(format!("listener {name} has protocol {has}, and its label says {wants}"));
        }
        // Routes that were read as those of TLS, by its names.
        let by_name = way.protocol == Some(Protocol::Tls);
        if listener.protocol == Protocol::Http || by_name {
            self.add_routes(service, way, &name);
            return Ok(());
        }
        match &listener.service {
            Some(other) if other != service => {
                return Err(format!("listener {name} leads to service {other} already"));
            }
            _ => listener.service = Some(service.clone()),
        }
        if way.by_default {
            return Ok(());
        }
        let has = listener.protocol.name();
        Err(format!("listener {name} has protocol {has}, where labels of routes have no meaning"))
    }

    /// Where it is to be reached.
    fn listener(&self, way: &Way) -> Result<ListenerName, String> {
        if let Some(name) = &way.listener {
            return Ok(name.clone());
        }
        let Some(protocol) = way.protocol.filter(|protocol| *protocol != Protocol::Http) else {
            return self.by_default.clone().ok_or_else(|| {
                "its containers name no listener, and there is not exactly one; set the label \
                 evenkeel.listener, or `listener` of `providers.docker`"
                    .to_owned()
            });
        };
        let speaks = |listener: &&ListenerSpec| listener.protocol == protocol;
        let mut all = self.spec.listeners.values().filter(speaks);
        match (all.next(), all.next()) {
            (Some(only), None) => Ok(only.name.clone()),
            _ => Err(format!(
                "there is not exactly one listener of protocol {}; say which with the label \
                 evenkeel.listener",
                protocol.name()
            )),
        }
    }

    fn add_routes(&mut self, service: &ServiceName, way: &Way, name: &ListenerName) {
        let Some(listener) = self.spec.listeners.get_mut(name) else { return };
        let taken = self.taken.entry(name.clone()).or_insert_with(|| {
            let catch_all = listener.service.clone().map(RouteSpec::catch_all);
            let all = listener.routes.iter().chain(&catch_all);
            all.map(|route| (route_matchers(route), None)).collect()
        });
        for route in &way.routes {
            match taken.get(&route_matchers(route)) {
                None => {
                    taken.insert(route_matchers(route), Some(service.clone()));
                    listener.routes.push(route.clone());
                }
                // Two versions of a service, side by side.
                Some(Some(owner)) if owner == service => {}
                Some(_) => self.problems.push(format!(
                    "service {service}: another route of listener {name} matches the same \
                     requests ({:?}, {:?})",
                    route.host, route.path
                )),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use config::Source;
    use model::spec::{HostPattern, ServiceSpec};

    use super::*;
    use crate::control::vocabulary;

    fn declared(service: &str, host: &str, listener: Option<&str>) -> (ServiceName, Declared) {
        let mut route = RouteSpec::catch_all(service.into());
        route.host = Some(HostPattern::Exact(host.into()));
        let way = Way {
            listener: listener.map(ListenerName::new),
            protocol: None,
            routes: vec![route],
            by_default: false,
        };
        let (spec, rank) = (ServiceSpec::new(service.into()), (1, 0));
        (service.into(), Declared { spec, rank, ways: vec![way] })
    }

    fn check(text: &str, declared: &[(ServiceName, Declared)], expected: &[&str]) -> Spec {
        let spec = config::parse(&Source { name: "test", text }, &vocabulary())
            .unwrap_or_else(|defects| panic!("{defects}"))
            .spec;
        let (spec, problems) = merge(&spec, &declared.iter().cloned().collect());
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.contains(expected), "{problem}");
        }
        spec
    }

    #[test]
    fn with_nothing_configured_there_is_a_listener() {
        let all = [declared("a", "a.example", None), declared("b", "b.example", None)];
        let spec = check("providers: { docker: {} }", &all, &[]);
        assert_eq!(spec.listeners["web"].bind, "0.0.0.0:8080".parse().unwrap());
        assert_eq!(spec.listeners["web"].routes.len(), 2);
        assert_eq!(spec.services.len(), 2);
    }

    #[test]
    fn who_was_there_first_keeps_its_route() {
        let mut all = [declared("a", "x.example", None), declared("b", "x.example", None)];
        all[0].1.rank = (2, 0);
        check("providers: { docker: {} }", &all, &["service a: another route"]);
    }

    #[test]
    fn what_is_configured_comes_first() {
        let text = "
providers: { docker: {} }
listeners:
  one: { bind: ':1', routes: [ { host: a.example, service: fixed } ] }
  two: { bind: ':2', service: fixed }
  raw: { bind: ':3', protocol: tcp, service: fixed }
services:
  fixed: { endpoints: [ ':5001' ] }
";
        let all = [
            declared("a", "a.example", Some("one")),
            declared("b", "b.example", Some("one")),
            declared("c", "b.example", Some("one")),
            declared("d", "b.example", Some("two")),
            declared("e", "e.example", None),
            declared("f", "f.example", Some("raw")),
            declared("fixed", "g.example", Some("one")),
        ];
        let problems = [
            "service a: another route of listener one",
            "service c: another route of listener one",
            "service e: its containers name no listener",
            "service f: listener raw leads to service fixed already",
        ];
        let spec = check(text, &all, &problems);
        assert_eq!(spec.listeners["one"].routes.len(), 2);
        assert_eq!(spec.listeners["two"].routes.len(), 1);
    }
    #[test]
    fn tls_passes_through_by_its_names() {
        let text = "
providers: { docker: {} }
listeners:
  web: { bind: ':1' }
  tls: { bind: ':2', protocol: tls }
";
        let by_name = |service: &str, name: &str, listener: Option<&str>| {
            let (service, mut declared) = declared(service, name, listener);
            declared.ways[0].protocol = Some(Protocol::Tls);
            (service, declared)
        };
        let all = [
            by_name("db", "db.example", None),
            by_name("other", "db.example", Some("tls")),
            by_name("third", "c.example", Some("tls")),
            by_name("wrong", "d.example", Some("web")),
        ];
        let problems = [
            "service other: another route of listener tls",
            "service wrong: listener web has protocol http, and its label says tls",
        ];
        let spec = check(text, &all, &problems);
        assert_eq!(spec.listeners["tls"].routes.len(), 2);
        assert_eq!(spec.listeners["tls"].service, None);
    }

    #[test]
    fn streams_and_datagrams() {
        let text = "
providers: { docker: {} }
listeners:
  web: { bind: ':1' }
  mqtt: { bind: ':2', protocol: tcp }
  dns: { bind: ':3', protocol: udp }
  other: { bind: ':4', protocol: udp }
";
        let speaks = |service: &str, listener: Option<&str>, protocol: Protocol| {
            let (name, mut declared) = declared(service, "x.example", listener);
            declared.ways[0].protocol = Some(protocol);
            declared.ways[0].by_default = true;
            (name, declared)
        };
        let all = [
            speaks("broker", None, Protocol::Tcp),
            speaks("names", None, Protocol::Udp),
            speaks("resolver", Some("dns"), Protocol::Udp),
            speaks("second", Some("mqtt"), Protocol::Tcp),
            speaks("wrong", Some("web"), Protocol::Tcp),
            declared("z", "z.example", Some("other")),
        ];
        let problems = [
            "service names: there is not exactly one listener of protocol udp",
            "service second: listener mqtt leads to service broker already",
            "service wrong: listener web has protocol http, and its label says tcp",
            "service z: listener other has protocol udp, where labels of routes have no meaning",
        ];
        let spec = check(text, &all, &problems);
        for (listener, service) in [("mqtt", "broker"), ("dns", "resolver"), ("other", "z")] {
            assert_eq!(spec.listeners[listener].service, Some(service.into()));
        }
        assert!(spec.listeners["web"].routes.is_empty());
    }

    #[test]
    fn certificates_are_for_so_many_names_and_for_none_that_is_local() {
        let text = "
providers: { docker: {} }
listeners:
  web: { bind: ':443', tls: { acme: true } }
";
        let mut all: Vec<_> = (0..DOMAINS_MAX + 2)
            .map(|n| declared(&format!("s{n}"), &format!("s{n}.example"), None))
            .collect();
        all.push(declared("local", "local.localhost", None));
        let spec = check(text, &all, &["listener web: acme gets certificates for the first 1000"]);
        let acme = spec.listeners["web"].tls.as_ref().unwrap().acme.as_ref().unwrap();
        assert_eq!(acme.domains.len(), DOMAINS_MAX);
        let spec = check(text, &all[DOMAINS_MAX + 1..], &[]);
        let acme = spec.listeners["web"].tls.as_ref().unwrap().acme.as_ref().unwrap();
        assert_eq!(acme.domains, [format!("s{}.example", DOMAINS_MAX + 1)]);
        assert_eq!(spec.listeners["web"].routes.len(), 2);
    }

    /// While one version replaces another, both may say the same.
    #[test]
    fn a_service_may_say_the_same_twice() {
        let mut all = [declared("a", "a.example", None)];
        let mut second = all[0].1.ways[0].clone();
        let mut route = RouteSpec::catch_all("a".into());
        route.host = Some(HostPattern::Exact("b.example".into()));
        second.routes.push(route);
        all[0].1.ways.push(second);
        let spec = check("providers: { docker: {} }", &all, &[]);
        assert_eq!(spec.listeners["web"].routes.len(), 2);
    }
}
