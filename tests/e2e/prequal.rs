//! The policy `prequal` asks real replicas over HTTP, and so sees what no counter here does: the
//! load that somebody else puts on one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::harness::{Client, Evenkeel, free_port, until};

/// Clients that go past the balancer.
const HIDDEN: usize = 12;

#[test]
fn a_replica_with_hidden_load_is_avoided() {
    let port = free_port();
    let program = Evenkeel::run(&format!(
        "listeners: {{ web: {{ bind: 127.0.0.1:{port}, service: web }} }}\n\
         services:\n  web:\n    policy: {{ prequal: {{ probe: /load }} }}\n    \
         run: {{ command: [evenkeel, echo], replicas: 4 }}\n"
    ));
    until("four healthy replicas", || program.count("web", "healthy") == 4);
    let busy = program.endpoint("web", "web-2")["address"].as_str().unwrap().parse().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let hidden: Vec<_> = (0..HIDDEN)
        .map(|_| {
            let done = done.clone();
            std::thread::spawn(move || {
                let mut client = Client::connect(busy);
                while !done.load(SeqCst) {
                    client.send("GET /delay/50 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
                    assert_eq!(client.response().unwrap().status, 200);
                }
            })
        })
        .collect();
    let load = || {
        let answer = Client::get(busy, "/load");
        answer.header("x-keel-in-flight").unwrap().parse::<usize>().unwrap()
    };
    until("the hidden load", || load() > HIDDEN / 2);

    // What was known before the load came is soon too old.
    let mut client = Client::connect(([127, 0, 0, 1], port).into());
    let mut share = || {
        let mut count = 0;
        for _ in 0..200 {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            count += usize::from(client.response().unwrap().header("x-replica") == Some("web-2"));
        }
        count
    };
    until("at most 1 of 200 requests where the hidden load is", || share() <= 1);
    let in_flight = program.endpoint("web", "web-2")["in_flight"].as_u64().unwrap();
    assert!(in_flight <= 1, "our own counter knows nothing of it: {in_flight}");
    done.store(true, SeqCst);
    for client in hidden {
        client.join().unwrap();
    }
    until("its share, now that it is idle", || share() >= 20);
}
