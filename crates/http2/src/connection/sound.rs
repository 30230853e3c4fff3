//! What holds between any two calls, whatever the peer sends and the caller does: for the tests and
//! the fuzzer, which ask after every step.

use super::{Connection, RECENT_MAX, Reading, Role};
use crate::config::Config;
use crate::streams::{Stream, StreamKey};

/// Of the queues of those that want to send: beyond twice as many as there are places for streams,
/// what was forgotten is taken out.
pub(super) const QUEUE_MIN: usize = 16;

impl Connection {
    /// Windows stay within RFC 9113 section 6.9.1, no byte of them is lost, the lists of streams
    /// agree with each other, and every queue has its bound.
    ///
    /// # Errors
    /// What does not hold. Our fault, whatever the peer did.
    pub fn sound(&self) -> Result<(), &'static str> {
        self.streams.sound()?;
        self.bounded()?;
        if self.failed.is_some() {
            // All streams are over, and windows are left as they were.
            return match self.streams.open_count() {
                0 => Ok(()),
                _ => Err("a stream is open although the connection failed"),
            };
        }
        let most = i64::from(Config::WINDOW_MAX);
        if !(0..=most).contains(&self.send_window) {
            return Err("the connection's window of what we may send");
        }
        let mut unconsumed = 0;
        for stream in self.streams.held() {
            unconsumed += i64::from(stream.unconsumed);
            self.stream_is_sound(stream)?;
        }
        let (_, pending) = self.pending();
        let known = self.receive_window + i64::from(self.credit) + unconsumed + pending;
        if self.receive_window < 0 || known != i64::from(self.config.connection_window) {
            return Err("a byte of the connection's window was lost, or given twice");
        }
        Ok(())
    }

    fn stream_is_sound(&self, stream: &Stream) -> Result<(), &'static str> {
        let most = i64::from(Config::WINDOW_MAX);
        let is_open = stream.receiving || stream.sending;
        if is_open && !(-most..=most).contains(&stream.send_window) {
            return Err("a stream's window of what we may send");
        }
        let (of, pending) = self.pending();
        let pending = if of.is_some_and(|key| key.id == stream.id) { pending } else { 0 };
        let known = stream.receive_window
            + i64::from(stream.credit)
            + i64::from(stream.unconsumed)
            + pending;
        let is_whole = known == i64::from(self.config.stream_window);
        if stream.receiving && (stream.receive_window < 0 || !is_whole) {
            return Err("a byte of a stream's window was lost, or given twice");
        }
        Ok(())
    }

    /// What of a DATA frame is still to come, and was counted off the windows already.
    fn pending(&self) -> (Option<StreamKey>, i64) {
        match self.reading {
            Reading::Data { stream: Some(stream), left, padding, .. } => {
                (Some(stream), left as i64 - padding as i64)
            }
            _ => (None, 0),
        }
    }

    fn bounded(&self) -> Result<(), &'static str> {
        let queued = (2 * self.streams.places()).max(QUEUE_MIN);
        if self.queue.len() > queued || self.heads.len() > queued {
            return Err("more wait to send than there are streams");
        }
        if self.recent.len() > RECENT_MAX {
            return Err("more streams are remembered than should be");
        }
        if self.role == Role::Server && self.streams.open_count() > self.config.streams_max as usize
        {
            return Err("more streams are open than we allow");
        }
        let block = self.block.as_ref().map_or(0, |block| block.bytes.len());
        if block > 2 * self.config.field_bytes_max as usize + crate::frame::PAYLOAD_MAX {
            return Err("a field block is longer than it may be");
        }
        Ok(())
    }
}
