//! The certificates of one CA: a loop that looks at the store, does what is due, and waits.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use instant_acme::Account;
use model::Rng;
use model::spec::AcmeSpec;
use tls::{Fingerprint, Issued, IssuedCertificate};
use tokio::sync::{Notify, mpsc, watch};
use tracing::{info, warn};

use crate::directory::DirectoryClient;
use crate::lease::BEAT;
use crate::order;
use crate::renewal::{Due, Failure, Plan, Unix, Validity};
use crate::store::{KeptProof, Store};

/// How often the store is looked at for what other balancers put there.
const LOOK: Duration = Duration::from_millis(500);
/// From when a proof is in the store until the CA is told to come: every balancer that shares the
/// store shows it by then.
const SPREAD: Duration = Duration::from_millis(1200);

/// Domains, each with how long before its end its certificate is to be renewed.
pub(crate) type Domains = BTreeMap<String, Option<Duration>>;

/// How a domain's certificate does, for status and metrics.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) plan: Plan,
    pub(crate) not_after: Option<i64>,
    pub(crate) ordering: bool,
    /// Orders of this process.
    pub(crate) issued: u64,
    pub(crate) failed: u64,
}

pub(crate) type Board = Arc<Mutex<BTreeMap<String, Told>>>;

pub(crate) struct Site {
    /// How to speak to the CA; its domains are those of `domains`.
    pub(crate) spec: AcmeSpec,
    pub(crate) root: PathBuf,
    /// Tells this site of this process from all others.
    pub(crate) owner: String,
    pub(crate) domains: watch::Receiver<Domains>,
    pub(crate) wishes: Arc<Notify>,
    pub(crate) issued: Arc<Issued>,
    pub(crate) board: Board,
    pub(crate) rng: Rng,
    pub(crate) known: HashMap<String, Known>,
    pub(crate) complained: Option<String>,
    /// Let go of once the store was looked at.
    pub(crate) looking: Option<mpsc::Sender<()>>,
    pub(crate) begun: std::time::Instant,
}

/// What was last seen of a domain in the store.
#[derive(Default)]
pub(crate) struct Known {
    files: Option<[Option<Fingerprint>; 2]>,
    plan: Plan,
    held: Option<IssuedCertificate>,
    /// PEM of what was issued and could not be kept.
    unkept: Option<String>,
}

