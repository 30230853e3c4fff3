//! `docs/policies.md`: written from the policies' own files, the program's table and a simulation,
//! so that it cannot be out of date; and from
//! `docs/pick-cost.md`, which `cargo xtask pick-cost` checks. `UPDATE=1 cargo test --release -p evenkeel --test e2e
//! policies_page` writes it again.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::harness::program::{BINARY, Folder};

const INTRODUCTION: &str = "\
# Balancing policies

A service chooses one with `policy: NAME`, or `policy: { NAME: { OPTION: VALUE } }`; without a word \
it is `round_robin`. Weights, priorities, health, drains and retries work around all of them alike. \
How one is added is said in [add-a-policy.md](add-a-policy.md).
";

const COMPARISON: &str = "\
## Compared: one slow replica

One of ten replicas answers in 2 s for 30 s, and clients give up after 1 s \
([the scenario](../examples/simulate-slow-replica/scenario.yaml)). No health check sees it, and \
nothing is retried: what is left is the policy. The simulator runs the same balancing code as \
production, on a virtual clock; requests here have no key, so the policies that hash have nothing to \
go by and choose by chance. Your own scenario: [simulate.md](simulate.md).

";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn output(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(BINARY).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    output.stdout
}

/// What the policy's file says at its top, without the line that only names it.
fn manual(name: &str) -> String {
    let file = root().join(format!("crates/balance/src/policies/{name}.rs"));
    let source = fs::read_to_string(file).unwrap();
    let mut text = String::new();
    for line in source.lines().map_while(|line| line.strip_prefix("//!")) {
        text.push_str(line.strip_prefix(' ').unwrap_or(line));
        text.push('\n');
    }
    let (_, text) = text.split_once(": ").expect("a header that begins with the name");
    let (first, rest) = text.split_at(1);
    first.to_uppercase() + rest
}

fn page(policies: &[Value], reports: &[Value]) -> String {
    let mut page = String::from(INTRODUCTION);
    page.push_str("\n| policy | in a word |\n|---|---|\n");
    for policy in policies {
        let (name, summary) = (word(policy, "name"), word(policy, "summary"));
        let _ = writeln!(page, "| [`{name}`](#{name}) | {summary} |");
    }
    for policy in policies {
        let name = word(policy, "name");
        let keyed = "[keyed.rs](../crates/balance/src/keyed.rs)";
        let manual = manual(name).replace("`keyed.rs`", keyed);
        let _ = writeln!(page, "\n## {name}\n\n{}", manual.trim_end());
        let options = policy["options"].as_array().unwrap();
        if !options.is_empty() {
            page.push_str("\n| option | values | default | meaning |\n|---|---|---|---|\n");
        }
        for option in options {
            let _ = writeln!(
                page,
                "| `{}` | {} | `{}` | {} |",
                word(option, "name"),
                word(option, "values"),
                word(option, "default"),
                word(option, "summary")
            );
        }
    }
    page.push('\n');
    page.push_str(COMPARISON);
    page.push_str("| policy | requests | success | p50 | p99 | p99.9 | imbalance |\n");
    page.push_str("|---|---|---|---|---|---|---|\n");
    for report in reports {
        let number = |key: &str| report[key].as_f64().unwrap();
        let _ = writeln!(
            page,
            "| `{}` | {} | {:.2} % | {:.1} ms | {:.1} ms | {:.1} ms | {:.2} |",
            word(report, "policy"),
            report["requests"],
            100.0 * number("succeeded") / number("requests"),
            number("p50_ms"),
            number("p99_ms"),
            number("p999_ms"),
            number("imbalance")
        );
    }
    page.push_str("\n![p99 and the slow replica's share over time](policies.svg)\n");
    // What `cargo xtask pick-cost` wrote, its headings one level lower.
    let cost = fs::read_to_string(root().join("docs/pick-cost.md")).unwrap();
    let _ = writeln!(page, "\n{}", cost.trim_end().replace("# ", "## "));
    page
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

#[test]
fn the_page_of_the_policies_is_the_one_that_is_generated() {
    let table: Value = serde_json::from_slice(&output(&["policies", "--json"])).unwrap();
    let policies = table["policies"].as_array().unwrap();
    let names: Vec<&str> = policies.iter().map(|policy| word(policy, "name")).collect();
    let folder = Folder::new();
    let plot = folder.join("policies.svg");
    let arguments = [
        "simulate",
        "examples/simulate-slow-replica/scenario.yaml",
        "--json",
        "--policy",
        &names.join(","),
    ];
    // A plot of all of them would be a thicket: those that the scenario names.
    output(&[arguments[0], arguments[1], "--svg", plot.to_str().unwrap()]);
    let run: Value = serde_json::from_slice(&output(&arguments)).unwrap();
    let page = page(policies, run["policies"].as_array().unwrap());
    for (name, made) in
        [("policies.md", page), ("policies.svg", fs::read_to_string(&plot).unwrap())]
    {
        let file = root().join("docs").join(name);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, &made).unwrap();
        }
        let committed = fs::read_to_string(&file).unwrap_or_default();
        assert!(committed == made, "docs/{name} is old: see the top of this test's file");
    }
}
