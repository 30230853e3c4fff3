//! The runner with real processes and a fake service.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use model::Endpoint;
use rustix::process::{Pid, getpgid, getpid};
use tokio::time::sleep;

use super::*;

/// A condition that is not met within this is a failure; far longer than any takes.
const BOUND: Duration = Duration::from_secs(20);

/// A service that believes what the test says about health, and whose drains end when allowed.
#[derive(Default)]
struct FakeReplicas(Mutex<Fake>);

#[derive(Default)]
struct Fake {
    running: Vec<Endpoint>,
    /// Every list that was ever set, as names.
    history: Vec<Vec<String>>,
    drained: Vec<String>,
    well: HashSet<String>,
    all_well: bool,
}

impl FakeReplicas {
    fn lock(&self) -> MutexGuard<'_, Fake> {
        self.0.lock().unwrap()
    }
    fn names(&self) -> Vec<String> {
        self.lock().running.iter().map(|e| e.id.to_string()).collect()
    }
    fn port(&self, name: &str) -> u16 {
        self.lock().running.iter().find(|e| e.id.as_str() == name).unwrap().address.port()
    }
}

impl Replicas for FakeReplicas {
    fn set(&self, endpoints: Vec<Endpoint>) {
        let mut fake = self.lock();
        fake.history.push(endpoints.iter().map(|e| e.id.to_string()).collect());
        fake.running = endpoints;
    }
    fn is_healthy(&self, id: &EndpointId) -> bool {
        let fake = self.lock();
        fake.all_well || fake.well.contains(id.as_str())
    }
    fn drain(&self, id: &EndpointId) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut fake = self.lock();
        assert!(fake.running.iter().any(|e| e.id == *id), "{id} is drained while it is listed");
        fake.drained.push(id.to_string());
        Box::pin(async {})
    }
}

/// A runner over a fake service, with a folder for what its replicas write down.
struct Bed {
    replicas: Arc<FakeReplicas>,
    runner: ProcessRunner,
    folder: PathBuf,
}

impl Bed {
    /// `script` is run by sh, in a folder of its own.
    fn new(name: &str, script: &str, change: impl FnOnce(&mut RunSpec)) -> Self {
        Self::with_output(name, script, change, None)
    }

