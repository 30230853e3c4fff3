//! A registry that several balancers share: through etcd itself, and through a fake of Consul.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::until_timed;
use crate::e2e::harness::consul_fake::ConsulFake;
use crate::e2e::harness::etcd::{Etcd, Relay};
use crate::e2e::harness::registrar::{
    Registrant, are_healthy, ask, balancing, list, local, states,
};
use crate::e2e::harness::{Evenkeel, LOAD_SECONDS, Wrk, until, within};

/// A balancer that is a registry, too, over a store.
struct Balancer {
    program: Evenkeel,
    registry: std::net::SocketAddr,
    bind: std::net::SocketAddr,
}

impl Balancer {
    fn start(store: &str) -> Balancer {
        let (registry, bind) = (local(), local());
        let program = Evenkeel::run(&format!(
            "registry: {{ bind: {registry}, data: off, store: {store} }}\n{}",
            balancing(bind)
        ));
        Balancer { program, registry, bind }
    }

    fn status(&self) -> Value {
        self.program.api("/v1/registry")["registry"].clone()
    }

    fn is_connected(&self) -> bool {
        self.status()["connected"] == true
    }

    fn wait_healthy(&self, ids: &[&str]) {
        until(&format!("{ids:?}; {}", self.program.log()), || are_healthy(&self.program, ids));
    }

    /// Nobody ever left.
    fn assert_nobody_left(&self) {
        let status = self.status();
        let left = (&status["expirations"], &status["deregistrations"]);
        assert_eq!(left, (&0.into(), &0.into()), "{status}: {}", self.program.log());
    }
}

fn etcd(at: std::net::SocketAddr) -> String {
    format!("{{ etcd: {{ endpoints: [ 'http://{at}' ], prefix: test/ }} }}")
}

const TTL: [&str; 2] = ["--ttl", "3s"];
const IDS: [&str; 3] = ["web-1", "web-2", "web-3"];

fn wait_longer_than(time: Duration) {
    let begun = Instant::now();
    within(time * 2, "that much time", || begun.elapsed() > time);
}

#[test]
fn balancers_share_what_is_registered_through_etcd() {
    let Some(mut server) = Etcd::start() else { return };
    let store = etcd(server.address);
    let [one, two] = [(); 2].map(|()| Balancer::start(&store));
    let mut first = Registrant::start(one.registry, "web-1", &TTL);
    let second = Registrant::start(two.registry, "web-2", &TTL);
    for balancer in [&one, &two] {
        balancer.wait_healthy(&["web-1", "web-2"]);
    }
    let load = Wrk::start(two.bind, "/", 4, LOAD_SECONDS);
    // Whoever deregisters somewhere is gone everywhere, at once.
    first.program.signal("TERM");
    until_timed("deregistered there, drained here", || {
        !states(&two.program).contains(&("web-1".into(), "healthy".into()))
    });
    assert_eq!(first.program.wait_exit(), Some(0));
    // Heartbeats may go to any of them.
    let heartbeat = "/v1/services/web/instances/web-2/heartbeat";
    assert_eq!(ask(one.registry, "POST", heartbeat, "").status, 200);
    // What changes here, changes there.
    let body = format!(
        r#"{{"port": {}, "address": "127.0.0.1", "weight": 9, "ttl_ms": 3000}}"#,
        second.port
    );
    assert_eq!(ask(one.registry, "PUT", "/v1/services/web/instances/web-2", &body).status, 200);
    until("its weight follows", || two.program.endpoint("web", "web-2")["weight"] == 9);

    // etcd is killed and comes back with what it had.
    server.restart();
    until("both are connected again", || one.is_connected() && two.is_connected());
    let third = Registrant::start(one.registry, "web-3", &TTL);
    for balancer in [&one, &two] {
        balancer.wait_healthy(&["web-2", "web-3"]);
    }
    // Its machine dies: etcd's lease ends, then its TTL.
    third.die();
    for balancer in [&one, &two] {
        until_timed("it has left", || list(balancer.registry, "web").len() == 1);
    }
    load.stop().assert_perfect("two balancers over etcd");
}

