//! What a peer may waste.

/// A number of wasteful acts that are left. Useful ones earn some back, and so does time, of which
/// the caller knows: a flood runs out within its first frames, and a connection that lives for days
/// with a ping now and then never does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    left: u32,
    max: u32,
}

impl Budget {
    pub(crate) fn new(max: u32) -> Self {
        Self { left: max, max }
    }

    /// False: nothing was left to spend.
    #[must_use]
    pub(crate) fn spend(&mut self) -> bool {
        let spent = self.left.checked_sub(1);
        self.left = spent.unwrap_or(0);
        spent.is_some()
    }

    pub(crate) fn earn(&mut self, count: u32) {
        self.left = self.left.saturating_add(count).min(self.max);
    }

    pub(crate) fn refill(&mut self) {
        self.left = self.max;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_out_and_is_earned_back_up_to_its_size() {
        let mut budget = Budget::new(2);
        assert!(budget.spend() && budget.spend());
        assert!(!budget.spend());
        budget.earn(1);
        assert!(budget.spend() && !budget.spend());
        budget.earn(100);
        assert!(budget.spend() && budget.spend() && !budget.spend());
        budget.refill();
        assert!(budget.spend());
    }
}
