//! `discover: { dns: ... }` against dnsmasq, and against servers that answer as the test says.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::{answer, discovered, ports};
use crate::e2e::harness::names::{Dnsmasq, NameServer, Reply};
use crate::e2e::harness::peer::skip;
use crate::e2e::harness::program::Folder;
use crate::e2e::harness::replica::ok;
use crate::e2e::harness::{Client, Evenkeel, LOAD_SECONDS, Replica, Wrk, free_port, until};

const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
const REFUSED: u8 = 5;

fn bind() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// Replicas on one port of 127.0.0.LAST each, which answer with LAST.
fn replicas(port: u16, last: &[u8]) -> Vec<Replica> {
    let replica = |last: &u8| {
        let (address, name) = (SocketAddr::from(([127, 0, 0, *last], port)), last.to_string());
        Replica::http_at(address, move |_| ok(&name))
    };
    last.iter().map(replica).collect()
}

/// The last parts of the addresses of those endpoints that are listed.
fn found(program: &Evenkeel) -> Vec<u8> {
    let service = program.service("web");
    let last = |endpoint: &serde_json::Value| {
        let address: SocketAddr = endpoint["address"].as_str()?.parse().ok()?;
        let std::net::IpAddr::V4(ip) = address.ip() else { return None };
        Some(ip.octets()[3])
    };
    let mut all: Vec<u8> =
        service["endpoints"].as_array().unwrap().iter().filter_map(last).collect();
    all.sort_unstable();
    all
}

fn reason(program: &Evenkeel) -> String {
    let discovery = program.api("/v1/discovery");
    discovery["discovery"][0]["reason"].as_str().unwrap_or_default().to_owned()
}

fn hosts(last: &[u8]) -> String {
    last.iter().map(|last| format!("127.0.0.{last} web.test\n")).collect()
}

#[test]
fn dnsmasq_changes_its_answers_under_load_and_dies() {
    let port = free_port();
    let _replicas = replicas(port, &[2, 3, 4]);
    let Some(mut dnsmasq) = Dnsmasq::start(&hosts(&[2]), &[]) else { return };
    let bind = bind();
    let dns = format!(
        "{{ dns: {{ name: web.test, port: {port}, servers: {}, timeout: 200ms }} }}",
        dnsmasq.address
    );
    let program = Evenkeel::run(&discovered(bind, &dns));
    until("one", || program.count("web", "healthy") == 1);
    assert_eq!(answer(bind), "2");

    let started = std::time::Instant::now();
    let asked_before = dnsmasq.count("query[A] web.test");
    let load = Wrk::start(bind, "/", 16, LOAD_SECONDS);
    dnsmasq.set_hosts(&hosts(&[2, 3]));
    until("two", || program.count("web", "healthy") == 2);
    dnsmasq.set_hosts(&hosts(&[3, 4]));
    until("two, one of them another", || found(&program) == [3, 4]);
    until("both are well", || program.count("web", "healthy") == 2);
    until("nothing is wrong", || reason(&program).is_empty());

    // Nobody leaves because nobody answers, and it says so.
    dnsmasq.kill();
    until("the silence is told", || reason(&program).contains("web.test: "));
    assert_eq!((found(&program), program.count("web", "healthy")), (vec![3, 4], 2));
    assert_eq!(Client::get(program.admin, "/readyz").status, 200);
    let metrics = Client::get(program.admin, "/metrics").text();
    let line = "evenkeel_discovery_connected{provider=\"dns\",service=\"web\"} 0";
    assert!(metrics.contains(line), "{metrics}");

    dnsmasq.set_hosts(&hosts(&[4]));
    dnsmasq.go_on();
    until("what changed meanwhile", || found(&program) == [4]);
    until("its return is told", || reason(&program).is_empty());
    // All at once others.
    dnsmasq.set_hosts(&hosts(&[2, 3]));
    until("others", || found(&program) == [2, 3]);
    until("others answer", || ["2", "3"].contains(&&*answer(bind)));

    let asked = dnsmasq.count("query[A] web.test") - asked_before;
    let seconds = started.elapsed().as_secs_f64();
    let load = load.stop();
    eprintln!("dnsmasq: {load:?}; asked {asked} times in {seconds:.1} s");
    assert!(load.is_perfect(), "{load:?}");
    // One answer holds a second; a look-up in the request path would make thousands.
    assert!(load.requests > 1000, "{load:?}");
    // While dnsmasq stands still it is asked more often.
    assert!((asked as f64) <= 2.0 * seconds + 20.0, "asked {asked} times in {seconds} s");

    // There is nobody, as dnsmasq says three times.
    dnsmasq.set_hosts("");
    until("nobody", || found(&program).is_empty());
    until("it is told", || {
        program.log().contains("NXDOMAIN; that is believed when it is said 3 times")
    });
}

