//! The project's automation, as `cargo xtask VERB`.
//!
//! For: checks of the repository that neither the compiler nor clippy makes.
//! Never: part of what is shipped, and never a place for a second way to build or test; `./test`
//! is the one door, and calls this.
//! Start with [`VERBS`], then the tables in `tidy.rs` and `soak.rs`.
#![forbid(unsafe_code)]

mod bench;
mod callgrind;
mod count;
mod dist;
mod growth;
mod pick_cost;
mod soak;
mod source;
mod tidy;
mod tree;

use std::process::ExitCode;

struct Verb {
    name: &'static str,
    summary: &'static str,
    run: fn() -> Result<bool, String>,
}

static VERBS: &[Verb] = &[
    Verb {
        name: "tidy",
        summary: "check layers, tables, purity and habits of the repository; report tastes",
        run: tidy::run,
    },
    Verb {
        name: "pick-cost",
        summary: "instructions of a pick, a report and a preparation of each policy",
        run: pick_cost::run,
    },
    Verb {
        name: "count",
        summary: "instructions of a request and its parts, against docs/instruction-counts.md",
        run: count::run,
    },
    Verb {
        name: "dist",
        summary: "the program as it is shipped, laid out by how it runs: target/dist/evenkeel",
        run: dist::run,
    },
    Verb {
        name: "growth",
        summary: "cost by the number of routes, services and endpoints; writes docs/growth.md",
        run: growth::run,
    },
    Verb {
        name: "soak",
        summary: "the sweeps that take too long for ./test: ten gigabytes, minutes of fuzzing",
        run: soak::run,
    },
    Verb {
        name: "bench",
        summary: "side by side with HAProxy, nginx, Envoy and Caddy; writes docs/performance.md",
        run: bench::run,
    },
];

/// Exit status: 0 done, 1 the answer is no or the job failed, 2 bad usage.
fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), None) = (arguments.next(), arguments.next()) else {
        return usage();
    };
    let Some(verb) = VERBS.iter().find(|verb| verb.name == name) else {
        return usage();
    };
    match (verb.run)() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("xtask {name}: {error}");
            ExitCode::from(1)
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: cargo xtask VERB");
    for verb in VERBS {
        eprintln!("  {:<9} {}", verb.name, verb.summary);
    }
    ExitCode::from(2)
}
