use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anstream::eprintln;
use config::Source;
use model::spec::PolicySpec;
use model::spec::scenario::{Action, Scenario};
use serde_json::json;
use sim::Report;

use super::Verb;
use crate::control::{read_file, vocabulary};
use crate::failure::Failure;
use crate::output::{GREEN, RED, YELLOW, say, say_json};
use crate::table::{Row, render};

/// Play a scenario of clients, endpoints and faults, and compare policies on it
#[derive(clap::Args)]
pub(super) struct Simulate {
    /// The scenario (docs/simulate.md says what it may hold)
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
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

impl Verb for Simulate {
    const NAME: &'static str = "simulate";

    fn run(self) -> Result<(), Failure> {
        let scenario = read(&self.scenario)?;
        let policies = policies(&self.policies, &scenario)?;
        let seed = self.seed.unwrap_or(scenario.seed);
        let mut reports = Vec::new();
        for (index, policy) in policies.iter().enumerate() {
            let bar = Bar::new(&policy.name, index, policies.len());
            reports.push(sim::run(&scenario, policy, seed, &mut |progress| bar.show(progress)));
            bar.clear();
        }
        if let Some(file) = &self.svg {
            std::fs::write(file, sim::svg(&reports, plotted(&scenario))).map_err(|error| {
                Failure::Job(format!("cannot write {}: {error}", file.display()))
            })?;
        }
        if self.json {
            say_json(&json!({ "seed": seed, "policies": reports }))?;
        } else {
            say(&table(&reports))?;
        }
        defects(&reports)
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
    let plain = |name: &str| PolicySpec { name: name.to_owned(), options: Vec::new() };
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

fn table(reports: &[Report]) -> String {
    let header = [
        "POLICY",
        "REQUESTS",
        "SUCCESS",
        "P50",
        "P99",
        "P99.9",
        "ERRORS",
        "RETRIES",
        "IMBALANCE",
        "MOVED",
    ];
    let rows = reports.iter().map(|report| {
        let success = report.success();
        let colour = if success >= 0.999 {
            GREEN
        } else if success >= 0.99 {
            YELLOW
        } else {
            RED
        };
        let cells = [
            report.policy.clone(),
            report.requests.to_string(),
            // Rounded down: 100 % means that not one failed.
            format!("{:.2}%", (success * 10_000.0).floor() / 100.0),
            format!("{:.1}ms", report.p50_ms),
            format!("{:.1}ms", report.p99_ms),
            format!("{:.1}ms", report.p999_ms),
            report.errors.total().to_string(),
            report.retries.to_string(),
            format!("{:.2}", report.imbalance),
            report.moved.map_or("-".into(), |moved| format!("{:.2}%", moved * 100.0)),
        ];
        Row { cells, colour: Some((2, colour)) }
    });
    render(header, rows).unwrap_or_default()
}

fn defects(reports: &[Report]) -> Result<(), Failure> {
    for report in reports {
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
