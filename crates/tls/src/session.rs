use std::fmt;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
    WriteTraffic,
};
use rustls::{ClientConfig, CommonState, ProtocolVersion, ServerConfig};

use crate::Outgoing;
use crate::provider::iana;
use crate::store;

/// Bytes that a handshake may leave unfinished in memory: what rustls itself allows where it keeps
/// the bytes. Certificate chains of clients come to some 10 KiB.
const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;
/// The same afterwards: a record with everything around it (RFC 5246 section 6.2.3; RFC 8446
/// section 5.2 allows less).
const RECORD_BYTES_MAX: usize = 16 * 1024 + 2048 + 5;
/// Plaintext that goes into one record (RFC 8446 section 5.1).
pub(crate) const FRAGMENT_BYTES_MAX: usize = 16 * 1024;
/// What a record adds to its plaintext, generously: header, nonce, content type and tag.
const RECORD_OVERHEAD_MAX: usize = 64;

/// One TLS connection without its socket. Between two calls it holds only what is incomplete: the
/// beginning of a record, and plaintext that had no room.
pub struct Session {
    core: Core,
    partial: Vec<u8>,
    plaintext: Vec<u8>,
    plaintext_at: usize,
    /// There may be more plaintext in what was taken in than had room.
    more: bool,
    peer_closed: bool,
    failed: Option<rustls::Error>,
    close_sent: bool,
    server_name: Option<Box<str>>,
}

enum Core {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// What became of bytes that were taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Processed {
    /// Bytes of plaintext that were written.
    pub filled: usize,
}

/// Why a connection cannot go on. An alert that says so is among what is to be sent.
#[derive(Debug)]
pub struct TlsError(rustls::Error);

impl TlsError {
    /// Did the peer show a certificate that we do not take?
    pub fn is_certificate(&self) -> bool {
        matches!(
            self.0,
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented
        )
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for TlsError {}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("partial", &self.partial.len())
            .field("plaintext", &self.plaintext.len())
            .field("peer_closed", &self.peer_closed)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn server(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        UnbufferedServerConnection::new(config)
            .map(|c| Self::new(Core::Server(c)))
            .map_err(TlsError)
    }

    pub(crate) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        alpn: Vec<Vec<u8>>,
    ) -> Result<Self, TlsError> {
        let made = UnbufferedClientConnection::new_with_alpn(config, name, alpn);
        made.map(|c| Self::new(Core::Client(c))).map_err(TlsError)
    }

    fn new(core: Core) -> Self {
        Self {
            core,
            partial: Vec::new(),
            plaintext: Vec::new(),
            plaintext_at: 0,
            more: false,
            peer_closed: false,
            failed: None,
            close_sent: false,
            server_name: None,
        }
    }

    fn common(&self) -> &CommonState {
        match &self.core {
            Core::Server(c) => c,
            Core::Client(c) => c,
        }
    }

