//! An endpoint that speaks HTTP/2 and does what a test says, by the crate of the project.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use http2::{Config, Connection, ErrorCode, Event, HeadKind, StreamKey};

use crate::e2e::harness::Replica;

pub(super) const CONFIG: Config = Config {
    streams_max: 100,
    stream_window: 65_535,
    connection_window: 65_535,
    field_bytes_max: 64 * 1024,
    field_count_max: 200,
    output_bytes: 64 * 1024,
    extended_connect: true,
    resets_max: 10_000,
    idle_frames_max: 10_000,
    continuations_max: 32,
    window_updates_max: 100_000,
};

/// A request, once its head is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    /// Which connection it came on, from 0.
    pub(super) connection: usize,
    /// Which request of that connection it is, from 0.
    pub(super) number: usize,
    pub(super) fields: Vec<(String, String)>,
}

impl Asked {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| &value[..])
    }
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(super) enum Does {
    /// 200 with this body.
    Answers(Vec<u8>),
    /// 200 with what was sent, and with these trailers.
    Echoes(Vec<(&'static str, &'static str)>),
    /// 200, and bytes go back as they come.
    Tunnels,
    /// A reset with this code, at once.
    Resets(ErrorCode),
    /// Nothing, for ever.
    Waits,
    /// The connection goes, processing nothing above this request's predecessor.
    Leaves,
    /// 200, and the connection ends in order behind it.
    AnswersAndLeaves,
    /// The socket is closed.
    Dies,
}

pub(super) struct Origin {
    pub(super) replica: Replica,
    pub(super) asked: Arc<Mutex<Vec<Asked>>>,
    /// Streams that were reset by the balancer, with what.
    pub(super) resets: Arc<Mutex<Vec<ErrorCode>>>,
    /// GOAWAY frames that came.
    pub(super) goodbyes: Arc<AtomicUsize>,
}

impl Origin {
    pub(super) fn start(does: impl Fn(&Asked) -> Does + Send + Sync + 'static) -> Origin {
        Self::with(CONFIG, does)
    }

    pub(super) fn with(
        config: Config,
        does: impl Fn(&Asked) -> Does + Send + Sync + 'static,
    ) -> Origin {
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let resets: Arc<Mutex<Vec<ErrorCode>>> = Arc::default();
        let goodbyes = Arc::new(AtomicUsize::new(0));
        let connections = AtomicUsize::new(0);
        let seen = (asked.clone(), resets.clone(), goodbyes.clone());
        let replica = Replica::raw(move |peer| {
            let mut side = Side {
                number: connections.fetch_add(1, SeqCst),
                count: 0,
                connection: Connection::server(config),
                raw: Vec::new(),
                does: HashMap::new(),
                bodies: HashMap::new(),
                pending: HashMap::new(),
            };
            let mut input = Vec::new();
            loop {
                while let Some(key) = side.connection.next_writable() {
                    side.push(key);
                }
                let mut output = side.connection.output().to_vec();
                side.connection.advance(output.len());
                output.append(&mut side.raw);
                if peer.send(&output).is_err() {
                    return;
                }
                if !output.is_empty() {
                    continue;
                }
                if side.connection.is_over() {
                    return;
                }
                let Some(bytes) = peer.take_some(64 * 1024) else { return };
                input.extend_from_slice(&bytes);
                // What is wrong is told with the output, and ends the connection.
                while let Ok(received) = side.connection.receive(&input) {
                    let Some(event) = received.event else {
                        input.drain(..received.consumed);
                        break;
                    };
                    match &event {
                        Event::Reset { code, .. } => seen.1.lock().unwrap().push(*code),
                        Event::GoAway { .. } => drop(seen.2.fetch_add(1, SeqCst)),
                        _ => {}
                    }
                    if side.handle(event, &input, &seen.0, &does).is_none() {
                        return;
                    }
                    input.drain(..received.consumed);
                }
            }
        });
        Origin { replica, asked, resets, goodbyes }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.replica.address
    }

