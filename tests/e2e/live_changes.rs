//! Changes while it runs: the file, `SIGHUP` and `POST /v1/config`. What does not differ is not
//! touched, and what cannot be done changes nothing.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use super::harness::replica::ok;
use super::harness::wait::PATIENCE;
use super::harness::{Client, Evenkeel, Lines, Quickstart, Replica, Wrk, local, until};

/// One HTTP listener before one replica.
fn single(bind: SocketAddr, replica: &Replica) -> String {
    format!(
        "listeners: {{ web: {{ bind: {bind}, service: web }} }}\n\
         services: {{ web: {{ endpoints: [ {} ] }} }}\n",
        replica.address
    )
}

/// One more request on a connection that must still be there.
fn ask(client: &mut Client, path: &str) -> (u16, String) {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).unwrap();
    let response = client.response().expect("the connection is still served");
    (response.status, response.text())
}

fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err()
}

/// Wrong texts, made of a good one, and what must be said of each.
const WRONG: [(&str, &str, &str); 7] = [
    ("endpoints:", "endpionts:", "did you mean `endpoints`"),
    ("service: web }", "service: wbe }", "wbe"),
    ("services: {", "services: {{{", "error"),
    ("web: { endpoints", "web: { policy: roundrobin, endpoints", "round_robin"),
    ("web: { endpoints", "web: { pool: { idle_max: -1 }, endpoints", "idle_max"),
    ("web: { endpoints", "web: { timeouts: { connect: 5 }, endpoints", "write 5s or 5ms"),
    ("listeners: {", "listeners: { again: { bind: BIND, service: web },", "BIND"),
];

#[test]
fn a_wrong_file_is_refused_and_the_old_one_stays() {
    let replica = Replica::named("a");
    let bind = local();
    let good = single(bind, &replica);
    let program = Evenkeel::run(&good);
    let in_force = Client::get(program.admin, "/v1/config").text();
    let mut client = Client::connect(bind);
    for (index, (part, wrong, said)) in WRONG.iter().enumerate() {
        let wrong = good.replace(part, &wrong.replace("BIND", &bind.to_string()));
        assert_ne!(wrong, good);
        program.write_config(&wrong);
        // Refusals and the last one's message, which comes line by line.
        let refusal = || {
            let log = program.log();
            let parts = log.split("and is refused; nothing changed").skip(1);
            (parts.clone().count(), parts.last().unwrap_or_default().to_owned())
        };
        until(&format!("a refusal of\n{wrong}"), || refusal().0 == index + 1);
        let said = said.replace("BIND", &bind.to_string());
        until(&format!("{said:?} in the log"), || refusal().1.contains(&said));
        let place = format!("{}:", program.config_file().display());
        assert!(refusal().1.contains(&place), "no place in: {}", refusal().1);
        assert_eq!(Client::get(program.admin, "/v1/config").text(), in_force);
        assert_eq!(ask(&mut client, "/"), (200, "a".to_owned()));
        let posted = program.post_config(&wrong);
        assert_eq!(posted.status, 400, "{}", posted.text());
        assert!(posted.text().contains("posted:"), "{}", posted.text());
        assert_eq!(Client::get(program.admin, "/v1/config").text(), in_force);
        assert_eq!(ask(&mut client, "/"), (200, "a".to_owned()));
    }
    program.reconfigure(
        &good.replace("service: web }", "routes: [ { path: /b, respond: 204 } ], service: web }"),
    );
    assert_eq!(ask(&mut client, "/b").0, 204);
    assert_eq!(program.listener("web")["connections_total"], 1);
    eprintln!("{} wrong configurations refused, twice each", WRONG.len());
}

#[test]
fn a_posted_configuration_holds_until_the_file_is_read_again() {
    let replica = Replica::named("a");
    let bind = local();
    let file = single(bind, &replica);
    let posted =
        file.replace("service: web }", "routes: [ { path: /b, respond: 204 } ], service: web }");
    let program = Evenkeel::run(&file);
    let mut client = Client::connect(bind);
    assert_eq!(ask(&mut client, "/b").0, 200);
    let answer = program.post_config(&posted);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("listener ~ web"), "{}", answer.text());
    assert_eq!(ask(&mut client, "/b").0, 204);
    assert!(Client::get(program.admin, "/v1/config").text().contains("/b"));
    let again = program.post_config(&posted);
    assert!(again.text().contains("nothing changed"), "{}", again.text());
    program.signal("HUP");
    until("the file's configuration", || ask(&mut client, "/b").0 == 200);
    until("it is told", || program.log().contains("SIGHUP: listener ~ web"));
    assert_eq!(program.listener("web")["connections_total"], 1);
}

