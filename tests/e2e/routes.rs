//! Which request goes where, and what becomes of it on the way.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::harness::{Client, Evenkeel, Replica, Response, free_port, until};

/// A listener with these routes, in front of `services`: names and where they are.
fn start(routes: &str, services: &[(&str, &Replica)]) -> (Evenkeel, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut config = format!("listeners:\n  web:\n    bind: {address}\n    routes:\n");
    for route in routes.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let _ = writeln!(config, "      - {route}");
    }
    if !services.is_empty() {
        config.push_str("services:\n");
    }
    for (name, replica) in services {
        let _ = writeln!(config, "  {name}: {{ endpoints: [{}], health: off }}", replica.address);
    }
    (Evenkeel::run(&config), address)
}

/// `METHOD target`, further lines of the head (with a Host if it matters).
fn ask(client: &mut Client, request: &str) -> Response {
    let (line, lines) = request.split_once(" | ").unwrap_or((request, ""));
    let (method, target) = line.split_once(' ').unwrap();
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    if !lines.contains("Host:") {
        head.push_str("Host: other.test\r\n");
    }
    for line in lines.split(" | ").filter(|line| !line.is_empty()) {
        let _ = write!(head, "{line}\r\n");
    }
    client.send(head + "\r\n").unwrap();
    client.response_to(method == "HEAD").unwrap()
}

/// Answers with the head that it saw.
fn echo() -> Replica {
    Replica::http(|seen| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nX-Replica: a\r\nX-Replica: b\r\nServer: secret\r\nContent-Length: {}\r\n\r\n",
            seen.head.len()
        );
        (head + &seen.head).into_bytes()
    })
}

fn line(response: &Response) -> String {
    response.text().lines().next().unwrap_or("").trim_end_matches(" HTTP/1.1").to_owned()
}

#[test]
fn the_most_specific_route_wins_whatever_the_order() {
    // Route, by what it answers.
    let routes = [
        ("rest", ""),
        ("prefix", "path: /images/*"),
        ("longer", "path: /images/large/*"),
        ("exact", "path: /images/large/one"),
        ("regex", "path: \"~ ^/v[0-9]+/\""),
        ("v1", "path: /v1/*"),
        ("wild", "host: \"*.example.com\""),
        ("deep", "host: \"*.deep.example.com\""),
        ("shop", "host: shop.example.com"),
        ("shop images", "host: shop.example.com, path: /images/*"),
        ("any method", "path: /m"),
        ("post", "path: /m, method: POST"),
        ("put or delete", "path: /m, method: [PUT, DELETE]"),
        ("header", "path: /h, headers: { x-version: \"2\" }"),
        ("headers", "path: /h, headers: { x-version: \"2\", x-beta: \"*\" }"),
        ("header prefix", "path: /hp, headers: { x-version: \"2*\" }"),
        ("header regex", "path: /hr, headers: { x-version: \"~ ^[0-9]+$\" }"),
        ("query", "path: /q, query: { a: \"1\" }"),
        ("queries", "path: /q, query: { a: \"1\", b: \"*\" }"),
        ("cookie", "path: /c, cookies: { user: beta }"),
        (
            "all",
            "host: all.test, path: /all, method: GET, headers: { x: y }, query: { q: z }, cookies: { c: d }",
        ),
    ];
    let cases = [
        ("GET /", "rest"),
        ("GET /images", "prefix"),
        ("GET /images/", "prefix"),
        ("GET /images/a/b", "prefix"),
        ("GET /imagesx", "rest"),
        ("GET /Images/a", "rest"),
        ("GET /images/large", "longer"),
        ("GET /images/large/x", "longer"),
        ("GET /images/large/one", "exact"),
        ("GET /images/large/one?a=b", "exact"),
        ("GET /images/large/one/", "longer"),
        ("GET /v1/x", "regex"),
        ("GET /v22/x", "regex"),
        ("GET /v1", "v1"),
        ("GET /vx/", "rest"),
        ("GET / | Host: a.example.com", "wild"),
        ("GET / | Host: a.b.example.com", "wild"),
        ("GET / | Host: example.com", "rest"),
        ("GET / | Host: evilexample.com", "rest"),
        ("GET / | Host: a.deep.example.com", "deep"),
        ("GET / | Host: deep.example.com", "wild"),
        ("GET / | Host: shop.example.com", "shop"),
        ("GET / | Host: SHOP.Example.COM:8080", "shop"),
        ("GET / | Host: shop.example.com.", "shop"),
        ("GET http://shop.example.com/ | Host: shop.example.com", "shop"),
        ("GET /images/a | Host: shop.example.com", "shop images"),
        ("GET /images/large/one | Host: shop.example.com", "shop images"),
        ("GET /m", "any method"),
        ("POST /m", "post"),
        ("post /m", "any method"),
        ("PUT /m", "put or delete"),
        ("DELETE /m", "put or delete"),
        ("GET /h", "rest"),
        ("GET /h | X-Version: 1", "rest"),
        ("GET /h | X-Version: 2", "header"),
        ("GET /h | X-VERSION: 1 | x-version: 2", "header"),
        ("GET /h | X-Version: 2 | X-Beta:", "headers"),
        ("GET /hp | X-Version: 20", "header prefix"),
        ("GET /hp | X-Version: 12", "rest"),
        ("GET /hr | X-Version: 12", "header regex"),
        ("GET /hr | X-Version: 12a", "rest"),
        ("GET /q", "rest"),
        ("GET /q?a=2", "rest"),
        ("GET /q?a=1", "query"),
        ("GET /q?x&a=2&a=1", "query"),
        ("GET /q?%61=%31", "query"),
        ("GET /q?a=1&b", "queries"),
        ("GET /c", "rest"),
        ("GET /c | Cookie: user=beta", "cookie"),
        ("GET /c | Cookie: a=b; user=\"beta\"; c=d", "cookie"),
        ("GET /c | Cookie: a=b | Cookie: user=beta", "cookie"),
        ("GET /c | Cookie: xuser=beta", "rest"),
        ("GET /c | Cookie: user=betax", "rest"),
        ("GET /all?q=z | Host: all.test | X: y | Cookie: c=d", "all"),
        ("GET /all?q=z | Host: all.test | X: y | Cookie: c=e", "rest"),
        ("POST /all?q=z | Host: all.test | X: y | Cookie: c=d", "rest"),
        ("OPTIONS *", "rest"),
    ];
    let text = |(name, matchers): &(&str, &str)| {
        let comma = if matchers.is_empty() { "" } else { ", " };
        format!("{{ {matchers}{comma}respond: {{ body: {name} }} }}\n")
    };
    let forward: String = routes.iter().map(text).collect();
    let backward: String = routes.iter().rev().map(text).collect();
    for order in [forward, backward] {
        let (_program, address) = start(&order, &[]);
        let mut client = Client::connect(address);
        for (request, expected) in cases {
            assert_eq!(ask(&mut client, request).text(), expected, "{request}");
        }
    }
    eprintln!("{} requests through {} routes, in both orders", cases.len(), routes.len());
}

