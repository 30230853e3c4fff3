//! Fields to field blocks (RFC 7541 section 6).
//!
//! A field goes into the table when it is sent for the second time: what is different in each
//! message (an identifier, a length, a date to the second) would only push out what repeats. Fields
//! that go into the table are Huffman-encoded, since they cost that once; the others are sent as
//! they are, which costs the fewest instructions.

use std::collections::VecDeque;

use super::{ENTRY_OVERHEAD, huffman, integer, static_table};

/// Fields that were sent once are remembered by this many hashes.
const SEEN: usize = 64;

/// The encoding side of one direction of a connection.
#[derive(Debug)]
pub struct Encoder {
    /// The newest in front.
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
    /// What we use of what the peer allows, in bytes.
    size_wanted: usize,
    /// The smallest size since the last block, and that the peer has to be told of the last one.
    update: Option<usize>,
    /// By the low bits of the hash. Boxed when first used, so that an idle connection is small.
    seen: Option<Box<[u32; SEEN]>>,
}

#[derive(Debug)]
struct Entry {
    hash: u32,
    name_len: u32,
    /// Name and value, in lower case the one, as it was sent the other.
    text: Box<[u8]>,
}

impl Encoder {
    /// `size_wanted`: bytes that its table may take, if the peer allows as many.
    pub fn new(size_wanted: usize) -> Self {
        let mut encoder = Self {
            entries: VecDeque::new(),
            size: 0,
            // RFC 9113 section 6.5.2: the initial value is 4,096 octets.
            size_max: 4096,
            size_wanted,
            update: None,
            seen: None,
        };
        if size_wanted < 4096 {
            encoder.allow(4096);
        }
        encoder
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE.
    pub fn allow(&mut self, size: usize) {
        let size = size.min(self.size_wanted);
        if size != self.size_max {
            self.update = Some(self.update.map_or(size, |least| least.min(size)));
            self.size_max = size;
            self.evict(size);
        }
    }

    /// Bytes and entries in its table.
    pub fn table_size(&self) -> (usize, usize) {
        (self.size, self.entries.len())
    }

    /// Begins a block.
    ///
    /// RFC 7541 section 4.2: "if the maximum size is changed more than once ... the smallest maximum
    /// table size that occurs in that interval MUST be sent"; the final one follows it.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some(least) = self.update.take() {
            if least < self.size_max {
                integer::encode(out, 0x20, 5, least);
            }
            integer::encode(out, 0x20, 5, self.size_max);
        }
    }

    /// Writes `:status`.
    pub fn status(&mut self, status: u16, out: &mut Vec<u8>) {
        let index = match status {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => {
                let digit = |value: u16| b'0' + (value % 10) as u8;
                out.extend_from_slice(&[0x08, 3]);
                out.extend_from_slice(&[digit(status / 100), digit(status / 10), digit(status)]);
                return;
            }
        };
        out.push(0x80 | index);
    }

    /// Writes `:method`.
    pub fn method(&mut self, method: &[u8], out: &mut Vec<u8>) {
        match method {
            b"GET" => out.push(0x82),
            b"POST" => out.push(0x83),
            _ => self.literal(2, b":method", method, out),
        }
    }

    /// Writes `:scheme`.
    pub fn scheme(&mut self, scheme: &[u8], out: &mut Vec<u8>) {
        match scheme {
            b"http" => out.push(0x86),
            b"https" => out.push(0x87),
            _ => self.literal(6, b":scheme", scheme, out),
        }
    }

    /// Writes `:path`.
    pub fn path(&mut self, path: &[u8], out: &mut Vec<u8>) {
        match path {
            b"/" => out.push(0x84),
            _ => self.indexable(4, b":path", path, out),
        }
    }

    /// Writes `:authority`.
    pub fn authority(&mut self, authority: &[u8], out: &mut Vec<u8>) {
        self.indexable(1, b":authority", authority, out);
    }

    /// Writes a field. The name may be in any letter case, and is sent in lower case.
    pub fn field(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let index = static_table::index_of(name).unwrap_or(0);
        match index {
            // RFC 7541 section 7.1.3: what is secret must not be found out by guessing, so it never
            // goes into a table, neither ours nor that of anybody who passes it on: Authorization,
            // Cookie, Proxy-Authorization, Set-Cookie.
            23 | 32 | 49 | 55 => {
                integer::encode(out, 0x10, 4, index);
                plain(value, out);
            }
            // Content-Length: another one each time, mostly.
            28 => self.literal(index, name, value, out),
            _ => self.indexable(index, name, value, out),
        }
    }

    fn indexable(&mut self, index: usize, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let hash = hash(name, value);
        let known = self.entries.iter().position(|entry| entry.is(hash, name, value));
        if let Some(age) = known {
            integer::encode(out, 0x80, 7, static_table::TABLE.len() + 1 + age);
            return;
        }
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        if size > self.size_max / 4 || !self.is_repeated(hash) {
            return self.literal(index, name, value, out);
        }
        integer::encode(out, 0x40, 6, index);
        let lower = || name.iter().map(u8::to_ascii_lowercase);
        if index == 0 {
            compressed(lower(), name.len(), out);
        }
        compressed(value.iter().copied(), value.len(), out);
        self.evict(self.size_max - size);
        let text = lower().chain(value.iter().copied()).collect();
        self.entries.push_front(Entry { hash, name_len: name.len() as u32, text });
        self.size += size;
    }

    fn literal(&mut self, index: usize, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        integer::encode(out, 0, 4, index);
        if index == 0 {
            integer::encode(out, 0, 7, name.len());
            out.extend(name.iter().map(u8::to_ascii_lowercase));
        }
        plain(value, out);
    }

    /// Was a field of this hash sent before? Remembers it.
    fn is_repeated(&mut self, hash: u32) -> bool {
        let seen = self.seen.get_or_insert_with(|| Box::new([0; SEEN]));
        std::mem::replace(&mut seen[hash as usize % SEEN], hash) == hash
    }

    fn evict(&mut self, size: usize) {
        while self.size > size
            && let Some(entry) = self.entries.pop_back()
        {
            self.size -= entry.text.len() + ENTRY_OVERHEAD;
        }
    }
}

