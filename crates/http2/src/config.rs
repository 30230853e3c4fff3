//! The bounds of one connection.

/// What one connection may cost. There is no default here: the shell's configuration names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Streams that the peer may have open at once (SETTINGS_MAX_CONCURRENT_STREAMS). A client
    /// opens no more than this either, whatever the peer allows.
    pub streams_max: u32,
    /// Bytes that a peer may send ahead on one stream (SETTINGS_INITIAL_WINDOW_SIZE); at least
    /// 65,535, which a peer may take for granted before it has read ours.
    pub stream_window: u32,
    /// Bytes that a peer may send ahead on all streams together; at least 65,535. This bounds what
    /// bodies that nobody takes can hold.
    pub connection_window: u32,
    /// Bytes of a decoded field list (SETTINGS_MAX_HEADER_LIST_SIZE), with 32 for each field.
    pub field_bytes_max: u32,
    /// Fields in one list.
    pub field_count_max: u32,
    /// Bytes that wait for the socket before streams are told to wait.
    pub output_bytes: usize,
    /// May clients open tunnels to other protocols (RFC 8441)? For servers.
    pub extended_connect: bool,
    /// Streams that a peer may waste in a row: cancelled before the answer began, refused, or reset
    /// for what was wrong with them.
    pub resets_max: u32,
    /// Frames that carry nothing (PING, SETTINGS, PRIORITY, empty and unknown ones) in a row.
    pub idle_frames_max: u32,
    /// CONTINUATION frames of one field block: a block of the largest size takes few, and frames
    /// that carry nothing could go on without end (CVE-2024-27316 and its kin).
    pub continuations_max: u32,
    /// WINDOW_UPDATE frames beyond those that the data which was sent is worth.
    pub window_updates_max: u32,
}

impl Config {
    /// The smallest window that any peer may use before it has read our settings (RFC 9113 section
    /// 6.9.2).
    pub const WINDOW_MIN: u32 = 65_535;
    /// RFC 9113 section 6.9.1: "A sender MUST NOT allow a flow-control window to exceed 2^31-1
    /// octets."
    pub const WINDOW_MAX: u32 = (1 << 31) - 1;

    pub(crate) fn checked(mut self) -> Config {
        self.stream_window = self.stream_window.clamp(Self::WINDOW_MIN, Self::WINDOW_MAX);
        self.connection_window = self.connection_window.clamp(Self::WINDOW_MIN, Self::WINDOW_MAX);
        self
    }
}
