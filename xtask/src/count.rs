//! What a request and its parts cost, in instructions: counted by callgrind in two runs of
//! different length, whose difference is the work alone.
//!
//! Fails if anything costs 5 % more than `docs/instruction-counts.md` says, or stands there no more;
//! `UPDATE=1 cargo xtask count` writes that again. System calls count nothing here, so what is
//! counted is our own part, which is a fifth of what a request costs; a call too many shows as
//! the code around it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::callgrind::{self, output, total};

const PAGE: &str = "docs/instruction-counts.md";

/// The longer run does its work so many times as often.
const LONGER: u64 = 11;
/// Of so many counts the least is taken.
const TRIES: usize = 3;

/// What is a regression, with the compiler that the page was written with.
const MORE_MAX: f64 = 0.05;
/// Compilers differ by this.
const OTHER_COMPILER: f64 = 0.25;
/// Through sockets, one more turn of a loop now and then is chance.
const SLACK: u64 = 20;

struct Count {
    name: String,
    instructions: u64,
}

pub(crate) fn run() -> Result<bool, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    // With the program, so that both are made of the same parts.
    let build = ["build", "--locked", "--release", "--package", "evenkeel", "--package", "bench"];
    output(Command::new("cargo").current_dir(&root).args(build))?;
    let bench = callgrind::release(&root).join("bench");
    let subjects = output(Command::new(&bench).arg("count"))?;
    let subjects: Vec<(&str, u64)> = subjects
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, rounds)| Some((name, rounds.parse().ok()?)))
        .collect();
    let counts = callgrind::for_each(&subjects, |(name, rounds)| count(&bench, name, *rounds))?;
    let compiler = output(Command::new("rustc").arg("--version"))?;
    let page = page(&counts, compiler.trim());
    println!("{page}");
    let file = root.join(PAGE);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &page).map_err(|error| format!("{PAGE}: {error}"))?;
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    let faults = faults(&committed, &counts, compiler.trim());
    faults.iter().for_each(|fault| eprintln!("{fault}"));
    Ok(faults.is_empty())
}

/// Instructions of one piece of work.
fn count(bench: &Path, name: &str, rounds: u64) -> Result<Count, String> {
    let one = |rounds: u64| {
        let unique = format!("count-{}-{name}-{rounds}", std::process::id());
        let file = std::env::temp_dir().join(unique);
        let ran = output(
            Command::new("valgrind")
                .args(["--tool=callgrind", "--quiet"])
                .arg(format!("--callgrind-out-file={}", file.display()))
                .arg(bench)
                .args(["count", name, &rounds.to_string()]),
        );
        let counted = ran.and_then(|_| total(&file));
        let _ = fs::remove_file(&file);
        counted.map_err(|error| format!("{name}: {error}"))
    };
    // What more there is in one than in another are turns of the loop that came by chance.
    let least = |rounds: u64| -> Result<u64, String> {
        let counted = (0..TRIES).map(|_| one(rounds)).collect::<Result<Vec<_>, _>>()?;
        Ok(counted.into_iter().min().unwrap_or_default())
    };
    let (short, long) = (least(rounds)?, least(rounds * LONGER)?);
    let instructions = long.saturating_sub(short) / (rounds * (LONGER - 1));
    Ok(Count { name: name.to_owned(), instructions })
}

fn page(counts: &[Count], compiler: &str) -> String {
    let mut page = format!(
        "# What a request costs in instructions\n\n\
         Counted by callgrind, the least of three, with `cargo xtask count`, which fails where \
         anything costs 5 % more than this page says; `UPDATE=1 cargo xtask count` writes it again. \
         Compiler: {compiler}; with another one, 25 % are allowed. What runs is `bench/src/count.rs` and \
         `bench/src/forward.rs`; `forward` and those after it are whole requests through a worker, \
         with the client and the replica in the same process, so a part of each is theirs. \
         `tls-record` is one record encrypted and decrypted, and `http2-stream` both sides of a \
         request and its answer. Instructions in the kernel are not among them.\n\n\
         | work | instructions |\n|---|---|\n"
    );
    for Count { name, instructions } in counts {
        let _ = writeln!(page, "| {name} | {instructions} |");
    }
    page
}

fn faults(committed: &str, counts: &[Count], compiler: &str) -> Vec<String> {
    let rows = committed.lines().filter_map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        Some((cells.next()?, cells.next()?.parse::<u64>().ok()?))
    });
    let stored: BTreeMap<&str, u64> = rows.collect();
    let same_compiler = committed.contains(&format!("Compiler: {compiler};"));
    let more = if same_compiler { MORE_MAX } else { OTHER_COMPILER };
    let mut faults = Vec::new();
    for Count { name, instructions } in counts {
        match stored.get(name.as_str()) {
            None => faults.push(format!("{PAGE} has no {name}: UPDATE=1 cargo xtask count")),
            Some(before) => {
                let most = (*before as f64 * (1.0 + more)) as u64 + SLACK;
                if *instructions > most {
                    faults.push(format!(
                        "{name} costs {instructions} instructions, {before} before: find out why, \
                         or, if it is worth it, UPDATE=1 cargo xtask count"
                    ));
                }
            }
        }
    }
    let is_counted = |name: &str| counts.iter().any(|count| count.name == name);
    faults.extend(
        stored
            .keys()
            .filter(|name| !is_counted(name))
            .map(|name| format!("{PAGE} has {name}, which is counted no more")),
    );
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(instructions: u64) -> Vec<Count> {
        vec![Count { name: "parse".into(), instructions }]
    }

    #[test]
    fn what_costs_more_is_a_fault() {
        let page = page(&counted(1000), "rustc 1");
        let faulty = |counts: &[Count], compiler| faults(&page, counts, compiler).len();
        assert_eq!(faulty(&counted(1000), "rustc 1"), 0);
        assert_eq!(faulty(&counted(500), "rustc 1"), 0);
        assert_eq!(faulty(&counted(1060), "rustc 1"), 0);
        assert_eq!(faulty(&counted(1080), "rustc 1"), 1);
        assert_eq!(faulty(&counted(1080), "rustc 2"), 0, "compilers differ");
        assert_eq!(faulty(&counted(1300), "rustc 2"), 1);
        let other = vec![Count { name: "route".into(), instructions: 1 }];
        assert_eq!(faulty(&other, "rustc 1"), 2, "one is new, and one is gone");
    }
}
