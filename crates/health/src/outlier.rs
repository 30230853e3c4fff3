use std::fmt;
use std::time::Duration;

use model::spec::OutlierSpec;
use model::{Instant, Tally};

/// What one endpoint's own traffic says of it, and whether it is ejected for that.
///
/// * Its reports are counted in windows: [`Outlier::close_window`] ends one that is over and says
///   what it saw; the caller compares it with those of the others ([`Outlier::accuse`]).
/// * [`Outlier::eject`] leaves it out for a time: the first time for `ejection`, each further time
///   for twice as long, up to `ejection_max`. [`Outlier::poll_timeout`] is when it comes back.
/// * Then it is on probation: once it was in for as long as it was out, one ejection is forgotten,
///   and after as long as that one lasted the one before it, until all are.
///
/// Whether an ejection is allowed, as the last endpoint and the share of ejected ones forbid it,
/// is the caller's to know. Every method takes the specification, which may change meanwhile.
#[derive(Debug)]
pub struct Outlier {
    /// What was counted when the window began.
    began_with: Tally,
    began: Instant,
    /// The mean of the last window that had enough, and when it ended.
    mean: Option<(Duration, Instant)>,
    /// Ejections that are not yet forgotten.
    times: u32,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// In, since then or since the last ejection was forgotten.
    In {
        since: Instant,
    },
    Out {
        until: Instant,
        evidence: Evidence,
    },
}

/// What a window with enough requests saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    pub tally: Tally,
}

/// Why an endpoint was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    Consecutive { failures: u32 },
    ErrorRate { failures: u64, requests: u64 },
    Latency { mean: Duration, others: Duration },
}

/// A window that has too few requests goes on for so many times its length; then what it saw is
/// too old to be added to.
const WINDOWS_MAX: u32 = 10;

/// Ejections that are counted: twice the first one's time, so many times over, is longer than any
/// `ejection_max`.
const TIMES_MAX: u32 = 32;

impl Outlier {
    pub fn new(now: Instant) -> Self {
        Self {
            began_with: Tally::default(),
            began: now,
            mean: None,
            times: 0,
            phase: Phase::In { since: now },
        }
    }

    pub fn is_ejected(&self) -> bool {
        matches!(self.phase, Phase::Out { .. })
    }

    /// It was ejected, and that is not yet forgotten.
    pub fn is_on_probation(&self) -> bool {
        self.times > 0 && !self.is_ejected()
    }

