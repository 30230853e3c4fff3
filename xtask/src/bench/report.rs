//! Medians, ratios with their spread, and the page that shows them.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use super::Results;
use super::load::Sample;
use super::peer::PEERS;
use super::scenario::{Kind, Scenario};
use super::workers::Scaling;

const OURS: &str = "evenkeel";
const BETTER_OF: [&str; 2] = ["haproxy", "nginx"];

fn cost(scenario: &Scenario) -> fn(&Sample) -> f64 {
    match scenario.kind {
        Kind::HalfRate { .. } => |sample| sample.p99,
        _ => |sample| sample.cost,
    }
}

/// Of the rounds without a failure.
fn values(
    results: &Results,
    scenario: &Scenario,
    peer: &'static str,
    value: fn(&Sample) -> f64,
) -> Vec<f64> {
    let samples = results.get(&(scenario.name, peer)).map_or(&[][..], Vec::as_slice);
    samples.iter().filter(|sample| sample.failed == 0).map(value).collect()
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// The better of the two over all rounds.
///
/// Not the better one of each round: the lesser of two figures that vary is less than either of
/// them mostly is, so that a third proxy just as good would seem worse than both.
fn better(results: &Results, scenario: &Scenario) -> Option<&'static str> {
    let medians = BETTER_OF
        .iter()
        .filter_map(|peer| Some((*peer, median(values(results, scenario, peer, cost(scenario)))?)));
    medians.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(peer, _)| peer)
}

/// Ours over the better of the two, round by round: median, least and most.
fn ratios(results: &Results, scenario: &Scenario) -> Option<(f64, f64, f64)> {
    let of = |peer| results.get(&(scenario.name, peer));
    let (ours, theirs) = (of(OURS)?, of(better(results, scenario)?)?);
    let rounds = ours.iter().zip(theirs).filter(|(a, b)| a.failed == 0 && b.failed == 0);
    let ratio = |(a, b)| (cost(scenario)(b) > 0.0).then(|| cost(scenario)(a) / cost(scenario)(b));
    let mut all: Vec<f64> = rounds.filter_map(ratio).collect();
    all.sort_by(f64::total_cmp);
    Some((median(all.clone())?, *all.first()?, *all.last()?))
}

fn shown(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    })
}

