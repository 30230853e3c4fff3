//! Small scenarios by chance: a few endpoints, some seconds of faults of all kinds, and a calm
//! end.

use std::time::Duration;

use model::Rng;
use model::spec::scenario::{
    Action, Antagonists, CacheSpec, ClientGroup, EndpointGroup, Fault, Latency, Scenario,
    ScenarioEvent, Traffic,
};
use model::spec::{
    AffinitySpec, ConcurrencySpec, HealthKind, HedgeAfter, HedgeSpec, OutlierSpec, PolicySpec,
    QueuePer, QueueSpec, RetryCondition, ServiceSpec, SessionTableSpec, SlowStartSpec, StatusSet,
};
use model::vocabulary::OptionValue;

const MS: Duration = Duration::from_millis(1);

/// Everything is over by then, in milliseconds.
const FAULTS_END: u64 = 4000;

pub(super) fn scenario(seed: u64) -> (Scenario, PolicySpec) {
    let mut dice = Dice(Rng::from_seed(seed ^ 0x5eed));
    let mut scenario = Scenario::new(9000 * MS);
    scenario.balancers = dice.within(1, 3) as u32;
    scenario.stale = MS * dice.within(0, 300) as u32;
    service(&mut scenario, &mut dice);
    rules(&mut scenario, &mut Dice(Rng::from_seed(seed ^ 0x0ed5)));
    for name in ["a", "b"].iter().take(dice.within(1, 2) as usize) {
        scenario.endpoints.push(endpoints(name, &mut dice));
    }
    clients(&mut scenario, &mut dice);
    for _ in 0..dice.within(0, 5) {
        let event = event(&scenario, &mut dice);
        scenario.events.push(event);
    }
    scenario.service.hedge = dice.one_in(2).then(|| hedge(&mut dice));
    scenario.service.affinity = affinity(&mut Dice(Rng::from_seed(seed ^ 0xaff1)));
    (scenario, policy(seed))
}

/// Mostly none, for sessions hide where a policy would send its requests.
fn affinity(dice: &mut Dice) -> Option<AffinitySpec> {
    let table = SessionTableSpec { max: dice.within(1, 2000) as usize, ..Default::default() };
    let name = "sid".to_owned();
    Some(match dice.within(0, 19) {
        0 => AffinitySpec::cookie("KEEL"),
        1 => AffinitySpec::Rewrite { name, secret: None, table },
        2 => AffinitySpec::Learn { name, table },
        3 => AffinitySpec::Header { name, table },
        4 => AffinitySpec::Source { ipv6_prefix: dice.within(60, 128) as u8, table },
        _ => return None,
    })
}

/// In turn, with options that suit small and short scenarios.
fn policy(seed: u64) -> PolicySpec {
    let policies = balance::infos();
    let (round, turn) = (seed / policies.len() as u64, seed as usize % policies.len());
    let mut name = policies[turn].name;
    // The same as `maglev` with its default table, whose making takes most of the time here.
    if name == "source_hash" && !round.is_multiple_of(20) {
        name = "maglev";
    }
    let options = match name {
        "maglev" => vec![("table_size", OptionValue::Integer(1021))],
        "ring_hash" => vec![("vnodes", OptionValue::Integer(20))],
        // What was seen of a fault is to be forgotten within the calm end.
        "peak_ewma" | "response_time" => vec![("decay", OptionValue::Duration(200 * MS))],
        "resource" => vec![("stale", OptionValue::Duration(200 * MS))],
        "lars" if round.is_multiple_of(2) => vec![("defaults", OptionValue::Text("code".into()))],
        // The groups are in zones of their names.
        "zone_aware" if round.is_multiple_of(2) => vec![("zone", OptionValue::Text("a".into()))],
        "prequal" => {
            let probe = if round.is_multiple_of(2) { "/load" } else { "off" };
            let decay = ("decay", OptionValue::Duration(200 * MS));
            vec![decay, ("probe", OptionValue::Text(probe.into()))]
        }
        _ => Vec::new(),
    };
    let options = options.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    PolicySpec { name: name.into(), options }
}

struct Dice(Rng);

impl Dice {
    /// Both included.
    fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.0.below(high - low + 1)
    }

    fn one_in(&mut self, of: u64) -> bool {
        self.0.below(of) == 0
    }
}