impl Entry {
    fn is(&self, hash: u32, name: &[u8], value: &[u8]) -> bool {
        if self.hash != hash {
            return false;
        }
        let (known_name, known_value) = self.text.split_at(self.name_len as usize);
        known_value == value && known_name.eq_ignore_ascii_case(name)
    }
}

fn plain(text: &[u8], out: &mut Vec<u8>) {
    integer::encode(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

/// In Huffman code, if that is shorter.
fn compressed(text: impl Iterator<Item = u8> + Clone, length: usize, out: &mut Vec<u8>) {
    let encoded = huffman::encoded_len(text.clone());
    if encoded < length {
        integer::encode(out, 0x80, 7, encoded);
        huffman::encode(text, out);
    } else {
        integer::encode(out, 0, 7, length);
        out.extend(text);
    }
}

/// Of the name in any letter case and the value. It need not withstand an attacker: a collision
/// costs one comparison, and there are at most `4096 / 32` entries.
fn hash(name: &[u8], value: &[u8]) -> u32 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = (name.len() as u64) << 32 ^ value.len() as u64 ^ PRIME;
    for byte in name {
        state = (state ^ u64::from(byte | 0x20)).wrapping_mul(PRIME).rotate_left(23);
    }
    let (words, rest) = value.as_chunks::<8>();
    for word in words {
        state = (state ^ u64::from_le_bytes(*word)).wrapping_mul(PRIME).rotate_left(29);
    }
    for byte in rest {
        state = (state ^ u64::from(*byte)).wrapping_mul(PRIME).rotate_left(23);
    }
    // 0 stands for nothing in `seen`.
    ((state >> 32) as u32 ^ state as u32).max(1)
}
