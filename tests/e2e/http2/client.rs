//! A client that speaks HTTP/2 by the crate of the project, for what programs cannot be told to do.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use http2::{Config, Connection, ErrorCode, Event, FieldWriter, HeadKind, StreamKey};

use crate::e2e::harness::Secure;

pub(super) const CONFIG: Config = Config {
    streams_max: 100,
    stream_window: 65_535,
    connection_window: 65_535,
    field_bytes_max: 64 * 1024,
    field_count_max: 200,
    output_bytes: 64 * 1024,
    extended_connect: false,
    resets_max: 1000,
    idle_frames_max: 1000,
    continuations_max: 32,
    window_updates_max: 100_000,
};

/// What came on one stream.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) informational: Vec<u16>,
    pub(super) status: u16,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<(String, String)>,
    pub(super) ended: bool,
    pub(super) reset: Option<ErrorCode>,
}

impl Answer {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| &value[..])
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered(u16),
    /// The server did nothing about it, and says so: it can be asked again.
    NotProcessed,
    Lost,
}

/// What a client speaks over.
trait Duplex: Read + Write {}

impl<T: Read + Write> Duplex for T {}

pub(super) struct Client {
    stream: Box<dyn Duplex>,
    socket: TcpStream,
    connection: Connection,
    input: Vec<u8>,
    answers: HashMap<u32, Answer>,
    /// The peer was told to open no more streams.
    pub(super) told_to_go: bool,
    /// What each GOAWAY named as the last stream.
    pub(super) last_streams: Vec<u32>,
    pings: usize,
}

impl Client {
    pub(super) fn connect(address: SocketAddr) -> Client {
        let socket = TcpStream::connect(address).unwrap();
        Self::over(Box::new(socket.try_clone().unwrap()), socket, CONFIG)
    }

    /// Over TLS, where HTTP/2 is agreed on.
    pub(super) fn connect_tls(address: SocketAddr, secure: &Secure) -> Client {
        Self::over_tls(TcpStream::connect(address).unwrap(), secure, CONFIG)
    }

    /// The same, if somebody listens.
    pub(super) fn try_connect_tls(address: SocketAddr, secure: &Secure) -> Option<Client> {
        let socket = TcpStream::connect(address).ok()?;
        let mut stream = secure.over(socket.try_clone().ok()?);
        // A listener that closes takes no handshake any more.
        stream.conn.complete_io(&mut stream.sock).ok()?;
        let mut client = Self::made(Box::new(stream), socket, CONFIG);
        client.flush();
        client.try_turn_until(|client| client.connection.has_settings()).then_some(client)
    }

    fn try_turn_until(&mut self, mut done: impl FnMut(&mut Client) -> bool) -> bool {
        let mut buffer = [0; 16 * 1024];
        while !done(self) {
            match self.stream.read(&mut buffer) {
                Ok(count) if count > 0 => self.receive(&buffer[..count]),
                _ => return false,
            }
        }
        true
    }

    pub(super) fn over_tls(socket: TcpStream, secure: &Secure, config: Config) -> Client {
        let stream = secure.over(socket.try_clone().unwrap());
        Self::over(Box::new(stream), socket, config)
    }

    fn over(stream: Box<dyn Duplex>, socket: TcpStream, config: Config) -> Client {
        let mut client = Self::made(stream, socket, config);
        client.flush();
        client.turn_until(|client| client.connection.has_settings());
        client
    }

    fn made(stream: Box<dyn Duplex>, socket: TcpStream, config: Config) -> Client {
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let connection = Connection::client(config);
        let answers = HashMap::new();
        Client {
            stream,
            socket,
            connection,
            input: Vec::new(),
            answers,
            told_to_go: false,
            last_streams: Vec::new(),
            pings: 0,
        }
    }

    pub(super) fn request(
        &mut self,
        method: &str,
        path: &str,
        end: bool,
        more: &[(&str, &str)],
    ) -> StreamKey {
        let key = self.prepare(method, path, end, more);
        self.flush();
        key
    }

