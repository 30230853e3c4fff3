use crate::Candidate;

/// The candidates that may be picked, with their weights: those above zero, or all of them with
/// weight 1 if none is above zero. Every policy starts from these, so that zero weights mean the
/// same everywhere.
pub(crate) struct Usable {
    /// Position and weight, by ascending position unless made otherwise; weights are never zero.
    entries: Vec<(u32, u16)>,
}

impl Usable {
    pub(crate) fn of(candidates: &[Candidate]) -> Self {
        let positions = 0u32..;
        let mut entries: Vec<(u32, u16)> = positions
            .zip(candidates)
            .filter(|(_, candidate)| candidate.weight > 0)
            .map(|(position, candidate)| (position, candidate.weight))
            .collect();
        if entries.is_empty() {
            entries = (0u32..).take(candidates.len()).map(|position| (position, 1)).collect();
        }
        Self { entries }
    }

    /// The same, by ascending hash of identity: the same order in every process.
    pub(crate) fn by_identity(candidates: &[Candidate]) -> Self {
        let mut usable = Self::of(candidates);
        let identity = |position: u32| candidates[position as usize].identity_hash;
        usable.entries.sort_unstable_by_key(|(position, _)| (identity(*position), *position));
        usable
    }

    /// Those for which it holds, and the others.
    pub(crate) fn split(self, holds: impl Fn(&u32) -> bool) -> (Self, Self) {
        let (these, others) = self.entries.into_iter().partition(|(position, _)| holds(position));
        (Self { entries: these }, Self { entries: others })
    }

    pub(crate) fn entries(&self) -> &[(u32, u16)] {
        &self.entries
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The first one at or after the `start`-th (round the end) that is not excluded; the
    /// `start`-th itself if all are; `None` if there are none at all. Looks at no more entries
    /// than `exclude` has, plus one, unless `exclude` repeats itself.
    pub(crate) fn after(&self, start: u64, exclude: &[u32]) -> Option<u32> {
        let count = self.entries.len();
        if count == 0 {
            return None;
        }
        let start = (start % count as u64) as usize;
        let (tail, head) = self.entries.split_at(start);
        let mut round = head.iter().chain(tail).map(|(position, _)| *position);
        let first = self.entries[start].0;
        Some(round.find(|position| !exclude.contains(position)).unwrap_or(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usable(weights: &[u16]) -> Usable {
        let candidate = |weight: &u16| Candidate { weight: *weight, zone: None, identity_hash: 0 };
        Usable::of(&weights.iter().map(candidate).collect::<Vec<_>>())
    }

    #[test]
    fn zero_weights_count_only_when_alone() {
        assert_eq!(usable(&[0, 2, 0, 1]).entries(), [(1, 2), (3, 1)]);
        assert_eq!(usable(&[0, 0]).entries(), [(0, 1), (1, 1)]);
        assert_eq!(usable(&[]).len(), 0);
    }

    #[test]
    fn after_goes_round_and_avoids_the_excluded() {
        let three = usable(&[1, 1, 1]);
        assert_eq!(three.after(2, &[]), Some(2));
        assert_eq!(three.after(2, &[2]), Some(0));
        assert_eq!(three.after(5, &[2, 0]), Some(1));
        assert_eq!(three.after(1, &[2, 0, 1]), Some(1));
        assert_eq!(usable(&[]).after(1, &[]), None);
    }
}
