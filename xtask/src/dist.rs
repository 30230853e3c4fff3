//! The program as it is shipped: linked as one piece, and laid out by how it ran under the load of
//! the benchmark (profile-guided optimisation). It does what any other build does, with a fifth less
//! of its own CPU time for a request of those scenarios, which is 1 to 4 % of all that it costs.
//!
//! For: `target/dist/evenkeel`, which is what `cargo xtask bench` compares.
//! Never: part of `./test`; two builds from scratch take a quarter of an hour.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::bench;
use crate::callgrind::output;

/// An empty file in the folder of the shipped build, written when that was begun: newer than the
/// profile it is built with.
const OF_PROFILE: &str = "of-profile";

/// Of each scenario while the program is watched.
const LENGTH: Duration = Duration::from_secs(3);

pub(crate) fn run() -> Result<bool, String> {
    println!("{}", build()?.display());
    Ok(true)
}

/// Builds it, and answers where it is. Without changes that takes a moment.
pub(crate) fn build() -> Result<PathBuf, String> {
    let root = fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .map_err(|e| format!("the repository: {e}"))?;
    let folder = root.join("target/dist");
    let toolchain = Toolchain::new()?;
    let (told, profile) = (folder.join("told"), folder.join("profile"));
    let watched = format!("-Cprofile-generate={}", told.display());
    let watched = toolchain.build(&root, &folder.join("watched"), &watched)?;
    if !is_newer(&profile, &watched) {
        // What a former build told is of no use to this one.
        let _ = fs::remove_dir_all(&told);
        bench::play(&watched.display().to_string(), LENGTH)?;
        toolchain.merge(&told, &profile)?;
    }
    let used = format!("-Cprofile-use={}", profile.display());
    let built = folder.join("built");
    // Cargo goes by the flags, which name the same file whatever is in it.
    if !is_newer(&built.join(OF_PROFILE), &profile) {
        let _ = fs::remove_dir_all(&built);
        fs::create_dir_all(&built).map_err(|e| format!("{}: {e}", built.display()))?;
        let mark = built.join(OF_PROFILE);
        fs::write(&mark, "").map_err(|e| format!("{}: {e}", mark.display()))?;
    }
    let built = toolchain.build(&root, &built, &used)?;
    let program = folder.join("evenkeel");
    fs::copy(&built, &program).map_err(|e| format!("{}: {e}", program.display()))?;
    Ok(program)
}

/// No: one of them is not there.
fn is_newer(one: &Path, other: &Path) -> bool {
    let changed = |path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    changed(one).zip(changed(other)).is_some_and(|(one, other)| one > other)
}

struct Toolchain {
    /// Build scripts are for it as well; naming it keeps them from being watched.
    target: String,
    profdata: PathBuf,
}

impl Toolchain {
    fn new() -> Result<Self, String> {
        let said = output(Command::new("rustc").arg("-vV"))?;
        let target = said.lines().find_map(|line| line.strip_prefix("host: "));
        let target = target.ok_or("rustc does not say what it runs on")?.to_owned();
        let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
        let libraries = Path::new(sysroot.trim()).join("lib/rustlib").join(&target);
        let profdata = libraries.join("bin/llvm-profdata");
        match profdata.exists() {
            true => Ok(Self { target, profdata }),
            false => Err(format!(
                "{}: not there; it comes with `rustup component add llvm-tools`",
                profdata.display()
            )),
        }
    }

    /// Answers where the program is.
    fn build(&self, root: &Path, folder: &Path, flags: &str) -> Result<PathBuf, String> {
        let package = ["--package", "evenkeel", "--target", &self.target];
        let status = Command::new("cargo")
            .current_dir(root)
            .args(["build", "--locked", "--profile", "dist"])
            .args(package)
            .env("RUSTFLAGS", flags)
            .env("CARGO_TARGET_DIR", folder)
            .status()
            .map_err(|e| format!("cargo: {e}"))?;
        match status.success() {
            true => Ok(folder.join(&self.target).join("dist/evenkeel")),
            false => Err(format!("cargo build with {flags}: {status}")),
        }
    }

    /// What the runs told, as one.
    fn merge(&self, told: &Path, profile: &Path) -> Result<(), String> {
        output(Command::new(&self.profdata).arg("merge").arg("--output").arg(profile).arg(told))?;
        Ok(())
    }
}