#[test]
fn a_request_without_a_route_is_404_and_the_connection_stays() {
    let (_program, address) = start("{ host: only.test, path: /here, respond: 204 }", &[]);
    let mut client = Client::connect(address);
    for _ in 0..3 {
        for request in ["GET /here", "GET / | Host: only.test", "GET /here/ | Host: only.test"] {
            let response = ask(&mut client, request);
            assert_eq!((response.status, response.header("connection")), (404, None), "{request}");
        }
        assert_eq!(ask(&mut client, "GET /here | Host: only.test").status, 204);
    }
}

#[test]
fn paths_hosts_and_headers_are_rewritten() {
    let replica = echo();
    let routes = r#"
        { path: /api/*, service: app, rewrite: { prefix: / } }
        { path: /old/*, service: app, rewrite: { prefix: /new/v2 } }
        { path: /one, service: app, rewrite: { path: "/other" } }
        { path: "~ ^/users/([0-9]+)/(?<rest>.*)$", service: app, rewrite: { path: "/u/$1/${rest}" } }
        { path: /host, service: app, rewrite: { host: internal.test } }
        { path: /headers, service: app, rewrite: { request_headers: { set: { x-set: new, x-gone: kept, x-forwarded-proto: https, x-request-id: mine }, add: { x-add: more }, remove: [x-remove, via] }, response_headers: { set: { x-replica: "c" }, add: { x-new: "1" }, remove: [server] } } }
        { service: app }
    "#;
    let (_program, address) = start(routes, &[("app", &replica)]);
    let mut client = Client::connect(address);
    for (sent, expected) in [
        ("GET /api/v1?a=b", "GET /v1?a=b"),
        ("GET /api", "GET /"),
        ("GET /api/", "GET /"),
        ("GET /api/a//b", "GET /a//b"),
        ("GET /api//evil", "GET //evil"),
        ("GET /api/%2e%2e/x", "GET /x"),
        ("GET /old", "GET /new/v2"),
        ("GET /old/a/", "GET /new/v2/a/"),
        ("GET /one?x=%20", "GET /other?x=%20"),
        ("GET /users/7/a/b?c", "GET /u/7/a/b?c"),
        ("GET /users/7/%2e%2e/%2e%2e/x", "GET /x"),
        ("GET /users/x/a", "GET /users/x/a"),
        ("GET /plain?q", "GET /plain?q"),
    ] {
        assert_eq!(line(&ask(&mut client, sent)), expected, "{sent}");
    }
    let seen = ask(&mut client, "GET /host | Host: front.test:8080").text();
    assert!(seen.contains("\r\nHost: internal.test\r\n"), "{seen}");
    assert!(seen.contains("\r\nX-Forwarded-Host: front.test:8080\r\n"), "{seen}");

    let request =
        "GET /headers | X-SET: old | X-Set: older | X-Add: first | X-Remove: a | X-Stay: b";
    let response = ask(&mut client, request);
    let seen = response.text();
    let values = |name: &str| {
        let lines = seen.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v).collect::<Vec<_>>()
    };
    assert_eq!(values("x-set"), ["new"], "{seen}");
    assert_eq!(values("x-gone"), ["kept"], "{seen}");
    assert_eq!(values("x-add"), ["first", "more"], "{seen}");
    assert_eq!(values("x-stay"), ["b"], "{seen}");
    // Ours are no exception.
    assert_eq!(values("x-forwarded-proto"), ["https"], "{seen}");
    assert_eq!(values("x-request-id"), ["mine"], "{seen}");
    assert_eq!((values("x-remove").len(), values("via").len()), (0, 0), "{seen}");
    let head = &response.head;
    assert_eq!(head.to_lowercase().matches("x-replica: ").count(), 1, "{head}");
    assert_eq!(response.header("x-replica"), Some("c"));
    assert_eq!((response.header("x-new"), response.header("server")), (Some("1"), None));
}

#[test]
fn redirects_and_fixed_answers_need_no_service() {
    let routes = r#"
        { host: old.test, redirect: "https://{host}{uri}" }
        { path: /login, redirect: { to: "/sign-in{query}", status: 301 } }
        { path: /temporary, redirect: { to: "http://new.test{path}", status: 307 } }
        { path: /for-good, redirect: { to: "/{path}", status: 308 } }
        { path: /after, redirect: { to: /done, status: 303 } }
        { path: "~ ^//", redirect: "{uri}" }
        { path: /down, respond: { status: 503, body: "<p>soon</p>", content_type: text/html } }
        { path: /nothing, respond: 204 }
        { path: /teapot, respond: 418 }
    "#;
    let (_program, address) = start(routes, &[]);
    let mut client = Client::connect(address);
    for (request, status, location) in [
        ("GET /a/b?c=d | Host: old.test:8080", 302, "https://old.test/a/b?c=d"),
        ("GET /login", 301, "/sign-in"),
        ("GET /login?next=/x", 301, "/sign-in?next=/x"),
        ("POST /temporary?x", 307, "http://new.test/temporary"),
        ("HEAD /for-good", 308, "/for-good"),
        ("PUT /after", 303, "/done"),
        // Else it would name another host.
        ("GET //evil.test/", 302, "/evil.test/"),
    ] {
        let response = ask(&mut client, request);
        assert_eq!(
            (response.status, response.header("location")),
            (status, Some(location)),
            "{request}"
        );
    }
    let response = ask(&mut client, "GET /down");
    assert_eq!((response.status, response.text().as_str()), (503, "<p>soon</p>"));
    assert_eq!(response.header("content-type"), Some("text/html"));
    let response = ask(&mut client, "HEAD /down");
    assert_eq!((response.status, response.header("content-length")), (503, Some("11")));
    let response = ask(&mut client, "GET /nothing");
    assert_eq!((response.status, response.header("content-length")), (204, None));
    assert_eq!(ask(&mut client, "GET /teapot").status, 418);
    // A body that comes along does not get into the next request.
    client.send("POST /teapot HTTP/1.1\r\nHost: h\r\nContent-Length: 26\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().status, 418);
    assert_eq!(ask(&mut client, "GET /nothing").status, 204);
}

#[test]
fn a_split_follows_its_weights() {
    const REQUESTS: usize = 4000;
    let names = ["a", "b", "c", "d"];
    let replicas = names.map(Replica::named);
    let services: Vec<_> = names.into_iter().zip(&replicas).collect();
    let (_program, address) = start("{ services: { a: 60, b: 30, c: 10, d: 0 } }", &services);
    let mut client = Client::connect(address);
    let mut counts = [0; 4];
    for _ in 0..REQUESTS {
        let name = ask(&mut client, "GET /").text();
        counts[names.iter().position(|n| *n == name).unwrap()] += 1;
    }
    // Six standard deviations: sqrt(4000 * 0.6 * 0.4) is 31.
    for (count, weight) in counts.iter().zip([60, 30, 10, 0]) {
        let wanted = REQUESTS * weight / 100;
        let spread = 6.0 * (wanted as f64 * (1.0 - weight as f64 / 100.0)).sqrt();
        assert!((*count as f64 - wanted as f64).abs() <= spread, "{counts:?}");
    }
    eprintln!("{REQUESTS} requests at weights 60, 30, 10, 0: {counts:?}");
}

#[test]
fn a_service_without_an_endpoint_is_503_and_its_route_stays() {
    let replica = Replica::named("a");
    let (program, address) =
        start("{ path: /app/*, service: app }\n{ respond: { body: rest } }", &[("app", &replica)]);
    let mut client = Client::connect(address);
    let endpoint = replica.address.to_string();
    for _ in 0..3 {
        assert_eq!(ask(&mut client, "GET /app/").text(), "a");
        let (done, said) = program.verb(&["drain", "app", &endpoint]);
        assert!(done, "{said}");
        until("drained", || Client::get(address, "/app/").status == 503);
        let response = ask(&mut client, "POST /app/");
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
        assert_eq!(ask(&mut client, "GET /").text(), "rest");
        assert!(program.verb(&["undrain", "app", &endpoint]).0);
        until("back", || Client::get(address, "/app/").status == 200);
    }
}

/// What an operator closed stays closed, however the path is written.
#[test]
fn no_spelling_of_a_path_gets_past_its_route() {
    let replica = echo();
    let routes = r#"
        { path: /admin/*, respond: 403 }
        { path: /secret, respond: 403 }
        { host: closed.test, respond: 403 }
        { service: app }
    "#;
    let (_program, address) = start(routes, &[("app", &replica)]);
    let mut client = Client::connect(address);
    let closed = [
        "GET /admin",
        "GET /admin/",
        "GET /admin/x",
        "GET /admin?x",
        "GET /./admin/x",
        "GET /././admin",
        "GET /a/../admin/x",
        "GET /a/b/../../admin/x",
        "GET /a/./../admin",
        "GET /admin/./x",
        "GET /admin/a/../x",
        "GET /%61dmin/x",
        "GET /%61%64%6d%69%6e/x",
        "GET /%2e/admin/x",
        "GET /a/%2e%2e/admin/x",
        "GET /a/%2E./admin/x",
        "GET /a/.%2e/admin/x",
        "GET /a/%2e%2E/%61dmin",
        "GET /a%2fb/../admin",
        "GET /secret",
        "GET /secre%74",
        "GET /x/../secret",
        "GET /secret/.",
        "GET http://other.test/a/../admin/x",
        "GET http://other.test/%61dmin",
        "GET / | Host: closed.test",
        "GET / | Host: CLOSED.test.:80",
        "GET http://closed.test/ | Host: closed.test",
    ];
    for request in closed {
        let response = ask(&mut client, request);
        // `/secret/.` is `/secret/`, which is another path to an exact route.
        if request == "GET /secret/." {
            assert_eq!(line(&response), "GET /secret/", "{request}");
        } else {
            assert_eq!(response.status, 403, "{request}");
        }
    }
    let received = String::from_utf8(replica.received()).unwrap();
    assert!(!received.contains("dmin"), "{received}");
    // What names something else passes, in the form that was judged.
    for (sent, seen) in [
        ("GET /admin%2fx", "GET /admin%2Fx"),
        ("GET /a/../b", "GET /b"),
        ("GET /adminx", "GET /adminx"),
        ("GET /admin/../b", "GET /b"),
        ("GET /%2561dmin/x", "GET /%2561dmin/x"),
        ("GET /a?/../admin", "GET /a?/../admin"),
    ] {
        assert_eq!(line(&ask(&mut client, sent)), seen, "{sent}");
    }
    // Above the root there is nothing.
    for request in ["GET /../admin", "GET /a/../../admin", "GET /%2e%2e/admin", "GET /.%2E/"] {
        assert_eq!(ask(&mut Client::connect(address), request).status, 400, "{request}");
    }
    eprintln!("{} spellings: none got past its route", closed.len());
}
