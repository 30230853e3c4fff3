//! Sessions: which endpoint a client was at, by what its requests bring along.
//!
//! For: two memories. A cookie that the client keeps names the endpoint by a [`Token`]; it costs
//! no memory here, outlives a restart, and is understood by every balancer with the same secret. A
//! table ([`table`]) of this process remembers the endpoint by a value that is not ours: a cookie
//! of the application, a header, the client's address.
//! Never: protocols; the data plane finds the value and passes it to [`Sessions`].
//! Start with [`Sessions`]; [`crate::Service::resume`], [`crate::Service::claim`] and
//! [`crate::Service::learn`] use it.

mod siphash;
mod slots;
mod table;
mod token;

use std::net::IpAddr;
use std::sync::Arc;

use model::spec::{AffinitySpec, InsertedCookie, SameSite};
use model::status::SessionStatus;
use model::{EndpointId, Instant, ServiceName};

use crate::{EndpointHandle, Request};
use siphash::siphash;
pub(crate) use slots::Slots;
use table::{SessionKey, SessionTable, Slot};
pub use token::Token;

/// What a request says of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    token: Option<Token>,
    key: Option<SessionKey>,
}

impl From<Token> for Session {
    fn from(token: Token) -> Self {
        Self { token: Some(token), key: None }
    }
}

impl Session {
    /// What a cookie says by itself.
    pub fn token(&self) -> Option<Token> {
        self.token
    }
}

/// How a service's sessions are read and written, worked out of its [`AffinitySpec`] once.
#[derive(Clone, Debug)]
pub struct Sessions {
    spec: AffinitySpec,
    /// Of the tokens.
    key: [u64; 2],
    /// What stands before and after the token in a line of a response's head.
    before: String,
    after: String,
    table: Option<Arc<SessionTable>>,
}

impl Sessions {
    /// Goes on with the memory of `former` if that is of the same. `seed`: a secret of this
    /// process.
    pub(crate) fn new(
        spec: &AffinitySpec,
        service: &ServiceName,
        seed: u64,
        former: Option<&Sessions>,
    ) -> Self {
        let secret = match spec {
            AffinitySpec::Insert(InsertedCookie { secret, .. })
            | AffinitySpec::Rewrite { secret, .. } => secret.as_deref(),
            _ => None,
        };
        // Any two keys will do that are not the same: the secret is longer than a key may be.
        let secret = secret.unwrap_or(service.as_str()).as_bytes();
        let key = [1, 2].map(|half| siphash([half, 0x6576_656e_6b65_656c], secret));
        let (before, after) = match spec {
            AffinitySpec::Insert(cookie) => around(cookie),
            _ => (String::new(), String::new()),
        };
        let table = spec.table().map(|table| {
            former.and_then(|former| former.table_for(spec)).unwrap_or_else(|| {
                let key = match &table.store {
                    None => [3, 4].map(|half| siphash([half, seed], b"session table")),
                    // The same in all balancers that share it.
                    Some(store) => [5, 6]
                        .map(|half| siphash([half, seed_of(service)], store.secret.as_bytes())),
                };
                Arc::new(SessionTable::new(table, key))
            })
        });
        Self { spec: spec.clone(), key, before, after, table }
    }

    /// The table, if it can go on under another specification.
    fn table_for(&self, spec: &AffinitySpec) -> Option<Arc<SessionTable>> {
        let same = match (&self.spec, spec) {
            // The tokens are another matter: only what they do not say is in the table.
            (
                AffinitySpec::Rewrite { name: a, table: s, .. },
                AffinitySpec::Rewrite { name: b, table: t, .. },
            ) => a == b && s == t,
            (a, b) => a == b,
        };
        self.table.clone().filter(|_| same)
    }

    /// What the sessions go by.
    pub fn spec(&self) -> &AffinitySpec {
        &self.spec
    }