    /// So many requests in one write.
    pub(super) fn requests(&mut self, count: usize, path: &str) -> Vec<StreamKey> {
        let keys = (0..count).map(|_| self.prepare("GET", path, true, &[])).collect();
        self.flush();
        keys
    }

    fn prepare(&mut self, method: &str, path: &str, end: bool, more: &[(&str, &str)]) -> StreamKey {
        let is_connect = method == "CONNECT";
        let key = self.connection.request(end, method == "HEAD", is_connect, |fields| {
            fields.method(method.as_bytes());
            fields.scheme(b"http");
            fields.path(path.as_bytes());
            fields.authority(b"localhost");
            write(fields, more);
        });
        let key = key.expect("the server takes one more stream");
        self.answers.insert(key.id, Answer::default());
        key
    }

    /// Opens a tunnel (RFC 8441).
    pub(super) fn websocket(&mut self, path: &str) -> StreamKey {
        let key = self.connection.request(false, false, true, |fields| {
            fields.method(b"CONNECT");
            fields.field(b":protocol", b"websocket");
            fields.scheme(b"http");
            fields.path(path.as_bytes());
            fields.authority(b"localhost");
            fields.field(b"sec-websocket-version", b"13");
        });
        let key = key.expect("the server takes one more stream");
        self.answers.insert(key.id, Answer::default());
        self.flush();
        key
    }

    pub(super) fn data(&mut self, key: StreamKey, mut bytes: &[u8], end: bool) {
        loop {
            let taken = self.connection.send_data(key, bytes, end);
            self.flush();
            bytes = &bytes[taken..];
            if bytes.is_empty() {
                return;
            }
            self.turn_until(|client| client.connection.next_writable().is_some());
        }
    }

    /// Sends of it what the server takes now.
    pub(super) fn data_within_window(&mut self, key: StreamKey, bytes: &[u8]) {
        let mut taken = 0;
        loop {
            let count = self.connection.send_data(key, &bytes[taken..], false);
            self.flush();
            taken += count;
            if count == 0 || taken == bytes.len() {
                return;
            }
        }
    }

    pub(super) fn trailers(&mut self, key: StreamKey, list: &[(&str, &str)]) {
        self.connection.send_head(key, HeadKind::Trailers, |fields| write(fields, list));
        self.flush();
    }

    pub(super) fn cancel(&mut self, key: StreamKey) {
        self.connection.reset(key, ErrorCode::CANCEL);
        self.flush();
    }

    /// Waits for the end of the stream, whichever.
    pub(super) fn answer(&mut self, key: StreamKey) -> Answer {
        self.turn_until(|client| {
            let answer = &client.answers[&key.id];
            answer.ended || answer.reset.is_some()
        });
        self.connection.forget(key);
        self.flush();
        self.answers.remove(&key.id).expect("it was asked")
    }

    /// Waits for what becomes of a request whose connection may end before.
    pub(super) fn outcome(&mut self, key: StreamKey) -> Outcome {
        let mut buffer = [0; 16 * 1024];
        loop {
            let answer = &self.answers[&key.id];
            let is_left_out = self.last_streams.iter().any(|last| *last < key.id);
            let outcome = match (answer.ended, answer.reset) {
                (true, _) => Some(Outcome::Answered(answer.status)),
                (_, Some(ErrorCode::REFUSED_STREAM)) => Some(Outcome::NotProcessed),
                (_, Some(_)) => Some(Outcome::Lost),
                // RFC 9113 section 6.8: such streams "were not or will not be processed".
                (false, None) if is_left_out => Some(Outcome::NotProcessed),
                (false, None) => None,
            };
            if let Some(outcome) = outcome {
                self.connection.forget(key);
                self.answers.remove(&key.id);
                self.flush();
                return outcome;
            }
            match self.stream.read(&mut buffer) {
                Ok(count) if count > 0 => self.receive(&buffer[..count]),
                _ => return Outcome::Lost,
            }
        }
    }

