//! What answers said, one after the other. Pure.
//!
//! Two rules decide who leaves. **Confirmation**: what answers no longer hold leaves after it was
//! missing in a number of answers in a row, and so does everybody after as many empty answers.
//! **Parts**: some servers answer with a part at a time, another each time. That is known by
//! answers that bring back what was missing in those before (which were not empty): as many
//! within a window as confirm that something leaves. From then on, for a window, everything stays
//! that was seen within the window. Fewer would take somebody who goes back to what was before, as
//! deployments do, for such a server.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// Answers' worth of time that the window holds at least, so that each of many has a chance to
/// be seen.
const ANSWERS_IN_WINDOW: u32 = 30;

/// What is remembered of one name; what comes beyond it is passed over.
const MEMBERS_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) confirmations: u32,
    pub(super) window: Duration,
}

pub(super) struct Known<K, V> {
    /// All that was seen within the window.
    members: BTreeMap<K, Member<V>>,
    /// Empty answers in a row.
    empty: u32,
    /// When answers brought something back, the last first; as many as it takes.
    returns: VecDeque<Instant>,
    /// Answers are taken for parts until then.
    parts_until: Option<Instant>,
    /// It is known what there is.
    answered: bool,
}

struct Member<V> {
    value: V,
    seen: Instant,
    /// In so many answers in a row.
    missing: u32,
    /// And one of them was not empty.
    others_there: bool,
}

impl<K, V> Default for Known<K, V> {
    fn default() -> Self {
        Self {
            members: BTreeMap::new(),
            empty: 0,
            returns: VecDeque::new(),
            parts_until: None,
            answered: false,
        }
    }
}

impl<K: Ord + Clone, V> Known<K, V> {
    /// An answer, which holds for `ttl`.
    pub(super) fn take(&mut self, found: BTreeMap<K, V>, ttl: Duration, rule: &Rule, now: Instant) {
        let window = rule.window.max(ttl * ANSWERS_IN_WINDOW);
        let is_empty = found.is_empty();
        self.empty = if is_empty { self.empty.saturating_add(1) } else { 0 };
        self.answered |= !is_empty || self.empty >= rule.confirmations;
        for (key, member) in &mut self.members {
            if !found.contains_key(key) {
                member.missing = member.missing.saturating_add(1);
                member.others_there |= !is_empty;
            }
        }
        let mut returned = false;
        for (key, value) in found {
            let room = self.members.len() < MEMBERS_MAX;
            let member = Member { value, seen: now, missing: 0, others_there: false };
            match self.members.entry(key) {
                Entry::Occupied(mut known) => {
                    returned |= known.get().missing > 0 && known.get().others_there;
                    known.insert(member);
                }
                Entry::Vacant(free) => {
                    if room {
                        free.insert(member);
                    }
                }
            }
        }
        if returned {
            self.returns.push_front(now);
            self.returns.truncate(rule.confirmations as usize);
            let oldest = self.returns.get((rule.confirmations as usize).saturating_sub(1));
            if oldest.is_some_and(|oldest| now < *oldest + window) {
                self.parts_until = Some(now + window);
            }
        }
        let shows_parts = self.parts_until.is_some_and(|until| now < until);
        if !shows_parts {
            self.parts_until = None;
        }
        if self.empty >= rule.confirmations {
            self.members.clear();
            self.parts_until = None;
        }
        self.members.retain(|_, member| now < member.seen + window);
    }

    /// Who counts now.
    pub(super) fn current(&self, rule: &Rule) -> impl Iterator<Item = (&K, &V)> {
        let parts = self.parts_until.is_some();
        let confirmations = rule.confirmations;
        let counts = move |member: &Member<V>| parts || member.missing < confirmations;
        let members = self.members.iter().filter(move |(_, member)| counts(member));
        members.map(|(key, member)| (key, &member.value))
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered
    }

    /// The next answer may confirm that somebody leaves.
    pub(super) fn is_unsettled(&self, rule: &Rule) -> bool {
        let leaves = |member: &Member<V>| (1..rule.confirmations).contains(&member.missing);
        (1..rule.confirmations).contains(&self.empty)
            || self.parts_until.is_none() && self.members.values().any(leaves)
    }
}

#[cfg(test)]
mod tests {
    use model::Rng;

    use super::*;

    const RULE: Rule = Rule { confirmations: 3, window: Duration::from_secs(60) };
    const TTL: Duration = Duration::from_secs(1);

    struct Play {
        known: Known<u32, ()>,
        now: Instant,
    }

    impl Play {
        fn new() -> Self {
            Self { known: Known::default(), now: Instant::now() }
        }

