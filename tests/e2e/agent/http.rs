//! HTTP with JSON, over TCP and a Unix socket; and the agent's coming, changing and going.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use crate::e2e::harness::program::Folder;
use crate::e2e::harness::{Client, Evenkeel, free_port, until};

/// One request on a connection of its own; status and body.
pub fn ask(address: SocketAddr, method: &str, path: &str, body: &Value) -> (u16, Value) {
    ask_with(address, method, path, &body.to_string(), "")
}

fn ask_with(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
    headers: &str,
) -> (u16, Value) {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let response = Client::exchange(address, request).unwrap();
    (response.status, serde_json::from_slice(&response.body).unwrap())
}

fn ask_unix(path: &Path, body: &Value) -> (u16, Value) {
    let mut stream = UnixStream::connect(path).unwrap();
    let body = body.to_string();
    let request = format!(
        "POST /v1/pick HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap())
}

fn somewhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

#[test]
fn agent_calls_over_http_are_picked_and_reported_once() {
    let agent = somewhere();
    let program = Evenkeel::run(&format!(
        "agent: {{ bind: {agent}, expire: 5s }}\n\
         services:\n  web: {{ health: off, endpoints: [ {{ address: :5001, id: a }}, {{ address: :5002, id: b }} ] }}\n  \
         keyed: {{ policy: {{ maglev: {{ key: header:x-user }} }}, health: off, endpoints: [ :5001, :5002, :5003 ] }}\n  \
         full: {{ health: off, endpoints: [ :5001 ], limits: {{ concurrency: 1 }} }}\n  \
         empty: {{ endpoints: [] }}\n"
    ));
    let pick = |body: Value| ask(agent, "POST", "/v1/pick", &body);
    let report = |body: Value| ask(agent, "POST", "/v1/report", &body);
    let (status, picked) = pick(json!({ "service": "web" }));
    assert_eq!(
        (status, &picked["service"], &picked["expires_ms"]),
        (200, &json!("web"), &json!(5000))
    );
    assert!(["127.0.0.1:5001", "127.0.0.1:5002"].contains(&picked["address"].as_str().unwrap()));
    let id = picked["endpoint"].as_str().unwrap();
    assert_eq!(program.endpoint("web", id)["in_flight"], 1);
    let told = json!({ "id": picked["id"], "outcome": "success", "latency_ms": 12.5 });
    assert_eq!(report(told.clone()), (200, json!({})));
    let seen = program.endpoint("web", id);
    assert_eq!((&seen["in_flight"], &seen["latency_us"]), (&json!(0), &json!(12_500)));
    let (status, answer) = report(told);
    assert!(status == 404 && answer["error"].as_str().unwrap().contains("reported before"));

    // Not where it was tried already.
    for _ in 0..4 {
        let (_, picked) = pick(json!({ "service": "web", "exclude": ["a"] }));
        assert_eq!(picked["endpoint"], "b");
        report(json!({ "id": picked["id"], "outcome": "abandoned" }));
    }
    // One key, one endpoint.
    let home = |user: &str| {
        let (_, picked) = pick(json!({ "service": "keyed", "key": user }));
        report(json!({ "id": picked["id"], "outcome": "success" }));
        picked["endpoint"].clone()
    };
    assert!((0..5).all(|_| home("ann") == home("ann")));
    assert!((0..50).any(|n| home(&n.to_string()) != home("ann")));

    let (status, answer) = pick(json!({ "service": "empty" }));
    assert_eq!((status, &answer["reason"]), (503, &json!("no_endpoint")));
    let (_, only) = pick(json!({ "service": "full" }));
    let (status, answer) = pick(json!({ "service": "full" }));
    assert_eq!((status, &answer["reason"]), (503, &json!("overloaded")));
    // What is not reported has ended after its time.
    until("the pick to expire", || program.api("/v1/agent")["agent"]["counts"][0]["expired"] == 1);
    assert_eq!(pick(json!({ "service": "full" })).0, 200);
    assert_eq!(report(json!({ "id": only["id"], "outcome": "success" })).0, 404);

    for (method, path, body, status, message) in [
        (
            "POST",
            "/v1/pick",
            json!({ "service": "wbe" }),
            404,
            "no service \"wbe\"; there are empty",
        ),
        ("POST", "/v1/pick", json!({ "svc": "web" }), 400, "unknown field `svc`"),
        ("POST", "/v1/pick", json!([]), 400, "write { \"service\": \"web\" }"),
        ("POST", "/v1/report", json!({ "id": "x", "outcome": "success" }), 404, "no pick \"x\""),
        ("POST", "/v1/report", json!({ "id": "1", "outcome": "good" }), 400, "expected one of"),
        (
            "POST",
            "/v1/report",
            json!({ "id": "1", "outcome": "success", "latency_ms": -1 }),
            400,
            "`latency_ms` is -1",
        ),
        ("GET", "/v1/pick", json!(null), 405, "POST"),
        ("GET", "/v1/picks", json!(null), 404, "there is no /v1/picks"),
        ("GET", "/v1/services/none/endpoints", json!(null), 404, "no service \"none\""),
    ] {
        let (got, answer) = ask(agent, method, path, &body);
        assert_eq!(got, status, "{path} {body}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(message), "{path} {body}: {answer}");
    }
    let (_, listed) = ask(agent, "GET", "/v1/services/web/endpoints", &json!(null));
    assert_eq!(
        listed["endpoints"][0],
        json!({ "id": "a", "address": "127.0.0.1:5001", "weight": 1, "zone": null, "state": "healthy" })
    );
    // A web page of a browser on this machine must not ask.
    let (status, _) = ask_with(
        agent,
        "POST",
        "/v1/pick",
        r#"{"service":"web"}"#,
        "Origin: http://evil.example\r\n",
    );
    assert_eq!(status, 403);
    let (ok, said) = program.verb(&["status"]);
    assert!(ok && said.contains("AGENT") && said.contains(&format!("http://{agent}")), "{said}");
    let metrics = Client::get(program.admin, "/metrics").text();
    assert!(metrics.contains("evenkeel_agent_reports_total{wire=\"http\",outcome=\"success\"}"));
}

#[test]
fn agent_comes_changes_and_goes_with_the_configuration() {
    let folder = Folder::new();
    let socket = folder.join("agent.sock");
    let (first, second) = (somewhere(), somewhere());
    let services = "services: { web: { health: off, endpoints: [ :5001 ] } }\n";
    let mut program = Evenkeel::run(&format!("listeners: {{}}\n{services}"));
    assert!(Client::try_connect(first).is_err());
    program.reconfigure(&format!(
        "agent: {{ bind: {first}, socket: {} }}\n{services}",
        socket.display()
    ));
    let web = json!({ "service": "web" });
    let (status, outstanding) = ask(first, "POST", "/v1/pick", &web);
    assert_eq!(status, 200);
    assert_eq!(ask_unix(&socket, &web).0, 200);

    // At another address, with a token; what is outstanding stays so.
    program.reconfigure(&format!(
        "agent: {{ bind: {second}, token: secret, socket: {} }}\n{}",
        socket.display(),
        services.replace(":5001", ":5001, :5002")
    ));
    until("the old address is given up", || Client::try_connect(first).is_err());
    let with = |token: &str| {
        let header = format!("Authorization: Bearer {token}\r\n");
        let body = json!({ "id": outstanding["id"], "outcome": "success" }).to_string();
        ask_with(second, "POST", "/v1/report", &body, &header).0
    };
    assert_eq!((with("wrong"), with("secret")), (401, 200));
    assert_eq!(ask_unix(&socket, &web).0, 200, "the socket needs no token");
    // Services that come and go can be asked for, and not.
    program.reconfigure(&format!(
        "agent: {{ bind: off, socket: {} }}\nservices: {{ app: {{ health: off, endpoints: [ :5001 ] }} }}\n",
        socket.display()
    ));
    assert_eq!(
        (ask_unix(&socket, &web).0, ask_unix(&socket, &json!({ "service": "app" })).0),
        (404, 200)
    );
    // An address that is taken changes nothing.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_at = taken.local_addr().unwrap();
    let refused = program.post_config(&format!("agent: {{ bind: {taken_at} }}\n{services}"));
    assert!(
        refused.text().contains(&format!("the agent cannot listen on {taken_at}")),
        "{}",
        refused.text()
    );
    assert_eq!(ask_unix(&socket, &json!({ "service": "app" })).0, 200);
    let other = folder.join("none/agent.sock");
    let refused =
        program.post_config(&format!("agent: {{ socket: {} }}\n{services}", other.display()));
    assert!(refused.text().contains("make its folder first"), "{}", refused.text());

    program.signal("KILL");
    program.wait_exit();
    assert!(socket.exists(), "who is killed leaves it behind");
    let config = format!("agent: {{ bind: {first}, socket: {} }}\n{services}", socket.display());
    let mut program = Evenkeel::run(&config);
    assert_eq!(ask_unix(&socket, &web).0, 200);
    program.reconfigure(&format!("listeners: {{}}\n{services}"));
    until("the agent to be gone", || Client::try_connect(first).is_err() && !socket.exists());
    assert_eq!(program.api("/v1/agent")["agent"], json!(null));
    program.reconfigure(&config);
    program.signal("TERM");
    assert_eq!(program.wait_exit(), Some(0));
    assert!(!socket.exists());
}
