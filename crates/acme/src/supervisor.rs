use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use model::Rng;
use model::spec::AcmeSpec;
use model::status::AcmeStatus;
use tls::Issued;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, LocalSet};

use crate::site::{Board, Domains, Site};

/// How long listeners wait for the certificates of a store that answers late.
const LOOKED_WITHIN: Duration = Duration::from_secs(2);

/// Looks after the certificates of all CAs, on a thread of its own: a file system may hang. Ends
/// when it is dropped.
#[derive(Debug)]
pub struct Acme {
    wishes: mpsc::UnboundedSender<Wish>,
    boards: Arc<std::sync::Mutex<HashMap<String, Board>>>,
}

/// A domain's certificate, as it is wanted and as it is.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub domain: String,
    /// Seconds since 1970; `None`: there is none yet.
    pub not_after: Option<i64>,
    pub status: AcmeStatus,
}

enum Wish {
    /// Each site lets go of the sender once it has looked at its store.
    Set(Vec<AcmeSpec>, mpsc::Sender<()>),
    Retry,
}

impl Acme {
    /// Nothing is ordered before [`Acme::set`].
    ///
    /// # Errors
    /// When no thread or runtime can be made.
    pub fn start(issued: Arc<Issued>) -> io::Result<Self> {
        let (wishes, inbox) = mpsc::unbounded_channel();
        let boards: Arc<std::sync::Mutex<HashMap<String, Board>>> = Arc::default();
        let supervisor = Supervisor { issued, boards: boards.clone(), sites: HashMap::new() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("acme".into()).spawn(move || {
            runtime.block_on(LocalSet::new().run_until(supervisor.run(inbox)));
        })?;
        Ok(Self { wishes, boards })
    }

    /// The certificates that are wanted from now on, by listener. Those that are in the store are
    /// in use once this is done. What is held stays in use until it is not wanted any more.
    pub async fn set(&self, wanted: Vec<AcmeSpec>) {
        let (looking, mut looked) = mpsc::channel(1);
        // A closed channel means that we are stopping.
        let _ = self.wishes.send(Wish::Set(wanted, looking));
        // Ends when nobody looks any more. A store that hangs is not waited for.
        let _ = tokio::time::timeout(LOOKED_WITHIN, looked.recv()).await;
    }

    /// What failed is tried again now.
    pub fn retry(&self) {
        let _ = self.wishes.send(Wish::Retry);
    }

    /// How the certificates of a listener do.
    pub fn status(&self, spec: &AcmeSpec) -> Vec<Wanted> {
        let board = {
            let boards = self.boards.lock().unwrap_or_else(PoisonError::into_inner);
            boards.get(&site_of(spec)).cloned().unwrap_or_default()
        };
        let board = board.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = |domain: &String| {
            let told = board.get(domain).cloned().unwrap_or_default();
            let status = AcmeStatus {
                directory: spec.directory.clone(),
                next_unix: told.plan.order_at().as_secs(),
                ordering: told.ordering,
                failures: told.plan.failures,
                failed_unix: told.plan.last.as_ref().map(|last| last.at.as_secs()),
                reason: told.plan.last.map(|last| last.reason),
                issued: told.issued,
                failed: told.failed,
            };
            Wanted { domain: domain.clone(), not_after: told.not_after, status }
        };
        spec.domains.iter().map(wanted).collect()
    }
}

struct Supervisor {
    issued: Arc<Issued>,
    boards: Arc<std::sync::Mutex<HashMap<String, Board>>>,
    sites: HashMap<String, Running>,
}

/// A site at work.
struct Running {
    domains: watch::Sender<Domains>,
    wishes: Arc<Notify>,
    task: AbortHandle,
    directory: String,
    owner: String,
}

/// What two listeners have to have in common for their certificates to be looked after together.
fn site_of(spec: &AcmeSpec) -> String {
    let apart =
        AcmeSpec { domains: Vec::new(), from_routes: false, renew_before: None, ..spec.clone() };
    // Debug leaves the account's key out, which somebody may have mistyped before.
    let key = spec.eab.as_ref().map(|eab| &eab.hmac_key);
    format!("{apart:?} {key:?}")
}

impl Supervisor {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Wish>) {
        while let Some(wish) = inbox.recv().await {
            match wish {
                Wish::Set(wanted, looking) => self.set(wanted, &looking),
                Wish::Retry => self.sites.values().for_each(|site| site.wishes.notify_one()),
            }
        }
    }

    fn set(&mut self, wanted: Vec<AcmeSpec>, looking: &mpsc::Sender<()>) {
        let mut sites: BTreeMap<String, (AcmeSpec, Domains)> = BTreeMap::new();
        for spec in wanted {
            let (_, domains) =
                sites.entry(site_of(&spec)).or_insert_with(|| (spec.clone(), Domains::new()));
            domains.extend(spec.domains.iter().map(|name| (name.clone(), spec.renew_before)));
        }
        let gone: Vec<String> =
            self.sites.keys().filter(|key| !sites.contains_key(*key)).cloned().collect();
        for key in gone {
            if let Some(site) = self.sites.remove(&key) {
                site.task.abort();
                for domain in site.domains.borrow().keys() {
                    self.issued.remove(&Issued::key(&site.directory, domain));
                }
                // Nothing is to be made for nothing.
                let _ = self.issued.show(&site.owner, Vec::new());
            }
            self.boards.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        }
        for (key, (spec, domains)) in sites {
            match self.sites.get(&key) {
                Some(site) => {
                    site.domains.send_if_modified(|current| {
                        let changed = *current != domains;
                        *current = domains;
                        changed
                    });
                }
                None => {
                    let site = self.start(key.clone(), spec, domains, looking.clone());
                    self.sites.insert(key, site);
                }
            }
        }
    }

    fn start(
        &self,
        key: String,
        spec: AcmeSpec,
        domains: Domains,
        looking: mpsc::Sender<()>,
    ) -> Running {
        let board = Board::default();
        self.boards
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.clone(), board.clone());
        let seed = RandomState::new().hash_one(&key);
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let owner = format!("{} {} {seed:016x}", host.trim_end(), std::process::id());
        let wishes = Arc::<Notify>::default();
        let directory = spec.directory.clone();
        let (domains, receiver) = watch::channel(domains);
        let site = Site {
            root: spec.store.clone().unwrap_or_else(default_root),
            spec,
            owner: owner.clone(),
            domains: receiver,
            wishes: wishes.clone(),
            issued: self.issued.clone(),
            board,
            rng: Rng::from_seed(seed),
            known: HashMap::new(),
            complained: None,
            looking: Some(looking),
            begun: std::time::Instant::now(),
        };
        let task = tokio::task::spawn_local(site.run()).abort_handle();
        Running { domains, wishes, task, directory, owner }
    }
}

/// Where certificates are kept when the configuration does not say.
fn default_root() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(folder) = variable("STATE_DIRECTORY") {
        // systemd gives several, the first of which is the service's.
        let text = folder.to_string_lossy();
        return PathBuf::from(text.split(':').next().unwrap_or_default()).join("acme");
    }
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/evenkeel/acme");
    }
    let state = variable("XDG_STATE_HOME").map(PathBuf::from);
    let home = || variable("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    // Without a home the working directory is all there is.
    state.or_else(home).unwrap_or_default().join("evenkeel/acme")
}
