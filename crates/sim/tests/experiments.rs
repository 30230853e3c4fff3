//! Experiments whose outcome is known: by arithmetic, or because somebody published it.

use std::path::PathBuf;
use std::time::Duration;

use model::spec::scenario::{
    Action, Arrival, CacheSpec, ClientGroup, EndpointGroup, Fault, Latency, Recording, Scenario,
    ScenarioEvent, Traffic,
};
use model::spec::{
    ConcurrencySpec, HealthKind, HedgeAfter, HedgeSpec, OutlierSpec, PolicySpec, QueuePer,
    QueueSpec, SlowStartSpec,
};
use sim::Report;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn scenario(duration: Duration, rate: f64) -> Scenario {
    let mut scenario = Scenario::new(duration);
    scenario.clients.push(ClientGroup::new("clients", Traffic::Open { rate }));
    scenario
}

fn group(name: &str, count: u32, weight: u16) -> EndpointGroup {
    let latency = Latency::LogNormal { median: 20 * MS, sigma: 0.3 };
    EndpointGroup { weight, ..EndpointGroup::new(name, count, latency) }
}

fn fault(at: Duration, lasts: Duration, group: usize, count: u32, fault: Fault) -> ScenarioEvent {
    let action = Action::Fault { group, count: Some(count), fault };
    ScenarioEvent { at, lasts: Some(lasts), action }
}

fn run(scenario: &Scenario, policy: &str) -> Report {
    let policy = PolicySpec { name: policy.into(), options: Vec::new() };
    let report = sim::run(scenario, &policy, 1, &mut |_| ());
    assert_eq!(report.violations, []);
    report
}

fn policies() -> impl Iterator<Item = &'static str> {
    balance::infos().iter().map(|info| info.name)
}

#[test]
fn shares_follow_weights() {
    let mut scenario = scenario(20 * S, 500.0);
    for (name, weight) in [("a", 1), ("b", 2), ("c", 3)] {
        scenario.endpoints.push(group(name, 2, weight));
    }
    scenario.clients[0].keys = 100_000;
    for policy in policies().filter(|policy| *policy != "first_available") {
        let report = run(&scenario, policy);
        let tolerance = match policy {
            "round_robin" | "lars" => 0.002,
            // 160 points for each endpoint: see its documentation.
            "ring_hash" => 0.4,
            _ => 0.15,
        };
        for endpoint in &report.endpoints {
            let fair = report.requests as f64 * f64::from(endpoint.weight) / 12.0;
            let off = endpoint.picks as f64 / fair - 1.0;
            assert!(off.abs() < tolerance, "{policy}: {} is off by {off:.3}", endpoint.id);
        }
    }
}

/// "Beyond Round Robin: Load Balancing for Latency" (Linkerd, 2016): 95 % for round robin, 99 %
/// for least loaded, 99.9 % for peak EWMA. As examples/simulate-slow-replica.
#[test]
fn a_slow_replica_costs_round_robin_its_share_and_peak_ewma_next_to_nothing() {
    let mut scenario = scenario(60 * S, 200.0);
    scenario.clients[0].timeout = Some(S);
    scenario.service.retry.attempts = 0;
    scenario.endpoints = vec![group("steady", 9, 1), group("slow", 1, 1)];
    let slow = Fault::Latency(Latency::Constant(2 * S));
    scenario.events.push(fault(15 * S, 30 * S, 1, 1, slow));
    for policy in policies() {
        let (low, high) = match policy {
            // Clients that give up are neither a success nor an error to lars.
            "round_robin" | "random" | "lars" => (0.945, 0.955),
            // As least_request: nobody says anything of resources or zones.
            "least_request" | "least_connections" | "resource" | "zone_aware" => (0.99, 0.998),
            // A share in proportion to speed is not nothing.
            "response_time" => (0.997, 0.9995),
            "peak_ewma" | "prequal" => (0.999, 1.0),
            _ => continue,
        };
        let success = run(&scenario, policy).success();
        assert!((low..=high).contains(&success), "{policy}: {success}");
    }
}

