use super::*;
use crate::read::tests::checked;

fn made(file: &str, held: &[(u16, String)]) -> Option<(Value, Vec<Listened>)> {
    let project = checked(file).project;
    let settings = Settings {
        admin: SocketAddr::from(([127, 0, 0, 1], 9900)),
        socket: Path::new("/run/docker.sock"),
        held,
    };
    let (text, listened) = configuration(&project, &settings).unwrap()?;
    let (comment, json) = text.split_once('\n').unwrap();
    assert!(comment.starts_with('#'));
    Some((serde_json::from_str(json).unwrap(), listened))
}

fn service(rest: &str) -> String {
    format!("services:\n  web: {{ image: w, {rest} }}\n")
}

#[test]
fn the_protocol_of_a_port_by_the_first_rule_that_says_it() {
    for (rest, expected) in [
        ("ports: [\"8080:5000\"]", "http"),
        ("ports: [\"80:80\"]", "http"),
        ("ports: [\"5432:5432\"]", "tcp"),
        ("ports: [\"8080:6379\"]", "tcp"),
        ("ports: [\"53:53/udp\"]", "udp"),
        ("ports: [\"9000:9000\"], x-evenkeel: { protocol: http }", "http"),
        ("ports: [\"80:80\"], labels: { evenkeel.protocol: tcp }", "tcp"),
        ("ports: [{ target: 7, published: 7, app_protocol: HTTP }]", "http"),
        ("ports: [{ target: 80, published: 80, app_protocol: grpc }]", "tcp"),
        ("ports: [\"1:9000\"], healthcheck: { test: curl http://localhost:9000/x }", "http"),
        ("ports: [\"1:9000\"], healthcheck: { test: curl http://localhost:9001/x }", "tcp"),
    ] {
        let (file, listened) = made(&service(rest), &[]).unwrap();
        assert_eq!(listened[0].protocol, expected, "{rest}");
        let listeners = file["listeners"].as_object().unwrap();
        assert!(listeners.values().all(|l| l["protocol"] == expected), "{rest}");
    }
}

#[test]
fn containers_are_spoken_to_in_http_2_if_that_is_said() {
    for (rest, expected) in [
        ("x-evenkeel: { protocol: h2c }", "h2c"),
        ("labels: { evenkeel.protocol: h2c }", "h2c"),
        ("labels: { evenkeel.protocol: http }", ""),
        ("x-evenkeel: { protocol: http }", ""),
    ] {
        let (file, listened) =
            made(&service(&format!("ports: [\"9000:9000\"], {rest}")), &[]).unwrap();
        assert_eq!(listened[0].protocol, "http", "{rest}");
        let said = file["services"]["web"]["protocol"].as_str().unwrap_or_default();
        assert_eq!(said, expected, "{rest}");
    }
}

#[test]
fn what_is_left_to_the_engine_and_what_needs_no_balancer() {
    for rest in [
        "ports: [\"5000\"]",
        "ports: [\"8000-8010:5000\"]",
        "ports: [{ target: 80, published: 80, mode: host }]",
        "ports: [\"80:80\"], network_mode: host",
        "ports: [\"80:80\"], x-evenkeel: { publish: engine }",
        "expose: [80]",
    ] {
        assert_eq!(made(&service(rest), &[]), None, "{rest}");
    }
    // Routes by label: the balancer's own listener.
    let (file, listened) = made(&service("labels: { evenkeel.port: '80' }"), &[]).unwrap();
    assert!(listened.is_empty() && file.get("listeners").is_none());
}

#[test]
fn services_have_their_ports_networks_and_settings() {
    let file = "\
services:
  web:
    image: w
    ports: [\"127.0.0.1:8080:5000\", \"8081:5000\", \"9000:9000\", \"[::1]:70:70\"]
    networks: [inner, outer]
    labels: { evenkeel.health.http: /up, evenkeel.policy: '{ maglev: { key: source } }' }
    x-evenkeel: { drain_grace: 5s, policy: random }
networks: { inner: { internal: true }, outer: }
";
    let (file, listened) = made(file, &[]).unwrap();
    let binds: Vec<(&str, &str)> =
        listened.iter().map(|l| (l.bind.as_str(), l.balanced.as_str())).collect();
    assert_eq!(
        binds,
        [
            ("127.0.0.1:8080", "web"),
            (":8081", "web"),
            (":9000", "web.9000.tcp"),
            ("[::1]:70", "web.70.tcp"),
        ]
    );
    let web = &file["services"]["web"];
    assert_eq!(web["discover"]["docker"]["port"], 5000);
    assert_eq!(web["discover"]["docker"]["network"], "project_outer");
    assert_eq!(web["health"]["http"], "/up");
    assert_eq!(web["policy"], "random", "`x-evenkeel` goes before labels");
    assert_eq!(file["services"]["web.9000.tcp"]["discover"]["docker"]["port"], 9000);
    assert_eq!(file["listeners"].as_object().unwrap().len(), 4);
}

#[test]
fn a_port_that_a_container_still_has_is_not_listened_on() {
    let text = service("ports: [\"8080:5000\", \"53:53/udp\"]");
    let held = [(8080, "tcp".to_owned()), (53, "tcp".to_owned())];
    let (file, listened) = made(&text, &held).unwrap();
    let listeners: Vec<&String> = file["listeners"].as_object().unwrap().keys().collect();
    assert_eq!(listeners, ["web-udp-53"]);
    assert_eq!(listened.len(), 2);
    assert_eq!(file["services"]["web.53.udp"]["health"], "off");
}

#[test]
fn one_that_may_sleep_holds_who_asks_for_it() {
    let sleeper = "ports: [\"8080:5000\"], x-evenkeel: { autoscale: { min: 0, max: 2 }";
    let (file, _) = made(&service(&format!("{sleeper} }}")), &[]).unwrap();
    assert_eq!(file["services"]["web"]["wake"], json!({}));
    let own = format!("{sleeper}, wake: {{ timeout: 5s }} }}");
    let (file, _) = made(&service(&own), &[]).unwrap();
    assert_eq!(file["services"]["web"]["wake"], json!({ "timeout": "5s" }));
    let (file, _) = made(&service("ports: [\"8080:5000\"]"), &[]).unwrap();
    assert_eq!(file["services"]["web"].get("wake"), None);
    for (rest, why) in [
        ("ports: [\"53:53/udp\"]", "`min: 0` with port 53/udp: datagrams are not held"),
        ("labels: { evenkeel.port: '80' }", "`min: 0` needs a port that the balancer listens on"),
    ] {
        let file = service(&format!("{rest}, x-evenkeel: {{ autoscale: {{ min: 0 }} }}"));
        let socket = Path::new("/run/docker.sock");
        let admin = SocketAddr::from(([127, 0, 0, 1], 9900));
        let project = checked(&file).project;
        let refused = configuration(&project, &Settings { admin, socket, held: &[] }).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}
