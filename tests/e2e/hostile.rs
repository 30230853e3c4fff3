//! Clients and replicas that misbehave: bounded memory, the right status, and other traffic
//! unharmed. In every test [`Beside`] sends requests through the same listener to a good replica.

mod replicas;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};

use super::harness::measure::{many_files, open_files, raise_file_limit};
use super::harness::peer::{find, skip};
use super::harness::program::{BINARY, Folder, pid_with_env};
use super::harness::{Beside, Client, Evenkeel, Memory, Replica, free_port, until, within};

/// `/fine` goes to a good replica, everything else to an odd one.
struct Site {
    program: Evenkeel,
    web: SocketAddr,
    config: String,
    _fine: Replica,
}

impl Site {
    /// `odd`: addresses behind everything else. The other three are further keys of the listener,
    /// the odd service and the file.
    fn start(odd: &[&Replica], listener: &str, service: &str, file: &str) -> Site {
        raise_file_limit();
        let fine = Replica::named("fine");
        let web = free_port();
        let odd: Vec<String> = odd.iter().map(|r| r.address.to_string()).collect();
        let config = format!(
            "{file}\nlisteners:\n  \
               web:\n    \
                 bind: 127.0.0.1:{web}\n    \
                 routes: [ {{ path: /fine, service: fine }}, {{ service: odd }} ]\n    \
                 {listener}\n\
             services:\n  \
               fine: {{ endpoints: [{}], health: off }}\n  \
               odd:\n    \
                 endpoints: [{}]\n    \
                 health: off\n    \
                 {service}\n",
            fine.address,
            odd.join(", "),
        );
        let program = Evenkeel::run(&config);
        let web = SocketAddr::from(([127, 0, 0, 1], web));
        Site { program, web, config, _fine: fine }
    }

    fn beside(&self) -> Beside {
        Beside::start(self.web, "/fine")
    }

    fn open_connections(&self) -> u64 {
        self.program.listener("web")["connections"].as_u64().unwrap()
    }

    /// The sum of a metric over its labels.
    fn metric(&self, name: &str) -> u64 {
        let text = Client::get(self.program.admin, "/metrics").text();
        let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        let values = lines.filter(|(n, _)| n.split('{').next() == Some(name));
        values.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    }

    fn watch_memory(&self) -> Memory {
        Memory::watch(self.program.child.id())
    }
}

/// Reads what is there; true once the connection is over.
fn drain(stream: &mut TcpStream, into: &mut Vec<u8>) -> bool {
    let mut block = [0; 4096];
    match stream.read(&mut block) {
        Ok(0) => true,
        Ok(count) => {
            into.extend_from_slice(&block[..count]);
            false
        }
        Err(e) => e.kind() != io::ErrorKind::WouldBlock,
    }
}

#[test]
fn five_hundred_clients_that_trickle_their_head_get_408() {
    let site = Site::start(&[], "timeouts: { header: 2s }", "", "");
    let beside = site.beside();
    let memory = site.watch_memory();
    let mut clients: Vec<(TcpStream, Vec<u8>, bool)> = Vec::new();
    for _ in 0..500 {
        let mut stream = TcpStream::connect(site.web).unwrap();
        stream.write_all(b"GET /fine HTTP/1.1\r\nHost: slow\r\nX-Slow: ").unwrap();
        stream.set_nonblocking(true).unwrap();
        clients.push((stream, Vec::new(), false));
    }
    let mut trickled = 0;
    until("all slow clients to be sent away", || {
        for (stream, answer, over) in clients.iter_mut().filter(|(_, _, over)| !over) {
            trickled += usize::from(stream.write(b"x").is_ok());
            *over = drain(stream, answer);
        }
        clients.iter().all(|(_, _, over)| *over)
    });
    for (_, answer, _) in &clients {
        let answer = String::from_utf8_lossy(answer);
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
        assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{answer:?}");
    }
    let growth = memory.growth_kib();
    let unharmed = beside.assert_unharmed();
    eprintln!(
        "500 slow heads ({trickled} bytes trickled): all 408, memory +{growth} KiB, {unharmed} requests beside"
    );
    assert!(growth < 32 * 1024, "memory grew by {growth} KiB");
    until("their connections to be gone", || site.open_connections() == 0);
}