/// At default options, and without a check that would see anything.
#[test]
fn one_that_was_slow_or_failed_has_its_share_again_within_fifteen_seconds() {
    for wrong in [Fault::Latency(Latency::Constant(2 * S)), Fault::Slower(10.0), Fault::Errors(1.0)]
    {
        let mut scenario = scenario(90 * S, 200.0);
        scenario.clients[0].timeout = Some(S);
        scenario.service.retry.attempts = 0;
        scenario.service.health.kind = model::spec::HealthKind::Off;
        scenario.endpoints = vec![group("steady", 9, 1), group("well-again", 1, 1)];
        scenario.events.push(fault(15 * S, 30 * S, 1, 1, wrong));
        for policy in policies().filter(|policy| *policy != "first_available") {
            let report = run(&scenario, policy);
            let late = report.samples.iter().filter(|sample| sample.at_ms > 61_000);
            let (mut picks, mut all) = (0.0, 0.0);
            for sample in late {
                picks += sample.shares[1] * sample.requests as f64;
                all += sample.requests as f64;
            }
            let share = picks / all;
            assert!((0.075..0.125).contains(&share), "{policy} after {wrong:?}: {share:.3}");
        }
    }
}

/// One of two fails at once for half the time: what it gets is one in eleven, and what comes
/// before it is found out.
#[test]
fn lars_leaves_what_fails_to_its_probes() {
    let mut scenario = scenario(60 * S, 200.0);
    scenario.service.retry.attempts = 0;
    scenario.service.health.kind = model::spec::HealthKind::Off;
    scenario.endpoints = vec![group("steady", 1, 1), group("failing", 1, 1)];
    scenario.events.push(fault(15 * S, 30 * S, 1, 1, Fault::Errors(1.0)));
    for (policy, expected) in [("round_robin", 0.75), ("lars", 1.0 - 0.5 / 11.0)] {
        let success = run(&scenario, policy).success();
        assert!((success - expected).abs() < 0.006, "{policy}: {success}, not {expected}");
    }
}

#[test]
fn a_crash_a_drain_and_a_roll_out_cost_no_request() {
    let mut scenario = scenario(20 * S, 200.0);
    scenario.service.health.interval = 500 * MS;
    scenario.endpoints.push(group("web", 5, 1));
    scenario.events.push(fault(2 * S, 5 * S, 0, 1, Fault::Crash));
    scenario.events.push(fault(8 * S, S, 0, 2, Fault::Drain));
    let action = Action::Replace { group: 0, pace: S };
    scenario.events.push(ScenarioEvent { at: 10 * S, lasts: None, action });
    for policy in policies() {
        let report = run(&scenario, policy);
        assert_eq!(report.errors.total(), 0, "{policy}: {:?}", report.errors);
    }
}

#[test]
fn a_lying_check_is_found_out_by_traffic() {
    let mut scenario = scenario(20 * S, 200.0);
    scenario.service.retry.attempts = 0;
    scenario.endpoints.push(group("web", 5, 1));
    let resets = fault(2 * S, 10 * S, 0, 1, Fault::Resets(1.0));
    scenario.events.push(resets);
    let checked = run(&scenario, "round_robin");
    scenario.service.health.kind = model::spec::HealthKind::Off;
    let unchecked = run(&scenario, "round_robin");
    // A fifth of 200 a second for 10 s; with checks that see nothing, suspicion takes it out for
    // some seconds each time.
    assert!((350..450).contains(&unchecked.errors.reset), "{:?}", unchecked.errors);
    assert!(checked.errors.reset < 40, "{:?}", checked.errors);
}

