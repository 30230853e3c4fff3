//! A fake of Consul's HTTP API: its key-value store, sessions and blocking queries, as its
//! documentation describes them. It is no Consul: there is no consensus, no catalogue and no ACL.
//!
//! - `PUT /v1/session/create` with `TTL`, `Behavior` and `LockDelay`; `PUT /v1/session/renew/ID`
//!   answers 404 for one that ended. A TTL below 10 s is refused with 400, as there. So that tests
//!   do not last minutes, time runs three times as fast for sessions.
//! - The end of a session with `Behavior: delete` deletes the keys that it locked.
//! - `PUT /v1/txn` with `lock`, `check-index` and `check-not-exists`: all of them or none; 409 says
//!   by `OpIndex` which one did not go.
//! - `GET /v1/kv/PREFIX?recurse&index=N&wait=10s` waits until the index is above N; answers 404
//!   where there is nothing, with `X-Consul-Index` in each answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::replica::{Replica, Seen};
use super::wait::pause;

/// Sessions live so much shorter than they say.
const HASTE: u32 = 3;

pub struct ConsulFake {
    pub replica: Replica,
    state: Arc<Mutex<State>>,
}

struct State {
    index: u64,
    sessions: BTreeMap<String, Session>,
    pairs: BTreeMap<String, Pair>,
    /// Nothing is answered.
    hangs: bool,
    /// Who does not show it gets 403. It stands for an ACL that lets its holder do everything.
    token: Option<String>,
}

struct Session {
    ttl: Duration,
    until: Instant,
    deletes: bool,
}

struct Pair {
    value: Vec<u8>,
    session: Option<String>,
    modified: u64,
}

impl ConsulFake {
    pub fn start() -> ConsulFake {
        let state = Arc::new(Mutex::new(State {
            index: 100,
            sessions: BTreeMap::new(),
            pairs: BTreeMap::new(),
            hangs: false,
            token: None,
        }));
        let answering = state.clone();
        let replica = Replica::http(move |seen| answer(&answering, seen));
        ConsulFake { replica, state }
    }

    pub fn hang(&self, hangs: bool) {
        self.state.lock().unwrap().hangs = hangs;
    }

    pub fn demand_token(&self, token: &str) {
        self.state.lock().unwrap().token = Some(token.to_owned());
    }

    /// As after the servers were restored from a snapshot: the index goes backwards.
    pub fn set_back(&self) {
        let mut state = self.state.lock().unwrap();
        state.index = 1;
        state.pairs.values_mut().for_each(|pair| pair.modified = 1);
    }

    pub fn end_sessions(&self) {
        let mut state = self.state.lock().unwrap();
        for session in state.sessions.values_mut() {
            session.until = Instant::now();
        }
        state.expire();
    }

    pub fn keys(&self) -> Vec<String> {
        self.state.lock().unwrap().pairs.keys().cloned().collect()
    }
}

impl State {
    fn expire(&mut self) {
        let now = Instant::now();
        let is_over = |session: &Session| session.until <= now;
        let ended: Vec<String> = self
            .sessions
            .iter()
            .filter(|(_, session)| is_over(session))
            .map(|(id, _)| id.clone())
            .collect();
        for id in ended {
            let deletes = self.sessions.remove(&id).is_some_and(|session| session.deletes);
            let count = self.pairs.len();
            if deletes {
                self.pairs.retain(|_, pair| pair.session.as_ref() != Some(&id));
            }
            if self.pairs.len() < count {
                self.index += 1;
            }
        }
    }

    /// The result of each operation, or which one did not go.
    fn transact(&mut self, operations: &[Value]) -> Result<Value, Value> {
        let refused = |index: usize, what: &str| json!({ "OpIndex": index, "What": what });
        // Ours check before they lock, so that what is refused has changed nothing.
        let mut results = Vec::new();
        for (index, operation) in operations.iter().enumerate() {
            let operation = &operation["KV"];
            let key = operation["Key"].as_str().unwrap();
            let modified = self.pairs.get(key).map(|pair| pair.modified);
            match operation["Verb"].as_str().unwrap() {
                "check-index" if modified != operation["Index"].as_u64() => {
                    return Err(refused(index, "current modify index does not match"));
                }
                "check-not-exists" if modified.is_some() => {
                    return Err(refused(index, "key exists"));
                }
                "check-index" | "check-not-exists" => {}
                "lock" => {
                    let session = operation["Session"].as_str().unwrap();
                    let holder = self.pairs.get(key).and_then(|pair| pair.session.clone());
                    let is_others = holder.is_some_and(|holder| holder != session);
                    if is_others || !self.sessions.contains_key(session) {
                        return Err(refused(index, "failed to lock key, lock is already held"));
                    }
                    self.index += 1;
                    let value = STANDARD.decode(operation["Value"].as_str().unwrap()).unwrap();
                    let (session, modified) = (Some(session.to_owned()), self.index);
                    self.pairs.insert(key.to_owned(), Pair { value, session, modified });
                    results.push(json!({ "KV": { "Key": key, "ModifyIndex": modified } }));
                }
                other => panic!("the fake knows no {other}"),
            }
        }
        Ok(Value::Array(results))
    }

