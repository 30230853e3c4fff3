//! What 10,000 instances that send a heartbeat every 5 s cost.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::e2e::harness::Client;
use crate::e2e::harness::measure::cpu_seconds;
use crate::e2e::harness::registrar::Registry;

/// Each has one connection, for its share of the instances.
const THREADS: usize = 20;
/// As most registries are used.
const INTERVAL: Duration = Duration::from_secs(5);

fn put(client: &mut Client, id: usize) {
    let body = format!(r#"{{"port": 5000, "address": "10.{}.{}.1"}}"#, id / 250, id % 250);
    let length = body.len();
    let request = format!(
        "PUT /v1/services/web-{}/instances/i-{id} HTTP/1.1\r\nHost: 127.0.0.1\r\n\
         Content-Length: {length}\r\n\r\n{body}",
        id % 100
    );
    client.send(request).unwrap();
    assert_eq!(client.response().unwrap().status, 201);
}

fn beat(client: &mut Client, id: usize) {
    let request = format!(
        "POST /v1/services/web-{}/instances/i-{id}/heartbeat HTTP/1.1\r\nHost: 127.0.0.1\r\n\
         Content-Length: 0\r\n\r\n",
        id % 100
    );
    client.send(request).unwrap();
    assert_eq!(client.response().unwrap().status, 200);
}

fn slow_down_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
}

/// Registers so many, has them send heartbeats at their pace for so long, and answers the share of
/// one core that this took, and the heartbeats.
fn cost(registry: &Registry, instances: usize, lasts: Duration) -> (f64, u64) {
    let pid = registry.program.child.id();
    let address: SocketAddr = registry.address;
    let beats = AtomicU64::new(0);
    let began = Instant::now();
    let mut share = 0.0;
    std::thread::scope(|scope| {
        let registering: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let mut client = Client::connect(address);
                    (thread..instances).step_by(THREADS).for_each(|id| put(&mut client, id));
                    client
                })
            })
            .collect();
        let clients: Vec<Client> =
            registering.into_iter().map(|thread| thread.join().unwrap()).collect();
        eprintln!("{instances} registered in {:?}", began.elapsed());
        let (begun, before) = (Instant::now(), cpu_seconds(pid));
        let beating: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(thread, mut client)| {
                let beats = &beats;
                scope.spawn(move || {
                    let own: Vec<usize> = (thread..instances).step_by(THREADS).collect();
                    for round in 0u32.. {
                        for (at, id) in own.iter().enumerate() {
                            let pace = INTERVAL.mul_f64(at as f64 / own.len() as f64);
                            let moment = begun + INTERVAL * round + pace;
                            if moment > begun + lasts {
                                return;
                            }
                            slow_down_until(moment);
                            beat(&mut client, *id);
                            beats.fetch_add(1, SeqCst);
                        }
                    }
                })
            })
            .collect();
        for thread in beating {
            thread.join().unwrap();
        }
        share = (cpu_seconds(pid) - before) / begun.elapsed().as_secs_f64();
    });
    (share, beats.load(SeqCst))
}

#[test]
fn five_hundred_instances_stay_by_their_heartbeats() {
    let registry = Registry::start("data: off");
    let (_, beats) = cost(&registry, 500, Duration::from_secs(2));
    assert!(beats >= 200, "{beats}");
    assert_eq!(registry.program.api("/v1/registry")["registry"]["instances"], 500);
}

#[cfg(feature = "soak")]
#[test]
fn ten_thousand_instances_leave_room_on_one_core() {
    use crate::e2e::harness::program::resident_kib;
    use crate::e2e::harness::until;

    let registry = Registry::start("");
    let before = resident_kib(registry.program.child.id());
    let (share, beats) = cost(&registry, 10_000, Duration::from_secs(30));
    let status = registry.program.api("/v1/registry")["registry"].clone();
    let grown = resident_kib(registry.program.child.id()) - before;
    eprintln!(
        "10,000 instances, {beats} heartbeats in 30 s: {:.1} % of one core, {grown} KiB; {status}",
        share * 100.0
    );
    assert_eq!(status["instances"], 10_000);
    assert_eq!(status["expirations"], 0);
    // With room to spare: half of a core would be too much.
    assert!(share < 0.5, "{share}");
    // Then they fall silent, all at once.
    until("self-preservation", || {
        registry.program.api("/v1/registry")["registry"]["preserving_ms"].is_u64()
    });
    assert_eq!(registry.program.api("/v1/registry")["registry"]["instances"], 10_000);
}
