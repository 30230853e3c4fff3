//! What must hold for any bytes that an engine answers, or that are sent to the name server. The
//! fuzzer and the tests use the same.
#![allow(dead_code, reason = "each user of this file takes some of it")]

use std::collections::BTreeMap;
use std::sync::Arc;

use discovery::names::{Directory, Serving, Transport, Zone, answer};
use discovery::providers::docker::decode;
use discovery::providers::docker::tracker::Tracker;
use discovery::{LINE_BYTES_MAX, Message, Picture};
use model::spec::{DeclaredSpec, DockerSpec, ProvidersSpec, Spec};
use model::{Instant, Rng};

pub(crate) fn container_engine(data: &[u8]) {
    let _ = decode::version(data);
    if let Some(sample) = decode::sample(data) {
        let _ = sample.since(&decode::Sample::default());
        assert_eq!(sample.since(&sample), None);
    }
    if let Some(ids) = decode::list(data) {
        assert!(ids.iter().all(|id| decode::is_id(id)));
    }
    let now = Instant::from_nanos(1);
    let mut tracker = Tracker::new("host");
    if let Some(event) = decode::event(data) {
        assert!(decode::is_id(&event.id));
        tracker.event(&event, now);
    }
    let Some(found) = decode::inspection(data) else {
        if let Some(message) = Message::from_line(data) {
            told(&message);
        }
        return;
    };
    let id = found.container.id.clone();
    tracker.begin("engine", vec![id.clone()]);
    let steps = tracker.inspected(&id, Some(found.clone()), now);
    assert!(!steps.is_empty());
    told(&Message::Container(Box::new(found.container)));
}

/// It fits in a line, comes out as it went in, and makes a picture that forgets it without a trace.
fn told(message: &Message) {
    let line = message.to_line();
    let Message::Container(container) = message else { return };
    // What came from elsewhere than `decode` has no bounds but that of the line.
    assert!(line.len() <= LINE_BYTES_MAX || container.labels.len() > 500);
    if line.len() <= LINE_BYTES_MAX {
        let read = Message::from_line(line.trim_ascii_end());
        assert_eq!(read.as_ref(), Some(message));
    }
    let docker = DockerSpec {
        exposed_by_default: true,
        traefik_labels: true,
        virtual_host: true,
        ..DockerSpec::default()
    };
    let mut picture = Picture::new(read_labels);
    picture
        .configure(&Spec { providers: ProvidersSpec { docker: Some(docker) }, ..Spec::default() });
    picture.apply(message.clone());
    picture.apply(Message::Gone { id: container.id.clone() });
    assert!(picture.declared().is_empty());
    assert_eq!(picture.summary().containers, 0);
}

/// Every set of labels is wrong; reading them is `config`'s affair, and tested there.
fn read_labels(_: &str, labels: &BTreeMap<String, String>) -> Result<DeclaredSpec, Vec<String>> {
    Err(labels.keys().cloned().collect())
}

struct Web;

impl Directory for Web {
    fn find(&self, service: &str) -> Option<Arc<[Serving]>> {
        let serving = |n: u8| Serving {
            address: ([127, 0, 0, n], 5000).into(),
            weight: n.into(),
            priority: n % 2,
            zone: Some("eu".into()),
            is_eligible: !n.is_multiple_of(3),
        };
        (service == "web").then(|| (0..100).map(serving).collect())
    }
}

/// Whatever is sent, the answer is a message that fits, to the same question.
pub(crate) fn dns_answer(data: &[u8]) {
    let domain = wire::dns::Name::from_text("k.internal").expect("it is a name");
    let zone = Zone { domain, ttl: 5 };
    let asked = wire::dns::decode(data);
    for transport in [Transport::Udp, Transport::UdpEmpty, Transport::Tcp] {
        let mut rng = Rng::from_seed(data.len() as u64);
        let Some(bytes) = answer(data, &zone, &Web, transport, &mut rng) else {
            assert!(asked.as_ref().map_or(true, |asked| asked.header.is_response));
            continue;
        };
        let limit = if transport == Transport::Tcp { 65_535 } else { 1232 };
        assert!(bytes.len() <= limit, "{} bytes", bytes.len());
        if transport == Transport::UdpEmpty {
            assert!(bytes.len() <= data.len(), "an answer longer than its question");
        }
        let said = wire::dns::decode(&bytes).expect("we understand ourselves");
        assert!(said.header.is_response && !said.header.recursion_available);
        if let Ok(asked) = &asked {
            assert_eq!((said.header.id, &said.question), (asked.header.id, &asked.question));
            assert_eq!(said.edns.is_some(), asked.edns.is_some());
        }
    }
}
