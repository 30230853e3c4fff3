//! etcd's version 3 API through its JSON gateway (etcd documentation, "gRPC gateway"): keys and
//! values in base64, 64-bit numbers as text.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use hyper::Method;
use hyper::header::AUTHORIZATION;
use model::spec::{ClientTlsSpec, StoreUser};
use registry::Instance;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::time::interval;

use super::{All, Event, Leave, PATIENCE, Value, parse_key, parse_value, tombstone};
use crate::client::{Ask, Authority, Client};

/// Where etcd listens for clients.
const PORT: u16 = 2379;
/// For one answer of a member while there are others to ask: three fit in `PATIENCE`.
const MEMBER_PATIENCE: Duration = Duration::from_millis(900);
/// How often the member that is watched is asked whether it is there: a partition sends no sign.
const PING: Duration = Duration::from_secs(1);
/// Of one message of a watch. etcd sends up to 1.5 MiB of keys and values in one, by its default.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

pub(crate) struct Etcd {
    members: Vec<Client>,
    /// The member that is asked first: it answered last, or those before it did not.
    preferred: AtomicUsize,
    prefix: String,
    user: Option<User>,
}

/// Who we are to etcd.
pub(crate) struct User {
    user: StoreUser,
    directory: PathBuf,
}

impl User {
    /// A password's path counts from `directory`.
    pub(crate) fn new(user: StoreUser, directory: &Path) -> Result<Self, String> {
        let user = Self { user, directory: directory.to_owned() };
        user.password().map(|_| user)
    }

    /// Read again each time it is used: a file may have another since.
    fn password(&self) -> Result<String, String> {
        tls::read_secret(&self.user.password, &self.directory)
    }
}

