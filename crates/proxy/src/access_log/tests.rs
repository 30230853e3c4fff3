use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;

use model::spec::Protocol;

use super::*;

/// More than any of these tests needs.
const LONG: Duration = Duration::from_secs(20);

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("access-log-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
    fn file(&self, name: &str) -> AccessLogSpec {
        AccessLogSpec::File(self.0.join(name))
    }
    fn read(&self, name: &str) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.0.join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn write(shard: &LogShard, bytes_in: u64) {
    shard.write(&Entry {
        listener: "dns",
        protocol: Protocol::Udp,
        client: "127.0.0.1".parse().unwrap(),
        http: None,
        tls: None,
        duration: Duration::ZERO,
        queued: Duration::ZERO,
        bytes_in,
        bytes_out: 0,
        service: Some("dns"),
        endpoint: Some("a"),
        attempts: 1,
        hedged: false,
        error: None,
    });
}

#[test]
fn lines_of_all_shards_reach_the_file() {
    let folder = Folder::new();
    let (log, shards) = AccessLog::start(Some(folder.file("log")), 2).unwrap();
    let lines_each = 2000;
    let threads: Vec<_> = shards
        .into_iter()
        .map(|shard| {
            std::thread::spawn(move || {
                for line in 0..lines_each {
                    write(&shard, line);
                }
                shard.flush();
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(log.sync(LONG));
    assert_eq!(log.written() + log.dropped(), 2 * lines_each);
    assert_eq!(folder.read("log").len() as u64, log.written());
}

#[test]
fn reopened_after_a_move_and_switched_while_running() {
    let folder = Folder::new();
    let (log, shards) = AccessLog::start(Some(folder.file("log")), 1).unwrap();
    let shard = &shards[0];
    let put = |number| {
        write(shard, number);
        shard.flush();
    };
    put(1);
    assert!(log.sync(LONG));
    std::fs::rename(folder.0.join("log"), folder.0.join("log.1")).unwrap();
    put(2);
    log.reopen();
    put(3);
    log.set(Some(folder.file("other"))).unwrap();
    put(4);
    assert!(log.set(Some(folder.file("missing/log"))).is_err());
    put(5);
    log.set(None).unwrap();
    assert!(!shard.is_on());
    put(6);
    assert!(log.sync(LONG));
    let numbers = |name| -> Vec<_> {
        folder.read(name).iter().map(|line| line["bytes_in"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers("log.1"), [1, 2]);
    assert_eq!(numbers("log"), [3]);
    assert_eq!(numbers("other"), [4, 5]);
    assert_eq!((log.written(), log.dropped()), (5, 0));
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let full = AccessLogSpec::File("/dev/full".into());
    let (log, shards) = AccessLog::start(Some(full), 1).unwrap();
    for number in 0..10 {
        write(&shards[0], number);
    }
    shards[0].flush();
    assert!(log.sync(LONG));
    assert_eq!((log.written(), log.dropped()), (0, 10));
}

#[test]
fn a_reader_that_stalls_costs_lines_and_never_time() {
    let folder = Folder::new();
    let path = folder.0.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    assert!(AccessLog::start(Some(folder.file("pipe")), 1).is_err(), "nobody reads it");
    let mut reader = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let (log, shards) = AccessLog::start(Some(folder.file("pipe")), 1).unwrap();
    // More than the pipe and the queue hold together.
    while log.dropped() == 0 {
        write(&shards[0], 7);
    }
    log.set(None).unwrap();
    // What did arrive is whole, up to the last line.
    let mut bytes = vec![0; 8192];
    let count = reader.read(&mut bytes).unwrap();
    let text = String::from_utf8(bytes[..count].to_vec()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    for line in &lines[..lines.len() - 1] {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn disabled() {
    let shard = LogShard::disabled();
    assert!(!shard.is_on());
    write(&shard, 1);
    shard.flush();
}
