//! The bare relay again, through io_uring: one system call for each turn of the loop, in which all
//! sends are asked for, and all that came since is told. What it costs less than `relay` is what a
//! driver of that kind behind the proxy's sockets could save at most.
//!
//! For: an experiment, whose figures are in `docs/performance.md`; the variants are there to see
//! what each means of the kernel's is worth.
//! Never: a proxy. It has no deadlines, and clients that do not read hold blocks others could use.
//! Start with [`Relay::turn`] and [`Relay::settle`]; `ring.rs` has the operations.
#![allow(unsafe_code, reason = "the kernel reads and writes what entries of the ring point to")]

mod buffers;
mod ring;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;

use io_uring::cqueue;

use buffers::Buffers;
use ring::{Kind, Message, Ring, Token};

/// What is done otherwise than in the best case, or asked for beyond it.
#[derive(Clone, Copy, Debug)]
struct Options {
    /// A receive goes on until it is ended, in place of one for each piece.
    multishot: bool,
    /// Descriptors in a table of the ring's own.
    files: bool,
    /// What the kernel has to do for the ring is done when this thread waits, not at any time.
    defer: bool,
    /// A send goes on in the kernel until all is sent.
    wait_all: bool,
    /// Sends without a copy, of a page or more.
    zero_copy: bool,
    /// One receive may fill several blocks.
    bundles: bool,
    /// Of a block, in bytes.
    block_bytes: u32,
    /// How many blocks: a power of two.
    blocks: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            multishot: true,
            files: true,
            defer: true,
            wait_all: true,
            zero_copy: false,
            bundles: false,
            block_bytes: 16 * 1024,
            blocks: 2048,
        }
    }
}

/// Something that is otherwise than by default: one line for each.
struct Variant {
    name: &'static str,
    apply: fn(&mut Options),
}

static VARIANTS: &[Variant] = &[
    Variant { name: "single-receive", apply: |options| options.multishot = false },
    Variant { name: "plain-files", apply: |options| options.files = false },
    Variant { name: "no-defer", apply: |options| options.defer = false },
    Variant { name: "short-sends", apply: |options| options.wait_all = false },
    Variant { name: "zero-copy", apply: |options| options.zero_copy = true },
    Variant { name: "bundles", apply: |options| options.bundles = true },
    Variant { name: "blocks-of-64k", apply: |options| options.block_bytes = 64 * 1024 },
    Variant { name: "few-blocks", apply: |options| options.blocks = 256 },
];

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let [listen, to, variants @ ..] = arguments else { return Err("LISTEN TO".into()) };
    let address = |text: &String| text.parse::<SocketAddr>().map_err(|e| format!("{text}: {e}"));
    let options = options(variants)?;
    let to = address(to)?;
    let listener = TcpListener::bind(address(listen)?).map_err(|e| format!("{listen}: {e}"))?;
    let ring = Ring::new(options, to).map_err(|e| format!("no ring can be had: {e}"))?;
    let mut relay = Relay::new(ring, listener, options).map_err(|e| e.to_string())?;
    loop {
        relay.turn().map_err(|e| e.to_string())?;
    }
}

fn options(variants: &[String]) -> Result<Options, String> {
    let mut options = Options::default();
    for name in variants {
        let Some(variant) = VARIANTS.iter().find(|variant| variant.name == name) else {
            let known: Vec<&str> = VARIANTS.iter().map(|variant| variant.name).collect();
            return Err(format!("{name}: no variant; there are {}", known.join(", ")));
        };
        (variant.apply)(&mut options);
    }
    Ok(options)
}

/// Bytes on their way to a leg.
#[derive(Clone, Copy)]
struct Piece {
    block: u16,
    from: u32,
    length: u32,
}

/// One end of a pair; the other has the neighbouring number.
#[derive(Default)]
struct Leg {
    /// In the ring's table, or the process's; `None` before it is open and after it was closed.
    file: Option<u32>,
    /// Operations whose end was not told.
    under_way: u32,
    is_receiving: bool,
    /// Its receive was told to end.
    is_cancelled: bool,
    /// It waits for blocks.
    is_starved: bool,
    read_ended: bool,
    write_ended: bool,
    /// To be sent to it; the first `sending` of them are being sent.
    queue: VecDeque<Piece>,
    sending: usize,
    /// And a notice comes when the kernel has done with the block.
    is_zero_copy: bool,
    message: Option<Box<Message>>,
    /// It is on the list of those to settle.
    is_unsettled: bool,
    /// It was shut, so that what is under way ends.
    is_shut: bool,
}

#[derive(Default)]
struct Pair {
    legs: [Leg; 2],
    is_connected: bool,
    /// Nothing more is passed on; it goes when its operations have ended.
    is_ending: bool,
}

/// From so many pieces for the other one on, a leg is not read from.
const QUEUE_MAX: usize = 16;
/// From so few on it is read from again.
const QUEUE_LOW: usize = 4;

