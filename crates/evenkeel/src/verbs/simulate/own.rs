//! A service of the user's own configuration in the place of an invented one.

use std::path::Path;

use model::spec::scenario::{
    Action, ClientGroup, EndpointGroup, Fault, Latency, Member, Scenario, ScenarioEvent, Traffic,
};
use model::spec::{EndpointSource, PolicySpec, ServiceSpec, Spec};

use super::what_if::WhatIf;
use super::{Case, plain};
use crate::control::read_file;
use crate::failure::Failure;
use crate::verbs::check::check;

pub(super) struct Own {
    service: ServiceSpec,
    members: Vec<Member>,
}

/// Latencies that are given by one number are spread like this around it: most services' are
/// skewed to the right.
const SIGMA: f64 = 0.5;

impl Own {
    /// The service of this name, or the only one.
    pub(super) fn read(file: &Path, name: Option<&str>) -> Result<Self, Failure> {
        let text = read_file(file)?;
        Self::of(&check(file, &text.into())?.0.spec, name)
    }

    fn of(spec: &Spec, name: Option<&str>) -> Result<Self, Failure> {
        let names = || spec.services.keys().map(|name| name.as_str());
        let service = match name {
            Some(name) => spec.services.get(name).ok_or_else(|| {
                let help = config::suggest::help(name, names(), "services");
                Failure::Usage(format!("there is no service {name:?}: {help}"))
            })?,
            None => match spec.services.values().next() {
                Some(only) if spec.services.len() == 1 => only,
                _ => {
                    let all = names().collect::<Vec<_>>().join(", ");
                    let message = format!("say which `--service` is meant: {all}");
                    return Err(Failure::Usage(message));
                }
            },
        };
        let members: Vec<Member> = match &service.source {
            EndpointSource::Static(endpoints) => {
                let member = |endpoint: &model::Endpoint| Member {
                    weight: endpoint.weight.0,
                    priority: endpoint.priority,
                    zone: endpoint.zone.as_deref().map(str::to_owned),
                };
                endpoints.iter().map(member).collect()
            }
            EndpointSource::Run(run) => {
                vec![Member { weight: 1, priority: 0, zone: None }; run.replicas]
            }
            EndpointSource::Discover(_) => {
                return Err(Failure::Usage(format!(
                    "the endpoints of service {:?} are found when it runs, so the file does not \
                     say how many there are: simulate a copy that lists `endpoints`",
                    service.name.as_str()
                )));
            }
        };
        if members.is_empty() {
            let message = format!("service {:?} has no endpoints", service.name.as_str());
            return Err(Failure::Usage(message));
        }
        Ok(Self { service: ServiceSpec::clone(service), members })
    }

    /// Its policy comes first, then those of the scenario, or all others.
    pub(super) fn enter(&self, scenario: &mut Scenario) -> Result<(), Failure> {
        let name = self.service.name.as_str();
        if scenario.service != Scenario::new(scenario.duration).service {
            return Err(Failure::Usage(format!(
                "the scenario has a `service`, which is that of the configuration, {name:?}: \
                 remove it from the scenario"
            )));
        }
        let Some(group) = scenario.endpoints.iter_mut().find(|group| group.name == name) else {
            return Err(Failure::Usage(format!(
                "the scenario does not say how fast the endpoints of service {name:?} are: add \
                 `{name}: {{ latency: 20ms }}` to its `endpoints`"
            )));
        };
        let own = EndpointGroup::new(name, 1, group.latency);
        if (group.count, group.weight, group.priority, &group.zone)
            != (own.count, own.weight, own.priority, &own.zone)
        {
            return Err(Failure::Usage(format!(
                "count, weight, priority and zone of the endpoints {name:?} are those of the \
                 configuration: remove them from the scenario"
            )));
        }
        group.count = self.members.len() as u32;
        group.members.clone_from(&self.members);
        scenario.service = self.service.clone();
        let others = std::mem::take(&mut scenario.policies);
        scenario.policies = self.policies(others);
        Ok(())
    }

    /// What it has now, and what else it could have: `others`, or all with their defaults.
    fn policies(&self, others: Vec<PolicySpec>) -> Vec<PolicySpec> {
        let now = self.service.policy.clone();
        let others = match others.is_empty() {
            true => balance::infos().iter().map(|info| plain(info.name)).collect(),
            false => others,
        };
        let is_another = |other: &PolicySpec| match other.options.is_empty() {
            true => other.name != now.name,
            false => *other != now,
        };
        let others: Vec<PolicySpec> = others.into_iter().filter(is_another).collect();
        [vec![now], others].concat()
    }

