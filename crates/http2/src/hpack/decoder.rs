//! Field blocks to fields (RFC 7541 sections 3.2 and 6).

use super::dynamic_table::DynamicTable;
use super::{HpackError, huffman, integer, static_table};
use crate::Fields;

/// The decoding side of one direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    table: DynamicTable,
    /// What our SETTINGS_HEADER_TABLE_SIZE allows.
    size_max: usize,
}

impl Decoder {
    /// `size_max`: the SETTINGS_HEADER_TABLE_SIZE that we announce, in bytes.
    pub fn new(size_max: usize) -> Self {
        Self { table: DynamicTable::new(size_max), size_max }
    }

    /// Bytes and entries in its table.
    pub fn table_size(&self) -> (usize, usize) {
        (self.table.size(), self.table.len())
    }

    /// Reads a whole block, and appends its fields.
    ///
    /// What goes beyond the bounds of `fields` is decoded and dropped, because the table must
    /// follow all that was sent: a bomb of indexed fields (10,000 bytes that stand for 40 MB) costs
    /// a look-up for each byte, and no memory.
    pub fn decode(&mut self, block: &[u8], fields: &mut Fields) -> Result<(), HpackError> {
        let mut rest = block;
        let mut first = true;
        while let Some(byte) = rest.first() {
            let taken = match byte {
                0x80.. => self.indexed(rest, fields)?,
                0x40..=0x7f => self.literal(rest, 6, true, fields)?,
                0x20..=0x3f => {
                    // RFC 7541 section 4.2: "This dynamic table size update MUST occur at the
                    // beginning of the first header block following the change".
                    if !first {
                        return Err(HpackError::LateSizeUpdate);
                    }
                    let (size, taken) = integer::decode(rest, 5)?;
                    if size > self.size_max {
                        return Err(HpackError::SizeUpdateTooLarge);
                    }
                    self.table.resize(size);
                    rest = &rest[taken..];
                    continue;
                }
                // Without indexing, or never indexed: for a decoder the same.
                _ => self.literal(rest, 4, false, fields)?,
            };
            rest = &rest[taken..];
            first = false;
        }
        Ok(())
    }

    fn indexed(&mut self, bytes: &[u8], fields: &mut Fields) -> Result<usize, HpackError> {
        let (index, taken) = integer::decode(bytes, 7)?;
        let (name, value) = self.entry(index)?;
        fields.push(name, value);
        Ok(taken)
    }

    fn literal(
        &mut self,
        bytes: &[u8],
        prefix: u32,
        insert: bool,
        fields: &mut Fields,
    ) -> Result<usize, HpackError> {
        let (index, mut taken) = integer::decode(bytes, prefix)?;
        let start = fields.start();
        if index == 0 {
            taken += string(&bytes[taken..], fields.tail())?;
        } else {
            let (name, _) = self.entry(index)?;
            fields.tail().extend_from_slice(name);
        }
        let value = fields.start();
        taken += string(&bytes[taken..], fields.tail())?;
        if insert {
            let (name, value) = fields.written(start).split_at(value - start);
            self.table.insert(name, value);
        }
        fields.commit(start, value);
        Ok(taken)
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), HpackError> {
        let position = index.checked_sub(1).ok_or(HpackError::InvalidIndex)?;
        match static_table::TABLE.get(position) {
            Some(entry) => Ok(*entry),
            None => {
                let age = position - static_table::TABLE.len();
                self.table.get(age).ok_or(HpackError::InvalidIndex)
            }
        }
    }
}

/// Appends a string literal (RFC 7541 section 5.2); answers how many bytes it took.
fn string(bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, HpackError> {
    let (length, taken) = integer::decode(bytes, 7)?;
    let text = bytes.get(taken..taken + length).ok_or(HpackError::Truncated)?;
    // `integer::decode` has seen the first byte.
    if bytes[0] & 0x80 == 0 {
        out.extend_from_slice(text);
    } else {
        huffman::decode(text, out)?;
    }
    Ok(taken + length)
}
