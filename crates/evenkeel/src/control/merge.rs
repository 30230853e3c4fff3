//! The configuration, and beside it what containers say of services and routes. What is configured
//! comes first, and one container's labels never undo another's: what does not fit is left out,
//! and told.
//!
//! Kept from change to change, so that a service that comes or goes costs by what else there is for
//! its hosts, and not by how many services and routes there are; but where certificates follow routes
//! (`acme` without `domains`), all domains of that listener are compared.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use config::route_matchers;
use discovery::{Declared, Way};
use model::spec::{
    DOMAINS_MAX, HostPattern, LabelledRoute, ListenerSpec, Protocol, RouteSpec, Spec,
};
use model::{ListenerName, ServiceName};

/// The two together.
#[derive(Default)]
pub(super) struct Merge {
    configured: Spec,
    /// Which of the configured routes are for which host, by listener.
    hosts: BTreeMap<ListenerName, Hosts>,
    spec: Spec,
    /// What was made of each service by label.
    entered: BTreeMap<ServiceName, Entered>,
    /// Who wants what.
    offers: BTreeMap<Place, BTreeMap<Claimant, Offer>>,
    /// Why some of that is left out.
    refused: BTreeMap<Place, Vec<String>>,
    /// Of certificates.
    left_out: BTreeMap<ListenerName, String>,
}

/// Positions among these routes.
struct Hosts {
    routes: Arc<Vec<RouteSpec>>,
    positions: HashMap<Option<HostPattern>, Vec<usize>>,
}

/// What only one service can have, or what several have to share.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// The routes of a host.
    Host(ListenerName, Option<HostPattern>),
    /// A listener whose protocol has no routes by label.
    Whole(ListenerName),
}

/// A service and its rank: who comes first has what it wants.
type Claimant = ((u64, i64), ServiceName);

struct Offer {
    routes: Vec<Arc<RouteSpec>>,
    /// They stand there only because none was given.
    by_default: bool,
}

struct Entered {
    rank: (u64, i64),
    places: BTreeSet<Place>,
    problems: Vec<String>,
}

impl Merge {
    /// Begins anew with another configuration.
    pub(super) fn configure(
        &mut self,
        configured: &Spec,
        declared: &BTreeMap<ServiceName, Declared>,
    ) {
        let before = std::mem::take(self);
        self.spec = configured.clone();
        self.configured = configured.clone();
        if configured.providers.docker.is_some() {
            self.hosts = hosts(configured, before.hosts);
            self.update(declared, declared.keys());
        }
        let all: Vec<ListenerName> = self.spec.listeners.keys().cloned().collect();
        for listener in all {
            self.follow_routes(&listener);
        }
    }