/// So many services that a text of them all is read in part.
const MANY: usize = 1000;

/// A thousand services with a route each; the one in the middle is written so.
fn many(bind: SocketAddr, web: SocketAddr, middle: &str) -> String {
    let mut text = format!(
        "admin: {{ bind: ADMIN }}\nlisteners:\n  web:\n    bind: {bind}\n    service: web\n    routes:\n"
    );
    for n in 0..MANY {
        text += &format!("      - {{ path: /s{n}/*, service: s{n} }}\n");
    }
    text += &format!("services:\n  # in front\n  web: {{ endpoints: [ {web} ] }}\n");
    for n in 0..MANY {
        text += &match n {
            _ if n == MANY / 2 => format!("  s{n}:{middle}\n"),
            _ => format!("  s{n}: {{ health: off, endpoints: [ 127.0.0.1:{} ] }}\n", 1 + n % 7),
        };
    }
    text
}

#[test]
fn one_of_many_services_changes_under_load_and_each_change_is_in_force() {
    let [a, b] = ["a", "b"].map(Replica::named);
    let web = Replica::named("web");
    let bind = local();
    let path = format!("/s{}/x", MANY / 2);
    // Written in different ways, on one line and on several.
    let ways: [fn(SocketAddr) -> String; 4] = [
        |to| format!(" {{ health: off, endpoints: [ {to} ] }}"),
        |to| format!("\n    # moved\n    health: off\n    endpoints:\n      - {to}\n\n# on"),
        |to| format!(" {{ endpoints: [ \"{to}\" ] }} # checked"),
        |to| format!("\n    policy: random\n    endpoints: [\n      {to} ]\n    retry: off"),
    ];
    let wrong = [
        (" { endpionts: [ :1 ] }", 0, "did you mean `endpoints`"),
        ("\n    endpoints: [ :1 ]\n    health: \"off", 3, "multiline quoted scalar"),
        (" { endpoints: [ :1 ] }\n  s3: { endpoints: [ :1 ] }", 1, "`s3` stands twice"),
        (" { endpoints: [ :1 ] }\n s: { endpoints: [ :1 ] }", 1, "fits none of the lines"),
        ("\n    endpoints: [ :1 ]\n\thealth: off", 2, "a tab cannot indent"),
        (" &a { endpoints: *b }", 0, "no anchor `&b` stands before it"),
    ];
    let program = Evenkeel::run(&many(bind, web.address, &ways[0](a.address)));
    let mut load = Wrk::start(bind, "/", 4, 120);
    let mut client = Client::connect(bind);
    assert_eq!(ask(&mut client, &path), (200, "a".to_owned()));
    for turn in 0..16 {
        let (name, replica) = if turn % 2 == 0 { ("b", &b) } else { ("a", &a) };
        let before = ask(&mut client, &path);
        let in_force = Client::get(program.admin, "/v1/config").text();
        let (middle, below, said) = wrong[turn % wrong.len()];
        let bad = many(bind, web.address, middle);
        let line = bad.lines().position(|line| line.starts_with(&format!("  s{}:", MANY / 2)));
        let refused = program.post_config(&bad);
        assert_eq!(refused.status, 400, "{middle}");
        let (place, text) = (format!("posted:{}:", line.unwrap() + 1 + below), refused.text());
        assert!(text.contains(&place) && text.contains(said), "{place} {said}: {text}");
        assert_eq!(Client::get(program.admin, "/v1/config").text(), in_force);
        assert_eq!(ask(&mut client, &path), before, "nothing changed");

        // The file is read again only if it differs from what it held before.
        let way = ways[turn % ways.len()](replica.address);
        let good = many(bind, web.address, &format!("{way} # {turn}"));
        if turn % 4 == 3 {
            program.reconfigure(&good);
        } else {
            let answer = program.post_config(&good);
            assert_eq!(answer.status, 200, "{}", answer.text());
            let summary = format!("service ~ s{}", MANY / 2);
            assert!(answer.text().contains(&summary), "{}", answer.text());
        }
        assert_eq!(ask(&mut client, &path), (200, name.to_owned()), "turn {turn}");
    }
    assert_eq!(ask(&mut client, "/"), (200, "web".to_owned()));
    assert!(load.is_running(), "the load ended before the changes did");
    load.stop().assert_perfect("one of many services changed, sixteen times");
}

