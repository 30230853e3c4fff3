use model::Weight;
use model::spec::{ProvidersSpec, RouteSpec, ServiceSpec};

use super::*;
use crate::{Port, Transport};

/// Stands in for the configuration's reader: it knows a host, a port and a weight.
fn read(name: &str, labels: &BTreeMap<String, String>) -> Result<DeclaredSpec, Vec<String>> {
    let label = |key: &str| labels.get(&format!("evenkeel.{key}")).cloned();
    let mut service = ServiceSpec::new(name.into());
    service.source = EndpointSource::Discover(DiscoverSpec::Docker(DockerSelector::default()));
    let mut route = RouteSpec::catch_all(name.into());
    route.rewrite_host = label("host");
    let port = match label("port").map(|port| port.parse()) {
        Some(Ok(port)) => Some(port),
        Some(Err(_)) => return Err(vec!["no port".into()]),
        None => None,
    };
    let weight = label("weight").map_or(1, |weight| weight.parse().unwrap());
    Ok(DeclaredSpec {
        service,
        routes: vec![route],
        listener: None,
        protocol: None,
        port,
        network: None,
        weight: Weight(weight),
        priority: 0,
        zone: None,
    })
}

fn spec(services: &[(&str, EndpointSource)]) -> Spec {
    let mut spec = Spec {
        providers: ProvidersSpec { docker: Some(DockerSpec::default()) },
        ..Spec::default()
    };
    for (name, source) in services {
        let mut service = ServiceSpec::new((*name).into());
        service.source = source.clone();
        spec.services.insert((*name).into(), service);
    }
    spec
}

fn picture(services: &[(&str, EndpointSource)]) -> Picture {
    let mut picture = Picture::new(read);
    picture.configure(&spec(services));
    picture.apply(Message::Connected { engine: "Docker".into() });
    picture.apply(Message::Synced { networks: None });
    picture
}

fn found(selector: DockerSelector) -> EndpointSource {
    EndpointSource::Discover(DiscoverSpec::Docker(selector))
}

fn container(digit: char, labels: &[(&str, &str)]) -> Container {
    let address = format!("172.18.0.{}", digit as u8);
    Container {
        id: digit.to_string().repeat(64),
        name: format!("c-{digit}"),
        labels: labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        networks: [("net".to_owned(), address.parse().unwrap())].into(),
        ports: vec![Port { transport: Transport::Tcp, number: 80 }],
        phase: Phase::Running,
        started_at: 10,
        ..Container::default()
    }
}

fn tell(picture: &mut Picture, container: &Container) -> Changes {
    picture.apply(Message::Container(Box::new(container.clone())))
}

fn shown(picture: &Picture, service: &str) -> Vec<String> {
    let show = |listed: Listed| {
        let draining = if listed.draining { " draining" } else { "" };
        format!("{} {}{draining}", &listed.endpoint.id.as_str()[..1], listed.endpoint.address)
    };
    picture.endpoints(service).into_iter().map(show).collect()
}

fn services(changes: &Changes) -> Vec<&str> {
    changes.services.iter().map(ServiceName::as_str).collect()
}

#[test]
fn a_service_by_label_comes_and_goes_with_its_containers() {
    let mut picture = picture(&[]);
    let mut a = container('a', &[("evenkeel.service", "web"), ("evenkeel.port", "5000")]);
    let changes = tell(&mut picture, &a);
    assert!(!changes.declared.is_empty());
    assert_eq!(services(&changes), ["web"]);
    assert_eq!(shown(&picture, "web"), ["a 172.18.0.97:5000"]);
    // Another one like it changes only who there is.
    let b = container('b', &[("evenkeel.service", "web"), ("evenkeel.port", "5000")]);
    let changes = tell(&mut picture, &b);
    assert!(changes.declared.is_empty());
    assert_eq!(shown(&picture, "web").len(), 2);
    assert_eq!(tell(&mut picture, &b), Changes::default());

    a.phase = Phase::Stopping;
    assert_eq!(services(&tell(&mut picture, &a)), ["web"]);
    assert_eq!(shown(&picture, "web"), ["a 172.18.0.97:5000 draining", "b 172.18.0.98:5000"]);
    a.phase = Phase::Ended;
    tell(&mut picture, &a);
    assert_eq!(shown(&picture, "web"), ["b 172.18.0.98:5000"]);
    assert!(picture.apply(Message::Gone { id: a.id }).declared.is_empty());
    let changes = picture.apply(Message::Gone { id: b.id });
    assert!(!changes.declared.is_empty());
    assert!(picture.declared().is_empty());
}

