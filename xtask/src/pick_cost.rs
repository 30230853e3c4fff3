//! What a pick costs with each policy, in instructions: counted by callgrind, so that the figures
//! do not depend on how busy the machine is.
//!
//! Fails if the cost of a pick grows faster than the logarithm of the number of endpoints where
//! the policy's definition does not ask for it, or if `docs/pick-cost.md` is old;
//! `UPDATE=1 cargo xtask pick-cost` writes that again.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::callgrind::{self, output, total};

const PAGE: &str = "docs/pick-cost.md";

/// As `crates/balance/examples/pick_cost.rs` has them.
const ENDPOINTS: [u32; 3] = [10, 1000, 10_000];
const ROUNDS: u64 = 500;

/// Policies whose definition is to look at every endpoint, in the worst case.
static LINEAR: &[(&str, &str)] = &[
    ("least_connections", "the fewest of all is only found by looking at all"),
    ("least_request, full", "the same"),
    ("first_available", "the first that has room comes after all that have none"),
    ("rendezvous", "its definition is the highest of all endpoints' hashes"),
];

/// From 10 to 10,000 endpoints a logarithm grows fourfold; and caches' and branches' luck.
const GROWTH_MAX: u64 = 4;
const SLACK: u64 = 100;

/// Compilers differ; what differs more than this is a change of ours.
const OLD: f64 = 0.25;

/// Instructions, by number of endpoints.
struct Cost {
    name: String,
    prepare: [u64; 3],
    pick: [u64; 3],
    report: [u64; 3],
}

pub(crate) fn run() -> Result<bool, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let build = ["build", "--locked", "--release", "--package", "balance"];
    let wanted = ["--example", "pick_cost", "--example", "keyed_figures"];
    output(Command::new("cargo").current_dir(&root).args(build).args(wanted))?;
    let examples = callgrind::release(&root).join("examples");
    let example = examples.join("pick_cost");
    let names = output(&mut Command::new(&example))?;
    let names: Vec<&str> = names.lines().collect();
    let costs = callgrind::for_each(&names, |name| count(&example, name))?;
    let keyed = output(&mut Command::new(examples.join("keyed_figures")))?;
    let page = page(&costs, &keyed);
    println!("{page}");
    let mut is_well = true;
    for wrong in costs.iter().filter_map(too_steep) {
        eprintln!("{wrong}");
        is_well = false;
    }
    let file = root.join(PAGE);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &page).map_err(|error| format!("{PAGE}: {error}"))?;
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    if let Some(difference) = difference(&committed, &page) {
        eprintln!("{PAGE} is old: {difference}; UPDATE=1 cargo xtask pick-cost writes it again");
        is_well = false;
    }
    Ok(is_well)
}

