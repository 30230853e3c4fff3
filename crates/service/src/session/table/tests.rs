use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use model::Rng;

use super::*;

const DAY: u64 = 24 * 3600;

fn table(max: usize, ttl: u64) -> SessionTable {
    let spec = SessionTableSpec { ttl: Duration::from_secs(ttl), max, store: None };
    SessionTable::new(&spec, [7, 11])
}

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}

fn key(table: &SessionTable, client: u64) -> SessionKey {
    table.key(&client.to_le_bytes())
}

#[test]
fn memory_is_sixteen_bytes_for_each_session() {
    for max in [8, 1000, 100_000] {
        assert_eq!(table(max, 60).bytes(), max * 16);
    }
    assert_eq!(table(1, 60).bytes(), 128, "one set at least");
}

#[test]
fn a_session_is_forgotten_when_it_was_not_used_for_its_time() {
    // Also where stamps begin again, and far from the start.
    for start in [0, 1, STAMPS - 5, STAMPS * 3 - 1, 400 * DAY] {
        for ttl in [1, 1800, 7 * DAY] {
            let table = table(100, ttl);
            let user = key(&table, 1);
            assert_eq!(table.find(user, at(start)), None);
            assert!(table.change(user, None, 5, true, at(start)));
            assert_eq!(table.find(user, at(start + ttl)), Some(5), "{start} {ttl}");
            assert_eq!(table.find(user, at(start + 2 * ttl)), Some(5), "this was a use");
            assert_eq!(table.entries(at(start + 3 * ttl)), 1);
            assert_eq!(table.find(user, at(start + 3 * ttl + 1)), None, "{start} {ttl}");
            assert_eq!((table.entries(at(start + 3 * ttl)), table.evictions()), (0, 0));
        }
    }
}

#[test]
fn a_clock_that_is_a_little_behind_forgets_nothing() {
    let table = table(100, 10);
    let user = key(&table, 1);
    assert!(table.change(user, None, 5, true, at(100)));
    assert_eq!(table.find(user, at(99)), Some(5));
    assert_eq!(table.find(user, at(110)), Some(5));
}

#[test]
fn a_session_moves_only_from_where_it_was_seen() {
    let table = table(100, 60);
    let user = key(&table, 1);
    assert!(table.change(user, None, 1, false, at(0)));
    assert!(!table.change(user, None, 2, true, at(0)), "another one was first");
    assert_eq!(table.find(user, at(0)), Some(1));
    assert!(table.change(user, Some(1), 3, true, at(0)));
    assert!(!table.change(user, Some(1), 4, true, at(0)), "it moved already");
    assert!(table.change(user, Some(1), 3, true, at(0)), "it is there");
    assert_eq!(table.find(user, at(0)), Some(3));
}

#[test]
fn what_has_not_begun_is_taken_back_and_nothing_else() {
    let table = table(100, 60);
    let user = key(&table, 1);
    assert!(table.change(user, None, 1, false, at(0)));
    table.forget_claim(user, 2);
    assert_eq!(table.find(user, at(0)), Some(1), "the claim of another endpoint");
    table.forget_claim(user, 1);
    assert_eq!(table.find(user, at(0)), None);
    assert!(table.change(user, None, 1, false, at(0)));
    assert!(table.change(user, None, 1, true, at(0)));
    assert!(table.change(user, None, 1, false, at(0)), "begun, it stays so");
    table.forget_claim(user, 1);
    assert_eq!(table.find(user, at(0)), Some(1));
    table.forget_all_at(2);
    assert_eq!(table.find(user, at(0)), Some(1));
    table.forget_all_at(1);
    assert_eq!(table.find(user, at(0)), None);
}

/// As many as it is made for: all but a few in a thousand are kept.
#[test]
fn it_holds_what_it_is_made_for() {
    let table = table(10_000, 60);
    for client in 0..10_000 {
        assert!(table.change(key(&table, client), None, 1, true, at(0)));
    }
    let kept = table.entries(at(0));
    assert!(kept >= 9_970, "{kept}");
    assert_eq!(kept as u64 + table.evictions(), 10_000);
}

/// Ten times as many: the memory stays, the newest are kept, those in use too.
#[test]
fn of_too_many_the_longest_unused_are_forgotten() {
    let table = table(1000, 3600);
    let bytes = table.bytes();
    let regular = key(&table, u64::MAX);
    assert!(table.change(regular, None, 9, true, at(0)));
    for client in 0..10_000 {
        let now = at(client / 100);
        assert_eq!(table.find(regular, now), Some(9), "client {client}");
        assert!(table.change(key(&table, client), None, 1, true, now));
    }
    let now = at(100);
    let entries = table.entries(now);
    assert!((1900..=2000).contains(&entries), "{entries}");
    assert_eq!(table.evictions(), 10_001 - entries as u64);
    assert_eq!(table.bytes(), bytes);
    let newest = (9_500..10_000).filter(|c| table.find(key(&table, *c), now).is_some()).count();
    assert!(newest >= 495, "{newest} of the last 500");
    let oldest = (0..5_000).filter(|c| table.find(key(&table, *c), now).is_some()).count();
    assert!(oldest <= 50, "{oldest} of the first 5000");
}