    /// When an ejected one comes back.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::In { .. } => None,
            Phase::Out { until, .. } => Some(until),
        }
    }

    pub fn evidence(&self) -> Option<&Evidence> {
        match &self.phase {
            Phase::In { .. } => None,
            Phase::Out { evidence, .. } => Some(evidence),
        }
    }

    /// Ends the window if it is over, and answers what it saw if that is enough to speak of.
    pub fn close_window(
        &mut self,
        now: Instant,
        tally: &Tally,
        spec: &OutlierSpec,
    ) -> Option<Window> {
        let age = now.since(self.began);
        if self.is_ejected() || age < spec.interval {
            return None;
        }
        let since = tally.since(&self.began_with);
        let enough = since.requests() >= u64::from(spec.requests_min);
        if enough || age >= spec.interval * WINDOWS_MAX {
            self.begin_window(now, tally);
        }
        if !enough {
            return None;
        }
        self.mean = since.mean_latency().map(|mean| (mean, now));
        Some(Window { tally: since })
    }

    /// The mean latency of its last window, if that is not too old to compare others with.
    pub fn mean(&self, now: Instant, spec: &OutlierSpec) -> Option<Duration> {
        let fresh = |at: Instant| now.since(at) <= spec.interval * WINDOWS_MAX;
        self.mean.filter(|(_, at)| fresh(*at) && !self.is_ejected()).map(|(mean, _)| mean)
    }

    /// What speaks against an endpoint with this window. `others`: the median of the means of
    /// those that it is compared with; `None`: there are none.
    pub fn accuse(
        window: &Window,
        others: Option<Duration>,
        spec: &OutlierSpec,
    ) -> Option<Evidence> {
        let (failures, requests) = (window.tally.failures, window.tally.requests());
        if failures > 0
            && spec.error_rate.is_some_and(|rate| failures as f64 >= rate * requests as f64)
        {
            return Some(Evidence::ErrorRate { failures, requests });
        }
        let (times, others) = (spec.latency?, others?);
        // The mean of a few answers among many failures says little.
        let enough = window.tally.measured >= u64::from(spec.requests_min).div_ceil(2);
        let mean = window.tally.mean_latency().filter(|_| enough)?;
        (mean > others.max(LATENCY_MIN).mul_f64(times))
            .then_some(Evidence::Latency { mean, others })
    }

    pub fn eject(&mut self, now: Instant, evidence: Evidence, spec: &OutlierSpec) {
        self.times = (self.times + 1).min(TIMES_MAX);
        self.phase = Phase::Out { until: now + self.lasts(spec), evidence };
        self.mean = None;
    }

    /// How long an ejection lasts if it is the `times`-th.
    fn lasts(&self, spec: &OutlierSpec) -> Duration {
        let doubled = 1u32.checked_shl(self.times.saturating_sub(1)).unwrap_or(u32::MAX);
        spec.ejection.saturating_mul(doubled).min(spec.ejection_max)
    }

    /// Back in, because its time is over or because it is needed. What was counted meanwhile, the
    /// end of what it had, says nothing of how it will do.
    pub fn readmit(&mut self, now: Instant, tally: &Tally) {
        if self.is_ejected() {
            self.phase = Phase::In { since: now };
            self.begin_window(now, tally);
        }
    }

    /// Forgets an ejection if it has been well for long enough.
    pub fn forget(&mut self, now: Instant, spec: &OutlierSpec) {
        let lasts = self.lasts(spec);
        if let Phase::In { since } = &mut self.phase
            && self.times > 0
            && now.since(*since) >= lasts
        {
            self.times -= 1;
            *since = now;
        }
    }

    /// Outliers are no longer looked for, or are again: all is forgotten.
    pub fn reset(&mut self, now: Instant, tally: &Tally) {
        *self = Self::new(now);
        self.begin_window(now, tally);
    }

    fn begin_window(&mut self, now: Instant, tally: &Tally) {
        self.began = now;
        self.began_with = *tally;
    }

    /// For people, while it is ejected: `62 % of 120 requests failed; back in 9 s (2nd time)`.
    pub fn describe(&self, now: Instant) -> Option<String> {
        let Phase::Out { until, evidence } = &self.phase else { return None };
        let seconds = until.since(now).as_secs_f64().ceil();
        Some(format!("{evidence}; back in {seconds} s ({})", ordinal(self.times)))
    }
}

/// Others' latencies below this count as this, so that of two that answer within microseconds
/// none is slow.
const LATENCY_MIN: Duration = Duration::from_millis(1);

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Evidence::Consecutive { failures } => write!(f, "{failures} requests in a row failed"),
            Evidence::ErrorRate { failures, requests } => {
                write!(f, "{} % of {requests} requests failed", failures * 100 / requests.max(&1))
            }
            Evidence::Latency { mean, others } => {
                write!(f, "requests took {mean:.1?}, those of the others {others:.1?}")
            }
        }
    }
}

