mod own;
mod recording;
mod what_if;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anstream::eprintln;
use config::Source;
use model::spec::PolicySpec;
use model::spec::scenario::{Action, Scenario};
use serde_json::{Value, json};
use sim::{Report, SessionReport};

use self::own::Own;
use self::what_if::WhatIf;
use super::Verb;
use crate::control::{read_file, vocabulary};
use crate::failure::Failure;
use crate::output::{GREEN, RED, YELLOW, say, say_json};
use crate::table::{Row, render};

/// Play a scenario of clients, endpoints and faults, and compare policies on it
#[derive(clap::Args)]
pub(super) struct Simulate {
    /// The scenario (docs/simulate.md says what it may hold); without one, --config, --rate and
    /// --latency say what is played
    #[arg(value_name = "SCENARIO", required_unless_present = "config")]
    scenario: Option<PathBuf>,
    /// Take the service from this configuration: its endpoints, policy, checks, retries, time-outs
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// This service of the configuration [default: the only one]
    #[arg(long, value_name = "NAME", requires = "config")]
    service: Option<String>,
    #[command(flatten)]
    what_if: WhatIf,
    /// Compare these policies, in place of those of the scenario
    #[arg(long = "policy", value_name = "POLICY", value_delimiter = ',')]
    policies: Vec<String>,
    /// Play it with this seed, in place of that of the scenario
    #[arg(long)]
    seed: Option<u64>,
    /// Print JSON, with every endpoint and interval
    #[arg(long)]
    json: bool,
    /// Draw p99 and shares over time into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// One of the scenarios that are compared.
struct Case {
    /// How many endpoints there are.
    name: String,
    scenario: Scenario,
}

/// How a policy did in each of the cases.
struct Outcome {
    policy: PolicySpec,
    /// What the configuration has now.
    is_present: bool,
    reports: Vec<Report>,
}

impl Verb for Simulate {
    const NAME: &'static str = "simulate";

