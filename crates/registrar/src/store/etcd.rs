//! etcd's version 3 API through its JSON gateway (etcd documentation, "gRPC gateway"): keys and
//! values in base64, 64-bit numbers as text.

mod member;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use hyper::Method;
use registry::Instance;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use tls::Dialler;
use tokio::sync::mpsc;
use tokio::time::interval;

use self::member::{Failure, Member};
use super::{All, Event, Leave, PATIENCE, Value, Write, parse_key, parse_value};
use crate::client::Ask;

pub(crate) use self::member::User;

/// For one answer of a member while there are others to ask: three fit in `PATIENCE`.
const MEMBER_PATIENCE: Duration = Duration::from_millis(900);
/// How often the member that is watched is asked whether it is there: a partition sends no sign.
const PING: Duration = Duration::from_secs(1);
/// Of one message of a watch. etcd sends up to 1.5 MiB of keys and values in one, by its default.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

pub(crate) struct Etcd {
    members: Vec<Member>,
    /// The member that is asked first: it answered last, or those before it did not.
    preferred: AtomicUsize,
    prefix: String,
    user: Option<User>,
}

impl Etcd {
    pub(crate) fn new(
        endpoints: &[String],
        prefix: &str,
        tls: &Arc<Dialler>,
        user: Option<User>,
    ) -> Result<Self, String> {
        let members = endpoints.iter().map(|text| Member::new(text, tls));
        let members = members.collect::<Result<Vec<_>, _>>()?;
        if members.is_empty() {
            return Err("`etcd.endpoints` is empty".into());
        }
        Ok(Self { members, preferred: AtomicUsize::new(0), prefix: prefix.to_owned(), user })
    }

