//! Frames that steer a connection and its streams (RFC 9113 sections 6.3 to 6.9).

use super::receive::Step;
use super::{Connection, DRAIN_PING, Draining, Event, Role};
use crate::config::Config;
use crate::error::{ErrorCode, Violation};
use crate::frame::{FrameHead, PAYLOAD_MAX, flag, kind, setting, stream_number};
use crate::streams::StreamKey;

impl Connection {
    pub(super) fn priority(&mut self, head: &FrameHead) -> Result<Step, Violation> {
        if head.stream == 0 {
            return Err(Violation::StreamZero);
        }
        self.waste()?;
        if head.length == 5 {
            return Ok(Step::Done);
        }
        // Section 6.3: a stream error; but a stream that is idle cannot be reset.
        match self.streams.find(head.stream) {
            Some(key) => self.stream_error(key, Violation::InvalidFrameLength),
            None => Err(Violation::InvalidFrameLength),
        }
    }

    pub(super) fn rst_stream(
        &mut self,
        head: &FrameHead,
        payload: &[u8],
    ) -> Result<Step, Violation> {
        if head.stream == 0 {
            return Err(Violation::StreamZero);
        }
        let code = *payload.first_chunk().ok_or(Violation::InvalidFrameLength)?;
        if payload.len() != 4 {
            return Err(Violation::InvalidFrameLength);
        }
        let code = ErrorCode(u32::from_be_bytes(code));
        if self.is_idle(head.stream) {
            return Err(Violation::IdleStream);
        }
        let Some(key) = self.streams.find(head.stream) else {
            self.waste()?;
            return Ok(Step::Done);
        };
        let wasted =
            self.role == Role::Server && self.streams.get(key).is_some_and(|s| !s.head_sent);
        self.streams.close(key);
        // RFC 9113 section 10.5 and CVE-2023-44487: who asks and cancels before the answer makes us
        // work for nothing.
        if wasted && !self.resets.spend() {
            return Err(Violation::ResetFlood);
        }
        Ok(Step::Event(Event::Reset { stream: key, code }))
    }

