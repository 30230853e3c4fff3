//! How many answers the clients of one network get over UDP, whose senders anybody can forge: an
//! answer is longer than its question, and would go to whomever the forger means to hit. Pure.
//!
//! Beyond the rate the answer is as short as the question and only says that it is to be asked over
//! TCP, where nobody can be forged (Vixie and Schryver, "DNS Response Rate Limiting", 2012: `slip`);
//! beyond twice the rate there is none.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Instant;

/// Networks that are told apart: 64 KiB. Two that fall into one place share their rate.
const PLACES: usize = 4096;

/// Bits of an address that make a network, as resolvers' rate limits have them.
const IPV4_BITS: u32 = 24;
const IPV6_BITS: u32 = 56;

pub struct Limiter {
    /// Answers in a second, and at once after a quiet second.
    rate: f64,
    began: Instant,
    key: RandomState,
    places: Vec<Place>,
}

#[derive(Clone, Copy)]
struct Place {
    /// Answers that may be given; below zero, the short ones that were.
    left: f32,
    /// Milliseconds since the beginning.
    at: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Answer,
    AskOverTcp,
    Drop,
}

impl Limiter {
    pub fn new(rate: u32, now: Instant) -> Self {
        let rate = f64::from(rate);
        let places = vec![Place { left: rate as f32, at: 0 }; PLACES];
        Self { rate, began: now, key: RandomState::new(), places }
    }

    /// May a client have an answer now?
    pub fn judge(&mut self, client: IpAddr, now: Instant) -> Verdict {
        let place = (self.key.hash_one(network(client)) % PLACES as u64) as usize;
        let place = &mut self.places[place];
        let at = now.saturating_duration_since(self.began).as_millis() as u32;
        let seconds = f64::from(at.wrapping_sub(place.at)) / 1000.0;
        let left = (f64::from(place.left) + seconds * self.rate).min(self.rate);
        let verdict = if left >= 1.0 {
            Verdict::Answer
        } else if left > -self.rate {
            Verdict::AskOverTcp
        } else {
            Verdict::Drop
        };
        let used = if verdict == Verdict::Drop { 0.0 } else { 1.0 };
        *place = Place { left: (left - used) as f32, at };
        verdict
    }
}

fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() >> (32 - IPV4_BITS)).into()),
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> (128 - IPV6_BITS)).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn beyond_the_rate_answers_are_short_and_then_there_are_none() {
        let mut now = Instant::now();
        let mut limiter = Limiter::new(10, now);
        let mut ask = |client: &str, times: usize, now: Instant| {
            let mut counts = [0; 3];
            for _ in 0..times {
                counts[limiter.judge(client.parse().unwrap(), now) as usize] += 1;
            }
            counts
        };
        assert_eq!(ask("10.0.0.1", 40, now), [10, 10, 20]);
        assert_eq!(ask("10.0.0.200", 5, now), [0, 0, 5], "of the same network");
        assert_eq!(ask("::ffff:10.0.0.3", 5, now), [0, 0, 5], "so is this");
        assert_eq!(ask("10.0.1.1", 5, now), [5, 0, 0]);
        assert_eq!(ask("2001:db8::1", 15, now), [10, 5, 0]);
        assert_eq!(ask("2001:db8:0:80::1", 5, now), [0, 5, 0], "of the same /56");
        // Who goes on and on gets as many short answers as the rate allows.
        for _ in 0..10 {
            now += Duration::from_millis(500);
            assert_eq!(ask("10.0.0.1", 100, now), [0, 5, 95]);
        }
        now += Duration::from_secs(3);
        assert_eq!(ask("10.0.0.1", 15, now), [10, 5, 0]);
    }
}