    /// Of the first member that answers, beginning with the preferred one.
    async fn ask(&self, path: &str, body: &Json) -> Result<Json, String> {
        let mut last = String::new();
        let mut others = self.members.len();
        for (index, member) in self.in_turn() {
            others -= 1;
            let within = if others > 0 { MEMBER_PATIENCE } else { PATIENCE };
            match member.ask(self.user.as_ref(), path, body, within).await {
                Ok(answer) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(Failure::Refused(why)) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Err(why);
                }
                Err(Failure::Away(why)) => {
                    self.pass_over(index);
                    last = why;
                }
            }
        }
        Err(last)
    }

    /// Each member once, from the preferred one on.
    fn in_turn(&self) -> impl Iterator<Item = (usize, &Member)> {
        let first = self.preferred.load(Ordering::Relaxed);
        self.members.iter().enumerate().cycle().skip(first).take(self.members.len())
    }

    /// The next one is preferred, unless it is another than this already. Whoever asks may run out
    /// of time before somebody answers; the next one goes on from there.
    fn pass_over(&self, index: usize) {
        let next = (index + 1) % self.members.len();
        let (set, failed) = (Ordering::Relaxed, Ordering::Relaxed);
        let _ = self.preferred.compare_exchange(index, next, set, failed);
    }

    pub(super) async fn write(&self, write: &Write<'_>) -> Result<Option<u64>, String> {
        let put = self.leased(write).await?;
        match write.over {
            None => revision(&self.ask("/v3/kv/put", &put).await?).map(Some),
            Some(of) => self.put_over(of, &put).await,
        }
    }

    /// What puts a value under a lease that there is.
    async fn leased(&self, write: &Write<'_>) -> Result<Json, String> {
        let Write { service, id, value, ttl, .. } = *write;
        let lease = lease(service, id, ttl);
        let grant = json!({ "ID": lease, "TTL": seconds(ttl) });
        match self.ask("/v3/lease/grant", &grant).await {
            Ok(_) => {}
            // It has it from before: then it is to begin anew.
            Err(why) if why.contains("already exists") => {
                self.keep_alive(&lease).await?;
            }
            Err(why) => return Err(why),
        }
        let key = self.key(service, id);
        Ok(json!({ "key": key, "value": STANDARD.encode(value), "lease": lease }))
    }

    /// Puts where the key was changed last at `of`, or is not there. It cannot be there at `of`
    /// again once it is gone, so that two questions are as good as one.
    async fn put_over(&self, of: u64, put: &Json) -> Result<Option<u64>, String> {
        // A key that is not there has revision 0 (etcd documentation, "Transaction").
        let mut wanted = vec![of, 0];
        wanted.dedup();
        for of in wanted {
            let compare = json!({ "key": put["key"], "target": "MOD", "result": "EQUAL",
                                  "mod_revision": of.to_string() });
            let txn = json!({ "compare": [compare], "success": [{ "request_put": put }] });
            let answer = self.ask("/v3/kv/txn", &txn).await?;
            if answer["succeeded"] == true {
                return revision(&answer).map(Some);
            }
        }
        Ok(None)
    }

    pub(super) async fn renew(&self, instance: &Instance) -> Result<bool, String> {
        self.keep_alive(&lease(&instance.service, &instance.id, instance.ttl())).await
    }

    /// Answers whether there is such a lease.
    async fn keep_alive(&self, lease: &str) -> Result<bool, String> {
        let answer = self.ask("/v3/lease/keepalive", &json!({ "ID": lease })).await?;
        Ok(number(&answer["result"]["TTL"]) > 0)
    }

    /// As [`super::Kind::watch`].
    pub(super) async fn watch(&self, highest: u64, events: &mpsc::Sender<Event>) -> (String, bool) {
        let mut last = String::new();
        for (index, member) in self.in_turn() {
            let mut synced = false;
            let ended = self.watch_member(member, highest, events, &mut synced).await;
            self.pass_over(index);
            last = ended.err().unwrap_or_else(|| "the watch ended".to_owned());
            if synced {
                return (last, true);
            }
        }
        (last, false)
    }

    async fn watch_member(
        &self,
        member: &Member,
        highest: u64,
        events: &mpsc::Sender<Event>,
        synced: &mut bool,
    ) -> Result<(), String> {
        let range = json!({ "key": STANDARD.encode(&self.prefix), "range_end": self.range_end(),
                            "sort_target": "MOD", "sort_order": "ASCEND" });
        let all = member.ask(self.user.as_ref(), "/v3/kv/range", &range, PATIENCE).await?;
        let revision = revision(&all)?;
        let pairs = all["kvs"].as_array().map(Vec::as_slice).unwrap_or_default();
        let (mut held, mut left) = (Vec::new(), Vec::new());
        for Pair { service, id, number, value } in pairs.iter().filter_map(|pair| self.parse(pair))
        {
            match value {
                Some(Value::Instance(instance)) => held.push((number, *instance)),
                Some(Value::Tombstone { of }) => left.push(Leave { service, id, number, of }),
                None => {}
            }
        }
        let counts_anew = revision < highest;
        let synced_with = All { number: revision, counts_anew, held, left };
        let told = events.send(Event::Synced(synced_with)).await;
        told.map_err(|_| "nobody listens".to_owned())?;
        *synced = true;

        let create = json!({ "create_request": {
            "key": STANDARD.encode(&self.prefix), "range_end": self.range_end(),
            "start_revision": (revision + 1).to_string(),
        } });
        let ask_watch = Ask {
            method: Method::POST,
            path: "/v3/watch",
            body: create.to_string().into_bytes(),
            within: PATIENCE,
        };
        let mut body = member.client.stream(&ask_watch).await?.into_body();
        let mut pending = Vec::new();
        let mut ping = interval(PING);
        loop {
            tokio::select! {
                frame = body.frame() => {
                    let Some(frame) = frame else { return Err("the watch ended".into()) };
                    let Ok(bytes) = frame.map_err(|error| error.to_string())?.into_data() else {
                        continue;
                    };
                    pending.extend_from_slice(&bytes);
                    self.take_messages(&mut pending, events).await?;
                }
                // Also keeps what is known from looking fresh when the member hangs.
                _ = ping.tick() => {
                    let count = json!({ "key": STANDARD.encode(&self.prefix), "count_only": true });
                    member.ask(self.user.as_ref(), "/v3/kv/range", &count, PATIENCE).await?;
                    events.send(Event::Alive).await.map_err(|_| "nobody listens".to_owned())?;
                }
            }
        }
    }

    async fn take_messages(
        &self,
        pending: &mut Vec<u8>,
        events: &mpsc::Sender<Event>,
    ) -> Result<(), String> {
        let mut taken = 0;
        while let Some(length) = pending[taken..].iter().position(|byte| *byte == b'\n') {
            let message: Json = serde_json::from_slice(&pending[taken..taken + length])
                .map_err(|error| format!("etcd sent what is no message: {error}"))?;
            taken += length + 1;
            self.take_message(&message, events).await?;
        }
        pending.drain(..taken);
        if pending.len() > MESSAGE_BYTES_MAX {
            return Err("etcd sent a message that is too long".into());
        }
        Ok(())
    }

    async fn take_message(
        &self,
        message: &Json,
        events: &mpsc::Sender<Event>,
    ) -> Result<(), String> {
        if let Some(error) = message.get("error") {
            return Err(format!("etcd ended the watch: {error}"));
        }
        let result = &message["result"];
        // "required revision has been compacted": what lay between is lost, so all is read again.
        if result["canceled"] == true {
            let compacted = number(&result["compact_revision"]);
            let reason = result["cancel_reason"].as_str().unwrap_or_default();
            return Err(format!("etcd cancelled the watch (compacted at {compacted}): {reason}"));
        }
        for event in result["events"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let Some(Pair { service, id, number, value }) = self.parse(&event["kv"]) else {
                continue;
            };
            let told = match (event["type"].as_str(), value) {
                (Some("DELETE"), _) => Event::Gone { service, id, number },
                (_, Some(Value::Instance(instance))) => Event::Held(number, instance),
                (_, Some(Value::Tombstone { of })) => {
                    Event::Left(Leave { service, id, number, of })
                }
                (_, None) => continue,
            };
            events.send(told).await.map_err(|_| "nobody listens".to_owned())?;
        }
        Ok(())
    }

    /// `None`: the key is none of ours.
    fn parse(&self, pair: &Json) -> Option<Pair> {
        let key = STANDARD.decode(pair["key"].as_str()?).ok()?;
        let (service, id) = parse_key(str::from_utf8(&key).ok()?, &self.prefix)?;
        let value = STANDARD.decode(pair["value"].as_str().unwrap_or_default()).ok();
        let value = value.and_then(|value| parse_value(service, id, &value));
        let number = number(&pair["mod_revision"]);
        Some(Pair { service: service.to_owned(), id: id.to_owned(), number, value })
    }

    fn key(&self, service: &str, id: &str) -> String {
        STANDARD.encode(format!("{}{service}/{id}", self.prefix))
    }

    /// The first key after all that begin with the prefix: its last byte that is not the highest,
    /// plus one.
    fn range_end(&self) -> String {
        let mut end = self.prefix.clone().into_bytes();
        while end.last() == Some(&u8::MAX) {
            end.pop();
        }
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        STANDARD.encode(end)
    }
}

