//! Consul's key-value store and sessions over its HTTP API: a session for each instance, whose end
//! deletes the key that it holds, and blocking queries by `X-Consul-Index`.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::{Method, StatusCode};
use registry::Instance;
use serde_json::{Value as Json, json};
use tls::Dialler;
use tokio::sync::mpsc;

use super::{All, Event, Leave, PATIENCE, Value, Write, parse_key, parse_value};
use crate::client::{Ask, Authority, Client, Reply};

/// Where Consul listens for HTTP.
const PORT: u16 = 8500;
/// What one blocking query waits. Consul adds up to a sixteenth of it.
const WAIT: Duration = Duration::from_secs(5);
/// What it may take beyond that: a partition sends no sign.
const WAIT_SLACK: Duration = Duration::from_secs(3);
/// The shortest and longest that Consul takes for a session; it may last twice as long.
const SESSION_TTL: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(86_400));

pub(crate) struct Consul {
    client: Client,
    /// Blocking queries hold their connection.
    watching: Client,
    prefix: String,
}

impl Consul {
    pub(crate) fn new(
        url: &str,
        token: Option<&str>,
        prefix: &str,
        tls: &Arc<Dialler>,
    ) -> Result<Self, String> {
        let authority = Authority::parse(url, PORT)?;
        let client = || Client::new(authority.clone()).with_tls(tls)?.with_token(token);
        Ok(Self { client: client()?, watching: client()?, prefix: prefix.to_owned() })
    }

    /// Writes under a session; over something only where the key was changed last then, or is not
    /// there, which Consul checks and does in one (its documentation, "Transactions").
    pub(super) async fn write(&self, write: &Write<'_>) -> Result<Option<u64>, String> {
        let Write { service, id, value, ttl, over } = *write;
        let key = format!("{}{service}/{id}", self.prefix);
        let held = self.look_up(service, id).await?;
        let check = match (over, &held) {
            (None, _) => None,
            (Some(_), None) => Some(json!({ "KV": { "Verb": "check-not-exists", "Key": key } })),
            (Some(of), Some(held)) if held.index == of => {
                Some(json!({ "KV": { "Verb": "check-index", "Key": key, "Index": of } }))
            }
            (Some(_), Some(_)) => return Ok(None),
        };
        let session = match held.and_then(|held| held.session) {
            Some(session) if self.renew_session(&session).await? => session,
            _ => self.new_session(service, id, ttl).await?,
        };
        let lock = json!({ "KV": { "Verb": "lock", "Key": key, "Session": session,
                                   "Value": STANDARD.encode(value) } });
        let is_checked = check.is_some();
        let operations = Json::Array(check.into_iter().chain([lock]).collect());
        let (body, path) = (operations.to_string().into_bytes(), "/v1/txn");
        let ask = Ask { method: Method::PUT, path, body, within: PATIENCE };
        let reply = self.client.ask(&ask).await?;
        let answer = reply.json();
        match reply.status {
            StatusCode::CONFLICT if is_checked && answer["Errors"][0]["OpIndex"] == 0 => Ok(None),
            // Another balancer was quicker; the next heartbeat tries again.
            StatusCode::CONFLICT => Err(format!("the key of {id} is held by another session")),
            status if status.is_success() => {
                let results = answer["Results"].as_array().map(Vec::as_slice).unwrap_or_default();
                let index = results.last().and_then(|last| last["KV"]["ModifyIndex"].as_u64());
                index.map(Some).ok_or_else(|| "Consul answered without a ModifyIndex".to_owned())
            }
            _ => Err(reply.refusal()),
        }
    }

    pub(super) async fn renew(&self, instance: &Instance) -> Result<bool, String> {
        let held = self.look_up(&instance.service, &instance.id).await?;
        match held.and_then(|held| held.session) {
            Some(session) => self.renew_session(&session).await,
            None => Ok(false),
        }
    }

