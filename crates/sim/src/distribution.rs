use std::time::Duration;

use model::Rng;
use model::spec::scenario::Latency;

/// No draw is longer, whatever the distribution's tail: an hour.
const LONGEST: Duration = Duration::from_secs(3600);

pub(crate) fn draw(latency: Latency, rng: &mut Rng) -> Duration {
    match latency {
        Latency::Constant(duration) => duration,
        Latency::Exponential { mean } => exponential(mean, rng),
        Latency::LogNormal { median, sigma } => scaled(median, (sigma * normal(rng)).exp()),
        Latency::Bimodal { fast, slow, share } => {
            if rng.unit() < share {
                slow
            } else {
                fast
            }
        }
    }
}

/// By inversion. The time between two events of a Poisson process.
pub(crate) fn exponential(mean: Duration, rng: &mut Rng) -> Duration {
    scaled(mean, -(1.0 - rng.unit()).ln())
}

/// `duration` times a factor that is not negative.
pub(crate) fn scaled(duration: Duration, factor: f64) -> Duration {
    let seconds = duration.as_secs_f64() * factor;
    if seconds < LONGEST.as_secs_f64() { Duration::from_secs_f64(seconds) } else { LONGEST }
}

/// Box and Muller, 1958; the second of the pair is not used.
fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.unit()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.unit()).cos()
}

/// A generator of its own for everything that is named by these numbers, so that two runs that
/// differ elsewhere draw the same here.
pub(crate) fn stream(seed: u64, kind: u64, number: u64) -> Rng {
    let mixed = seed
        ^ kind.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03).rotate_left(17);
    Rng::from_seed(mixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(latency: Latency, mean_ms: f64, p90_ms: f64) {
        let mut rng = Rng::from_seed(3);
        let mut draws: Vec<f64> =
            (0..40_000).map(|_| draw(latency, &mut rng).as_secs_f64() * 1000.0).collect();
        draws.sort_by(f64::total_cmp);
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        assert!((mean / mean_ms - 1.0).abs() < 0.03, "{latency:?}: mean {mean}");
        let p90 = draws[draws.len() * 9 / 10];
        assert!((p90 / p90_ms - 1.0).abs() < 0.05, "{latency:?}: p90 {p90}");
    }

    #[test]
    fn draws_follow_their_distribution() {
        let ms = Duration::from_millis;
        check(Latency::Constant(ms(7)), 7.0, 7.0);
        check(Latency::Exponential { mean: ms(10) }, 10.0, 23.03);
        // exp(sigma^2 / 2) and exp(1.2816 sigma) times the median.
        check(Latency::LogNormal { median: ms(10), sigma: 0.5 }, 11.33, 18.98);
        check(Latency::Bimodal { fast: ms(1), slow: ms(100), share: 0.2 }, 20.8, 100.0);
    }
}
