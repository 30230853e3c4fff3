//! What takes too long for every change: bulk transfers of ten gigabytes, minutes of fuzzing for
//! each decoder. `./test` comes first; nothing of it is repeated here.

use std::process::Command;
use std::time::Instant;

/// One sweep, as a command that can be given by hand, too.
struct Sweep {
    what: &'static str,
    environment: &'static [(&'static str, &'static str)],
    command: &'static [&'static str],
}

static SWEEPS: &[Sweep] = &[
    Sweep {
        what: "the end-to-end tests that ./test leaves out",
        environment: &[],
        command: &[
            "cargo",
            "test",
            "--locked",
            "--release",
            "--package",
            "evenkeel",
            "--test",
            "e2e",
            "--features",
            "soak",
            "--",
            "soak",
            "--nocapture",
        ],
    },
    Sweep {
        what: "five minutes of new inputs for each decoder",
        environment: &[("FUZZ_SECONDS", "300")],
        command: &["./test", "fuzz"],
    },
];

pub(crate) fn run() -> Result<bool, String> {
    let mut all_passed = true;
    for sweep in SWEEPS {
        println!("== {}", sweep.what);
        let start = Instant::now();
        let [program, arguments @ ..] = sweep.command else { continue };
        let status = Command::new(program)
            .args(arguments)
            .envs(sweep.environment.iter().copied())
            .status()
            .map_err(|error| format!("{program}: {error}"))?;
        let verdict = if status.success() { "passed" } else { "FAILED" };
        println!("== {verdict} after {} s", start.elapsed().as_secs());
        all_passed &= status.success();
    }
    Ok(all_passed)
}