#[test]
fn a_full_endpoint_queues_and_then_resets() {
    // Two threads of 100 ms each serve 20 a second, and 40 come.
    let mut scenario = scenario(30 * S, 40.0);
    scenario.service.retry.attempts = 0;
    scenario.service.health.kind = model::spec::HealthKind::Off;
    let mut web = EndpointGroup::new("web", 1, Latency::Constant(100 * MS));
    web.threads = Some(2);
    web.queue_max = 10;
    scenario.endpoints.push(web);
    let report = run(&scenario, "round_robin");
    assert!((0.45..0.55).contains(&report.success()), "{report:?}");
    // Ten wait before it: five rounds of 100 ms, and its own.
    assert!((550.0..=600.0).contains(&report.p99_ms), "{}", report.p99_ms);
}

/// Five endpoints, one of which answers 30 % with 500, and fast, for half a minute. A check by
/// TCP sees nothing. A share of 6 % of all requests fails; an ejection ends that, but for what it
/// takes to notice, once for each return.
#[test]
fn a_gray_failure_is_ejected_by_its_error_rate() {
    let mut scenario = scenario(60 * S, 200.0);
    scenario.service.retry.attempts = 0;
    scenario.endpoints.push(group("web", 5, 1));
    scenario.events.push(fault(15 * S, 30 * S, 0, 1, Fault::Errors(0.3)));
    let mut outlier = OutlierSpec { consecutive: None, ..OutlierSpec::default() };
    outlier.error_rate = Some(0.2);
    for policy in ["round_robin", "least_request"] {
        scenario.service.outlier = None;
        let without = run(&scenario, policy);
        scenario.service.outlier = Some(outlier.clone());
        let with = run(&scenario, policy);
        assert!((0.96..0.975).contains(&without.success()), "{policy}: {}", without.success());
        assert!(with.success() > 0.997, "{policy}: {}", with.success());
        assert!((2..=4).contains(&with.ejections), "{policy}: {}", with.ejections);
        println!("{policy}: {:.4} without, {:.4} with", without.success(), with.success());
    }
}

/// One of five takes ten times as long for half a minute, which no check sees.
#[test]
fn a_slow_replica_is_ejected_by_its_latency() {
    let mut scenario = scenario(60 * S, 200.0);
    scenario.service.retry.attempts = 0;
    scenario.endpoints.push(group("web", 5, 1));
    scenario.events.push(fault(15 * S, 30 * S, 0, 1, Fault::Slower(10.0)));
    let without = run(&scenario, "round_robin");
    scenario.service.outlier = Some(OutlierSpec::default());
    let with = run(&scenario, "round_robin");
    let calm = Scenario { events: Vec::new(), ..scenario.clone() };
    assert_eq!(run(&calm, "round_robin").ejections, 0, "chance alone is no reason");
    assert!((2..=4).contains(&with.ejections), "{}", with.ejections);
    assert!(without.p99_ms > 200.0 && with.p99_ms < 100.0, "{} {}", without.p99_ms, with.p99_ms);
    println!("p99: {} ms without, {} ms with", without.p99_ms, with.p99_ms);
}

/// Three busy endpoints get a fourth, which is five times as slow at first and warms up over 20 s.
/// It has the threads for its share once it is warm; a whole share at once fills its queue.
#[test]
fn a_cold_replica_is_not_drowned_when_it_starts_slowly() {
    let mut scenario = scenario(60 * S, 400.0);
    let mut web = EndpointGroup::new("web", 3, Latency::Exponential { mean: 20 * MS });
    web.threads = Some(6);
    web.warm_up = 20 * S;
    scenario.endpoints.push(web);
    let action = Action::Scale { group: 0, count: 4 };
    scenario.events.push(ScenarioEvent { at: 10 * S, lasts: None, action });
    let without = run(&scenario, "round_robin");
    scenario.service.slow_start = Some(SlowStartSpec::new(20 * S));
    let with = run(&scenario, "round_robin");
    println!("p99: {} ms without, {} ms with", without.p99_ms, with.p99_ms);
    assert!(without.p99_ms > 4.0 * with.p99_ms, "{} {}", without.p99_ms, with.p99_ms);
    let last = with.endpoints.last().map_or(0, |endpoint| endpoint.picks);
    assert!(last > with.requests / 8, "it got its share in the end: {last}");
}