fn service(scenario: &mut Scenario, dice: &mut Dice) {
    let service = &mut scenario.service;
    service.health.interval = MS * dice.within(100, 400) as u32;
    service.health.timeout = MS * dice.within(50, 500) as u32;
    service.health.unhealthy_after = dice.within(1, 4) as u32;
    service.health.healthy_after = dice.within(1, 3) as u32;
    if dice.one_in(2) {
        service.health.kind = HealthKind::Http {
            path: "/".into(),
            method: "GET".into(),
            host: None,
            headers: Vec::new(),
            expect: StatusSet::default(),
            tls: false,
        };
    } else if dice.one_in(6) {
        service.health.kind = HealthKind::Off;
    }
    service.retry.attempts = dice.within(0, 4) as u32;
    service.retry.budget = dice.within(0, 30) as f64 / 100.0;
    service.retry.budget_min = dice.within(0, 3) as u32;
    if dice.one_in(2) {
        service.retry.on.push(RetryCondition::Status(500));
    }
    if dice.one_in(2) {
        service.retry.on.push(RetryCondition::FirstByteTimeout);
    }
    service.connect_timeout = MS * dice.within(20, 500) as u32;
    service.first_byte_timeout = MS * dice.within(100, 1000) as u32;
    service.total_timeout = dice.one_in(4).then(|| MS * dice.within(100, 1000) as u32);
    service.drain_grace = MS * dice.within(0, 1000) as u32;
    limits(service, dice);
}

fn limits(service: &mut ServiceSpec, dice: &mut Dice) {
    if dice.one_in(8) {
        service.limits.requests = Some(dice.within(10, 100) as u32);
    }
    if dice.one_in(8) {
        service.limits.retries = Some(dice.within(1, 10) as u32);
    }
    service.limits.concurrency = match dice.within(0, 5) {
        0 => Some(ConcurrencySpec::Fixed(dice.within(1, 3) as u32)),
        1 => Some(ConcurrencySpec::Fixed(dice.within(3, 16) as u32)),
        2 => Some(ConcurrencySpec::Learnt { min: dice.within(1, 4) as u32, max: 50 }),
        _ => return,
    };
    if !dice.one_in(4) {
        let per = if dice.one_in(2) { QueuePer::Service } else { QueuePer::Endpoint };
        let timeout = MS * dice.within(20, 500) as u32;
        let priority = dice.one_in(2).then(|| "x-priority".to_owned());
        service.queue = Some(QueueSpec { per, max: dice.within(1, 50) as u32, timeout, priority });
    }
}

/// What is around policies. Times are short, so that all has an end within the calm at the end.
fn rules(scenario: &mut Scenario, dice: &mut Dice) {
    if dice.one_in(2) {
        return;
    }
    scenario.duration += 2000 * MS;
    let service = &mut scenario.service;
    service.outlier = (!dice.one_in(3)).then(|| OutlierSpec {
        consecutive: (!dice.one_in(3)).then(|| dice.within(1, 6) as u32),
        error_rate: (!dice.one_in(3)).then(|| dice.within(10, 100) as f64 / 100.0),
        latency: (!dice.one_in(3)).then(|| dice.within(2, 5) as f64),
        requests_min: dice.within(1, 10) as u32,
        interval: MS * dice.within(100, 200) as u32,
        ejection: MS * dice.within(100, 300) as u32,
        ejection_max: MS * dice.within(300, 600) as u32,
        share_max: dice.within(1, 10) as f64 / 10.0,
    });
    service.slow_start = dice.one_in(2).then(|| SlowStartSpec {
        window: MS * dice.within(100, 200) as u32,
        from: dice.within(1, 50) as f64 / 100.0,
        curve: dice.within(5, 20) as f64 / 10.0,
        hold_above: dice.one_in(2).then_some(2.0),
    });
    service.panic = dice.one_in(2).then(|| dice.within(10, 100) as f64 / 100.0);
    service.failover_below = if dice.one_in(2) { dice.within(10, 100) as f64 / 100.0 } else { 0.0 };
    service.subset = dice.one_in(5).then(|| dice.within(1, 5) as u32);
}

