//! What `cargo xtask bench`, `cargo xtask count` and `cargo xtask growth` run beside the program: pieces of work whose cost is
//! counted, the bare relay that is the floor of any proxy's cost, the same through io_uring, and clients that wrk and h2load
//! are not.
//!
//! For: figures of `docs/performance.md` and `docs/instruction-counts.md`.
//! Never: part of what is shipped, and never a verdict: `xtask` compares.
//! Start with [`VERBS`]; `count` has the table of what is counted.

mod count;
mod forward;
mod growth;
mod open_loop;
mod relay;
mod relay_uring;

use std::process::ExitCode;

struct Verb {
    usage: &'static str,
    run: fn(&[String]) -> Result<(), String>,
}

static VERBS: &[(&str, Verb)] = &[
    ("count", Verb { usage: "[SUBJECT ROUNDS]: does the work so often", run: count::run }),
    ("growth", Verb { usage: "what grows with the number of things, timed", run: growth::run }),
    (
        "load",
        Verb {
            usage: "ADDRESS PATH CONNECTIONS RATE SECONDS: requests at their times",
            run: open_loop::run,
        },
    ),
    ("relay", Verb { usage: "LISTEN TO: moves bytes, and does nothing else", run: relay::run }),
    (
        "relay-uring",
        Verb { usage: "LISTEN TO [VARIANT..]: the same through io_uring", run: relay_uring::run },
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let verb = arguments.first().and_then(|name| VERBS.iter().find(|(known, _)| known == name));
    let Some((name, verb)) = verb else {
        for (name, verb) in VERBS {
            eprintln!("bench {name} {}", verb.usage);
        }
        return ExitCode::from(2);
    };
    match (verb.run)(&arguments[1..]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench {name}: {error}");
            ExitCode::from(1)
        }
    }
}