#[test]
fn ten_thousand_idle_connections_cost_a_few_kib_each() {
    const COUNT: u64 = 10_000;
    let _one = many_files();
    if raise_file_limit() < COUNT + 500 {
        return skip("10,000 idle connections", "the hard limit of open files is too low");
    }
    let site = Site::start(&[], "timeouts: { header: 5m, keep_alive: 5m }", "", "");
    for _ in 0..50 {
        assert_eq!(Client::get(site.web, "/fine").status, 200);
    }
    until("the first clients to be gone", || site.open_connections() == 0);
    let memory = || site.program.resident_kib();
    let before = memory();
    let mut clients: Vec<Client> = (0..COUNT).map(|_| Client::connect(site.web)).collect();
    until("all of them to be accepted", || site.open_connections() == COUNT);
    let silent = memory();
    for client in &mut clients {
        client.send("GET /fine HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(client.response().unwrap().status, 200);
    }
    let kept = memory();
    let beside = site.beside();
    for client in &mut clients {
        client.send("GET /fine HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(client.response().unwrap().status, 200);
    }
    let again = memory();
    let each = |kib: u64| kib.saturating_sub(before) as f64 / COUNT as f64;
    eprintln!(
        "{COUNT} idle connections: {:.2} KiB each before the first request, {:.2} after it, {:.2} after \
         the second, {} KiB in all; {} files open; {} requests beside",
        each(silent),
        each(kept),
        each(again),
        again,
        open_files(site.program.child.id()),
        beside.assert_unharmed(),
    );
    // A task with its state, and no buffer: a buffer alone would be 16 KiB.
    assert!(each(silent) < 10.0 && each(again) < 10.0);
    drop(clients);
    until("all of them to be gone", || site.open_connections() == 0);
}

/// The soft limit of open files of a process.
fn file_limit(pid: u32) -> u64 {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap_or(u64::MAX)
}

#[test]
fn the_limit_of_open_files_is_raised_for_us_and_left_as_it_was_for_replicas() {
    const SOFT: u64 = 256;
    let (admin, web, folder) = (free_port(), free_port(), Folder::new());
    let admin = SocketAddr::from(([127, 0, 0, 1], admin));
    let web = SocketAddr::from(([127, 0, 0, 1], web));
    let file = folder.join("evenkeel.yaml");
    let config = format!(
        "admin: {{ bind: {admin} }}\n\
         listeners: {{ web: {{ bind: {web}, service: app }} }}\n\
         services: {{ app: {{ run: {{ command: [evenkeel, echo] }} }} }}\n"
    );
    fs::write(&file, config).unwrap();
    let mut command = Command::new("sh");
    let script = format!("ulimit -Sn {SOFT}; exec \"$0\" run -c \"$1\"");
    command.args(["-c", &script, BINARY]).arg(&file);
    let program = Evenkeel::start(command, admin, folder);
    program.wait_ready();
    until("the replica to be healthy", || program.count("app", "healthy") == 1);
    let held: Vec<Client> = (0..2 * SOFT).map(|_| Client::connect(web)).collect();
    until("twice the soft limit to be held", || {
        program.listener("web")["connections"].as_u64().unwrap() == 2 * SOFT
    });
    assert_eq!(Client::get(web, "/").status, 200);
    drop(held);
    let port = program.service("app")["endpoints"][0]["address"].as_str().unwrap().to_owned();
    let port = port.parse::<SocketAddr>().unwrap().port();
    let replica = pid_with_env(&format!("PORT={port}")).unwrap();
    let limits = (file_limit(program.child.id()), file_limit(replica));
    eprintln!("open files: ours {}, the replica's {}", limits.0, limits.1);
    assert!(limits.0 > SOFT);
    assert_eq!(limits.1, SOFT);
}

/// Of the sockets at both ends in the next test, so that what is held is held by the program's own:
/// here all four sockets of an exchange share the memory that the kernel gives to TCP.
const SMALL: usize = 64 * 1024;

#[test]
fn two_hundred_clients_that_stop_reading_cost_bounded_memory() {
    let block: Arc<[u8]> = vec![b'x'; 64 * 1024].into();
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    let odd = Replica::raw(move |connection| {
        set_socket_send_buffer_size(&connection.stream, SMALL).unwrap();
        let Some(seen) = connection.request() else { return };
        let chunked = seen.line().contains("chunked");
        let head = match chunked {
            true => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            false => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1u64 << 32),
        };
        let mut going = connection.send(head).is_ok();
        while going {
            going = (!chunked || connection.send("10000\r\n").is_ok())
                && connection.send(&block).is_ok()
                && (!chunked || connection.send("\r\n").is_ok());
            counted.fetch_add(block.len() as u64, SeqCst);
        }
    });
    let site = Site::start(&[&odd], "timeouts: { idle: 8s }", "", "");
    let beside = site.beside();
    let memory = site.watch_memory();
    let clients: Vec<Client> = (0..200)
        .map(|n| {
            let mut client = Client::connect(site.web);
            set_socket_recv_buffer_size(&client.stream, SMALL).unwrap();
            let path = if n % 2 == 0 { "chunked" } else { "length" };
            client.send(format!("GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n")).unwrap();
            assert_eq!(client.head().unwrap().status, 200);
            // Enough to have it spliced.
            client.take(1 << 20).unwrap();
            client
        })
        .collect();
    let (mut last, mut quiet) = (0, 0);
    until("the replica to be held back", || {
        let now = sent.load(SeqCst);
        quiet = if now == last { quiet + 1 } else { 0 };
        last = now;
        quiet >= 200
    });
    let growth = memory.growth_kib();
    beside.goes_on();
    // Kernel buffers hold what was taken; ours is at most what is read ahead.
    assert!(growth < 200 * 128, "memory grew by {growth} KiB");
    within(Duration::from_secs(60), "them to be cut off at the idle time-out", || {
        site.program.service("odd")["endpoints"][0]["in_flight"] == 0
    });
    drop(clients);
    let unharmed = beside.assert_unharmed();
    eprintln!(
        "200 clients that stopped reading: memory +{growth} KiB, {} KiB held by the kernel's sockets and pipes, \
         {unharmed} beside",
        last / 1024
    );
}

#[test]
fn a_body_that_stops_moving_gives_408_and_one_that_trickles_does_not() {
    let odd = Replica::http(|seen| super::harness::replica::ok(&seen.body.len().to_string()));
    let site = Site::start(&[&odd], "timeouts: { idle: 5s }", "", "");
    let beside = site.beside();
    let stopped: Vec<Client> = (0..100)
        .map(|_| {
            let mut client = Client::connect(site.web);
            client
                .send("POST /odd HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
                .unwrap();
            client
        })
        .collect();
    let mut trickling = Client::connect(site.web);
    trickling.send("POST /odd HTTP/1.1\r\nHost: x\r\nContent-Length: 80\r\n\r\n").unwrap();
    // Well beyond the time-out in all.
    trickle(&mut trickling, 80, Duration::from_secs(8));
    assert_eq!(trickling.response().unwrap().text(), "80");
    for mut client in stopped {
        let response = client.response().unwrap();
        assert_eq!(response.status, 408, "{}", response.head);
        assert!(client.is_closed());
    }
    eprintln!(
        "100 bodies that stop: 408, one that trickles: 200, {} beside",
        beside.assert_unharmed()
    );
}

/// So many bytes, one by one, over `whole` and more.
fn trickle(client: &mut Client, count: u32, whole: Duration) {
    for _ in 0..count {
        client.send("x").unwrap();
        std::thread::sleep(whole / count);
    }
}

#[test]
fn connections_beyond_the_limit_are_refused_and_the_others_go_on() {
    let site = Site::start(&[], "limits: { connections: 60 }", "", "");
    let mut held: Vec<Client> = (0..58).map(|_| Client::connect(site.web)).collect();
    until("58 to be held", || site.open_connections() == 58);
    // With the two clients beside it is full; theirs may be among the refused, so one at a time.
    let mut beside: Vec<Client> = (0..2).map(|_| Client::connect(site.web)).collect();
    until("60 to be held", || site.open_connections() == 60);
    let before = site.metric("evenkeel_listener_refused_total");
    let refused = (0..500).filter(|_| Client::try_get(site.web, "/fine").is_none()).count();
    assert_eq!(refused, 500);
    assert_eq!(site.metric("evenkeel_listener_refused_total") - before, 500);
    for client in beside.iter_mut().chain(&mut held) {
        client.send("GET /fine HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(client.response().unwrap().status, 200);
    }
    held.truncate(10);
    until("room for others", || site.open_connections() == 12);
    site.beside().assert_unharmed();

    let site = Site::start(&[], "limits: { connections_per_client: 5 }", "", "");
    let held: Vec<Client> = (0..5).map(|_| Client::connect(site.web)).collect();
    until("5 to be held", || site.open_connections() == 5);
    assert!(Client::try_get(site.web, "/fine").is_none());
    drop(held);
    until("room again", || site.open_connections() == 0);
    site.beside().assert_unharmed();
    eprintln!("500 connections beyond 60: refused, all 60 go on");
}

/// A tiny file system, unmounted at the end.
struct Disk {
    path: PathBuf,
    _folder: Folder,
}

impl Disk {
    fn mount(kib: usize) -> Option<Disk> {
        let folder = Folder::new();
        let path = folder.join("disk");
        fs::create_dir(&path).unwrap();
        let size = format!("size={kib}k");
        let mut mount = Command::new("mount");
        let mount = mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).output();
        mount.is_ok_and(|output| output.status.success()).then(|| Disk { path, _folder: folder })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

fn last_line(file: &Path) -> Option<serde_json::Value> {
    let text = fs::read_to_string(file).ok()?;
    serde_json::from_str(text.lines().last()?).ok()
}

#[test]
fn a_full_disk_costs_lines_of_the_access_log_and_nothing_else() {
    let Some(disk) = Disk::mount(256) else {
        return eprintln!("no tmpfs can be mounted here; the test with /dev/full stands for it");
    };
    let log = disk.path.join("access.log");
    let filler = disk.path.join("filler");
    fs::write(&filler, vec![b'x'; 128 * 1024]).unwrap();
    let file = format!("access_log: {{ file: {} }}", log.display());
    let site = Site::start(&[], "", "", &file);
    let beside = site.beside();
    until("the disk to be full", || site.metric("evenkeel_access_log_dropped_total") > 0);
    beside.goes_on();
    let dropped = site.metric("evenkeel_access_log_dropped_total");
    until("more lines to be dropped", || {
        site.metric("evenkeel_access_log_dropped_total") > dropped
    });
    let written = site.metric("evenkeel_access_log_lines_total");
    fs::remove_file(&filler).unwrap();
    until("lines to be written again", || site.metric("evenkeel_access_log_lines_total") > written);
    let unharmed = beside.assert_unharmed();
    // It is full again by now. Emptied, it takes whole lines once more; only the first may be the
    // rest of one that was cut.
    fs::File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
    Client::get(site.web, "/fine?last");
    let mut text = String::new();
    until("the line of the last request", || {
        text = fs::read_to_string(&log).unwrap();
        text.contains("/fine?last") && text.ends_with('\n')
    });
    for line in text.lines().skip(1) {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    }
    let dropped = site.metric("evenkeel_access_log_dropped_total");
    let written = site.metric("evenkeel_access_log_lines_total");
    eprintln!(
        "full disk: {written} lines written, {dropped} dropped, {unharmed} requests unharmed"
    );
}

#[test]
fn a_log_that_can_never_be_written_drops_every_line_until_it_is_moved() {
    let site = Site::start(&[], "", "", "access_log: { file: /dev/full }");
    let beside = site.beside();
    until("lines to be dropped", || site.metric("evenkeel_access_log_dropped_total") >= 100);
    assert_eq!(site.metric("evenkeel_access_log_lines_total"), 0);
    let log = site.program.folder.join("access.log");
    site.program.reconfigure(&site.config.replace("/dev/full", &log.display().to_string()));
    until("lines in the new file", || last_line(&log).is_some());
    eprintln!("/dev/full: {} requests unharmed", beside.assert_unharmed());
}

#[test]
fn slowhttptest_finds_the_service_available() {
    let Some(slowhttptest) = find("slowhttptest") else { return };
    let odd = Replica::http(|seen| super::harness::replica::ok(&seen.body.len().to_string()));
    let site = Site::start(&[&odd], "timeouts: { header: 2s, idle: 2s }", "", "");
    let beside = site.beside();
    // Slow heads, slow bodies, slow readers: 300 connections, as fast as they come, for 5 s.
    for attack in ["-H", "-B", "-X"] {
        let output = Command::new(&slowhttptest)
            .args([attack, "-c", "300", "-r", "300", "-i", "1", "-l", "5", "-p", "3", "-t", "POST"])
            .args(["-u", &format!("http://{}/odd", site.web)])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let available = text.lines().rfind(|line| line.contains("service available")).unwrap_or("");
        assert!(available.contains("YES"), "{attack}: {text}");
    }
    eprintln!("slowhttptest: available throughout, {} beside", beside.assert_unharmed());
}
