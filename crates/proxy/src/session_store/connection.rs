//! The connection to a store of sessions: made again when it breaks, and pipelined.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use model::spec::SessionStoreSpec;
use model::{EndpointId, Instant};
use service::Service;
use tls::Dialler;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tracing::{info, warn};
use wire::resp::{self, Reply};

use super::{Command, Shared};
use crate::clock::Clock;

/// To connect, and to be let in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two attempts to connect; twice as long after each, up to the second.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// What is asked for, and not answered for so long, will not be: the connection ends.
const STALL: Duration = Duration::from_secs(1);
/// How often a connection that is not used is asked whether it is there.
const PING: Duration = Duration::from_secs(1);
/// Commands under way; further ones wait.
const PENDING_MAX: usize = 1024;
/// What is read at once.
const READ_BYTES: usize = 16 * 1024;
/// The port of a Redis.
const PORT: u16 = 6379;

pub(super) struct Task {
    pub(super) spec: SessionStoreSpec,
    pub(super) ttl: Duration,
    pub(super) service: Arc<Service>,
    pub(super) clock: Clock,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) shared: Arc<Shared>,
}

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// What a reply that is to come belongs to.
struct Pending {
    asked_at: Instant,
    what: What,
}

enum What {
    /// Whether it is one that had better not be an error: names and passwords, the database.
    Greeting,
    Ping,
    /// `GET`; `None`: it was not answered in time, and nobody waits any more.
    Find(Option<(oneshot::Sender<String>, Instant)>),
    /// `SET` of a session that moved.
    Moved,
    /// `SET NX`, whose own answer says nothing: the next one does.
    SetFirst,
    /// `GET` behind it: who was first?
    WhoWasFirst {
        key: u64,
        endpoint: EndpointId,
    },
    /// [`REPLACE`]: who is there now?
    Replaced {
        key: u64,
        endpoint: EndpointId,
    },
    Expire,
}

/// In place of an endpoint at which the session cannot go on, unless another balancer was first with
/// that; answers what is there then.
const REPLACE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
     redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) end return redis.call('GET', KEYS[1])";

/// Until nobody holds the other end.
pub(super) async fn run(mut task: Task) {
    let mut pause = PAUSE_MIN;
    let mut was_up = false;
    let tls = Dialler::new(task.spec.tls.clone());
    loop {
        let why = match timeout(CONNECT_TIMEOUT, connect(&task.spec.redis, &tls)).await {
            Ok(Ok(socket)) => match task.serve(socket, &mut pause, &mut was_up).await {
                Ok(()) => return,
                Err(why) => why,
            },
            Ok(Err(error)) => format!("{error}"),
            Err(_) => "it does not answer".to_owned(),
        };
        if was_up || pause == PAUSE_MIN {
            warn!(
                "service {}: the store of its sessions is lost: {why}; sessions stay where they are",
                task.service.name()
            );
        }
        was_up = false;
        task.shared.set_down(Some(why));
        // Nobody is kept waiting, and nothing is kept for later.
        while let Ok(command) = task.commands.try_recv() {
            task.drop_command(command);
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
        if task.commands.is_closed() {
            return;
        }
    }
}

/// Where a store is, by its address.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    Unix(&'a str),
    Host { secure: bool, host: &'a str, port: u16, database: Option<&'a str> },
}

impl<'a> Place<'a> {
    fn of(address: &'a str) -> Self {
        if let Some(path) = address.strip_prefix("unix://") {
            return Place::Unix(path);
        }
        let secure = address.strip_prefix("rediss://");
        let rest = secure.or_else(|| address.strip_prefix("redis://")).unwrap_or(address);
        let (host, database) = rest.split_once('/').unwrap_or((rest, ""));
        let with_port = host.rsplit_once(':').and_then(|(host, p)| Some((host, p.parse().ok()?)));
        // Brackets tell the colons of an address from that of a port (RFC 3986 section 3.2.2).
        let (host, port) = match with_port {
            Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, port),
            _ => (host, PORT),
        };
        Place::Host {
            secure: secure.is_some(),
            host: host.trim_matches(['[', ']']),
            port,
            database: Some(database).filter(|database| !database.is_empty()),
        }
    }
}

async fn connect(address: &str, tls: &Dialler) -> io::Result<Box<dyn Socket>> {
    let (secure, host, port) = match Place::of(address) {
        Place::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
        Place::Host { secure, host, port, .. } => (secure, host, port),
    };
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    if !secure {
        return Ok(Box::new(stream));
    }
    let (config, name) = tls.dial(host).map_err(io::Error::other)?;
    Ok(Box::new(TlsConnector::from(config).connect(name, stream).await?))
}

/// Writes some of it; without any, what TLS has taken for which the socket had no room.
async fn push(write: &mut WriteHalf<Box<dyn Socket>>, outbound: &[u8]) -> io::Result<usize> {
    if outbound.is_empty() {
        return write.flush().await.map(|()| 0);
    }
    write.write(outbound).await
}

