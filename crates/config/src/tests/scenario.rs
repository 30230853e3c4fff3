//! Scenarios: what is read, what is said of wrong ones, and that the manual names every key.

use std::time::Duration;

use model::spec::scenario::{Action, Antagonists, CacheSpec, Fault, Latency, Scenario, Traffic};
use model::spec::{HealthKind, HedgeAfter, HedgeSpec, OutlierSpec, SlowStartSpec};

use super::VOCABULARY;
use crate::keys::scenario::SCENARIO;
use crate::table::sections;
use crate::{Source, parse_scenario};

const FULL: &str = "\
duration: 60s
seed: 7
policies: [round_robin, { least_request: { full: true } }]
balancers: 3
stale: 100ms
service:
  health: off
  outlier: { latency: off }
  slow_start: 10s
  panic: 30%
  failover_below: 70%
  subset: 20
  retry: { attempts: 1, on: [reset, 500] }
  hedge: { after: 30ms, budget: 2% }
  timeouts: { connect: 1s, first_byte: 2s, total: 3s }
  drain_grace: 4s
clients:
  shop: { rate: 12.5, timeout: 1s, keys: 50 }
  batch: { users: 20, think: 500ms }
  past: { recorded: { access_log: a.log, service: web, speed: 2.5, durations: true }, timeout: 2s }
endpoints:
  web: { count: 9, latency: { median: 30ms, sigma: 0.3 }, threads: 8, queue_max: 5, weight: 2 }
  far: { latency: { mean: 10ms }, priority: 1, zone: b, boot: 2s, warm_up: 10s }
  odd: { latency: { fast: 1ms, slow: 1s, share: 1% }, threads: off }
  fix: { latency: 20ms, cache: { keys: 100, miss: 4 }, antagonists: { every: 2s, share: 30%, slower: 4 } }
events:
  - { at: 1s, for: 2s, endpoints: web, count: 2, slower: 1.5 }
  - { at: 1s, endpoints: far, latency: { mean: 1s } }
  - { at: 1s, endpoints: far, latency: 2s }
  - { at: 1s, endpoints: odd, errors: 50% }
  - { at: 1s, endpoints: odd, resets: 25% }
  - { at: 1s, endpoints: odd, fault: crash }
  - { at: 1s, endpoints: odd, fault: checks_fail }
  - { at: 1s, endpoints: web, scale: 0 }
  - { at: 1s, endpoints: web, replace: 5s }
  - { at: 1s, for: 5s, clients: shop, times: 3 }
";

fn read(text: &str) -> Result<Scenario, String> {
    let source = Source { name: "s.yaml", text };
    let (scenario, warnings) =
        parse_scenario(&source, &VOCABULARY).map_err(|defects| defects.to_string())?;
    assert_eq!(warnings, []);
    Ok(scenario)
}

