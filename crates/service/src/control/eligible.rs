//! Which endpoints picks may choose from: priorities, panic, subset. Pure functions.
//!
//! * Priorities: the endpoints of the lowest number; those of the next join while too small a
//!   share of all so far is healthy (`failover_below`), and always while none is.
//! * Panic: if then still too small a share is healthy (`panic`), the ill ones of these priorities
//!   are used as well: checks that fail everywhere say more of the checks, or of the network, than
//!   of the endpoints, and those that are left would be drowned. Up to [`FEW`] endpoints, only
//!   when none is healthy: one ill of two is half, and no reason to send to it.
//! * Subset: of what is eligible then, so many, by rendezvous of balancer and endpoint (Thaler and
//!   Ravishankar, "A name-based mapping scheme for rendezvous", 1996), so that an endpoint that
//!   comes or goes changes one place of it at most.
//!
//! Neither drained endpoints nor those that never passed a check are counted or used, in no case:
//! what was never seen to work may be something else altogether.

use model::spec::ServiceSpec;

/// One endpoint that may be used: listed, undrained, and proven at some time.
pub(super) struct Seat {
    pub(super) key: u64,
    pub(super) identity_hash: u64,
    pub(super) priority: u8,
    pub(super) weight: u16,
    pub(super) healthy: bool,
}

pub(super) struct Eligible {
    /// Ascending.
    pub(super) keys: Vec<u64>,
    pub(super) panics: bool,
}

/// Of so many endpoints, ill ones are used only when none is healthy.
const FEW: usize = 3;

/// `seats` are by ascending key.
pub(super) fn eligible(seats: &[Seat], spec: &ServiceSpec, balancer: u64) -> Eligible {
    let last = last_priority(seats, spec.failover_below);
    let in_use = || seats.iter().filter(|seat| seat.priority <= last);
    let (healthy, count) = (in_use().filter(|seat| seat.healthy).count(), in_use().count());
    let panics = spec.panic.is_some_and(|panic| {
        let too_few = (healthy as f64) < panic * count as f64;
        if count <= FEW { healthy == 0 && too_few } else { too_few }
    });
    let mut chosen: Vec<&Seat> = in_use().filter(|seat| seat.healthy || panics).collect();
    if let Some(size) = spec.subset {
        chosen = subset(chosen, size as usize, balancer);
    }
    Eligible { keys: chosen.iter().map(|seat| seat.key).collect(), panics }
}

/// The highest priority number that is in use.
fn last_priority(seats: &[Seat], failover_below: f64) -> u8 {
    let mut by_priority: Vec<(u8, bool)> =
        seats.iter().map(|seat| (seat.priority, seat.healthy)).collect();
    by_priority.sort_unstable();
    let (mut healthy, mut count) = (0usize, 0usize);
    for level in by_priority.chunk_by(|a, b| a.0 == b.0) {
        healthy += level.iter().filter(|(_, healthy)| *healthy).count();
        count += level.len();
        if healthy > 0 && healthy as f64 >= failover_below * count as f64 {
            return level[0].0;
        }
    }
    u8::MAX
}

/// Those without a weight take no place as long as there are others.
fn subset(mut seats: Vec<&Seat>, size: usize, balancer: u64) -> Vec<&Seat> {
    if seats.iter().any(|seat| seat.weight > 0) {
        seats.retain(|seat| seat.weight > 0);
    }
    if seats.len() > size {
        seats.sort_unstable_by_key(|seat| (rank(balancer, seat.identity_hash), seat.key));
        seats.truncate(size);
        seats.sort_unstable_by_key(|seat| seat.key);
    }
    seats
}

