use std::sync::Arc;
use std::time::Duration;

use model::spec::{HealthKind, HealthSpec};
use model::{Instant, Rng};

use crate::Reason;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// New: gets no traffic before its first good check.
    Unproven,
    Healthy,
    Unhealthy,
}

/// Run a check now. Its result is handed back with the same generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartCheck {
    pub generation: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    pub from: State,
    pub to: State,
}

/// The health of one endpoint.
///
/// * New: unproven, checked at once, then ever more slowly up to the interval, so that a starting
///   replica is found soon after it is ready. One good check proves it; bad ones leave it unproven.
/// * Healthy: `unhealthy_after` failed checks in a row take it out; so does [`Checker::suspect`].
/// * Unhealthy: `healthy_after` good checks in a row bring it back.
/// * `health: off`: always healthy, never checked, and evidence from traffic is not heard.
///
/// At most one check is under way. A result that comes too late to count is ignored by its
/// generation.
#[derive(Debug)]
pub struct Checker {
    spec: Arc<HealthSpec>,
    state: State,
    reason: Reason,
    /// When it was new, to pace the checks until it is proven.
    born: Instant,
    generation: u64,
    phase: Phase,
    last_start: Option<Instant>,
    passed_in_a_row: u32,
    failed_in_a_row: u32,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Nothing under way; the next check starts then.
    Waiting {
        until: Instant,
    },
    /// A check is under way. If no result came by then, the shell lost it.
    Checking {
        lost_at: Instant,
    },
    Off,
}

/// The shortest time between two checks of an unproven endpoint: a replica is rarely up sooner,
/// and 20 refused connections a second cost next to nothing.
const UNPROVEN_INTERVAL_MIN: Duration = Duration::from_millis(50);

/// An unproven endpoint is next checked after this part of the time that it has existed, so it
/// is found at most a quarter later than it could have been.
const UNPROVEN_PACE: u32 = 4;

/// Suspicion does not start checks more often than this.
const SUSPECT_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Beyond its time-out, how long the result of a check may take to reach us.
const RESULT_SLACK: Duration = Duration::from_secs(2);

/// Bytes of an error that are kept for `status`.
const ERROR_MAX: usize = 200;