        /// One answer each second; answers who counts then, and `?` if that is unsettled.
        fn take(&mut self, found: &[u32]) -> String {
            self.now += TTL;
            let found = found.iter().map(|key| (*key, ())).collect();
            self.known.take(found, TTL, &RULE, self.now);
            let mut said: Vec<String> =
                self.known.current(&RULE).map(|(key, ())| key.to_string()).collect();
            if self.known.is_unsettled(&RULE) {
                said.push("?".into());
            }
            said.join(" ")
        }
    }

    #[test]
    fn who_is_missing_leaves_when_it_is_confirmed() {
        let mut play = Play::new();
        for (found, expected) in [
            (&[1, 2][..], "1 2"),
            (&[1, 2, 3], "1 2 3"),
            (&[2, 3], "1 2 3 ?"),
            (&[2, 3], "1 2 3 ?"),
            (&[2, 3], "2 3"),
            (&[4], "2 3 4 ?"),
            (&[4], "2 3 4 ?"),
            (&[4], "4"),
        ] {
            assert_eq!(play.take(found), expected, "{found:?}");
        }
    }

    /// A deployment, and back to what was before.
    #[test]
    fn who_comes_back_makes_no_parts_of_answers() {
        let mut play = Play::new();
        for all in [&[1, 2][..], &[3, 4], &[1, 2], &[5]] {
            (0..3).for_each(|_| drop(play.take(all)));
            let expected: Vec<String> = all.iter().map(u32::to_string).collect();
            assert_eq!(play.take(all), expected.join(" "));
        }
    }

    #[test]
    fn nobody_is_believed_when_it_is_confirmed() {
        let mut play = Play::new();
        assert_eq!(play.take(&[]), "?");
        assert!(!play.known.is_answered());
        assert_eq!(play.take(&[1, 2]), "1 2");
        // A hole does not make parts of the answers beside it.
        assert_eq!(play.take(&[]), "1 2 ?");
        assert_eq!(play.take(&[]), "1 2 ?");
        assert_eq!(play.take(&[1, 2]), "1 2");
        assert_eq!((play.take(&[2]), play.take(&[2]), play.take(&[2])).2, "2");
        assert_eq!((play.take(&[]), play.take(&[]), play.take(&[])).2, "");
        let mut nobody = Play::new();
        assert_eq!((nobody.take(&[]), nobody.take(&[]), nobody.take(&[])).2, "");
        assert!(nobody.known.is_answered());
    }

    #[test]
    fn parts_are_put_together() {
        let mut play = Play::new();
        let mut rng = Rng::from_seed(7);
        let mut left = 0;
        for answer in 0..600 {
            let part: Vec<u32> = (0..4).map(|_| rng.below(20) as u32).collect();
            let before: Vec<u32> = play.known.current(&RULE).map(|(key, ())| *key).collect();
            play.take(&part);
            let now: Vec<u32> = play.known.current(&RULE).map(|(key, ())| *key).collect();
            left += before.iter().filter(|key| !now.contains(key)).count();
            if answer == 60 {
                assert_eq!(now.len(), 20);
                left = 0;
            }
        }
        assert_eq!(left, 0, "nobody left in nine minutes");
        // From now on ten of them, whole: when the window is over the others have left.
        let ten: Vec<u32> = (0..10).collect();
        let last = (0..130).map(|_| play.take(&ten)).last().unwrap();
        assert_eq!(last, "0 1 2 3 4 5 6 7 8 9");
        // And answers are whole ones again.
        assert_eq!(play.take(&[0]).split(' ').count(), 11);
        assert_eq!((play.take(&[0]), play.take(&[0])).1, "0");
    }

    #[test]
    fn a_long_ttl_makes_a_long_window() {
        let mut known: Known<u32, ()> = Known::default();
        let (ttl, mut now) = (Duration::from_secs(60), Instant::now());
        for answer in 0..100_u32 {
            now += ttl;
            let part = [answer % 5, (answer + 1) % 5];
            known.take(part.map(|key| (key, ())).into(), ttl, &RULE, now);
        }
        assert_eq!(known.current(&RULE).count(), 5);
    }

    #[test]
    fn values_change_in_place() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.take([("a", 1)].into(), TTL, &RULE, now);
        known.take([("a", 2)].into(), TTL, &RULE, now);
        assert_eq!(known.current(&RULE).collect::<Vec<_>>(), [(&"a", &2)]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut known, now) = (Known::default(), Instant::now());
        for answer in 0..4 {
            let part = answer * 4000..(answer + 1) * 4000_usize;
            known.take(part.map(|key| (key, ())).collect(), TTL, &RULE, now);
        }
        assert_eq!(known.members.len(), MEMBERS_MAX);
    }
}
