//! In which order the keys of a store changed, as far as this balancer knows: what it writes is
//! answered, and what others write is told, by different ways, and either may be late.
//!
//! A store numbers its changes: etcd by revision, Consul by index. Of two that concern a key the
//! one with the higher number is the later, however they come here.

use std::collections::BTreeMap;
use std::time::Duration;

use model::Instant;

/// Keys beyond it are believed in the order in which they are told.
const KEYS_MAX: usize = 100_000;
/// How late what was before a key's end may come.
const LATE_MAX: Duration = Duration::from_secs(60);

/// Service and id.
type Key = (String, String);

/// The latest change of each key.
#[derive(Debug, Default)]
pub(super) struct Order {
    keys: BTreeMap<Key, Known>,
    highest: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The latest change of any kind.
    seen: u64,
    /// The latest that was an instance.
    held: u64,
    /// It is an instance no longer, since then.
    over: Option<Instant>,
}

/// What a tombstone means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// It left.
    Left,
    /// It left before it came back, and has no key in the store now.
    Released,
    /// Something came after it.
    Late,
}

impl Order {
    /// The highest number that was told.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// The store counts anew.
    pub(super) fn begin_anew(&mut self) {
        *self = Self::default();
    }

    /// The number of the instance that this is, or was; 0: not known.
    pub(super) fn held_at(&self, service: &str, id: &str) -> u64 {
        self.known(service, id).held
    }

    /// The key holds an instance since `number`. Answers whether nothing came after it.
    pub(super) fn hold(&mut self, service: &str, id: &str, number: u64) -> bool {
        let known = self.known(service, id);
        let is_late = number < known.seen || (number == known.seen && known.over.is_some());
        if !is_late {
            self.learn(service, id, Known { seen: number, held: number, over: None });
        }
        !is_late
    }

    /// The key holds a tombstone since `number`, of the instance that it held since `of`.
    pub(super) fn leave(
        &mut self,
        service: &str,
        id: &str,
        number: u64,
        of: Option<u64>,
        now: Instant,
    ) -> Leaving {
        let known = self.known(service, id);
        if number < known.seen {
            return Leaving::Late;
        }
        self.learn(service, id, Known { seen: number, over: Some(now), ..known });
        match of {
            Some(of) if of < known.held => Leaving::Released,
            _ => Leaving::Left,
        }
    }

    /// The key is gone since `number`. Answers whether nothing came after it.
    pub(super) fn go(&mut self, service: &str, id: &str, number: u64, now: Instant) -> bool {
        let known = self.known(service, id);
        let is_late = number < known.seen;
        if !is_late {
            self.learn(service, id, Known { seen: number, over: Some(now), ..known });
        }
        !is_late
    }

    /// It left here, and the store is yet to be told. Answers the number of the instance that
    /// left; 0: not known.
    pub(super) fn left_here(&mut self, service: &str, id: &str, now: Instant) -> u64 {
        let known = self.known(service, id);
        self.learn(service, id, Known { over: Some(now), ..known });
        known.held
    }

    /// Those that ended long ago, and of which `is_known` says that nobody knows them.
    pub(super) fn forget(&mut self, now: Instant, is_known: impl Fn(&str, &str) -> bool) {
        self.keys.retain(|(service, id), known| {
            let is_old = known.over.is_some_and(|over| now.since(over) > LATE_MAX);
            !is_old || is_known(service, id)
        });
    }

    /// Keys of which something is known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    fn known(&self, service: &str, id: &str) -> Known {
        self.keys.get(&(service.to_owned(), id.to_owned())).copied().unwrap_or_default()
    }

    fn learn(&mut self, service: &str, id: &str, known: Known) {
        self.highest = self.highest.max(known.seen);
        let key = (service.to_owned(), id.to_owned());
        if self.keys.len() < KEYS_MAX || self.keys.contains_key(&key) {
            self.keys.insert(key, known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::ZERO;

    #[test]
    fn what_comes_late_changes_nothing() {
        let mut order = Order::default();
        assert!(order.hold("web", "a", 5));
        assert!(order.hold("web", "a", 5), "told twice");
        assert!(order.hold("web", "a", 9));
        assert!(!order.hold("web", "a", 5));
        assert_eq!(order.leave("web", "a", 8, Some(5), NOW), Leaving::Late);
        assert!(!order.go("web", "a", 8, NOW));
        assert!(order.hold("web", "a", 9), "it is still there");
        assert_eq!(order.leave("web", "a", 10, Some(9), NOW), Leaving::Left);
        assert!(!order.hold("web", "a", 9));
        assert!(order.hold("web", "a", 11));
        assert_eq!((order.highest(), order.held_at("web", "a")), (11, 11));
    }

    /// Its lease was lost when the word of an earlier leaving came to the store.
    #[test]
    fn a_tombstone_of_before_it_came_back_only_releases() {
        let mut order = Order::default();
        assert!(order.hold("web", "a", 10));
        assert!(order.go("web", "a", 15, NOW));
        assert_eq!(order.leave("web", "a", 20, Some(5), NOW), Leaving::Released);
        assert_eq!(order.leave("web", "a", 21, Some(10), NOW), Leaving::Left);
        assert_eq!(order.leave("web", "a", 22, None, NOW), Leaving::Left, "of an older balancer");
    }

    #[test]
    fn what_left_here_comes_back_only_by_something_new() {
        let mut order = Order::default();
        assert_eq!(order.left_here("web", "a", NOW), 0);
        assert!(order.hold("web", "a", 5));
        assert_eq!(order.left_here("web", "a", NOW), 5);
        assert!(!order.hold("web", "a", 5));
        assert!(order.hold("web", "a", 6));
    }

    #[test]
    fn what_ended_is_forgotten_in_the_end() {
        let mut order = Order::default();
        for id in ["a", "b", "c"] {
            assert!(order.hold("web", id, 5));
        }
        assert!(order.go("web", "a", 6, NOW) && order.go("web", "b", 6, NOW));
        order.forget(NOW + LATE_MAX, |_, _| false);
        assert_eq!(order.keys.len(), 3);
        let later = NOW + LATE_MAX + Duration::from_millis(1);
        order.forget(later, |_, id| id == "b");
        assert_eq!(order.keys.len(), 2);
        order.begin_anew();
        assert!(order.hold("web", "a", 1));
    }
}