    pub fn token(&self, endpoint: &EndpointId) -> Token {
        Token(siphash(self.key, endpoint.as_str().as_bytes()))
    }

    /// What the value of the cookie or header says; `None`: nothing, or it is none of these. The
    /// empty value says nothing.
    pub fn of_value(&self, value: &[u8]) -> Option<Session> {
        let table = || self.table.as_ref();
        match &self.spec {
            AffinitySpec::Insert(_) => Token::read(value).map(Session::from),
            AffinitySpec::Rewrite { .. } => {
                let (token, value) =
                    Token::split(value).map_or((None, value), |(token, rest)| (Some(token), rest));
                let key = table().filter(|_| !value.is_empty()).map(|table| table.key(value));
                (token.is_some() || key.is_some()).then_some(Session { token, key })
            }
            AffinitySpec::Learn { .. } | AffinitySpec::Header { .. } if !value.is_empty() => {
                Some(Session { token: None, key: Some(table()?.key(value)) })
            }
            _ => None,
        }
    }

    /// What the client's address says, where sessions go by that.
    pub fn of_client(&self, client: IpAddr) -> Option<Session> {
        let AffinitySpec::Source { ipv6_prefix, .. } = &self.spec else { return None };
        let table = self.table.as_ref()?;
        let key = match client.to_canonical() {
            IpAddr::V4(address) => table.key(&address.octets()),
            IpAddr::V6(address) => {
                let rest = 128 - u32::from(*ipv6_prefix).min(128);
                let network = u128::from(address).checked_shr(rest).unwrap_or(0);
                table.key(&network.to_be_bytes())
            }
        };
        Some(Session { token: None, key: Some(key) })
    }

    /// Appends the header line that gives a client this token, if the cookie is ours.
    pub fn write(&self, token: Token, out: &mut Vec<u8>) {
        if self.before.is_empty() {
            return;
        }
        out.extend_from_slice(self.before.as_bytes());
        out.extend_from_slice(&token.digits());
        out.extend_from_slice(self.after.as_bytes());
    }

    pub(crate) fn status(&self, now: Instant) -> Option<SessionStatus> {
        let (table, spec) = (self.table.as_ref()?, self.spec.table()?);
        Some(SessionStatus {
            entries: table.entries(now),
            max: spec.max,
            evictions: table.evictions(),
            store: None,
        })
    }
}

/// So that two services with one secret know one client by two keys.
fn seed_of(service: &ServiceName) -> u64 {
    siphash([7, 8], service.as_str().as_bytes())
}

impl PartialEq for Sessions {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec && self.key == other.key
    }
}

impl std::fmt::Debug for SessionTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionTable").finish_non_exhaustive()
    }
}

/// The header line that sets a cookie of ours, before and after the token.
fn around(cookie: &InsertedCookie) -> (String, String) {
    let mut after = format!("; Path={}", cookie.path);
    if let Some(ttl) = cookie.ttl {
        after += &format!("; Max-Age={}", ttl.as_secs());
    }
    if cookie.secure {
        after += "; Secure";
    }
    if cookie.http_only {
        after += "; HttpOnly";
    }
    after += match cookie.same_site {
        Some(SameSite::Strict) => "; SameSite=Strict",
        Some(SameSite::Lax) => "; SameSite=Lax",
        Some(SameSite::None) => "; SameSite=None",
        None => "",
    };
    after += "\r\n";
    (format!("Set-Cookie: {}=", cookie.name), after)
}

/// A session that is to begin at an endpoint, so that further requests of it that come meanwhile
/// go there, too. Dropped before [`crate::Service::learn`], the session has not begun: the next
/// request is balanced anew.
#[must_use = "dropped, it takes the session back"]
pub struct Claim {
    table: Arc<SessionTable>,
    key: SessionKey,
    slot: Slot,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.table.forget_claim(self.key, self.slot);
    }
}

