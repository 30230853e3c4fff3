//! The balancer is killed with SIGKILL: nothing that it started is left, not even what its
//! replicas started, not even what ignores SIGTERM.
//!
//! This program plays the test, the balancer and the watchdog, by its first argument.

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, ExitCode};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use model::spec::RunSpec;
use model::{Endpoint, EndpointId};
use runner::{ProcessRunner, Replicas, Watchdog, watchdog};
use rustix::process::{Pid, Signal, kill_process};

/// A condition that is not met within this is a failure; far longer than any takes.
const BOUND: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(watchdog::VERB) => watchdog::run(),
        Some("balancer") => balance(&arguments[1], &arguments[2]),
        Some("--list") => ExitCode::SUCCESS,
        _ => {
            let tests: [(&str, fn()); 3] = [
                ("nothing_is_left_of_a_killed_balancer", nothing_is_left_of_a_killed_balancer),
                ("a_dead_watchdog_is_replaced", a_dead_watchdog_is_replaced),
                ("without_a_watchdog_replicas_still_end", without_a_watchdog_replicas_still_end),
            ];
            for (name, test) in tests {
                test();
                println!("test {name} ... ok");
            }
            ExitCode::SUCCESS
        }
    }
}

fn nothing_is_left_of_a_killed_balancer() {
    let bed = Bed::new(
        "killed",
        "watched",
        "trap '' TERM INT HUP; sleep 1000 & echo $$ >> pids; echo $! >> pids; wait",
    );
    let parts = bed.parts(4);
    // A Ctrl-C or a stop of everything by name reaches the watchdog too; it must not care.
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        kill_process(bed.watchdog(), signal).unwrap();
    }
    let watchdog = bed.watchdog();
    bed.kill();
    until("replicas, their children and the watchdog are gone", || {
        parts.iter().chain([&watchdog]).all(|&pid| is_gone(pid))
    });
}

fn a_dead_watchdog_is_replaced() {
    let bed = Bed::new(
        "replaced",
        "watched",
        "trap '' TERM; sleep 1000 & echo $$ >> pids; echo $! >> pids; wait",
    );
    let first = bed.watchdog();
    let parts = bed.parts(4);
    kill_process(first, Signal::KILL).unwrap();
    until("another watchdog runs", || bed.watchdogs().iter().any(|&pid| pid != first));
    bed.kill();
    until("everything is gone", || parts.iter().all(|&pid| is_gone(pid)));
}

fn without_a_watchdog_replicas_still_end() {
    let bed = Bed::new("unwatched", "unwatched", "echo $$ >> pids; exec sleep 1000");
    let parts = bed.parts(2);
    bed.kill();
    until("replicas are gone", || parts.iter().all(|&pid| is_gone(pid)));
}

/// A balancer in a process of its own, and the folder where its replicas write down who they are.
struct Bed {
    balancer: std::cell::RefCell<Child>,
    folder: PathBuf,
}

impl Bed {
    fn new(name: &str, watched: &str, script: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("killed-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["balancer", watched, script]).current_dir(&folder);
        Self { balancer: command.spawn().unwrap().into(), folder }
    }

    /// Everybody who wrote itself down, once there are so many.
    fn parts(&self, count: usize) -> Vec<Pid> {
        let path = self.folder.join("pids");
        until("replicas run", || numbers(&path).len() >= count);
        numbers(&path)
    }

    /// Children of the balancer's threads that have the watchdog's verb on their command line.
    fn watchdogs(&self) -> Vec<Pid> {
        let mut found = Vec::new();
        let threads = fs::read_dir(format!("/proc/{}/task", self.balancer.borrow().id())).unwrap();
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            for pid in children.split_whitespace() {
                let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                if line.contains(watchdog::VERB) {
                    found.extend(Pid::from_raw(pid.parse().unwrap()));
                }
            }
        }
        found
    }

    fn watchdog(&self) -> Pid {
        until("the watchdog runs", || !self.watchdogs().is_empty());
        self.watchdogs()[0]
    }

    fn kill(&self) {
        let mut balancer = self.balancer.borrow_mut();
        balancer.kill().unwrap();
        balancer.wait().unwrap();
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn numbers(path: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < BOUND, "in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Neither running nor a zombie that nobody waited for.
fn is_gone(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

/// The role of the balancer: two replicas of `script`, until it is killed.
fn balance(watched: &str, script: &str) -> ExitCode {
    /// A service that believes everything is well.
    struct FakeReplicas;
    impl Replicas for FakeReplicas {
        fn set(&self, _: Vec<Endpoint>) {}
        fn is_healthy(&self, _: &EndpointId) -> bool {
            true
        }
        fn drain(&self, _: &EndpointId) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(async {})
        }
    }
    if watched == "watched" {
        Watchdog::start(None).unwrap();
    }
    let spec = RunSpec {
        command: ["sh", "-c", script].map(str::to_owned).into(),
        replicas: 2,
        env: Vec::new(),
        cwd: None,
        stop_grace: Duration::from_millis(300),
        start_timeout: Duration::from_secs(60),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let _runner = ProcessRunner::start("web".into(), spec, Arc::new(FakeReplicas));
        std::future::pending().await
    })
}
