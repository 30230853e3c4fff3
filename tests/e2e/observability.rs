//! What the program says of itself: the access log, the metrics, the admin API, `status`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use serde_json::{Value, json};

use super::harness::program::{BINARY, Folder};
use super::harness::replica::{ok, reset_on_close};
use super::harness::{Client, Evenkeel, Replica, free_port, until};

/// An HTTP, a TCP and a UDP listener; `/none` leads to a service without a living endpoint, `/odd`
/// to a replica that breaks off, and `/silent` to one that says nothing.
struct Site {
    program: Evenkeel,
    web: SocketAddr,
    stream: SocketAddr,
    udp: SocketAddr,
    folder: Folder,
    _replicas: Vec<Replica>,
}

impl Site {
    fn start() -> Site {
        let replicas = vec![
            Replica::http(|seen| ok(seen.line())),
            Replica::raw(|connection| {
                connection.request();
                let _ = connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhalf");
            }),
            Replica::raw(|connection| while connection.fill().is_some() {}),
            Replica::raw(|connection| {
                let mut reader = connection.stream.try_clone().unwrap();
                let _ = std::io::copy(&mut reader, &mut connection.stream);
            }),
        ];
        let folder = Folder::new();
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (web, stream, udp) = (at(free_port()), at(free_port()), at(free_port()));
        let nobody = at(free_port());
        let program = Evenkeel::run(&format!(
            "access_log: {{ file: {log} }}\n\
             listeners:\n  \
               web:\n    bind: {web}\n    timeouts: {{ header: 2s }}\n    routes:\n      \
                 - {{ path: /none, service: none }}\n      \
                 - {{ path: /odd, service: odd }}\n      \
                 - {{ path: /silent, service: silent }}\n      \
                 - {{ path: /hello, respond: {{ status: 200, body: hello }} }}\n      \
                 - {{ path: /good/*, service: good }}\n  \
               stream: {{ bind: {stream}, protocol: tcp, service: echo }}\n  \
               datagrams: {{ bind: {udp}, protocol: udp, service: none, udp: {{ flow_idle: 1s }} }}\n\
             services:\n  \
               good: {{ endpoints: [{{ address: {good}, id: good-1, weight: 3, zone: a }}], health: off }}\n  \
               odd: {{ endpoints: [{odd}], health: off, retry: off }}\n  \
               silent: {{ endpoints: [{silent}], health: off, timeouts: {{ first_byte: 1s }} }}\n  \
               echo: {{ endpoints: [{echo}], health: off }}\n  \
               none: {{ endpoints: [{nobody}], health: off, retry: off }}\n",
            log = folder.join("access.log").display(),
            good = replicas[0].address,
            odd = replicas[1].address,
            silent = replicas[2].address,
            echo = replicas[3].address,
        ));
        Site { program, web, stream, udp, folder, _replicas: replicas }
    }

    /// The log's lines, once there are `count`.
    fn log(&self, count: usize) -> Vec<Value> {
        let file = self.folder.join("access.log");
        let mut text = String::new();
        until(&format!("{count} lines in the access log"), || {
            text = fs::read_to_string(&file).unwrap();
            text.ends_with('\n') && text.lines().count() >= count
        });
        lines(&text)
    }

