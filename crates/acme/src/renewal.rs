//! When to order a certificate: one domain's state machine. The clock and chance are arguments.

use std::time::Duration;

use model::Rng;
use serde::{Deserialize, Serialize};

/// A moment, as the time since 1970: certificates end by the calendar.
pub type Unix = Duration;

/// After the first order that the CA refused; twice as long after each further one. Let's Encrypt
/// refuses an account for an hour after 5 failed validations of one name within an hour: with this
/// the fifth comes after 30 minutes, the sixth after 62.
const REFUSED_FIRST: Duration = Duration::from_secs(120);
/// After the first attempt in which no CA was reached, which counts at none.
const UNREACHED_FIRST: Duration = Duration::from_secs(5);
const REFUSED_MAX: Duration = Duration::from_secs(12 * 3600);
const UNREACHED_MAX: Duration = Duration::from_secs(3600);
/// Of a CA's `Retry-After`, no longer: it may be mistaken.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
/// How often at most the CA is asked when it wants us to renew (RFC 9773 section 4.3.2 lets it say
/// so itself), and how seldom at least.
const ASK_MIN: Duration = Duration::from_secs(60);
const ASK_MAX: Duration = Duration::from_secs(24 * 3600);

/// A window that is over means at once (RFC 9773 section 4.2); but a CA that says so of each new
/// certificate must not make us order one after the other. A twentieth of the life, or this.
const EARLY_MIN: Duration = Duration::from_secs(3600);

/// What one domain's certificate is about to need. It is kept beside the certificate, so that a
/// restart neither orders again nor forgets that the CA asked us to wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Of the certificate that is held; `None`: there is none.
    pub held: Option<Validity>,
    /// Since when.
    pub held_at: Unix,
    /// When it is to be renewed, chosen once within a window, so that not all certificates of a
    /// fleet are renewed at the same moment.
    pub renew_at: Unix,
    /// When the CA is asked for its window; [`Unix::MAX`]: never.
    pub ask_at: Unix,
    /// Orders in a row that failed.
    pub failures: u32,
    /// Not before.
    pub retry_at: Unix,
    pub last: Option<Past>,
}

/// From when to when a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    pub not_before: Unix,
    pub not_after: Unix,
}

/// A failure that nothing has made good since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    pub at: Unix,
    pub reason: String,
}

/// Why an order came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: String,
    /// The CA was reached, so that it counts the attempt.
    pub refused: bool,
    /// How long it wants to be left alone.
    pub retry_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Order a certificate.
    Order,
    /// Ask the CA when to renew.
    Ask,
    /// Nothing until then.
    At(Unix),
}

impl Plan {
    pub fn due(&self, now: Unix) -> Due {
        let order_at = self.order_at();
        if order_at <= now {
            return Due::Order;
        }
        let ask_at = if self.held.is_some() { self.ask_at.max(self.retry_at) } else { Unix::MAX };
        if ask_at <= now {
            return Due::Ask;
        }
        Due::At(order_at.min(ask_at))
    }

    /// When the next order is due.
    pub fn order_at(&self) -> Unix {
        match self.held {
            None => self.retry_at,
            Some(_) => self.renew_at.max(self.retry_at),
        }
    }

    /// A certificate was issued, or found where they are kept. `renew_before`: how long before its
    /// end it is renewed; `None`: a third of its life, or when the CA says. One that is already
    /// known changes nothing.
    pub fn handle_held(
        &mut self,
        validity: Validity,
        renew_before: Option<Duration>,
        now: Unix,
        rng: &mut Rng,
    ) {
        if self.held == Some(validity) {
            return;
        }
        let Validity { not_before, not_after } = validity;
        let life = not_after.saturating_sub(not_before);
        let before = renew_before.unwrap_or(life / 3).min(life / 2);
        // Spread over a quarter of what is left then.
        let jitter = between(Duration::ZERO, before / 4, rng);
        *self = Plan {
            held: Some(validity),
            held_at: now,
            renew_at: not_after.saturating_sub(before) + jitter,
            ask_at: if renew_before.is_none() { now } else { Unix::MAX },
            ..Plan::default()
        };
    }

    /// What was kept is gone, or of no use.
    pub fn handle_lost(&mut self) {
        self.held = None;
    }

    pub fn handle_failed(&mut self, failure: &Failure, now: Unix, rng: &mut Rng) {
        let (first, most) = match failure.refused {
            true => (REFUSED_FIRST, REFUSED_MAX),
            false => (UNREACHED_FIRST, UNREACHED_MAX),
        };
        let doubled = first.saturating_mul(1 << self.failures.min(20)).min(most);
        // Up to a quarter more: a fleet that failed together does not come back together.
        let wait = doubled + between(Duration::ZERO, doubled / 4, rng);
        let asked = failure.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = now + wait.max(asked);
        self.last = Some(Past { at: now, reason: failure.reason.clone() });
    }

