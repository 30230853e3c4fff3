//! The binary format of protobuf (<https://protobuf.dev/programming-guides/encoding/>), as far as
//! the messages here need it: fields one by one, and what their writers need.

/// The value of one field as it is framed; what it means, its message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    /// A text, a message, or a packed list.
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

/// The bytes end within a field, or frame none: a number above 64 bits, field 0, or a group, which
/// proto3 does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The fields of a message in their order, with their numbers; after an error there are no more.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = varint(&mut self.rest)?;
        let field = tag >> 3;
        if field == 0 {
            return None;
        }
        let value = match tag & 7 {
            0 => Value::Varint(varint(&mut self.rest)?),
            1 => Value::Fixed64(self.take()?),
            2 => {
                let length = usize::try_from(varint(&mut self.rest)?).ok()?;
                let (bytes, rest) = self.rest.split_at_checked(length)?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(self.take()?),
            _ => return None,
        };
        Some((field, value))
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*bytes)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field.ok_or(Malformed))
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if shift == 63 && part > 1 {
            return None;
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// An `int32`: negative ones take ten bytes, as if they were 64 bits wide. Zero, the default, is
/// left out.
pub(crate) fn put_int32(field: u8, value: i32, into: &mut Vec<u8>) {
    put_uint64(field, i64::from(value) as u64, into);
}

/// A `uint32`, or any other number that is not negative. Zero is left out.
pub(crate) fn put_uint64(field: u8, value: u64, into: &mut Vec<u8>) {
    if value != 0 {
        into.push(field << 3);
        put_varint(value, into);
    }
}

/// A message within a message, also an empty one. `write` makes at most 127 bytes, which keeps the
/// length one byte.
pub(crate) fn put_message(field: u8, into: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    into.extend_from_slice(&[field << 3 | 2, 0]);
    let start = into.len();
    write(into);
    debug_assert!(into.len() - start < 0x80);
    into[start - 1] = (into.len() - start) as u8;
}
