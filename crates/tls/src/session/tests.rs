use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::{RootCertStore, SupportedProtocolVersion, version};

use super::*;
use crate::provider::provider;

/// Two sessions and what one has sent and the other not yet got.
struct Pair {
    client: Session,
    server: Session,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
}

impl Pair {
    fn new(version: &'static SupportedProtocolVersion) -> Self {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("a.example").unwrap();
        Pair {
            client: Session::client(Arc::new(client), name, Vec::new()).unwrap(),
            server: Session::server(Arc::new(server)).unwrap(),
            to_server: Vec::new(),
            to_client: Vec::new(),
        }
    }

    /// One side takes in up to `bytes` of what the other sent.
    fn turn(&mut self, at_server: bool, bytes: usize, into: &mut [u8]) -> Result<usize, TlsError> {
        let (session, inbox, outbox) = match at_server {
            true => (&mut self.server, &mut self.to_server, &mut self.to_client),
            false => (&mut self.client, &mut self.to_client, &mut self.to_server),
        };
        let mut incoming = session.partial().to_vec();
        incoming.extend(inbox.drain(..bytes.min(inbox.len())));
        let mut out = Outgoing::default();
        let result = session.process(&mut incoming, into, &mut out);
        outbox.extend_from_slice(out.bytes());
        result.map(|processed| processed.filled)
    }

    fn shake_hands(&mut self, bytes: usize) {
        for turn in 0.. {
            self.turn(turn % 2 == 1, bytes, &mut []).unwrap();
            if !self.client.is_handshaking() && !self.server.is_handshaking() {
                return;
            }
            assert!(turn < 100_000, "the handshake does not end");
        }
    }
}

fn encrypt(session: &mut Session, mut plain: &[u8]) -> Vec<u8> {
    let mut out = Outgoing::default();
    while !plain.is_empty() {
        let count = session.encrypt(plain, &mut out).unwrap();
        plain = &plain[count..];
    }
    out.bytes().to_vec()
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

#[test]
fn bytes_arrive_however_they_are_cut() {
    for version in VERSIONS {
        for cut in [1, 7, 100, 16 * 1024, usize::MAX] {
            let mut pair = Pair::new(version);
            pair.shake_hands(cut);
            let sent: Vec<u8> = (0..50_000u32).map(|i| i as u8).collect();
            pair.to_server.extend(encrypt(&mut pair.client, &sent));
            let mut got = Vec::new();
            // Less room than a record has.
            let mut into = [0; 5000];
            while !pair.to_server.is_empty() || pair.server.has_plaintext() {
                let filled = match pair.server.has_plaintext() {
                    true => {
                        let mut out = Outgoing::default();
                        pair.server.process_more(&mut into, &mut out).unwrap().filled
                    }
                    false => pair.turn(true, cut.min(40_000), &mut into).unwrap(),
                };
                got.extend_from_slice(&into[..filled]);
                assert!(pair.server.partial().len() <= pair.server.incoming_max());
            }
            assert!(got == sent, "{version:?} {cut}");
            assert_eq!(pair.server.partial(), b"", "nothing is kept of a connection at rest");
            assert_eq!(pair.server.plaintext.capacity(), 0);
        }
    }
}

#[test]
fn both_sides_write_while_records_are_half_way() {
    for version in VERSIONS {
        let mut pair = Pair::new(version);
        pair.shake_hands(usize::MAX);
        let mut into = [0; 100];
        // Tickets.
        assert_eq!(pair.turn(false, usize::MAX, &mut into).unwrap(), 0);
        pair.to_server.extend(encrypt(&mut pair.client, b"hello"));
        assert_eq!(pair.turn(true, 9, &mut into).unwrap(), 0);
        let answer = encrypt(&mut pair.server, b"early answer");
        pair.to_client.extend(answer);
        assert_eq!(pair.turn(true, usize::MAX, &mut into).unwrap(), 5);
        assert_eq!(&into[..5], b"hello");
        assert_eq!(pair.turn(false, usize::MAX, &mut into).unwrap(), 12);
        assert_eq!(&into[..12], b"early answer");
    }
}

#[test]
fn an_end_is_told_from_a_cut() {
    for version in VERSIONS {
        let mut pair = Pair::new(version);
        pair.shake_hands(usize::MAX);
        let mut out = Outgoing::default();
        pair.client.encrypt(b"last", &mut out).unwrap();
        pair.client.close_notify(&mut out).unwrap();
        let len = out.bytes().len();
        pair.client.close_notify(&mut out).unwrap();
        assert_eq!(out.bytes().len(), len, "said once");
        pair.to_server.extend_from_slice(out.bytes());
        let mut into = [0; 100];
        assert_eq!(pair.turn(true, len - 1, &mut into).unwrap(), 4);
        assert!(!pair.server.is_peer_closed());
        assert_eq!(pair.turn(true, 1, &mut into).unwrap(), 0);
        assert!(pair.server.is_peer_closed());
        // Our direction goes on.
        let more = encrypt(&mut pair.server, b"still here");
        pair.to_client.extend(more);
        assert_eq!(pair.turn(false, usize::MAX, &mut into).unwrap(), 10);
    }
}

#[test]
fn garbage_is_answered_by_an_alert() {
    let mut pair = Pair::new(&version::TLS13);
    pair.to_server.extend_from_slice(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(pair.turn(true, usize::MAX, &mut []).is_err());
    assert_eq!(pair.to_client.first(), Some(&21), "a record of type alert");
    assert!(pair.turn(true, usize::MAX, &mut []).is_err(), "it stays failed");

    let mut pair = Pair::new(&version::TLS13);
    pair.shake_hands(usize::MAX);
    let mut record = encrypt(&mut pair.client, b"hello");
    *record.last_mut().unwrap() ^= 1;
    pair.to_server.extend(record);
    pair.to_client.clear();
    assert!(pair.turn(true, usize::MAX, &mut [0; 10]).is_err());
    assert!(!pair.to_client.is_empty());
    let mut out = Outgoing::default();
    assert!(pair.server.close_notify(&mut out).is_ok() && out.is_empty(), "the alert was the end");
}
