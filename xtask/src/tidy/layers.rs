//! Who may depend on whom: `evenkeel` -> {`proxy`, `discovery`, `runner`, `agent`, `admin`, `sim`}
//! -> `service` -> {`balance`, `health`}; `route`, `wire`, `http2`, `tls`, `registry` and `config`
//! are leaves over `model`. Beside them `acme` gives certificates to `tls`, `registrar` serves what
//! `registry` decides, `compose` reads with `config` and asks engines, and `agent-client` sees none.

use super::Finding;
use crate::tree::{Dependency, Package, Tree};

/// Each crate and the crates of this workspace that it may use, in its tests too.
#[rustfmt::skip]
static LAYERS: &[(&str, &[&str])] = &[
    ("model",     &[]),
    ("config",    &["model"]),
    ("route",     &["model"]),
    ("wire",      &["model"]),
    ("http2",     &["model"]),
    ("balance",   &["model"]),
    ("health",    &["model"]),
    ("service",   &["model", "balance", "health"]),
    ("tls",       &["model"]),
    ("acme",      &["model", "tls"]),
    ("proxy",     &["model", "route", "wire", "http2", "service", "tls"]),
    ("discovery", &["model", "wire", "service", "tls"]),
    ("registry",  &["model"]),
    ("runner",    &["model", "service"]),
    ("compose",   &["model", "config"]),
    ("admin",     &["model", "service"]),
    ("registrar", &["model", "config", "registry", "admin", "discovery", "tls"]),
    ("agent-client", &[]),
    ("agent",     &["model", "route", "wire", "service", "admin"]),
    ("sim",       &["model", "route", "balance", "health", "service"]),
    ("bench",     &["model", "route", "wire", "http2", "service", "tls", "proxy"]),
    ("evenkeel",  &["model", "config", "route", "wire", "http2", "balance", "health", "service", "tls", "acme", "proxy", "discovery", "registry", "registrar", "runner", "compose", "admin", "agent", "agent-client", "sim"]),
    ("xtask",     &[]),
];

/// Crates from outside that only the shell may use (tests excepted): runtimes, sockets, logs,
/// chance.
static SHELL_ONLY: &[&str] = &[
    "tokio",
    "hyper",
    "hyper-util",
    "mio",
    "socket2",
    "rustix",
    "libc",
    "nix",
    "tracing",
    "log",
    "rand",
    "getrandom",
    "fastrand",
    "chrono",
    "time",
];

/// Crates from outside that one crate of ours wraps, so that they can be replaced in one place.
static WRAPPED: &[(&str, &str)] = &[("granit-parser", "config"), ("httparse", "wire")];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.packages.iter().flat_map(check_package).collect()
}

fn check_package(package: &Package) -> Vec<Finding> {
    let manifest = format!("{}/Cargo.toml", package.folder);
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == package.name) else {
        let message = format!("`{}` has no layer: give it a line in tidy/layers.rs", package.name);
        return vec![Finding::new(manifest, 0, message)];
    };
    let mut findings = Vec::new();
    let folder = package.folder.rsplit('/').next().unwrap_or_default();
    if folder != package.name {
        let message = format!("the crate is `{}`: name its folder alike", package.name);
        findings.push(Finding::new(&manifest, 0, message));
    }
    for dependency in &package.dependencies {
        if let Some(message) = forbidden(&package.name, allowed, dependency) {
            findings.push(Finding::new(&manifest, 0, message));
        }
    }
    findings
}

fn forbidden(package: &str, allowed: &[&str], dependency: &Dependency) -> Option<String> {
    let name = dependency.name.as_str();
    if LAYERS.iter().any(|(ours, _)| *ours == name) {
        let message = || format!("`{package}` may not see `{name}`, only {allowed:?}");
        return (!allowed.contains(&name)).then(message);
    }
    if dependency.dev {
        return None;
    }
    if super::purity::is_below_the_shell(package) && SHELL_ONLY.contains(&name) {
        return Some(format!("`{package}` is below the shell and may not use `{name}`"));
    }
    let (_, owner) = WRAPPED.iter().find(|(wrapped, _)| *wrapped == name)?;
    (package != *owner).then(|| format!("only `{owner}` may use `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(name: &str, folder: &str, dependencies: &[(&str, bool)]) -> usize {
        let dependencies =
            dependencies.iter().map(|&(name, dev)| Dependency { name: name.into(), dev });
        let package = Package {
            name: name.into(),
            folder: folder.into(),
            dependencies: dependencies.collect(),
        };
        check(&Tree { files: Vec::new(), packages: vec![package] }).len()
    }

    #[test]
    fn each_kind_of_violation_is_found() {
        let check = |name: &str, folder: &str, dependencies: &[(&str, bool)], expected: usize| {
            assert_eq!(findings(name, folder, dependencies), expected, "{name} {dependencies:?}");
        };
        check("service", "crates/service", &[("model", false), ("balance", false)], 0);
        check("balance", "crates/balance", &[("health", false)], 1);
        check("balance", "crates/balance", &[("service", true)], 1);
        check("proxy", "crates/proxy", &[("balance", false), ("config", false)], 2);
        check("proxy", "crates/proxy", &[("tokio", false)], 0);
        check("health", "crates/health", &[("tokio", false)], 1);
        check("health", "crates/health", &[("tokio", true)], 0);
        check("admin", "crates/admin", &[("granit-parser", false)], 1);
        check("config", "crates/configuration", &[], 1);
        check("novel", "crates/novel", &[], 1);
    }

    #[test]
    fn the_table_only_points_down() {
        for (position, (name, allowed)) in LAYERS.iter().enumerate() {
            for lower in *allowed {
                let below = LAYERS[..position].iter().any(|(other, _)| other == lower);
                assert!(below, "`{name}` points at `{lower}`, which is not above it in the table");
            }
        }
    }
}
