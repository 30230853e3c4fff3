//! Consul's key-value store and sessions over its HTTP API: a session for each instance, whose end
//! deletes the key that it holds, and blocking queries by `X-Consul-Index`.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::{Method, StatusCode};
use registry::Instance;
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;

use super::{Event, PATIENCE, TOMBSTONE, Value, parse_key, parse_value};
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
    pub(crate) fn new(url: &str, token: Option<&str>, prefix: &str) -> Result<Self, String> {
        let authority = Authority::parse(url, PORT)?;
        let client = || Client::new(authority.clone()).with_token(token);
        Ok(Self { client: client()?, watching: client()?, prefix: prefix.to_owned() })
    }

    pub(crate) async fn put(&self, instance: &Instance) -> Result<(), String> {
        // Text, numbers, and maps with text as keys: this cannot fail.
        let value = serde_json::to_vec(instance).unwrap_or_default();
        self.put_value(&instance.service, &instance.id, value, instance.ttl()).await
    }

    pub(crate) async fn leave(&self, service: &str, id: &str) -> Result<(), String> {
        let value = TOMBSTONE.as_bytes().to_vec();
        self.put_value(service, id, value, SESSION_TTL.0).await
    }

    async fn put_value(
        &self,
        service: &str,
        id: &str,
        value: Vec<u8>,
        ttl: Duration,
    ) -> Result<(), String> {
        let held = self.session(service, id).await?;
        let session = match held {
            Some(session) if self.renew_session(&session).await? => session,
            _ => self.new_session(service, id, ttl).await?,
        };
        let path = format!("/v1/kv/{}{service}/{id}?acquire={session}", self.prefix);
        let reply = self.ask(Method::PUT, &path, value).await?;
        match reply.json() {
            Json::Bool(true) => Ok(()),
            // Another balancer was quicker; the next heartbeat tries again.
            _ => Err(format!("the key of {id} is held by another session")),
        }
    }

    pub(crate) async fn renew(&self, instance: &Instance) -> Result<bool, String> {
        match self.session(&instance.service, &instance.id).await? {
            Some(session) => self.renew_session(&session).await,
            None => Ok(false),
        }
    }

    /// That of the key, if it is there and held.
    async fn session(&self, service: &str, id: &str) -> Result<Option<String>, String> {
        let path = format!("/v1/kv/{}{service}/{id}", self.prefix);
        let ask = Ask { method: Method::GET, path: &path, body: Vec::new(), within: PATIENCE };
        let reply = self.client.ask(&ask).await?;
        match reply.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                Ok(reply.json()[0]["Session"].as_str().map(str::to_owned))
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

    /// As [`super::etcd::Etcd::watch`].
    pub(crate) async fn watch(&self, events: &mpsc::Sender<Event>) -> (String, bool) {
        let (mut index, mut synced) = (0, false);
        loop {
            let told = self.look(&mut index, events).await;
            match told {
                Ok(()) => synced = true,
                Err(why) => return (why, synced),
            }
        }
    }

    /// What there is, once it is other than at `index`.
    async fn look(&self, index: &mut u64, events: &mpsc::Sender<Event>) -> Result<(), String> {
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
        for event in self.read(&reply.json()) {
            events.send(event).await.map_err(|_| "nobody listens".to_owned())?;
        }
        Ok(())
    }

    /// Who left, and then all there is.
    fn read(&self, pairs: &Json) -> Vec<Event> {
        let (mut instances, mut told) = (Vec::new(), Vec::new());
        for pair in pairs.as_array().map(Vec::as_slice).unwrap_or_default() {
            let key = pair["Key"].as_str().and_then(|key| parse_key(key, &self.prefix));
            let Some((service, id)) = key else { continue };
            let value = STANDARD.decode(pair["Value"].as_str().unwrap_or_default());
            let value = value.ok().and_then(|value| parse_value(service, id, &value));
            match value {
                // Without a session nothing would ever take it out.
                Some(Value::Instance(instance)) if pair["Session"].is_string() => {
                    instances.push((pair["ModifyIndex"].as_u64().unwrap_or(0), *instance));
                }
                Some(Value::Tombstone) => {
                    told.push(Event::Left { service: service.to_owned(), id: id.to_owned() });
                }
                _ => {}
            }
        }
        instances.sort_by_key(|(index, _)| *index);
        told.push(Event::Synced(instances.into_iter().map(|(_, instance)| instance).collect()));
        told
    }
}

#[cfg(test)]
mod tests {
    use registry::Registration;

    use super::*;

    #[test]
    fn what_a_list_of_keys_says() {
        let consul = Consul::new("http://127.0.0.1:1", None, "p/").unwrap();
        let pair = |id: &str, value: &[u8], session: Json, index: u64| {
            json!({ "Key": format!("p/web/{id}"), "Value": STANDARD.encode(value),
                    "Session": session, "ModifyIndex": index })
        };
        let instance = |id: &str| {
            let made = Instance::new("web", Registration::on(80), id, [10, 0, 0, 1].into());
            serde_json::to_vec(&made.unwrap()).unwrap()
        };
        let events = consul.read(&json!([
            pair("a", &instance("a"), json!("s1"), 9),
            pair("b", &instance("b"), json!("s2"), 4),
            pair("c", &instance("c"), Json::Null, 5),
            pair("d", TOMBSTONE.as_bytes(), json!("s3"), 6),
            pair("e", &instance("a"), json!("s4"), 7),
            { "Key": "p/", "Value": Json::Null },
        ]));
        assert!(matches!(&events[0], Event::Left { id, .. } if id == "d"));
        let Event::Synced(all) = &events[1] else { panic!("{events:?}") };
        assert_eq!(all.iter().map(|i| &*i.id).collect::<Vec<_>>(), ["b", "a"]);
        let none = consul.read(&Json::Null);
        assert!(matches!(&none[..], [Event::Synced(all)] if all.is_empty()));
    }
}