struct Relay {
    // Dropped first, for the kernel writes to the blocks as long as there is a ring.
    ring: Ring,
    buffers: Buffers,
    options: Options,
    listener: TcpListener,
    is_accepting: bool,
    /// Until descriptors run out, and then again when somebody has gone.
    has_room: bool,
    pairs: Vec<Pair>,
    free: Vec<u32>,
    unsettled: Vec<u32>,
    starved: Vec<u32>,
    ended: Vec<cqueue::Entry>,
}

impl Relay {
    fn new(ring: Ring, listener: TcpListener, options: Options) -> io::Result<Self> {
        // Whoever is accepted inherits it.
        rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
        let buffers = Buffers::new(options.blocks, options.block_bytes);
        ring.register(&buffers)?;
        Ok(Self {
            ring,
            buffers,
            options,
            listener,
            is_accepting: false,
            has_room: true,
            pairs: Vec::new(),
            free: Vec::new(),
            unsettled: Vec::new(),
            starved: Vec::new(),
            ended: Vec::new(),
        })
    }

    /// Asks for everything there is to ask for, waits, and passes on what came.
    fn turn(&mut self) -> io::Result<()> {
        if !self.is_accepting && self.has_room {
            self.ring.accept(self.listener.as_raw_fd())?;
            self.is_accepting = true;
        }
        let mut ended = std::mem::take(&mut self.ended);
        self.ring.turn(&mut ended)?;
        for entry in ended.drain(..) {
            self.handle(Token::unpack(entry.user_data()), entry.result(), entry.flags())?;
        }
        self.ended = ended;
        while let Some(leg) = self.unsettled.pop() {
            self.leg(leg).is_unsettled = false;
            self.settle(leg)?;
        }
        if self.buffers.home() > 0 {
            while let Some(leg) = self.starved.pop() {
                self.leg(leg).is_starved = false;
                self.settle(leg ^ 1)?;
            }
        }
        self.buffers.tell();
        Ok(())
    }

    fn leg(&mut self, leg: u32) -> &mut Leg {
        &mut self.pairs[(leg / 2) as usize].legs[(leg % 2) as usize]
    }

    fn pair(&mut self, leg: u32) -> &mut Pair {
        &mut self.pairs[(leg / 2) as usize]
    }

    /// At the end of the turn, when all that came is known.
    fn unsettle(&mut self, leg: u32) {
        if !std::mem::replace(&mut self.leg(leg).is_unsettled, true) {
            self.unsettled.push(leg);
        }
    }

    fn handle(&mut self, token: Token, result: i32, flags: u32) -> io::Result<()> {
        let Token { kind, leg, block } = token;
        let goes_on = cqueue::more(flags);
        match kind {
            Kind::Quiet => return Ok(()),
            Kind::Accept => {
                self.is_accepting &= goes_on;
                return self.accepted(result);
            }
            _ if goes_on => {}
            _ => self.leg(leg).under_way -= 1,
        }
        match kind {
            Kind::Open if result >= 0 => {
                let file = result as u32;
                let leg_state = self.leg(leg);
                leg_state.file = Some(file);
                leg_state.under_way += 1;
                self.ring.connect(leg, file)?;
            }
            Kind::Connect if result >= 0 => {
                self.pair(leg).is_connected = true;
                self.unsettle(leg ^ 1);
            }
            Kind::Receive => self.received(leg, result, flags),
            Kind::Send => self.sent(leg, block, result, flags),
            // It was not opened, or not connected.
            _ => self.pair(leg).is_ending = true,
        }
        self.unsettle(leg);
        Ok(())
    }

    /// A client: its upstream is asked for.
    fn accepted(&mut self, result: i32) -> io::Result<()> {
        let Ok(file) = u32::try_from(result) else {
            self.has_room = !matches!(-result, libc::EMFILE | libc::ENFILE);
            // Nobody is there who could go.
            return match self.has_room || !self.is_idle() {
                true => Ok(()),
                false => Err(io::Error::from_raw_os_error(-result)),
            };
        };
        let number = self.free.pop().unwrap_or_else(|| {
            self.pairs.push(Pair::default());
            self.pairs.len() as u32 - 1
        });
        let [client, upstream] = &mut self.pairs[number as usize].legs;
        client.file = Some(file);
        upstream.under_way = 1;
        self.ring.open(2 * number + 1)
    }

    /// Bytes, the end of them, or why there are none.
    fn received(&mut self, leg: u32, result: i32, flags: u32) {
        let goes_on = cqueue::more(flags);
        let state = self.leg(leg);
        state.is_receiving &= goes_on;
        state.is_cancelled &= goes_on;
        let filled = cqueue::buffer_select(flags);
        if let Some(block) = filled {
            self.buffers.take(block);
        }
        match (result, filled) {
            (1.., Some(mut block)) => {
                let mut left = result as u32;
                loop {
                    let length = left.min(self.buffers.block_bytes());
                    self.leg(leg ^ 1).queue.push_back(Piece { block, from: 0, length });
                    left -= length;
                    if left == 0 {
                        break;
                    }
                    block = self.buffers.after(block);
                    self.buffers.take(block);
                }
            }
            (code, filled) => {
                if let Some(block) = filled {
                    self.buffers.release(block);
                }
                match -code {
                    0 => self.leg(leg).read_ended = true,
                    libc::ECANCELED => {}
                    libc::ENOBUFS => {
                        self.leg(leg).is_starved = true;
                        self.starved.push(leg);
                    }
                    _ => self.pair(leg).is_ending = true,
                }
            }
        }
        self.unsettle(leg ^ 1);
    }