impl Site {
    /// Until it is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            let store = Store::open(&self.root, &self.spec.directory, self.owner.clone());
            let turn = match store {
                Ok(store) => self.follow(store).await,
                Err(error) => Err(error),
            };
            // Only what the store says ends a turn.
            if let Err(error) = turn {
                self.complain(&error);
                self.looking = None;
            }
            tokio::time::sleep(LOOK * 10).await;
        }
    }

    /// Nothing can be done without the store; it is said once.
    fn complain(&mut self, error: &io::Error) {
        let reason = format!("{}: {error}", self.root.display());
        if self.complained.as_ref() != Some(&reason) {
            warn!("certificates cannot be kept: {reason}");
        }
        for domain in self.domains.borrow().keys() {
            let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
            let told = board.entry(domain.clone()).or_default();
            told.plan.last = Some(crate::renewal::Past { at: now(), reason: reason.clone() });
        }
        self.complained = Some(reason);
    }

    async fn follow(&mut self, mut store: Store) -> io::Result<()> {
        loop {
            self.show(&store)?;
            let due = self.look(&store)?;
            self.complained = None;
            self.looking = None;
            if !due.is_empty() && store.take_lease(self.begun.elapsed())? {
                let done = self.order_all(&store, &due).await;
                store.clear_proofs()?;
                store.give_lease_back()?;
                self.show(&store)?;
                done?;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                changed = self.domains.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                () = self.wishes.notified() => self.wish(&store)?,
            }
        }
    }

    /// What a CA may come to see, whoever asked it to.
    fn show(&self, store: &Store) -> io::Result<()> {
        show(store, &self.issued, &self.owner)
    }

    /// Takes in what changed in the store; the domains for which something is due.
    fn look(&mut self, store: &Store) -> io::Result<Vec<String>> {
        let domains = self.domains.borrow_and_update().clone();
        let gone: Vec<String> =
            self.known.keys().filter(|name| !domains.contains_key(*name)).cloned().collect();
        for domain in gone {
            self.known.remove(&domain);
            self.issued.remove(&Issued::key(&self.spec.directory, &domain));
            self.board.lock().unwrap_or_else(PoisonError::into_inner).remove(&domain);
        }
        let mut due = Vec::new();
        for (domain, renew_before) in &domains {
            self.look_at(store, domain, *renew_before)?;
            if !matches!(self.known[domain].plan.due(now()), Due::At(_)) {
                due.push(domain.clone());
            }
        }
        Ok(due)
    }

    fn look_at(
        &mut self,
        store: &Store,
        domain: &str,
        renew_before: Option<Duration>,
    ) -> io::Result<()> {
        let known = self.known.entry(domain.to_owned()).or_default();
        let fingerprints = || store.files(domain).map(|path| Fingerprint::of(&path));
        let mut files = fingerprints();
        if let Some(pem) = &known.unkept {
            // Another balancer may have got one meanwhile.
            if known.files.is_none_or(|seen| seen[0] == files[0]) {
                store.keep_certificate(domain, pem)?;
                files = fingerprints();
            }
            known.unkept = None;
        }
        if known.files == Some(files) {
            return Ok(());
        }
        known.plan = store.plan_of(domain)?;
        let pem = store.certificate_of(domain)?;
        match pem.map(|pem| IssuedCertificate::parse(&pem)) {
            None => {
                known.held = None;
                known.plan.handle_lost();
            }
            // The last good one stays in use.
            Some(Err(error)) => warn!("{domain}: the certificate that is kept: {error}"),
            Some(Ok(held)) => {
                known.plan.handle_held(validity(&held), renew_before, now(), &mut self.rng);
                self.issued.install(&Issued::key(&self.spec.directory, domain), &held);
                known.held = Some(held);
            }
        }
        known.files = Some(files);
        self.tell(domain, |_| {});
        Ok(())
    }

    /// What is known of the domain, on the board.
    fn tell(&self, domain: &str, more: impl FnOnce(&mut Told)) {
        let Some(known) = self.known.get(domain) else { return };
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        let told = board.entry(domain.to_owned()).or_default();
        told.plan = known.plan.clone();
        told.not_after = known.held.as_ref().map(|held| held.not_after);
        more(told);
    }

    /// What failed is tried again, since a person says that it may go well now.
    fn wish(&mut self, store: &Store) -> io::Result<()> {
        for (domain, known) in &mut self.known {
            if known.plan.failures > 0 {
                known.plan.handle_wish();
                store.keep_plan(domain, &known.plan)?;
            }
        }
        Ok(())
    }

    /// Only with the lease.
    async fn order_all(&mut self, store: &Store, due: &[String]) -> io::Result<()> {
        // What an order left behind that was broken off.
        store.clear_proofs()?;
        store.probe()?;
        let mut connected = None;
        for domain in due {
            // Another balancer may have done it a moment ago.
            let Some(renew_before) = self.domains.borrow().get(domain).copied() else { continue };
            self.look_at(store, domain, renew_before)?;
            let due = self.known[domain].plan.due(now());
            if matches!(due, Due::At(_)) {
                continue;
            }
            self.tell(domain, |told| told.ordering = due == Due::Order);
            let done = self.beating(store, domain, due, &mut connected).await;
            self.tell(domain, |told| told.ordering = false);
            if !done? {
                warn!("{domain}: another balancer goes on with its certificate");
                return Ok(());
            }
        }
        Ok(())
    }

    /// Does what is due, with signs of life on the lease meanwhile; false: it is not ours any more.
    async fn beating(
        &mut self,
        store: &Store,
        domain: &str,
        due: Due,
        connected: &mut Option<(DirectoryClient, Account)>,
    ) -> io::Result<bool> {
        let outcome = {
            let mut work = std::pin::pin!(self.carry_out(store, domain, due, connected));
            let mut beats = tokio::time::interval(BEAT);
            loop {
                tokio::select! {
                    outcome = &mut work => break Ok(outcome),
                    _ = beats.tick() => match store.keep_lease() {
                        Ok(true) => {}
                        Ok(false) => return Ok(false),
                        Err(error) => break Err(error),
                    }
                }
            }
        };
        match outcome {
            Ok(outcome) => self.settle(store, domain, outcome)?,
            Err(error) => {
                // The CA counts an order that is broken off. The plan may not be kept either.
                let failure = unkept(&error);
                let _ = self.settle(store, domain, Outcome::Failed { failure, due });
                return Err(error);
            }
        }
        Ok(true)
    }

    async fn carry_out(
        &self,
        store: &Store,
        domain: &str,
        due: Due,
        connected: &mut Option<(DirectoryClient, Account)>,
    ) -> Outcome {
        let outcome = self.attempt(store, domain, due, connected).await;
        match outcome {
            Outcome::Failed { failure, .. } if order::is_account_gone(&failure) => {
                warn!("{} has forgotten our account; it gets another", self.spec.directory);
                if let Err(error) = store.forget_account() {
                    warn!("{error}");
                }
                self.attempt(store, domain, due, connected).await
            }
            outcome => outcome,
        }
    }

    async fn attempt(
        &self,
        store: &Store,
        domain: &str,
        due: Due,
        connected: &mut Option<(DirectoryClient, Account)>,
    ) -> Outcome {
        if connected.is_none() {
            match self.connect(store).await {
                Ok(made) => *connected = Some(made),
                Err(failure) => return Outcome::Failed { failure, due },
            }
        }
        let Some((client, account)) = connected else { return Outcome::Nothing };
        let held = self.known.get(domain).and_then(|known| known.held.as_ref());
        let outcome = match (due, held) {
            (Due::Ask, Some(held)) => {
                order::window(account, client, held).await.map(Outcome::Window)
            }
            (Due::Ask | Due::At(_), _) => Ok(Outcome::Nothing),
            (Due::Order, held) => {
                let show = |proof: KeptProof| self.show_proof(store, proof);
                let challenge = self.spec.challenge;
                let issued = order::issue(account, client, domain, challenge, held, show);
                issued.await.map(Outcome::Issued)
            }
        };
        outcome.unwrap_or_else(|failure| {
            // The next one begins with the account as it is kept then.
            *connected = None;
            Outcome::Failed { failure, due }
        })
    }

    async fn connect(&self, store: &Store) -> Result<(DirectoryClient, Account), Failure> {
        let ours = |reason| Failure { reason, refused: false, retry_after: None };
        let trusted = tls::trusting(self.spec.ca.as_deref()).map_err(ours)?;
        let client = DirectoryClient::new(trusted);
        let account = order::account(store, &self.spec, &client).await?;
        Ok((client, account))
    }

    async fn show_proof(&self, store: &Store, proof: KeptProof) -> io::Result<()> {
        store.keep_proof(&proof)?;
        show(store, &self.issued, &self.owner)?;
        tokio::time::sleep(SPREAD).await;
        Ok(())
    }

    fn settle(&mut self, store: &Store, domain: &str, outcome: Outcome) -> io::Result<()> {
        let renew_before = self.domains.borrow().get(domain).copied().flatten();
        let now = now();
        let Some(known) = self.known.get_mut(domain) else { return Ok(()) };
        match outcome {
            Outcome::Nothing => return Ok(()),
            Outcome::Issued(pem) => {
                if let Err(error) = store.keep_certificate(domain, &pem) {
                    self.hold_unkept(store, domain, pem, &error);
                    return Err(error);
                }
                self.look_at(store, domain, renew_before)?;
                let Some(known) = self.known.get(domain) else { return Ok(()) };
                if let Some(held) = &known.held {
                    info!(
                        "certificate for {domain} by {}, good for another {}",
                        held.issuer,
                        days(Duration::from_secs(held.not_after.unsigned_abs()), now)
                    );
                }
                store.keep_plan(domain, &known.plan)?;
                self.tell(domain, |told| told.issued += 1);
                return Ok(());
            }
            Outcome::Window(Some((window, again))) => {
                known.plan.handle_window(window, again, now, &mut self.rng);
            }
            Outcome::Window(None) => known.plan.handle_no_window(true, now),
            // It was only a question.
            Outcome::Failed { due: Due::Ask, .. } => known.plan.handle_no_window(false, now),
            Outcome::Failed { failure, .. } => {
                known.plan.handle_failed(&failure, now, &mut self.rng);
                warn!(
                    "no certificate for {domain}: {}; tried again in {:.0?}{}",
                    failure.reason,
                    known.plan.retry_at.saturating_sub(now),
                    if known.held.is_some() { "; the last one stays in use" } else { "" },
                );
                store.keep_plan(domain, &known.plan)?;
                self.tell(domain, |told| told.failed += 1);
                return Ok(());
            }
        }
        store.keep_plan(domain, &known.plan)?;
        self.tell(domain, |_| {});
        Ok(())
    }

    /// It was issued, and the CA's limits are for orders: it is used all the same, and is kept
    /// once that can be done.
    fn hold_unkept(&mut self, store: &Store, domain: &str, pem: String, error: &io::Error) {
        let renew_before = self.domains.borrow().get(domain).copied().flatten();
        let now = now();
        let Some(known) = self.known.get_mut(domain) else { return };
        known.plan.handle_failed(&unkept(error), now, &mut self.rng);
        // Those who share the store wait as well, if they can be told.
        let _ = store.keep_plan(domain, &known.plan);
        match IssuedCertificate::parse(&pem) {
            Ok(held) => {
                let Plan { failures, retry_at, last, .. } = known.plan.clone();
                known.plan.handle_held(validity(&held), renew_before, now, &mut self.rng);
                known.plan = Plan { failures, retry_at, last, ..known.plan.clone() };
                self.issued.install(&Issued::key(&self.spec.directory, domain), &held);
                known.held = Some(held);
                known.unkept = Some(pem);
                warn!("the certificate for {domain} is in use, but cannot be kept: {error}");
            }
            Err(defect) => warn!("{domain}: the certificate that was issued: {defect}"),
        }
        self.tell(domain, |told| told.failed += 1);
    }
}

