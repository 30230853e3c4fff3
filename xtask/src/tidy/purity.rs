//! Below the shell no code reads a clock, draws chance of its own, spawns, opens a socket or a
//! file, or logs: `now` and `rng` are arguments, so that the code which runs in production is the
//! code that the simulator runs. The `clippy.toml` of these crates says the same of what is
//! called; this says it of what is named.

use super::Finding;
use crate::source::Source;
use crate::tree::Tree;

static BELOW_THE_SHELL: &[&str] = &[
    "model", "config", "route", "balance", "health", "service", "sim", "wire", "http2", "registry",
];

#[rustfmt::skip]
static FORBIDDEN: &[(&str, &str)] = &[
    ("std::time::Instant", "take `now: model::Instant`"),
    ("std::time::SystemTime", "take `now: model::Instant`"),
    ("std::net::TcpStream", "sockets belong to the shell"),
    ("std::net::TcpListener", "sockets belong to the shell"),
    ("std::net::UdpSocket", "sockets belong to the shell"),
    ("std::net::ToSocketAddrs", "look-ups belong to the shell"),
    ("std::os", "sockets and files belong to the shell"),
    ("std::fs", "files belong to the shell"),
    ("std::io::stdin", "terminals belong to the shell"),
    ("std::io::stdout", "terminals belong to the shell"),
    ("std::io::stderr", "terminals belong to the shell"),
    ("std::env", "the environment belongs to the shell"),
    ("std::process", "processes belong to the shell"),
    ("std::thread", "threads belong to the shell"),
    ("std::hash::RandomState", "take `rng: &mut model::Rng`"),
    ("std::collections::hash_map::RandomState", "take `rng: &mut model::Rng`"),
    ("tracing", "answer what happened; the shell logs it"),
    ("log", "answer what happened; the shell logs it"),
    ("tokio", "runtimes belong to the shell"),
];

static FORBIDDEN_MACROS: &[&str] = &["print", "println", "eprint", "eprintln"];

pub(super) fn is_below_the_shell(package: &str) -> bool {
    BELOW_THE_SHELL.contains(&package)
}

pub(super) fn folders_below_the_shell() -> impl Iterator<Item = String> {
    BELOW_THE_SHELL.iter().map(|name| format!("crates/{name}"))
}

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let below = |path: &str| {
        let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
        !is_test && folders_below_the_shell().any(|f| path.starts_with(&format!("{f}/src/")))
    };
    tree.rust(below).flat_map(|(path, source)| check_source(path, source)).collect()
}

fn check_source(path: &str, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for named in source.paths() {
        // One word alone, such as a variable called `log`, names no crate.
        let is_path = named.imported || named.path.contains("::");
        let found = FORBIDDEN.iter().find(|(item, _)| is_path && named.reaches(item));
        if let Some((item, instead)) = found.filter(|_| !source.is_test(named.offset)) {
            let message = format!("`{}` reaches `{item}`: {instead}", named.path);
            findings.push(Finding::new(path, source.line_of(named.offset), message));
        }
    }
    for name in FORBIDDEN_MACROS {
        for offset in source.words(name, "!").into_iter().filter(|o| !source.is_test(*o)) {
            let message = format!("`{name}!`: answer what happened; the shell says it");
            findings.push(Finding::new(path, source.line_of(offset), message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::expect_findings;
    use super::*;

    #[test]
    fn clocks_sockets_files_threads_and_logs_are_found() {
        let impure = "//! std::fs in a comment is fine\n\
            use std::time::{Duration, Instant};\n\
            use std::net::SocketAddr;\n\
            use std::net;\n\
            fn a() { std::thread::spawn(|| ()); }\n\
            fn b(log: u8) -> u8 { log }\n\
            fn c() { tracing::info!(\"x\"); println!(\"std::fs\"); }\n\
            #[cfg(test)]\n\
            mod tests { use std::fs; }\n";
        let files = [
            ("crates/balance/src/lib.rs", impure),
            ("crates/balance/src/x/tests.rs", "use std::fs;"),
            ("crates/proxy/src/lib.rs", "use std::fs;"),
        ];
        let lines = [2, 4, 5, 7, 7].map(|line| format!("crates/balance/src/lib.rs:{line}"));
        expect_findings(check, &files, &lines.each_ref().map(String::as_str));
    }
}
