//! What is read from correct texts.

use std::time::Duration;

use model::spec::{
    AccessLogSpec, ActionSpec, AffinitySpec, ClientTlsSpec, ConcurrencySpec, EndpointProtocol,
    EndpointSource, HeaderEdit, HealthKind, HedgeAfter, HedgeSpec, HostPattern, InsertedCookie,
    LarsKey, OutlierSpec, PathPattern, PathRewrite, Protocol, ProxyProtocolVersion, QueuePer,
    QueueSpec, RetryCondition, SameSite, SecretSpec, ServerHttp2Spec, ServiceLimitSpec,
    SessionStoreSpec, SessionTableSpec, SlowStartSpec, StatusSet, TextMatch, Unreported, WakeSpec,
};
use model::vocabulary::OptionValue;

use super::good;
use crate::difference;

const SMALLEST: &str = "\
listeners:
  web: { bind: :8080, service: web }
services:
  web:
    endpoints: [ :5001, :5002 ]
";

#[test]
fn five_lines_are_enough() {
    let checked = good(SMALLEST);
    assert_eq!(checked.warnings, []);
    let listener = &checked.spec.listeners["web"];
    assert_eq!(listener.bind, "0.0.0.0:8080".parse().unwrap());
    assert_eq!(listener.protocol, Protocol::Http);
    let EndpointSource::Static(endpoints) = &checked.spec.services["web"].source else { panic!() };
    let addresses: Vec<String> = endpoints.iter().map(|e| e.address.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1:5001", "127.0.0.1:5002"]);
}

#[test]
fn line_ends_and_byte_order_marks_of_other_systems() {
    let expected = good(SMALLEST).spec;
    assert_eq!(good(&SMALLEST.replace('\n', "\r\n")).spec, expected);
    assert_eq!(good(&format!("\u{feff}{SMALLEST}")).spec, expected);
    let wrong = SMALLEST.replace("endpoints", "endpoint").replace('\n', "\r\n");
    let defects = super::read(&wrong).unwrap_err();
    assert_eq!((defects.0[0].line, defects.0[0].column), (5, 5));
    assert_eq!(defects.0[0].snippet, "    endpoint: [ :5001, :5002 ]");
}

/// The example of the design, without what later versions bring.
pub(super) const DESIGN: &str = "\
admin: { bind: 127.0.0.1:9900 }
listeners:
  web:
    bind: 127.0.0.1:8080
    protocol: http            # http | tcp | udp | tls (passthrough by SNI)
    routes:
      - { host: shop.example.com, path: /images/*, service: images }
      - { service: web }                     # catch-all
  mqtt:
    bind: 127.0.0.1:1883
    protocol: tcp
    service: broker
services:
  web:
    policy: least_request                    # or { maglev: { key: header:x-user } }
    endpoints: [ 127.0.0.1:5001, { address: 127.0.0.1:5002, weight: 3, zone: a, priority: 0 } ]
    health: { http: /healthz, interval: 2s, timeout: 5s, unhealthy_after: 3, healthy_after: 2 }
    affinity: { cookie: { name: KEEL, ttl: 1h } }
    retry: { attempts: 2, budget: 20% }
  images:
    policy: { maglev: { key: header:x-user } }
    endpoints: [ 127.0.0.1:5003 ]
  broker:
    run: { command: [python3, app.py], replicas: 3 }     # the runner sets PORT for each replica
";

#[test]
fn the_example_of_the_design() {
    let checked = good(DESIGN);
    assert_eq!(checked.warnings, []);
    let spec = checked.spec;
    let routes = &spec.listeners["web"].routes;
    assert_eq!(routes[0].host, Some(HostPattern::Exact("shop.example.com".into())));
    assert_eq!(routes[0].path, Some(PathPattern::Prefix("/images".into())));
    assert_eq!(spec.services["web"].policy.name, "least_request");
    assert_eq!(
        spec.services["images"].policy.options,
        [("key".into(), OptionValue::Text("header:x-user".into()))]
    );
    let EndpointSource::Run(run) = &spec.services["broker"].source else { panic!() };
    assert_eq!((run.command.join(" ").as_str(), run.replicas), ("python3 app.py", 3));
}

/// Every key, with a value that is not its default.
pub(super) const FULL: &str = r#"
admin: { bind: ":9900", token: secret }
access_log: { file: /var/log/evenkeel.log }
workers: 2
stop_grace: 5s
agent:
  bind: ":9901"
  token: secret
  socket: agent.sock
  expire: 5s
  unreported: timed_out
  outstanding: 1_000
  lars:
    udp: [ 10.0.0.1:8888, localhost:8889, 127.0.0.1:8890 ]
    routes: 127.0.0.1:17778
    reports: off
    from: [ 10.0.0.0/8 ]
    keys: [ { modid: 1, cmdid: 2, service: web }, { modid: 1, cmdid: 3, service: app } ]
listeners:
  web:
    bind: "[::1]:8080"
    service: web
    timeouts: { header: 1s, keep_alive: 2s, idle: 3s, stream_idle: 2h, connection_age: 1h }
    limits: { header_bytes: 16KiB, header_count: 50, uri_bytes: 4096, body_bytes: 10MB, connections: 1_000, connections_per_client: 10, requests_per_connection: 1000 }
    http2: { streams: 200, stream_window: 128KiB, connection_window: 512KiB, output_bytes: 128KiB, resets: 20, idle_frames: 100, continuations: 4, window_updates: 100, ping_interval: 30s, ping_timeout: 5s }
    forwarding: { x_forwarded: false, forwarded: true, via: false, request_id: off, trusted: [ 10.0.0.0/8, "::1" ] }
    proxy_protocol: { from: [ 192.168.0.0/16 ] }
    routes:
      - host: "*.Example.com"
        path: ~ ^/users/([0-9]+)$
        method: [ get, POST ]
        headers: { X-Version: "~ ^v[0-9]+$", x-any: "*", x-start: abc*, x-number: 1 }
        query: { debug: "1" }
        cookies: { Session: "*" }
        services: { web: 90, app: 10 }
        rewrite:
          path: /u/$1
          host: internal:8080
          request_headers: { remove: [ X-Secret ], set: { X-A: b }, add: { x-c: d } }
          response_headers: { set: { server: evenkeel } }
      - { path: /old/*, redirect: { to: "https://{host}/new{query}", status: 301 } }
      - { path: /away, redirect: https://example.org/ }
      - { path: /maintenance, respond: { status: 503, body: down, content_type: text/html } }
      - { path: /gone, respond: 410 }
      - { path: /api/*, service: app, rewrite: { prefix: / } }
  dns:
    bind: 5353
    protocol: udp
    service: dns
    udp: { flow_idle: 1s, replies: 1 }
services:
  web:
    policy: { maglev: { key: cookie:id, load: 1.5, decay: 1m, fallback: random } }
    endpoints:
      - { address: localhost:5001, weight: 0, zone: eu, priority: 1, id: web-a }
      - "[::1]:5002"
    health: { https: /healthz?full=1, interval: 1s, timeout: 1s, unhealthy_after: 1, healthy_after: 1, port: 9000, method: HEAD, host: web.internal, headers: { x-check: "yes" }, expect: [ 200-204, 401 ], agent: { port: 9707, send: "{address}\n" } }
    outlier: { consecutive: 7, error_rate: 30%, latency: 2.5, requests_min: 50, interval: 2s, ejection: 5s, ejection_max: 1m, share_max: 20% }
    slow_start: { window: 1m, from: 5%, curve: 1.5, hold_above: off }
    panic: 30%
    failover_below: 70%
    subset: 20
    affinity: { cookie: { name: KEEL, ttl: 1d, path: /app, secure: true, http_only: false, same_site: none, secret: 0123456789abcdef } }
    retry: { attempts: 3, budget: 0.5, budget_min: 1, replay_bytes: 1MiB, on: [ reset, first_byte_timeout, 503 ], non_idempotent: true }
    hedge: { after: p99, budget: 1% }
    pool: { idle_max: 0, idle_timeout: 1s, age_max: 1m, connections_max: 100, requests_max: 7, streams_max: 5, ping_interval: 2s, ping_timeout: 3s }
    limits: { concurrency: { learnt: { min: 2, max: 64 } }, requests: 1_000, retries: 20 }
    queue: { per: endpoint, max: 10, timeout: 250ms, priority: header:X-Priority }
    timeouts: { connect: 500ms, first_byte: 1s, total: 1m }
    drain_grace: 0s
    proxy_protocol: v2
  app:
    health: { tcp: {}, interval: 10s }
    retry: off
    run: { command: "evenkeel echo 'a b'", replicas: 0, env: { MODE: production, EMPTY: }, cwd: app, stop_grace: 0, start_timeout: 5s }
    wake: { max: 7, timeout: 5s, idle: 10m }
  dns:
    health: off
    endpoints: [ 127.0.0.1:53 ]
"#;

#[test]
fn every_key_is_read() {
    let checked = good(FULL);
    assert_eq!(checked.warnings, []);
    let spec = checked.spec;
    let admin = spec.admin.unwrap();
    assert_eq!(
        (admin.bind.to_string().as_str(), admin.token.as_deref()),
        ("0.0.0.0:9900", Some("secret"))
    );
    assert_eq!(spec.access_log, Some(AccessLogSpec::File("/var/log/evenkeel.log".into())));
    assert_eq!((spec.workers, spec.stop_grace.0), (Some(2), Duration::from_secs(5)));

    let agent = spec.agent.unwrap();
    assert_eq!(agent.bind, Some("0.0.0.0:9901".parse().unwrap()));
    assert_eq!((agent.token.as_deref(), agent.outstanding), (Some("secret"), 1000));
    assert_eq!(agent.socket, Some("agent.sock".into()));
    assert_eq!((agent.expire, agent.unreported), (Duration::from_secs(5), Unreported::TimedOut));
    let lars = agent.lars.unwrap();
    assert_eq!(lars.udp.map(|a| a.to_string())[..2], ["10.0.0.1:8888", "127.0.0.1:8889"]);
    assert_eq!((lars.routes.unwrap().port(), lars.reports), (17_778, None));
    let admits = ["127.0.0.1", "10.1.2.3", "11.0.0.1"].map(|ip| lars.admits(ip.parse().unwrap()));
    assert_eq!(admits, [true, true, false]);
    let key = |modid, cmdid, service: &str| LarsKey { modid, cmdid, service: service.into() };
    assert_eq!(lars.keys, [key(1, 2, "web"), key(1, 3, "app")]);

    let service = &spec.services["web"];
    let outlier = OutlierSpec {
        consecutive: Some(7),
        error_rate: Some(0.3),
        latency: Some(2.5),
        requests_min: 50,
        interval: Duration::from_secs(2),
        ejection: Duration::from_secs(5),
        ejection_max: Duration::from_secs(60),
        share_max: 0.2,
    };
    assert_eq!(service.outlier, Some(outlier));
    let window = Duration::from_secs(60);
    let slow_start = SlowStartSpec { window, from: 0.05, curve: 1.5, hold_above: None };
    assert_eq!(service.slow_start, Some(slow_start));
    assert_eq!((service.panic, service.failover_below, service.subset), (Some(0.3), 0.7, Some(20)));

    let web = &spec.listeners["web"];
    assert_eq!(web.timeouts.stream_idle, Duration::from_secs(7200));
    assert_eq!(web.limits.header_bytes, 16 << 10);
    assert_eq!(web.limits.body_bytes, Some(10_000_000));
    assert_eq!(web.limits.connections, 1000);
    assert_eq!(web.limits.connections_per_client, Some(10));
    assert_eq!(web.limits.requests_per_connection, Some(1000));
    assert_eq!(web.timeouts.connection_age, Some(Duration::from_secs(3600)));
    let http2 = ServerHttp2Spec {
        streams: 200,
        stream_window: 128 << 10,
        connection_window: 512 << 10,
        output_bytes: 128 << 10,
        resets: 20,
        idle_frames: 100,
        continuations: 4,
        window_updates: 100,
        ping_interval: Some(Duration::from_secs(30)),
        ping_timeout: Duration::from_secs(5),
    };
    assert_eq!(web.http2, Some(http2));
    assert_eq!(web.http.request_id, None);
    assert!(!web.http.x_forwarded && web.http.forwarded && !web.http.via);
    assert_eq!(web.http.trusted.len(), 2);
    assert_eq!(web.proxy_protocol.as_ref().unwrap().from.len(), 1);

    let route = &web.routes[0];
    assert_eq!(route.host, Some(HostPattern::Suffix("example.com".into())));
    assert_eq!(route.path, Some(PathPattern::Regex("^/users/([0-9]+)$".into())));
    assert_eq!(route.methods, ["GET", "POST"]);
    assert_eq!(
        route.headers,
        [
            ("x-version".into(), TextMatch::Regex("^v[0-9]+$".into())),
            ("x-any".into(), TextMatch::Present),
            ("x-start".into(), TextMatch::Prefix("abc".into())),
            ("x-number".into(), TextMatch::Exact("1".into())),
        ]
    );
    assert_eq!(route.cookies, [("Session".into(), TextMatch::Present)]);
    let ActionSpec::Forward(split) = &route.action else { panic!() };
    let split: Vec<(&str, u32)> = split.iter().map(|w| (w.service.as_str(), w.weight)).collect();
    assert_eq!(split, [("web", 90), ("app", 10)]);
    assert_eq!(route.rewrite_path, Some(PathRewrite::Replace("/u/$1".into())));
    assert_eq!(route.rewrite_host.as_deref(), Some("internal:8080"));
    assert_eq!(
        route.request_headers,
        [
            HeaderEdit::Remove("x-secret".into()),
            HeaderEdit::Set("x-a".into(), "b".into()),
            HeaderEdit::Add("x-c".into(), "d".into()),
        ]
    );
    let redirect =
        |status, location: &str| ActionSpec::Redirect { status, location: location.into() };
    assert_eq!(web.routes[1].action, redirect(301, "https://{host}/new{query}"));
    assert_eq!(web.routes[2].action, redirect(302, "https://example.org/"));
    let respond = |status, body: &str, content_type: &str| ActionSpec::Respond {
        status,
        body: body.into(),
        content_type: content_type.into(),
    };
    assert_eq!(web.routes[3].action, respond(503, "down", "text/html"));
    assert_eq!(web.routes[4].action, respond(410, "", "text/plain; charset=utf-8"));
    assert_eq!(web.routes[5].rewrite_path, Some(PathRewrite::ReplacePrefix("/".into())));

    let dns = &spec.listeners["dns"];
    assert_eq!((dns.protocol, dns.udp.replies), (Protocol::Udp, Some(1)));
    assert_eq!(dns.udp.flow_idle, Duration::from_secs(1));
}

#[test]
fn every_key_of_a_service_is_read() {
    let spec = good(FULL).spec;
    let web = &spec.services["web"];
    assert_eq!(web.policy.options.len(), 4);
    assert_eq!(web.policy.options[2].1, OptionValue::Duration(Duration::from_secs(60)));
    let EndpointSource::Static(endpoints) = &web.source else { panic!() };
    assert_eq!(endpoints[0].id.as_str(), "web-a");
    assert_eq!((endpoints[0].weight.0, endpoints[0].priority), (0, 1));
    assert_eq!(endpoints[0].zone.as_deref(), Some("eu"));
    assert_eq!(endpoints[1].id.as_str(), "[::1]:5002");
    assert_eq!(
        web.health.kind,
        HealthKind::Http {
            path: "/healthz?full=1".into(),
            method: "HEAD".into(),
            host: Some("web.internal".into()),
            headers: vec![("x-check".into(), "yes".into())],
            expect: StatusSet(vec![(200, 204), (401, 401)]),
            tls: true,
        }
    );
    assert_eq!(
        web.affinity,
        Some(AffinitySpec::Insert(InsertedCookie {
            name: "KEEL".into(),
            ttl: Some(Duration::from_secs(86_400)),
            path: "/app".into(),
            secure: true,
            http_only: false,
            same_site: Some(SameSite::None),
            secret: Some("0123456789abcdef".into()),
        }))
    );
    assert_eq!((web.health.port, web.health.unhealthy_after), (Some(9000), 1));
    assert_eq!((web.retry.attempts, web.retry.budget, web.retry.replay_bytes), (3, 0.5, 1 << 20));
    assert_eq!(
        web.retry.on,
        [RetryCondition::Reset, RetryCondition::FirstByteTimeout, RetryCondition::Status(503)]
    );
    assert!(web.retry.non_idempotent);
    let after = HedgeAfter::Quantile(0.99);
    assert_eq!(web.hedge, Some(HedgeSpec { after, budget: 0.01 }));
    assert_eq!((web.pool.idle_max, web.pool.connections_max), (0, Some(100)));
    assert_eq!((web.pool.requests_max, web.pool.streams_max), (Some(7), 5));
    let seconds = Duration::from_secs;
    assert_eq!((web.pool.ping_interval, web.pool.ping_timeout), (seconds(2), seconds(3)));
    let concurrency = Some(ConcurrencySpec::Learnt { min: 2, max: 64 });
    let limits = ServiceLimitSpec { concurrency, requests: Some(1000), retries: Some(20) };
    assert_eq!(web.limits, limits);
    let timeout = Duration::from_millis(250);
    let priority = Some("x-priority".to_owned());
    let per = QueuePer::Endpoint;
    assert_eq!(web.queue, Some(QueueSpec { per, max: 10, timeout, priority }));
    assert_eq!(web.connect_timeout, Duration::from_millis(500));
    assert_eq!(web.total_timeout, Some(Duration::from_secs(60)));
    assert_eq!(web.drain_grace, Duration::ZERO);
    assert_eq!(web.send_proxy_protocol, Some(ProxyProtocolVersion::V2));

    let app = &spec.services["app"];
    assert_eq!(app.health.kind, HealthKind::Tcp);
    assert_eq!(app.health.interval, Duration::from_secs(10));
    assert_eq!((app.retry.attempts, app.hedge), (0, None));
    let (timeout, idle) = (Duration::from_secs(5), Duration::from_secs(600));
    assert_eq!(app.wake, Some(WakeSpec { max: 7, timeout, idle }));
    let EndpointSource::Run(run) = &app.source else { panic!() };
    assert_eq!(run.command, ["evenkeel", "echo", "a b"]);
    assert_eq!(run.env, [("MODE".into(), "production".into()), ("EMPTY".into(), "".into())]);
    assert_eq!(run.cwd.as_deref(), Some("app".as_ref()));
    assert_eq!(run.stop_grace, Duration::ZERO);
    assert_eq!(spec.services["dns"].health.kind, HealthKind::Off);
}

#[test]
fn the_access_log_may_be_short() {
    for (text, expected) in [
        ("stdout", AccessLogSpec::Stdout),
        ("FILE /tmp/a b.log", AccessLogSpec::File("/tmp/a b.log".into())),
        ("{ file: access.log }", AccessLogSpec::File("access.log".into())),
    ] {
        let spec = good(&format!("access_log: {text}\n{SMALLEST}")).spec;
        assert_eq!(spec.access_log, Some(expected), "{text}");
    }
}

#[test]
fn aliases_and_merges_are_written_out() {
    let spec = good(
        "listeners: { web: { bind: :80, routes: [ { service: a }, { path: /b, service: b } ] } }\n\
         services:\n  \
           a: &base { timeouts: { connect: 1s }, drain_grace: 1s, endpoints: [ :1 ] }\n  \
           b: { <<: *base, drain_grace: 2s, endpoints: [ :2 ] }\n",
    )
    .spec;
    let b = &spec.services["b"];
    assert_eq!(b.connect_timeout, Duration::from_secs(1));
    assert_eq!(b.drain_grace, Duration::from_secs(2));
}

#[test]
fn difference_names_what_changed_and_nothing_else() {
    let old = good(DESIGN).spec;
    assert!(difference(&old, &old.clone()).is_empty());
    for (from, to, expected) in [
        ("weight: 3", "weight: 4", "service ~ web"),
        ("path: /images/*", "path: /pictures/*", "listener ~ web"),
        ("  images:\n", "  pictures:\n", "listener ~ web, service + pictures, service - images"),
        ("9900", "9901", "admin"),
        ("listeners:", "workers: 3\nstop_grace: 1s\nlisteners:", "workers, stop_grace"),
        ("listeners:", "access_log: stdout\nlisteners:", "access_log"),
        ("replicas: 3", "replicas: 4", "service ~ broker"),
        ("# catch-all", "# everything else", "nothing"),
    ] {
        let mut text = DESIGN.replace(from, to);
        if from.contains("images:") {
            text = text.replace("service: images", "service: pictures");
        }
        assert_ne!(text, DESIGN);
        assert_eq!(difference(&old, &good(&text).spec).to_string(), expected, "{to}");
    }
}

#[test]
fn every_kind_of_affinity_is_read() {
    let check = |text: &str, expected: AffinitySpec| {
        let text = SMALLEST.to_owned() + &format!("    affinity: {text}\n");
        let checked = good(&text);
        assert_eq!(checked.warnings, [], "{text}");
        assert_eq!(checked.spec.services["web"].affinity, Some(expected), "{text}");
    };
    let (name, table) = (|name: &str| name.to_owned(), SessionTableSpec::default);
    let small = || SessionTableSpec { ttl: Duration::from_secs(3600), max: 10, store: None };
    check("{ cookie: { name: K } }", AffinitySpec::cookie("K"));
    check("{ cookie: { name: K, mode: insert } }", AffinitySpec::cookie("K"));
    check(
        "{ cookie: { name: SID, mode: rewrite, secret: 0123456789abcdef } }",
        AffinitySpec::Rewrite {
            name: name("SID"),
            secret: Some(name("0123456789abcdef")),
            table: table(),
        },
    );
    check(
        "{ cookie: { name: SID, mode: rewrite, ttl: 1h, max: 10 } }",
        AffinitySpec::Rewrite { name: name("SID"), secret: None, table: small() },
    );
    check(
        "{ cookie: { name: SID, mode: learn, ttl: 1h, max: 10 } }",
        AffinitySpec::Learn { name: name("SID"), table: small() },
    );
    check("{ header: X-User }", AffinitySpec::Header { name: name("x-user"), table: table() });
    check(
        "{ header: { name: X-User, ttl: 1h, max: 10 } }",
        AffinitySpec::Header { name: name("x-user"), table: small() },
    );
    check("{ source: true }", AffinitySpec::source());
    let mut shared = AffinitySpec::source();
    shared.table_mut().unwrap().store = Some(SessionStoreSpec {
        redis: "unix:///run/r.sock".into(),
        tls: ClientTlsSpec::default(),
        username: Some("keel".into()),
        password: Some(SecretSpec::Text("1234".into())),
        secret: "0123456789abcdef".into(),
        prefix: "shop".into(),
        timeout: Duration::from_millis(20),
    });
    check(
        "{ source: true, store: { redis: 'unix:///run/r.sock', username: keel, password: 1234, secret: 0123456789abcdef, prefix: shop, timeout: 20ms } }",
        shared,
    );
    check("{ source: {} }", AffinitySpec::source());
    check(
        "{ source: { ipv6_prefix: 64, ttl: 1h, max: 10 } }",
        AffinitySpec::Source { ipv6_prefix: 64, table: small() },
    );
}

#[test]
fn what_endpoints_speak() {
    let spec = good(
        "listeners: { web: { bind: :8080, service: a } }\nservices:\n  \
           a: { endpoints: [ :1 ], protocol: h2c, grpc_web: true, health: grpc }\n  \
           b: { endpoints: [ :1 ], protocol: h2, tls: true, health: { grpc: { service: x.Y }, host: z } }\n  \
           c: { endpoints: [ :1 ], protocol: auto, tls: true, retry: { on: [ grpc_unavailable, 503 ] } }\n  \
           d: { endpoints: [ :1 ] }\n",
    )
    .spec;
    let protocol = |name: &str| spec.services[name].protocol;
    assert_eq!(protocol("a"), EndpointProtocol::H2c);
    assert_eq!(protocol("b"), EndpointProtocol::H2);
    assert_eq!(protocol("c"), EndpointProtocol::Auto);
    assert_eq!(protocol("d"), EndpointProtocol::Http1);
    assert!(spec.services["a"].grpc_web && !spec.services["b"].grpc_web);
    let grpc = |service: &str, host: Option<&str>| HealthKind::Grpc {
        service: service.into(),
        host: host.map(Into::into),
    };
    assert_eq!(spec.services["a"].health.kind, grpc("", None));
    assert_eq!(spec.services["b"].health.kind, grpc("x.Y", Some("z")));
    let expected = [RetryCondition::Grpc(14), RetryCondition::Status(503)];
    assert_eq!(spec.services["c"].retry.on, expected);
}