/// A key and what it holds, since the revision `number`.
struct Pair {
    service: String,
    id: String,
    number: u64,
    value: Option<Value>,
}

/// The lease of an instance: a number that every balancer finds for itself, so that whoever hears
/// the instance can renew it. With the TTL in it, since that of a lease cannot be changed.
fn lease(service: &str, id: &str, ttl: Duration) -> String {
    let digest = Sha256::digest(format!("{service}/{id}/{}", seconds(ttl)));
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    // Above zero, which means "choose one", and below 2^63.
    ((u64::from_be_bytes(bytes) >> 1) | 1).to_string()
}

/// etcd counts in whole seconds.
fn seconds(ttl: Duration) -> u64 {
    ttl.as_millis().div_ceil(1000) as u64
}

/// Of an answer: that of the change, or of what was looked at.
fn revision(answer: &Json) -> Result<u64, String> {
    match number(&answer["header"]["revision"]) {
        0 => Err("etcd answered without a revision".into()),
        revision => Ok(revision),
    }
}

/// 0: it is none.
fn number(value: &Json) -> u64 {
    match value {
        Json::String(text) => text.parse().unwrap_or(0),
        value => value.as_u64().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use hyper::StatusCode;
    use model::spec::{SecretSpec, StoreUser};
    use registry::Registration;
    use tokio::sync::Barrier;
    use tokio::task::JoinSet;

    use super::super::fake_etcd::{member, serve};
    use super::super::{in_time, tombstone};
    use super::*;

    fn over(endpoints: &[String]) -> Result<Etcd, String> {
        Etcd::new(endpoints, "p/", &Arc::default(), None)
    }

    #[tokio::test]
    async fn a_member_that_never_answers_is_passed_over() {
        // Its connections are taken by the kernel, and nobody reads them.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = (format!("http://{}", silent.local_addr().unwrap()), silent);
        let member = member().await;
        let instance =
            Instance::new("web", Registration::on(80), "a", [10, 0, 0, 1].into()).unwrap();
        let (service, id, ttl) = (&*instance.service, &*instance.id, instance.ttl());
        let put = Write { service, id, value: b"{}", ttl, over: None };

        let etcd = over(&[silent.0.clone(), member.clone()]).unwrap();
        in_time(etcd.write(&put)).await.unwrap();
        // From now on the other is asked first, and what it refuses is not asked elsewhere.
        let begun = Instant::now();
        assert_eq!(etcd.renew(&instance).await, Ok(true));
        in_time(etcd.write(&put)).await.unwrap();
        let (sender, mut events) = mpsc::channel(8);
        let (ended, synced) = etcd.watch(0, &sender).await;
        assert!(synced, "{ended}");
        assert!(matches!(events.try_recv().unwrap(), Event::Synced(all) if all.held.is_empty()));
        assert!(begun.elapsed() < MEMBER_PATIENCE, "{:?}", begun.elapsed());

        // More than can be waited for: whoever asks next goes on where time ran out.
        let mut many = vec![silent.0.clone(); 4];
        many.push(member);
        let etcd = over(&many).unwrap();
        in_time(etcd.renew(&instance)).await.unwrap_err();
        assert_eq!(in_time(etcd.renew(&instance)).await, Ok(true));
    }

    /// All are refused at once; one of them gets a token, and the others use it.
    #[tokio::test]
    async fn one_token_is_enough_for_all_who_ask() {
        const ASKING: usize = 8;
        let given = Arc::new(AtomicUsize::new(0));
        let (count, at_once) = (Arc::clone(&given), Arc::new(Barrier::new(ASKING)));
        let url = serve(move |path, token| {
            let (given, at_once) = (Arc::clone(&count), Arc::clone(&at_once));
            async move {
                if path == "/v3/auth/authenticate" {
                    assert_eq!(token, None, "etcd refuses one that is over here, too");
                    let token = format!("token-{}", given.fetch_add(1, Ordering::Relaxed) + 1);
                    return (StatusCode::OK, json!({ "token": token }));
                }
                at_once.wait().await;
                match token.as_deref() {
                    Some("token-2") => (StatusCode::OK, json!({ "result": { "TTL": "3" } })),
                    _ => {
                        let why = json!({ "error": "etcdserver: invalid auth token" });
                        (StatusCode::UNAUTHORIZED, why)
                    }
                }
            }
        })
        .await;
        let user = StoreUser { name: "keel".into(), password: SecretSpec::Text("pw".into()) };
        let user = User::new(user, Path::new("")).unwrap();
        let etcd = Arc::new(Etcd::new(&[url], "p/", &Arc::default(), Some(user)).unwrap());
        let mut asking = JoinSet::new();
        for _ in 0..ASKING {
            let etcd = Arc::clone(&etcd);
            asking.spawn(async move { etcd.keep_alive("7").await });
        }
        while let Some(renewed) = asking.join_next().await {
            assert_eq!(renewed.unwrap(), Ok(true));
        }
        assert_eq!(given.load(Ordering::Relaxed), 2, "one at first, and one in its place");
    }

    #[test]
    fn three_members_can_be_asked() {
        assert!(MEMBER_PATIENCE * 3 <= PATIENCE);
    }

    #[test]
    fn a_range_ends_behind_its_prefix() {
        for (prefix, end) in [("a/", "a0"), ("evenkeel/", "evenkeel0")] {
            let etcd =
                Etcd::new(&["http://127.0.0.1:1".into()], prefix, &Arc::default(), None).unwrap();
            assert_eq!(etcd.range_end(), STANDARD.encode(end));
        }
        assert!(over(&[]).is_err());
    }

    #[test]
    fn leases_are_numbers_that_all_agree_on() {
        let ttl = Duration::from_millis(1500);
        let one = lease("web", "a", ttl);
        assert_eq!(one, lease("web", "a", Duration::from_secs(2)));
        assert_ne!(one, lease("web", "b", ttl));
        assert_ne!(one, lease("web", "a", Duration::from_secs(3)));
        assert!(one.parse::<i64>().unwrap() > 0);
    }

    #[tokio::test]
    async fn messages_of_a_watch() {
        let etcd = over(&["http://127.0.0.1:1".into()]).unwrap();
        let (sender, mut events) = mpsc::channel(8);
        let key = STANDARD.encode("p/web/a");
        let lines = [
            json!({ "result": { "header": { "revision": "1" }, "created": true } }),
            json!({ "result": { "events": [
                { "type": "DELETE", "kv": { "key": key, "mod_revision": "4" } },
                { "kv": { "key": key, "value": STANDARD.encode(tombstone(2)), "mod_revision": "5" } },
                { "kv": { "key": STANDARD.encode("p/other"), "value": "" } },
                { "kv": { "key": key, "value": "" } },
            ] } }),
        ];
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let mut pending = Vec::new();
        for half in [&text.as_bytes()[..150], &text.as_bytes()[150..]] {
            pending.extend_from_slice(half);
            etcd.take_messages(&mut pending, &sender).await.unwrap();
        }
        assert!(pending.is_empty());
        assert!(
            matches!(events.try_recv().unwrap(), Event::Gone { id, number: 4, .. } if id == "a")
        );
        let left = events.try_recv().unwrap();
        assert!(matches!(left, Event::Left(Leave { number: 5, of: Some(2), .. })), "{left:?}");
        assert!(events.try_recv().is_err());

        let mut compacted =
            json!({ "result": { "canceled": true, "compact_revision": "9" } }).to_string();
        compacted.push('\n');
        let error = etcd.take_messages(&mut compacted.into_bytes(), &sender).await.unwrap_err();
        assert!(error.contains("compacted at 9"), "{error}");
        assert!(etcd.take_messages(&mut b"nonsense\n".to_vec(), &sender).await.is_err());
        let mut endless = vec![b'x'; MESSAGE_BYTES_MAX + 1];
        assert!(etcd.take_messages(&mut endless, &sender).await.is_err());
    }
}