impl Etcd {
    pub(crate) fn new(
        endpoints: &[String],
        prefix: &str,
        tls: &Arc<ClientTlsSpec>,
        user: Option<User>,
    ) -> Result<Self, String> {
        let member = |text: &String| Client::new(Authority::parse(text, PORT)?).with_tls(tls);
        let members = endpoints.iter().map(member).collect::<Result<Vec<_>, _>>()?;
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
            match self.ask_member(member, path, body, within).await {
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

    /// As one that etcd let in, where it wants to know who asks.
    async fn ask_member(
        &self,
        member: &Client,
        path: &str,
        body: &Json,
        within: Duration,
    ) -> Result<Json, Failure> {
        let Some(user) = &self.user else { return ask(member, path, body, within).await };
        if !member.has_header(&AUTHORIZATION) {
            authenticate(member, user, within).await?;
        }
        match ask(member, path, body, within).await {
            // Tokens end after a while, with a restart, and with each change of users and roles.
            Err(Failure::Refused(why)) if is_token_over(&why) => {
                member.take_header(&AUTHORIZATION);
                authenticate(member, user, within).await?;
                ask(member, path, body, within).await
            }
            answer => answer,
        }
    }

    /// Each member once, from the preferred one on.
    fn in_turn(&self) -> impl Iterator<Item = (usize, &Client)> {
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

    /// Answers the revision at which it was put.
    pub(crate) async fn put(&self, instance: &Instance) -> Result<u64, String> {
        let put = self.request_put(instance).await?;
        revision(&self.ask("/v3/kv/put", &put).await?)
    }

    /// The same where the key is as it was at revision `of`, or not there; `None`: it is another.
    pub(crate) async fn put_again(
        &self,
        instance: &Instance,
        of: u64,
    ) -> Result<Option<u64>, String> {
        let put = self.request_put(instance).await?;
        self.put_over(of, &put).await
    }

    async fn request_put(&self, instance: &Instance) -> Result<Json, String> {
        // Text, numbers, and maps with text as keys: this cannot fail.
        let value = serde_json::to_vec(instance).unwrap_or_default();
        self.leased(&instance.service, &instance.id, &value, instance.ttl()).await
    }

    /// Answers the revision of the tombstone; `None`: it is not written, as for `put_again`.
    pub(crate) async fn leave(
        &self,
        service: &str,
        id: &str,
        of: u64,
    ) -> Result<Option<u64>, String> {
        // Long enough for every balancer to see it, if it is not away for longer than this.
        const SEEN_WITHIN: Duration = Duration::from_secs(60);
        let put = self.leased(service, id, &tombstone(of), SEEN_WITHIN).await?;
        self.put_over(of, &put).await
    }

    /// What puts a value under a lease that there is.
    async fn leased(
        &self,
        service: &str,
        id: &str,
        value: &[u8],
        ttl: Duration,
    ) -> Result<Json, String> {
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

    pub(crate) async fn renew(&self, instance: &Instance) -> Result<bool, String> {
        self.keep_alive(&lease(&instance.service, &instance.id, instance.ttl())).await
    }

    /// Answers whether there is such a lease.
    async fn keep_alive(&self, lease: &str) -> Result<bool, String> {
        let answer = self.ask("/v3/lease/keepalive", &json!({ "ID": lease })).await?;
        Ok(number(&answer["result"]["TTL"]) > 0)
    }

    /// Tells what there is, and what changes, until something fails; answers what, and whether
    /// there was an answer before.
    ///
    /// `highest`: the revision that was heard of before; a lower one is another store's.
    pub(crate) async fn watch(&self, highest: u64, events: &mpsc::Sender<Event>) -> (String, bool) {
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
        member: &Client,
        highest: u64,
        events: &mpsc::Sender<Event>,
        synced: &mut bool,
    ) -> Result<(), String> {
        let range = json!({ "key": STANDARD.encode(&self.prefix), "range_end": self.range_end(),
                            "sort_target": "MOD", "sort_order": "ASCEND" });
        let all = self.ask_member(member, "/v3/kv/range", &range, PATIENCE).await?;
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
        let mut body = member.stream(&ask_watch).await?.into_body();
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
                    self.ask_member(member, "/v3/kv/range", &count, PATIENCE).await?;
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

/// Why a member did not do what it was asked.
enum Failure {
    /// It says that it is not to be done: the others would say the same.
    Refused(String),
    /// It does not answer, or cannot do anything.
    Away(String),
}

impl From<Failure> for String {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(why) | Failure::Away(why) => why,
        }
    }
}

/// Gets a token, which further requests to the member show (etcd documentation, "Authentication").
async fn authenticate(member: &Client, user: &User, within: Duration) -> Result<(), Failure> {
    let password = user.password().map_err(Failure::Refused)?;
    let who = json!({ "name": user.user.name, "password": password });
    let answer = ask(member, "/v3/auth/authenticate", &who, within).await?;
    let token = answer["token"].as_str().unwrap_or_default();
    member.set_header(AUTHORIZATION, token).map_err(Failure::Refused)
}

/// What etcd says of a token that it does not know or no longer believes.
fn is_token_over(why: &str) -> bool {
    ["invalid auth token", "revision of auth store is old"].iter().any(|said| why.contains(said))
}

async fn ask(member: &Client, path: &str, body: &Json, within: Duration) -> Result<Json, Failure> {
    let body = body.to_string().into_bytes();
    let ask = Ask { method: Method::POST, path, body, within };
    let reply = member.ask(&ask).await.map_err(Failure::Away)?;
    if reply.status.is_client_error() {
        return Err(Failure::Refused(reply.refusal()));
    }
    if !reply.status.is_success() {
        return Err(Failure::Away(reply.refusal()));
    }
    // A stream of one message, as the gateway answers `keepalive`, ends with a line break.
    let not_its = |error| format!("what {} answered is not etcd's: {error}", member.authority());
    serde_json::from_slice(&reply.body).map_err(|error| Failure::Away(not_its(error)))
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
    use std::convert::Infallible;
    use std::time::Instant;

    use http_body_util::Full;
    use hyper::body::{Bytes, Incoming};
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response, StatusCode};
    use hyper_util::rt::TokioIo;
    use registry::Registration;
    use tokio::net::TcpListener;

    use super::super::in_time;
    use super::*;

    fn over(endpoints: &[String]) -> Result<Etcd, String> {
        Etcd::new(endpoints, "p/", &Arc::default(), None)
    }

    /// A member as etcd's gateway answers; each lease that is asked for exists. Where it is.
    async fn member() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let answer = async |request: Request<Incoming>| {
            let (status, body) = match request.uri().path() {
                "/v3/lease/grant" => {
                    let exists =
                        json!({ "code": 9, "message": "etcdserver: lease already exists" });
                    (StatusCode::BAD_REQUEST, exists)
                }
                "/v3/lease/keepalive" => (StatusCode::OK, json!({ "result": { "TTL": "3" } })),
                _ => (StatusCode::OK, json!({ "header": { "revision": "7" } })),
            };
            let mut response = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = http1::Builder::new();
                let served = connection.serve_connection(TokioIo::new(stream), service_fn(answer));
                tokio::spawn(served);
            }
        });
        format!("http://{at}")
    }

    #[tokio::test]
    async fn a_member_that_never_answers_is_passed_over() {
        // Its connections are taken by the kernel, and nobody reads them.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = (format!("http://{}", silent.local_addr().unwrap()), silent);
        let member = member().await;
        let instance =
            Instance::new("web", Registration::on(80), "a", [10, 0, 0, 1].into()).unwrap();

        let etcd = over(&[silent.0.clone(), member.clone()]).unwrap();
        in_time(etcd.put(&instance)).await.unwrap();
        // From now on the other is asked first, and what it refuses is not asked elsewhere.
        let begun = Instant::now();
        assert_eq!(etcd.renew(&instance).await, Ok(true));
        in_time(etcd.put(&instance)).await.unwrap();
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