fn ordinal(times: u32) -> String {
    match times {
        1 => "1st time".into(),
        2 => "2nd time".into(),
        3 => "3rd time".into(),
        times => format!("{times}th time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const S: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn tally(failures: u64, successes: u64, mean_us: u64) -> Tally {
        Tally { failures, successes, measured: successes, latency_sum_us: successes * mean_us }
    }

    fn plus(a: &Tally, b: &Tally) -> Tally {
        Tally {
            failures: a.failures + b.failures,
            successes: a.successes + b.successes,
            measured: a.measured + b.measured,
            latency_sum_us: a.latency_sum_us + b.latency_sum_us,
        }
    }

    #[test]
    fn windows_end_once_they_have_enough_or_are_too_old() {
        let spec = OutlierSpec::default();
        let mut outlier = Outlier::new(at(0));
        let first = tally(1, 29, 2000);
        assert_eq!(outlier.close_window(at(999), &first, &spec), None, "not over");
        let window = outlier.close_window(at(1000), &first, &spec);
        assert_eq!(window, Some(Window { tally: first }));
        assert_eq!(outlier.mean(at(11_000), &spec), Some(2 * MS));
        assert_eq!(outlier.mean(at(11_001), &spec), None, "too old");
        let few = plus(&first, &tally(0, 19, 1000));
        assert_eq!(outlier.close_window(at(2000), &few, &spec), None, "19 are too few");
        let enough = plus(&first, &tally(1, 19, 1000));
        let window = outlier.close_window(at(3000), &enough, &spec);
        assert_eq!(window, Some(Window { tally: tally(1, 19, 1000) }));
        assert!(outlier.close_window(at(13_000), &plus(&enough, &few), &spec).is_some());
        let base = plus(&enough, &few);
        assert_eq!(outlier.close_window(at(23_000), &plus(&base, &tally(3, 0, 0)), &spec), None);
        let later = plus(&base, &tally(3, 18, 0));
        assert_eq!(
            outlier.close_window(at(24_000), &later, &spec),
            None,
            "those three are too old"
        );
    }

    #[test]
    fn accusations() {
        let spec = OutlierSpec::default();
        let others = Some(10 * MS);
        let accuse = |tally, others| Outlier::accuse(&Window { tally }, others, &spec);
        let rate = |failures, requests| Some(Evidence::ErrorRate { failures, requests });
        let slow = |ms| Some(Evidence::Latency { mean: ms * MS, others: 10 * MS });
        for (tally, others, expected) in [
            (tally(10, 10, 9000), others, rate(10, 20)),
            (tally(9, 11, 9000), others, None),
            (tally(20, 0, 0), None, rate(20, 20)),
            (tally(0, 20, 30_000), others, None),
            (tally(0, 20, 31_000), others, slow(31)),
            (tally(0, 20, 31_000), None, None),
            (tally(9, 9, 31_000), others, rate(9, 18)),
            // Microseconds are no reason.
            (tally(0, 20, 900), Some(Duration::from_micros(20)), None),
        ] {
            assert_eq!(accuse(tally, others), expected, "{tally:?}");
        }
        let none = OutlierSpec { error_rate: None, latency: None, ..spec.clone() };
        let window = Window { tally: tally(20, 20, 99_000) };
        assert_eq!(Outlier::accuse(&window, others, &none), None);
    }

    #[test]
    fn ejections_grow_are_capped_and_are_forgotten_one_by_one() {
        let spec = OutlierSpec { ejection_max: 35 * S, ..OutlierSpec::default() };
        let evidence = Evidence::ErrorRate { failures: 75, requests: 120 };
        let mut outlier = Outlier::new(at(0));
        let mut now = at(0);
        for (time, seconds) in [("1st", 10), ("2nd", 20), ("3rd", 35), ("4th", 35)] {
            outlier.eject(now, evidence, &spec);
            let said = format!("62 % of 120 requests failed; back in {seconds} s ({time} time)");
            assert_eq!(outlier.describe(now), Some(said));
            assert_eq!(outlier.poll_timeout(), Some(now + S * seconds));
            now += S * seconds;
            outlier.readmit(now, &Tally::default());
            assert!(!outlier.is_ejected() && outlier.is_on_probation());
        }
        let mut waited = Vec::new();
        let mut since = now;
        while outlier.is_on_probation() {
            let times = outlier.times;
            now += S;
            outlier.forget(now, &spec);
            if outlier.times < times {
                waited.push(now.since(since).as_secs());
                since = now;
            }
        }
        assert_eq!(waited, [35, 35, 20, 10]);
        outlier.eject(now, evidence, &spec);
        assert_eq!(outlier.poll_timeout(), Some(now + S * 10));
        outlier.forget(now + S * 100, &spec);
        assert_eq!(outlier.times, 1, "time that it is out is no good behaviour");
        for _ in 0..100 {
            outlier.eject(now, evidence, &spec);
        }
        assert_eq!(outlier.poll_timeout(), Some(now + S * 35));
        outlier.reset(now, &Tally::default());
        assert!(!outlier.is_ejected() && !outlier.is_on_probation());
    }
}
