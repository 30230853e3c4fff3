use std::collections::BTreeMap;

/// Which keys an endpoint served lately: so many, and then the least recently used one goes.
pub(crate) struct Cache {
    keys_max: usize,
    uses: u64,
    /// By key: its last use; and the other way round. Ordered, so that a run replays.
    last_use: BTreeMap<u64, u64>,
    key_of_use: BTreeMap<u64, u64>,
}

impl Cache {
    pub(crate) fn new(keys_max: u32) -> Self {
        Self {
            keys_max: keys_max as usize,
            uses: 0,
            last_use: BTreeMap::new(),
            key_of_use: BTreeMap::new(),
        }
    }

    /// The key is used, and is there from now on. Answers whether it was.
    pub(crate) fn touch(&mut self, key: u64) -> bool {
        self.uses += 1;
        let before = self.last_use.insert(key, self.uses);
        if let Some(before) = before {
            self.key_of_use.remove(&before);
        }
        self.key_of_use.insert(self.uses, key);
        if self.last_use.len() > self.keys_max
            && let Some((_, oldest)) = self.key_of_use.pop_first()
        {
            self.last_use.remove(&oldest);
        }
        before.is_some()
    }

    pub(crate) fn clear(&mut self) {
        self.last_use.clear();
        self.key_of_use.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_key_makes_room() {
        let mut cache = Cache::new(2);
        let hits = [1, 2, 1, 3, 1, 2, 3].map(|key| cache.touch(key));
        // 3 drives out 2, as 1 was used since; 2 then drives out 3.
        assert_eq!(hits, [false, false, true, false, true, false, false]);
        cache.clear();
        assert!(!cache.touch(3) && cache.touch(3));
        assert!(!Cache::new(0).touch(1));
    }
}