    pub(super) fn settings(&mut self, head: &FrameHead, payload: &[u8]) -> Result<Step, Violation> {
        if head.stream != 0 {
            return Err(Violation::NotStreamZero);
        }
        if head.has(flag::ACK) {
            return match payload {
                [] => self.waste().map(|()| Step::Done),
                _ => Err(Violation::SettingsAckWithPayload),
            };
        }
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(Violation::InvalidFrameLength);
        }
        if self.peer.has_sent_settings {
            self.waste()?;
        }
        for [i0, i1, v0, v1, v2, v3] in settings {
            let identifier = u16::from_be_bytes([*i0, *i1]);
            self.setting(identifier, u32::from_be_bytes([*v0, *v1, *v2, *v3]))?;
        }
        // Section 6.5.3: "the recipient MUST immediately emit a SETTINGS frame with the ACK flag
        // set", once all values were processed.
        self.output.frame(kind::SETTINGS, flag::ACK, 0, &[]);
        self.peer.has_sent_settings = true;
        Ok(Step::Event(Event::Settings))
    }

    /// Section 6.5.2.
    fn setting(&mut self, identifier: u16, value: u32) -> Result<(), Violation> {
        match identifier {
            setting::HEADER_TABLE_SIZE => self.encoder.allow(value as usize),
            setting::ENABLE_PUSH => {
                // "A client MUST treat receipt of a SETTINGS frame with SETTINGS_ENABLE_PUSH set to
                // 1 as a connection error".
                let most = if self.role == Role::Server { 1 } else { 0 };
                if value > most {
                    return Err(Violation::InvalidSetting);
                }
            }
            setting::MAX_CONCURRENT_STREAMS => self.peer.streams_max = value,
            setting::INITIAL_WINDOW_SIZE => self.initial_window(value)?,
            setting::MAX_FRAME_SIZE => {
                if !(16_384..=16_777_215).contains(&value) {
                    return Err(Violation::InvalidSetting);
                }
                // Larger frames would let one stream hold up the others.
                self.peer.payload_max = (value as usize).min(PAYLOAD_MAX);
            }
            // Advisory; what is too large for a peer it says itself.
            setting::MAX_HEADER_LIST_SIZE => {}
            setting::ENABLE_CONNECT_PROTOCOL => {
                // RFC 8441 section 3: the value is 0 or 1, and "A sender MUST NOT send a
                // SETTINGS_ENABLE_CONNECT_PROTOCOL parameter with the value of 0 after previously
                // sending a value of 1."
                if value > 1 || (value == 0 && self.peer.extended_connect) {
                    return Err(Violation::InvalidSetting);
                }
                self.peer.extended_connect = value == 1;
            }
            setting::NO_RFC7540_PRIORITIES if value > 1 => return Err(Violation::InvalidSetting),
            _ => {}
        }
        Ok(())
    }

    /// Section 6.9.2: a change of the initial window changes those of all streams.
    fn initial_window(&mut self, window: u32) -> Result<(), Violation> {
        if window > Config::WINDOW_MAX {
            return Err(Violation::InitialWindowTooLarge);
        }
        let change = i64::from(window) - i64::from(self.peer.window);
        self.peer.window = window;
        let mut ready = Vec::new();
        for stream in self.streams.open_mut() {
            stream.send_window += change;
            if stream.send_window > i64::from(Config::WINDOW_MAX) {
                return Err(Violation::WindowOverflow);
            }
            if stream.stalled && stream.send_window > 0 {
                ready.push(stream.id);
            }
        }
        for id in ready {
            if let Some(key) = self.streams.find(id) {
                self.enqueue(key);
            }
        }
        Ok(())
    }

    pub(super) fn ping_frame(
        &mut self,
        head: &FrameHead,
        payload: &[u8],
    ) -> Result<Step, Violation> {
        if head.stream != 0 {
            return Err(Violation::NotStreamZero);
        }
        if payload.len() != 8 {
            return Err(Violation::InvalidFrameLength);
        }
        if !head.has(flag::ACK) {
            self.waste()?;
            self.output.frame(kind::PING, flag::ACK, 0, payload);
            return Ok(Step::Done);
        }
        if payload == DRAIN_PING && self.draining == Draining::Announced {
            // What the peer sent before it knew is here now.
            self.finish_drain();
            return Ok(Step::Done);
        }
        self.waste()?;
        Ok(Step::Event(Event::Pong))
    }

    pub(super) fn go_away_frame(
        &mut self,
        head: &FrameHead,
        payload: &[u8],
    ) -> Result<Step, Violation> {
        if head.stream != 0 {
            return Err(Violation::NotStreamZero);
        }
        let Some(([l0, l1, l2, l3, c0, c1, c2, c3], _)) = payload.split_first_chunk::<8>() else {
            return Err(Violation::InvalidFrameLength);
        };
        self.waste()?;
        let last = stream_number([*l0, *l1, *l2, *l3]);
        // Section 6.8: "Endpoints MUST NOT increase the value they send in the last stream
        // identifier"; where one does, the lower one counts.
        let last = self.goaway.map_or(last, |before| before.min(last));
        self.goaway = Some(last);
        if self.role == Role::Client {
            let refused: Vec<StreamKey> =
                self.streams.open_keys().filter(|key| key.id > last).collect();
            for key in refused {
                self.streams.close(key);
            }
        }
        let code = ErrorCode(u32::from_be_bytes([*c0, *c1, *c2, *c3]));
        Ok(Step::Event(Event::GoAway { last, code }))
    }

    pub(super) fn window_update(
        &mut self,
        head: &FrameHead,
        payload: &[u8],
    ) -> Result<Step, Violation> {
        let increment = *payload.first_chunk().ok_or(Violation::InvalidFrameLength)?;
        if payload.len() != 4 {
            return Err(Violation::InvalidFrameLength);
        }
        if !self.window_updates.spend() {
            return Err(Violation::WindowUpdateFlood);
        }
        let increment = i64::from(stream_number(increment));
        let most = i64::from(Config::WINDOW_MAX);
        if head.stream == 0 {
            self.send_window += increment;
            return match (increment, self.send_window) {
                (0, _) => Err(Violation::ZeroWindowIncrement),
                (_, window) if window > most => Err(Violation::WindowOverflow),
                _ => Ok(Step::Done),
            };
        }
        if self.is_idle(head.stream) {
            return Err(Violation::IdleStream);
        }
        let Some(key) = self.streams.find(head.stream) else {
            // Section 5.1: it may come for a short time after the stream was closed.
            return Ok(Step::Done);
        };
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(Step::Done);
        };
        if increment == 0 {
            return self.stream_error(key, Violation::ZeroWindowIncrement);
        }
        stream.send_window += increment;
        if stream.send_window > most {
            return self.stream_error(key, Violation::WindowOverflow);
        }
        if stream.stalled && stream.send_window > 0 {
            self.enqueue(key);
        }
        Ok(Step::Done)
    }
}
