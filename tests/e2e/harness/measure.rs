//! What the program costs: memory, processor time, open files.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::program::resident_kib;
use super::wait::pause;

/// Watches a process's resident memory until asked for the greatest.
pub struct Memory {
    start_kib: u64,
    most_kib: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Memory {
    pub fn watch(pid: u32) -> Memory {
        let start_kib = resident_kib(pid);
        let most_kib = Arc::new(AtomicU64::new(start_kib));
        let stopped = Arc::new(AtomicBool::new(false));
        let (most, stop) = (most_kib.clone(), stopped.clone());
        let thread = std::thread::spawn(move || {
            while !stop.load(SeqCst) {
                most.fetch_max(resident_kib(pid), SeqCst);
                pause();
            }
        });
        Memory { start_kib, most_kib, stopped, thread: Some(thread) }
    }

    /// How much it grew at most since the start, in KiB.
    pub fn growth_kib(&self) -> u64 {
        self.most_kib.load(SeqCst) - self.start_kib
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.stopped.store(true, SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// User and system time so far, to the hundredth of a second.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in parentheses may hold anything; proc(5): utime and stime are fields 14 and 15.
    let rest = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

pub fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Held by a test that has some ten thousand connections open: one such at a time, as a process may
/// have no more than twenty thousand files on some machines.
pub fn many_files() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Raises this process's own limit of open files as far as it may; answers how many.
pub fn raise_file_limit() -> u64 {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    maximum.unwrap_or(u64::MAX)
}