impl Task {
    fn drop_command(&self, command: Command) {
        match command {
            Command::Find { .. } => self.shared.skipped.fetch_add(1, Relaxed),
            Command::Tell { .. } => self.shared.untold.fetch_add(1, Relaxed),
        };
    }

    /// `Ok`: nobody holds the other end.
    async fn serve(
        &mut self,
        socket: Box<dyn Socket>,
        pause: &mut Duration,
        was_up: &mut bool,
    ) -> Result<(), String> {
        let (read, write) = tokio::io::split(socket);
        let mut connection = Connection {
            read,
            write,
            inbound: Vec::new(),
            outbound: Vec::new(),
            unflushed: false,
            pending: VecDeque::new(),
        };
        self.greet(&mut connection)?;
        let mut ping = tokio::time::interval(PING);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let next = connection.next_deadline().map(|at| self.clock.runtime(at));
            let overdue = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let Connection { read, write, outbound, unflushed, pending, .. } = &mut connection;
            tokio::select! {
                command = self.commands.recv(), if *was_up && pending.len() < PENDING_MAX => {
                    let Some(command) = command else { return Ok(()) };
                    self.ask(command, &mut connection);
                }
                count = read.read(&mut buffer) => {
                    let count = count.map_err(|error| error.to_string())?;
                    if count == 0 {
                        return Err("it closed the connection".into());
                    }
                    connection.inbound.extend_from_slice(&buffer[..count]);
                    self.replies(&mut connection)?;
                    if !*was_up && connection.pending.is_empty() {
                        *was_up = true;
                        *pause = PAUSE_MIN;
                        info!("service {}: connected to the store of its sessions", self.service.name());
                        // It may be another one, or one that has forgotten.
                        self.service.retell_sessions(self.clock.now());
                        self.shared.set_down(None);
                    }
                }
                count = push(write, outbound), if !outbound.is_empty() || *unflushed => {
                    let count = count.map_err(|error| error.to_string())?;
                    outbound.drain(..count);
                    *unflushed = count > 0;
                }
                () = overdue => self.give_up_overdue(&mut connection),
                _ = ping.tick() => {
                    if self.commands.is_closed() {
                        return Ok(());
                    }
                    let now = self.clock.now();
                    match connection.pending.front() {
                        Some(oldest) if now.since(oldest.asked_at) > STALL => {
                            return Err("it does not answer".into());
                        }
                        Some(_) => {}
                        None => connection.ask(&[b"PING"], What::Ping, now),
                    }
                }
            }
        }
    }

    fn greet(&self, connection: &mut Connection) -> Result<(), String> {
        let now = self.clock.now();
        if let Some(password) = &self.spec.password {
            // A file's path is absolute.
            let password = tls::read_secret(password, Path::new(""))?;
            let mut words: Vec<&[u8]> = vec![b"AUTH"];
            words.extend(self.spec.username.as_ref().map(|name| name.as_bytes()));
            words.push(password.as_bytes());
            connection.ask(&words, What::Greeting, now);
        }
        if let Place::Host { database: Some(database), .. } = Place::of(&self.spec.redis) {
            connection.ask(&[b"SELECT", database.as_bytes()], What::Greeting, now);
        }
        connection.ask(&[b"PING"], What::Greeting, now);
        Ok(())
    }

    fn ask(&self, command: Command, connection: &mut Connection) {
        let now = self.clock.now();
        match command {
            // Nobody waits for it any more.
            Command::Find { until, .. } if until <= now => {
                self.shared.failures.fetch_add(1, Relaxed);
            }
            Command::Find { key, until, answer } => {
                let key = self.key(key);
                connection.ask(&[b"GET", key.as_bytes()], What::Find(Some((answer, until))), now);
            }
            Command::Tell { key, endpoint, moved: true } => self.set(key, &endpoint, connection),
            Command::Tell { key, endpoint, moved: false } => {
                let (text, ttl) = (self.key(key), self.ttl());
                let (text, ttl) = (text.as_bytes(), ttl.as_bytes());
                let set = [b"SET", text, endpoint.as_str().as_bytes(), b"NX", b"EX", ttl];
                connection.ask(&set, What::SetFirst, now);
                connection.ask(&[b"GET", text], What::WhoWasFirst { key, endpoint }, now);
                connection.ask(&[b"EXPIRE", text, ttl], What::Expire, now);
            }
        }
    }

    fn set(&self, key: u64, endpoint: &EndpointId, connection: &mut Connection) {
        let (text, ttl) = (self.key(key), self.ttl());
        let id = endpoint.as_str().as_bytes();
        let set = [b"SET", text.as_bytes(), id, b"EX", ttl.as_bytes()];
        connection.ask(&set, What::Moved, self.clock.now());
    }

    fn replace(&self, key: u64, former: &[u8], endpoint: EndpointId, connection: &mut Connection) {
        let (text, ttl) = (self.key(key), self.ttl());
        let id = endpoint.as_str().as_bytes();
        let words =
            [b"EVAL", REPLACE.as_bytes(), b"1", text.as_bytes(), former, id, ttl.as_bytes()];
        let what = What::Replaced { key, endpoint: endpoint.clone() };
        connection.ask(&words, what, self.clock.now());
    }

    fn key(&self, key: u64) -> String {
        format!("{}:{}:{key:016x}", self.spec.prefix, self.service.name())
    }

    /// A quarter longer than here, as it is told of uses by the quarter.
    fn ttl(&self) -> String {
        (self.ttl.as_secs().max(1) * 5).div_ceil(4).to_string()
    }

    fn replies(&self, connection: &mut Connection) -> Result<(), String> {
        let inbound = std::mem::take(&mut connection.inbound);
        let mut used = 0;
        while let Some((reply, count)) =
            resp::decode(&inbound[used..]).map_err(|error| error.to_string())?
        {
            used += count;
            let Some(pending) = connection.pending.pop_front() else {
                return Err("an answer to nothing".into());
            };
            self.reply(&reply, pending.what, connection)?;
        }
        connection.inbound = inbound[used..].to_vec();
        Ok(())
    }

    fn reply(
        &self,
        reply: &Reply<'_>,
        what: What,
        connection: &mut Connection,
    ) -> Result<(), String> {
        let add = |count: &AtomicU64| {
            count.fetch_add(1, Relaxed);
        };
        let shared = &self.shared;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match (what, reply) {
            (What::Greeting, Reply::Error(error)) => return Err(text(error)),
            (What::Greeting | What::Ping | What::SetFirst | What::Expire, _) => {}
            (What::Find(waiting), Reply::Text(Some(id))) => {
                if let Some((answer, _)) = waiting {
                    add(&shared.hits);
                    let _ = answer.send(text(id));
                }
            }
            (What::Find(waiting), Reply::Text(None)) => {
                if waiting.is_some() {
                    add(&shared.misses);
                }
            }
            (What::Find(waiting), _) => {
                if waiting.is_some() {
                    add(&shared.failures);
                }
            }
            (What::Moved, Reply::Simple(_)) => add(&shared.told),
            (What::Moved, _) => add(&shared.untold),
            (What::WhoWasFirst { key, endpoint }, Reply::Text(Some(first))) => {
                if *first == endpoint.as_str().as_bytes() {
                    add(&shared.told);
                } else if self.service.adopt(key, &text(first), self.clock.now()) {
                    add(&shared.adopted);
                } else {
                    self.replace(key, first, endpoint, connection);
                }
            }
            (What::Replaced { key, endpoint }, Reply::Text(Some(now))) => {
                if *now == endpoint.as_str().as_bytes() {
                    add(&shared.told);
                } else if self.service.adopt(key, &text(now), self.clock.now()) {
                    add(&shared.adopted);
                } else {
                    add(&shared.untold);
                }
            }
            (What::WhoWasFirst { .. } | What::Replaced { .. }, _) => add(&shared.untold),
        }
        Ok(())
    }

    /// Whoever waits for an answer that is late is told that there is none.
    fn give_up_overdue(&self, connection: &mut Connection) {
        let now = self.clock.now();
        for pending in &mut connection.pending {
            if let What::Find(waiting) = &mut pending.what
                && waiting.as_ref().is_some_and(|(_, until)| *until <= now)
            {
                *waiting = None;
                self.shared.failures.fetch_add(1, Relaxed);
            }
        }
    }
}