#[test]
fn service_records_say_shares_and_who_is_next() {
    let port = free_port();
    let mut replicas: BTreeMap<u8, Replica> =
        [2, 3, 4].into_iter().zip(replicas(port, &[2, 3, 4])).collect();
    let record = |target: &str, priority: u16, weight: u16| {
        format!("--srv-host=_http._tcp.web.test,{target}.test,{port},{priority},{weight}")
    };
    let with = |weights: [u16; 2]| {
        [record("a", 10, weights[0]), record("b", 10, weights[1]), record("c", 20, 1)]
    };
    let targets = "127.0.0.2 a.test\n127.0.0.3 b.test\n127.0.0.4 c.test\n";
    let first = with([3, 1]);
    let options: Vec<&str> = first.iter().map(String::as_str).collect();
    let Some(mut dnsmasq) = Dnsmasq::start(targets, &options) else { return };
    let bind = bind();
    let dns = format!(
        "{{ dns: {{ name: _http._tcp.web.test, servers: {}, timeout: 200ms }} }}",
        dnsmasq.address
    );
    let config = discovered(bind, &dns)
        .replace("web: { discover", "web: { health: { tcp: {}, interval: 100ms }, discover");
    let program = Evenkeel::run(&config);
    until("three", || program.count("web", "healthy") == 3);
    let endpoint = |last: u8| program.endpoint("web", &format!("127.0.0.{last}:{port}"));
    for (last, priority, weight) in [(2, 0, 3), (3, 0, 1), (4, 1, 1)] {
        let endpoint = endpoint(last);
        assert_eq!(
            (&endpoint["priority"], &endpoint["weight"]),
            (&priority.into(), &weight.into())
        );
    }
    let shares = |requests: usize| {
        let mut client = Client::connect(bind);
        let mut shares: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..requests {
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
            *shares.entry(client.response().unwrap().text()).or_default() += 1;
        }
        // One of each worker's turns may be under way.
        shares
    };
    let all = shares(400);
    eprintln!("shares by weights 3 and 1: {all:?}");
    assert!((290..=310).contains(&all["2"]) && (90..=110).contains(&all["3"]), "{all:?}");
    assert_eq!(all.len(), 2, "priority 20 is not used yet: {all:?}");

    // Those of the first priority die; the next one takes over, and they come back.
    replicas.remove(&2);
    replicas.remove(&3);
    until("only the next priority", || program.count("web", "healthy") == 1);
    assert_eq!(shares(10), [("4".to_owned(), 10)].into());
    replicas.extend([2, 3].into_iter().zip(self::replicas(port, &[2, 3])));
    until("all are well", || program.count("web", "healthy") == 3);

    // Other weights hold in place.
    let second = with([1, 1]);
    dnsmasq.kill();
    dnsmasq.set_options(&second.iter().map(String::as_str).collect::<Vec<_>>());
    dnsmasq.go_on();
    until("equal weights", || endpoint(2)["weight"] == 1);
    let all = shares(400);
    eprintln!("shares by equal weights: {all:?}");
    assert!((190..=210).contains(&all["2"]) && (190..=210).contains(&all["3"]), "{all:?}");
    let (asked, targets) =
        (dnsmasq.count("query[SRV] _http._tcp.web.test"), dnsmasq.count("query[A] a.test"));
    assert!(asked > 0 && targets > 0);
}

