use crate::Candidate;
use crate::keyed::mix;
use crate::usable::Usable;

/// A table in which each endpoint has as many places as its weight says, chosen so that a change
/// of endpoints leaves nearly all others' places alone (Eisenbud et al., "Maglev: a fast and
/// reliable software network load balancer", NSDI 2016, section 3.4).
///
/// Each endpoint has an order of its own of all places. In turn, each takes the first free one of
/// its order; weights decide who has how many turns. (The paper leaves weights open.)
pub(crate) struct MaglevTable {
    /// Positions.
    places: Vec<u32>,
}

/// At least so many places per endpoint on average, or the shares get too coarse: the paper asks
/// for a hundred for one percent; these are for six.
const PLACES_PER_ENDPOINT: usize = 16;

impl MaglevTable {
    /// The size is the least prime that is no less than `size`, which is doubled until it is large
    /// enough for the endpoints. `usable` is by identity.
    pub(crate) fn new(candidates: &[Candidate], usable: &Usable, size: u64) -> Self {
        let entries = usable.entries();
        if entries.is_empty() {
            return Self { places: Vec::new() };
        }
        let mut size = size.max(2);
        while size < (entries.len() * PLACES_PER_ENDPOINT) as u64 {
            size *= 2;
        }
        let size = prime_from(size);
        let mut orders: Vec<Order> = entries
            .iter()
            .map(|(position, _)| Order::new(candidates[*position as usize].identity_hash, size))
            .collect();
        let mut places = vec![NOBODY; size as usize];
        for index in turns(entries).take(size as usize) {
            let place = orders[index].next_free(size, |place| places[place as usize] != NOBODY);
            places[place as usize] = entries[index].0;
        }
        Self { places }
    }

    /// The owner of the key's place, then those of the places after it. Neighbours are as good as
    /// drawn by chance, in proportion to the weights.
    pub(crate) fn choices(&self, hash: u64) -> impl Iterator<Item = u32> {
        let start = ((u128::from(hash) * self.places.len() as u128) >> 64) as usize;
        let (tail, head) = self.places.split_at(start);
        head.iter().chain(tail).copied()
    }
}

const NOBODY: u32 = u32::MAX;

/// One endpoint's order of all places: `offset`, `offset + skip`, ...: all of them, as the size is
/// a prime.
struct Order {
    next: u64,
    skip: u64,
}

impl Order {
    fn new(identity_hash: u64, size: u64) -> Self {
        let offset = mix(identity_hash ^ 0x6f66_6673_6574_0000);
        let skip = mix(identity_hash ^ 0x736b_6970_0000_0000);
        Self { next: offset % size, skip: skip % (size - 1) + 1 }
    }

    fn next_free(&mut self, size: u64, is_taken: impl Fn(u64) -> bool) -> u64 {
        loop {
            let place = self.next;
            self.next += self.skip;
            if self.next >= size {
                self.next -= size;
            }
            if !is_taken(place) {
                return place;
            }
        }
    }
}

/// Whose turn it is, for ever: each once, then in proportion to the weights, rounded to the
/// nearest whole turn (Webster's method of sharing out seats, with one for everybody).
fn turns(entries: &[(u32, u16)]) -> impl Iterator<Item = usize> {
    use std::cmp::Reverse;
    let alike = entries.iter().all(|(_, weight)| *weight == entries[0].1);
    let mut due: std::collections::BinaryHeap<Reverse<(u64, usize, u64)>> =
        (0..entries.len()).map(|index| Reverse((0, index, 0))).collect();
    let mut in_turn = (0..entries.len()).cycle();
    std::iter::from_fn(move || {
        if alike {
            return in_turn.next();
        }
        let mut first = due.peek_mut()?;
        let Reverse((_, index, taken)) = *first;
        let taken = taken + 1;
        // At most 2^23 turns: no overflow.
        let at = ((2 * taken + 1) << 38) / u64::from(entries[index].1);
        *first = Reverse((at, index, taken));
        Some(index)
    })
}

/// The least prime that is no less than `number`.
fn prime_from(number: u64) -> u64 {
    let is_prime = |n: &u64| (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    (number.max(2)..).find(is_prime).unwrap_or(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes() {
        for (number, prime) in [(0, 2), (2, 2), (8, 11), (251, 251), (65_536, 65_537)] {
            assert_eq!(prime_from(number), prime);
        }
    }

    #[test]
    fn places_are_as_many_as_the_weights_say() {
        let weights = [5, 1, 0, 3, 1];
        let candidates: Vec<Candidate> = (1u64..)
            .zip(weights)
            .map(|(hash, weight)| Candidate { weight, zone: None, identity_hash: mix(hash) })
            .collect();
        let table = MaglevTable::new(&candidates, &Usable::by_identity(&candidates), 1000);
        assert_eq!(table.places.len(), 1009);
        for (position, weight) in (0u32..).zip(weights) {
            let count = table.places.iter().filter(|place| **place == position).count();
            assert!(count.abs_diff(usize::from(weight) * 1009 / 10) <= 1, "{position}: {count}");
        }
    }

    #[test]
    fn the_table_grows_with_the_endpoints() {
        let endpoint = |hash| Candidate { weight: 1, zone: None, identity_hash: mix(hash) };
        let candidates: Vec<Candidate> = (0..100).map(endpoint).collect();
        let table = MaglevTable::new(&candidates, &Usable::by_identity(&candidates), 251);
        assert_eq!(table.places.len(), 2011, "251 doubled three times, and the next prime");
    }
}