    fn metrics(&self) -> Metrics {
        Metrics::parse(&Client::get(self.program.admin, "/metrics").text())
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

#[test]
fn every_request_stream_and_flow_leaves_one_whole_line() {
    let site = Site::start();
    let get =
        |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: site.test\r\n{more}\r\n");
    // What is sent, the status that is logged, and further fields.
    let cases: Vec<(String, u16, Value)> = vec![
        (
            get("/good/a?b=c", "User-Agent: te\"st\r\nX-Request-Id: mine\r\n"),
            200,
            json!({ "method": "GET", "host": "site.test", "path": "/good/a?b=c", "version": "1.1",
                "service": "good", "endpoint": "good-1", "attempts": 1, "user_agent": "te\"st",
                "listener": "web", "protocol": "http", "client": "127.0.0.1" }),
        ),
        (get("/hello", ""), 200, json!({ "path": "/hello", "attempts": 0 })),
        ("GET /hello HTTP/1.0\r\n\r\n".into(), 200, json!({ "version": "1.0", "host": "" })),
        (get("/nowhere", ""), 404, json!({ "path": "/nowhere", "attempts": 0 })),
        (get("/none", ""), 502, json!({ "service": "none", "attempts": 1 })),
        (get("/silent", ""), 504, json!({ "service": "silent", "attempts": 1 })),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400, json!({ "attempts": 0 })),
        ("\0\u{1}garbage \"\\\r\n\r\n".into(), 400, json!({})),
        ("GET /\u{fc} HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400, json!({})),
        (get("/hello", &format!("X: {}\r\n", "x".repeat(40_000))), 431, json!({})),
        (get(&format!("/{}", "x".repeat(9000)), ""), 414, json!({})),
        ("GET /hello HTTP/1.1\r\nHost: slow\r\nX: ".into(), 408, json!({})),
        (
            "POST /good/chunks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
                .into(),
            400,
            json!({ "method": "POST" }),
        ),
    ];
    let mut expected = 0;
    for (request, status, fields) in &cases {
        let response = Client::exchange(site.web, request).unwrap();
        assert_eq!(response.status, *status, "{request:.80}");
        expected += 1;
        let log = site.log(expected);
        assert_eq!(log.len(), expected, "{request:.80}: {:?}", log.last());
        let line = log.last().unwrap();
        assert_eq!(line["status"], *status, "{line}");
        for (name, value) in fields.as_object().unwrap() {
            assert_eq!(&line[name], value, "{name} of {line}");
        }
        if *status >= 400 && *status != 404 {
            assert!(line["error"].as_str().is_some_and(|e| !e.is_empty()), "{line}");
        } else {
            assert!(line.get("error").is_none(), "{line}");
        }
        let read = line["bytes_in"].as_u64().unwrap();
        // What is refused need not be read to its end.
        assert!(read > 0 && read <= request.len() as u64, "{line}");
        assert!(*status >= 400 || read == request.len() as u64, "{line}");
        let out = response.head.len() + response.body.len();
        assert_eq!(line["bytes_out"], out, "{line}");
    }
    // Ended without a whole answer: status 0.
    let mut broken = Client::connect(site.web);
    broken.send(get("/odd", "")).unwrap();
    assert!(broken.response().is_err());
    let line = site.log(expected + 1).pop().unwrap();
    assert_eq!((&line["status"], &line["endpoint"].is_string()), (&json!(0), &true), "{line}");
    assert!(line["error"].is_string() && line["bytes_out"].as_u64() > Some(0), "{line}");
    for request in [
        "GET /good/half HTT".to_owned(),
        get("/silent", ""),
        format!("{}1", get("/good/1", "Content-Length: 9\r\n")),
    ] {
        let mut client = Client::connect(site.web);
        client.send(request).unwrap();
        until("the connection to be seen", || site.program.listener("web")["connections"] == 1);
        reset_on_close(&client.stream);
        drop(client);
        expected += 1;
        let line = site.log(expected + 1).pop().unwrap();
        assert_eq!((&line["status"], &line["error"]), (&json!(0), &json!("client gone")), "{line}");
    }
    let mut stream = Client::connect(site.stream);
    stream.send("12345").unwrap();
    stream.take(5).unwrap();
    drop(stream);
    let line = site.log(expected + 2).pop().unwrap();
    for (name, value) in [
        ("listener", json!("stream")),
        ("protocol", json!("tcp")),
        ("bytes_in", json!(5)),
        ("bytes_out", json!(5)),
        ("attempts", json!(1)),
        ("service", json!("echo")),
    ] {
        assert_eq!(line[name], value, "{line}");
    }
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"into the void", site.udp).unwrap();
    let line = site.log(expected + 3).pop().unwrap();
    assert_eq!((&line["protocol"], &line["bytes_in"]), (&json!("udp"), &json!(13)), "{line}");
    let log = site.log(expected + 3);
    for line in &log {
        let time = line["time"].as_str().unwrap();
        assert!(time.len() == 24 && time.ends_with('Z') && &time[10..11] == "T", "{time}");
        assert!(line["duration_us"].is_u64(), "{line}");
    }
    eprintln!("{} lines: one for each request, stream and flow, all whole", log.len());
}

#[test]
fn rotation_under_load_loses_no_line() {
    let site = Site::start();
    let (next, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
    let log = site.folder.join("access.log");
    let mut files = vec![log.clone()];
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::connect(site.web);
                while !stopped.load(SeqCst) {
                    let n = next.fetch_add(1, SeqCst);
                    client.send(format!("GET /good/{n} HTTP/1.1\r\nHost: x\r\n\r\n")).unwrap();
                    assert_eq!(client.response().unwrap().status, 200);
                }
            });
        }
        for turn in 0..10 {
            let before = next.load(SeqCst);
            until("some requests", || next.load(SeqCst) > before + 100);
            let moved = site.folder.join(&format!("access.log.{turn}"));
            fs::rename(&log, &moved).unwrap();
            files.push(moved);
            site.program.signal("USR1");
            until("a new file", || log.exists());
        }
        stopped.store(true, SeqCst);
    });
    let sent = next.load(SeqCst);
    let read = |file: &Path| lines(&fs::read_to_string(file).unwrap_or_default());
    let mut paths = BTreeSet::new();
    until("all lines", || files.iter().map(|file| read(file).len() as u64).sum::<u64>() >= sent);
    for line in files.iter().flat_map(|file| read(file)) {
        let path = line["path"].as_str().unwrap().to_owned();
        assert!(paths.insert(path), "twice: {line}");
    }
    assert_eq!(paths.len() as u64, sent);
    let metrics = site.metrics();
    assert_eq!(metrics.value("evenkeel_access_log_lines_total", &[]), sent as f64);
    assert_eq!(metrics.value("evenkeel_access_log_dropped_total", &[]), 0.0);
    eprintln!("10 rotations: {sent} requests, {sent} lines in {} files", files.len());
}

