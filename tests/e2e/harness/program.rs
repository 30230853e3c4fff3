use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};
use serde_json::Value;

use super::client::{Client, Response};
use super::wait::until;

/// The built program.
pub const BINARY: &str = env!("CARGO_BIN_EXE_evenkeel");

/// A local address whose port is free: see [`free_port`].
pub fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// A port that was free a moment ago, from below the range that the kernel gives to clients, so
/// that no connection takes it in between. Asked for without listening: a process that is being
/// started holds this socket until it becomes its program, and must not be in the way.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let offset = std::process::id().wrapping_mul(131);
    for _ in 0..20_000 {
        let n = NEXT.fetch_add(1, Relaxed).wrapping_add(offset);
        let port = u16::try_from(12_000 + n % 20_000).unwrap();
        if is_free(SocketAddr::from(([127, 0, 0, 1], port))).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

fn is_free(address: SocketAddr) -> rustix::io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)
}

/// A folder of its own, removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("evenkeel-e2e-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running program; killed at the end.
pub struct Evenkeel {
    pub child: Child,
    pub admin: SocketAddr,
    pub folder: Folder,
    pub log: Arc<Mutex<String>>,
}

impl Evenkeel {
    /// Starts `evenkeel run` with this configuration, in which `ADMIN` stands for the admin
    /// address, and waits until it is ready.
    pub fn run(config: &str) -> Evenkeel {
        let program = Self::spawn(config);
        program.wait_ready();
        program
    }

    /// The same without waiting.
    pub fn spawn(config: &str) -> Evenkeel {
        Self::spawn_in(Folder::new(), config)
    }

    /// The same in a folder that may hold what the replicas need.
    pub fn spawn_in(folder: Folder, config: &str) -> Evenkeel {
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let file = folder.join("evenkeel.yaml");
        fs::write(&file, with_admin(config, admin)).unwrap();
        let mut command = Command::new(BINARY);
        command.args(["run", "-c"]).arg(&file);
        Self::start(command, admin, folder)
    }

    pub fn start(mut command: Command, admin: SocketAddr, folder: Folder) -> Evenkeel {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let log = log.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                    let mut log = log.lock().unwrap();
                    log.push_str(&String::from_utf8_lossy(&line));
                    log.push('\n');
                }
            });
        }
        Evenkeel { child, admin, folder, log }
    }

    pub fn wait_ready(&self) {
        until(&format!("ready; it said:\n{}", self.log()), || {
            Client::try_get(self.admin, "/readyz").is_some_and(|r| r.status == 200)
        });
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn config_file(&self) -> PathBuf {
        self.folder.join("evenkeel.yaml")
    }

    /// Replaces the configuration file and waits until the program says that it has it.
    pub fn reconfigure(&self, config: &str) {
        let text = without_secrets(&self.write_config(config));
        until("the new configuration", || Client::get(self.admin, "/v1/config").text() == text);
    }

    /// Replaces the configuration file; answers what it holds now.
    pub fn write_config(&self, config: &str) -> String {
        let text = with_admin(config, self.admin);
        replace(&self.config_file(), &text);
        text
    }

    /// A request with a body to the admin API.
    pub fn call(&self, method: &str, path: &str, body: &str) -> Response {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n\r\n{body}",
            self.admin
        );
        Client::exchange(self.admin, request).expect("an answer of the admin API")
    }

    /// `POST /v1/config`, with the admin address filled in as for the file.
    pub fn post_config(&self, config: &str) -> Response {
        self.call("POST", "/v1/config", &with_admin(config, self.admin))
    }

    /// `GET /v1/...` as JSON.
    pub fn api(&self, path: &str) -> Value {
        let response = Client::get(self.admin, path);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        serde_json::from_slice(&response.body).unwrap()
    }

    /// The status of one service.
    pub fn service(&self, name: &str) -> Value {
        self.api(&format!("/v1/services/{name}"))
    }

    /// The status of one endpoint; null when there is none of that id.
    pub fn endpoint(&self, service: &str, id: &str) -> Value {
        let service = self.service(service);
        let endpoints = service["endpoints"].as_array().unwrap();
        endpoints.iter().find(|e| e["id"] == id).cloned().unwrap_or(Value::Null)
    }

    /// The status of one listener; null when there is none of that name.
    pub fn listener(&self, name: &str) -> Value {
        let all = self.api("/v1/listeners");
        let listeners = all["listeners"].as_array().unwrap();
        listeners.iter().find(|l| l["name"] == name).cloned().unwrap_or(Value::Null)
    }

    /// How many of the service's endpoints are in `state`.
    pub fn count(&self, service: &str, state: &str) -> usize {
        let service = self.service(service);
        let endpoints = service["endpoints"].as_array().unwrap();
        endpoints.iter().filter(|e| e["state"] == state).count()
    }

    /// Runs a verb of the command line against this program; answers whether it exited with 0.
    pub fn verb(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(BINARY)
            .args(arguments)
            .env("EVENKEEL_ADMIN", self.admin.to_string())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        resident_kib(self.child.id())
    }

    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for the program's end; its exit status.
    pub fn wait_exit(&mut self) -> Option<i32> {
        let mut status = None;
        until("exit", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|s| s.code())
    }
}

