//! Endpoints of what was found. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use model::{Endpoint, Weight};

/// Where one service record leads.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    pub(super) addresses: Vec<IpAddr>,
}

pub(super) fn at(addresses: impl IntoIterator<Item = IpAddr>, port: u16) -> Vec<Endpoint> {
    let addresses: BTreeSet<IpAddr> = addresses.into_iter().collect();
    addresses.into_iter().map(|ip| Endpoint::at(SocketAddr::new(ip, port))).collect()
}

/// An endpoint for each address of each record. Priorities keep their order, counted from 0 (there
/// are 65,536 in the records and 256 here). The weight of a record is shared by its addresses; if
/// all of a priority have weight 0, they share alike.
pub(super) fn of(places: &[Place]) -> Vec<Endpoint> {
    let priorities: BTreeSet<u16> = places.iter().map(|place| place.priority).collect();
    let level = |priority: u16| priorities.range(..priority).count().min(255) as u8;
    // So that every share is a whole number; where that would be too large, nearly.
    let shares = places.iter().map(|place| place.addresses.len().max(1) as u64).fold(1, lcm);
    let heaviest = places.iter().map(|place| place.weight).max().unwrap_or(0);
    let factor = shares.min(u64::from(u16::MAX) / u64::from(heaviest.max(1)));
    let mut found: BTreeMap<SocketAddr, (u8, u64)> = BTreeMap::new();
    for place in places {
        let alike = |other: &&Place| other.priority == place.priority;
        let unweighted = places.iter().filter(alike).all(|other| other.weight == 0);
        let weight = if unweighted { 1 } else { u64::from(place.weight) };
        let count = place.addresses.len().max(1) as u64;
        let share = (weight * factor).div_ceil(count);
        for ip in &place.addresses {
            let (priority, sum) =
                found.entry(SocketAddr::new(*ip, place.port)).or_insert((level(place.priority), 0));
            // Listed twice: what is asked of it adds up, where it is asked first.
            match level(place.priority).cmp(priority) {
                std::cmp::Ordering::Less => (*priority, *sum) = (level(place.priority), share),
                std::cmp::Ordering::Equal => *sum += share,
                std::cmp::Ordering::Greater => {}
            }
        }
    }
    let endpoint = |(address, (priority, weight)): (SocketAddr, (u8, u64))| Endpoint {
        priority,
        weight: Weight(weight.min(u16::MAX.into()) as u16),
        ..Endpoint::at(address)
    };
    found.into_iter().map(endpoint).collect()
}

fn lcm(a: u64, b: u64) -> u64 {
    const LARGEST: u64 = u16::MAX as u64;
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    (a / x).saturating_mul(b).min(LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(places: &[(u16, u16, u16, &[u8])], expected: &str) {
        let place = |&(priority, weight, port, addresses): &(u16, u16, u16, &[u8])| Place {
            priority,
            weight,
            port,
            addresses: addresses.iter().map(|n| IpAddr::from([10, 0, 0, *n])).collect(),
        };
        let places: Vec<Place> = places.iter().map(place).collect();
        let show = |endpoint: &Endpoint| {
            assert_eq!(endpoint.id.as_str(), endpoint.address.to_string());
            let address = endpoint.address.to_string().replace("10.0.0.", "");
            format!("{address} p{} w{}", endpoint.priority, endpoint.weight.0)
        };
        let shown: Vec<String> = of(&places).iter().map(show).collect();
        assert_eq!(shown.join(", "), expected);
    }

    #[test]
    fn priorities_and_weights() {
        check(&[], "");
        check(&[(10, 3, 80, &[1]), (10, 1, 81, &[2])], "1:80 p0 w3, 2:81 p0 w1");
        check(
            &[(20, 1, 80, &[1]), (65535, 0, 80, &[2]), (10, 7, 80, &[3])],
            "1:80 p1 w1, 2:80 p2 w1, 3:80 p0 w7",
        );
        check(&[(0, 0, 80, &[1]), (0, 0, 80, &[2])], "1:80 p0 w1, 2:80 p0 w1");
        check(&[(0, 0, 80, &[1]), (0, 5, 80, &[2])], "1:80 p0 w0, 2:80 p0 w5");
        check(&[(0, 1, 80, &[])], "");
    }

    #[test]
    fn the_addresses_of_a_record_share_its_weight() {
        check(&[(0, 10, 80, &[1, 2]), (0, 10, 80, &[3])], "1:80 p0 w10, 2:80 p0 w10, 3:80 p0 w20");
        check(
            &[(0, 1, 80, &[1, 2, 3]), (0, 1, 80, &[4, 5])],
            "1:80 p0 w2, 2:80 p0 w2, 3:80 p0 w2, 4:80 p0 w3, 5:80 p0 w3",
        );
        check(
            &[(0, 65535, 80, &[1, 2]), (0, 65535, 80, &[3])],
            "1:80 p0 w32768, 2:80 p0 w32768, 3:80 p0 w65535",
        );
        check(&[(0, 2, 80, &[1]), (0, 3, 80, &[1])], "1:80 p0 w5");
        check(&[(1, 2, 80, &[1]), (0, 3, 80, &[1])], "1:80 p0 w3");
    }

    #[test]
    fn addresses_alone() {
        let ips = [2, 1, 2].map(|n| IpAddr::from([10, 0, 0, n]));
        let found = at(ips, 80);
        assert_eq!(found, ["10.0.0.1:80", "10.0.0.2:80"].map(|a| Endpoint::at(a.parse().unwrap())));
    }
}