/// "The Tail at Scale" (Dean and Barroso, 2013): the slow replica of above under round robin, for
/// which a tenth of the requests needs a hedge while it lasts.
#[test]
fn hedges_rescue_what_a_slow_replica_holds_up_as_far_as_their_budget_goes() {
    let mut scenario = scenario(60 * S, 200.0);
    scenario.clients[0].timeout = Some(S);
    scenario.service.retry.attempts = 0;
    scenario.endpoints = vec![group("steady", 9, 1), group("slow", 1, 1)];
    let slow = Fault::Latency(Latency::Constant(2 * S));
    scenario.events.push(fault(15 * S, 30 * S, 1, 1, slow));
    for (budget, low, high) in [(0.0, 0.945, 0.955), (0.05, 0.97, 0.99), (0.2, 0.999, 1.0)] {
        let after = HedgeAfter::Quantile(0.95);
        scenario.service.hedge = Some(HedgeSpec { after, budget });
        let report = run(&scenario, "round_robin");
        let success = report.success();
        eprintln!(
            "budget {budget}: success {success:.4}, p99 {} ms, {} hedges, {} won, {} denied",
            report.p99_ms, report.hedges, report.hedges_won, report.hedges_denied
        );
        assert!((low..=high).contains(&success), "{budget}: {success}");
        assert!(report.hedges as f64 <= budget * report.requests as f64 * 1.05, "{report:?}");
    }
}

/// The other kind of tail: any endpoint is slow now and then, and no policy can know.
#[test]
fn hedges_cut_a_tail_that_is_chance() {
    let mut scenario = scenario(60 * S, 200.0);
    scenario.service.retry.attempts = 0;
    let latency = Latency::Bimodal { fast: 10 * MS, slow: S, share: 0.03 };
    scenario.endpoints = vec![EndpointGroup::new("web", 10, latency)];
    for policy in ["round_robin", "least_request"] {
        scenario.service.hedge = None;
        let without = run(&scenario, policy);
        scenario.service.hedge = Some(HedgeSpec::default());
        let with = run(&scenario, policy);
        eprintln!(
            "{policy}: p99 {} ms without, {} ms with; p99.9 {} and {}; {} hedges of {}",
            without.p99_ms, with.p99_ms, without.p999_ms, with.p999_ms, with.hedges, with.requests
        );
        assert!(without.p99_ms > 990.0, "{}", without.p99_ms);
        assert!(with.p99_ms < 40.0, "{}", with.p99_ms);
        assert!(with.hedges as f64 <= 0.05 * with.requests as f64 * 1.05);
    }
}

/// Each endpoint has room for a fifth of the keys: kept together, all find room somewhere.
#[test]
fn caches_are_what_hash_policies_are_for() {
    let mut scenario = scenario(60 * S, 500.0);
    scenario.clients[0].keys = 5000;
    let mut web = group("web", 10, 1);
    web.cache = Some(CacheSpec { keys: 1000, miss: 10.0 });
    scenario.endpoints.push(web);
    for policy in policies() {
        // Of 30,000 requests for 5,000 keys one in six is the first, if nothing is forgotten;
        // spread over all, an endpoint's 1,000 are a fifth of what it is asked for.
        let is_cold = match policy {
            "source_hash" | "maglev" | "ring_hash" | "rendezvous" => false,
            "round_robin" | "random" | "least_request" => true,
            _ => continue,
        };
        let p50_ms = run(&scenario, policy).p50_ms;
        assert_eq!(p50_ms > 100.0, is_cold, "{policy}: {p50_ms}");
    }
}