impl Drop for Evenkeel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the program said:\n{}", self.log());
        }
    }
}

/// The README's first command, on ports of its own.
pub struct Quickstart {
    pub program: Evenkeel,
    pub http: SocketAddr,
    pub tcp: SocketAddr,
    config: String,
}

impl Quickstart {
    pub fn start() -> Quickstart {
        Self::start_with(str::to_owned)
    }

    /// With its configuration edited.
    pub fn start_with(edit: impl Fn(&str) -> String) -> Quickstart {
        let (http, tcp) = (free_port(), free_port());
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/quickstart/evenkeel.yaml");
        let config = fs::read_to_string(file)
            .unwrap()
            .replace("127.0.0.1:9900", "ADMIN")
            .replace("127.0.0.1:8080", &format!("127.0.0.1:{http}"))
            .replace("127.0.0.1:8081", &format!("127.0.0.1:{tcp}"));
        let config = edit(&config);
        let program = Evenkeel::run(&config);
        let quickstart = Quickstart {
            program,
            http: SocketAddr::from(([127, 0, 0, 1], http)),
            tcp: SocketAddr::from(([127, 0, 0, 1], tcp)),
            config,
        };
        quickstart.wait_replicas(3);
        quickstart
    }

    pub fn config(&self) -> &str {
        &self.config
    }

    /// Waits until exactly `count` replicas are there and healthy.
    pub fn wait_replicas(&self, count: usize) {
        until(&format!("{count} replicas"), || {
            let service = self.program.service("web");
            let endpoints = service["endpoints"].as_array().unwrap();
            endpoints.len() == count && endpoints.iter().all(|e| e["state"] == "healthy")
        });
    }

    /// The process id of the replica, found by the port it listens on.
    pub fn replica_pid(&self, id: &str) -> u32 {
        let service = self.program.service("web");
        let endpoints = service["endpoints"].as_array().unwrap();
        let endpoint = endpoints.iter().find(|e| e["id"] == id).expect("the replica");
        let address: SocketAddr = endpoint["address"].as_str().unwrap().parse().unwrap();
        pid_with_env(&format!("PORT={}", address.port())).expect("the replica's process")
    }
}

/// The process whose environment holds exactly `entry`, and that is no shell between.
pub fn pid_with_env(entry: &str) -> Option<u32> {
    pids_with_env(entry).first().copied()
}

/// All processes whose environment holds exactly `entry`.
pub fn pids_with_env(entry: &str) -> Vec<u32> {
    let mut pids = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let Ok(environment) = fs::read(process.path().join("environ")) else { continue };
        if environment.split(|b| *b == 0).any(|e| e == entry.as_bytes()) {
            pids.push(pid);
        }
    }
    pids
}

pub fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.unwrap().success(), "kill -{name} {pid}");
}

fn with_admin(config: &str, admin: SocketAddr) -> String {
    if config.contains("ADMIN") {
        config.replace("ADMIN", &admin.to_string())
    } else {
        format!("admin: {{ bind: {admin} }}\n{config}")
    }
}

/// As editors do: a new file takes the old one's name.
fn replace(file: &Path, text: &str) {
    let next = file.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::rename(&next, file).unwrap();
}

/// A configuration as the program shows it.
fn without_secrets(config: &str) -> String {
    // The admin API's own token is shown to who had to send it.
    let keys =
        if config.contains("agent: {") { &["secret: ", "token: "][..] } else { &["secret: "] };
    keys.iter().fold(config.to_owned(), |config, key| {
        let mut parts = config.split(key);
        let mut shown = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let rest = part.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
            shown += &format!("{key}REDACTED{rest}");
        }
        shown
    })
}
