//! HPACK (RFC 7541): the compression of field sections.
//!
//! [`Decoder`] turns the fragments of one field block into `Fields`; [`Encoder`] writes one field
//! after another. Each keeps one dynamic table of bounded size, which is all that a connection
//! remembers of the fields that it carried.

mod decoder;
mod dynamic_table;
mod encoder;
mod huffman;
mod integer;
mod static_table;

pub use decoder::Decoder;
pub use encoder::Encoder;

/// Why a field block cannot be decoded. RFC 7541 leaves the state of the table undefined then, so
/// each is a connection error of type COMPRESSION_ERROR (RFC 9113 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HpackError {
    /// The block ends within a field.
    Truncated,
    IntegerTooLarge,
    /// Index 0, or one that no table has.
    InvalidIndex,
    /// A Huffman-encoded string ends in other bits than the first ones of the end-of-string symbol.
    Padding,
    /// A Huffman-encoded string holds the end-of-string symbol.
    EndOfString,
    /// A change of the table's size that is not at the start of the block.
    LateSizeUpdate,
    /// The table is to become larger than was allowed.
    SizeUpdateTooLarge,
}

impl HpackError {
    /// What is wrong, for a log line.
    pub fn reason(self) -> &'static str {
        match self {
            HpackError::Truncated => "field block ends within a field",
            HpackError::IntegerTooLarge => "integer in a field block too large",
            HpackError::InvalidIndex => "field block names an index that no table has",
            HpackError::Padding => "wrong padding of a Huffman-encoded string",
            HpackError::EndOfString => "end of string within a Huffman-encoded string",
            HpackError::LateSizeUpdate => "change of the table size after the first field",
            HpackError::SizeUpdateTooLarge => "table size above what was allowed",
        }
    }
}

/// RFC 7541 section 4.1: "The size of an entry is the sum of its name's length in octets, its
/// value's length in octets, and 32." RFC 9113 section 6.5.2 counts field lists the same way.
pub const ENTRY_OVERHEAD: usize = 32;

#[cfg(test)]
mod tests;