#[test]
fn a_service_stays_while_its_only_container_restarts() {
    let mut picture = picture(&[]);
    let mut a = container('a', &[("evenkeel.service", "web")]);
    tell(&mut picture, &a);
    a.phase = Phase::Ended;
    assert!(tell(&mut picture, &a).declared.is_empty());
    assert!(picture.declared().contains_key("web"));
    a.phase = Phase::Running;
    a.started_at = 20;
    assert_eq!(services(&tell(&mut picture, &a)), ["web"]);
    // It was restarted while nobody looked.
    a.started_at = 30;
    let changes = tell(&mut picture, &a);
    assert_eq!(changes.restarted.len(), 1);
    assert_eq!(changes.restarted[0].1.as_str(), "aaaaaaaaaaaa");
}

#[test]
fn the_newest_container_says_how_and_all_say_where() {
    let mut picture = picture(&[]);
    let labels = |host| [("evenkeel.service", "web"), ("evenkeel.host", host)];
    let old = container('a', &labels("old"));
    let mut new = container('b', &labels("new"));
    new.started_at = 20;
    tell(&mut picture, &new);
    assert!(!tell(&mut picture, &old).declared.is_empty());
    let hosts = |picture: &Picture| -> Vec<String> {
        let routes = picture.declared()["web"].ways.iter().flat_map(|way| &way.routes);
        routes.map(|route| route.rewrite_host.clone().unwrap()).collect()
    };
    assert_eq!(hosts(&picture), ["new", "old"]);
    assert!(!picture.apply(Message::Gone { id: old.id }).declared.is_empty());
    assert_eq!(hosts(&picture), ["new"]);
}

#[test]
fn selectors() {
    let compose = |service: &str| DockerSelector {
        compose_service: Some(service.into()),
        port: Some(5000),
        ..DockerSelector::default()
    };
    let labelled = DockerSelector {
        labels: vec![("tier".into(), Some("front".into())), ("any".into(), None)],
        ..DockerSelector::default()
    };
    let mut picture = picture(&[
        ("flask", found(compose("app"))),
        ("front", found(labelled)),
        ("named", found(DockerSelector::default())),
        ("fixed", EndpointSource::Static(Vec::new())),
    ]);
    let project = ("com.docker.compose.project", "shop");
    let in_app = [project, ("com.docker.compose.service", "app"), ("evenkeel.weight", "3")];
    tell(&mut picture, &container('a', &in_app));
    tell(&mut picture, &container('b', &[("tier", "front"), ("any", "")]));
    tell(&mut picture, &container('c', &[("tier", "back"), ("any", "")]));
    tell(&mut picture, &container('d', &[("evenkeel.service", "named")]));
    tell(&mut picture, &container('e', &[project, ("com.docker.compose.service", "named")]));
    tell(&mut picture, &container('f', &[("evenkeel.service", "fixed")]));
    let off = [project, ("com.docker.compose.service", "app"), ("evenkeel.enable", "false")];
    tell(&mut picture, &container('g', &off));
    assert_eq!(shown(&picture, "flask"), ["a 172.18.0.97:5000"]);
    assert_eq!(picture.endpoints("flask")[0].endpoint.weight, Weight(3));
    assert_eq!(shown(&picture, "front"), ["b 172.18.0.98:80"]);
    assert_eq!(shown(&picture, "named"), ["d 172.18.0.100:80", "e 172.18.0.101:80"]);
    assert!(picture.declared().is_empty());
    let summary = picture.summary();
    assert_eq!((summary.containers, summary.endpoints), (7, 4));
    let left_out: Vec<String> =
        summary.left_out.iter().map(|l| format!("{}: {}", l.name, l.reason)).collect();
    assert_eq!(left_out, ["c-f: the service fixed has its endpoints from the configuration"]);
    // The same container, told again with another state, keeps what its labels say.
    let mut a = container('a', &in_app);
    a.health = Health::Healthy;
    tell(&mut picture, &a);
    assert_eq!(picture.endpoints("flask")[0].endpoint.weight, Weight(3));
}