struct Connection {
    read: ReadHalf<Box<dyn Socket>>,
    write: WriteHalf<Box<dyn Socket>>,
    inbound: Vec<u8>,
    outbound: Vec<u8>,
    /// Of what was written something may not be on its way.
    unflushed: bool,
    /// In the order in which replies come.
    pending: VecDeque<Pending>,
}

impl Connection {
    fn ask(&mut self, words: &[&[u8]], what: What, now: Instant) {
        resp::encode(words, &mut self.outbound);
        self.pending.push_back(Pending { asked_at: now, what });
    }

    fn next_deadline(&self) -> Option<Instant> {
        let deadline = |pending: &Pending| match &pending.what {
            What::Find(Some((_, until))) => Some(*until),
            _ => None,
        };
        self.pending.iter().find_map(deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_stores() {
        let host = |secure, host, port, database| Place::Host { secure, host, port, database };
        for (address, place) in [
            ("unix:///run/redis.sock", Place::Unix("/run/redis.sock")),
            ("redis://cache", host(false, "cache", 6379, None)),
            ("redis://cache/", host(false, "cache", 6379, None)),
            ("redis://10.0.0.5:7000/3", host(false, "10.0.0.5", 7000, Some("3"))),
            ("rediss://cache.test:6380/2", host(true, "cache.test", 6380, Some("2"))),
            ("rediss://[::1]/2", host(true, "::1", 6379, Some("2"))),
            ("redis://[fd00::7]:7000", host(false, "fd00::7", 7000, None)),
            ("redis://fd00::7", host(false, "fd00::7", 6379, None)),
        ] {
            assert_eq!(Place::of(address), place, "{address}");
        }
    }
}