    pub fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    /// What both sides agreed on, if they spoke of it.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.common().alpn_protocol()
    }

    /// The peer's chain, its own certificate first; empty if it showed none.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.common().peer_certificates().unwrap_or_default()
    }

    /// `TLSv1.3`, once it is known.
    pub fn version(&self) -> Option<&'static str> {
        match self.common().protocol_version()? {
            ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
            ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
            other => other.as_str(),
        }
    }

    /// The name of the cipher suite in the registry of IANA, once it is known.
    pub fn cipher(&self) -> Option<String> {
        self.common().negotiated_cipher_suite().map(|suite| iana(&suite))
    }

    /// Whom the client asked for (SNI).
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// At the end of the handshake: is what there is to send nothing that the peer waits for? A
    /// server of TLS 1.3 has then sent tickets (RFC 8446 section 4.6.1); every other side ends with
    /// a message that the peer needs.
    pub fn sends_only_tickets(&self) -> bool {
        let is_1_3 = self.common().protocol_version() == Some(ProtocolVersion::TLSv1_3);
        is_1_3 && matches!(self.core, Core::Server(_))
    }

    /// The peer said that it sends nothing more.
    pub fn is_peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Is there plaintext to be had without more bytes from the peer?
    pub fn has_plaintext(&self) -> bool {
        self.more || self.plaintext_at < self.plaintext.len()
    }

    /// Bytes that the next ones continue: they stand in front of what [`Session::process`] gets.
    pub fn partial(&self) -> &[u8] {
        &self.partial
    }

    /// How many bytes may be taken in at once, the partial ones included.
    pub fn incoming_max(&self) -> usize {
        if self.is_handshaking() { HANDSHAKE_BYTES_MAX } else { 2 * RECORD_BYTES_MAX }
    }

    /// Takes in `incoming`, which begins with [`Session::partial`], writes plaintext to `into` as
    /// far as there is room, and what is to be sent to `out`. `into` may be empty while the
    /// handshake lasts: plaintext that comes with its end is kept.
    ///
    /// # Errors
    /// When the peer breaks the protocol or is not to be trusted; `out` then ends with the alert
    /// that tells it so, and nothing more is taken in.
    pub fn process(
        &mut self,
        incoming: &mut [u8],
        into: &mut [u8],
        out: &mut Outgoing,
    ) -> Result<Processed, TlsError> {
        let mut filled = self.take_plaintext(into);
        if let Some(error) = &self.failed {
            return Err(TlsError(error.clone()));
        }
        let mut at = 0;
        let handshaking = self.is_handshaking();
        let result = loop {
            let step = match &mut self.core {
                Core::Server(c) => {
                    let status = c.process_tls_records(&mut incoming[at..]);
                    step(status, &mut into[filled..], &mut self.plaintext, out)
                }
                Core::Client(c) => {
                    let status = c.process_tls_records(&mut incoming[at..]);
                    step(status, &mut into[filled..], &mut self.plaintext, out)
                }
            };
            at += step.discard;
            filled += step.filled;
            match step.next {
                Next::Continue => {}
                Next::PeerClosed => self.peer_closed = true,
                Next::Full => {
                    self.more = true;
                    break Ok(());
                }
                Next::Wait => {
                    self.more = false;
                    break Ok(());
                }
                Next::Failed(e) => {
                    self.fail(&e, out);
                    break Err(TlsError(e));
                }
            }
        };
        if handshaking && let Some(name) = store::take_asked() {
            self.server_name = Some(name);
        }
        let rest = incoming.get(at..).unwrap_or_default();
        if at > 0 || rest.len() != self.partial.len() {
            // Exactly as large as it is: thousands of clients may be half-way at once.
            self.partial = if result.is_ok() { rest.to_vec() } else { Vec::new() };
        }
        result.map(|()| Processed { filled })
    }

    /// [`Session::process`] with nothing new.
    ///
    /// # Errors
    /// As there.
    pub fn process_more(
        &mut self,
        into: &mut [u8],
        out: &mut Outgoing,
    ) -> Result<Processed, TlsError> {
        let filled = self.take_plaintext(into);
        if filled > 0 || !self.more {
            return Ok(Processed { filled });
        }
        let mut partial = std::mem::take(&mut self.partial);
        self.process(&mut partial, into, out)
    }

    /// Sends the alert, which is queued behind what was to be sent before. rustls is not shown
    /// anything more.
    fn fail(&mut self, error: &rustls::Error, out: &mut Outgoing) {
        self.failed = Some(error.clone());
        self.more = false;
        while self.common().wants_write() {
            let step = match &mut self.core {
                Core::Server(c) => {
                    step(c.process_tls_records(&mut []), &mut [], &mut Vec::new(), out)
                }
                Core::Client(c) => {
                    step(c.process_tls_records(&mut []), &mut [], &mut Vec::new(), out)
                }
            };
            if let Next::Failed(_) = step.next {
                return;
            }
        }
    }

    fn take_plaintext(&mut self, into: &mut [u8]) -> usize {
        let kept = &self.plaintext[self.plaintext_at..];
        let count = kept.len().min(into.len());
        into[..count].copy_from_slice(&kept[..count]);
        self.plaintext_at += count;
        if self.plaintext_at == self.plaintext.len() {
            self.plaintext = Vec::new();
            self.plaintext_at = 0;
        }
        count
    }

    /// Encrypts `plain`, at most one record of it, behind what is in `out`. Answers how many bytes
    /// of it that were.
    ///
    /// # Errors
    /// When nothing can be encrypted any more.
    pub fn encrypt(&mut self, plain: &[u8], out: &mut Outgoing) -> Result<usize, TlsError> {
        let plain = &plain[..plain.len().min(FRAGMENT_BYTES_MAX)];
        self.on_traffic(out, &mut |traffic, out| {
            let mut room = plain.len() + RECORD_OVERHEAD_MAX;
            loop {
                match traffic.encrypt(out, room, plain) {
                    Ok(()) => return Ok(()),
                    Err(EncryptError::InsufficientSize(InsufficientSizeError {
                        required_size,
                    })) if required_size > room => room = required_size,
                    Err(_) => return Err(()),
                }
            }
        })?;
        Ok(plain.len())
    }

    /// Says that we send nothing more.
    ///
    /// # Errors
    /// As [`Session::encrypt`].
    pub fn close_notify(&mut self, out: &mut Outgoing) -> Result<(), TlsError> {
        if self.is_close_sent() || self.is_handshaking() {
            return Ok(());
        }
        self.close_sent = true;
        self.on_traffic(out, &mut |traffic, out| traffic.close(out))
    }

    /// Was the end of our direction said, or can it not be said any more?
    pub fn is_close_sent(&self) -> bool {
        self.close_sent || self.failed.is_some()
    }

    /// Does `act` once rustls says that plaintext may be sent.
    fn on_traffic(
        &mut self,
        out: &mut Outgoing,
        act: &mut dyn FnMut(&mut dyn Traffic, &mut Outgoing) -> Result<(), ()>,
    ) -> Result<(), TlsError> {
        if let Some(error) = &self.failed {
            return Err(TlsError(error.clone()));
        }
        // rustls keeps places in what it was given before: it must be given the same again.
        let mut incoming = std::mem::take(&mut self.partial);
        let mut at = 0;
        let result = loop {
            let step = match &mut self.core {
                Core::Server(c) => {
                    let status = c.process_tls_records(&mut incoming[at..]);
                    traffic_step(status, &mut self.plaintext, out, act)
                }
                Core::Client(c) => {
                    let status = c.process_tls_records(&mut incoming[at..]);
                    traffic_step(status, &mut self.plaintext, out, act)
                }
            };
            at += step.discard;
            match step.next {
                Next::Continue => {}
                Next::PeerClosed => self.peer_closed = true,
                Next::Full => break Ok(()),
                Next::Wait => break Err(TlsError(rustls::Error::HandshakeNotComplete)),
                Next::Failed(e) => {
                    self.fail(&e, out);
                    break Err(TlsError(e));
                }
            }
        };
        if at > 0 {
            incoming.drain(..at.min(incoming.len()));
        }
        self.partial = incoming;
        result
    }
}