/// A replica that answers `/slow` only once it may.
fn gated(gate: &Arc<(Mutex<bool>, Condvar)>) -> Replica {
    let gate = gate.clone();
    Replica::http(move |seen| {
        if seen.line().contains("/slow") {
            let open = gate.0.lock().unwrap();
            drop(gate.1.wait_timeout_while(open, PATIENCE, |open| !*open));
        }
        ok("a")
    })
}

#[test]
fn listeners_come_go_and_move_while_others_connections_stay_open() {
    let gate = Arc::default();
    let replica = gated(&gate);
    let [stays, moves, moved, goes, comes, tcp] = [(); 6].map(|()| local());
    let config = |listeners: &[(&str, SocketAddr)]| {
        let listeners: String = listeners
            .iter()
            .map(|(name, bind)| format!("  {name}: {{ bind: {bind}, service: web }}\n"))
            .collect();
        format!(
            "listeners:\n{listeners}  lines: {{ bind: {tcp}, protocol: tcp, service: echo }}\n\
             services:\n  web: {{ endpoints: [ {} ] }}\n  \
             echo: {{ run: {{ command: [evenkeel, echo] }} }}\n",
            replica.address
        )
    };
    let program = Evenkeel::run(&config(&[("stays", stays), ("moves", moves), ("goes", goes)]));
    let mut clients: Vec<Client> = [stays, moves, goes].map(Client::connect).into();
    for client in &mut clients {
        assert_eq!(ask(client, "/").0, 200);
    }
    let mut lines = Lines::open(tcp);
    let mut slow = [moves, goes].map(Client::connect);
    for client in &mut slow {
        client.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    }
    until("both are under way", || program.service("web")["endpoints"][0]["in_flight"] == 2);

    program.reconfigure(&config(&[("stays", stays), ("moves", moved), ("comes", comes)]));
    until("the old addresses are given up", || is_refused(moves) && is_refused(goes));
    for address in [stays, moved, comes] {
        assert_eq!(Client::get(address, "/").text(), "a", "{address}");
    }
    lines.assert_works();
    // The very same connection goes on; idle ones of listeners that are gone end in order.
    assert_eq!(ask(&mut clients[0], "/").0, 200);
    for client in &mut clients[1..] {
        let end = client.send("").and_then(|()| client.take(1)).unwrap_err();
        assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof, "closed, not reset");
    }
    // What was under way is answered.
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    for client in &mut slow {
        let response = client.response().expect("the answer to what was under way");
        assert_eq!(response.status, 200);
        assert_eq!(response.header("connection"), Some("close"), "{}", response.head);
    }
    assert_eq!(program.listener("stays")["connections_total"], 2);
    assert_eq!(program.listener("lines")["connections_total"], 1);
}

#[test]
fn a_bind_that_fails_takes_everything_back_and_says_so() {
    let replica = Replica::named("a");
    let [web, other, fresh] = [(); 3].map(|()| local());
    let config = |routes: &str, listeners: &str| {
        format!(
            "listeners:\n  bbb: {{ bind: {web}, {routes} service: web }}\n{listeners}\
             services: {{ web: {{ endpoints: [ {} ] }} }}\n",
            replica.address
        )
    };
    let before = config("", &format!("  ccc: {{ bind: {other}, service: web }}\n"));
    let program = Evenkeel::run(&before);
    let in_force = Client::get(program.admin, "/v1/config").text();
    let mut client = Client::connect(web);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    // On a port of ours, but an address that somebody else has: found only when all else is done.
    let beside = TcpListener::bind(("127.0.0.2", web.port())).unwrap();
    for address in [taken.local_addr().unwrap(), beside.local_addr().unwrap()] {
        let wanted = config(
            "routes: [ { path: /new, respond: 204 } ],",
            &format!(
                "  aaa: {{ bind: {fresh}, service: web }}\n  zzz: {{ bind: {address}, service: web }}\n"
            ),
        );
        let answer = program.post_config(&wanted);
        assert_eq!(answer.status, 400, "{}", answer.text());
        let message = format!("listener zzz cannot listen on {address}");
        assert!(answer.text().contains(&message), "{}", answer.text());
        until("the new listener is taken back", || is_refused(fresh));
        assert_eq!(ask(&mut client, "/new"), (200, "a".to_owned()), "routes as before");
        assert_eq!(Client::get(other, "/").text(), "a", "the one to be removed is there");
        assert_eq!(Client::get(program.admin, "/v1/config").text(), in_force);
        assert_eq!(program.listener("zzz"), serde_json::Value::Null);

        // The same by the file is logged, and traffic goes on.
        let refusals = || program.log().matches("and is refused; nothing changed").count();
        let logged = refusals();
        program.write_config(&wanted);
        until("the refusal in the log", || refusals() > logged);
        until(&message, || program.log().contains(&message));
        assert_eq!(ask(&mut client, "/new"), (200, "a".to_owned()));
    }
    drop((taken, beside));
    program.signal("HUP");
    until("once the address is free it works", || ask(&mut client, "/new").0 == 204);
    assert_eq!(program.listener("bbb")["connections_total"], 1);
}