    pub(super) fn asked_count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

/// What is still to be sent of an answer: its body, and its trailers.
type Rest = (StreamKey, Vec<u8>, Vec<(&'static str, &'static str)>);

/// One connection.
struct Side {
    number: usize,
    count: usize,
    connection: Connection,
    /// Frames by hand.
    raw: Vec<u8>,
    does: HashMap<u32, Does>,
    bodies: HashMap<u32, Vec<u8>>,
    /// What is still to be sent of answers.
    pending: HashMap<u32, Rest>,
}

impl Side {
    /// None: the connection is to be closed.
    fn handle(
        &mut self,
        event: Event,
        input: &[u8],
        seen: &Mutex<Vec<Asked>>,
        does: &impl Fn(&Asked) -> Does,
    ) -> Option<()> {
        match event {
            Event::Request { stream, end, .. } => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let fields = self.connection.fields().iter();
                let fields = fields.map(|(name, value)| (text(name), text(value))).collect();
                let asked = Asked { connection: self.number, number: self.count, fields };
                self.count += 1;
                seen.lock().unwrap().push(asked.clone());
                self.begin(stream, does(&asked), end)?;
            }
            Event::Data { stream, range, end } => {
                self.connection.consume(stream, range.len());
                let bytes = &input[range];
                if matches!(self.does.get(&stream.id), Some(Does::Tunnels)) {
                    self.connection.send_data(stream, bytes, end);
                } else {
                    self.bodies.entry(stream.id).or_default().extend_from_slice(bytes);
                    if end {
                        self.finish(stream);
                    }
                }
            }
            Event::Trailers { stream } => self.finish(stream),
            Event::Reset { stream, .. } => self.connection.forget(stream),
            _ => {}
        }
        Some(())
    }

    fn begin(&mut self, stream: StreamKey, does: Does, end: bool) -> Option<()> {
        self.does.insert(stream.id, does.clone());
        match does {
            Does::Resets(code) => {
                self.connection.reset(stream, code);
                self.connection.forget(stream);
            }
            Does::Waits => {}
            Does::Tunnels => {
                self.connection.send_head(stream, HeadKind::Final, |fields| fields.status(200));
            }
            Does::Leaves => {
                // Nothing from this one on was looked at: GOAWAY (RFC 9113 section 6.8), by hand.
                let last = stream.id.saturating_sub(2).to_be_bytes();
                self.raw.extend_from_slice(b"\0\0\x08\x07\0\0\0\0\0");
                self.raw.extend_from_slice(&last);
                self.raw.extend_from_slice(&[0; 4]);
            }
            Does::Dies => return None,
            Does::Answers(_) | Does::Echoes(_) | Does::AnswersAndLeaves if end => {
                self.finish(stream);
            }
            Does::Answers(_) | Does::Echoes(_) | Does::AnswersAndLeaves => {}
        }
        Some(())
    }

    /// The request is complete.
    fn finish(&mut self, stream: StreamKey) {
        let sent = self.bodies.remove(&stream.id).unwrap_or_default();
        let (body, trailers) = match self.does.remove(&stream.id) {
            Some(Does::Answers(body)) => (body, Vec::new()),
            Some(Does::Echoes(trailers)) => (sent, trailers),
            Some(Does::AnswersAndLeaves) => {
                self.connection.finish_drain();
                (b"bye".to_vec(), Vec::new())
            }
            _ => return,
        };
        self.connection.send_head(stream, HeadKind::Final, |fields| fields.status(200));
        self.pending.insert(stream.id, (stream, body, trailers));
        self.push(stream);
    }

    fn push(&mut self, key: StreamKey) {
        let Some((_, body, trailers)) = self.pending.get_mut(&key.id) else { return };
        let taken = self.connection.send_data(key, body, trailers.is_empty());
        body.drain(..taken);
        if !body.is_empty() {
            return;
        }
        if !trailers.is_empty() {
            self.connection.send_head(key, HeadKind::Trailers, |fields| {
                for (name, value) in trailers {
                    fields.field(name.as_bytes(), value.as_bytes());
                }
            });
        }
        self.pending.remove(&key.id);
        self.connection.forget(key);
    }
}
