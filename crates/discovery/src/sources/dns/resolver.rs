//! One name to whatever servers there are, until one of them knows.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use wire::dns::{CLASS_IN, Data, Name, Question};

use super::answer::{ALIASES_MAX, Meaning, meaning};
use super::exchange::exchange;
use super::resolv_conf::ResolvConf;

/// How often each server is asked before the question is given up for now.
const ROUNDS: usize = 2;

pub(super) struct Resolver {
    pub(super) conf: ResolvConf,
    /// For one answer of one server.
    timeout: Duration,
    /// Who answered last, and is asked first.
    preferred: AtomicUsize,
}

/// What is known of a name now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Found {
        records: Vec<Data>,
        ttl: Duration,
    },
    /// There is none, as somebody says who knows.
    None {
        why: String,
        ttl: Option<Duration>,
    },
    /// Nobody says, and why.
    Failed(String),
}

impl Resolver {
    pub(super) fn new(conf: ResolvConf, timeout: Duration) -> Self {
        Self { conf, timeout, preferred: AtomicUsize::new(0) }
    }

    /// The first of the names that there is. One of which it cannot be told ends the search: the
    /// next one could be somebody else's.
    pub(super) async fn look_up(&self, candidates: &[Name], kind: u16) -> Finding {
        let mut none = Finding::Failed("it is no name".to_owned());
        for name in candidates {
            match self.ask(name.clone(), kind).await {
                Finding::None { why, ttl } => {
                    none = Finding::None { why: format!("{name}: {why}"), ttl };
                }
                Finding::Failed(why) => return Finding::Failed(format!("{name}: {why}")),
                found @ Finding::Found { .. } => return found,
            }
        }
        none
    }

    async fn ask(&self, name: Name, kind: u16) -> Finding {
        let mut question = Question { name, kind, class: CLASS_IN };
        let mut shortest = Duration::MAX;
        for _ in 0..=ALIASES_MAX {
            match self.ask_all(&question).await {
                Ok(Meaning::Alias(target, ttl)) => {
                    shortest = shortest.min(ttl);
                    question.name = target;
                }
                Ok(Meaning::Found { records, ttl }) => {
                    return Finding::Found { records, ttl: ttl.min(shortest) };
                }
                Ok(Meaning::None { why, ttl }) => return Finding::None { why, ttl },
                Ok(Meaning::Failed(why)) | Err(why) => return Finding::Failed(why),
            }
        }
        Finding::Failed("aliases that lead nowhere".to_owned())
    }

    /// The first answer that says something.
    async fn ask_all(&self, question: &Question) -> Result<Meaning, String> {
        let servers = &self.conf.servers;
        let preferred = self.preferred.load(Relaxed);
        let mut failed = Vec::new();
        for _ in 0..ROUNDS {
            failed.clear();
            for at in 0..servers.len() {
                let at = (preferred + at) % servers.len();
                let why = match exchange(servers[at], question, self.timeout).await {
                    Ok(message) => match meaning(&message, question) {
                        Meaning::Failed(why) => why,
                        said => {
                            self.preferred.store(at, Relaxed);
                            return Ok(said);
                        }
                    },
                    Err(why) => why,
                };
                failed.push(format!("{why} from {}", servers[at]));
            }
        }
        Err(failed.join(", "))
    }
}