#[test]
fn resolv_conf_says_whom_to_ask_and_where_to_look() {
    let port = free_port();
    let _replicas = replicas(port, &[2, 3]);
    // The servers of resolv.conf are asked at port 53 of other addresses of this machine.
    let server = |last: u8| SocketAddr::from(([127, 53, 0, last], 53));
    if std::net::UdpSocket::bind(server(1)).is_err() {
        return skip("discovery by resolv.conf", "port 53 is not allowed");
    }
    let first = Dnsmasq::start_at(server(1), "127.0.0.2 web.a.test\n", &[]);
    let Some(first) = first else { return };
    let bind = bind();
    let folder = Folder::new();
    let file = folder.join("resolv.conf");
    fs::write(&file, "nameserver 127.53.0.1\nsearch b.test a.test\n").unwrap();
    let dns = format!(
        "{{ dns: {{ name: web, port: {port}, timeout: 200ms, ttl_max: 20s, resolv_conf: {} }} }}",
        file.display()
    );
    let program = Evenkeel::run(&discovered(bind, &dns));
    until("found in the second domain", || found(&program) == [2]);
    assert!(first.count("query[A] web.b.test") > 0, "the first was tried");
    assert_eq!(first.count("query[A] web"), 0, "a name without dots is tried as it is last");
    let second = Dnsmasq::start_at(server(2), "127.0.0.3 web.c.test\n", &[]);
    assert!(second.is_some());
    fs::write(folder.join("next"), "nameserver 127.53.0.2\nsearch c.test\n").unwrap();
    fs::rename(folder.join("next"), &file).unwrap();
    until("found by the other server", || found(&program) == [3]);
    until("it answers", || answer(bind) == "3");
}

#[test]
fn whatever_servers_say_that_is_no_answer_changes_nothing() {
    let port = free_port();
    let _replicas = replicas(port, &[2, 3]);
    let reply = Arc::new(Mutex::new(Some(Reply::addresses(&[2, 3]))));
    let server = NameServer::says(&reply);
    // The first server is silent; the second is asked instead.
    let silent = NameServer::start(|_| None);
    let bind = bind();
    let dns = format!(
        "{{ dns: {{ name: web.test, port: {port}, servers: [ {}, {} ], timeout: 50ms, \
         ttl_min: 100ms }} }}",
        silent.address, server.address
    );
    let program = Evenkeel::run(&discovered(bind, &dns));
    until("two", || program.count("web", "healthy") == 2);
    let silent_asked = silent.over_udp.load(std::sync::atomic::Ordering::SeqCst);
    assert!(silent_asked > 0);
    let say = |next: Option<Reply>| *reply.lock().unwrap() = next;
    for (next, said) in [
        (Some(Reply::code(SERVFAIL)), "SERVFAIL"),
        (Some(Reply::code(REFUSED)), "REFUSED"),
        (None, "no answer within 50ms"),
        (Some(Reply { truncated: true, code: SERVFAIL, ..Reply::default() }), "SERVFAIL"),
    ] {
        say(next);
        until(said, || reason(&program).contains(said));
        assert_eq!((found(&program), program.count("web", "healthy")), (vec![2, 3], 2));
        say(Some(Reply::addresses(&[2, 3])));
        until("all is well", || reason(&program).is_empty());
    }
    // What somebody forged before the answer does not count.
    say(Some(Reply { forged: true, ..Reply::addresses(&[2]) }));
    until("one, not the forged one", || found(&program) == [2]);
    // What does not fit over UDP is fetched over TCP.
    let over_tcp = server.over_tcp.load(std::sync::atomic::Ordering::SeqCst);
    say(Some(Reply { truncated: true, ..Reply::addresses(&[2, 3]) }));
    until("two, by TCP", || found(&program) == [2, 3]);
    assert!(server.over_tcp.load(std::sync::atomic::Ordering::SeqCst) > over_tcp);
    say(Some(Reply::code(NXDOMAIN)));
    until("nobody", || found(&program).is_empty());
}

#[test]
fn a_part_at_a_time_does_not_flap() {
    let port = free_port();
    let last: Vec<u8> = (10..22).collect();
    let _replicas = replicas(port, &last);
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let server = NameServer::start(move |_| {
        let turn = turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let part: Vec<u8> = (0..4).map(|n| 10 + ((turn * 3 + n) % 12) as u8).collect();
        Some(Reply::addresses(&part))
    });
    let bind = bind();
    let dns = format!(
        "{{ dns: {{ name: web.test, port: {port}, servers: {}, ttl_min: 100ms, ttl_max: 100ms }} }}",
        server.address
    );
    let program = Evenkeel::run(&discovered(bind, &dns));
    until("all twelve, though each answer has four", || found(&program) == last);
    let asked = || server.over_udp.load(std::sync::atomic::Ordering::SeqCst);
    let load = Wrk::start(bind, "/", 8, LOAD_SECONDS);
    let enough = asked() + 30;
    until("thirty more answers, and nobody leaves", || {
        assert_eq!(found(&program), last);
        asked() >= enough
    });
    let load = load.stop();
    assert!(load.is_perfect(), "{load:?}");
    assert_eq!(ports(&program), vec![port; 12]);
    // One round of TTLs for each answer, however many requests there were.
    eprintln!("a part at a time: {load:?}, asked {} times in all", asked());
}
