use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::Endpoint;
use model::spec::{
    AgentSpec, EndpointSource, HealthKind, LarsKey, LarsSpec, PolicySpec, ServiceSpec, Unreported,
};
use model::status::AgentCounts;
use model::vocabulary::OptionValue;
use service::NoEvents;

use super::*;
use crate::counts::Counts;

const KEY: Key = Key { modid: 1, cmdid: 1 };
const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// A service with Lars' policy, and its agent on a clock of the test's.
struct World {
    terms: Terms,
    desk: Desk,
    counts: Arc<Counts>,
    now: Instant,
}

impl World {
    fn new(defaults: &str, addresses: &[&str]) -> World {
        let name = "defaults".to_owned();
        let options = vec![(name, OptionValue::Text(defaults.into()))];
        Self::with(PolicySpec { name: "lars".into(), options }, addresses)
    }

    fn with(policy: PolicySpec, addresses: &[&str]) -> World {
        let mut spec = ServiceSpec::new("web".into());
        let endpoints = addresses.iter().map(|a| Endpoint::at(a.parse().unwrap())).collect();
        spec.source = EndpointSource::Static(endpoints);
        spec.policy = policy;
        spec.health.kind = HealthKind::Off;
        let now = Instant::from_nanos(60_000_000_000);
        let service = Service::new(&spec, Arc::new(NoEvents), now, 1);
        let keys = vec![LarsKey { modid: 1, cmdid: 1, service: "web".into() }];
        let lars = Some(LarsSpec { keys, ..LarsSpec::default() });
        let spec = AgentSpec { lars, ..AgentSpec::default() };
        let services = BTreeMap::from([("web".into(), service)]);
        let counts = Arc::new(Counts::default());
        let desk = Desk::new(1, counts.clone());
        World { terms: Terms::new(spec, services, false), desk, counts, now }
    }

    fn service(&self) -> &Service {
        &self.terms.services["web"]
    }

    fn send(&mut self, datagram: &[u8]) -> Vec<u8> {
        let mut reply = Vec::new();
        answer(&mut self.desk, &self.terms, datagram, HERE, self.now, &mut reply);
        reply
    }

    fn exchange(&mut self, message: &Message) -> Option<Message> {
        let mut frame = Vec::new();
        encode(message, &mut frame);
        let reply = self.send(&frame);
        match decode(&reply).unwrap() {
            Decoded::Complete { message, len } => {
                assert_eq!(len, reply.len());
                Some(message)
            }
            Decoded::Partial => {
                assert!(reply.is_empty());
                None
            }
        }
    }

    /// The last digit of the port of who is picked; or else the code of why nobody is.
    fn ask(&mut self) -> Result<i32, i32> {
        let asked = Message::GetHostRequest { seq: 9, key: KEY };
        match self.exchange(&asked) {
            Some(Message::GetHostResponse {
                seq: 9,
                key: KEY,
                retcode: SUCC,
                host: Some(host),
            }) => Ok(host.port % 10),
            Some(Message::GetHostResponse { seq: 9, key: KEY, retcode, host: None }) => {
                Err(retcode)
            }
            other => panic!("{other:?}"),
        }
    }

    /// As digits, `o` for overload.
    fn picks(&mut self, count: usize) -> String {
        let letter = |asked: Result<i32, i32>| match asked {
            Ok(port) => port.to_string(),
            Err(OVERLOAD) => "o".into(),
            Err(code) => panic!("{code}"),
        };
        (0..count).map(|_| letter(self.ask())).collect()
    }