    fn with_output(
        name: &str,
        script: &str,
        change: impl FnOnce(&mut RunSpec),
        output: Option<Output>,
    ) -> Self {
        let folder = std::env::temp_dir().join(format!("fleet-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut spec = RunSpec {
            command: ["sh", "-c", script].map(str::to_owned).into(),
            replicas: 1,
            env: Vec::new(),
            cwd: Some(folder.clone()),
            stop_grace: Duration::from_secs(10),
            start_timeout: Duration::from_secs(60),
        };
        change(&mut spec);
        let replicas = Arc::new(FakeReplicas::default());
        replicas.lock().all_well = true;
        let runner = ProcessRunner::start_with_output("web".into(), spec, replicas.clone(), output);
        Self { replicas, runner, folder }
    }

    fn spec(&self) -> RunSpec {
        RunSpec::clone(&self.runner.desired.borrow().spec)
    }

    async fn names(&self, expected: &[&str]) {
        until(&format!("replicas are {expected:?}"), || self.replicas.names() == expected).await;
    }

    /// The numbers that replicas wrote, one per line.
    async fn pids(&self, file: &str, count: usize) -> Vec<Pid> {
        let path = self.folder.join(file);
        let read = || numbers(&path);
        until(&format!("{count} lines in {file}"), || read().len() >= count).await;
        read()
    }

    async fn finish(self) {
        self.runner.stop().await;
        assert!(self.replicas.names().is_empty());
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

fn numbers(path: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < BOUND, "in vain: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// Neither running nor a zombie that nobody waited for.
fn is_gone(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

const SLEEP: &str = "echo $$ >> pids; exec sleep 1000";

#[tokio::test]
async fn replicas_get_a_name_a_port_and_an_environment() {
    let bed = Bed::new("names", "echo $REPLICA $PORT $COLOUR >> told; exec sleep 1000", |spec| {
        spec.replicas = 3;
        spec.env = vec![("COLOUR".to_owned(), "blue".to_owned())];
    });
    bed.names(&["web-1", "web-2", "web-3"]).await;
    let told = bed.folder.join("told");
    let lines = || fs::read_to_string(&told).unwrap_or_default().lines().count();
    until("all wrote", || lines() == 3).await;
    let text = fs::read_to_string(&told).unwrap();
    for name in ["web-1", "web-2", "web-3"] {
        let expected = format!("{name} {} blue", bed.replicas.port(name));
        assert!(text.lines().any(|line| line == expected), "{expected} in {text}");
    }
    bed.finish().await;
}

#[tokio::test]
async fn scaling_adds_the_next_and_removes_the_highest_after_draining() {
    let bed = Bed::new("scale", SLEEP, |spec| spec.replicas = 2);
    bed.names(&["web-1", "web-2"]).await;
    bed.runner.scale(4);
    assert_eq!(bed.runner.wanted(), 4);
    bed.names(&["web-1", "web-2", "web-3", "web-4"]).await;
    let pids = bed.pids("pids", 4).await;
    bed.runner.scale(1);
    bed.names(&["web-1"]).await;
    let mut drained = bed.replicas.lock().drained.clone();
    drained.sort();
    assert_eq!(drained, ["web-2", "web-3", "web-4"]);
    bed.runner.scale(0);
    bed.names(&[]).await;
    until("all ended", || pids.iter().all(|&pid| is_gone(pid))).await;
    // Any name: one is free again only when the runner knows that its last bearer is gone.
    bed.runner.scale(1);
    until("one is back", || bed.replicas.names().len() == 1).await;
    bed.finish().await;
}

#[tokio::test]
async fn a_dead_replica_leaves_the_list_at_once_and_comes_back_elsewhere() {
    let bed = Bed::new("dead", SLEEP, |spec| spec.replicas = 2);
    bed.names(&["web-1", "web-2"]).await;
    let pids = bed.pids("pids", 2).await;
    let ports = ["web-1", "web-2"].map(|name| bed.replicas.port(name));
    rustix::process::kill_process(pids[0], rustix::process::Signal::KILL).unwrap();
    until("it came back", || bed.replicas.lock().history.len() >= 4).await;
    let history = bed.replicas.lock().history.clone();
    assert_eq!(history[2].len(), 1);
    bed.names(&["web-1", "web-2"]).await;
    let changed = ["web-1", "web-2"].map(|name| bed.replicas.port(name));
    assert_eq!(ports.iter().filter(|port| !changed.contains(port)).count(), 1);
    bed.finish().await;
}

#[tokio::test]
async fn one_that_exits_at_once_is_tried_again_more_and_more_slowly() {
    let bed = Bed::new("exits", "echo $$ >> pids; exit 3", |_| {});
    let start = Instant::now();
    bed.pids("pids", 4).await;
    // 100 + 200 + 400 ms lie between four starts.
    assert!(start.elapsed() >= Duration::from_millis(700), "{:?}", start.elapsed());
    bed.finish().await;
}

#[tokio::test]
async fn one_that_cannot_be_started_is_never_listed_and_can_be_stopped() {
    let bed = Bed::new("cannot", "", |spec| spec.command = vec!["/no/such/program".to_owned()]);
    // Corrected, it runs: the failing one is replaced at once.
    bed.runner.update(RunSpec { command: command(SLEEP), ..bed.spec() });
    bed.names(&["web-1"]).await;
    assert!(bed.replicas.lock().drained.is_empty());
    bed.finish().await;
}

fn command(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).into()
}

#[tokio::test]
async fn one_that_ignores_sigterm_is_killed_after_its_grace() {
    let script = "trap '' TERM; sh -c 'echo $$ >> pids; while :; do sleep 1; done' & wait";
    let grace = Duration::from_millis(300);
    let bed = Bed::new("ignores", script, |spec| spec.stop_grace = grace);
    let pids = bed.pids("pids", 1).await;
    let start = Instant::now();
    bed.finish().await;
    assert!(start.elapsed() >= grace);
    assert!(pids.iter().all(|&pid| is_gone(pid)));
}

#[tokio::test]
async fn children_of_a_replica_end_with_it() {
    let script = "sleep 1000 & echo $! >> children; echo $$ >> pids; wait";
    let bed = Bed::new("children", script, |_| {});
    let children = bed.pids("children", 1).await;
    let pids = bed.pids("pids", 1).await;
    // Of a replica that died by itself, too.
    rustix::process::kill_process(pids[0], rustix::process::Signal::KILL).unwrap();
    until("the child of the dead one ended", || is_gone(children[0])).await;
    let children = bed.pids("children", 2).await;
    bed.finish().await;
    assert!(is_gone(children[1]));
}

#[tokio::test]
async fn a_terminals_signals_do_not_reach_replicas() {
    let bed = Bed::new("group", SLEEP, |_| {});
    let pids = bed.pids("pids", 1).await;
    let group = getpgid(Some(pids[0])).unwrap();
    assert_eq!(group, pids[0]);
    assert_ne!(group, getpgid(Some(getpid())).unwrap());
    bed.finish().await;
}

#[tokio::test]
async fn one_that_does_not_become_healthy_is_started_again() {
    let bed = Bed::new("never", SLEEP, |spec| {
        spec.start_timeout = Duration::from_millis(300);
    });
    bed.replicas.lock().all_well = false;
    // The first may have been called well before the line above.
    let pids = bed.pids("pids", 1).await;
    rustix::process::kill_process(pids[0], rustix::process::Signal::KILL).unwrap();
    let pids = bed.pids("pids", 3).await;
    assert!(is_gone(pids[1]));
    bed.replicas.lock().all_well = true;
    bed.finish().await;
}

#[tokio::test]
async fn a_change_replaces_one_at_a_time_and_never_serves_with_fewer() {
    let bed = Bed::new("roll", SLEEP, |spec| spec.replicas = 3);
    bed.names(&["web-1", "web-2", "web-3"]).await;
    let before = bed.pids("pids", 3).await;
    let since = bed.replicas.lock().history.len();
    bed.runner.update(RunSpec { command: command("echo $$ >> new; exec sleep 999"), ..bed.spec() });
    bed.pids("new", 3).await;
    until("the old ones ended", || before.iter().all(|&pid| is_gone(pid))).await;
    until("three are left", || bed.replicas.names().len() == 3).await;
    let history = bed.replicas.lock().history[since..].to_vec();
    assert!(history.iter().all(|names| (3..=4).contains(&names.len())), "{history:?}");
    assert_eq!(bed.replicas.lock().drained, ["web-1", "web-2", "web-3"]);
    assert_eq!(bed.pids("new", 3).await.len(), 3);
    bed.finish().await;
}

#[tokio::test]
async fn a_change_that_does_not_work_leaves_the_old_ones_serving() {
    let bed = Bed::new("broken", SLEEP, |spec| spec.replicas = 2);
    bed.names(&["web-1", "web-2"]).await;
    {
        let mut fake = bed.replicas.lock();
        fake.all_well = false;
        fake.well = ["web-1", "web-2"].map(str::to_owned).into();
    }
    let before = bed.pids("pids", 2).await;
    bed.runner.update(RunSpec { command: command("echo $$ >> broken; exit 1"), ..bed.spec() });
    bed.pids("broken", 3).await;
    assert!(bed.replicas.lock().drained.is_empty());
    assert!(!before.iter().any(|&pid| is_gone(pid)));
    // Back to what it was: nothing but the failing replacement goes.
    bed.runner.update(RunSpec { command: command(SLEEP), ..bed.spec() });
    bed.names(&["web-1", "web-2"]).await;
    assert!(!before.iter().any(|&pid| is_gone(pid)));
    bed.finish().await;
}

#[tokio::test]
async fn a_change_of_numbers_only_restarts_nothing() {
    let bed = Bed::new("numbers", SLEEP, |spec| spec.replicas = 2);
    bed.names(&["web-1", "web-2"]).await;
    let before = bed.pids("pids", 2).await;
    bed.runner.scale(3);
    bed.names(&["web-1", "web-2", "web-3"]).await;
    bed.runner.update(RunSpec { stop_grace: Duration::from_secs(5), ..bed.spec() });
    assert_eq!(bed.runner.wanted(), 3);
    bed.runner.update(RunSpec { replicas: 1, ..bed.spec() });
    bed.names(&["web-1"]).await;
    until("the second ended", || before.iter().any(|&pid| is_gone(pid))).await;
    assert!(before.iter().any(|&pid| !is_gone(pid)));
    bed.finish().await;
}

#[tokio::test]
async fn a_flood_of_output_passes_and_harms_nobody() {
    let (mut reader, writer) = io::pipe().unwrap();
    let output = Output::to(Box::new(writer), Box::new(io::sink())).unwrap();
    let script = "python3 -c 'for _ in range(200000): print(\"y\" * 99)'; exec sleep 1000";
    let bed = Bed::with_output("flood", script, |_| {}, Some(output.clone()));
    let count = tokio::task::spawn_blocking(move || {
        let (mut seen, mut chunk) = (0, vec![0; 65536]);
        while seen < 200_000 * ("web-1 | \n".len() + 99) {
            match reader.read(&mut chunk).unwrap() {
                0 => break,
                len => seen += len,
            }
        }
        assert!(
            chunk.starts_with(b"web-1 | yy") || chunk.windows(11).any(|w| w == b"\nweb-1 | yy")
        );
        seen
    });
    assert_eq!(count.await.unwrap(), 200_000 * ("web-1 | \n".len() + 99));
    bed.names(&["web-1"]).await;
    drop(output);
    bed.finish().await;
}

#[tokio::test]
async fn last_words_are_heard() {
    let (mut reader, writer) = io::pipe().unwrap();
    let output = Output::to(Box::new(io::sink()), Box::new(writer)).unwrap();
    let script = "trap 'printf goodbye >&2; exit' TERM; echo $$ >> pids; sleep 1000 & wait";
    let bed = Bed::with_output("words", script, |_| {}, Some(output));
    bed.pids("pids", 1).await;
    bed.finish().await;
    let mut text = [0; 64];
    let len = reader.read(&mut text).unwrap();
    assert_eq!(&text[..len], b"web-1 | goodbye\n");
}
