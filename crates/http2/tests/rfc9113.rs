//! The list of `conformance`, against a connection without a socket.

mod conformance;
mod contract;

use conformance::{Case, LAST_PING, PING, cases, frame, judge, parse};
use http2::{Config, Connection, Event, HeadKind, StreamKey};

/// As the list asks for it, and small enough for floods to be short.
const CONFIG: Config = Config {
    streams_max: 100,
    stream_window: 256 * 1024,
    connection_window: 1024 * 1024,
    field_bytes_max: 64 * 1024,
    field_count_max: 100,
    output_bytes: 64 * 1024,
    extended_connect: true,
    resets_max: 200,
    idle_frames_max: 1000,
    continuations_max: 32,
    window_updates_max: 1000,
};

/// A server that answers every complete request with `hello`.
struct Server {
    connection: Connection,
    input: Vec<u8>,
    output: Vec<u8>,
    /// What is left to send on these streams.
    waiting: Vec<(StreamKey, usize)>,
}

const BODY: &[u8] = b"hello";

impl Server {
    fn new() -> Server {
        let connection = Connection::server(CONFIG);
        Server { connection, input: Vec::new(), output: Vec::new(), waiting: Vec::new() }
    }

    /// Takes bytes as a socket gives them: in pieces of this size.
    fn feed(&mut self, bytes: &[u8], piece: usize) {
        for piece in bytes.chunks(piece) {
            self.input.extend_from_slice(piece);
            while let Ok(received) = self.connection.receive(&self.input) {
                self.input.drain(..received.consumed);
                match received.event {
                    Some(event) => self.handle(event),
                    None => break,
                }
            }
            while let Some(key) = self.connection.next_writable() {
                self.send(key);
            }
            self.flush();
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Request { stream, end, .. } if self.connection.fields().is_over() => {
                let kind = HeadKind::FinalWithoutBody;
                self.connection.send_head(stream, kind, |fields| fields.status(431));
                if end {
                    self.connection.forget(stream);
                }
            }
            Event::Request { stream, end: true, .. }
            | Event::Data { stream, end: true, .. }
            | Event::Trailers { stream } => {
                self.connection.send_head(stream, HeadKind::Final, |fields| {
                    fields.status(200);
                    fields.field(b"content-length", b"5");
                });
                self.waiting.push((stream, 0));
                self.send(stream);
            }
            Event::Reset { stream, .. } => self.connection.forget(stream),
            // Bodies are not consumed: the windows are what is tested.
            _ => {}
        }
    }

    fn send(&mut self, key: StreamKey) {
        let Some(index) = self.waiting.iter().position(|(stream, _)| *stream == key) else {
            return;
        };
        let sent = &mut self.waiting[index].1;
        *sent += self.connection.send_data(key, &BODY[*sent..], true);
        if *sent == BODY.len() {
            self.waiting.swap_remove(index);
            self.connection.forget(key);
        }
    }

    fn flush(&mut self) {
        self.output.extend_from_slice(self.connection.output());
        self.connection.advance(self.connection.output().len());
    }
}

fn run(case: &Case, piece: usize) -> Result<(), String> {
    let mut server = Server::new();
    let ping = frame(PING, 0, 0, &LAST_PING);
    server.feed(&[&case.send[..], &ping].concat(), piece);
    server.flush();
    let (frames, length) = parse(&server.output);
    if length < server.output.len() {
        return Err("the output ends within a frame".into());
    }
    judge(&case.expect, &frames)?;
    let alive = frames.iter().any(|f| f.kind == PING && f.payload == LAST_PING);
    let failed = server.connection.failure().is_some();
    match alive == failed {
        true => Err(format!("failed: {failed}, answers the last ping: {alive}")),
        false => Ok(()),
    }
}

#[test]
fn every_case_holds_however_the_bytes_arrive() {
    let cases = cases();
    assert!(cases.len() >= 100, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        for piece in [usize::MAX, 16_384, 7, 1] {
            if case.send.len() / piece > 100_000 {
                continue;
            }
            if let Err(error) = run(case, piece) {
                wrong.push(format!("{}: {} (by {piece}): {error}", case.section, case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// h2spec has 146 cases.
#[test]
fn the_list_has_all_cases_of_h2spec() {
    let cases = cases();
    let mut count = 0;
    for (group, names) in conformance::h2spec::H2SPEC {
        for (number, name) in (1..).zip(*names) {
            let is_there = cases.iter().any(|case| case.name == *name);
            assert!(is_there, "{group}/{number}: {name}");
            count += 1;
        }
    }
    assert_eq!(count, 146);
}

/// "8.1" or "10.5", of RFC 9113, or "RFC 7541 5.2".
#[test]
fn every_case_names_its_section() {
    for case in cases() {
        let first = case.section.split(", ").next().unwrap_or_default();
        let section = first
            .strip_prefix("RFC ")
            .map_or(Some(first), |rest| rest.split_once(' ').map(|(_, section)| section));
        let is_section = section.is_some_and(|section| {
            section.starts_with(|c: char| c.is_ascii_digit())
                && section.chars().all(|c| c.is_ascii_digit() || c == '.')
        });
        assert!(is_section, "{}: {}", case.section, case.name);
    }
}

#[test]
fn no_two_cases_have_the_same_name() {
    let mut names: Vec<_> = cases().iter().map(|case| (case.section, case.name)).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

/// What clients may do is a corpus too.
#[test]
fn the_cases_of_the_rfc_pass() {
    for case in cases() {
        let length = case.send.len().min(40_000);
        contract::connection(&case.send[..length]);
    }
}