#[test]
fn everything_is_read() {
    let s = Duration::from_secs;
    let ms = Duration::from_millis;
    let scenario = read(FULL).unwrap_or_else(|defects| panic!("{defects}"));
    assert_eq!((scenario.duration, scenario.seed), (s(60), 7));
    assert_eq!((scenario.balancers, scenario.stale), (3, ms(100)));
    assert_eq!(scenario.policies.len(), 2);
    assert_eq!(scenario.policies[1].options.len(), 1);
    assert_eq!(scenario.service.health.kind, HealthKind::Off);
    let outlier = OutlierSpec { latency: None, ..OutlierSpec::default() };
    assert_eq!(scenario.service.outlier, Some(outlier));
    assert_eq!(scenario.service.slow_start, Some(SlowStartSpec::new(s(10))));
    let service = &scenario.service;
    assert_eq!((service.panic, service.failover_below, service.subset), (Some(0.3), 0.7, Some(20)));
    assert_eq!(scenario.service.retry.on.len(), 2);
    let after = HedgeAfter::Fixed(ms(30));
    assert_eq!(scenario.service.hedge, Some(HedgeSpec { after, budget: 0.02 }));
    assert_eq!(scenario.service.total_timeout, Some(s(3)));
    assert_eq!(scenario.service.drain_grace, s(4));
    let [shop, batch, past] = &scenario.clients[..] else { panic!("{:?}", scenario.clients) };
    assert_eq!((&shop.traffic, shop.timeout), (&Traffic::Open { rate: 12.5 }, Some(s(1))));
    assert_eq!(batch.traffic, Traffic::Closed { users: 20, think: ms(500) });
    assert_eq!((shop.keys, batch.keys), (50, 1000));
    let Traffic::Recorded(recording) = &past.traffic else { panic!("{past:?}") };
    assert_eq!(recording.access_log, std::path::Path::new("a.log"));
    assert_eq!((recording.service.as_deref(), recording.speed), (Some("web"), 2.5));
    assert!(recording.durations && recording.arrivals.is_empty());
    let latencies = scenario.endpoints.iter().map(|group| group.latency).collect::<Vec<_>>();
    assert_eq!(
        latencies,
        [
            Latency::LogNormal { median: ms(30), sigma: 0.3 },
            Latency::Exponential { mean: ms(10) },
            Latency::Bimodal { fast: ms(1), slow: s(1), share: 0.01 },
            Latency::Constant(ms(20)),
        ]
    );
    let web = &scenario.endpoints[0];
    assert_eq!((web.count, web.threads, web.queue_max, web.weight), (9, Some(8), 5, 2));
    assert_eq!(scenario.endpoints[3].cache, Some(CacheSpec { keys: 100, miss: 4.0 }));
    assert_eq!(web.cache, None);
    let far = &scenario.endpoints[1];
    assert_eq!((far.count, far.priority, far.boot, far.warm_up), (1, 1, s(2), s(10)));
    let antagonists = Antagonists { every: s(2), share: 0.3, slower: 4.0 };
    assert_eq!((scenario.endpoints[3].antagonists, web.antagonists), (Some(antagonists), None));
    let fault = |group, count, fault| Action::Fault { group, count, fault };
    let actions: Vec<Action> = scenario.events.iter().map(|event| event.action.clone()).collect();
    assert_eq!(
        actions,
        [
            fault(0, Some(2), Fault::Slower(1.5)),
            fault(1, None, Fault::Latency(Latency::Exponential { mean: s(1) })),
            fault(1, None, Fault::Latency(Latency::Constant(s(2)))),
            fault(2, None, Fault::Errors(0.5)),
            fault(2, None, Fault::Resets(0.25)),
            fault(2, None, Fault::Crash),
            fault(2, None, Fault::ChecksFail),
            Action::Scale { group: 0, count: 0 },
            Action::Replace { group: 0, pace: s(5) },
            Action::Burst { group: 0, factor: 3.0 },
        ]
    );
    assert_eq!((scenario.events[0].at, scenario.events[0].lasts), (s(1), Some(s(2))));
    assert_eq!(scenario.events[1].lasts, None);
}