    /// These services are declared otherwise than before, or no longer.
    pub(super) fn update<'a>(
        &mut self,
        declared: &BTreeMap<ServiceName, Declared>,
        changed: impl IntoIterator<Item = &'a ServiceName>,
    ) {
        let mut touched = BTreeSet::new();
        for service in changed {
            self.withdraw(service, &mut touched);
            let declared = declared.get(service);
            if let Some(declared) = declared
                && self.configured.providers.docker.is_some()
                && !self.configured.services.contains_key(service)
            {
                self.enter(service, declared, &mut touched);
            }
        }
        let listeners: BTreeSet<ListenerName> =
            touched.iter().map(|place| place.listener().clone()).collect();
        for place in &touched {
            self.settle(place);
        }
        for listener in listeners {
            self.follow_routes(&listener);
        }
    }

    /// What is to be in force.
    pub(super) fn spec(&self) -> Spec {
        self.spec.clone()
    }

    /// A sentence for each thing that was left out.
    pub(super) fn problems(&self) -> BTreeSet<String> {
        let own = self.entered.values().flat_map(|entered| &entered.problems);
        let refused = self.refused.values().flatten();
        own.chain(refused).chain(self.left_out.values()).cloned().collect()
    }

    fn withdraw(&mut self, service: &ServiceName, touched: &mut BTreeSet<Place>) {
        let Some(entered) = self.entered.remove(service) else { return };
        self.spec.services.remove(service.as_str());
        let claimant = (entered.rank, service.clone());
        for place in &entered.places {
            if let Some(offers) = self.offers.get_mut(place) {
                offers.remove(&claimant);
                if offers.is_empty() {
                    self.offers.remove(place);
                }
            }
        }
        touched.extend(entered.places);
    }

    fn enter(&mut self, service: &ServiceName, declared: &Declared, touched: &mut BTreeSet<Place>) {
        self.spec.services.insert(service.clone(), declared.spec.clone());
        let mut entered =
            Entered { rank: declared.rank, places: BTreeSet::new(), problems: Vec::new() };
        let claimant = (declared.rank, service.clone());
        for way in &declared.ways {
            let (name, protocol) = match self.listener(way) {
                Ok(listener) => (listener.name.clone(), listener.protocol),
                Err(problem) => {
                    entered.problems.push(format!("service {service}: {problem}"));
                    continue;
                }
            };
            let mut offer = |place: Place, route: Option<&RouteSpec>| {
                entered.places.insert(place.clone());
                let offers = self.offers.entry(place).or_default();
                let none = || Offer { routes: Vec::new(), by_default: true };
                let offer = offers.entry(claimant.clone()).or_insert_with(none);
                offer.routes.extend(route.cloned().map(Arc::new));
                offer.by_default &= way.by_default;
            };
            // Routes that were read as those of TLS, by its names.
            let by_name = way.protocol == Some(Protocol::Tls);
            if protocol != Protocol::Http && !by_name {
                offer(Place::Whole(name), None);
                continue;
            }
            for route in &way.routes {
                let host = route.host.as_ref().map(HostPattern::normalised);
                offer(Place::Host(name.clone(), host), Some(route));
            }
        }
        touched.extend(entered.places.iter().cloned());
        self.entered.insert(service.clone(), entered);
    }

    /// Where it is to be reached.
    fn listener(&self, way: &Way) -> Result<&ListenerSpec, String> {
        let listeners = &self.configured.listeners;
        let name = self.listener_name(way)?;
        let listener =
            listeners.get(&name).ok_or_else(|| format!("there is no listener {name}"))?;
        match way.protocol.filter(|protocol| *protocol != listener.protocol) {
            None => Ok(listener),
            Some(protocol) => {
                let (has, wants) = (listener.protocol.name(), protocol.name());
                Err(format!("listener {name} has protocol {has}, and its label says {wants}"))
            }
        }
    }

    fn listener_name(&self, way: &Way) -> Result<ListenerName, String> {
        if let Some(name) = &way.listener {
            return Ok(name.clone());
        }
        let Some(protocol) = way.protocol.filter(|protocol| *protocol != Protocol::Http) else {
            let docker = self.configured.providers.docker.as_ref();
            return docker.and_then(|docker| docker.listener.clone()).ok_or_else(|| {
                "its containers name no listener, and there is not exactly one; set the label \
                 evenkeel.listener, or `listener` of `providers.docker`"
                    .to_owned()
            });
        };
        let speaks = |listener: &&ListenerSpec| listener.protocol == protocol;
        let mut all = self.configured.listeners.values().filter(speaks);
        match (all.next(), all.next()) {
            (Some(only), None) => Ok(only.name.clone()),
            _ => Err(format!(
                "there is not exactly one listener of protocol {}; say which with the label \
                 evenkeel.listener",
                protocol.name()
            )),
        }
    }

    /// Who wants this place gets it, in turn; who cannot is told.
    fn settle(&mut self, place: &Place) {
        let none = BTreeMap::new();
        let offers = self.offers.get(place).unwrap_or(&none);
        let Some(listener) = self.spec.listeners.get_mut(place.listener()) else { return };
        let refused = match place {
            Place::Host(name, host) => {
                let hosts = self.hosts.get(name);
                let (routes, refused) = share(offers, listener, hosts, host.as_ref());
                if routes.is_empty() {
                    listener.labelled.remove(host);
                } else {
                    listener.labelled.insert(host.clone(), routes);
                }
                refused
            }
            Place::Whole(name) => {
                let configured = self.configured.listeners.get(name);
                listener.service = configured.and_then(|listener| listener.service.clone());
                occupy(offers, listener)
            }
        };
        if refused.is_empty() {
            self.refused.remove(place);
        } else {
            self.refused.insert(place.clone(), refused);
        }
    }

    fn follow_routes(&mut self, name: &ListenerName) {
        let Some(listener) = self.spec.listeners.get_mut(name) else { return };
        let left_out = listener.follow_routes();
        if left_out == 0 {
            self.left_out.remove(name);
            return;
        }
        let problem = format!(
            "listener {name}: acme gets certificates for the first {DOMAINS_MAX} hosts of \
             routes; {left_out} more are left out"
        );
        self.left_out.insert(name.clone(), problem);
    }
}

impl Place {
    fn listener(&self) -> &ListenerName {
        match self {
            Place::Host(listener, _) | Place::Whole(listener) => listener,
        }
    }
}

/// Of each listener that has routes, those of `known` for what did not change.
fn hosts(
    configured: &Spec,
    mut known: BTreeMap<ListenerName, Hosts>,
) -> BTreeMap<ListenerName, Hosts> {
    let of = |listener: &ListenerSpec| {
        let routes = Arc::clone(&listener.routes);
        if let Some(known) = known.remove(&listener.name)
            && Arc::ptr_eq(&known.routes, &routes)
        {
            return (listener.name.clone(), known);
        }
        let mut positions: HashMap<_, Vec<usize>> = HashMap::new();
        for (position, route) in routes.iter().enumerate() {
            let host = route.host.as_ref().map(HostPattern::normalised);
            positions.entry(host).or_default().push(position);
        }
        (listener.name.clone(), Hosts { routes, positions })
    };
    configured.listeners.values().map(of).collect()
}

