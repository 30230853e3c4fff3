//! `resolv.conf`: whom to ask, and for which names (resolv.conf(5)).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use wire::dns::Name;

const PORT: u16 = 53;
/// Servers and domains that are taken; the C library stops at 3 and 6.
const SERVERS_MAX: usize = 8;
const SEARCH_MAX: usize = 16;
/// As the C library has it.
const NDOTS_MAX: usize = 15;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResolvConf {
    /// Asked in this order. Never empty.
    pub(super) servers: Vec<SocketAddr>,
    /// Where names are looked for that are not whole.
    pub(super) search: Vec<Name>,
    /// A name with so many dots is tried as it is first.
    pub(super) ndots: usize,
}

impl ResolvConf {
    /// These servers, and names only as they are.
    pub(super) fn of(servers: &[SocketAddr]) -> Self {
        Self { servers: servers.to_vec(), search: Vec::new(), ndots: 1 }
    }

    /// What is not understood is passed over, as the C library does. Without a server the one of
    /// this machine is asked.
    pub(super) fn parse(text: &str) -> Self {
        let mut conf = Self { servers: Vec::new(), search: Vec::new(), ndots: 1 };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    conf.servers.extend(server.map(|ip| SocketAddr::new(ip, PORT)));
                }
                // The last of the two that is there counts.
                Some("search" | "domain") => {
                    let names = words.filter_map(|word| Name::from_text(word).ok());
                    conf.search = names.filter(|name| !name.is_root()).take(SEARCH_MAX).collect();
                }
                Some("options") => {
                    let ndots = words.filter_map(|word| word.strip_prefix("ndots:"));
                    if let Some(ndots) = ndots.filter_map(|n| n.parse::<usize>().ok()).next_back() {
                        conf.ndots = ndots.min(NDOTS_MAX);
                    }
                }
                _ => {}
            }
        }
        conf.servers.truncate(SERVERS_MAX);
        if conf.servers.is_empty() {
            conf.servers.push((Ipv4Addr::LOCALHOST, PORT).into());
        }
        conf
    }

    /// The names that a text may stand for, in the order in which they are tried. Empty if it is
    /// no name.
    pub(super) fn candidates(&self, text: &str) -> Vec<Name> {
        let Ok(name) = Name::from_text(text) else { return Vec::new() };
        if text.ends_with('.') || self.search.is_empty() {
            return vec![name];
        }
        let longer = self.search.iter().filter_map(|domain| {
            // A name that becomes too long is none.
            Name::of(name.labels().chain(domain.labels())).ok()
        });
        let longer: Vec<Name> = longer.collect();
        let dots = name.labels().count().saturating_sub(1);
        if dots >= self.ndots {
            [name].into_iter().chain(longer).collect()
        } else {
            longer.into_iter().chain([name]).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let conf = ResolvConf::parse(
            "# made by hand\n\
             nameserver 10.0.0.1\nnameserver fe80::1%eth0\n  nameserver\t::1 # the second\n\
             domain old.test\nsearch a.test b.test. ..\n\
             options rotate ndots:2 timeout:1\nsortlist 1.2.3.4\n",
        );
        assert_eq!(conf.servers, ["10.0.0.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
        let search: Vec<String> = conf.search.iter().map(Name::to_string).collect();
        assert_eq!((search.join(" "), conf.ndots), ("a.test b.test".to_owned(), 2));
        let none = ResolvConf::parse("");
        assert_eq!(none.servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!((none.search.len(), none.ndots), (0, 1));
        let many = "nameserver 10.0.0.1\n".repeat(100) + "options ndots:99 ndots:x";
        let many = ResolvConf::parse(&many);
        assert_eq!((many.servers.len(), many.ndots), (SERVERS_MAX, NDOTS_MAX));
    }

    #[test]
    fn names_that_are_tried() {
        let conf = ResolvConf::parse("search a.test b\noptions ndots:2");
        let long = "x".repeat(63);
        let longest = format!("{long}.{long}.{long}.{}", "x".repeat(61));
        for (text, expected) in [
            ("web", "web.a.test web.b web"),
            ("web.dc", "web.dc.a.test web.dc.b web.dc"),
            ("web.dc.x", "web.dc.x web.dc.x.a.test web.dc.x.b"),
            ("web.", "web"),
            ("a..b", ""),
            (&*longest, &*longest),
        ] {
            let names = conf.candidates(text);
            let names: Vec<String> = names.iter().map(Name::to_string).collect();
            assert_eq!(names.join(" "), expected, "{text}");
        }
        assert_eq!(ResolvConf::of(&conf.servers).candidates("web").len(), 1);
    }
}
