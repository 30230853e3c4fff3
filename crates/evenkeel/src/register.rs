//! One instance and its registration: the command is run, registered once it works, kept
//! registered as long as it does, and taken out before it stops.
//!
//! What it promises: nothing is sent to the command before it works, nor, if it is told to stop,
//! while it stops; a command that hangs sends no heartbeats and leaves after its TTL; a registry
//! that is away, or has forgotten us, gets the registration again.
//!
//! A registration that is under way when it is to end is waited for, as long as an answer may take:
//! what a registry took after it was told that we leave could be taken out by nobody.

mod command;
mod connections;

use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::time::Duration;

use discovery::Backoff;
use hyper::{Method, StatusCode};
use registrar::client::{Ask, Client, Reply};
use registry::{Check, Instance, Registration};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::failure::Failure;
use command::Command;

/// For one answer of a registry.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks whether the command works yet.
const LOOK: Duration = Duration::from_millis(50);
/// After it has deregistered: until every balancer that watches has heard of it, and what it sent
/// meanwhile has arrived. Watchers are told within some 10 ms.
const TOLD_WITHIN: Duration = Duration::from_millis(300);

/// What is to be done.
pub(crate) struct Plan {
    pub(crate) service: String,
    pub(crate) registration: Registration,
    /// The instance with the check that tells whether it works, at an address that we can reach.
    pub(crate) checked: Instance,
    pub(crate) registries: Vec<Client>,
    pub(crate) start_within: Duration,
    pub(crate) drain: Duration,
    pub(crate) grace: Duration,
    /// Empty: it runs already.
    pub(crate) command: Vec<String>,
}

/// Answers the exit status.
pub(crate) fn run(plan: Plan) -> Result<i32, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Job(format!("cannot start: {error}")))?;
    runtime.block_on(keep(plan))
}

/// How the keeping of a registration ended.
enum Ended {
    Told,
    Exited(i32),
}

