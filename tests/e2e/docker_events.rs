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

/// Changes of routes that are timed.
const ROUTES: usize = 5;

/// A recorded engine with containers, and a balancer with so many routes of its own.
struct World {
    engine: RecordedEngine,
    program: Evenkeel,
    listen: SocketAddr,
    /// The balancer and its watcher.
    processes: Vec<u32>,
    _folder: Folder,
}

/// Nobody serves there, and nobody is asked.
const ADDRESS: &str = "127.0.0.1:9";

impl World {
    fn start(routes: usize) -> World {
        let folder = Folder::new();
        let engine = RecordedEngine::start(&folder.0);
        for number in 0..CONTAINERS {
            engine.add(number, &format!("s{}", number / 10), ADDRESS);
        }
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut config = format!(
            "admin: {{ bind: ADMIN }}\n\
             providers: {{ docker: {{ socket: {}, statistics: off }} }}\n\
             services: {{ fixed: {{ endpoints: [ {ADDRESS} ], health: off }} }}\n\
             listeners:\n  web:\n    bind: {listen}\n    routes:\n",
            engine.socket.display()
        );
        for number in 0..routes {
            config += &format!("    - {{ host: h{number}.example, service: fixed }}\n");
        }
        let program = Evenkeel::run(&config);
        until("all services", || {
            let all = program.api("/v1/discovery")["discovery"][0]["endpoints"].clone();
            let services = program.api("/v1/services");
            all == CONTAINERS && services["services"].as_array().unwrap().len() == 51
        });
        let watchers = watchers(&engine.socket.display().to_string());
        let processes = [&[program.child.id()][..], &watchers].concat();
        assert_eq!(processes.len(), 2);
        World { engine, program, listen, processes, _folder: folder }
    }

    /// Seconds of processor time so far.
    fn used(&self) -> f64 {
        self.processes.iter().map(|pid| cpu_seconds(*pid)).sum()
    }

    /// Containers come and go all the time; events a second, and processor time for each.
    fn storm(&self) -> (f64, Duration) {
        let (before, start) = (self.used(), Instant::now());
        for turn in 0..TURNS {
            self.engine.run(CONTAINERS + turn, &format!("s{}", turn % 50), ADDRESS);
            if turn >= 10 {
                self.engine.remove(CONTAINERS + turn - 10);
            }
            // Some 750 events a second.
            pause();
        }
        for turn in TURNS - 10..TURNS {
            self.engine.remove(CONTAINERS + turn);
        }
        let events = (TURNS * 4) as f64;
        let a_second = events / start.elapsed().as_secs_f64();
        until("the last one is gone", || {
            self.program.api("/v1/discovery")["discovery"][0]["endpoints"] == CONTAINERS
        });
        (a_second, Duration::from_secs_f64((self.used() - before) / events))
    }

    /// The median and the longest of some times from an event to its effect on who serves.
    fn time_to_serve(&self) -> (Duration, Duration) {
        let endpoints = || self.program.service("s0")["endpoints"].as_array().map_or(0, Vec::len);
        let mut times = Vec::new();
        for turn in 0..10 {
            let number = CONTAINERS + TURNS + turn;
            let start = Instant::now();
            self.engine.run(number, "s0", ADDRESS);
            until("it is there", || endpoints() == 11);
            times.push(start.elapsed());
            self.engine.remove(number);
            until("it is gone", || endpoints() == 10);
        }
        times.sort();
        (times[times.len() / 2], times[times.len() - 1])
    }

    /// The same for services that come with a route and go with it, and the processor time of each
    /// such change.
    fn time_to_route(&self) -> (Duration, Duration) {
        let mut longest = Duration::ZERO;
        let before = self.used();
        for turn in 0..ROUTES {
            let number = CONTAINERS + TURNS + 10 + turn;
            let service = format!("new{turn}");
            let status = || {
                let host = format!("Host: {service}.example");
                let request = format!("GET / HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n");
                Client::exchange(self.listen, request).map_or(0, |response| response.status)
            };
            assert_eq!(status(), 404);
            let start = Instant::now();
            self.engine.run(number, &service, ADDRESS);
            until("its route is there", || matches!(status(), 502 | 503));
            longest = longest.max(start.elapsed());
            self.engine.remove(number);
            until("its route is gone", || status() == 404);
        }
        let each = (self.used() - before) / (ROUTES * 2) as f64;
        (longest, Duration::from_secs_f64(each))
    }
}

#[test]
fn docker_events_cost_the_same_however_many_routes_there_are() {
    let costs = [10, 10_000].map(|routes| {
        let world = World::start(routes);
        let ((a_second, each), (median, serve)) = (world.storm(), world.time_to_serve());
        let (route, change) = world.time_to_route();
        eprintln!(
            "{routes} routes, {CONTAINERS} containers, {a_second:.0} events a second: an event \
             costs {each:.0?} of processor time, who serves changes within {median:.0?}, at the \
             most {serve:.0?}; a change of routes costs {change:.1?} and is there within {route:.0?}"
        );
        (each, median, route, change)
    });
    let [few, many] = costs;
    assert!(many.0 < few.0.mul_f64(1.5) + Duration::from_micros(200), "{costs:?}");
    // The clocks of processes tick every 10 ms, over ten changes.
    assert!(many.3 < few.3.mul_f64(1.5) + Duration::from_millis(5), "{costs:?}");
    assert!(many.1 < Duration::from_secs(1), "{costs:?}");
    assert!(many.2 < Duration::from_secs(5), "{costs:?}");
}