/// The finisher of SplitMix64 over both.
fn rank(balancer: u64, identity_hash: u64) -> u64 {
    let x = balancer.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ identity_hash;
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(panic: Option<f64>, failover_below: f64, subset: Option<u32>) -> ServiceSpec {
        ServiceSpec { panic, failover_below, subset, ..ServiceSpec::new("web".into()) }
    }

    fn seat(key: u64, priority: u8, healthy: bool) -> Seat {
        Seat { key, identity_hash: rank(7, key), priority, weight: 1, healthy }
    }

    /// One group of letters for each priority: `h` is healthy, `x` is ill. Answers the same with
    /// `.` for what is not used, and `!` in panic.
    fn check(spec: &ServiceSpec, endpoints: &str, expected: &str) {
        let mut seats = Vec::new();
        for (priority, level) in (0..).zip(endpoints.split(' ')) {
            let first = seats.len() as u64;
            let seat = |(key, letter)| seat(first + key, priority, letter == 'h');
            seats.extend((0..).zip(level.chars()).map(seat));
        }
        let Eligible { keys, panics } = eligible(&seats, spec, 1);
        let mut key = 0..;
        let used = endpoints.chars().map(|letter| match letter {
            ' ' => ' ',
            letter => match keys.contains(&key.next().unwrap()) {
                true => letter,
                false => '.',
            },
        });
        let used = used.collect::<String>() + if panics { "!" } else { "" };
        assert_eq!(used, expected, "{endpoints}");
    }

    #[test]
    fn priorities_join_when_too_few_are_healthy() {
        let none = spec(None, 0.0, None);
        check(&none, "hxxxx hh", "h.... ..");
        check(&none, "xx hx hh", ".. h. ..");
        check(&none, "xx xx", ".. ..");
        check(&none, "", "");
        let below = spec(None, 0.7, None);
        check(&below, "hhhhhhhxxx hh", "hhhhhhh... ..");
        check(&below, "hhhhhhxxxx hh", "hhhhhh.... hh");
        check(&below, "hxxx hx hh", "h... h. hh");
        check(&below, "xx hhhhhh hh", ".. hhhhhh ..");
    }

    #[test]
    fn panic_uses_the_ill_ones_too() {
        let panic = spec(Some(0.5), 0.0, None);
        check(&panic, "hhxx", "hh..");
        check(&panic, "hxxx", "hxxx!");
        check(&panic, "xxxx", "xxxx!");
        check(&panic, "h", "h");
        check(&panic, "x", "x!");
        check(&panic, "hx", "h.");
        check(&panic, "hxx", "h..");
        check(&panic, "xxx", "xxx!");
        // Of the priorities in use.
        check(&panic, "hhxx xxxx", "hh.. ....");
        check(&panic, "xx hxxx", "xx hxxx!");
        check(&panic, "xxxx h", "xxxx h!");
        check(&spec(Some(0.5), 0.7, None), "hxxx hhh", "h... hhh");
        check(&spec(None, 0.0, None), "xx", "..");
        check(&spec(Some(0.0), 0.0, None), "xxxx", "....");
        check(&spec(Some(1.0), 0.0, None), "hhhx", "hhhx!");
    }

    #[test]
    fn subsets_are_spread_over_many_balancers() {
        let seats: Vec<Seat> = (0..100).map(|key| seat(key, 0, true)).collect();
        let spec = spec(None, 0.0, Some(20));
        let mut uses = [0; 100];
        let balancers = 2000;
        for balancer in 0..balancers {
            let keys = eligible(&seats, &spec, balancer).keys;
            assert!(keys.len() == 20 && keys.is_sorted());
            keys.iter().for_each(|key| uses[*key as usize] += 1);
        }
        // A fifth of 2000 each: binomial, with a deviation of 18.
        for (key, uses) in uses.iter().enumerate() {
            assert!((320..480).contains(uses), "{key} is used by {uses}");
        }
    }

    #[test]
    fn a_subset_changes_by_one_when_endpoints_do() {
        let seats: Vec<Seat> = (0..100).map(|key| seat(key, 0, true)).collect();
        let spec = spec(None, 0.0, Some(10));
        for balancer in 0..50 {
            let before = eligible(&seats, &spec, balancer).keys;
            for gone in 0..100 {
                let left: Vec<Seat> = (0..100).map(|key| seat(key, 0, key != gone)).collect();
                let after = eligible(&left, &spec, balancer).keys;
                let moved = after.iter().filter(|key| !before.contains(key)).count();
                assert_eq!(moved, usize::from(before.contains(&gone)));
            }
        }
    }

    #[test]
    fn a_subset_is_of_what_is_eligible_and_has_a_weight() {
        let two = spec(None, 0.0, Some(2));
        let mut seats: Vec<Seat> =
            (0..10).map(|key| seat(key, u8::from(key >= 5), key != 0)).collect();
        seats[1].weight = 0;
        for balancer in 0..100 {
            let keys = eligible(&seats, &two, balancer).keys;
            assert!(keys.len() == 2 && keys.iter().all(|key| (2..5).contains(key)), "{keys:?}");
        }
        check(&spec(Some(0.5), 0.0, Some(9)), "hxxx", "hxxx!");
    }
}
