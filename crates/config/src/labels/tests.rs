use model::spec::{EndpointProtocol, HealthKind, HostPattern, PathPattern};
use model::vocabulary::{PolicyInfo, Vocabulary};

use super::*;

const POLICIES: &[PolicyInfo] =
    &[PolicyInfo { name: "round_robin", summary: "in turn", options: &[] }];

fn read(labels: &[(&str, &str)]) -> Result<DeclaredSpec, Vec<String>> {
    let vocabulary = Vocabulary { policies: POLICIES };
    read_labels("shop", labels.iter().copied(), &vocabulary)
        .map_err(|defects| defects.iter().map(ToString::to_string).collect())
}

#[test]
fn labels_are_the_keys_of_services_and_routes() {
    let declared = read(&[
        ("evenkeel.port", "5000"),
        ("evenkeel.host", "*.example.com"),
        ("evenkeel.path", "/api/*"),
        ("evenkeel.weight", "3"),
        ("evenkeel.zone", "a"),
        ("evenkeel.health.http", "/healthz"),
        ("evenkeel.health.interval", "1s"),
        ("evenkeel.affinity.cookie.name", "KEEL"),
        ("evenkeel.retry", "{ attempts: 1 }"),
        ("evenkeel.policy", "round_robin"),
        ("evenkeel.routes.old.host", "old.example.com"),
        ("com.example.other", "* not ours"),
    ])
    .unwrap();
    assert_eq!(declared.port, Some(5000));
    assert_eq!(declared.weight.0, 3);
    assert_eq!(declared.zone.as_deref(), Some("a"));
    assert!(matches!(&declared.service.health.kind,
        HealthKind::Http { path, .. } if path == "/healthz"));
    assert_eq!(declared.service.retry.attempts, 1);
    assert!(declared.service.affinity.is_some());
    let [plain, old] = &*declared.routes else { panic!("{:?}", declared.routes) };
    assert_eq!(plain.host, Some(HostPattern::Suffix("example.com".into())));
    assert_eq!(plain.path, Some(PathPattern::Prefix("/api".into())));
    assert_eq!(old.host, Some(HostPattern::Exact("old.example.com".into())));
}

#[test]
fn without_a_route_the_name_is_the_host() {
    let declared = read(&[]).unwrap();
    assert!(declared.has_default_route());
    assert!(!read(&[("evenkeel.path", "/a")]).unwrap().has_default_route());
    let tcp = read(&[("evenkeel.protocol", "tcp"), ("evenkeel.listener", "mqtt")]).unwrap();
    assert_eq!((tcp.protocol, tcp.has_default_route()), (Some(Protocol::Tcp), true));
    let grpc = read(&[("evenkeel.protocol", "h2c"), ("evenkeel.grpc_web", "true")]).unwrap();
    assert_eq!(grpc.protocol, Some(Protocol::Http));
    assert_eq!(grpc.service.protocol, EndpointProtocol::H2c);
    assert_eq!(declared.routes[0].host, Some(HostPattern::Exact("shop.localhost".into())));
    assert_eq!(declared.port, None);
}

#[test]
fn what_is_wrong_is_said_with_the_label() {
    let check = |label: &str, value: &str, expected: &str| {
        let defects = read(&[(label, value)]).unwrap_err();
        assert!(
            defects.iter().any(|defect| defect.starts_with(&format!("label {label}: {expected}"))),
            "{label}={value}: {defects:?}"
        );
    };
    check("evenkeel.port", "http", "\"http\" is no port; write");
    check(
        "evenkeel.protocol",
        "mqtt",
        "\"mqtt\" is no protocol; write http, h2c, h2, auto, tcp, udp or tls",
    );
    check("evenkeel.helth", "/x", "is not known; did you mean evenkeel.health?");
    check("evenkeel.health.intervall", "1s", "unknown key `intervall`");
    check("evenkeel.health.interval", "soon", "`interval` must be a duration");
    check("evenkeel.weight", "100000", "`weight` is 100000");
    check("evenkeel.path", "no-slash", "");
    check("evenkeel.run.command", "sh", "cannot be said by a container");
    check("evenkeel.policy", "fastest", "");
    check("evenkeel.retry", "{ attempts: 1", "");
    check("evenkeel.host", "a\nb", "has a line break");
    check("evenkeel..port", "1", "is no key");
    check("evenkeel.routes.a.service", "other", "a container's routes lead to its own service");
    let both = read(&[("evenkeel.health", "off"), ("evenkeel.health.http", "/")]);
    assert!(both.is_err());
}

#[test]
fn a_value_cannot_become_a_key() {
    for value in ["a\"\nrun: { command: sh }", "{ } }\u{2028}x: y", "[ *anchor ]", "{ <<: *a }"] {
        assert!(read(&[("evenkeel.host", value)]).is_err(), "{value}");
    }
}

#[test]
fn routes_of_tls_are_read_as_such() {
    let spec = read(&[
        ("evenkeel.protocol", "tls"),
        ("evenkeel.host", "db.example"),
        ("evenkeel.alpn", "[postgresql]"),
    ]);
    let spec = spec.unwrap();
    assert_eq!((spec.protocol, spec.routes.len()), (Some(Protocol::Tls), 1));
    assert_eq!(spec.routes[0].alpn, ["postgresql"]);
    let wrong = read(&[("evenkeel.protocol", "tls"), ("evenkeel.path", "/x")]).unwrap_err();
    assert!(wrong.iter().any(|said| said.contains("evenkeel.path")), "{wrong:?}");
}