/// The endpoints that may go on with sessions, and the sessions that this process remembers.
#[derive(Default)]
pub(crate) struct SessionMap {
    /// By ascending token.
    tokens: Box<[(Token, Arc<EndpointHandle>)]>,
    /// By ascending number.
    slots: Box<[(Slot, Arc<EndpointHandle>)]>,
    sessions: Option<Arc<Sessions>>,
}

impl SessionMap {
    /// Of several endpoints with one id, the first is found; they differ in their address only.
    pub(crate) fn new(
        sessions: &Arc<Sessions>,
        endpoints: &[Arc<EndpointHandle>],
        slots: &mut Slots,
        in_use: impl Fn(&EndpointId) -> bool,
    ) -> Self {
        let has_tokens =
            matches!(sessions.spec, AffinitySpec::Insert(_) | AffinitySpec::Rewrite { .. });
        let tokens = match has_tokens {
            true => sorted(endpoints.iter().map(|e| (sessions.token(&e.id), e.clone()))),
            false => Box::default(),
        };
        let numbered = endpoints.iter().filter_map(|endpoint| {
            let table = sessions.table.as_ref()?;
            let slot = slots.of(&endpoint.id, &in_use, |taken| table.forget_all_at(taken))?;
            endpoint.set_slot(slot);
            Some((slot, endpoint.clone()))
        });
        Self { tokens, slots: sorted(numbered), sessions: Some(sessions.clone()) }
    }

    fn table(&self) -> Option<&Arc<SessionTable>> {
        self.sessions.as_ref()?.table.as_ref()
    }

    /// The endpoint of the session, if it can go on there, and what the table says.
    fn look(&self, session: Session, now: Instant) -> (Option<&Arc<EndpointHandle>>, Option<Slot>) {
        let known = self.table().zip(session.key);
        let slot = known.and_then(|(table, key)| table.find(key, now));
        let endpoint = match slot {
            // What is in the table is newer than what the client's cookie says.
            Some(slot) => find(&self.slots, &slot),
            None => session.token.and_then(|token| find(&self.tokens, &token)),
        };
        (endpoint.filter(|endpoint| endpoint.takes_sessions(now)), slot)
    }

    pub(crate) fn find(&self, session: Session, now: Instant) -> Option<&Arc<EndpointHandle>> {
        self.look(session, now).0
    }

    /// The session's key in the store that other balancers share, if there is one.
    pub(crate) fn shared_key(&self, session: Session) -> Option<u64> {
        self.sessions.as_ref()?.spec.store()?;
        Some(session.key?.0)
    }

    /// Whether the store is to hear that the session is still used: before it is found.
    pub(crate) fn is_due(&self, session: Session, now: Instant) -> bool {
        let known = self.table().zip(session.key);
        known.is_some_and(|(table, key)| table.is_due(key, now))
    }

    /// Whether the session has begun at this endpoint.
    pub(crate) fn has_begun(
        &self,
        session: Session,
        endpoint: &EndpointHandle,
        now: Instant,
    ) -> bool {
        let known = self.table().zip(session.key).zip(endpoint.slot());
        known.is_some_and(|((table, key), slot)| table.has_begun(key, slot, now))
    }

    /// Another balancer knows the session at the endpoint of this id: so it is here, unless it cannot
    /// go on there.
    pub(crate) fn adopt(&self, key: u64, id: &str, now: Instant) -> bool {
        let mut all = self.slots.iter();
        let found = all.find(|(_, endpoint)| endpoint.id.as_str() == id);
        let Some((slot, _)) = found.filter(|(_, endpoint)| endpoint.takes_sessions(now)) else {
            return false;
        };
        let Some(table) = self.table() else { return false };
        let key = SessionKey(key);
        let from = table.find(key, now);
        table.change(key, from, *slot, true, now)
    }

    pub(crate) fn retell(&self, now: Instant) {
        if let Some(table) = self.table() {
            table.retell(now);
        }
    }