/// All samples by name and labels as they are written.
struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Every line must be as the text format says.
    fn parse(text: &str) -> Metrics {
        assert!(text.ends_with('\n'));
        let mut kinds: BTreeMap<String, String> = BTreeMap::new();
        let mut helps = BTreeSet::new();
        let mut samples = BTreeMap::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                assert!(helps.insert(name.to_owned()) && !help.is_empty(), "{line}");
                continue;
            }
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(helps.contains(name), "{line}");
                let again = kinds.insert(name.to_owned(), kind.to_owned());
                assert!(again.is_none(), "{line}");
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            let name = series.split('{').next().unwrap();
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{line}"
            );
            if let Some(labels) = series.strip_prefix(name).filter(|labels| !labels.is_empty()) {
                let labels = labels.strip_prefix('{').and_then(|l| l.strip_suffix('}'));
                for label in labels.unwrap_or_else(|| panic!("{line}")).split("\",") {
                    let (name, value) = label.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
                    assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line}");
                    assert!(!value.trim_end_matches('"').contains('"'), "{line}");
                }
            }
            let parts =
                ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
            let family = parts.filter(|family| kinds.contains_key(*family)).unwrap_or(name);
            let kind = kinds.get(family).unwrap_or_else(|| panic!("no TYPE before {line}"));
            assert!(kind != "counter" || name.ends_with("_total"), "{line}");
            assert!(value >= 0.0, "{line}");
            assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
        }
        Metrics(samples)
    }

    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: Vec<String> = labels.iter().map(|(n, v)| format!("{n}=\"{v}\"")).collect();
        let series = match labels.is_empty() {
            true => name.to_owned(),
            false => format!("{name}{{{}}}", labels.join(",")),
        };
        *self.0.get(&series).unwrap_or_else(|| panic!("no {series}"))
    }
}