    /// Waits for so many bytes of the body, and takes them.
    pub(super) fn take(&mut self, key: StreamKey, count: usize) -> Vec<u8> {
        self.turn_until(|client| client.answers[&key.id].body.len() >= count);
        self.answers.get_mut(&key.id).expect("it was asked").body.drain(..count).collect()
    }

    pub(super) fn status(&mut self, key: StreamKey) -> u16 {
        self.turn_until(|client| client.answers[&key.id].status > 0);
        self.answers[&key.id].status
    }

    /// How many streams it may open now.
    pub(super) fn capacity(&self) -> usize {
        self.connection.capacity()
    }

    /// How often the server asked for a sign of life.
    pub(super) fn pings(&self) -> usize {
        self.pings
    }

    /// Takes what comes within a moment, and answers what has to be answered.
    pub(super) fn read_for_a_moment(&mut self) {
        let patience = self.socket.read_timeout().unwrap();
        self.socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut buffer = [0; 4096];
        if let Ok(count) = self.stream.read(&mut buffer) {
            self.receive(&buffer[..count]);
        }
        self.socket.set_read_timeout(patience).unwrap();
    }

    pub(super) fn has_extended_connect(&self) -> bool {
        self.connection.has_extended_connect()
    }

    /// Has the server ended the connection?
    pub(super) fn is_ended(&mut self) -> bool {
        let mut byte = [0; 4096];
        loop {
            match self.stream.read(&mut byte) {
                Ok(0) => return true,
                Ok(count) => self.receive(&byte[..count]),
                Err(_) => return false,
            }
        }
    }

    pub(super) fn turn_until(&mut self, mut done: impl FnMut(&mut Client) -> bool) {
        let mut buffer = [0; 16 * 1024];
        while !done(self) {
            let count = self.stream.read(&mut buffer).expect("an answer in time");
            assert!(count > 0, "the server ended the connection");
            self.receive(&buffer[..count]);
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        // A PING of the server: 8 bytes, no flags, stream 0.
        self.pings += bytes.windows(9).filter(|head| *head == b"\0\0\x08\x06\0\0\0\0\0").count();
        loop {
            let received = self.connection.receive(&self.input).expect("the server keeps to it");
            let done = received.event.is_none();
            if let Some(event) = received.event {
                self.handle(event);
            }
            self.input.drain(..received.consumed);
            if done {
                break;
            }
        }
        self.flush();
    }

    fn handle(&mut self, event: Event) {
        let fields = || {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let all = self.connection.fields().iter();
            all.map(|(name, value)| (text(name), text(value))).collect::<Vec<_>>()
        };
        match event {
            Event::Response { stream, head, end } => {
                let fields = fields();
                let Some(answer) = self.answers.get_mut(&stream.id) else { return };
                if head.is_informational() {
                    answer.informational.push(head.status);
                    return;
                }
                answer.status = head.status;
                answer.fields = fields;
                answer.ended = end;
            }
            Event::Data { stream, range, end } => {
                self.connection.consume(stream, range.len());
                let Some(answer) = self.answers.get_mut(&stream.id) else { return };
                answer.body.extend_from_slice(&self.input[range]);
                answer.ended = end;
            }
            Event::Trailers { stream } => {
                let fields = fields();
                let Some(answer) = self.answers.get_mut(&stream.id) else { return };
                answer.trailers = fields;
                answer.ended = true;
            }
            Event::Reset { stream, code } => {
                if let Some(answer) = self.answers.get_mut(&stream.id) {
                    answer.reset = Some(code);
                }
            }
            Event::GoAway { last, .. } => {
                self.told_to_go = true;
                self.last_streams.push(last);
            }
            _ => {}
        }
    }

    fn flush(&mut self) {
        // A server that is gone is noticed by what does not come.
        let _ = self.stream.write_all(self.connection.output());
        let _ = self.stream.flush();
        let count = self.connection.output().len();
        self.connection.advance(count);
    }
}

fn write(fields: &mut FieldWriter<'_>, list: &[(&str, &str)]) {
    for (name, value) in list {
        fields.field(name.as_bytes(), value.as_bytes());
    }
}