    fn run(self) -> Result<(), Failure> {
        let own = self.config.as_deref().map(|file| Own::read(file, self.service.as_deref()));
        let own = own.transpose()?;
        let cases = self.cases(own.as_ref())?;
        let Some(last) = cases.last() else { return Ok(()) };
        let policies = policies(&self.policies, &last.scenario)?;
        let seed = self.seed.unwrap_or(last.scenario.seed);
        let mut outcomes = Vec::new();
        for (index, policy) in policies.iter().enumerate() {
            let bar = Bar::new(&policy.name, index, policies.len());
            let play = |case: &Case| {
                sim::run(&case.scenario, policy, seed, &mut |progress| bar.show(progress))
            };
            let reports = cases.iter().map(play).collect();
            bar.clear();
            let is_present = own.as_ref().is_some_and(|own| own.policy() == policy);
            outcomes.push(Outcome { policy: policy.clone(), is_present, reports });
        }
        if let Some(file) = &self.svg {
            // The last case is the one in which something happens.
            let reports: Vec<Report> =
                outcomes.iter().filter_map(|outcome| outcome.reports.last().cloned()).collect();
            std::fs::write(file, sim::svg(&reports, plotted(&last.scenario))).map_err(|error| {
                Failure::Job(format!("cannot write {}: {error}", file.display()))
            })?;
        }
        if self.json {
            say_json(&document(seed, &cases, &outcomes))?;
        } else {
            say(&table(&cases, &outcomes))?;
        }
        defects(&outcomes)
    }
}

impl Simulate {
    fn cases(&self, own: Option<&Own>) -> Result<Vec<Case>, Failure> {
        let Some(file) = &self.scenario else {
            let own = own.ok_or_else(|| Failure::Usage("name a scenario".into()))?;
            return own.cases(&self.what_if);
        };
        let mut scenario = read(file)?;
        recording::load(&mut scenario, file.parent().unwrap_or(Path::new("")))?;
        if let Some(own) = own {
            own.enter(&mut scenario)?;
        }
        Ok(vec![Case { name: String::new(), scenario }])
    }
}

fn read(file: &Path) -> Result<Scenario, Failure> {
    let text = read_file(file)?;
    let source = Source { name: &file.to_string_lossy(), text: &text };
    let (scenario, warnings) =
        config::parse_scenario(&source, &vocabulary()).map_err(|defects| {
            eprintln!("{defects}");
            Failure::Said
        })?;
    for warning in warnings {
        eprintln!("{warning}");
    }
    Ok(scenario)
}

/// Those named, with the options that the scenario gives them; or those of the scenario; or all.
fn policies(named: &[String], scenario: &Scenario) -> Result<Vec<PolicySpec>, Failure> {
    let known = || balance::infos().iter().map(|info| info.name);
    if named.is_empty() {
        return Ok(match scenario.policies.is_empty() {
            true => known().map(plain).collect(),
            false => scenario.policies.clone(),
        });
    }
    let find = |name: &String| {
        if !known().any(|known| known == name) {
            let help = config::suggest::help(name, known(), "policies");
            return Err(Failure::Usage(format!("there is no policy {name:?}: {help}")));
        }
        let given = scenario.policies.iter().find(|policy| policy.name == *name);
        Ok(given.cloned().unwrap_or_else(|| plain(name)))
    };
    named.iter().map(find).collect()
}

/// A policy with its defaults.
fn plain(name: &str) -> PolicySpec {
    PolicySpec { name: name.to_owned(), options: Vec::new() }
}

/// The group of endpoints whose share says most: that of the first fault.
fn plotted(scenario: &Scenario) -> usize {
    let group = scenario.events.iter().find_map(|event| match event.action {
        Action::Fault { group, .. }
        | Action::Scale { group, .. }
        | Action::Replace { group, .. } => Some(group),
        Action::Burst { .. } => None,
    });
    group.unwrap_or(0)
}

/// `policies` for one scenario, `cases` of them for several.
fn document(seed: u64, cases: &[Case], outcomes: &[Outcome]) -> Value {
    let reports = |index: usize| -> Vec<&Report> {
        outcomes.iter().map(|outcome| &outcome.reports[index]).collect()
    };
    if cases.len() == 1 {
        return json!({ "seed": seed, "policies": reports(0) });
    }
    let case = |(index, case): (usize, &Case)| json!({ "endpoints": case.name, "policies": reports(index) });
    let cases: Vec<Value> = cases.iter().enumerate().map(case).collect();
    json!({ "seed": seed, "cases": cases })
}

fn table(cases: &[Case], outcomes: &[Outcome]) -> String {
    const HEADER: [&str; 9] =
        ["REQUESTS", "SUCCESS", "P50", "P99", "P99.9", "ERRORS", "RETRIES", "IMBALANCE", "MOVED"];
    let name = |outcome: &Outcome| {
        let now = if outcome.is_present { " (now)" } else { "" };
        format!("{}{now}", outcome.policy.name)
    };
    if cases.len() == 1 {
        let rows = outcomes
            .iter()
            .flat_map(|outcome| outcome.reports.iter().map(|report| row([name(outcome)], report)));
        return render::<10>(joined(["POLICY"], HEADER), rows).unwrap_or_default();
    }
    let rows = outcomes.iter().flat_map(|outcome| {
        let reports = cases.iter().zip(&outcome.reports);
        reports.map(|(case, report)| row([name(outcome), case.name.clone()], report))
    });
    render::<11>(joined(["POLICY", "ENDPOINTS"], HEADER), rows).unwrap_or_default()
}

/// `front`, then what all tables have: `N` is `F` and nine.
fn joined<T, const F: usize, const N: usize>(front: [T; F], figures: [T; 9]) -> [T; N] {
    let mut all = front.into_iter().chain(figures);
    std::array::from_fn(|_| all.next().expect("as many as the table has columns"))
}

fn row<const F: usize, const N: usize>(front: [String; F], report: &Report) -> Row<N> {
    let success = report.success();
    let colour = if success >= 0.999 {
        GREEN
    } else if success >= 0.99 {
        YELLOW
    } else {
        RED
    };
    let figures = [
        report.requests.to_string(),
        // Rounded down: 100 % means that not one failed.
        format!("{:.2}%", (success * 10_000.0).floor() / 100.0),
        format!("{:.1}ms", report.p50_ms),
        format!("{:.1}ms", report.p99_ms),
        format!("{:.1}ms", report.p999_ms),
        report.errors.total().to_string(),
        report.retries.to_string(),
        format!("{:.2}", report.imbalance),
        match (report.sessions, report.moved) {
            (Some(SessionReport { begun, moved }), _) => format!("{moved}/{begun}"),
            (None, Some(moved)) => format!("{:.2}%", moved * 100.0),
            (None, None) => "-".into(),
        },
    ];
    Row { cells: joined(front, figures), colour: Some((F + 1, colour)) }
}

fn defects(outcomes: &[Outcome]) -> Result<(), Failure> {
    for report in outcomes.iter().flat_map(|outcome| &outcome.reports) {
        if let Some(first) = report.violations.first() {
            let Report { policy, seed, .. } = report;
            return Err(Failure::Job(format!(
                "a defect of this program, please report it with the scenario: {policy} with seed \
                 {seed} after {} ms: {}",
                first.at_ms, first.what
            )));
        }
    }
    Ok(())
}

/// One line on a terminal, written over and over.
struct Bar<'a> {
    policy: &'a str,
    index: usize,
    of: usize,
    shown: bool,
}

/// Characters of the bar itself.
const BAR: usize = 30;

impl<'a> Bar<'a> {
    fn new(policy: &'a str, index: usize, of: usize) -> Self {
        Self { policy, index, of, shown: std::io::stderr().is_terminal() }
    }

    fn show(&self, progress: sim::Progress) {
        if self.shown {
            let done = "=".repeat((progress.share * BAR as f64) as usize);
            let Self { policy, index, of, .. } = self;
            let (number, requests) = (index + 1, progress.requests);
            eprint(&format!("\r[{done:BAR$}] {number}/{of} {policy}, {requests} requests"));
        }
    }

    fn clear(&self) {
        if self.shown {
            // ECMA-48: erase in line.
            eprint("\r\x1b[K");
        }
    }
}

/// A progress that cannot be shown is no reason to stop.
fn eprint(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}