    fn create(&mut self, seen: &Seen) -> Result<Value, &'static str> {
        let asked: Value = serde_json::from_slice(&seen.body).unwrap();
        let ttl = asked["TTL"].as_str().unwrap().strip_suffix('s').unwrap().parse().unwrap();
        if !(10..=86_400).contains(&ttl) {
            return Err("Invalid Session TTL");
        }
        assert_eq!(asked["LockDelay"], "0s");
        self.index += 1;
        let id = format!("00000000-0000-0000-0000-{:012}", self.index);
        let ttl = Duration::from_secs(ttl) / HASTE;
        let deletes = asked["Behavior"] == "delete";
        let session = Session { ttl, until: Instant::now() + ttl, deletes };
        self.sessions.insert(id.clone(), session);
        Ok(json!({ "ID": id }))
    }

    fn list(&self, prefix: &str, recurse: bool) -> Vec<Value> {
        let fits = |key: &&String| if recurse { key.starts_with(prefix) } else { *key == prefix };
        self.pairs
            .iter()
            .filter(|(key, _)| fits(key))
            .map(|(key, pair)| {
                let mut value = json!({
                    "Key": key, "Value": STANDARD.encode(&pair.value), "Flags": 0,
                    "CreateIndex": pair.modified, "ModifyIndex": pair.modified,
                    "LockIndex": u64::from(pair.session.is_some()),
                });
                if let Some(session) = &pair.session {
                    value["Session"] = json!(session);
                }
                value
            })
            .collect()
    }
}

fn answer(state: &Mutex<State>, seen: &Seen) -> Vec<u8> {
    let mut line = seen.line().split(' ');
    let (method, target) = (line.next().unwrap(), line.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name));
    let begun = Instant::now();
    while state.lock().unwrap().hangs {
        pause();
    }
    let mut locked = state.lock().unwrap();
    locked.expire();
    let shown = format!("Bearer {}", locked.token.clone().unwrap_or_default());
    if locked.token.is_some() && seen.header("authorization") != Some(shown.as_str()) {
        return written(403, locked.index, "Permission denied");
    }
    if (method, path) == ("PUT", "/v1/txn") {
        let operations: Vec<Value> = serde_json::from_slice(&seen.body).unwrap();
        let (status, answer) = match locked.transact(&operations) {
            Ok(results) => (200, json!({ "Results": results, "Errors": null })),
            Err(error) => (409, json!({ "Results": null, "Errors": [error] })),
        };
        return written(status, locked.index, &answer.to_string());
    }
    let path = path.strip_prefix("/v1/").unwrap();
    match (method, path.split_once('/').unwrap()) {
        ("PUT", ("session", "create")) => match locked.create(seen) {
            Ok(made) => written(200, locked.index, &made.to_string()),
            Err(why) => written(400, locked.index, why),
        },
        ("PUT", ("session", rest)) => {
            let id = rest.strip_prefix("renew/").unwrap();
            let index = locked.index;
            match locked.sessions.get_mut(id) {
                Some(session) => {
                    session.until = Instant::now() + session.ttl;
                    written(200, index, "[]")
                }
                None => written(404, index, "Session id not found"),
            }
        }
        ("GET", ("kv", key)) => {
            let known: u64 = value("index=").map_or(0, |index| index.parse().unwrap());
            let wait = value("wait=").map_or(0, |wait| wait.trim_end_matches('s').parse().unwrap());
            while known > 0 && locked.index == known && begun.elapsed().as_secs() < wait {
                drop(locked);
                pause();
                locked = state.lock().unwrap();
                locked.expire();
            }
            let listed = locked.list(key, query.split('&').any(|part| part == "recurse"));
            let status = if listed.is_empty() { 404 } else { 200 };
            written(status, locked.index, &Value::Array(listed).to_string())
        }
        other => panic!("the fake knows no {other:?}"),
    }
}

fn written(status: u16, index: u64, body: &str) -> Vec<u8> {
    let body = if status == 404 { "" } else { body };
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Said\r\nX-Consul-Index: {index}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
