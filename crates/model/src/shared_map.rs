//! A sorted map of which two versions share what they have in common.
//!
//! For: configurations. A copy costs a few microseconds for ten thousand entries, a change of one
//! entry copies only its neighbours, and the difference of two versions is found without a look at
//! what both share. So a change costs by what it changes and not by how much there is.
//! Never: for requests: a look-up is slower than a hash map's.
//! Start with [`SharedMap::differences`].

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Index;
use std::sync::Arc;

/// Entries of one chunk; a full one is split. A change copies one chunk, and a copy of the map
/// counts up one reference for each: this is about where both cost the same at ten thousand.
const CHUNK_MAX: usize = 64;

/// Sorted by key; values are shared between versions.
pub struct SharedMap<K, V> {
    /// None is empty.
    chunks: Vec<Chunk<K, V>>,
    len: usize,
}

type Chunk<K, V> = Arc<Vec<(K, Arc<V>)>>;

/// One entry that two versions do not have alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Differing<'a, K, V> {
    Added(&'a K, &'a Arc<V>),
    Changed(&'a K, &'a Arc<V>, &'a Arc<V>),
    Removed(&'a K, &'a Arc<V>),
}

impl<K, V> SharedMap<K, V> {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// By key.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &Arc<V>)> + Clone {
        self.chunks.iter().flat_map(|chunk| chunk.iter().map(|(key, value)| (key, value)))
    }

    /// In order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + Clone {
        self.iter().map(|(key, _)| key)
    }

    /// By key.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Arc<V>> + Clone {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Ord + Clone, V> SharedMap<K, V> {
    /// Where the key is, or would be put.
    fn place<Q: Ord + ?Sized>(&self, key: &Q) -> (usize, Result<usize, usize>)
    where
        K: Borrow<Q>,
    {
        let after = self.chunks.partition_point(|chunk| chunk[0].0.borrow() <= key);
        let at = after.saturating_sub(1);
        let Some(chunk) = self.chunks.get(at) else { return (0, Err(0)) };
        (at, chunk.binary_search_by(|(other, _)| other.borrow().cmp(key)))
    }

    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&Arc<V>>
    where
        K: Borrow<Q>,
    {
        let (chunk, Ok(at)) = self.place(key) else { return None };
        Some(&self.chunks[chunk][at].1)
    }

    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Answers what the key had before.
    pub fn insert(&mut self, key: K, value: impl Into<Arc<V>>) -> Option<Arc<V>> {
        let value = value.into();
        let (at, place) = self.place(&key);
        let position = match place {
            Ok(position) => {
                let entry = &mut Arc::make_mut(&mut self.chunks[at])[position];
                return Some(std::mem::replace(&mut entry.1, value));
            }
            Err(position) => position,
        };
        self.len += 1;
        let Some(chunk) = self.chunks.get_mut(at) else {
            self.chunks.push(Arc::new(vec![(key, value)]));
            return None;
        };
        let entries = Arc::make_mut(chunk);
        entries.insert(position, (key, value));
        if entries.len() > CHUNK_MAX {
            // What comes in order fills its chunks.
            let is_last = position + 1 == entries.len();
            let rest = entries.split_off(if is_last { CHUNK_MAX } else { CHUNK_MAX / 2 });
            self.chunks.insert(at + 1, Arc::new(rest));
        }
        None
    }

    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
    {
        let (at, Ok(position)) = self.place(key) else { return None };
        let entries = Arc::make_mut(&mut self.chunks[at]);
        let (_, value) = entries.remove(position);
        self.len -= 1;
        let left = entries.len();
        if left == 0 {
            self.chunks.remove(at);
        } else if let Some(next) = self.chunks.get(at + 1)
            && left + next.len() <= CHUNK_MAX / 2
        {
            // Small neighbours join, so that there are never many almost empty ones.
            let next = self.chunks.remove(at + 1);
            Arc::make_mut(&mut self.chunks[at]).extend(next.iter().cloned());
        }
        Some(value)
    }
}

impl<K: Ord, V: PartialEq> SharedMap<K, V> {
    /// What makes `self` out of `old`, in order. What both share is passed over unseen.
    pub fn differences<'a>(&'a self, old: &'a Self) -> Vec<Differing<'a, K, V>> {
        let mut found = Vec::new();
        let (mut was, mut is) = (Cursor::new(old), Cursor::new(self));
        loop {
            if let (Some(a), Some(b)) = (was.at_start(), is.at_start())
                && Arc::ptr_eq(a, b)
            {
                was.skip();
                is.skip();
                continue;
            }
            let order = match (was.entry(), is.entry()) {
                (None, None) => return found,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((a, _)), Some((b, _))) => a.cmp(b),
            };
            let before = if order.is_le() { was.next() } else { None };
            let after = if order.is_ge() { is.next() } else { None };
            match (before, after) {
                (Some((_, a)), Some((key, b))) => {
                    if !Arc::ptr_eq(a, b) && a != b {
                        found.push(Differing::Changed(key, a, b));
                    }
                }
                (Some((key, a)), None) => found.push(Differing::Removed(key, a)),
                (None, Some((key, b))) => found.push(Differing::Added(key, b)),
                (None, None) => return found,
            }
        }
    }
}

