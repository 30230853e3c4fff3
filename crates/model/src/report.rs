use std::time::Duration;

use crate::{Instant, Outcome};

/// How one pick ended, as the data path tells it. Every pick is reported exactly once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    pub now: Instant,
    pub outcome: Outcome,
    /// Of the answer, if it says something about the endpoint. With [`Outcome::Abandoned`]: it had
    /// not answered after so long, when the answer of another endpoint was taken.
    pub latency: Option<Duration>,
    /// The endpoint asks to be left alone for so long (`Retry-After`, RFC 9110 section 10.2.3).
    pub retry_after: Option<Duration>,
    /// What the answer said of the endpoint's resources (ORCA).
    pub utilization: Option<Utilization>,
    /// What else the endpoint had in flight of ours when this began. `service` fills it in.
    pub in_flight: u32,
    /// From the pick to its report, however it ended. `service` fills it in.
    pub lasted: Duration,
}

impl Report {
    /// With nothing but an outcome.
    pub fn new(now: Instant, outcome: Outcome) -> Self {
        Self {
            now,
            outcome,
            latency: None,
            retry_after: None,
            utilization: None,
            in_flight: 0,
            lasted: Duration::ZERO,
        }
    }

    /// The same with this latency, if there is one.
    pub fn after(self, latency: Option<Duration>) -> Self {
        Self { latency, ..self }
    }
}

/// How much of its resources an endpoint uses, in thousandths: 0 to 65,535, where 1000 is all of
/// it (an application may say more of itself, as the ORCA format allows). What was not said is
/// `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Utilization {
    pub cpu: Option<u16>,
    pub memory: Option<u16>,
    /// As the application defines it, in place of the CPU's.
    pub application: Option<u16>,
}

impl Utilization {
    /// The scarcest resource: the application's own measure or else the CPU's, and the memory's,
    /// whichever is more. `None` if nothing was said.
    pub fn scarcest(&self) -> Option<u16> {
        self.application.or(self.cpu).into_iter().chain(self.memory).max()
    }
}

/// What a health agent, a program beside an endpoint, says of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentReply {
    /// Whether the endpoint is in service; `None`: as before.
    pub standing: Option<AgentStanding>,
    /// Of the weight that is configured, in percent, 0 to 25,600; `None`: as before.
    pub percent: Option<u16>,
    /// `None`: nothing was said of it.
    pub utilization: Option<Utilization>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentStanding {
    Up,
    /// With a text for people: `down: disk is full`, `maint`.
    Down(String),
}

/// What an endpoint said when it was asked how it is, or what its counters say in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeAnswer {
    pub now: Instant,
    /// Requests that it has in flight, of all its clients.
    pub in_flight: u32,
    /// What a request takes there at such a load.
    pub latency: Duration,
}
