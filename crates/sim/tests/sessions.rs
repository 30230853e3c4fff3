//! What sessions do: they stay while their endpoint does, and move once when it goes.

use std::time::Duration;

use model::spec::scenario::{
    Action, ClientGroup, EndpointGroup, Fault, Latency, Scenario, ScenarioEvent, Traffic,
};
use model::spec::{AffinitySpec, PolicySpec, SessionTableSpec};
use sim::{Report, SessionReport};

const S: Duration = Duration::from_secs(1);

/// A hundred users of four endpoints, each of which they use often enough that all begin before
/// anything happens.
fn scenario(affinity: AffinitySpec) -> Scenario {
    let mut scenario = Scenario::new(S * 40);
    let mut clients = ClientGroup::new("users", Traffic::Open { rate: 200.0 });
    clients.keys = 100;
    scenario.clients.push(clients);
    let latency = Latency::Constant(Duration::from_millis(5));
    scenario.endpoints.push(EndpointGroup::new("web", 4, latency));
    scenario.service.affinity = Some(affinity);
    scenario.service.drain_grace = S * 5;
    scenario
}

fn affinities() -> [AffinitySpec; 5] {
    let (name, table) = ("sid".to_owned(), SessionTableSpec::default());
    [
        AffinitySpec::cookie("KEEL"),
        AffinitySpec::Rewrite { name: name.clone(), secret: None, table: table.clone() },
        AffinitySpec::Learn { name: name.clone(), table: table.clone() },
        AffinitySpec::Header { name, table },
        AffinitySpec::source(),
    ]
}

fn run(scenario: &Scenario) -> Report {
    let policy = PolicySpec { name: "random".into(), options: Vec::new() };
    let report = sim::run(scenario, &policy, 1, &mut |_| ());
    assert_eq!(report.violations, []);
    assert_eq!(report.errors.no_endpoint, 0);
    report
}

/// Of a session, the requests that came before its first answer may begin at several endpoints
/// where nothing but that answer's cookie tells of it: those settle down, and nothing else moves.
fn at_most(affinity: &AffinitySpec) -> u64 {
    match affinity {
        AffinitySpec::Header { .. } | AffinitySpec::Source { .. } => 0,
        _ => 3,
    }
}

#[test]
fn nothing_moves_while_nothing_happens() {
    for affinity in affinities() {
        let SessionReport { begun, moved } = run(&scenario(affinity.clone())).sessions.unwrap();
        assert_eq!(begun, 100, "{affinity:?}");
        assert!(moved <= at_most(&affinity), "{affinity:?}: {moved}");
    }
    let mut without = scenario(AffinitySpec::source());
    without.service.affinity = None;
    assert_eq!(run(&without).sessions, None);
}

/// A crash and a drain move the sessions of one endpoint of four each, about 25, once: what moved
/// stays moved when the endpoint is back, but for what that endpoint's own cookie names.
#[test]
fn a_lost_endpoint_moves_its_sessions_and_no_other() {
    for fault in [Fault::Crash, Fault::Drain] {
        for affinity in affinities() {
            let mut scenario = scenario(affinity.clone());
            let action = Action::Fault { group: 0, count: Some(1), fault };
            scenario.events.push(ScenarioEvent { at: S * 15, lasts: Some(S * 10), action });
            let report = run(&scenario);
            let SessionReport { begun, moved } = report.sessions.unwrap();
            assert_eq!(begun, 100, "{affinity:?}");
            assert!((12..=40).contains(&moved), "{affinity:?} and {fault:?}: {moved}");
        }
    }
}

/// Tables are each balancer's own: what one has learnt another has not. A cookie of ours tells all.
#[test]
fn balancers_share_cookies_and_no_tables() {
    let moved = affinities().map(|affinity| {
        let mut scenario = scenario(affinity);
        scenario.balancers = 3;
        run(&scenario).sessions.unwrap().moved
    });
    assert!(moved[0] <= 3 && moved[1] <= 3, "{moved:?}");
    assert!(moved[2..].iter().all(|moved| *moved > 1000), "{moved:?}");
}