/// An order that came to nothing by our own store, which the CA counts all the same.
fn unkept(error: &io::Error) -> Failure {
    let reason = format!("it cannot be kept: {error}");
    Failure { reason, refused: true, retry_after: None }
}

fn validity(held: &IssuedCertificate) -> Validity {
    let seconds = |s: i64| Duration::from_secs(u64::try_from(s).unwrap_or(0));
    Validity { not_before: seconds(held.not_before), not_after: seconds(held.not_after) }
}

/// What came of what was due.
enum Outcome {
    Nothing,
    /// PEM of chain and key.
    Issued(String),
    Window(Option<((Unix, Unix), Duration)>),
    Failed {
        failure: Failure,
        due: Due,
    },
}

fn show(store: &Store, issued: &Issued, owner: &str) -> io::Result<()> {
    let proofs = store.proofs()?.iter().map(KeptProof::shown).collect();
    if let Err(error) = issued.show(owner, proofs) {
        warn!("a proof for TLS-ALPN-01 cannot be made: {error}");
    }
    Ok(())
}

fn now() -> Unix {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn days(end: Unix, now: Unix) -> String {
    let left = end.saturating_sub(now).as_secs();
    match left {
        ..7200 => format!("{left} s"),
        7200..172_800 => format!("{} hours", left / 3600),
        _ => format!("{} days", left / 86_400),
    }
}

#[cfg(test)]
mod tests;
