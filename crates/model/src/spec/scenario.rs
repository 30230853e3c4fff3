//! What `evenkeel simulate` plays: clients, endpoints, and what befalls them, each at its time.
//! Times count from the moment when the clients begin.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::spec::{PolicySpec, ServiceSpec};

#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// How long clients send. Then what is under way is played to its end.
    pub duration: Duration,
    pub seed: u64,
    /// Each plays the scenario by itself, with the same arrivals. Empty: all that there are.
    pub policies: Vec<PolicySpec>,
    /// Balancers beside each other, each with its own view; requests go to one by chance.
    pub balancers: u32,
    /// How much later each further balancer learns of changed endpoints.
    pub stale: Duration,
    /// How the balancers treat the service; its source and policy are not used.
    pub service: ServiceSpec,
    pub clients: Vec<ClientGroup>,
    pub endpoints: Vec<EndpointGroup>,
    pub events: Vec<ScenarioEvent>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ClientGroup {
    pub name: String,
    pub traffic: Traffic,
    /// After this a client gives up; `None`: it waits for ever.
    pub timeout: Option<Duration>,
    /// Different keys (users, sessions) among its requests, for policies that hash.
    pub keys: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Traffic {
    /// So many requests a second whatever happens to them, at random moments (a Poisson process).
    Open { rate: f64 },
    /// So many users; each waits for its answer, and then for so long on average (exponentially
    /// distributed).
    Closed { users: u32, think: Duration },
    /// What once came, at the times when it came.
    Recorded(Recording),
}

/// Requests of an access log of this program.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    pub access_log: PathBuf,
    /// Only requests to this service; `None`: all.
    pub service: Option<String>,
    /// They come so many times as fast as they came then. Default 1.
    pub speed: f64,
    /// Each takes as long as it took then, in place of the latency of the endpoint that serves it
    /// now. Default false.
    pub durations: bool,
    /// By ascending `at_us`. Empty until somebody who may open files has read the log.
    pub arrivals: Arc<[Arrival]>,
}

/// One request of a recording; small, as there may be millions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Since the first request of the recording, in microseconds.
    pub at_us: u64,
    /// How long it took, in microseconds.
    pub took_us: u32,
    /// Which of the recording's clients sent it; counted from zero, below `ClientGroup::keys`.
    pub user: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct EndpointGroup {
    pub name: String,
    pub count: u32,
    /// The time that one request takes while nothing else is in its way.
    pub latency: Latency,
    /// Requests served at the same time; the others queue, first come first served. `None`: all.
    pub threads: Option<u32>,
    /// Requests that may queue; the next ones are reset.
    pub queue_max: u32,
    pub weight: u16,
    pub priority: u8,
    pub zone: Option<String>,
    /// Weight, priority and zone of each, where they differ; a group that grows begins anew with
    /// the first. Empty: all are as this group says.
    pub members: Vec<Member>,
    /// What an endpoint keeps of what it served. Default: nothing makes a difference.
    pub cache: Option<CacheSpec>,
    /// From the start of a new or crashed endpoint until it can be reached.
    pub boot: Duration,
    /// Then it is slow at first, and gets to its speed over this time.
    pub warm_up: Duration,
    /// What else runs on the machines; `None`: nothing.
    pub antagonists: Option<Antagonists>,
}

/// Something else takes a part of the machine, of each endpoint by itself: at random moments, on
/// average once in `every` (a Poisson process), what it has left changes. For this `share` of the
/// time requests take 1 to `slower` times as long, equally distributed; otherwise as ever.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Antagonists {
    pub every: Duration,
    pub share: f64,
    pub slower: f64,
}

/// What an endpoint has of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    pub weight: u16,
    pub priority: u8,
    pub zone: Option<String>,
}

/// A cache by the request's key: the least recently used one makes room. It is empty at each
/// start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CacheSpec {
    /// Of how many keys.
    pub keys: u32,
    /// A request whose key is not there takes so many times as long. Default 10.
    pub miss: f64,
}

/// How long requests take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Latency {
    Constant(Duration),
    Exponential {
        mean: Duration,
    },
    /// `sigma` is the deviation of the natural logarithm.
    LogNormal {
        median: Duration,
        sigma: f64,
    },
    /// Fast, but for this share of requests.
    Bimodal {
        fast: Duration,
        slow: Duration,
        share: f64,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct ScenarioEvent {
    pub at: Duration,
    /// Then it is over; `None`: it stays.
    pub lasts: Option<Duration>,
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// The first `count` endpoints of the group at this position, or all of them.
    Fault { group: usize, count: Option<u32>, fault: Fault },
    /// The group has so many endpoints from now on; the newest leave first.
    Scale { group: usize, count: u32 },
    /// A roll-out: all endpoints of the group are replaced by new ones, one each `pace`.
    Replace { group: usize, pace: Duration },
    /// Clients of this group send so many times as much.
    Burst { group: usize, factor: f64 },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// All takes so many times as long.
    Slower(f64),
    Latency(Latency),
    /// Resets what it has and refuses connections; starts anew when the event is over.
    Crash,
    /// Nothing answers, not even to a connection; what was under way is lost.
    Hang,
    /// Answers this share with 500, and fast.
    Errors(f64),
    /// Resets this share, and fast.
    Resets(f64),
    /// Health checks pass whatever happens to requests.
    ChecksPass,
    /// Health checks fail whatever happens to requests.
    ChecksFail,
    /// An operator drains it, and takes that back when the event is over.
    Drain,
}

impl Scenario {
    /// A scenario of this length with all defaults, and nobody in it.
    pub fn new(duration: Duration) -> Self {
        Self {
            duration,
            seed: 1,
            policies: Vec::new(),
            balancers: 1,
            stale: Duration::ZERO,
            service: ServiceSpec::new("service".into()),
            clients: Vec::new(),
            endpoints: Vec::new(),
            events: Vec::new(),
        }
    }
}

impl ClientGroup {
    pub fn new(name: &str, traffic: Traffic) -> Self {
        Self { name: name.into(), traffic, timeout: None, keys: 1000 }
    }
}

impl EndpointGroup {
    pub fn new(name: &str, count: u32, latency: Latency) -> Self {
        Self {
            name: name.into(),
            count,
            latency,
            threads: None,
            queue_max: 1000,
            weight: 1,
            priority: 0,
            zone: None,
            members: Vec::new(),
            cache: None,
            boot: Duration::ZERO,
            warm_up: Duration::ZERO,
            antagonists: None,
        }
    }

    /// What the endpoint that was started as this one of the group, from zero, is like.
    pub fn member(&self, number: u32) -> Member {
        let own = number.checked_rem(self.members.len() as u32);
        match own.and_then(|own| self.members.get(own as usize)) {
            Some(member) => member.clone(),
            None => {
                Member { weight: self.weight, priority: self.priority, zone: self.zone.clone() }
            }
        }
    }
}
