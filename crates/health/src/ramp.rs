use std::time::Duration;

use model::Instant;
use model::spec::SlowStartSpec;

/// How far an endpoint that began to serve has got on the way to its share.
///
/// Its own time passes while it keeps up, and stands still while it is told to hold; but after
/// [`WINDOWS_MAX`] windows it is over whatever happens.
#[derive(Clone, Copy, Debug)]
pub struct Ramp {
    began: Instant,
    stepped: Instant,
    /// Time that counted.
    progress: Duration,
}

/// A ramp that is held is over after so many windows: one that is slow for good is for outlier
/// detection to find, and is not to be left with next to nothing for ever.
pub const WINDOWS_MAX: u32 = 5;

impl Ramp {
    pub fn new(now: Instant) -> Self {
        Self { began: now, stepped: now, progress: Duration::ZERO }
    }

    /// Time went on. `hold`: the endpoint does not keep up, so for nothing. Answers whether the
    /// ramp is over.
    pub fn step(&mut self, now: Instant, hold: bool, spec: &SlowStartSpec) -> bool {
        if !hold {
            self.progress += now.since(self.stepped);
        }
        self.stepped = now;
        self.progress >= spec.window || now.since(self.began) >= spec.window * WINDOWS_MAX
    }

    /// The share of its weight that is its due: `from` to 1.
    pub fn share(&self, spec: &SlowStartSpec) -> f64 {
        let done = self.progress.as_secs_f64() / spec.window.as_secs_f64();
        spec.from + (1.0 - spec.from) * done.clamp(0.0, 1.0).powf(spec.curve)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn shares(spec: &SlowStartSpec, seconds: &[u32]) -> Vec<u32> {
        let share = |second: &u32| {
            let mut ramp = Ramp::new(Instant::ZERO);
            ramp.step(Instant::ZERO + S * *second, false, spec);
            (ramp.share(spec) * 100.0).round() as u32
        };
        seconds.iter().map(share).collect()
    }

    #[test]
    fn shares_follow_the_curve() {
        let spec = SlowStartSpec { from: 0.2, ..SlowStartSpec::new(10 * S) };
        assert_eq!(shares(&spec, &[0, 5, 10, 99]), [20, 60, 100, 100]);
        let late = SlowStartSpec { curve: 2.0, ..spec.clone() };
        assert_eq!(shares(&late, &[0, 5, 10]), [20, 40, 100]);
        let early = SlowStartSpec { curve: 0.5, ..spec };
        assert_eq!(shares(&early, &[0, 5, 10]), [20, 77, 100]);
    }

    #[test]
    fn a_held_ramp_stands_still_and_ends_after_five_windows() {
        let spec = SlowStartSpec::new(10 * S);
        let at = |second: u32| Instant::ZERO + S * second;
        let mut ramp = Ramp::new(at(0));
        assert!(!ramp.step(at(5), false, &spec));
        let half = ramp.share(&spec);
        assert!(!ramp.step(at(9), true, &spec));
        assert_eq!(ramp.share(&spec), half);
        assert!(!ramp.step(at(13), false, &spec) && ramp.step(at(14), false, &spec));
        let mut ramp = Ramp::new(at(0));
        assert!(!ramp.step(at(49), true, &spec) && ramp.step(at(50), true, &spec));
    }
}
