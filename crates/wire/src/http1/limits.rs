//! How large a head may be.

/// Bounds on one message head. The configuration names them; nothing here has a default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head, from the start-line to the empty line (431 beyond it).
    pub bytes: usize,
    /// Number of header fields (431 beyond it).
    pub count: usize,
    /// Bytes of the request target (414 beyond it). Responses ignore it.
    pub uri_bytes: usize,
}

impl HeadLimits {
    /// The part of `buf` that a head may occupy, and whether `buf` fills it: a head that is still
    /// incomplete then is too large.
    pub(super) fn view<'a>(&self, buf: &'a [u8]) -> (&'a [u8], bool) {
        // Spans are 32 bits wide.
        let bound = self.bytes.min(u32::MAX as usize);
        match buf.get(..bound) {
            Some(view) => (view, true),
            None => (buf, false),
        }
    }
}