#[test]
fn wrong_scenarios_are_told() {
    let base = "duration: 1s\nclients: { c: { rate: 1 } }\nendpoints: { e: { latency: 1ms } }\n";
    assert!(read(base).is_ok());
    for (text, expected) in [
        ("duration: 1s\nclients: {}\nendpoints: {}\n", "`clients` names no group"),
        ("clients: { c: { rate: 1 } }\nendpoints: { e: { latency: 1ms } }\n", "no `duration`"),
        (
            "duration: 1s\nclients: { c: { rate: 0 } }\nendpoints: { e: { latency: 1ms } }\n",
            "above 0",
        ),
        ("duration: 1s\nclients: { c: {} }\nendpoints: { e: { latency: 1ms } }\n", "send nothing"),
        (
            "duration: 1s\nclients: { c: { rate: 1, users: 1 } }\nendpoints: { e: { latency: 1ms } }\n",
            "both `rate` and `users`",
        ),
        (
            "duration: 1s\nclients: { c: { users: 1, recorded: { access_log: a } } }\nendpoints: { e: { latency: 1ms } }\n",
            "both `users` and `recorded`",
        ),
        (
            "duration: 1s\nclients: { c: { recorded: { sped: 2 } } }\nendpoints: { e: { latency: 1ms } }\n",
            "did you mean `speed`?",
        ),
        (
            "duration: 1s\nclients: { c: { rate: 1 } }\nendpoints: { e: { latency: 1ms, cache: on } }\n",
            "`cache` must be",
        ),
        (
            "duration: 1s\nclients: { c: { rate: 1 } }\nendpoints: { e: { latency: 1ms, cache: { miss: 2 } } }\n",
            "no `keys`",
        ),
        (
            "duration: 1s\nclients: { c: { rate: 1 } }\nendpoints: { e: { latency: { mean: 1s, median: 1s } } }\n",
            "must be one distribution",
        ),
        (
            "duration: 1s\nclients: { c: { rate: 1 } }\nendpoints: { e: { latency: 1ms, antagonists: { every: 1s, slower: 0.5 } } }\n",
            "antagonists make an endpoint no faster",
        ),
        (
            "duration: 1s\nclients: { c: { rate: 1 } }\nendpoints: { e: { latency: 1ms, antagonists: { slower: 2 } } }\n",
            "no `every`",
        ),
        (
            "duration: 1s\npolicies: [{ maglev: { probe: load } }]\nclients: { c: { rate: 1 } }\nendpoints: { e: { latency: 1ms } }\n",
            "`probe` must be a path such as `/load`, or `off`",
        ),
    ] {
        let said = read(text).unwrap_err();
        assert!(said.contains(expected), "{text}\n{said}");
    }
    for (event, expected) in [
        ("{ at: 1s, endpoints: x, slower: 2 }", "there is no group `x`"),
        ("{ at: 1s, endpoints: e }", "does one thing"),
        ("{ at: 1s, endpoints: e, slower: 2, scale: 1 }", "does one thing"),
        ("{ at: 1s, scale: 1 }", "does not say which `endpoints`"),
        ("{ at: 1s, times: 2 }", "does not say which `clients`"),
        ("{ at: 1s, endpoints: e, fault: crush }", "did you mean `crash`?"),
        ("{ endpoints: e, scale: 1 }", "no `at`"),
        ("{ at: 1s, endpoints: e, slowr: 2 }", "did you mean `slower`?"),
    ] {
        let said = read(&format!("{base}events:\n  - {event}\n")).unwrap_err();
        assert!(said.contains(expected), "{event}\n{said}");
    }
    let closed = base.replace("rate: 1", "users: 1");
    let said = read(&format!("{closed}events:\n  - {{ at: 1s, clients: c, times: 2 }}\n"));
    assert!(said.unwrap_err().contains("with a `rate`"));
}

#[test]
fn the_manual_names_every_key() {
    let manual = include_str!("../../../../docs/simulate.md");
    for section in sections(&SCENARIO) {
        // Those of a configuration are explained there.
        const ELSEWHERE: &[&str] = &[
            "health",
            "health tcp",
            "health agent",
            "outlier",
            "slow start",
            "affinity",
            "affinity cookie",
            "affinity header",
            "affinity source",
            "affinity store",
            "service tls",
            "certificate",
            "retry",
            "hedge",
            "service limits",
            "concurrency",
            "learnt",
            "queue",
            "service timeouts",
            "secret file",
        ];
        if ELSEWHERE.contains(&section.name) {
            continue;
        }
        for key in section.available() {
            let named = [format!("`{}`", key.name), format!("`{}:", key.name)]
                .iter()
                .chain(&[format!("{{ {}:", key.name), format!(", {}:", key.name)])
                .any(|form| manual.contains(form.as_str()));
            assert!(named, "docs/simulate.md does not name `{}` of {}", key.name, section.name);
        }
    }
}