async fn keep(plan: Plan) -> Result<i32, Failure> {
    let catch = |kind| signal(kind).map_err(|error| Failure::Job(format!("signals: {error}")));
    let mut signals = Signals {
        terminate: catch(SignalKind::terminate())?,
        interrupt: catch(SignalKind::interrupt())?,
    };
    let mut command = match plan.command.is_empty() {
        true => None,
        false => Some(Command::start(&plan.command, plan.registration.port, plan.grace).await?),
    };
    let mut registrant = Registrant {
        seed: u64::from(std::process::id()),
        current: 0,
        id: plan.registration.id.clone().unwrap_or_else(|| new_id(&plan.service)),
        asked: false,
        heartbeat: plan.checked.heartbeat(),
        plan: &plan,
    };
    let (end, is_over) = watch::channel(false);
    let ended = {
        let mut keeping = pin!(registrant.keep_registered(Until(is_over)));
        let ended = tokio::select! {
            code = exit_of(&mut command) => Ended::Exited(code),
            () = signals.next() => Ended::Told,
            kept = &mut keeping => {
                if let (Some(command), Err(_)) = (&mut command, &kept) {
                    command.stop(plan.grace).await;
                }
                return kept.map(|()| 0);
            }
        };
        end.send_replace(true);
        match ended {
            Ended::Exited(_) => _ = keeping.await,
            Ended::Told => tokio::select! {
                _ = keeping => {}
                // A second signal ends it at once.
                () = signals.next() => return Ok(1),
            },
        }
        ended
    };
    match ended {
        Ended::Exited(code) => {
            info!("the command ended with status {code}");
            registrant.deregister().await;
            Ok(code)
        }
        Ended::Told => {
            let leave = async {
                if registrant.deregister().await && command.is_some() {
                    drained(&plan).await;
                }
                match &mut command {
                    Some(command) => command.stop(plan.grace).await,
                    None => 0,
                }
            };
            tokio::pin!(leave);
            // A second signal ends it at once: the command is killed with its handle.
            tokio::select! {
                code = &mut leave => Ok(code),
                () = signals.next() => Ok(1),
            }
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn exit_of(command: &mut Option<Command>) -> i32 {
    match command {
        Some(command) => command.ended().await,
        None => std::future::pending().await,
    }
}

/// Waits until nobody is connected any more, or its time is over.
async fn drained(plan: &Plan) {
    let begun = Instant::now();
    sleep(TOLD_WITHIN.min(plan.drain)).await;
    loop {
        match connections::established(plan.registration.port) {
            Some(0) => break info!("drained within {:?}", begun.elapsed()),
            _ if begun.elapsed() >= plan.drain => {
                break warn!("connections are left after {:?}; it stops all the same", plan.drain);
            }
            _ => sleep(LOOK).await,
        }
    }
}

/// Until it is over.
struct Until(watch::Receiver<bool>);

impl Until {
    /// `None`: it was over before that was done.
    async fn unless<T>(&mut self, done: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            _ = self.0.wait_for(|over| *over) => None,
            done = done => Some(done),
        }
    }
}

/// Who registers, and stays registered.
struct Registrant<'a> {
    plan: &'a Plan,
    seed: u64,
    /// Of the registries, the one that answered last.
    current: usize,
    /// Ours from the beginning, so that whatever a registry took can be taken out.
    id: String,
    /// A registry was asked to take us.
    asked: bool,
    heartbeat: Duration,
}

impl Registrant<'_> {
    /// Fails if the command does not work in its time, or will never be taken.
    async fn keep_registered(&mut self, mut until: Until) -> Result<(), Failure> {
        let Some(worked) = until.unless(self.until_it_works()).await else { return Ok(()) };
        worked?;
        let mut backoff = Backoff::new(self.seed);
        let (mut registered, mut ever, mut away, mut ill) = (false, false, false, false);
        loop {
            let Some(works) = until.unless(self.works()).await else { return Ok(()) };
            if works == ill {
                ill = !works;
                match ill {
                    true => warn!("it does not work: no heartbeats until it does"),
                    false => info!("it works again"),
                }
            }
            if ill {
                until.unless(sleep(LOOK.max(self.heartbeat / 10))).await;
                continue;
            }
            let told = match registered {
                true => until.unless(self.beat()).await,
                false => Some(self.register().await),
            };
            let Some(told) = told else { return Ok(()) };
            let wait = match told {
                Ok(true) => {
                    (registered, ever) = (true, true);
                    if std::mem::take(&mut away) {
                        info!("the registry answers again");
                    }
                    backoff.reset();
                    self.heartbeat
                }
                Ok(false) => {
                    info!("the registry does not know us any more; we register again");
                    registered = false;
                    continue;
                }
                // Refused for good at first, it would never serve. Later it does serve, and is not
                // stopped because a registry was given another token.
                Err(Refused::Never(why)) if !ever => {
                    return Err(Failure::Job(format!("the registry refuses it: {why}")));
                }
                Err(Refused::Later(why) | Refused::Never(why)) => {
                    if !std::mem::replace(&mut away, true) {
                        warn!("the registry does not take it: {why}; tried again and again");
                    }
                    backoff.wait()
                }
            };
            until.unless(sleep(wait)).await;
        }
    }

    async fn until_it_works(&self) -> Result<(), Failure> {
        let works = async {
            while !self.works().await {
                sleep(LOOK).await;
            }
        };
        let limit = self.plan.start_within;
        timeout(limit, works).await.map_err(|_| {
            let check = match &self.plan.checked.check {
                Some(Check::Http(path)) => format!("GET {path}"),
                _ => "a connection".to_owned(),
            };
            let port = self.plan.registration.port;
            Failure::Job(format!("{check} on port {port} did not succeed within {limit:?}"))
        })
    }

    async fn works(&self) -> bool {
        registrar::passes(&self.plan.checked).await
    }

    /// Answers true.
    async fn register(&mut self) -> Result<bool, Refused> {
        self.asked = true;
        let registration = Registration { id: None, ..self.plan.registration.clone() };
        // Text, numbers, and maps with text as keys: this cannot fail.
        let body = serde_json::to_vec(&registration).unwrap_or_default();
        let answer = self.ask(Method::PUT, &self.path(), body).await?.json();
        let Some(beat) = answer["heartbeat_ms"].as_u64() else {
            return Err(Refused::Later("what it answered is no registration".into()));
        };
        info!("registered as {} for {}", self.id, self.plan.service);
        self.heartbeat = Duration::from_millis(beat.max(1));
        Ok(true)
    }

    /// Whether we are known there.
    async fn beat(&mut self) -> Result<bool, Refused> {
        match self.ask(Method::POST, &format!("{}/heartbeat", self.path()), Vec::new()).await {
            Ok(_) => Ok(true),
            Err(Refused::Never(why)) if why.starts_with("404") => Ok(false),
            Err(refused) => Err(refused),
        }
    }

    /// Whether there was anything to take out. Tried as often as there are registries, and not
    /// longer: what is left ends with its TTL.
    async fn deregister(&mut self) -> bool {
        if !self.asked {
            return false; // who is known by this id is another
        }
        let path = self.path();
        for _ in 0..self.plan.registries.len() {
            match self.ask(Method::DELETE, &path, Vec::new()).await {
                Ok(_) => {
                    info!("deregistered");
                    return true;
                }
                Err(Refused::Later(why) | Refused::Never(why)) => warn!("deregistering: {why}"),
            }
        }
        true
    }

    fn path(&self) -> String {
        format!("/v1/services/{}/instances/{}", self.plan.service, self.id)
    }

    async fn ask(&mut self, method: Method, path: &str, body: Vec<u8>) -> Result<Reply, Refused> {
        let registries = &self.plan.registries;
        let registry = &registries[self.current % registries.len()];
        let ask = Ask { method, path, body, within: PATIENCE };
        let reply = match registry.ask(&ask).await {
            Ok(reply) => reply,
            Err(why) => {
                // The next attempt is another's.
                self.current = self.current.wrapping_add(1);
                return Err(Refused::Later(format!("{}: {why}", registry.authority())));
            }
        };
        match reply.status {
            status if status.is_success() => Ok(reply),
            // Nothing but another registration or another token would change these.
            StatusCode::BAD_REQUEST
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND => Err(Refused::Never(reply.refusal())),
            _ => {
                self.current = self.current.wrapping_add(1);
                Err(Refused::Later(reply.refusal()))
            }
        }
    }
}

/// As a registry makes them up.
fn new_id(service: &str) -> String {
    let number = RandomState::new().hash_one(service);
    format!("{service:.80}-{:012x}", number & 0xffff_ffff_ffff)
}

enum Refused {
    /// Another time it may be otherwise.
    Later(String),
    Never(String),
}