/// [`WriteTraffic`] of either side.
trait Traffic {
    fn encrypt(
        &mut self,
        out: &mut Outgoing,
        room: usize,
        plain: &[u8],
    ) -> Result<(), EncryptError>;
    fn close(&mut self, out: &mut Outgoing) -> Result<(), ()>;
}

impl<Data> Traffic for WriteTraffic<'_, Data> {
    fn encrypt(
        &mut self,
        out: &mut Outgoing,
        room: usize,
        plain: &[u8],
    ) -> Result<(), EncryptError> {
        let count = WriteTraffic::encrypt(self, plain, out.space(room))?;
        out.advance(count);
        Ok(())
    }

    fn close(&mut self, out: &mut Outgoing) -> Result<(), ()> {
        let mut room = RECORD_OVERHEAD_MAX;
        loop {
            match self.queue_close_notify(out.space(room)) {
                Ok(count) => {
                    out.advance(count);
                    return Ok(());
                }
                Err(EncryptError::InsufficientSize(e)) if e.required_size > room => {
                    room = e.required_size;
                }
                Err(_) => return Err(()),
            }
        }
    }
}

/// One state of rustls, handled.
struct Step {
    discard: usize,
    filled: usize,
    next: Next,
}

enum Next {
    Continue,
    /// Nothing more to be had from these bytes.
    Wait,
    /// No room for the next record's plaintext; or, while writing, done.
    Full,
    PeerClosed,
    Failed(rustls::Error),
}

fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    into: &mut [u8],
    kept: &mut Vec<u8>,
    out: &mut Outgoing,
) -> Step {
    let UnbufferedStatus { mut discard, state } = status;
    let mut filled = 0;
    let next = match state {
        Err(e) => Next::Failed(e),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            let mut next = Next::Continue;
            while let Some(len) = traffic.peek_len() {
                let room = into.len() - filled;
                let fits = len.get() <= room;
                // A record larger than all the room there is goes in part to what is kept.
                if !fits && (filled > 0 || !kept.is_empty()) {
                    next = Next::Full;
                    break;
                }
                match traffic.next_record() {
                    Some(Ok(record)) => {
                        discard += record.discard;
                        let count = record.payload.len().min(room);
                        let (now, later) = record.payload.split_at(count);
                        into[filled..filled + count].copy_from_slice(now);
                        filled += count;
                        kept.extend_from_slice(later);
                    }
                    Some(Err(e)) => {
                        next = Next::Failed(e);
                        break;
                    }
                    None => break,
                }
            }
            next
        }
        Ok(state) => transmit(state, out),
    };
    Step { discard, filled, next }
}

/// What is the same whether we read or write.
fn transmit<Data>(state: ConnectionState<'_, '_, Data>, out: &mut Outgoing) -> Next {
    match state {
        ConnectionState::EncodeTlsData(mut data) => {
            let mut room = RECORD_BYTES_MAX;
            loop {
                match data.encode(out.space(room)) {
                    Ok(count) => {
                        out.advance(count);
                        return Next::Continue;
                    }
                    Err(EncodeError::InsufficientSize(e)) if e.required_size > room => {
                        room = e.required_size;
                    }
                    Err(_) => return Next::Continue, // encoded before
                }
            }
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Next::Continue
        }
        ConnectionState::PeerClosed => Next::PeerClosed,
        // Early data is never accepted, so there is none.
        _ => Next::Wait,
    }
}

fn traffic_step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    kept: &mut Vec<u8>,
    out: &mut Outgoing,
    act: &mut dyn FnMut(&mut dyn Traffic, &mut Outgoing) -> Result<(), ()>,
) -> Step {
    let UnbufferedStatus { mut discard, state } = status;
    let next = match state {
        Err(e) => Next::Failed(e),
        Ok(ConnectionState::WriteTraffic(mut traffic)) => match act(&mut traffic, out) {
            Ok(()) => Next::Full,
            Err(()) => Next::Failed(rustls::Error::EncryptError),
        },
        // What came before and had no room. It is no more than one call's worth of records.
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            while let Some(Ok(record)) = traffic.next_record() {
                discard += record.discard;
                kept.extend_from_slice(record.payload);
            }
            Next::Continue
        }
        Ok(state) => transmit(state, out),
    };
    Step { discard, filled: 0, next }
}

#[cfg(test)]
mod tests;