/// A Markdown table: costs, then rates.
pub(super) fn table(scenarios: &[&Scenario], peers: &[&'static str], results: &Results) -> String {
    let mut text = String::from("| us of CPU per request (or as said) |");
    for peer in peers {
        let _ = write!(text, " {peer} |");
    }
    text += " ratio (least to most) | target |\n|---|";
    text += &"---|".repeat(peers.len() + 2);
    text.push('\n');
    for scenario in scenarios {
        let _ = write!(text, "| {} |", scenario.what);
        for peer in peers {
            let cost_of_all = median(values(results, scenario, peer, cost(scenario)));
            let unit = match scenario.kind {
                _ if cost_of_all.is_none() => String::new(),
                Kind::HalfRate { .. } => " ms".into(),
                Kind::Idle { .. } => String::new(),
                Kind::Full { .. } | Kind::Http2 { .. } => {
                    let part = |value| shown(median(values(results, scenario, peer, value)));
                    format!(" ({} + {})", part(|s| s.user), part(|s| s.system))
                }
            };
            let _ = write!(text, " {}{unit} |", shown(cost_of_all));
        }
        let ratio = ratios(results, scenario)
            .map_or("-".into(), |(m, low, high)| format!("**{m:.2}** ({low:.2} to {high:.2})"));
        let target = scenario.target.map_or("-".into(), |target| format!("<= {target:.2}"));
        let _ = writeln!(text, " {ratio} | {target} |");
    }
    text += "\n| requests a second |";
    for peer in peers {
        let _ = write!(text, " {peer} |");
    }
    text += "\n|---|";
    text += &"---|".repeat(peers.len());
    text.push('\n');
    let is_full = |kind| matches!(kind, Kind::Full { .. } | Kind::Http2 { .. });
    for scenario in scenarios.iter().filter(|s| is_full(s.kind)) {
        let _ = write!(text, "| {} |", scenario.what);
        for peer in peers {
            let rate = median(values(results, scenario, peer, |sample| sample.rate));
            let _ = write!(text, " {} |", shown(rate));
        }
        text.push('\n');
    }
    text
}

/// What a second worker adds.
pub(super) fn scaling(scaling: &Scaling) -> String {
    format!(
        "\nFrom one worker to two, 200 connections: {:.2} times the requests a second; the busier of the \
         two did {:.0} % more than half of the work. The load and the origin need cores, too: with \
         two cores for all, no proxy gets two. One window each: a request took {:.2} times the CPU \
         time with two workers that it took with one, so two could answer at most {:.2} times as \
         many. What cores of their own would give was not measured.\n",
        scaling.speed_up,
        scaling.imbalance * 100.0,
        scaling.cost,
        2.0 / scaling.cost,
    )
}

/// Fewer than this are a try.
const ROUNDS_MIN: u64 = 3;

/// Where the part begins that is written by hand, and stays.
const BY_HAND: &str = "## What was tried";

/// `docs/performance.md` and its plot.
pub(super) fn write(
    table: &str,
    scenarios: &[&Scenario],
    peers: &[&'static str],
    results: &Results,
    rounds: u64,
    ours: &str,
) -> Result<(), String> {
    let mut versions = String::new();
    for peer in PEERS {
        let _ = writeln!(versions, "- {}: {}", peer.name, peer.version(ours));
    }
    let text = format!(
        "# Performance, side by side

Written by `cargo xtask bench` on {date}: {machine}. Everyone runs one worker thread with the access log off, in turns on the same work ({rounds} rounds, the order rotated), in front of one nginx that answers from memory; wrk or h2load, the proxy and the origin share the machine. **CPU** is user and system time of the proxy's processes, by the kernel's accounting, per request: the median of the rounds, and in parentheses those of user and of system time. The **ratio** is ours over that of the same round of HAProxy or nginx, whichever has the lower median; below 1 is cheaper. Absolute figures of two machines or two runs are not to be compared.

{warning}{table}
![CPU time per request, relative to the better of HAProxy and nginx](performance.svg)

{versions}
Ours is what `cargo xtask dist` builds, which is laid out by a profile of these very scenarios, unless `BENCH_PROGRAM` named another; the peers are as Debian and their authors ship them. Memory is resident anonymous memory, grown by 20,000 connections that each did one request, or by as many as a process may have files. TLS is alike for all: ECDSA P-256, TLS 1.3 (1.2 is offered, too), X25519, no resumption. The relay is the floor: `bench relay` moves bytes and does nothing else, and `bench relay-uring` does the same through io_uring, where the kernel and the container allow it. Caddy moves no bare TCP. A dash: not to be had, or requests failed.

",
        warning = match rounds {
            0..ROUNDS_MIN => "**Too few rounds to be quoted: only to see that all of it runs.**\n\n",
            _ => "",
        },
        date = said("date", &["--utc", "+%Y-%m-%d"]),
        machine = machine(),
    );
    let before = fs::read_to_string("docs/performance.md").unwrap_or_default();
    let by_hand = before.find(BY_HAND).map_or("", |at| &before[at..]);
    fs::write("docs/performance.md", text + by_hand)
        .map_err(|e| format!("docs/performance.md: {e}"))?;
    fs::write("docs/performance.svg", plot(scenarios, peers, results))
        .map_err(|e| format!("docs/performance.svg: {e}"))
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or(String::new(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}

fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("", |name| name.trim_start_matches(['\t', ' ', ':']));
    let cores = std::thread::available_parallelism().map_or(1, |count| count.get());
    format!("{cores} virtual cores ({model}), Linux {}", version_of(&said("uname", &["-r"])))
}

/// Of a kernel's release what is upstream's: `6.1.0-41-amd64` is 6.1.0. How its builder goes on
/// counting tells a reader nothing.
fn version_of(release: &str) -> &str {
    release.split(['-', '+', '_']).next().unwrap_or(release)
}

const ROW: usize = 16;
const LEFT: usize = 330;
/// A ratio of one, in pixels.
const UNIT: f64 = 110.0;
/// Bars end there, with their figure beside.
const RATIO_MAX: f64 = 4.0;

fn plot(scenarios: &[&Scenario], peers: &[&'static str], results: &Results) -> String {
    let colours = ["#1f6feb", "#8b949e", "#57ab5a", "#c69026", "#e5534b", "#d0d7de", "#b083f0"];
    let mut bars = String::new();
    let mut y = 30;
    for scenario in scenarios {
        let medians: Vec<Option<f64>> = peers
            .iter()
            .map(|peer| median(values(results, scenario, peer, cost(scenario))))
            .collect();
        let best = peers.iter().zip(&medians).filter(|(peer, _)| BETTER_OF.contains(peer));
        let best = best.filter_map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
        let _ = writeln!(bars, "<text x=\"0\" y=\"{}\">{}</text>", y + 12, scenario.what);
        for ((peer, value), colour) in peers.iter().zip(&medians).zip(colours.iter().cycle()) {
            let Some(value) = value else { continue };
            let ratio = value / best;
            let width = ratio.min(RATIO_MAX) * UNIT;
            let _ = writeln!(
                bars,
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.0}\" height=\"{}\" fill=\"{colour}\"/>\
                 <text x=\"{:.0}\" y=\"{}\">{peer} {ratio:.2}</text>",
                ROW - 3,
                LEFT as f64 + width + 4.0,
                y + 11,
            );
            y += ROW;
        }
        y += ROW / 2;
    }
    let one = LEFT as f64 + UNIT;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"{}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"0\" y=\"16\">Cost relative to the better of HAProxy and nginx (less is better)</text>\n\
         {bars}<line x1=\"{one:.0}\" y1=\"24\" x2=\"{one:.0}\" y2=\"{y}\" stroke=\"black\" stroke-dasharray=\"3\"/>\n</svg>\n",
        y + 10
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::scenario::SCENARIOS;

    #[test]
    fn ratios_are_of_the_same_round_and_to_the_better_one() {
        let sample = |cost| Sample { cost, user: 1.0, system: cost - 1.0, ..Sample::default() };
        let samples = |costs: [f64; 3]| costs.map(sample).to_vec();
        let mut results = Results::new();
        results.insert(("http-64", OURS), samples([8.0, 9.0, 30.0]));
        // HAProxy is the better one in the second round, but nginx is over all.
        results.insert(("http-64", "haproxy"), samples([20.0, 5.0, 17.0]));
        results.insert(("http-64", "nginx"), samples([16.0, 10.0, 10.0]));
        assert_eq!(ratios(&results, &SCENARIOS[0]), Some((0.9, 0.5, 3.0)));
        let failed = Sample { failed: 1, ..sample(1.0) };
        results.insert(("http-64", "nginx"), vec![sample(16.0), sample(10.0), failed]);
        assert_eq!(ratios(&results, &SCENARIOS[0]), Some((0.7, 0.5, 0.9)));
        let text = table(&[&SCENARIOS[0]], &[OURS, "nginx"], &results);
        let line =
            "| 9.00 (1.00 + 8.00) | 13.0 (1.00 + 12.0) | **0.70** (0.50 to 0.90) | <= 0.80 |";
        assert!(text.contains(line), "{text}");
        assert_eq!(version_of("6.1.0-41-amd64"), "6.1.0");
        assert!(plot(&[&SCENARIOS[0]], &[OURS, "nginx"], &results).contains("evenkeel 0.69"));
    }
}