/// Walks through the entries of a map.
struct Cursor<'a, K, V> {
    chunks: &'a [Chunk<K, V>],
    /// In the first chunk.
    at: usize,
}

impl<'a, K, V> Cursor<'a, K, V> {
    fn new(map: &'a SharedMap<K, V>) -> Self {
        Self { chunks: &map.chunks, at: 0 }
    }

    /// The chunk that begins here.
    fn at_start(&self) -> Option<&'a Chunk<K, V>> {
        self.chunks.first().filter(|_| self.at == 0)
    }

    fn skip(&mut self) {
        self.chunks = &self.chunks[1..];
    }

    fn entry(&self) -> Option<&'a (K, Arc<V>)> {
        self.chunks.first()?.get(self.at)
    }

    fn next(&mut self) -> Option<&'a (K, Arc<V>)> {
        let entry = self.entry()?;
        self.at += 1;
        if self.at == self.chunks[0].len() {
            self.skip();
            self.at = 0;
        }
        Some(entry)
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }
}

impl<K, V> Clone for SharedMap<K, V> {
    fn clone(&self) -> Self {
        Self { chunks: self.chunks.clone(), len: self.len }
    }
}

impl<K: Ord, V: PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.differences(other).is_empty()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord + Clone, V, A: Into<Arc<V>>> FromIterator<(K, A)> for SharedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, A)>>(entries: I) -> Self {
        let mut map = Self::default();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<K: Ord + Clone + Borrow<Q>, V, Q: Ord + ?Sized> Index<&Q> for SharedMap<K, V> {
    type Output = Arc<V>;

    /// # Panics
    /// When there is no such key, as with other maps.
    fn index(&self, key: &Q) -> &Arc<V> {
        match self.get(key) {
            Some(value) => value,
            None => panic!("no entry for this key"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A small generator, so that a failure shows its seed.
    fn numbers(mut seed: u64) -> impl FnMut(u64) -> u64 {
        move |below| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        }
    }

    fn differences(old: &BTreeMap<u64, u64>, new: &BTreeMap<u64, u64>) -> Vec<String> {
        let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
        let differing = |key: &u64| match (old.get(key), new.get(key)) {
            (None, Some(b)) => Some(format!("+{key} {b}")),
            (Some(a), None) => Some(format!("-{key} {a}")),
            (Some(a), Some(b)) if a != b => Some(format!("{key} {a} {b}")),
            _ => None,
        };
        keys.into_iter().filter_map(differing).collect()
    }

    fn told(differing: &[Differing<'_, u64, u64>]) -> Vec<String> {
        let one = |d: &Differing<'_, u64, u64>| match d {
            Differing::Added(key, b) => format!("+{key} {b}"),
            Differing::Removed(key, a) => format!("-{key} {a}"),
            Differing::Changed(key, a, b) => format!("{key} {a} {b}"),
        };
        differing.iter().map(one).collect()
    }

    #[test]
    fn it_is_a_sorted_map_and_knows_what_differs() {
        for seed in 0..40 {
            let mut number = numbers(seed);
            let (mut map, mut model) = (SharedMap::<u64, u64>::new(), BTreeMap::new());
            let range = 1 + number(2000);
            for _ in 0..20 {
                let (old, old_model) = (map.clone(), model.clone());
                let shrinks = number(2);
                for _ in 0..number(300) {
                    let (key, value) = (number(range), number(3));
                    if number(3) <= shrinks {
                        assert_eq!(map.remove(&key).map(|v| *v), model.remove(&key), "{seed}");
                    } else {
                        let before = map.insert(key, value).map(|v| *v);
                        assert_eq!(before, model.insert(key, value), "seed {seed}");
                    }
                }
                let all: Vec<(u64, u64)> = map.iter().map(|(k, v)| (*k, **v)).collect();
                assert_eq!(all, Vec::from_iter(model.clone()), "seed {seed}");
                assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
                for key in 0..range {
                    assert_eq!(map.get(&key).map(|v| **v), model.get(&key).copied(), "{seed}");
                }
                let expected = differences(&old_model, &model);
                assert_eq!(told(&map.differences(&old)), expected, "seed {seed}");
                assert_eq!(map == old, expected.is_empty(), "seed {seed}");
                assert_eq!(map, model.iter().map(|(k, v)| (*k, *v)).collect(), "seed {seed}");
            }
        }
    }

    /// A value whose comparison is counted by failing.
    struct NeverCompared;

    impl PartialEq for NeverCompared {
        fn eq(&self, _: &Self) -> bool {
            panic!("compared, though it is shared")
        }
    }

    #[test]
    fn what_two_versions_share_is_not_compared() {
        let old: SharedMap<u64, NeverCompared> = (0..1000).map(|n| (n, NeverCompared)).collect();
        let mut new = old.clone();
        new.insert(5000, NeverCompared);
        new.remove(&500);
        let found = new.differences(&old);
        assert!(matches!(found[..], [Differing::Removed(500, _), Differing::Added(5000, _)]));
        let chunks = |map: &SharedMap<u64, NeverCompared>| {
            let all = map.chunks.iter();
            all.filter(|chunk| old.chunks.iter().any(|other| Arc::ptr_eq(chunk, other))).count()
        };
        assert!(chunks(&new) + 2 >= old.chunks.len(), "a change copies only its neighbours");
    }
}