impl Checker {
    /// The first check is due at `first_check`. Generations count up from `generation`, so that
    /// those of two checkers of one name can be told apart.
    pub fn new(spec: Arc<HealthSpec>, first_check: Instant, generation: u64) -> Self {
        let off = spec.kind == HealthKind::Off;
        Self {
            state: if off { State::Healthy } else { State::Unproven },
            reason: if off { Reason::Off } else { Reason::NoCheckYet },
            phase: if off { Phase::Off } else { Phase::Waiting { until: first_check } },
            spec,
            born: first_check,
            generation,
            last_start: None,
            passed_in_a_row: 0,
            failed_in_a_row: 0,
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    pub fn spec(&self) -> &Arc<HealthSpec> {
        &self.spec
    }

    /// When [`Checker::handle_timeout`] is to be called; [`Instant::FAR_FUTURE`]: never.
    pub fn poll_timeout(&self) -> Instant {
        match self.phase {
            Phase::Waiting { until } => until,
            Phase::Checking { lost_at } => lost_at,
            Phase::Off => Instant::FAR_FUTURE,
        }
    }

    /// Starts a check if one is due. A check whose result was lost is replaced and counts for
    /// nothing: that was our fault.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<StartCheck> {
        if self.poll_timeout() > now || matches!(self.phase, Phase::Off) {
            return None;
        }
        self.generation += 1;
        self.last_start = Some(now);
        self.phase = Phase::Checking { lost_at: now + self.spec.timeout + RESULT_SLACK };
        Some(StartCheck { generation: self.generation })
    }

    /// The check of this generation passed, or failed with a text for people (`connection
    /// refused`).
    pub fn handle_result(
        &mut self,
        now: Instant,
        generation: u64,
        result: Result<(), String>,
        rng: &mut Rng,
    ) -> Option<Transition> {
        if generation != self.generation || !matches!(self.phase, Phase::Checking { .. }) {
            return None;
        }
        let to = match result {
            Ok(()) => self.passed(),
            Err(error) => self.failed(error),
        };
        let transition = self.enter(to);
        let start = self.last_start.unwrap_or(now);
        self.phase = Phase::Waiting { until: (start + self.pause(now, rng)).max(now) };
        transition
    }

    /// Traffic says that it does not work: `failures` in a row. It is out at once, is checked
    /// soon, and comes back by good checks like any unhealthy endpoint.
    pub fn suspect(&mut self, now: Instant, failures: u32) -> Option<Transition> {
        if matches!(self.phase, Phase::Off) || self.state != State::Healthy {
            return None;
        }
        self.reason = Reason::Traffic { failures };
        self.passed_in_a_row = 0;
        self.check_soon(now);
        self.enter(State::Unhealthy)
    }

    /// The next check is due now, if none is under way; no more often than every 100 ms.
    pub fn check_soon(&mut self, now: Instant) {
        if let Phase::Waiting { until } = self.phase {
            let earliest = self.last_start.map_or(now, |start| start + SUSPECT_INTERVAL_MIN);
            self.phase = Phase::Waiting { until: until.min(earliest.max(now)) };
        }
    }

    /// Takes a changed specification: the state stays and the counts go on, the next check comes
    /// no later than the new interval allows. Off means healthy from now on; checks that begin
    /// again find the endpoint healthy until they fail.
    pub fn update(&mut self, spec: Arc<HealthSpec>, now: Instant) -> Option<Transition> {
        let was_off = self.spec.kind == HealthKind::Off;
        let is_off = spec.kind == HealthKind::Off;
        let what_changed = (&self.spec.kind, self.spec.port) != (&spec.kind, spec.port);
        self.spec = spec;
        match (was_off, is_off) {
            (_, true) => {
                self.phase = Phase::Off;
                self.reason = Reason::Off;
                self.passed_in_a_row = 0;
                self.failed_in_a_row = 0;
                self.enter(State::Healthy)
            }
            (true, false) => {
                self.reason = Reason::NoCheckYet;
                self.phase = Phase::Waiting { until: now };
                None
            }
            (false, false) => {
                if what_changed {
                    // What is under way asks the old question.
                    self.generation += 1;
                    self.phase = Phase::Waiting { until: now };
                } else if let Phase::Waiting { until } = self.phase {
                    let start = self.last_start.unwrap_or(now);
                    let latest = (start + self.spec.interval).max(now);
                    self.phase = Phase::Waiting { until: until.min(latest) };
                }
                None
            }
        }
    }

    fn passed(&mut self) -> State {
        self.failed_in_a_row = 0;
        self.passed_in_a_row = self.passed_in_a_row.saturating_add(1);
        let needed = self.spec.healthy_after;
        if self.state == State::Unhealthy && self.passed_in_a_row < needed {
            self.reason = Reason::Recovering { passed: self.passed_in_a_row, needed };
            return State::Unhealthy;
        }
        self.reason = Reason::Passed;
        State::Healthy
    }

    fn failed(&mut self, mut error: String) -> State {
        self.passed_in_a_row = 0;
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
        if error.len() > ERROR_MAX {
            let end = (0..=ERROR_MAX).rev().find(|end| error.is_char_boundary(*end)).unwrap_or(0);
            error.truncate(end);
        }
        self.reason = Reason::Failed { error: error.into(), in_a_row: self.failed_in_a_row };
        match self.state {
            State::Healthy if self.failed_in_a_row >= self.spec.unhealthy_after => State::Unhealthy,
            state => state,
        }
    }

    fn enter(&mut self, to: State) -> Option<Transition> {
        let from = std::mem::replace(&mut self.state, to);
        (from != to).then_some(Transition { from, to })
    }

    /// From the start of one check to the start of the next, give or take a tenth.
    fn pause(&self, now: Instant, rng: &mut Rng) -> Duration {
        let pause = match self.state {
            State::Unproven => (now.since(self.born) / UNPROVEN_PACE)
                .max(UNPROVEN_INTERVAL_MIN)
                .min(self.spec.interval),
            State::Healthy | State::Unhealthy => self.spec.interval,
        };
        pause.mul_f64(0.9 + 0.2 * rng.unit())
    }
}

#[cfg(test)]
mod tests;