    /// The CA's window for the renewal (RFC 9773 section 4.2), and when it wants to be asked again.
    /// It holds whatever was chosen before, as certificates may have to be replaced early.
    pub fn handle_window(
        &mut self,
        (start, end): (Unix, Unix),
        ask_again: Duration,
        now: Unix,
        rng: &mut Rng,
    ) {
        self.ask_at = now + ask_again.clamp(ASK_MIN, ASK_MAX);
        // A window that ends before it begins is none (section 4.2).
        if start < end && !(start..end).contains(&self.renew_at) {
            let life = self.held.map(|v| v.not_after.saturating_sub(v.not_before));
            let earliest = self.held_at + EARLY_MIN.min(life.unwrap_or_default() / 20);
            self.renew_at = earliest.max(start + between(Duration::ZERO, end - start, rng));
        }
    }

    /// The CA did not say; `never`: it has no windows at all.
    pub fn handle_no_window(&mut self, never: bool, now: Unix) {
        self.ask_at = if never { Unix::MAX } else { now + ASK_MAX / 4 };
    }

    /// A person wants it tried again now.
    pub fn handle_wish(&mut self) {
        if self.failures > 0 {
            self.retry_at = Unix::ZERO;
        }
    }
}

/// Uniformly; in milliseconds, which is fine enough for anything that a CA has to do with.
fn between(from: Duration, to: Duration, rng: &mut Rng) -> Duration {
    let width = u64::try_from(to.saturating_sub(from).as_millis()).unwrap_or(u64::MAX);
    from + Duration::from_millis(rng.below(width.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const NOW: Unix = Duration::from_secs(1_800_000_000);

    fn rng() -> Rng {
        Rng::from_seed(7)
    }

    fn validity(days: u32) -> Validity {
        Validity { not_before: NOW, not_after: NOW + days * DAY }
    }

    fn held(days: u32) -> Plan {
        let mut plan = Plan::default();
        plan.handle_held(validity(days), Some(days * DAY / 3), NOW, &mut rng());
        plan
    }

    fn refused(reason: &str) -> Failure {
        Failure { reason: reason.into(), refused: true, retry_after: None }
    }

    #[test]
    fn what_is_missing_is_ordered_at_once_and_what_is_held_in_its_last_third() {
        assert_eq!(Plan::default().due(NOW), Due::Order);
        for days in [1, 6, 47, 90, 398] {
            let mut first = None;
            let mut spread = false;
            for seed in 0..20 {
                let mut plan = Plan::default();
                plan.handle_held(validity(days), None, NOW, &mut Rng::from_seed(seed));
                plan.handle_no_window(true, NOW);
                let Due::At(at) = plan.due(NOW) else { panic!("{plan:?}") };
                let (earliest, latest) = (days * DAY * 2 / 3, days * DAY * 3 / 4);
                assert!((earliest..=latest).contains(&(at - NOW)), "{days}: {:?}", at - NOW);
                assert_eq!(plan.due(at), Due::Order);
                spread |= *first.get_or_insert(at) != at;
            }
            assert!(spread, "all of a fleet at the same moment");
        }
    }

    #[test]
    fn a_wish_to_renew_early_leaves_a_certificate_half_its_life() {
        for (before, expected) in [(DAY, 89 * DAY), (45 * DAY, 45 * DAY), (300 * DAY, 45 * DAY)] {
            let mut plan = Plan::default();
            plan.handle_held(validity(90), Some(before), NOW, &mut rng());
            let Due::At(at) = plan.due(NOW) else { panic!("{plan:?}") };
            let span = before.min(45 * DAY) / 4;
            assert!((expected..=expected + span).contains(&(at - NOW)), "{before:?}");
            assert_eq!(plan.ask_at, Unix::MAX, "the CA is not asked against somebody's wish");
        }
    }

    #[test]
    fn failures_are_spaced_within_the_limits_of_cas() {
        let mut plan = Plan::default();
        let mut now = NOW;
        let mut attempts = Vec::new();
        let mut rng = rng();
        while now < NOW + 3 * DAY {
            assert_eq!(plan.due(now), Due::Order);
            attempts.push(now);
            plan.handle_failed(&refused("no"), now, &mut rng);
            assert_eq!(plan.last, Some(Past { at: now, reason: "no".into() }));
            let Due::At(next) = plan.due(now) else { panic!("{plan:?}") };
            now = next;
        }
        // Let's Encrypt: 5 failed validations of a name in an hour.
        let hour = Duration::from_secs(3600);
        let most = attempts
            .iter()
            .map(|from| attempts.iter().filter(|at| (*from..*from + hour).contains(*at)).count());
        assert!(most.max().unwrap() <= 5, "{attempts:?}");
        let gaps: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap <= REFUSED_MAX + REFUSED_MAX / 4), "{gaps:?}");
        assert!(gaps.last().unwrap() >= &REFUSED_MAX, "{gaps:?}");
    }

    #[test]
    fn a_ca_that_is_away_is_looked_for_sooner_and_one_that_asks_for_time_has_it() {
        let mut plan = Plan::default();
        plan.handle_failed(&Failure { refused: false, ..refused("away") }, NOW, &mut rng());
        assert!(plan.retry_at - NOW < Duration::from_secs(7));
        let hour = Duration::from_secs(3600);
        for (asked, expected) in [(hour, hour), (100 * DAY, DAY)] {
            let mut plan = Plan::default();
            let failure = Failure { retry_after: Some(asked), ..refused("too many") };
            plan.handle_failed(&failure, NOW, &mut rng());
            assert_eq!(plan.retry_at - NOW, expected);
        }
    }

    #[test]
    fn a_failed_renewal_keeps_what_is_held_and_a_good_one_forgets_the_failure() {
        let mut plan = held(90);
        let at = plan.renew_at;
        plan.handle_failed(&refused("no"), at, &mut rng());
        assert_eq!(plan.held, Some(validity(90)));
        assert!(matches!(plan.due(at), Due::At(next) if next > at));
        let next = Validity { not_before: at, not_after: at + 90 * DAY };
        plan.handle_held(next, Some(30 * DAY), at, &mut rng());
        assert_eq!((plan.failures, &plan.last, plan.held), (0, &None, Some(next)));
        assert!(matches!(plan.due(at), Due::At(_)));
    }

    #[test]
    fn what_is_known_changes_nothing_and_is_the_same_after_a_restart() {
        let mut plan = held(90);
        plan.handle_failed(&refused("no"), NOW, &mut rng());
        let before = plan.clone();
        plan.handle_held(validity(90), None, NOW + DAY, &mut Rng::from_seed(99));
        assert_eq!(plan, before);
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
        plan.handle_lost();
        assert_eq!(plan.due(NOW), Due::At(plan.retry_at), "still within its back-off");
    }

    #[test]
    fn the_window_of_the_ca_holds_as_soon_as_it_says_so() {
        let mut plan = Plan::default();
        plan.handle_held(validity(90), None, NOW, &mut rng());
        assert_eq!(plan.due(NOW), Due::Ask);
        let window = (NOW + 50 * DAY, NOW + 52 * DAY);
        plan.handle_window(window, DAY / 4, NOW, &mut rng());
        let chosen = plan.renew_at;
        assert!((window.0..window.1).contains(&chosen));
        assert_eq!(plan.due(NOW), Due::At(NOW + DAY / 4));
        assert_eq!(plan.due(NOW + DAY / 4), Due::Ask);
        // The same window again does not draw again,
        plan.handle_window(window, DAY, NOW, &mut Rng::from_seed(3));
        assert_eq!(plan.renew_at, chosen);
        // one in the past means at once, though not one order after the other,
        let past = (NOW - 2 * DAY, NOW - DAY);
        plan.handle_window(past, DAY, NOW + DAY, &mut rng());
        assert_eq!(plan.due(NOW + DAY), Due::Order);
        let later = NOW + DAY;
        let next = Validity { not_before: later, not_after: later + 90 * DAY };
        plan.handle_held(next, None, later, &mut rng());
        plan.handle_window(past, DAY, later, &mut rng());
        assert_eq!(plan.due(later), Due::At(later + EARLY_MIN));
        // and one that is none changes nothing.
        let mut plan = held(90);
        let before = plan.renew_at;
        plan.handle_window((NOW + 2 * DAY, NOW + DAY), Duration::ZERO, NOW, &mut rng());
        assert_eq!((plan.renew_at, plan.ask_at), (before, NOW + ASK_MIN));
    }

    #[test]
    fn a_person_may_ask_for_another_try() {
        let mut plan = Plan::default();
        plan.handle_failed(&refused("no"), NOW, &mut rng());
        assert!(matches!(plan.due(NOW), Due::At(_)));
        plan.handle_wish();
        assert_eq!(plan.due(NOW), Due::Order);
        let mut plan = held(90);
        plan.handle_wish();
        assert!(matches!(plan.due(NOW), Due::At(_)), "what did not fail is not tried again");
    }
}