#[test]
fn a_recording_is_played_at_its_speed_and_with_its_durations() {
    let arrival = |n: u32| Arrival {
        at_us: u64::from(n) * 10_000,
        took_us: 1000 * (n % 100 + 1),
        user: n % 7,
    };
    let recording = |speed, durations| Recording {
        access_log: PathBuf::new(),
        service: None,
        speed,
        durations,
        arrivals: (0..1000).map(arrival).collect(),
    };
    let check = |speed, durations, requests: u64, p50_ms: f64| {
        let mut scenario = scenario(4 * S, 1.0);
        scenario.clients[0].traffic = Traffic::Recorded(recording(speed, durations));
        scenario.clients[0].keys = 7;
        scenario.endpoints.push(EndpointGroup::new("web", 3, Latency::Constant(20 * MS)));
        let report = run(&scenario, "rendezvous");
        assert_eq!((report.requests, report.succeeded), (requests, requests));
        assert!((report.p50_ms - p50_ms).abs() < 1.0, "{}", report.p50_ms);
        // Each client is a key, and load does not move it while little is in flight.
        assert_eq!(report.moved == Some(0.0), !durations, "{:?}", report.moved);
    };
    // Ten seconds, of which the scenario is long enough for four, or for all at three times.
    check(1.0, false, 400, 20.0);
    check(3.0, false, 1000, 20.0);
    check(3.0, true, 1000, 50.0);
}

/// Two endpoints that serve four at once, each in 50 ms on average: 160 a second, without a limit
/// and queue of ours; beyond that they queue by themselves, first come first served, and much.
fn four_at_once(rate: f64, count: u32) -> Scenario {
    let mut scenario = scenario(40 * S, rate);
    scenario.service.retry.attempts = 0;
    scenario.service.health.kind = HealthKind::Off;
    let mut web = EndpointGroup::new("web", count, Latency::Exponential { mean: 50 * MS });
    web.threads = Some(4);
    web.queue_max = 10_000;
    scenario.endpoints.push(web);
    scenario
}

fn limited(scenario: &mut Scenario, per: QueuePer, max: u32, timeout: Duration) {
    scenario.service.limits.concurrency = Some(ConcurrencySpec::Fixed(4));
    scenario.service.queue = Some(QueueSpec { per, max, timeout, priority: None });
}

/// Clients that give up after half a second leave what they sent behind in the endpoints' queues,
/// which then serve nobody: congestion collapse. A bounded queue in front of them, which is left by
/// who gives up, keeps them at work for those who still wait.
#[test]
fn in_an_overload_a_limit_and_a_queue_keep_the_goodput() {
    let mut scenario = four_at_once(240.0, 2);
    scenario.clients[0].timeout = Some(500 * MS);
    let without = run(&scenario, "least_request");
    limited(&mut scenario, QueuePer::Service, 40, 300 * MS);
    let with = run(&scenario, "least_request");
    // 160 of 240 a second can be served.
    assert!(without.success() < 0.2, "{}", without.success());
    assert!(with.success() > 0.62, "{} {:?}", with.success(), with.errors);
    assert!(with.queue_p99_ms <= 300.0, "{}", with.queue_p99_ms);
}

/// One queue for all against one for each, at 95 % of the load that can be borne: what
/// waits for one endpoint while another is idle waits for nothing (Kleinrock, "Queueing Systems",
/// volume 2; for dispatchers with bounded queues: Kogias and others, "R2P2", USENIX ATC 2019).
#[test]
fn one_queue_for_all_is_shorter_than_one_for_each() {
    let mut scenario = four_at_once(8.0 * 80.0 * 0.95, 8);
    for policy in ["random", "round_robin"] {
        // Without a limit each endpoint has a queue of its own inside it.
        scenario.service.limits.concurrency = None;
        scenario.service.queue = None;
        let none = run(&scenario, policy);
        limited(&mut scenario, QueuePer::Endpoint, 10_000, 10 * S);
        let each = run(&scenario, policy);
        limited(&mut scenario, QueuePer::Service, 10_000, 10 * S);
        let all = run(&scenario, policy);
        let p99 = [none.p99_ms, each.p99_ms, all.p99_ms];
        assert!(all.p99_ms < each.p99_ms.min(none.p99_ms) * 0.95, "{policy}: {p99:?}");
        assert_eq!([&each, &all].map(|report| report.errors.total()), [0, 0], "{policy}");
    }
}