    fn tell(&mut self, port: i32, retcode: i32, times: usize) {
        let host = Host { ip: 0x7f00_0001, port: 5000 + port };
        for _ in 0..times {
            assert_eq!(self.exchange(&Message::ReportRequest { key: KEY, host, retcode }), None);
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.desk.expire(&self.terms.spec, self.now);
    }

    fn counts(&self) -> AgentCounts {
        let mut counts = AgentCounts::default();
        self.counts.add_to(&mut counts);
        counts
    }
}

/// Worked out by hand from the specification, for both sets of defaults.
#[test]
fn golden_traces() {
    for (defaults, row, successes) in [("readme", 15, 6), ("code", 10, 10)] {
        let mut world =
            World::new(defaults, &["127.0.0.1:5001", "127.0.0.1:5002", "127.0.0.1:5003"]);
        assert_eq!(world.picks(6), "123123", "{defaults}: in turn");
        world.tell(2, 1, row - 1);
        assert_eq!(world.picks(3), "123", "{defaults}: {} errors in a row are too few", row - 1);
        world.tell(2, 1, 1);
        // It is out: one of eleven picks goes there.
        assert_eq!(
            world.picks(22),
            "1313131313213131313132".to_owned(),
            "{defaults}: one of eleven"
        );
        world.tell(2, 0, successes - 1);
        assert_eq!(world.picks(11).matches('2').count(), 1, "{defaults}: not yet back");
        world.tell(2, 0, 1);
        // Back at the tail.
        assert_eq!(world.picks(12).matches('2').count(), 4, "{defaults}: back");
    }
}

#[test]
fn while_all_are_overloaded_ten_are_refused_and_one_probes() {
    let mut world = World::new("readme", &["127.0.0.1:5001", "127.0.0.1:5002"]);
    world.tell(1, 1, 15);
    world.tell(2, 1, 15);
    assert_eq!(world.picks(33), "oooooooooo1oooooooooo2oooooooooo1");
    assert_eq!(world.counts().overloaded, 30);
    // The longest time in the list is over; only a report looks at the clock.
    world.pass(15);
    assert_eq!(world.picks(2), "oo");
    world.tell(2, 1, 1);
    assert_eq!(world.picks(3), "222");
}

#[test]
fn what_no_service_is_and_what_has_no_hosts_does_not_exist() {
    let mut world = World::new("readme", &[]);
    assert_eq!(world.ask(), Err(NOEXIST));
    let other = Key { modid: 1, cmdid: 2 };
    let asked = Message::GetHostRequest { seq: 1, key: other };
    let expected = Message::GetHostResponse { seq: 1, key: other, retcode: NOEXIST, host: None };
    assert_eq!(world.exchange(&asked), Some(expected));
    for key in [KEY, other] {
        let expected = Message::ApiGetRouteResponse(key, Vec::new());
        assert_eq!(world.exchange(&Message::ApiGetRouteRequest(key)), Some(expected));
    }
    assert_eq!((world.counts().no_endpoint, world.counts().unknown), (1, 1));
}

#[test]
fn a_route_has_all_hosts_whatever_their_state() {
    let mut world = World::new("readme", &["127.0.0.1:5001", "[::1]:5002", "200.0.0.1:5003"]);
    world.tell(1, 1, 15);
    let host = |ip: u32, port| Host { ip: ip as i32, port };
    let hosts = vec![host(0x7f00_0001, 5001), host(0xc800_0001, 5003)];
    let expected = Message::ApiGetRouteResponse(KEY, hosts);
    assert_eq!(world.exchange(&Message::ApiGetRouteRequest(KEY)), Some(expected));
    // An address that cannot be said is not left in flight.
    let asked: Vec<_> = (0..4).map(|_| world.ask()).collect();
    assert_eq!(asked, [Err(SYSTEM_ERROR), Ok(3), Err(SYSTEM_ERROR), Ok(3)]);
    assert_eq!(world.counts().outstanding, 2);
}

#[test]
fn an_outstanding_pick_is_reported_once_or_expires() {
    let mut world = World::new("readme", &["127.0.0.1:5001"]);
    assert_eq!(world.picks(3), "111");
    let in_flight = |world: &World| world.service().status().endpoints[0].in_flight;
    assert_eq!((in_flight(&world), world.counts().outstanding), (3, 3));
    world.tell(1, 0, 1);
    assert_eq!((in_flight(&world), world.counts().outstanding), (2, 2));
    world.pass(59);
    assert_eq!(world.picks(1), "1");
    world.pass(1);
    assert_eq!((in_flight(&world), world.counts().expired), (1, 2));
    // Nothing was said of the endpoint by what expired.
    assert_eq!(world.service().status().endpoints[0].failures, 0);
    // A report beyond what is outstanding counts as a call of its own.
    world.tell(1, 1, 2);
    let counts = world.counts();
    assert_eq!((in_flight(&world), counts.unasked, counts.outstanding), (0, 1, 0));
    assert_eq!(world.service().status().endpoints[0].failures, 2);
    // Of somebody unknown there is nothing to say.
    world.tell(9, 1, 1);
    assert_eq!(world.counts().unmatched, 1);
}

#[test]
fn what_is_unreported_counts_as_it_is_configured_and_the_table_is_bounded() {
    let mut world = World::new("readme", &["127.0.0.1:5001"]);
    world.terms.spec.unreported = Unreported::TimedOut;
    world.terms.spec.outstanding = 4;
    world.picks(10);
    let counts = world.counts();
    assert_eq!((counts.outstanding, counts.crowded_out), (4, 6));
    world.pass(60);
    assert_eq!((world.counts().outstanding, world.counts().expired), (0, 4));
    assert_eq!(world.service().status().endpoints[0].failures, 10);
}

#[test]
fn nothing_that_no_caller_sends_is_answered() {
    let mut world = World::new("readme", &["127.0.0.1:5001"]);
    let mut frame = Vec::new();
    encode(&Message::GetHostRequest { seq: 1, key: KEY }, &mut frame);
    let longer = [&frame[..], b"x"].concat();
    let shorter = &frame[..frame.len() - 1];
    for datagram in [&b""[..], b"x", &longer, shorter, &[0; 8], &[0xff; 2000]] {
        assert_eq!(world.send(datagram), b"", "{datagram:?}");
    }
    let responses = [
        Message::GetRouteRequest(KEY),
        Message::GetHostResponse { seq: 1, key: KEY, retcode: 0, host: None },
        Message::ApiGetRouteResponse(KEY, Vec::new()),
    ];
    for message in responses {
        assert_eq!(world.exchange(&message), None);
    }
    assert_eq!(world.counts().malformed, 9);
    let mut reply = Vec::new();
    let far = "192.0.2.1".parse().unwrap();
    answer(&mut world.desk, &world.terms, &frame, far, world.now, &mut reply);
    assert_eq!((reply, world.counts().not_admitted), (Vec::new(), 1));
}

/// With a policy that takes a key, a caller has its endpoint.
#[test]
fn a_policy_by_hash_takes_the_callers_address() {
    let policy = PolicySpec { name: "source_hash".into(), options: Vec::new() };
    let mut world = World::with(policy, &["127.0.0.1:5001", "127.0.0.1:5002", "127.0.0.1:5003"]);
    let first = world.ask().unwrap();
    for _ in 0..20 {
        // Who has much in flight is passed over.
        world.tell(first, 0, 1);
        assert_eq!(world.ask(), Ok(first));
    }
}

#[test]
fn who_stops_gives_nothing_out_and_takes_reports() {
    let mut world = World::new("readme", &["127.0.0.1:5001"]);
    world.picks(2);
    let Terms { spec, services, .. } = &world.terms;
    world.terms = Terms::new(spec.clone(), services.clone(), true);
    assert_eq!(world.ask(), Err(OVERLOAD));
    world.tell(1, 0, 2);
    assert_eq!((world.counts().outstanding, world.counts().successes), (0, 2));
}