    /// Whether sessions go on at the endpoint of this key.
    pub(crate) fn holds(&self, key: u64) -> bool {
        let with_token = self.tokens.iter().any(|(_, endpoint)| endpoint.key == key);
        with_token || self.slots.iter().any(|(_, endpoint)| endpoint.key == key)
    }

    /// See [`crate::Service::claim`].
    pub(crate) fn claim(
        &self,
        session: Session,
        endpoint: &EndpointHandle,
        now: Instant,
    ) -> Option<Claim> {
        let ((table, key), slot) = (self.table().zip(session.key)?, endpoint.slot()?);
        let (None, from) = self.look(session, now) else { return None };
        let claimed = from != Some(slot) && table.change(key, from, slot, false, now);
        claimed.then(|| Claim { table: table.clone(), key, slot })
    }

    /// See [`crate::Service::learn`]. Answers whether it is there now.
    pub(crate) fn learn(
        &self,
        session: Session,
        endpoint: &EndpointHandle,
        request: &Request<'_>,
    ) -> bool {
        let Some((table, key)) = self.table().zip(session.key) else { return false };
        let Some(slot) = endpoint.slot() else { return false };
        let (home, from) = self.look(session, request.now);
        let stays = home
            .is_some_and(|home| home.key != endpoint.key && !request.exclude.contains(&home.key));
        if stays || (from.is_none() && self.says(session.token, endpoint)) {
            return false;
        }
        table.change(key, from, slot, true, request.now)
    }

    /// Whether the client's cookie names this endpoint by itself.
    fn says(&self, token: Option<Token>, endpoint: &EndpointHandle) -> bool {
        token.is_some_and(|token| {
            self.sessions.as_ref().is_some_and(|sessions| sessions.token(&endpoint.id) == token)
        })
    }
}

fn sorted<K: Ord>(
    endpoints: impl Iterator<Item = (K, Arc<EndpointHandle>)>,
) -> Box<[(K, Arc<EndpointHandle>)]> {
    let mut all: Vec<_> = endpoints.collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all.dedup_by(|a, b| a.0 == b.0);
    all.into_boxed_slice()
}