/// The routes of a host, and who is refused because another matches the same.
fn share(
    offers: &BTreeMap<Claimant, Offer>,
    listener: &ListenerSpec,
    hosts: Option<&Hosts>,
    host: Option<&HostPattern>,
) -> (Vec<LabelledRoute>, Vec<String>) {
    let mut taken: BTreeMap<String, Option<&ServiceName>> = BTreeMap::new();
    if let Some(hosts) = hosts {
        let positions = hosts.positions.get(&host.cloned()).into_iter().flatten();
        taken.extend(positions.map(|at| (route_matchers(&hosts.routes[*at]), None)));
    }
    if host.is_none()
        && let Some(service) = &listener.service
    {
        taken.insert(route_matchers(&RouteSpec::catch_all(service.clone())), None);
    }
    let (mut routes, mut refused) = (Vec::new(), Vec::new());
    for ((rank, service), offer) in offers {
        for route in &offer.routes {
            let matchers = route_matchers(route);
            match taken.get(&matchers) {
                None => {
                    taken.insert(matchers, Some(service));
                    let (rank, service, route) = (*rank, service.clone(), Arc::clone(route));
                    routes.push(LabelledRoute { rank, service, route });
                }
                // Two versions of a service, side by side.
                Some(Some(owner)) if *owner == service => {}
                Some(_) => refused.push(format!(
                    "service {service}: another route of listener {} matches the same requests \
                     ({:?}, {:?})",
                    listener.name, route.host, route.path
                )),
            }
        }
    }
    (routes, refused)
}

/// The first gets the whole listener; answers who is refused.
fn occupy(offers: &BTreeMap<Claimant, Offer>, listener: &mut ListenerSpec) -> Vec<String> {
    let (name, has) = (&listener.name, listener.protocol.name());
    let mut refused = Vec::new();
    for ((_, service), offer) in offers {
        match &listener.service {
            Some(other) if other != service => {
                let problem = format!("listener {name} leads to service {other} already");
                refused.push(format!("service {service}: {problem}"));
                continue;
            }
            _ => listener.service = Some(service.clone()),
        }
        if !offer.by_default {
            refused.push(format!(
                "service {service}: listener {name} has protocol {has}, where labels of routes \
                 have no meaning"
            ));
        }
    }
    refused
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

    /// Whatever comes and goes, and in whatever order: what is there in the end decides.
    fn check_one_by_one(spec: &Spec, all: &BTreeMap<ServiceName, Declared>, expected: &Merge) {
        let mut merge = Merge::default();
        merge.configure(spec, &BTreeMap::new());
        let mut there = BTreeMap::new();
        for (service, declared) in all.iter().rev() {
            there.insert(service.clone(), declared.clone());
            merge.update(&there, [service]);
        }
        for service in all.keys().step_by(2) {
            there.remove(service);
            merge.update(&there, [service]);
        }
        let mut anew = Merge::default();
        anew.configure(spec, &there);
        assert_eq!((merge.spec(), merge.problems()), (anew.spec(), anew.problems()));
        for (service, declared) in all.iter().step_by(2) {
            there.insert(service.clone(), declared.clone());
        }
        merge.update(&there, all.keys());
        assert_eq!((merge.spec(), merge.problems()), (expected.spec(), expected.problems()));
        merge.update(&BTreeMap::new(), all.keys());
        let mut none = Merge::default();
        none.configure(spec, &BTreeMap::new());
        assert_eq!((merge.spec(), merge.problems()), (none.spec(), BTreeSet::new()));
    }

    fn check(text: &str, declared: &[(ServiceName, Declared)], expected: &[&str]) -> Spec {
        let spec = config::parse(&Source { name: "test", text }, &vocabulary())
            .unwrap_or_else(|defects| panic!("{defects}"))
            .spec;
        let all: BTreeMap<ServiceName, Declared> = declared.iter().cloned().collect();
        let mut merge = Merge::default();
        merge.configure(&spec, &all);
        check_one_by_one(&spec, &all, &merge);
        let (spec, problems) = (merge.spec(), merge.problems());
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
        assert_eq!(spec.listeners["web"].all_routes().count(), 2);
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
        assert_eq!(spec.listeners["one"].all_routes().count(), 2);
        assert_eq!(spec.listeners["two"].all_routes().count(), 1);
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
        assert_eq!(spec.listeners["tls"].all_routes().count(), 2);
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
        assert!(spec.listeners["web"].all_routes().next().is_none());
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
        assert_eq!(spec.listeners["web"].all_routes().count(), 2);
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
        assert_eq!(spec.listeners["web"].all_routes().count(), 2);
    }
}