#[test]
fn names_by_default() {
    let mut spec = spec(&[]);
    if let Some(docker) = &mut spec.providers.docker {
        docker.exposed_by_default = true;
    }
    let mut picture = Picture::new(read);
    picture.configure(&spec);
    let shop = ("com.docker.compose.project", "shop");
    tell(&mut picture, &container('a', &[shop, ("com.docker.compose.service", "web")]));
    tell(&mut picture, &container('b', &[]));
    let mut no_port = container('c', &[]);
    no_port.ports.clear();
    tell(&mut picture, &no_port);
    let names: Vec<&str> = picture.declared().keys().map(ServiceName::as_str).collect();
    assert_eq!(names, ["c-b", "shop-web"]);
    if let Some(docker) = &mut spec.providers.docker {
        docker.compose_project = Some("shop".into());
    }
    assert!(!picture.configure(&spec).declared.is_empty());
    let names: Vec<&str> = picture.declared().keys().map(ServiceName::as_str).collect();
    assert_eq!(names, ["web"]);
    assert!(!picture.configure(&Spec::default()).declared.is_empty());
    assert!(picture.declared().is_empty());
}

#[test]
fn health_and_pause() {
    let mut picture = picture(&[]);
    let mut a = container('a', &[("evenkeel.service", "web")]);
    let mut check = |change: &dyn Fn(&mut Container), expected: &[&str]| {
        change(&mut a);
        tell(&mut picture, &a);
        assert_eq!(shown(&picture, "web"), expected);
    };
    check(&|a| a.health = Health::Starting, &[]);
    check(&|a| a.health = Health::Healthy, &["a 172.18.0.97:80"]);
    check(&|a| a.health = Health::Unhealthy, &["a 172.18.0.97:80 draining"]);
    check(&|a| a.health = Health::Healthy, &["a 172.18.0.97:80"]);
    check(&|a| a.phase = Phase::Paused, &[]);
    check(&|a| a.phase = Phase::Running, &["a 172.18.0.97:80"]);
    check(&|a| a.networks.clear(), &[]);
    assert_eq!(picture.summary().left_out[0].reason, "has no address in any network");
}

#[test]
fn nobody_leaves_because_the_engine_is_away() {
    let mut picture = picture(&[]);
    let label = [("evenkeel.service", "web")];
    tell(&mut picture, &container('a', &label));
    tell(&mut picture, &container('b', &label));
    assert_eq!(picture.apply(Message::Lost { reason: "gone".into() }), Changes::default());
    assert_eq!(picture.apply(Message::Connected { engine: "x".into() }), Changes::default());
    assert_eq!(tell(&mut picture, &container('a', &label)), Changes::default());
    assert_eq!(shown(&picture, "web").len(), 2);
    let changes = picture.apply(Message::Synced { networks: None });
    assert_eq!(services(&changes), ["web"]);
    assert_eq!(shown(&picture, "web"), ["a 172.18.0.97:80"]);
}

#[test]
fn an_address_changes_hands() {
    let mut picture = picture(&[]);
    let mut a = container('a', &[("evenkeel.service", "a")]);
    tell(&mut picture, &a);
    a.phase = Phase::Ended;
    assert_eq!(services(&tell(&mut picture, &a)), ["a"]);
    let mut b = container('b', &[("evenkeel.service", "b")]);
    b.networks = a.networks.clone();
    assert_eq!(services(&tell(&mut picture, &b)), ["b"]);
    assert_eq!(shown(&picture, "a"), Vec::<String>::new());
    assert_eq!(shown(&picture, "b"), ["b 172.18.0.97:80"]);
}

#[test]
fn what_is_wrong_with_one_is_told_and_breaks_no_other() {
    let mut picture = picture(&[]);
    let changes = tell(&mut picture, &container('a', &[("evenkeel.port", "http")]));
    assert_eq!(changes.notes, ["c-a: no port"]);
    tell(&mut picture, &container('b', &[("evenkeel.enable", "yes")]));
    tell(&mut picture, &container('c', &[("evenkeel.service", "web")]));
    assert_eq!(shown(&picture, "web").len(), 1);
    let summary = picture.summary();
    assert_eq!(summary.left_out.len(), 2);
    assert!(summary.left_out[1].reason.contains("neither true nor false"));
}

#[test]
fn where_no_route_is_understood_there_is_none_by_default() {
    let mut spec = spec(&[]);
    spec.providers.docker.as_mut().unwrap().traefik_labels = true;
    let mut picture = Picture::new(read);
    picture.configure(&spec);
    picture.apply(Message::Synced { networks: None });
    let rule = ("traefik.http.routers.a.rule", "HostRegexp(`.*`)");
    let changes = tell(&mut picture, &container('a', &[rule]));
    assert!(
        changes.declared.is_empty() && changes.notes[0].contains("`HostRegexp` is not understood")
    );
    assert_eq!(picture.summary().left_out.len(), 1);
    // Unless it is said in words of ours, too.
    let said = [rule, ("evenkeel.service", "web")];
    assert!(!tell(&mut picture, &container('b', &said)).declared.is_empty());
}
