//! Many events in a short time, from a recorded engine: what each costs, and how long it takes to
//! have an effect, whatever the number of routes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::harness::engine::watchers;
use super::harness::measure::cpu_seconds;
use super::harness::program::Folder;
use super::harness::recorded_engine::RecordedEngine;
use super::harness::wait::pause;
use super::harness::{Client, Evenkeel, free_port, until};

/// Containers that there are all the time, in services of ten.
const CONTAINERS: usize = 500;
/// Containers that come and go, each with four events.
const TURNS: usize = 500;

/// What an event cost, of balancer and watcher together, and how long the slowest of some took
/// to have an effect: on who serves, and on which routes there are.
struct Cost {
    cpu_us: f64,
    events_a_second: f64,
    slowest: Duration,
    slowest_route: Duration,
}

fn measure(routes: usize) -> Cost {
    let folder = Folder::new();
    let engine = RecordedEngine::start(&folder.0);
    // Nobody asks for anything there.
    let address = "127.0.0.1:9".to_owned();
    for number in 0..CONTAINERS {
        engine.add(number, &format!("s{}", number / 10), &address);
    }
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut config = format!(
        "admin: {{ bind: ADMIN }}\n\
         providers: {{ docker: {{ socket: {}, statistics: off }} }}\n\
         services: {{ fixed: {{ endpoints: [ {address} ], health: off }} }}\n\
         listeners:\n  web:\n    bind: {listen}\n    routes:\n",
        engine.socket.display()
    );
    for number in 0..routes {
        config += &format!("    - {{ host: h{number}.example, service: fixed }}\n");
    }
    let program = Evenkeel::run(&config);
    let endpoints =
        |service: &str| program.service(service)["endpoints"].as_array().map_or(0, Vec::len);
    until("all services", || {
        let all = program.api("/v1/discovery")["discovery"][0]["endpoints"].clone();
        all == CONTAINERS && program.api("/v1/services")["services"].as_array().unwrap().len() == 51
    });

    let watchers = watchers(&engine.socket.display().to_string());
    let processes = [&[program.child.id()][..], &watchers].concat();
    assert_eq!(processes.len(), 2);
    let used = || -> f64 { processes.iter().map(|pid| cpu_seconds(*pid)).sum() };
    let (before, start) = (used(), Instant::now());
    for turn in 0..TURNS {
        let number = CONTAINERS + turn;
        engine.run(number, &format!("s{}", turn % 50), &address);
        if turn >= 10 {
            engine.remove(number - 10);
        }
        // Some 800 events a second.
        pause();
    }
    for turn in TURNS - 10..TURNS {
        engine.remove(CONTAINERS + turn);
    }
    let events_a_second = (TURNS * 4) as f64 / start.elapsed().as_secs_f64();
    until("the last one is gone", || {
        program.api("/v1/discovery")["discovery"][0]["endpoints"] == CONTAINERS
    });
    let cpu_us = (used() - before) / (TURNS * 4) as f64 * 1e6;

    let mut slowest = Duration::ZERO;
    for turn in 0..10 {
        let number = CONTAINERS + TURNS + turn;
        let start = Instant::now();
        engine.run(number, "s0", &address);
        until("it is there", || endpoints("s0") == 11);
        slowest = slowest.max(start.elapsed());
        engine.remove(number);
        until("it is gone", || endpoints("s0") == 10);
    }
    let mut slowest_route = Duration::ZERO;
    for turn in 0..5 {
        let number = CONTAINERS + TURNS + 10 + turn;
        let service = format!("new{turn}");
        let status = || {
            let host = format!("Host: {service}.example");
            let request = format!("GET / HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n");
            Client::exchange(listen, request).map_or(0, |response| response.status)
        };
        assert_eq!(status(), 404);
        let start = Instant::now();
        engine.run(number, &service, &address);
        // Nobody is at its address.
        until("its route is there", || matches!(status(), 502 | 503));
        slowest_route = slowest_route.max(start.elapsed());
        engine.remove(number);
        until("its route is gone", || status() == 404);
    }
    Cost { cpu_us, events_a_second, slowest, slowest_route }
}

#[test]
fn docker_events_cost_the_same_however_many_routes_there_are() {
    let costs = [10, 10_000].map(|routes| (routes, measure(routes)));
    for (routes, cost) in &costs {
        eprintln!(
            "among {routes} routes and {CONTAINERS} containers, at {:.0} events a second, an event \
             costs {:.0} us of processor time; who serves changes within {:.0?}, and routes within \
             {:.0?}",
            cost.events_a_second, cost.cpu_us, cost.slowest, cost.slowest_route
        );
    }
    let [(_, few), (_, many)] = costs;
    assert!(many.cpu_us < few.cpu_us * 1.5 + 200.0, "{} and {}", few.cpu_us, many.cpu_us);
    assert!(many.slowest < Duration::from_secs(1), "{:?}", many.slowest);
    assert!(many.slowest_route < Duration::from_secs(5), "{:?}", many.slowest_route);
}