fn find<'a, K: Ord>(
    all: &'a [(K, Arc<EndpointHandle>)],
    key: &K,
) -> Option<&'a Arc<EndpointHandle>> {
    let at = all.binary_search_by(|(known, _)| known.cmp(key)).ok()?;
    all.get(at).map(|(_, endpoint)| endpoint)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::spec::SessionTableSpec;

    use super::*;

    fn sessions(spec: &AffinitySpec, service: &str) -> Sessions {
        Sessions::new(spec, &service.into(), 1, None)
    }

    fn cookie(secret: Option<&str>) -> AffinitySpec {
        let secret = secret.map(str::to_owned);
        AffinitySpec::Insert(InsertedCookie { secret, ..InsertedCookie::new("K") })
    }

    #[test]
    fn tokens_depend_on_the_secret_and_the_endpoint_alone() {
        let token = |secret, service, endpoint: &str| {
            sessions(&cookie(secret), service).token(&endpoint.into())
        };
        let a = token(Some("s"), "web", "a");
        assert_eq!(a, token(Some("s"), "app", "a"));
        assert_ne!(a, token(Some("s"), "web", "b"));
        assert_ne!(a, token(Some("t"), "web", "a"));
        assert_eq!(token(None, "web", "a"), token(None, "web", "a"));
        assert_ne!(token(None, "web", "a"), token(None, "app", "a"));
        // A change of it would end the sessions of everyone who updates.
        assert_eq!(&token(None, "web", "127.0.0.1:5001").digits(), b"caea3ff49a31fd4a");
    }

    #[test]
    fn attributes_are_written_as_configured() {
        let check = |spec: InsertedCookie, expected: &str| {
            let mut out = Vec::new();
            sessions(&AffinitySpec::Insert(spec), "web").write(Token(10), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        let plain = InsertedCookie::new("KEEL");
        check(plain.clone(), "Set-Cookie: KEEL=000000000000000a; Path=/; HttpOnly\r\n");
        let full = InsertedCookie {
            ttl: Some(Duration::from_secs(3600)),
            path: "/app".into(),
            secure: true,
            http_only: false,
            same_site: Some(SameSite::Lax),
            ..plain
        };
        check(
            full,
            "Set-Cookie: KEEL=000000000000000a; Path=/app; Max-Age=3600; Secure; SameSite=Lax\r\n",
        );
        let mut out = Vec::new();
        sessions(&AffinitySpec::source(), "web").write(Token(10), &mut out);
        assert_eq!(out, b"");
    }

    #[test]
    fn values_say_what_their_kind_lets_them_say() {
        let table = SessionTableSpec::default;
        let header = sessions(&AffinitySpec::Header { name: "x".into(), table: table() }, "web");
        assert_eq!(header.of_value(b"u"), header.of_value(b"u"));
        assert_ne!(header.of_value(b"u"), header.of_value(b"v"));
        assert_eq!(header.of_value(b""), None);
        assert_eq!(header.of_client([127, 0, 0, 1].into()), None);

        let spec = AffinitySpec::Rewrite { name: "S".into(), secret: None, table: table() };
        let rewrite = sessions(&spec, "web");
        let said = rewrite.of_value(b"000000000000000a~abc").unwrap();
        assert_eq!(said.token(), Some(Token(10)));
        assert_eq!(said.key, rewrite.of_value(b"abc").unwrap().key, "the application's value");
        let empty = rewrite.of_value(b"000000000000000a~").unwrap();
        assert_eq!((empty.token(), empty.key), (Some(Token(10)), None));
        assert_eq!(rewrite.of_value(b""), None);

        let ours = sessions(&cookie(None), "web");
        assert_eq!(ours.of_value(b"000000000000000a"), Some(Token(10).into()));
        assert_eq!(ours.of_value(b"000000000000000a~abc"), None);
    }

    #[test]
    fn clients_are_told_apart_by_their_prefix() {
        let of = |prefix, address: &str| {
            let table = SessionTableSpec::default();
            let spec = AffinitySpec::Source { ipv6_prefix: prefix, table };
            sessions(&spec, "web").of_client(address.parse().unwrap()).unwrap()
        };
        assert_eq!(of(64, "2001:db8::1"), of(64, "2001:db8::ffff:0:0:1"));
        assert_ne!(of(64, "2001:db8::1"), of(64, "2001:db8:0:1::1"));
        assert_ne!(of(128, "2001:db8::1"), of(128, "2001:db8::2"));
        assert_eq!(of(128, "::ffff:10.0.0.1"), of(64, "10.0.0.1"));
        assert_ne!(of(64, "10.0.0.1"), of(64, "10.0.0.2"));
        assert_eq!(of(0, "2001:db8::1"), of(0, "fe80::1"));
    }

    #[test]
    fn a_table_outlives_changes_that_leave_it_as_it_is() {
        let rewrite = |secret: &str, max| AffinitySpec::Rewrite {
            name: "S".into(),
            secret: Some(secret.into()),
            table: SessionTableSpec { max, ..SessionTableSpec::default() },
        };
        let old = sessions(&rewrite("s", 10), "web");
        let kept = |spec: &AffinitySpec| {
            let new = Sessions::new(spec, &"web".into(), 1, Some(&old));
            new.table.zip(old.table.as_ref()).is_some_and(|(new, old)| Arc::ptr_eq(&new, old))
        };
        assert!(kept(&rewrite("s", 10)));
        assert!(kept(&rewrite("t", 10)));
        assert!(!kept(&rewrite("s", 11)));
        assert!(!kept(&AffinitySpec::source()));
        assert!(!kept(&cookie(None)));
    }
}