/// Callgrind counts only within `measured`, and begins a new file before each call of it: the
/// first holds nothing, and what the last call cost is in the file without a number.
fn count(example: &Path, name: &str) -> Result<Cost, String> {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let folder = std::env::temp_dir().join(format!("pick-cost-{}-{plain}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let out = folder.join("out");
    let ran = output(
        Command::new("valgrind")
            // Two patterns, as callgrind takes only one of these options for each.
            .args(["--tool=callgrind", "--toggle-collect=*measured*"])
            .arg("--dump-before=pick_cost::measured*")
            .arg(format!("--callgrind-out-file={}", out.display()))
            .arg(example)
            .arg(name),
    );
    let totals = || -> Result<Vec<u64>, String> {
        let calls = 3 * ENDPOINTS.len();
        let numbered = (2..=calls).map(|number| folder.join(format!("out.{number}")));
        numbered.chain([out.clone()]).map(|file| total(&file)).collect()
    };
    let totals = ran.and_then(|_| totals());
    let _ = fs::remove_dir_all(&folder);
    let totals = totals.map_err(|error| format!("{name}: {error}"))?;
    let column = |phase: usize, rounds: u64| {
        std::array::from_fn(|size| totals[size * 3 + phase].div_ceil(rounds))
    };
    let (prepare, pick, report) = (column(0, 1), column(1, ROUNDS), column(2, ROUNDS));
    Ok(Cost { name: name.to_owned(), prepare, pick, report })
}

fn too_steep(cost: &Cost) -> Option<String> {
    let is_linear = LINEAR.iter().any(|(name, _)| *name == cost.name);
    let grows = |costs: &[u64; 3]| costs[2] > costs[0] * GROWTH_MAX + SLACK;
    let (pick, report) = (grows(&cost.pick), grows(&cost.report));
    ((pick && !is_linear) || report).then(|| {
        let what = if report { "report" } else { "pick" };
        let of = if report { cost.report } else { cost.pick };
        format!("{}: a {what} costs {of:?} instructions with {ENDPOINTS:?} endpoints", cost.name)
    })
}

fn page(costs: &[Cost], keyed: &str) -> String {
    let mut page = String::from(
        "# What a pick costs\n\n\
         Instructions, counted by callgrind with `cargo xtask pick-cost`, which also writes this \
         page: for a pick among 10, 1,000 and 10,000 endpoints with ten requests in flight each, \
         for the report of its end, and for preparing 10,000, which happens off the request path \
         when endpoints change. A pick allocates nothing and takes no lock \
         (`crates/balance/tests/contract.rs`).\n\n\
         | policy | pick, 10 | pick, 1,000 | pick, 10,000 | report, 10,000 | prepare 10,000, \
         millions |\n|---|---|---|---|---|---|\n",
    );
    for Cost { name, prepare, pick, report } in costs {
        let _ = writeln!(
            page,
            "| {name} | {} | {} | {} | {} | {:.1} |",
            pick[0],
            pick[1],
            pick[2],
            report[2],
            prepare[2] as f64 / 1e6
        );
    }
    page.push_str(
        "\nEach is constant or grows with the logarithm of the number of endpoints, but for those \
         whose definition asks for more:\n\n",
    );
    for (name, why) in LINEAR {
        let _ = writeln!(page, "- {name}: {why}.");
    }
    let _ = write!(
        page,
        "\n## Policies that hash\n\nOver 200,000 keys (`crates/balance/examples/keyed_figures.rs`):\
         \n\n{keyed}"
    );
    page
}

/// Where the two are apart: in words, or in a number by more than compilers are.
fn difference(old: &str, new: &str) -> Option<String> {
    if old.lines().count() != new.lines().count() {
        return Some("it has other lines".into());
    }
    old.lines().zip(new.lines()).find_map(|(old, new)| {
        let (was, is): (Vec<&str>, Vec<&str>) =
            (old.split(' ').collect(), new.split(' ').collect());
        let near = |(was, is): (&&str, &&str)| match (was.parse::<f64>(), is.parse::<f64>()) {
            (Ok(was), Ok(is)) => (was - is).abs() <= OLD * was.max(is) + 0.11,
            _ => was == is,
        };
        let is_same = was.len() == is.len() && was.iter().zip(&is).all(near);
        (!is_same).then(|| format!("{old:?} is now {new:?}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(name: &str, pick: [u64; 3], report: [u64; 3]) -> Cost {
        Cost { name: name.into(), prepare: [1, 2, 3], pick, report }
    }

    #[test]
    fn what_grows_with_the_endpoints_is_found() {
        let flat = [50, 60, 70];
        let steep = [50, 5000, 50_000];
        assert_eq!(too_steep(&cost("random", flat, flat)), None);
        assert_eq!(too_steep(&cost("ring_hash", [50, 150, 200], flat)), None);
        assert!(too_steep(&cost("random", steep, flat)).is_some());
        assert_eq!(too_steep(&cost("least_connections", steep, flat)), None);
        assert!(too_steep(&cost("least_connections", steep, steep)).is_some());
    }

    #[test]
    fn an_old_page_is_found() {
        let page = |name: &str, pick| page(&[cost(name, [pick; 3], [50; 3])], "| a | 1.59 % |\n");
        let of = page("random", 100);
        assert_eq!(difference(&of, &of), None);
        assert_eq!(difference(&of, &page("random", 110)), None);
        assert!(difference(&of, &page("random", 200)).is_some());
        assert!(difference(&of, &page("lars", 100)).is_some());
        assert!(difference("", &of).is_some());
    }
}
