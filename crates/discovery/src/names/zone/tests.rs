use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use super::*;

struct Fixed(BTreeMap<&'static str, Arc<[Serving]>>);

impl Directory for Fixed {
    fn find(&self, service: &str) -> Option<Arc<[Serving]>> {
        self.0.get(service).cloned()
    }
}

fn serving(address: &str, weight: u16, zone: Option<&str>, is_eligible: bool) -> Serving {
    let zone = zone.map(Into::into);
    Serving { address: address.parse().unwrap(), weight, priority: 2, zone, is_eligible }
}

fn directory() -> Fixed {
    let many: Vec<Serving> =
        (0..200).map(|n| serving(&format!("10.1.0.{n}:80"), 1, None, true)).collect();
    Fixed(
        [
            (
                "web",
                [
                    serving("10.0.0.1:5000", 3, Some("eu"), true),
                    serving("10.0.0.2:5000", 1, Some("us-1.a"), true),
                    serving("10.0.0.3:5000", 1, Some("EU"), false),
                    serving("10.0.0.4:5000", 0, None, true),
                    serving("[2001:db8::1]:5000", 1, Some("eu"), true),
                ]
                .into(),
            ),
            ("api.v2", [serving("10.0.0.9:80", 1, None, true)].into()),
            ("down", [serving("10.0.0.5:80", 1, None, false)].into()),
            ("none", [].into()),
            ("many", many.into()),
            (
                "ports",
                [serving("10.0.0.6:1", 1, None, true), serving("10.0.0.6:2", 1, None, true)].into(),
            ),
        ]
        .into(),
    )
}

fn zone() -> Zone {
    Zone { domain: Name::from_text("evenkeel.internal").unwrap(), ttl: 5 }
}

fn question(name: &str, kind: u16) -> Question {
    Question { name: Name::from_text(name).unwrap(), kind, class: CLASS_IN }
}

fn ask(query: &[u8], transport: Transport) -> Option<Message> {
    let mut rng = Rng::from_seed(7);
    let answer = answer(query, &zone(), &directory(), transport, &mut rng)?;
    Some(dns::decode(&answer).unwrap())
}

/// `CODE records | authority | additional`, each list in order.
fn check(name: &str, kind: u16, expected: &str) {
    let query = dns::query(7, &question(name, kind), true);
    let message = ask(&query, Transport::Udp).unwrap();
    assert!(message.header.is_response && message.header.id == 7);
    assert!(!message.header.recursion_available && message.edns.is_some());
    let show = |records: &[Record]| {
        let mut shown: Vec<String> = records
            .iter()
            .map(|record| match &record.data {
                Data::A(ip) => ip.to_string(),
                Data::Aaaa(ip) => ip.to_string(),
                Data::Srv(s) => format!("{} {} {} {}", s.priority, s.weight, s.port, s.target),
                Data::Soa(soa) => format!("{} SOA {} {}", record.name, soa.server, soa.minimum),
                other => format!("{other:?}"),
            })
            .collect();
        shown.sort();
        shown.join(", ")
    };
    let parts = [&message.answers, &message.authorities, &message.additionals];
    let parts: Vec<String> = parts.iter().map(|records| show(records)).collect();
    let parts = parts.join(" | ");
    let shown = format!("{} {}", code::name(message.header.code), parts);
    assert_eq!(shown.trim_end_matches([' ', '|']), expected, "{name} {kind}");
}

const NONE: &str = "NOERROR  | evenkeel.internal SOA ns.evenkeel.internal 5";
const NO_NAME: &str = "NXDOMAIN  | evenkeel.internal SOA ns.evenkeel.internal 5";

#[test]
fn services() {
    check("web.evenkeel.internal", kind::A, "NOERROR 10.0.0.1, 10.0.0.2");
    check("WEB.Evenkeel.Internal", kind::A, "NOERROR 10.0.0.1, 10.0.0.2");
    check("web.evenkeel.internal", kind::AAAA, "NOERROR 2001:db8::1");
    check("web.evenkeel.internal", kind::ANY, "NOERROR 10.0.0.1, 10.0.0.2");
    check("api.v2.evenkeel.internal", kind::A, "NOERROR 10.0.0.9");
    check("ports.evenkeel.internal", kind::A, "NOERROR 10.0.0.6");
    let all = "NOERROR 2 1 5000 0a000002.addr.evenkeel.internal, \
               2 1 5000 20010db8000000000000000000000001.addr.evenkeel.internal, \
               2 3 5000 0a000001.addr.evenkeel.internal |  | 10.0.0.1, 10.0.0.2, 2001:db8::1";
    check("web.evenkeel.internal", kind::SRV, all);
    check("_http._tcp.web.evenkeel.internal", kind::SRV, all);
    check("_http._tcp.web.evenkeel.internal", kind::A, NONE);
    check("_tcp.web.evenkeel.internal", kind::A, NONE);
    check("down.evenkeel.internal", kind::A, NONE);
    check("none.evenkeel.internal", kind::SRV, NONE);
    check("web.evenkeel.internal", 16, NONE);
    check("other.evenkeel.internal", kind::A, NO_NAME);
    check("x.web.evenkeel.internal", kind::A, NO_NAME);
    check("_http._tcp.other.evenkeel.internal", kind::SRV, NO_NAME);
    check("_http._tcp.evenkeel.internal", kind::SRV, NO_NAME);
}

#[test]
fn names_with_too_many_labels_are_looked_up_by_nobody() {
    struct Counting(AtomicUsize);
    impl Directory for Counting {
        fn find(&self, _: &str) -> Option<Arc<[Serving]>> {
            self.0.fetch_add(1, Relaxed);
            None
        }
    }
    for (labels, looked_up) in [(16, 16), (17, 0), (110, 0)] {
        let directory = Counting(AtomicUsize::new(0));
        let name = "a.".repeat(labels) + "evenkeel.internal";
        let query = dns::query(7, &question(&name, kind::A), true);
        let mut rng = Rng::from_seed(7);
        let answer = answer(&query, &zone(), &directory, Transport::Udp, &mut rng).unwrap();
        assert_eq!(dns::decode(&answer).unwrap().header.code, code::NAME_ERROR);
        assert_eq!(directory.0.into_inner(), looked_up, "{labels}");
    }
}

#[test]
fn zones_addresses_and_the_zone_itself() {
    check("zone.eu.web.evenkeel.internal", kind::A, "NOERROR 10.0.0.1");
    check("zone.us-1.a.web.evenkeel.internal", kind::A, "NOERROR 10.0.0.2");
    check("zone.asia.web.evenkeel.internal", kind::A, NO_NAME);
    check("eu.web.evenkeel.internal", kind::A, NONE);
    let one = "NOERROR 2 1 5000 0a000002.addr.evenkeel.internal |  | 10.0.0.2";
    check("_x._udp.zone.us-1.a.web.evenkeel.internal", kind::SRV, one);
    check("0a000001.addr.evenkeel.internal", kind::A, "NOERROR 10.0.0.1");
    check("0A000001.addr.evenkeel.internal", kind::AAAA, NONE);
    let v6 = "20010db8000000000000000000000001.addr.evenkeel.internal";
    check(v6, kind::AAAA, "NOERROR 2001:db8::1");
    check("0a00001.addr.evenkeel.internal", kind::A, NO_NAME);
    check("+a000001.addr.evenkeel.internal", kind::A, NO_NAME);
    check("addr.evenkeel.internal", kind::A, NONE);
    let soa = "NOERROR evenkeel.internal SOA ns.evenkeel.internal 5";
    check("evenkeel.internal", kind::SOA, soa);
    check("evenkeel.internal", kind::A, NONE);
    check("internal", kind::A, "REFUSED");
    check("web.example.com", kind::A, "REFUSED");
    check(".", kind::NS, "REFUSED");
}

#[test]
fn what_does_not_fit_is_to_be_had_over_tcp() {
    let query = |edns| dns::query(1, &question("many.evenkeel.internal", kind::A), edns);
    for (edns, least, most) in [(false, 28, 30), (true, 70, 76)] {
        let message = ask(&query(edns), Transport::Udp).unwrap();
        assert!(message.header.truncated);
        assert!((least..=most).contains(&message.answers.len()), "{}", message.answers.len());
    }
    let whole = ask(&query(true), Transport::Tcp).unwrap();
    assert_eq!((whole.answers.len(), whole.header.truncated), (200, false));
    let short = ask(&query(true), Transport::UdpEmpty).unwrap();
    assert_eq!((short.answers.len(), short.header.truncated), (0, true));
    // No longer than what was asked.
    let mut rng = Rng::from_seed(1);
    let bytes = answer(&query(true), &zone(), &directory(), Transport::UdpEmpty, &mut rng);
    assert_eq!(bytes.unwrap().len(), query(true).len());
}

#[test]
fn the_first_comes_by_weight() {
    let query = dns::query(1, &question("web.evenkeel.internal", kind::A), true);
    let (mut rng, mut first) = (Rng::from_seed(3), 0);
    for _ in 0..1000 {
        let bytes = answer(&query, &zone(), &directory(), Transport::Udp, &mut rng).unwrap();
        let message = dns::decode(&bytes).unwrap();
        first += usize::from(message.answers[0].data == Data::A([10, 0, 0, 1].into()));
    }
    assert!((700..800).contains(&first), "{first} of 1000 with weight 3 beside 1");
}

#[test]
fn what_is_no_query() {
    let query = dns::query(7, &question("web.evenkeel.internal", kind::A), true);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut query = query.clone();
        change(&mut query);
        ask(&query, Transport::Udp).map(|message| code::name(message.header.code))
    };
    let says = |code: &str| Some(code.to_owned());
    assert_eq!(with(&|_| {}), says("NOERROR"));
    assert_eq!(with(&|q| q[2] |= 0x80), None, "an answer");
    assert_eq!(with(&|q| q.truncate(11)), None, "no header");
    assert_eq!(with(&|q| q.truncate(20)), says("FORMERR"));
    assert_eq!(
        with(&|q| {
            q.truncate(20);
            q[2] |= 0x80;
        }),
        None,
        "half an answer"
    );
    assert_eq!(with(&|q| q[2] |= 0x28), says("NOTIMP"), "an update");
    assert_eq!(with(&|q| q[5] = 2), says("FORMERR"), "two questions");
    assert_eq!(
        with(&|q| {
            q[5] = 0;
            q[11] = 0;
        }),
        says("FORMERR"),
        "no question"
    );
    let end = query.len();
    assert_eq!(with(&|q| q[end - 5] = 1), says("BADVERS"));
    assert_eq!(with(&|q| q[end - 12] = 3), says("REFUSED"), "another class");
}