/// Values that share a set under one key are spread under another: who knows no key cannot
/// gather values that press a session out.
#[test]
fn chosen_values_do_not_gather_in_a_set() {
    let sets = |table: &SessionTable, clients: &[u64]| -> BTreeMap<usize, usize> {
        clients.iter().fold(BTreeMap::new(), |mut counts, client| {
            let set = table.set(key(table, *client));
            let place = (set.as_ptr() as usize - table.sets.as_ptr() as usize) / size_of::<Set>();
            *counts.entry(place).or_default() += 1;
            counts
        })
    };
    let spec = SessionTableSpec { max: 1000, ..SessionTableSpec::default() };
    let known = SessionTable::new(&spec, [1, 2]);
    let home = known.set(key(&known, 0)).as_ptr();
    let gathered: Vec<u64> =
        (0..20_000).filter(|c| known.set(key(&known, *c)).as_ptr() == home).collect();
    assert!(gathered.len() > WAYS * 4 && sets(&known, &gathered).len() == 1);
    let unknown = SessionTable::new(&spec, [1, 3]);
    assert!(sets(&unknown, &gathered).values().all(|count| *count <= 10));
}

/// Against a plain map, with random calls at random times.
#[test]
fn it_answers_as_a_map_would() {
    for seed in 0..50 {
        let mut rng = Rng::from_seed(seed);
        let ttl = 1 + rng.below(20);
        // Made for many more than there are, so that nothing is pressed out.
        let table = table(10_000, ttl);
        let mut now = rng.below(2 * STAMPS);
        let mut map: BTreeMap<u64, (Slot, bool, u64)> = BTreeMap::new();
        for step in 0..3000 {
            now += rng.below(2) * rng.below(ttl);
            map.retain(|_, (_, _, used)| now - *used <= ttl);
            let client = rng.below(40);
            let slot = 1 + rng.below(4) as Slot;
            let user = key(&table, client);
            match rng.below(10) {
                0..4 => {
                    let expected = map.get_mut(&client).map(|(slot, _, used)| {
                        *used = now;
                        *slot
                    });
                    assert_eq!(table.find(user, at(now)), expected, "seed {seed}, step {step}");
                }
                4..8 => {
                    let from = [None, Some(1 + rng.below(4) as Slot)][rng.below(2) as usize];
                    let begun = rng.below(2) == 0;
                    let known = map.get(&client).copied();
                    let done = table.change(user, from, slot, begun, at(now));
                    let free = known.is_none_or(|(at, ..)| at == slot || Some(at) == from);
                    assert_eq!(done, free, "seed {seed}, step {step}");
                    if done {
                        let begun = begun || known.is_some_and(|(at, had, _)| at == slot && had);
                        map.insert(client, (slot, begun, now));
                    }
                }
                8 => {
                    table.forget_claim(user, slot);
                    map.retain(|c, (at, begun, _)| *c != client || *at != slot || *begun);
                }
                _ if rng.below(20) == 0 => {
                    table.forget_all_at(slot);
                    map.retain(|_, (at, ..)| *at != slot);
                }
                _ => assert_eq!(table.entries(at(now)), map.len(), "seed {seed}, step {step}"),
            }
        }
        assert_eq!(table.evictions(), 0);
    }
}

/// Threads that begin the same sessions at the same time agree on where they are, whatever the
/// seconds at which they use them; and one of them alone moves each.
#[test]
#[allow(clippy::disallowed_methods, reason = "the test is about threads")]
fn threads_agree_on_where_a_session_is() {
    const THREADS: u16 = 4;
    const CLIENTS: u64 = 2000;
    let table = table(100_000, 3600);
    let barrier = std::sync::Barrier::new(usize::from(THREADS));
    let (first, moved) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 1..=THREADS {
            let (table, barrier, first, moved) = (&table, &barrier, &first, &moved);
            scope.spawn(move || {
                let mut homes = Vec::new();
                barrier.wait();
                for client in 0..CLIENTS {
                    let (user, now) = (key(table, client), at(client % 7 + u64::from(thread)));
                    if table.change(user, None, thread, true, now) {
                        first.fetch_add(1, Relaxed);
                    }
                    homes.push(table.find(user, now).expect("it began"));
                }
                for round in 0..20 {
                    for (client, home) in (0..CLIENTS).zip(&homes) {
                        let now = at(10 + (round + u64::from(thread)) % 5);
                        assert_eq!(table.find(key(table, client), now), Some(*home));
                    }
                }
                barrier.wait();
                for (client, home) in (0..CLIENTS).zip(&homes) {
                    let user = key(table, client);
                    if table.change(user, Some(*home), 100 + thread, true, at(20)) {
                        moved.fetch_add(1, Relaxed);
                    }
                    assert!(table.find(user, at(20)).is_some_and(|slot| slot > 100));
                }
            });
        }
    });
    assert_eq!(first.into_inner() as u64, CLIENTS, "one thread each began a session");
    assert_eq!(moved.into_inner() as u64, CLIENTS, "and one moved it");
    assert_eq!(table.entries(at(20)) as u64, CLIENTS);
    let homes: BTreeSet<_> =
        (0..CLIENTS).filter_map(|client| table.find(key(&table, client), at(20))).collect();
    assert!(homes.iter().all(|slot| (101..=100 + THREADS).contains(slot)));
}