    /// So much was taken of what was being sent, or nothing ever will be.
    fn sent(&mut self, leg: u32, block: u16, result: i32, flags: u32) {
        if cqueue::notif(flags) {
            self.buffers.release(block);
            return;
        }
        let state = self.leg(leg);
        let was_zero_copy = std::mem::take(&mut state.is_zero_copy);
        let parts = std::mem::take(&mut state.sending);
        // Without a notice to come, nobody reads the block any more.
        if was_zero_copy && !cqueue::more(flags) {
            self.buffers.release(block);
        }
        let Ok(mut count) = u32::try_from(result) else {
            self.pair(leg).is_ending = true;
            return;
        };
        for _ in 0..parts {
            let Some(piece) = self.leg(leg).queue.front_mut() else { break };
            let done = count.min(piece.length);
            count -= done;
            piece.from += done;
            piece.length -= done;
            if piece.length > 0 {
                break;
            }
            let block = piece.block;
            self.leg(leg).queue.pop_front();
            self.buffers.release(block);
        }
    }

    /// Asks for what the way to this leg wants: a send of what came, the end of the stream, or more
    /// from the other one.
    fn settle(&mut self, leg: u32) -> io::Result<()> {
        if self.pair(leg).is_ending {
            return self.wind_up(leg);
        }
        let Some(file) = self.leg(leg).file.filter(|_| self.pair(leg).is_connected) else {
            return Ok(());
        };
        let state = self.leg(leg);
        if state.sending == 0 && !state.queue.is_empty() {
            self.send(leg, file)?;
        }
        let source = leg ^ 1;
        let queued = self.leg(leg).queue.len();
        if self.leg(source).read_ended {
            if queued > 0 || self.leg(leg).write_ended {
                return Ok(());
            }
            self.leg(leg).write_ended = true;
            // If it was the last thing to say, closing says it.
            if self.leg(source).write_ended {
                self.pair(leg).is_ending = true;
                return self.wind_up(leg);
            }
            return self.ring.shutdown(file, libc::SHUT_WR);
        }
        let state = self.leg(source);
        let Some(file) = state.file else { return Ok(()) };
        if !state.is_receiving && !state.is_starved && queued <= QUEUE_LOW {
            state.is_receiving = true;
            state.under_way += 1;
            self.ring.receive(source, file)?;
        } else if state.is_receiving && !state.is_cancelled && queued > QUEUE_MAX {
            state.is_cancelled = true;
            self.ring.cancel_receive(source)?;
        }
        Ok(())
    }

    fn send(&mut self, leg: u32, file: u32) -> io::Result<()> {
        let state = &mut self.pairs[(leg / 2) as usize].legs[(leg % 2) as usize];
        let at = |piece: &Piece| (self.buffers.at(piece.block, piece.from), piece.length);
        state.under_way += 1;
        match state.queue.front().copied() {
            Some(piece) if state.queue.len() == 1 || self.options.zero_copy => {
                state.sending = 1;
                state.is_zero_copy = self.ring.send(leg, file, piece.block, at(&piece))?;
                if state.is_zero_copy {
                    self.buffers.hold(piece.block);
                }
                Ok(())
            }
            _ => {
                state.sending = state.queue.len().min(Message::PARTS_MAX);
                let message = state.message.get_or_insert_with(Message::new);
                let bytes = state.queue.iter().take(state.sending).map(at);
                self.ring.send_all(leg, file, message, bytes)
            }
        }
    }

    /// Closes both when nothing of them is under way any more, and sees to it that it soon is not.
    fn wind_up(&mut self, leg: u32) -> io::Result<()> {
        let pair = &mut self.pairs[(leg / 2) as usize];
        for leg in &mut pair.legs {
            if leg.sending == 0 {
                leg.queue.drain(..).for_each(|piece| self.buffers.release(piece.block));
            }
            if leg.under_way == 0 {
                if let Some(file) = leg.file.take() {
                    self.ring.close(file)?;
                }
            } else if let Some(file) = leg.file
                && !std::mem::replace(&mut leg.is_shut, true)
            {
                self.ring.shutdown(file, libc::SHUT_RDWR)?;
            }
        }
        if pair.legs.iter().all(|leg| leg.under_way == 0 && leg.queue.is_empty()) {
            *pair = Pair::default();
            self.free.push(leg / 2);
            self.has_room = true;
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.free.len() == self.pairs.len()
    }
}