#[test]
fn counters_say_what_was_sent() {
    let site = Site::start();
    let before = site.metrics();
    let web = [("listener", "web")];
    assert_eq!(before.value("evenkeel_listener_connections_total", &web), 0.0);
    let (mut sent, mut received, mut connections) = (0, 0, 0);
    let mut classes = [0; 6];
    let mut exchange = |request: &str, count: usize, expected: u16| {
        for _ in 0..count {
            let response = Client::exchange(site.web, request).unwrap();
            assert_eq!(response.status, expected, "{request}");
            sent += request.len();
            received += response.head.len() + response.body.len();
            connections += 1;
            classes[usize::from(expected / 100)] += 1;
        }
    };
    let close = "Host: x\r\nConnection: close\r\n\r\n";
    exchange(&format!("GET /good/x HTTP/1.1\r\n{close}"), 20, 200);
    exchange(&format!("GET /hello HTTP/1.1\r\n{close}"), 7, 200);
    exchange(&format!("GET /nowhere HTTP/1.1\r\n{close}"), 5, 404);
    exchange("GET / HTTP/1.1\r\n\r\n", 3, 400);
    exchange(&format!("GET /none HTTP/1.1\r\n{close}"), 4, 502);
    let body =
        format!("POST /good/p HTTP/1.1\r\nContent-Length: 1000\r\n{close}{}", "x".repeat(1000));
    exchange(&body, 6, 200);
    let broken = format!("GET /odd HTTP/1.1\r\n{close}");
    for _ in 0..2 {
        assert!(Client::exchange(site.web, &broken).is_err());
    }
    // A kept connection counts once.
    let mut kept = Client::connect(site.web);
    for _ in 0..10 {
        let request = "GET /good/kept HTTP/1.1\r\nHost: x\r\n\r\n";
        kept.send(request).unwrap();
        let response = kept.response().unwrap();
        sent += request.len();
        received += response.head.len() + response.body.len();
        classes[2] += 1;
    }
    drop(kept);
    connections += 3;
    sent += 2 * broken.len();
    until("all connections to be over", || {
        site.metrics().value("evenkeel_listener_connections_open", &web) == 0.0
    });
    let metrics = site.metrics();
    let listener = |name: &str| metrics.value(&format!("evenkeel_listener_{name}"), &web) as usize;
    assert_eq!(listener("connections_total"), connections);
    assert_eq!(listener("malformed_total"), 3);
    assert_eq!(listener("resets_total"), 2);
    assert_eq!(listener("refused_total"), 0);
    assert_eq!(listener("received_bytes_total"), sent);
    // Of the two that broke off, the head and the half of a body.
    let halves = listener("sent_bytes_total") - received;
    assert!((50..2000).contains(&halves), "{halves}");
    for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].iter().zip(&classes[1..]) {
        let labels = [("listener", "web"), ("class", class)];
        let counted = metrics.value("evenkeel_listener_responses_total", &labels);
        assert_eq!(counted, f64::from(*count), "{class}");
    }
    let good = [("service", "good"), ("endpoint", "good-1")];
    assert_eq!(metrics.value("evenkeel_endpoint_requests_total", &good), 36.0);
    assert_eq!(metrics.value("evenkeel_endpoint_failures_total", &good), 0.0);
    assert_eq!(metrics.value("evenkeel_endpoint_in_flight", &good), 0.0);
    assert_eq!(metrics.value("evenkeel_endpoint_weight", &good), 3.0);
    let name = "evenkeel_service_request_duration_seconds";
    let service = [("service", "good")];
    assert_eq!(metrics.value(&format!("{name}_count"), &service), 36.0);
    let all = [("service", "good"), ("le", "+Inf")];
    assert_eq!(metrics.value(&format!("{name}_bucket"), &all), 36.0);
    let mut last = 0.0;
    for le in ["0.0001", "0.001", "0.01", "0.1", "1", "10"] {
        let at = metrics.value(&format!("{name}_bucket"), &[("service", "good"), ("le", le)]);
        assert!(at >= last && at <= 36.0, "le {le}: {at} after {last}");
        last = at;
    }
    assert_eq!(metrics.value("evenkeel_ready", &[]), 1.0);
    assert!(metrics.value("process_resident_memory_bytes", &[]) > 1e6);
    eprintln!(
        "{} series, all well-formed; 36 requests to good-1, {sent} bytes in, all equal",
        metrics.0.len()
    );
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn the_admin_api_has_the_shapes_that_are_documented() {
    let site = Site::start();
    assert_eq!(Client::get(site.web, "/good/x").status, 200);
    let services = site.program.api("/v1/services");
    assert_eq!(keys(&services), ["services"]);
    let names: Vec<_> =
        services["services"].as_array().unwrap().iter().map(|s| &s["name"]).collect();
    assert_eq!(names, ["echo", "good", "none", "odd", "silent"]);
    let good = site.program.api("/v1/services/good");
    assert_eq!(
        keys(&good),
        [
            "ejections",
            "endpoints",
            "hedges",
            "hedges_denied",
            "hedges_won",
            "name",
            "panic",
            "policy",
            "queue",
            "retries",
            "retries_denied",
            "unavailable"
        ]
    );
    let endpoint = site.program.api("/v1/services/good/endpoints/good-1");
    assert_eq!(endpoint["id"], good["endpoints"][0]["id"]);
    assert_eq!(
        keys(&endpoint),
        [
            "address",
            "failures",
            "id",
            "in_flight",
            "latency_sum_us",
            "latency_us",
            "measured",
            "priority",
            "queued",
            "reason",
            "requests",
            "state",
            "weight",
            "zone"
        ]
    );
    assert_eq!((&endpoint["state"], &endpoint["weight"]), (&json!("healthy"), &json!(3)));
    assert_eq!(site.program.api("/v1/services/good/endpoints")["endpoints"][0]["id"], "good-1");
    let listener = site.program.listener("web");
    assert_eq!(
        keys(&listener),
        [
            "bind",
            "connections",
            "connections_total",
            "name",
            "protocol",
            "requests_total",
            "routes"
        ]
    );
    assert_eq!((&listener["bind"], &listener["routes"]), (&json!(site.web.to_string()), &json!(5)));
    let config = Client::get(site.program.admin, "/v1/config");
    assert_eq!(config.text(), fs::read_to_string(site.program.config_file()).unwrap());

    for (method, path, body, status) in [
        ("GET", "/v1/services/nobody", "", 404),
        ("GET", "/v1/services/good/endpoints/nobody", "", 404),
        ("GET", "/v1/nothing", "", 404),
        ("DELETE", "/v1/services", "", 405),
        ("POST", "/v1/services/good/scale", r#"{"replicas": 3}"#, 409),
        ("POST", "/v1/services/good/scale", "{", 400),
        ("PATCH", "/v1/services/good/endpoints/good-1", r#"{"weight": -1}"#, 400),
        ("POST", "/v1/config", "listeners: nonsense", 400),
        ("PATCH", "/v1/services/good/endpoints/good-1", r#"{"weight": 7}"#, 200),
        ("POST", "/v1/services/good/endpoints/good-1/drain", "", 200),
        ("POST", "/v1/services/good/endpoints/good-1/undrain", "", 200),
    ] {
        let response = site.program.call(method, path, body);
        assert_eq!(response.status, status, "{method} {path} {body}: {}", response.text());
        let answer: Value = serde_json::from_slice(&response.body)
            .unwrap_or_else(|e| panic!("{method} {path}: {e}: {}", response.text()));
        match status {
            200 => assert_eq!((&answer["id"], &answer["weight"]), (&json!("good-1"), &json!(7))),
            _ => assert!(answer["error"].as_str().is_some_and(|e| e.len() > 10), "{answer}"),
        }
    }
    assert_eq!(Client::get(site.program.admin, "/healthz").status, 200);
}

#[test]
fn a_token_is_demanded_when_there_is_one() {
    let (admin, web) = (free_port(), free_port());
    let admin = SocketAddr::from(([127, 0, 0, 1], admin));
    let folder = Folder::new();
    let file = folder.join("evenkeel.yaml");
    let config = format!(
        "admin: {{ bind: {admin}, token: s3cret }}\nlisteners: {{ web: {{ bind: 127.0.0.1:{web}, \
         routes: [{{ respond: {{ status: 200 }} }}] }} }}\n"
    );
    fs::write(&file, config).unwrap();
    let mut command = Command::new(BINARY);
    command.args(["run", "-c"]).arg(&file);
    let program = Evenkeel::start(command, admin, folder);
    program.wait_ready();
    for (authorization, status) in [
        ("", 401),
        ("Authorization: Bearer wrong\r\n", 401),
        ("Authorization: Bearer s3cre\r\n", 401),
        ("Authorization: Bearer s3cret2\r\n", 401),
        ("Authorization: Basic s3cret\r\n", 401),
        ("Authorization: Bearer s3cret\r\n", 200),
        ("authorization: bearer s3cret\r\n", 200),
    ] {
        for path in ["/v1/services", "/v1/config", "/metrics"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\n{authorization}\r\n");
            let response = Client::exchange(admin, request).unwrap();
            assert_eq!(response.status, status, "{authorization:?} {path}");
        }
    }
    // Probes carry none.
    assert_eq!(Client::get(admin, "/healthz").status, 200);
    assert_eq!(Client::get(admin, "/readyz").status, 200);
    let (ok, said) = program.verb(&["status"]);
    assert!(!ok && said.contains("token"), "{said}");
    let (ok, said) = program.verb(&["status", "--token", "s3cret"]);
    assert!(ok && said.contains("web"), "{said}");
}

#[test]
fn an_admin_address_open_to_others_without_a_token_is_refused() {
    let folder = Folder::new();
    let file = folder.join("evenkeel.yaml");
    for (bind, good) in [
        ("0.0.0.0:9900", false),
        ("':9900'", false),
        ("'[::]:9900'", false),
        ("192.0.2.1:9900", false),
        ("'[2001:db8::1]:9900'", false),
        ("127.0.0.1:9900", true),
        ("127.9.9.9:9900", true),
        ("'[::1]:9900'", true),
        ("0.0.0.0:9900, token: s3cret", true),
    ] {
        let config = format!(
            "admin: {{ bind: {bind} }}\n\
             listeners: {{ web: {{ bind: 127.0.0.1:8080, routes: [{{ respond: {{ status: 200 }} }}] }} }}\n"
        );
        fs::write(&file, config).unwrap();
        let output = Command::new(BINARY).args(["check", "-c"]).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.success(), good, "{bind}: {said}");
        assert!(good || (said.contains("token") && said.contains(":1:")), "{bind}: {said}");
    }
}

#[test]
fn status_shows_listeners_services_and_endpoints() {
    let site = Site::start();
    assert_eq!(Client::get(site.web, "/good/x").status, 200);
    assert_eq!(Client::get(site.web, "/none").status, 502);
    let (ok, said) = site.program.verb(&["status"]);
    assert!(ok, "{said}");
    for line in [
        vec!["LISTENER", "PROTOCOL", "BIND", "ROUTES", "OPEN", "CONNECTIONS", "REQUESTS"],
        vec!["web", "http", &site.web.to_string(), "5"],
        vec!["stream", "tcp", &site.stream.to_string()],
        vec!["datagrams", "udp", &site.udp.to_string()],
        vec!["SERVICE", "POLICY", "HEALTHY"],
        vec!["good", "round_robin", "1 of 1"],
        vec!["SERVICE", "ENDPOINT", "ADDRESS", "STATE", "WEIGHT"],
        vec!["good", "good-1", "healthy", "3"],
    ] {
        let found = said.lines().any(|l| line.iter().all(|word| l.contains(word)));
        assert!(found, "no line with {line:?}:\n{said}");
    }
    assert!(!said.contains('\u{1b}'), "colours into a pipe");
    let (ok, said) = site.program.verb(&["status", "--json"]);
    let parsed: Value = serde_json::from_str(&said).unwrap();
    assert!(ok);
    let live = ["agent", "autoscale", "certificates", "discovery", "listeners", "registry"];
    assert_eq!(keys(&parsed), [&live[..], &["services"]].concat());
    assert_eq!(parsed["services"][1]["endpoints"][0]["requests"], 1);
    let nobody = format!("127.0.0.1:{}", free_port());
    let (ok, said) = site.program.verb(&["status", "--admin", &nobody]);
    assert!(!ok && said.contains(&nobody), "{said}");
}
