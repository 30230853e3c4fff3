//! What a pick and its report cost, in nanoseconds, per policy and number of endpoints, with one
//! thread and with two; at last the same within limits. Run it with
//! `cargo run --release -p service --example pick_time`.
#![allow(clippy::disallowed_methods, reason = "it measures time, with threads")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time;

use model::spec::{EndpointSource, HealthKind, ServiceSpec};
use model::vocabulary::OptionValue;
use model::{Endpoint, Instant, Outcome, Report, Rng, Weight};
use service::{NoEvents, Request, Service};

const PICKS: u32 = 2_000_000;

fn main() {
    let full = vec![("full".to_owned(), OptionValue::Bool(true))];
    let policies = [
        ("round_robin", Vec::new()),
        ("random", Vec::new()),
        ("least_request", Vec::new()),
        ("least_request", full),
    ];
    println!(
        "{:>14} {:>5} {:>9} {:>9} {:>9} {:>9}",
        "policy", "full", "endpoints", "new ms", "1 thr ns", "2 thr ns"
    );
    for (policy, options) in policies {
        for count in [3u32, 10, 1000, 10_000] {
            let mut spec = ServiceSpec::new("web".into());
            let mut rng = Rng::from_seed(1);
            let endpoints = (0..count).map(|number| {
                let address = SocketAddr::from((number.to_be_bytes(), 80));
                let weight = Weight(1 + rng.below(65_535) as u16);
                Endpoint { weight, ..Endpoint::at(address) }
            });
            spec.source = EndpointSource::Static(endpoints.collect());
            spec.policy.name = policy.into();
            spec.policy.options = options.clone();
            spec.health.kind = HealthKind::Off;
            let start = time::Instant::now();
            let service = Service::new(&spec, Arc::new(NoEvents), Instant::ZERO, 1);
            let built = start.elapsed().as_secs_f64() * 1e3;
            let picks = if options.is_empty() { PICKS } else { PICKS / count };
            let one = measure(&service, 1, picks);
            let two = measure(&service, 2, picks);
            let full = !options.is_empty();
            println!("{policy:>14} {full:>5} {count:>9} {built:>9.2} {one:>9.1} {two:>9.1}");
        }
    }
}

/// Nanoseconds of wall-clock time per pick of one thread, while so many do the same.
fn measure(service: &Service, threads: u64, picks: u32) -> f64 {
    let run = |seed: u64| {
        let mut rng = Rng::from_seed(seed);
        let start = time::Instant::now();
        for round in 0..picks {
            let now = Instant::from_nanos(u64::from(round) * 1000);
            let request = Request { now, key: None, exclude: &[] };
            if let Some(pick) = service.pick(&request, &mut rng) {
                pick.report(&Report::new(Instant::ZERO, Outcome::Success));
            }
        }
        start.elapsed().as_nanos() as f64 / f64::from(picks)
    };
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|seed| scope.spawn(move || run(seed))).collect();
        let total: f64 = handles.into_iter().map(|handle| handle.join().unwrap_or(0.0)).sum();
        total / threads as f64
    })
}
