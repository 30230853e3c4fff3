//! A stand-in for a container engine: it answers as Docker does, of containers that are only
//! entries of a table, and plays events as fast as it is told to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::json;

pub struct RecordedEngine {
    pub socket: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    containers: BTreeMap<String, Recorded>,
    /// Those who listen to events.
    listeners: Vec<UnixStream>,
    clock: u64,
}

struct Recorded {
    service: String,
    address: String,
    started: u64,
}

/// 64 digits.
pub fn id(number: usize) -> String {
    format!("{number:012x}{:052}", 0)
}

impl RecordedEngine {
    pub fn start(folder: &Path) -> RecordedEngine {
        let socket = folder.join("recorded.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = shared.clone();
                std::thread::spawn(move || answer(stream, &shared));
            }
        });
        RecordedEngine { socket, state }
    }

    /// A container of a service, by label, without an event.
    pub fn add(&self, number: usize, service: &str, address: &str) {
        let mut state = self.state.lock().unwrap();
        state.clock += 1;
        let recorded =
            Recorded { service: service.into(), address: address.into(), started: state.clock };
        state.containers.insert(id(number), recorded);
    }

    /// The same with its event.
    pub fn run(&self, number: usize, service: &str, address: &str) {
        self.add(number, service, address);
        self.say(number, "start");
    }

    /// It is killed, dies and is removed: three events.
    pub fn remove(&self, number: usize) {
        self.say(number, "kill");
        self.state.lock().unwrap().containers.remove(&id(number));
        self.say(number, "die");
        self.say(number, "destroy");
    }

    fn say(&self, number: usize, action: &str) {
        let mut state = self.state.lock().unwrap();
        state.clock += 1;
        let id = id(number);
        let event = json!({
            "status": action, "id": id, "from": "image", "Type": "container", "Action": action,
            "Actor": { "ID": id, "Attributes": { "image": "image", "signal": "15" } },
            "scope": "local", "time": 0, "timeNano": BASE_NANOS + state.clock,
        });
        let line = format!("{event}\n");
        let chunk = format!("{:x}\r\n{line}\r\n", line.len());
        state.listeners.retain_mut(|stream| stream.write_all(chunk.as_bytes()).is_ok());
    }
}

/// 2026-11-21T00:00:00Z
const BASE_NANOS: u64 = 1_795_219_200_000_000_000;

fn answer(mut stream: UnixStream, shared: &Mutex<State>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(request)) = lines.next() else { return };
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let path = request.split(' ').nth(1).unwrap_or_default();
    assert!(request.starts_with("GET "), "{request}");
    if path.starts_with("/events") {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        return shared.lock().unwrap().listeners.push(stream);
    }
    let state = shared.lock().unwrap();
    let body = match path.strip_prefix("/containers/").and_then(|rest| rest.strip_suffix("/json")) {
        Some(id) => state.containers.get(id).map(|recorded| inspection(id, recorded)),
        None if path == "/containers/json" => {
            let ids = state.containers.keys().map(|id| json!({ "Id": id }));
            Some(serde_json::Value::from_iter(ids))
        }
        None if path == "/version" => Some(json!({ "Version": "1" })),
        None => None,
    };
    drop(state);
    let (status, body) = match body {
        Some(body) => ("200 OK", body.to_string()),
        None => ("404 Not Found", "{}".to_owned()),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = stream.write_all((head + &body).as_bytes());
}

/// With what Docker says beside what matters, so that reading it costs what it costs there.
fn inspection(id: &str, recorded: &Recorded) -> serde_json::Value {
    let (address, port) = recorded.address.split_once(':').unwrap();
    let nanos = recorded.started;
    let service = &recorded.service;
    json!({
        "Id": id, "Name": format!("/{service}-{}", &id[..12]), "Image": "sha256:0",
        "State": { "Status": "running", "Running": true, "Pid": 0,
            "StartedAt": format!("2026-11-21T00:00:00.{nanos:09}Z") },
        "HostConfig": { "NetworkMode": "front", "Memory": 0, "Binds": vec!["/a:/b:ro"; 8],
            "MaskedPaths": vec!["/proc/kcore"; 12], "ReadonlyPaths": vec!["/proc/bus"; 8] },
        "Config": { "Hostname": &id[..12], "Env": vec!["PATH=/usr/local/sbin:/usr/bin"; 12],
            "Image": "image", "ExposedPorts": { format!("{port}/tcp"): {} },
            "Labels": { "evenkeel.service": service, "evenkeel.host": format!("{service}.example"),
                "evenkeel.health": "off",
                "com.docker.compose.project": "shop", "com.docker.compose.service": service,
                "org.opencontainers.image.description": "words ".repeat(40) } },
        "NetworkSettings": { "Ports": {}, "Networks": { "front": { "IPAddress": address } } },
    })
}
