//! What "Load is not what you should balance: Introducing Prequal" (Wydrowski et al., NSDI 2024)
//! claims: where endpoints differ and something else takes parts of their machines, its tail is a
//! fraction of that of what balances requests. As examples/simulate-prequal, at three loads.

use std::time::Duration;

use model::spec::PolicySpec;
use model::spec::scenario::{Antagonists, ClientGroup, EndpointGroup, Latency, Scenario, Traffic};
use model::vocabulary::OptionValue;
use sim::Report;

const MS: Duration = Duration::from_millis(1);

const SEEDS: [u64; 3] = [1, 2, 3];

/// Twenty balancers over fifty endpoints, half of them old, all beside antagonists that take up to
/// three quarters of the machine for half of the time. `load` is the share of what they can serve
/// on average; without antagonists it would be 73 % of that.
fn scenario(load: f64) -> Scenario {
    let mut scenario = Scenario::new(MS * 10_000);
    scenario.balancers = 20;
    let antagonists = Antagonists { every: 2000 * MS, share: 0.5, slower: 4.0 };
    // The mean of 1/x for x between 1 and 4 is ln(4) / 3.
    let left = 0.5 + 0.5 * 4f64.ln() / 3.0;
    let mut capacity = 0.0;
    for (name, count, mean) in [("new", 25, 20), ("old", 25, 30)] {
        let mut group = EndpointGroup::new(name, count, Latency::Exponential { mean: MS * mean });
        group.threads = Some(4);
        group.antagonists = Some(antagonists);
        capacity += f64::from(count) * 4.0 * 1000.0 / f64::from(mean) * left;
        scenario.endpoints.push(group);
    }
    scenario.clients.push(ClientGroup::new("clients", Traffic::Open { rate: capacity * load }));
    scenario.clients[0].timeout = Some(MS * 5000);
    scenario.service.retry.attempts = 0;
    scenario
}

/// p99 and p99.9.
fn tail(scenario: &Scenario, label: &str, seed: u64) -> (f64, f64) {
    let (name, options) = match label.split_once(' ') {
        Some((name, path)) => (name, vec![("probe".into(), OptionValue::Text(path.into()))]),
        None => (label, Vec::new()),
    };
    let policy = PolicySpec { name: name.into(), options };
    let report: Report = sim::run(scenario, &policy, seed, &mut |_| ());
    assert_eq!(report.violations, []);
    let Report { p50_ms, p99_ms, p999_ms, .. } = report;
    let success = report.success();
    eprintln!("  {label:13} p50 {p50_ms:6.1} p99 {p99_ms:6.1} p99.9 {p999_ms:6.1}, {success:.4}");
    (p99_ms, p999_ms)
}

#[test]
fn the_tail_beside_antagonists() {
    for load in [0.75, 0.85, 0.95] {
        let scenario = scenario(load);
        for seed in SEEDS {
            eprintln!("load {load}, seed {seed}, in milliseconds:");
            let tail = |label| tail(&scenario, label, seed);
            let (round_robin, least_request) = (tail("round_robin"), tail("least_request"));
            let (peak_ewma, prequal) = (tail("peak_ewma"), tail("prequal /load"));
            let estimated = tail("prequal");
            for policy in [prequal, estimated] {
                assert!(policy.0 <= round_robin.0 / 2.0 && policy.1 <= round_robin.1 / 2.0);
            }
            for other in [least_request, peak_ewma, estimated] {
                assert!(prequal.0 < other.0 && prequal.1 < other.1);
            }
            assert!(estimated.0 < least_request.0 && estimated.1 < least_request.1);
        }
    }
}

/// Where each balancer has a request once in two seconds, longer than answers are good for, and
/// endpoints serve one at a time: who asks in between knows who is idle, and who does not draws.
#[test]
fn a_pool_outlives_quiet_times() {
    let mut scenario = Scenario::new(MS * 300_000);
    scenario.balancers = 10;
    let mut group = EndpointGroup::new("web", 20, Latency::Exponential { mean: MS * 3000 });
    group.threads = Some(1);
    scenario.endpoints.push(group);
    scenario.clients.push(ClientGroup::new("clients", Traffic::Open { rate: 4.0 }));
    for seed in SEEDS {
        let took = [MS * 400, MS * 86_400_000].map(|idle| {
            let probe = ("probe".into(), OptionValue::Text("/load".into()));
            let idle = ("probe_idle".into(), OptionValue::Duration(idle));
            let policy = PolicySpec { name: "prequal".into(), options: vec![probe, idle] };
            let report: Report = sim::run(&scenario, &policy, seed, &mut |_| ());
            assert_eq!(report.violations, []);
            eprintln!("  seed {seed}: p50 {:.0}, p99 {:.0}", report.p50_ms, report.p99_ms);
            report.p50_ms
        });
        assert!(took[0] < took[1] * 0.9, "{took:?}");
    }
}
