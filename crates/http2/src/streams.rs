//! The streams of a connection.

/// A stream, as both sides of this interface name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// The number that frames carry.
    pub id: u32,
    /// A small number, used again once the stream was forgotten: an index for a table of the
    /// caller's own.
    pub slot: u32,
}

/// What is known of a stream until the caller forgets it.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    /// The peer may send more.
    pub(crate) receiving: bool,
    /// We may send more.
    pub(crate) sending: bool,
    /// What we may send; below 0 after the peer made its windows smaller.
    pub(crate) send_window: i64,
    /// What the peer may send.
    pub(crate) receive_window: i64,
    /// Bytes that were passed up and not consumed yet.
    pub(crate) unconsumed: u32,
    /// Bytes that were consumed, of which the peer was not told yet.
    pub(crate) credit: u32,
    /// What Content-Length leaves to come.
    pub(crate) content_left: Option<u64>,
    /// The request's head, or the final response's, was received.
    pub(crate) head_received: bool,
    /// The final response's head was sent.
    pub(crate) head_sent: bool,
    /// Informational responses so far.
    pub(crate) informational: u8,
    /// Wants to send, and its own window is used up.
    pub(crate) stalled: bool,
    /// Wants to send, and stands in the queue for the connection.
    pub(crate) queued: bool,
    /// Has a head to send, and waits for room.
    pub(crate) has_head: bool,
    /// The response to what we asked has no content (HEAD).
    pub(crate) is_head: bool,
    /// RFC 9113 section 8.5: after CONNECT, DATA is a tunnel's, and there are no trailers.
    pub(crate) is_connect: bool,
}

impl Stream {
    pub(crate) fn new(id: u32, send_window: i64, receive_window: i64) -> Stream {
        Stream {
            id,
            receiving: true,
            sending: true,
            send_window,
            receive_window,
            unconsumed: 0,
            credit: 0,
            content_left: None,
            head_received: false,
            head_sent: false,
            informational: 0,
            stalled: false,
            queued: false,
            has_head: false,
            is_head: false,
            is_connect: false,
        }
    }
}

/// All that the caller has not forgotten, and which of them are open.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    slots: Vec<Option<Stream>>,
    free: Vec<u32>,
    /// The open ones with their slots, by number: they come in order, so that a search is by halves
    /// and nothing is hashed.
    open: Vec<(u32, u32)>,
    held: usize,
}

impl Streams {
    /// How many are open: not closed from both sides, and not reset.
    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// How many the caller holds, closed ones included.
    pub(crate) fn held_count(&self) -> usize {
        self.held
    }

    /// Adds a stream whose number is above all others.
    pub(crate) fn insert(&mut self, stream: Stream) -> StreamKey {
        let id = stream.id;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(stream);
                slot
            }
            None => {
                self.slots.push(Some(stream));
                // There are as many as the bounds allow.
                (self.slots.len() - 1) as u32
            }
        };
        debug_assert!(self.open.last().is_none_or(|(last, _)| *last < id));
        self.open.push((id, slot));
        self.held += 1;
        StreamKey { id, slot }
    }

    /// An open stream by its number.
    pub(crate) fn find(&self, id: u32) -> Option<StreamKey> {
        let position = self.open.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(StreamKey { id, slot: self.open[position].1 })
    }

    /// None: it was forgotten.
    pub(crate) fn get(&self, key: StreamKey) -> Option<&Stream> {
        self.slots.get(key.slot as usize)?.as_ref().filter(|stream| stream.id == key.id)
    }

    pub(crate) fn get_mut(&mut self, key: StreamKey) -> Option<&mut Stream> {
        self.slots.get_mut(key.slot as usize)?.as_mut().filter(|stream| stream.id == key.id)
    }

    /// Takes it from the open ones; false: it was none.
    pub(crate) fn close(&mut self, key: StreamKey) -> bool {
        if let Some(stream) = self.get_mut(key) {
            stream.receiving = false;
            stream.sending = false;
        }
        match self.open.binary_search_by_key(&key.id, |(id, _)| *id) {
            Ok(position) => {
                self.open.remove(position);
                true
            }
            Err(_) => false,
        }
    }

    /// The caller has no more use for it.
    pub(crate) fn forget(&mut self, key: StreamKey) -> Option<Stream> {
        self.get(key)?;
        self.close(key);
        let stream = self.slots.get_mut(key.slot as usize)?.take();
        self.held -= 1;
        self.free.push(key.slot);
        stream
    }

    /// Gives the memory back, if no stream is held.
    pub(crate) fn shrink(&mut self) {
        if self.held == 0 {
            *self = Streams::default();
        }
    }

    /// Places for streams, free ones included: as many as were ever held at once.
    pub(crate) fn places(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn held(&self) -> impl Iterator<Item = &Stream> {
        self.slots.iter().flatten()
    }

    /// Whether the lists agree with each other.
    pub(crate) fn sound(&self) -> Result<(), &'static str> {
        if self.held().count() != self.held || self.held + self.free.len() != self.slots.len() {
            return Err("the count of streams that are held");
        }
        if !self.open.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Err("the order of open streams");
        }
        let is_open = |key: StreamKey| self.get(key).is_some_and(|s| s.receiving || s.sending);
        if !self.open_keys().all(is_open) {
            return Err("a stream that is over is among the open ones");
        }
        let open = self.held().filter(|stream| stream.receiving || stream.sending).count();
        if open != self.open.len() {
            return Err("a stream that is open is not among the open ones");
        }
        Ok(())
    }

    pub(crate) fn open_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        // Closed ones among them mind no change of their windows.
        self.slots.iter_mut().flatten()
    }

    pub(crate) fn open_keys(&self) -> impl Iterator<Item = StreamKey> + '_ {
        self.open.iter().map(|(id, slot)| StreamKey { id: *id, slot: *slot })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_used_again_and_keys_are_not() {
        let mut streams = Streams::default();
        let first = streams.insert(Stream::new(1, 0, 0));
        let second = streams.insert(Stream::new(3, 0, 0));
        assert_eq!(streams.find(1), Some(first));
        assert!(streams.close(first) && !streams.close(first));
        assert_eq!((streams.find(1), streams.open_count()), (None, 1));
        assert!(streams.get(first).is_some(), "held until it is forgotten");
        assert!(streams.forget(first).is_some() && streams.forget(first).is_none());
        let third = streams.insert(Stream::new(5, 0, 0));
        assert_eq!(third.slot, first.slot);
        assert!(streams.get(first).is_none());
        assert_eq!(streams.open_keys().collect::<Vec<_>>(), [second, third]);
        streams.forget(second);
        streams.forget(third);
        streams.shrink();
        assert_eq!((streams.held_count(), streams.slots.capacity()), (0, 0));
    }
}
