//! A request as routes see it.

use wire::http1::RequestHead;

/// A request as routes see it.
pub(crate) struct View<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) head: &'a RequestHead,
    /// In normal form, if it was sent in another.
    pub(super) path: Option<&'a [u8]>,
}

impl route::Request for View<'_> {
    fn method(&self) -> &str {
        text(self.head.method.of(self.bytes))
    }
    fn host(&self) -> &str {
        text(self.head.authority.of(self.bytes))
    }
    fn path(&self) -> &str {
        text(self.path.unwrap_or_else(|| self.head.path.of(self.bytes)))
    }
    fn query(&self) -> &str {
        text(self.head.query.of(self.bytes))
    }
    fn header<'a>(&'a self, lower_name: &str, visit: &mut dyn FnMut(&'a [u8]) -> bool) {
        for header in &self.head.headers {
            if header.name.of(self.bytes).eq_ignore_ascii_case(lower_name.as_bytes())
                && visit(header.value.of(self.bytes))
            {
                return;
            }
        }
    }
}

/// Heads hold only ASCII where routes look, `wire` made sure of it.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