fn hedge(dice: &mut Dice) -> HedgeSpec {
    let after = match dice.within(0, 4) {
        0 => HedgeAfter::Fixed(MS * dice.within(1, 100) as u32),
        1 => HedgeAfter::Quantile(0.5),
        2 => HedgeAfter::Quantile(0.9),
        3 => HedgeAfter::Quantile(0.95),
        _ => HedgeAfter::Quantile(0.99),
    };
    HedgeSpec { after, budget: dice.within(0, 30) as f64 / 100.0 }
}

fn endpoints(name: &str, dice: &mut Dice) -> EndpointGroup {
    let latency = match dice.within(0, 3) {
        0 => Latency::Constant(MS * dice.within(1, 20) as u32),
        1 => Latency::Exponential { mean: MS * dice.within(1, 20) as u32 },
        2 => Latency::LogNormal { median: MS * dice.within(1, 20) as u32, sigma: 0.7 },
        _ => Latency::Bimodal { fast: MS, slow: MS * dice.within(10, 60) as u32, share: 0.1 },
    };
    let mut group = EndpointGroup::new(name, dice.within(1, 5) as u32, latency);
    group.threads = dice.one_in(2).then(|| dice.within(4, 16) as u32);
    group.queue_max = dice.within(0, 50) as u32;
    group.weight = dice.within(1, 3) as u16;
    group.priority = u8::from(dice.one_in(4));
    group.zone = Some(name.into());
    group.boot = MS * dice.within(0, 500) as u32;
    group.warm_up = MS * dice.within(0, 1000) as u32;
    group.cache = dice.one_in(4).then(|| CacheSpec { keys: dice.within(1, 20) as u32, miss: 5.0 });
    group.antagonists = dice.one_in(6).then(|| {
        let (every, slower) = (MS * dice.within(10, 1000) as u32, dice.within(1, 5) as f64);
        Antagonists { every, share: 0.5, slower }
    });
    group
}

fn clients(scenario: &mut Scenario, dice: &mut Dice) {
    let mut open = ClientGroup::new("open", Traffic::Open { rate: dice.within(40, 120) as f64 });
    open.timeout = dice.one_in(2).then(|| MS * dice.within(50, 1000) as u32);
    // Often so few that keys are seen again and again.
    if dice.one_in(2) {
        open.keys = dice.within(5, 100) as u32;
    }
    scenario.clients.push(open);
    if dice.one_in(2) {
        let users = dice.within(1, 6) as u32;
        let think = MS * dice.within(50, 200) as u32;
        let mut closed = ClientGroup::new("closed", Traffic::Closed { users, think });
        closed.timeout = dice.one_in(2).then(|| MS * dice.within(50, 1000) as u32);
        scenario.clients.push(closed);
    }
}

fn event(scenario: &Scenario, dice: &mut Dice) -> ScenarioEvent {
    let at = dice.within(0, FAULTS_END - 100);
    let lasts = dice.within(10, FAULTS_END - at);
    let group = dice.within(0, scenario.endpoints.len() as u64 - 1) as usize;
    let fault = match dice.within(0, 13) {
        0 => Fault::Slower(dice.within(2, 30) as f64),
        1 => Fault::Latency(Latency::Constant(2000 * MS)),
        2..4 => Fault::Crash,
        4 => Fault::Hang,
        5 => Fault::Errors(dice.within(10, 100) as f64 / 100.0),
        6 => Fault::Resets(dice.within(10, 100) as f64 / 100.0),
        7 => Fault::ChecksPass,
        8 => Fault::ChecksFail,
        9..11 => Fault::Drain,
        11 => return change(at, lasts, scale(group, dice)),
        12 => {
            let count = u64::from(scenario.endpoints[group].count);
            let pace = MS * (dice.within(10, lasts) / (count + 1)) as u32;
            return change(at, lasts, Action::Replace { group, pace });
        }
        _ => return change(at, lasts, Action::Burst { group: 0, factor: 3.0 }),
    };
    let count = (!dice.one_in(3)).then(|| dice.within(1, 3) as u32);
    change(at, lasts, Action::Fault { group, count, fault })
}

fn scale(group: usize, dice: &mut Dice) -> Action {
    Action::Scale { group, count: dice.within(0, 8) as u32 }
}

fn change(at: u64, lasts: u64, action: Action) -> ScenarioEvent {
    ScenarioEvent { at: MS * at as u32, lasts: Some(MS * lasts as u32), action }
}