    /// As it is, and when some endpoints are lost.
    pub(super) fn cases(&self, what_if: &WhatIf) -> Result<Vec<Case>, Failure> {
        let (Some(rate), Some(median)) = (what_if.rate, what_if.latency) else {
            return Err(Failure::Usage(
                "say what comes and how fast the endpoints are: `--rate 500 --latency 20ms`, or \
                 name a scenario"
                    .into(),
            ));
        };
        let mut scenario = Scenario::new(what_if.duration);
        let mut clients = ClientGroup::new("clients", Traffic::Open { rate });
        clients.timeout = what_if.timeout;
        scenario.clients.push(clients);
        let latency = Latency::LogNormal { median, sigma: SIGMA };
        let mut group = EndpointGroup::new(self.service.name.as_str(), 1, latency);
        group.threads = what_if.threads;
        scenario.endpoints.push(group);
        self.enter(&mut scenario)?;
        let all = self.members.len();
        let Some(lose) = what_if.lose else {
            return Ok(vec![Case { name: format!("{all}"), scenario }]);
        };
        if lose as usize >= all {
            let message = format!("`--lose {lose}` leaves none of {all} endpoints");
            return Err(Failure::Usage(message));
        }
        let mut less = scenario.clone();
        let action = Action::Fault { group: 0, count: Some(lose), fault: Fault::Crash };
        less.events.push(ScenarioEvent { at: what_if.duration / 4, lasts: None, action });
        Ok(vec![
            Case { name: format!("{all}"), scenario },
            Case { name: format!("{all}, {lose} lost"), scenario: less },
        ])
    }

    /// The policy that it has now.
    pub(super) fn policy(&self) -> &PolicySpec {
        &self.service.policy
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::vocabulary;

    const CONFIG: &str = "\
listeners: { web: { bind: 127.0.0.1:8080, service: web } }
services:
  web:
    policy: { least_request: { choices: 3 } }
    retry: off
    endpoints: [ 127.0.0.1:1, { address: 127.0.0.1:2, weight: 3, priority: 1, zone: b } ]
  app: { run: { command: sleep 1, replicas: 4 } }
  none: { endpoints: [] }
";

    fn own(name: Option<&str>) -> Result<Own, String> {
        let source = config::Source { name: "e.yaml", text: CONFIG };
        let spec = config::parse(&source, &vocabulary()).unwrap().spec;
        Own::of(&spec, name).map_err(|failure| failure.to_string())
    }

    #[test]
    fn the_service_is_found_or_asked_for() {
        assert_eq!(own(Some("app")).unwrap().members.len(), 4);
        let said = |name| own(name).err().unwrap();
        assert!(said(None).contains("app, none, web"), "{}", said(None));
        assert!(said(Some("wep")).contains("did you mean `web`?"), "{}", said(Some("wep")));
        assert!(said(Some("none")).contains("has no endpoints"));
    }

    #[test]
    fn its_endpoints_and_treatment_enter_the_scenario() {
        let web = own(Some("web")).unwrap();
        let scenario = |name: &str| {
            let mut scenario = Scenario::new(Duration::from_secs(1));
            let latency = Latency::Constant(Duration::from_millis(5));
            scenario.endpoints.push(EndpointGroup::new(name, 1, latency));
            scenario
        };
        let mut entered = scenario("web");
        entered.policies = vec![plain("random"), plain("least_request")];
        web.enter(&mut entered).unwrap();
        let names: Vec<&str> = entered.policies.iter().map(|policy| &*policy.name).collect();
        assert_eq!(names, ["least_request", "random"]);
        assert_eq!(entered.policies[0].options.len(), 1);
        assert_eq!(entered.service.retry.attempts, 0);
        assert_eq!(entered.endpoints[0].count, 2);
        let second = Member { weight: 3, priority: 1, zone: Some("b".into()) };
        assert_eq!(entered.endpoints[0].members[1], second);

        let refused = |mut scenario: Scenario| web.enter(&mut scenario).unwrap_err().to_string();
        assert!(refused(scenario("app")).contains("`web: { latency: 20ms }`"));
        let mut double = scenario("web");
        double.endpoints[0].count = 3;
        assert!(refused(double).contains("remove them from the scenario"));
        let mut double = scenario("web");
        double.service.retry.attempts = 1;
        assert!(refused(double).contains("remove it from the scenario"));
    }

    #[test]
    fn without_a_scenario_the_answer_is_before_and_after() {
        let what_if = |lose| WhatIf {
            rate: Some(100.0),
            latency: Some(Duration::from_millis(20)),
            threads: Some(4),
            lose,
            duration: Duration::from_secs(40),
            timeout: None,
        };
        let app = own(Some("app")).unwrap();
        let cases = app.cases(&what_if(Some(2))).unwrap();
        let names: Vec<&str> = cases.iter().map(|case| &*case.name).collect();
        assert_eq!(names, ["4", "4, 2 lost"]);
        assert_eq!(cases[0].scenario.events, []);
        assert_eq!(cases[1].scenario.events[0].at, Duration::from_secs(10));
        assert_eq!(cases[1].scenario.policies.len(), balance::infos().len());
        assert_eq!(app.cases(&what_if(None)).unwrap().len(), 1);
        let said = app.cases(&what_if(Some(4))).err().unwrap().to_string();
        assert!(said.contains("leaves none of 4"), "{said}");
    }
}
