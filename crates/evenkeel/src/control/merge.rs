//! The configuration, and beside it what containers say of services and routes. What is configured
//! comes first, and one container's labels never undo another's: what does not fit is left out,
//! and told.

use std::collections::{BTreeMap, BTreeSet};

use config::route_matchers;
use discovery::Declared;
use model::spec::{Protocol, RouteSpec, Spec};
use model::{ListenerName, ServiceName};

/// The two together, and a sentence for each thing that was left out.
pub(super) fn merge(
    configured: &Spec,
    declared: &BTreeMap<ServiceName, Declared>,
) -> (Spec, Vec<String>) {
    let mut spec = configured.clone();
    let mut problems = Vec::new();
    let Some(docker) = &configured.providers.docker else { return (spec, problems) };
    let mut taken: BTreeMap<ListenerName, BTreeSet<String>> = BTreeMap::new();
    let mut in_turn: Vec<(&ServiceName, &Declared)> = declared.iter().collect();
    in_turn.sort_by_key(|(name, declared)| (declared.rank, *name));
    for (service, declared) in in_turn {
        if spec.services.contains_key(service) {
            continue;
        }
        spec.services.insert(service.clone(), declared.spec.clone());
        for (listener, route) in &declared.routes {
            let name = listener.as_ref().or(docker.listener.as_ref());
            let Some(name) = name else {
                problems.push(format!(
                    "service {service}: its containers name no listener, and there is not exactly \
                     one; set the label evenkeel.listener, or `listener` of `providers.docker`"
                ));
                continue;
            };
            let listener = spec.listeners.get_mut(name);
            let Some(listener) = listener.filter(|l| l.protocol == Protocol::Http) else {
                problems.push(format!("service {service}: there is no HTTP listener {name}"));
                continue;
            };
            let taken = taken.entry(name.clone()).or_insert_with(|| {
                let mut taken: BTreeSet<String> =
                    listener.routes.iter().map(route_matchers).collect();
                if let Some(service) = &listener.service {
                    taken.insert(route_matchers(&RouteSpec::catch_all(service.clone())));
                }
                taken
            });
            if taken.insert(route_matchers(route)) {
                listener.routes.push(route.clone());
            } else {
                problems.push(format!(
                    "service {service}: another route of listener {name} matches the same \
                     requests ({:?}, {:?})",
                    route.host, route.path
                ));
            }
        }
    }
    (spec, problems)
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
        let routes = vec![(listener.map(ListenerName::new), route)];
        let rank = (1, 0);
        (service.into(), Declared { spec: ServiceSpec::new(service.into()), rank, routes })
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
            "service f: there is no HTTP listener raw",
        ];
        let spec = check(text, &all, &problems);
        assert_eq!(spec.listeners["one"].routes.len(), 2);
        assert_eq!(spec.listeners["two"].routes.len(), 1);
    }
}