/// What is asked for: while it is stopped, the last known good keeps serving.
fn etcd_stops(time: Duration) {
    let Some(server) = Etcd::start() else { return };
    let store = etcd(server.address);
    let [one, two] = [(); 2].map(|()| Balancer::start(&store));
    let registrants = IDS.map(|id| Registrant::start(one.registry, id, &TTL));
    one.wait_healthy(&IDS);
    two.wait_healthy(&IDS);
    let loads = [&one, &two].map(|balancer| Wrk::start(balancer.bind, "/", 4, LOAD_SECONDS));

    server.signal("STOP");
    until_timed("the loss is told", || !one.is_connected() && !two.is_connected());
    let listed = ask(one.registry, "GET", "/v1/services/web/instances", "").text();
    assert!(listed.contains("\"stale\":"), "{listed}");
    let reply = ask(one.registry, "PUT", "/v1/services/web/instances/new", r#"{"port":1}"#);
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!(reply.header("retry-after").is_some());
    wait_longer_than(time);
    // Long after every lease has ended.
    server.signal("CONT");
    until_timed("both are connected again", || one.is_connected() && two.is_connected());
    // Leases that ended are given anew to those who live: the same three, for longer than a TTL.
    wait_longer_than(Duration::from_secs(7));
    for balancer in [&one, &two] {
        balancer.wait_healthy(&IDS);
        balancer.assert_nobody_left();
    }
    for load in loads {
        let load = load.stop();
        load.assert_perfect("etcd stopped");
        eprintln!("etcd stopped for {time:?}: {load:?}");
    }
    drop(registrants);
}

#[test]
fn etcd_stops_for_some_ttls() {
    etcd_stops(Duration::from_secs(8));
}

#[cfg(feature = "soak")]
#[test]
fn etcd_stops_for_a_minute() {
    etcd_stops(Duration::from_secs(60));
}

/// One of two is cut off from etcd; meanwhile instances come and go, and the history is compacted.
#[test]
fn a_balancer_that_is_cut_off_keeps_what_it_knows_and_catches_up() {
    let Some(server) = Etcd::start() else { return };
    let relay = Relay::to(server.address);
    let (near, far) =
        (Balancer::start(&etcd(server.address)), Balancer::start(&etcd(relay.address)));
    // Who is cut off goes on sending to it: it stops all the same once its time is over.
    let drain = [&TTL[..], &["--drain", "2s"]].concat();
    let mut first = Registrant::start(near.registry, "web-1", &drain);
    let _second = Registrant::start(near.registry, "web-2", &TTL);
    far.wait_healthy(&["web-1", "web-2"]);
    let load = Wrk::start(far.bind, "/", 4, LOAD_SECONDS);
    relay.cut();
    until_timed("the partition is told", || !far.is_connected());
    let _third = Registrant::start(near.registry, "web-3", &TTL);
    near.wait_healthy(&["web-1", "web-2", "web-3"]);
    first.program.signal("TERM");
    assert_eq!(first.program.wait_exit(), Some(0));
    near.wait_healthy(&["web-2", "web-3"]);
    let known: Vec<String> = states(&far.program).into_iter().map(|(id, _)| id).collect();
    assert_eq!(known, ["web-1", "web-2"], "what was known last");
    let all = server.ask("/v3/kv/range", &json!({ "key": "AA==", "range_end": "AA==" }));
    let revision = all["header"]["revision"].as_str().unwrap();
    server.ask("/v3/kv/compaction", &json!({ "revision": revision, "physical": true }));
    relay.heal();
    until_timed("it catches up", || far.is_connected());
    far.wait_healthy(&["web-2", "web-3"]);
    load.stop().assert_perfect("a partition");

    // What etcd says to a watch whose beginning was compacted, as our reader expects it.
    let watch =
        json!({ "create_request": { "key": "AA==", "range_end": "AA==", "start_revision": "1" } });
    let body = watch.to_string();
    let mut stream = crate::e2e::harness::Client::connect(server.address);
    let length = body.len();
    stream
        .send(format!(
            "POST /v3/watch HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .unwrap();
    let mut said = stream.head().unwrap().text();
    until("the watch is cancelled", || {
        said += &stream.line().unwrap();
        said.contains("\"canceled\":true") && said.contains("\"compact_revision\":")
    });
}

/// It leaves through a balancer that is cut off, and comes back through another, before the store
/// hears of the first: that word comes too late to end what came after it.
fn one_comes_back_before_it_left(near: &str, far: &str, relay: &Relay) {
    let (near, far) = (Balancer::start(near), Balancer::start(far));
    let at = "/v1/services/web/instances/web-9";
    let body = |weight: u8| {
        format!(r#"{{"port":9,"address":"127.0.0.1","weight":{weight},"ttl_ms":60000}}"#)
    };
    let weight = |balancer: &Balancer| {
        list(balancer.registry, "web").first().map(|listed| listed["weight"].clone())
    };
    assert!(matches!(ask(near.registry, "PUT", at, &body(1)).status, 200 | 201));
    until("both know it", || weight(&far) == Some(1.into()));
    relay.cut();
    // What is asked of the store now is held up on its way, and given up, and asked again.
    assert_eq!(ask(far.registry, "DELETE", at, "").status, 200);
    assert_eq!(weight(&far), None);
    assert_eq!(ask(near.registry, "PUT", at, &body(2)).status, 200);
    until_timed("the partition is told", || !far.is_connected());
    relay.heal();
    until_timed("it is known there again", || weight(&far) == Some(2.into()));
    // A sweep of those that are still to be told of, and an answer that it leads to, have passed.
    wait_longer_than(Duration::from_secs(3));
    for balancer in [&near, &far] {
        assert_eq!(weight(balancer), Some(2.into()), "{}", balancer.program.log());
        let heartbeat = format!("{at}/heartbeat");
        assert_eq!(ask(balancer.registry, "POST", &heartbeat, "").status, 200);
    }
    near.assert_nobody_left();
    // Who leaves through the one that came late leaves everywhere.
    assert_eq!(ask(far.registry, "DELETE", at, "").status, 200);
    until_timed("it has left", || weight(&near).is_none());
}

#[test]
fn a_late_word_that_one_left_does_not_end_who_came_back_in_etcd() {
    let Some(server) = Etcd::start() else { return };
    let relay = Relay::to(server.address);
    one_comes_back_before_it_left(&etcd(server.address), &etcd(relay.address), &relay);
}

#[test]
fn a_late_word_that_one_left_does_not_end_who_came_back_in_consul() {
    let consul = ConsulFake::start();
    let relay = Relay::to(consul.replica.address);
    let store = |at| format!("{{ consul: {{ url: 'http://{at}' }} }}");
    one_comes_back_before_it_left(&store(consul.replica.address), &store(relay.address), &relay);
}

#[test]
fn a_registry_begins_while_etcd_is_away() {
    let Some(server) = Etcd::start() else { return };
    let store = etcd(server.address);
    let one = Balancer::start(&store);
    let _registrant = Registrant::start(one.registry, "web-1", &TTL);
    one.wait_healthy(&["web-1"]);
    server.signal("STOP");
    let (registry, bind) = (local(), local());
    let late = Evenkeel::spawn(&format!(
        "registry: {{ bind: {registry}, data: off, store: {store} }}\n{}",
        balancing(bind)
    ));
    until("it says why it is empty", || {
        late.log().contains("etcd is lost") || late.log().contains("its store is away")
    });
    server.signal("CONT");
    until("it learns who serves", || are_healthy(&late, &["web-1"]));
}

#[test]
fn balancers_share_what_is_registered_through_consul() {
    let consul = ConsulFake::start();
    let store = format!("{{ consul: {{ url: 'http://{}' }} }}", consul.replica.address);
    let [one, two] = [(); 2].map(|()| Balancer::start(&store));
    let mut first = Registrant::start(one.registry, "web-1", &TTL);
    let second = Registrant::start(two.registry, "web-2", &TTL);
    for balancer in [&one, &two] {
        balancer.wait_healthy(&["web-1", "web-2"]);
    }
    assert_eq!(consul.keys(), ["evenkeel/registry/web/web-1", "evenkeel/registry/web/web-2"]);
    let load = Wrk::start(two.bind, "/", 4, LOAD_SECONDS);
    first.program.signal("TERM");
    until_timed("deregistered there, drained here", || {
        !states(&two.program).contains(&("web-1".into(), "healthy".into()))
    });
    assert_eq!(first.program.wait_exit(), Some(0));
    two.wait_healthy(&["web-2"]);

    // All sessions end although the instance lives, and the index goes backwards.
    consul.end_sessions();
    until("it has a session again", || consul.keys().iter().any(|key| key.ends_with("/web-2")));
    consul.set_back();
    let third = Registrant::start(one.registry, "web-3", &TTL);
    for balancer in [&one, &two] {
        balancer.wait_healthy(&["web-2", "web-3"]);
    }
    // It hangs for longer than a TTL.
    consul.hang(true);
    until_timed("the loss is told", || !one.is_connected() && !two.is_connected());
    wait_longer_than(Duration::from_secs(4));
    consul.hang(false);
    until_timed("both are connected again", || one.is_connected() && two.is_connected());
    for balancer in [&one, &two] {
        balancer.wait_healthy(&["web-2", "web-3"]);
        let status = balancer.status();
        assert_eq!(status["expirations"], 0, "{status}: {}", balancer.program.log());
    }
    third.die();
    for balancer in [&one, &two] {
        until_timed("it has left", || list(balancer.registry, "web").len() == 1);
    }
    load.stop().assert_perfect("two balancers over Consul");
    drop(second);
}
