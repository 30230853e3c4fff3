//! Replicas that the program runs itself: what they are given, and what becomes of bad ones.

use std::fs;
use std::net::SocketAddr;

use super::harness::program::{BINARY, Folder, pid_with_env, signal};
use super::harness::replica::ok;
use super::harness::{Client, Evenkeel, Replica, local, until};

/// One HTTP listener before a service of these lines.
fn config(http: SocketAddr, service: &str) -> String {
    format!("listeners: {{ web: {{ bind: {http}, service: web }} }}\nservices:\n  web:\n{service}")
}

#[test]
fn replicas_get_their_port_and_name_and_their_output_is_prefixed() {
    let http = local();
    let script = format!(
        "echo \\\"$REPLICA has $PORT and $FLAVOUR in $(pwd)\\\"; echo oops >&2; exec {BINARY} echo"
    );
    let program = Evenkeel::run(&config(
        http,
        &format!(
            "    health: {{ http: /healthz }}\n    \
             run: {{ command: [sh, -c, \"{script}\"], replicas: 2, env: {{ FLAVOUR: mild }} }}\n"
        ),
    ));
    until("two replicas", || program.count("web", "healthy") == 2);
    let folder = program.folder.0.canonicalize().unwrap();
    for id in ["web-1", "web-2"] {
        let endpoint = program.endpoint("web", id);
        let port = endpoint["address"].as_str().unwrap().rsplit(':').next().unwrap();
        let said = format!("{id} | {id} has {port} and mild in {}", folder.display());
        until(&said, || program.log().lines().any(|line| line == said));
        until("its standard error", || {
            program.log().lines().any(|line| line == format!("{id} | oops"))
        });
    }
    let names: Vec<String> = (0..2).map(|_| Client::get(http, "/").text()).collect();
    assert_ne!(names[0], names[1]);
}

#[test]
fn a_command_that_exits_at_once_is_started_again_ever_more_slowly() {
    let (http, folder) = (local(), Folder::new());
    let starts = folder.join("starts");
    let script = format!("echo $REPLICA >> {}; exit 3", starts.display());
    let program = Evenkeel::spawn(&config(
        http,
        &format!("    run: {{ command: [sh, -c, \"{script}\"], replicas: 1 }}\n"),
    ));
    let started = || fs::read_to_string(&starts).unwrap_or_default().lines().count();
    until("five starts", || started() >= 5);
    let wait = |line: &str| {
        line.split_once("starting it again in ")?.1.split(' ').next()?.parse::<u64>().ok()
    };
    let mut waits = Vec::new();
    until("four waits in the log", || {
        waits = program.log().lines().filter_map(wait).collect();
        waits.len() >= 4
    });
    for (wait, least) in waits.iter().zip([100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]) {
        assert!((least..=least * 6 / 5).contains(wait), "{waits:?}");
    }
    // Each start was waited for.
    let starts = started();
    until("a wait for each start", || {
        starts <= program.log().matches("starting it again in ").count() + 1
    });
    until("the reason in the log", || program.log().contains("exit status: 3"));
    let response = Client::get(http, "/");
    assert_eq!(response.status, 503);
    assert!(response.header("retry-after").is_some(), "{}", response.head);
    let ready = Client::get(program.admin, "/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("web"), "{}", ready.text());
    eprintln!("{} starts, waits in ms: {waits:?}", started());
}

#[test]
fn a_dead_replica_is_started_again() {
    let http = local();
    let program = Evenkeel::run(&config(
        http,
        "    health: { http: /healthz }\n    run: { command: [evenkeel, echo], replicas: 2 }\n",
    ));
    until("two replicas", || program.count("web", "healthy") == 2);
    let before = program.endpoint("web", "web-1")["address"].clone();
    let port = before.as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    let pid = pid_with_env(&format!("PORT={port}")).unwrap();
    signal(pid, "ABRT");
    until("it is back", || {
        program.count("web", "healthy") == 2
            && program.endpoint("web", "web-1")["address"] != before
    });
    until("its end in the log", || program.log().contains("web-1: ended"));
}

#[test]
fn a_replica_that_never_becomes_healthy_gets_no_traffic() {
    let http = local();
    // The second one answers, but not to health checks as it should; it logs what it is asked.
    let script = format!(
        "[ $REPLICA = web-1 ] && exec {BINARY} echo; \
         exec python3 -u -m http.server --bind 127.0.0.1 $PORT"
    );
    let program = Evenkeel::run(&config(
        http,
        &format!(
            "    health: {{ http: /healthz, interval: 100ms }}\n    \
             run: {{ command: [sh, -c, \"{script}\"], replicas: 2, start_timeout: 3s }}\n"
        ),
    ));
    until("the other is asked for its health", || {
        program.log().lines().any(|l| l.starts_with("web-2 | ") && l.contains("GET /healthz"))
    });
    let mut asked = 0;
    // Until it is given up, and some more.
    until("it is started again", || {
        for _ in 0..10 {
            let response = Client::get(http, "/work");
            assert_eq!(response.status, 200);
            assert_eq!(response.text(), "web-1 GET /work\n");
            asked += 1;
        }
        assert_eq!(program.count("web", "healthy"), 1);
        program.log().contains("web-2: not healthy within")
    });
    assert!(!program.log().contains("GET /work"), "{}", program.log());
    eprintln!("{asked} requests, none to the replica that is never healthy");
}

#[test]
fn a_service_without_endpoints_answers_503_and_its_route_stays() {
    let (http, address) = (local(), local());
    let program = Evenkeel::spawn(&format!(
        "listeners:\n  web:\n    bind: {http}\n    routes:\n    - {{ path: /static, service: fixed }}\n    \
         - {{ path: /run, service: web }}\n    service: fine\n\
         services:\n  fixed: {{ endpoints: [ {address} ], health: {{ tcp: true, interval: 100ms }} }}\n  \
         web: {{ run: {{ command: [evenkeel, echo], replicas: 0 }} }}\n  \
         fine: {{ run: {{ command: [evenkeel, echo], replicas: 1 }} }}\n"
    ));
    until("the service that is well", || {
        Client::try_get(http, "/other").is_some_and(|response| response.status == 200)
    });
    let mut client = Client::connect(http);
    let mut ask = |path: &str| {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).unwrap();
        client.response().expect("the connection stays, whatever the answer")
    };
    for path in ["/static", "/run"] {
        let response = ask(path);
        assert_eq!(response.status, 503, "{path}");
        let seconds = response.header("retry-after").expect("Retry-After");
        assert!(seconds.parse::<u32>().is_ok_and(|seconds| seconds > 0), "{seconds}");
        assert_eq!(ask("/other").status, 200, "others are unharmed");
    }
    let replica = Replica::http_at(address, |_| ok("back"));
    until("the endpoint that came", || ask("/static").status == 200);
    assert_eq!(ask("/static").text(), "back");
    replica.stop();
    until("the endpoint that went", || ask("/static").status == 503);

    for (replicas, status) in [(2, 200), (0, 503), (1, 200)] {
        let (done, said) = program.verb(&["scale", &format!("web={replicas}")]);
        assert!(done, "{said}");
        until(&format!("{status} with {replicas} replicas"), || ask("/run").status == status);
    }
    assert!(program.service("web")["unavailable"].as_u64().unwrap() >= 2);
}
