//! One route, several services, by weight.

use model::Rng;

/// Draws a position with the chance of its weight. Weights are of any sum; a weight of 0 is never
/// drawn, unless all are 0: then position 0 is.
#[derive(Clone, Debug)]
pub struct Split {
    /// `sums[i]` is the sum of the weights up to and with `i`.
    sums: Box<[u64]>,
}

impl Split {
    pub fn new(weights: &[u32]) -> Self {
        let mut sum = 0;
        let sums = weights.iter().map(|&weight| {
            sum += u64::from(weight);
            sum
        });
        Self { sums: sums.collect() }
    }

    /// A position among the weights. The usual single service costs no random number.
    pub fn pick(&self, rng: &mut Rng) -> usize {
        let total = match &*self.sums {
            [] | [_] | [.., 0] => return 0,
            [.., total] => *total,
        };
        let drawn = rng.below(total);
        self.sums.partition_point(|&sum| sum <= drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_weights() {
        let check = |weights: &[u32]| {
            const DRAWS: u32 = 100_000;
            let (split, mut rng) = (Split::new(weights), Rng::from_seed(1));
            let mut counts = vec![0u32; weights.len()];
            for _ in 0..DRAWS {
                counts[split.pick(&mut rng)] += 1;
            }
            let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            for (&weight, &count) in weights.iter().zip(&counts) {
                let wanted = f64::from(weight) / total as f64;
                let seen = f64::from(count) / f64::from(DRAWS);
                assert!((wanted - seen).abs() < 0.01, "{weights:?}: {counts:?}");
                assert!(weight > 0 || count == 0, "{weights:?}: {counts:?}");
            }
        };
        check(&[1]);
        check(&[90, 10]);
        check(&[0, 3, 0, 1, 0]);
        check(&[u32::MAX, u32::MAX, u32::MAX]);
    }

    #[test]
    fn nothing_to_choose_from_is_position_0() {
        let mut rng = Rng::from_seed(1);
        assert_eq!(Split::new(&[]).pick(&mut rng), 0);
        assert_eq!(Split::new(&[0, 0]).pick(&mut rng), 0);
    }
}