    async fn look_up(&self, service: &str, id: &str) -> Result<Option<HeldKey>, String> {
        let path = format!("/v1/kv/{}{service}/{id}", self.prefix);
        let ask = Ask { method: Method::GET, path: &path, body: Vec::new(), within: PATIENCE };
        let reply = self.client.ask(&ask).await?;
        match reply.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                let pair = &reply.json()[0];
                let index = pair["ModifyIndex"].as_u64().unwrap_or(0);
                Ok(Some(HeldKey { session: pair["Session"].as_str().map(str::to_owned), index }))
            }
            _ => Err(reply.refusal()),
        }
    }

    async fn new_session(&self, service: &str, id: &str, ttl: Duration) -> Result<String, String> {
        let ttl = ttl.clamp(SESSION_TTL.0, SESSION_TTL.1).as_secs();
        let session = json!({
            "Name": format!("evenkeel {service}/{id}"),
            "TTL": format!("{ttl}s"),
            "Behavior": "delete",
            // One that comes back shall not wait until its own former lock is forgotten.
            "LockDelay": "0s",
        });
        let reply = self.ask(Method::PUT, "/v1/session/create", session.to_string().into()).await?;
        let made = reply.json()["ID"].as_str().map(str::to_owned);
        made.ok_or_else(|| "Consul made a session without an id".to_owned())
    }

    /// Answers whether there is such a session.
    async fn renew_session(&self, session: &str) -> Result<bool, String> {
        let path = format!("/v1/session/renew/{session}");
        let ask = Ask { method: Method::PUT, path: &path, body: Vec::new(), within: PATIENCE };
        let reply = self.client.ask(&ask).await?;
        match reply.status {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            _ => Err(reply.refusal()),
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Reply, String> {
        let reply = self.client.ask(&Ask { method, path, body, within: PATIENCE }).await?;
        if reply.status.is_success() { Ok(reply) } else { Err(reply.refusal()) }
    }

    /// As [`super::Kind::watch`].
    pub(super) async fn watch(&self, highest: u64, events: &mpsc::Sender<Event>) -> (String, bool) {
        let (mut index, mut synced) = (0, false);
        loop {
            let known = if synced { index } else { highest };
            let told = self.look(&mut index, known, events).await;
            match told {
                Ok(()) => synced = true,
                Err(why) => return (why, synced),
            }
        }
    }

    /// What there is, once it is other than at `index`; below `known` Consul counts anew.
    async fn look(
        &self,
        index: &mut u64,
        known: u64,
        events: &mpsc::Sender<Event>,
    ) -> Result<(), String> {
        let wait = WAIT.as_secs();
        let path = match *index {
            0 => format!("/v1/kv/{}?recurse", self.prefix),
            index => format!("/v1/kv/{}?recurse&index={index}&wait={wait}s", self.prefix),
        };
        let within = if *index == 0 { PATIENCE } else { WAIT + WAIT / 16 + WAIT_SLACK };
        let ask = Ask { method: Method::GET, path: &path, body: Vec::new(), within };
        let reply = self.watching.ask(&ask).await?;
        if !reply.status.is_success() && reply.status != StatusCode::NOT_FOUND {
            return Err(reply.refusal());
        }
        let told = reply.headers.get("x-consul-index").and_then(|value| value.to_str().ok());
        let told: u64 = told.and_then(|text| text.parse().ok()).unwrap_or(0);
        if told == 0 {
            return Err("Consul answered without X-Consul-Index".into());
        }
        // Consul's documentation: an index that goes backwards begins anew, at 0.
        let unchanged = told == *index;
        *index = if told < *index { 0 } else { told };
        if unchanged {
            return events.send(Event::Alive).await.map_err(|_| "nobody listens".to_owned());
        }
        let all = self.read(&reply.json(), told, told < known);
        events.send(Event::Synced(all)).await.map_err(|_| "nobody listens".to_owned())
    }

    fn read(&self, pairs: &Json, number: u64, counts_anew: bool) -> All {
        let (mut held, mut left) = (Vec::new(), Vec::new());
        for pair in pairs.as_array().map(Vec::as_slice).unwrap_or_default() {
            let key = pair["Key"].as_str().and_then(|key| parse_key(key, &self.prefix));
            let Some((service, id)) = key else { continue };
            let value = STANDARD.decode(pair["Value"].as_str().unwrap_or_default());
            let value = value.ok().and_then(|value| parse_value(service, id, &value));
            let number = pair["ModifyIndex"].as_u64().unwrap_or(0);
            match value {
                // Without a session nothing would ever take it out.
                Some(Value::Instance(instance)) if pair["Session"].is_string() => {
                    held.push((number, *instance));
                }
                Some(Value::Tombstone { of }) => {
                    let (service, id) = (service.to_owned(), id.to_owned());
                    left.push(Leave { service, id, number, of });
                }
                _ => {}
            }
        }
        held.sort_by_key(|(number, _)| *number);
        All { number, counts_anew, held, left }
    }
}

/// What is known of a key that is there.
struct HeldKey {
    session: Option<String>,
    index: u64,
}

#[cfg(test)]
mod tests {
    use registry::Registration;

    use super::super::tombstone;
    use super::*;

    #[test]
    fn what_a_list_of_keys_says() {
        let consul = Consul::new("http://127.0.0.1:1", None, "p/", &Arc::default()).unwrap();
        let pair = |id: &str, value: &[u8], session: Json, index: u64| {
            json!({ "Key": format!("p/web/{id}"), "Value": STANDARD.encode(value),
                    "Session": session, "ModifyIndex": index })
        };
        let instance = |id: &str| {
            let made = Instance::new("web", Registration::on(80), id, [10, 0, 0, 1].into());
            serde_json::to_vec(&made.unwrap()).unwrap()
        };
        let pairs = json!([
            pair("a", &instance("a"), json!("s1"), 9),
            pair("b", &instance("b"), json!("s2"), 4),
            pair("c", &instance("c"), Json::Null, 5),
            pair("d", &tombstone(3), json!("s3"), 6),
            pair("e", &instance("a"), json!("s4"), 7),
            { "Key": "p/", "Value": Json::Null },
        ]);
        let all = consul.read(&pairs, 9, false);
        assert!(matches!(&all.left[..], [Leave { id, number: 6, of: Some(3), .. }] if id == "d"));
        let held: Vec<(u64, &str)> = all.held.iter().map(|(n, i)| (*n, &*i.id)).collect();
        assert_eq!(held, [(4, "b"), (9, "a")]);
        assert!(consul.read(&Json::Null, 9, false).held.is_empty());
    }
}
