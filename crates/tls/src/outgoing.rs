/// Records that wait to be written to the socket. One for each thread is enough: what a socket
/// does not take at once is kept by its connection.
#[derive(Debug, Default)]
pub struct Outgoing {
    storage: Vec<u8>,
    end: usize,
}

impl Outgoing {
    pub fn bytes(&self) -> &[u8] {
        &self.storage[..self.end]
    }

    pub fn is_empty(&self) -> bool {
        self.end == 0
    }

    pub fn clear(&mut self) {
        self.end = 0;
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.space(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.advance(bytes.len());
    }

    /// Room for at least `count` bytes more, to be written from its front.
    pub(crate) fn space(&mut self, count: usize) -> &mut [u8] {
        if self.storage.len() < self.end + count {
            self.storage.resize(self.end + count, 0);
        }
        &mut self.storage[self.end..]
    }

    /// `count` bytes of the room were written.
    pub(crate) fn advance(&mut self, count: usize) {
        self.end = (self.end + count).min(self.storage.len());
    }
}