#[test]
fn a_scaled_number_of_replicas_survives_a_reload() {
    let quickstart = Quickstart::start();
    let program = &quickstart.program;
    let (done, said) = program.verb(&["scale", "web=2"]);
    assert!(done, "{said}");
    quickstart.wait_replicas(2);
    let pids = ["web-1", "web-2"].map(|id| quickstart.replica_pid(id));
    let config = quickstart.config().replace("    health:", "    policy: random\n    health:");
    program.reconfigure(&config);
    program.signal("HUP");
    until("SIGHUP is seen", || program.log().contains("SIGHUP: "));
    let service = program.service("web");
    assert_eq!((&service["replicas"], &service["policy"]), (&2.into(), &"random".into()));
    quickstart.wait_replicas(2);
    assert_eq!(pids, ["web-1", "web-2"].map(|id| quickstart.replica_pid(id)), "none was restarted");
    // A new number in the file is a new wish.
    program.reconfigure(&config.replace("replicas: 3", "replicas: 4"));
    quickstart.wait_replicas(4);
}

#[test]
fn weights_set_by_the_api_give_their_shares_exactly() {
    for workers in [1, 2] {
        let replicas = ["a", "b", "c"].map(Replica::named);
        let bind = local();
        let [a, b, c] = [0, 1, 2].map(|index: usize| replicas[index].address.to_string());
        let program = Evenkeel::run(&format!(
            "workers: {workers}\n\
             listeners: {{ web: {{ bind: {bind}, service: web }} }}\n\
             services: {{ web: {{ endpoints: [ {a}, {b}, {c} ] }} }}\n"
        ));
        until("all healthy", || program.count("web", "healthy") == 3);
        // Enough connections that both workers have some.
        let mut clients: Vec<Client> = (0..16).map(|_| Client::connect(bind)).collect();
        let mut total = 0;
        for (weights, expected) in [
            ([Some(3), Some(3), Some(2)], [3, 3, 2]),
            ([Some(1), Some(0), Some(7)], [1, 0, 7]),
            ([None, None, Some(6)], [1, 1, 6]),
            ([Some(3), Some(3), Some(2)], [3, 3, 2]),
        ] {
            for (id, weight) in [&a, &b, &c].into_iter().zip(weights) {
                let weight: serde_json::Value = weight.into();
                let path = format!("/v1/services/web/endpoints/{id}");
                let answer = program.call("PATCH", &path, &format!("{{\"weight\": {weight}}}"));
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
            for round in 0..20 {
                let mut served = BTreeMap::from([("a", 0), ("b", 0), ("c", 0)]);
                for index in 0..8 {
                    let client = &mut clients[(round * 8 + index) % 16];
                    let (status, name) = ask(client, "/");
                    assert_eq!(status, 200);
                    *served.get_mut(name.as_str()).unwrap() += 1;
                    total += 1;
                }
                let shares: Vec<i32> = served.into_values().collect();
                assert_eq!(shares, expected, "{workers} workers, round {round}, {weights:?}");
            }
        }
        assert!(replicas.iter().all(|replica| replica.connections() > 0));
        eprintln!("{workers} workers: {total} requests in exact shares");
    }
}
