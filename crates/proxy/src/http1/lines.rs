//! Header lines on their way from the head that was read to the one that is written.

use std::ops::Range;

use wire::http1::Header;

use crate::http1::request_head::line;

/// Copies lines. Those that stand side by side and are written as we write them (`Name: value`) are
/// copied as one piece, which is most of a head.
pub(super) struct Lines<'a> {
    bytes: &'a [u8],
    /// Lines that are still to be copied.
    run: Range<usize>,
}

impl<'a> Lines<'a> {
    /// `bytes`: what the headers were read from.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, run: 0..0 }
    }

    /// The line passes, and is in `out` after [`Lines::flush`] at the latest.
    pub(super) fn pass(&mut self, out: &mut Vec<u8>, header: &Header) {
        let (name, value) = (header.name, header.value);
        let (start, end) = (name.start as usize, value.end as usize + 2);
        let is_canonical = name.end + 2 == value.start
            && self.bytes.get(name.end as usize..value.start as usize) == Some(b": ")
            && self.bytes.get(value.end as usize..end) == Some(b"\r\n");
        if !is_canonical {
            self.flush(out);
            line(out, name.of(self.bytes), value.of(self.bytes));
        } else if self.run.end == start {
            self.run.end = end;
        } else {
            self.flush(out);
            self.run = start..end;
        }
    }

    /// Before anything else is written.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes[std::mem::take(&mut self.run)]);
    }
}

#[cfg(test)]
mod tests {
    use wire::http1::{HeadLimits, Progress, RequestHead};

    use super::*;

    #[test]
    fn lines_pass_in_one_form() {
        let sent = b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB:2\r\nC:  3 \r\nD: 4\r\nE:\r\nF: 6\r\nG: 7\r\n\r\n";
        let limits = HeadLimits { bytes: 1024, count: 20, uri_bytes: 100 };
        let mut head = RequestHead::default();
        assert_eq!(head.parse(sent, &limits), Ok(Progress::Complete));
        for left_out in 0..=head.headers.len() {
            let (mut out, mut plain) = (Vec::new(), Vec::new());
            let mut lines = Lines::new(sent);
            for (n, header) in head.headers.iter().enumerate() {
                if n != left_out {
                    lines.pass(&mut out, header);
                    line(&mut plain, header.name.of(sent), header.value.of(sent));
                }
            }
            lines.flush(&mut out);
            assert_eq!(String::from_utf8(out), String::from_utf8(plain));
        }
    }
}