/// An endpoint pool at ease; then everything takes five times as long, which is more than it can
/// bear: what is let in still gets its answer soon. Then it recovers.
#[test]
fn a_learnt_limit_keeps_latency_in_a_brown_out_and_recovers() {
    let mut scenario = scenario(80 * S, 400.0);
    scenario.service.retry.attempts = 0;
    scenario.service.health.kind = HealthKind::Off;
    let mut web = EndpointGroup::new("web", 4, Latency::LogNormal { median: 40 * MS, sigma: 0.2 });
    web.threads = Some(8);
    web.queue_max = 10_000;
    scenario.endpoints.push(web);
    scenario.events.push(ScenarioEvent {
        at: 30 * S,
        lasts: Some(20 * S),
        action: Action::Fault { group: 0, count: None, fault: Fault::Slower(5.0) },
    });
    let without = run(&scenario, "least_request");
    scenario.service.limits.concurrency = Some(ConcurrencySpec::LEARNT);
    let with = run(&scenario, "least_request");
    let worst = |report: &Report, from: u64, to: u64| {
        let samples = report.samples.iter().filter(|s| (from..to).contains(&(s.at_ms / 1000)));
        samples.map(|sample| sample.p99_ms).fold(0.0, f64::max)
    };
    let share = |report: &Report, from: u64, to: u64| {
        let samples = report.samples.iter().filter(|s| (from..to).contains(&(s.at_ms / 1000)));
        let (all, good) =
            samples.fold((0, 0), |(all, good), s| (all + s.requests, good + s.succeeded));
        good as f64 / all as f64
    };
    // 200 ms is what an answer takes now at best; without a limit seconds of work pile up.
    let (kept, lost) = (worst(&with, 36, 50), worst(&without, 36, 50));
    assert!(kept < 800.0 && lost > 5000.0, "{kept} and {lost}");
    // 160 of 400 a second can be served, and more than two thirds of those are.
    assert!(share(&with, 36, 50) > 0.27, "{}", share(&with, 36, 50));
    assert!(share(&with, 10, 29) > 0.999, "{}", share(&with, 10, 29));
    assert!(share(&with, 65, 80) > 0.999, "{}", share(&with, 65, 80));
    assert!(worst(&with, 65, 80) < 120.0, "{}", worst(&with, 65, 80));
}

/// Endpoints of two sizes, and nobody has told the balancer: it is the CPU that says which of two
/// with as much in flight has room.
#[test]
fn resource_hears_of_busy_threads() {
    let mut scenario = scenario(60 * S, 4.0 * 8.0 * 20.0 * 0.6);
    scenario.service.retry.attempts = 0;
    for (name, threads) in [("big", 16), ("small", 2)] {
        let mut group =
            EndpointGroup::new(name, 4, Latency::Exponential { mean: Duration::from_millis(50) });
        group.threads = Some(threads);
        scenario.endpoints.push(group);
    }
    let (hears, deaf) = (run(&scenario, "resource"), run(&scenario, "least_request"));
    let picks = |report: &Report, name: &str| -> u64 {
        let of = report.endpoints.iter().filter(|endpoint| endpoint.id.starts_with(name));
        of.map(|endpoint| endpoint.picks).sum()
    };
    let share = |report: &Report| picks(report, "small") as f64 / report.requests as f64;
    eprintln!("small: {} and {}", share(&hears), share(&deaf));
    eprintln!("p99: {} and {}", hears.p99_ms, deaf.p99_ms);
    assert!(share(&hears) < share(&deaf) * 0.9, "{} and {}", share(&hears), share(&deaf));
    assert!(hears.p99_ms < deaf.p99_ms, "{} and {}", hears.p99_ms, deaf.p99_ms);
}
