//! The Huffman code (RFC 7541 section 5.2 and appendix B).
//!
//! The code is canonical: its code words follow from their lengths, so the tables are computed from
//! these while compiling. Decoding looks up nine bits at once, which settles every character that
//! is common in header fields with one load; the few longer code words are found by their length.

use super::HpackError;

/// Bits of the code word of each byte, and of the end-of-string symbol behind them.
#[rustfmt::skip]
static LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];
const LENGTH_MAX: usize = 30;
/// Bits of the first look-up: all code words of visible ASCII but a few fit.
const QUICK_BITS: u32 = 9;
const END_OF_STRING: u16 = 256;

/// For every `QUICK_BITS` bits: the symbol that they begin with, and the length of its code word;
/// length 0: it is longer than that.
static QUICK: [(u8, u8); 1 << QUICK_BITS] = quick();
/// Code words by length, for those that are longer.
static BY_LENGTH: ByLength = by_length();
/// Code words by symbol.
static CODES: [u32; 257] = codes();

/// Symbols in the order of their code words.
struct ByLength {
    symbols: [u16; 257],
    /// For each length: the code word after the last of that length, aligned to the left of 32
    /// bits; 0 if there is none. All code words of the length or shorter are below it.
    limits: [u64; LENGTH_MAX + 1],
    /// For each length: its first code word, and where in `symbols` it stands.
    firsts: [(u32, u16); LENGTH_MAX + 1],
}

const fn by_length() -> ByLength {
    let mut table = ByLength {
        symbols: [0; 257],
        limits: [0; LENGTH_MAX + 1],
        firsts: [(0, 0); LENGTH_MAX + 1],
    };
    let mut count = 0;
    let mut code: u32 = 0;
    let mut length = 1;
    while length <= LENGTH_MAX {
        code <<= 1;
        table.firsts[length] = (code, count);
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == length {
                table.symbols[count as usize] = symbol as u16;
                count += 1;
                code += 1;
                table.limits[length] = (code as u64) << (32 - length);
            }
            symbol += 1;
        }
        length += 1;
    }
    table
}

const fn codes() -> [u32; 257] {
    let table = by_length();
    let mut codes = [0; 257];
    let mut length = 1;
    let mut position = 0;
    while length <= LENGTH_MAX {
        let (first, at) = table.firsts[length];
        while position < 257 && LENGTHS[table.symbols[position] as usize] as usize == length {
            codes[table.symbols[position] as usize] = first + (position as u32 - at as u32);
            position += 1;
        }
        length += 1;
    }
    codes
}

const fn quick() -> [(u8, u8); 1 << QUICK_BITS] {
    let codes = codes();
    let mut table = [(0, 0); 1 << QUICK_BITS];
    let mut symbol = 0;
    while symbol < 256 {
        let length = LENGTHS[symbol] as u32;
        if length <= QUICK_BITS {
            let spare = QUICK_BITS - length;
            let mut index = codes[symbol] << spare;
            let end = index + (1 << spare);
            while index < end {
                table[index as usize] = (symbol as u8, length as u8);
                index += 1;
            }
        }
        symbol += 1;
    }
    table
}

/// Appends what `encoded` stands for: at most 8/5 of its length.
pub(super) fn decode(encoded: &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    out.reserve(encoded.len() * 8 / 5 + 1);
    // The next bits, aligned to the left, and how many of them are there.
    let mut bits: u64 = 0;
    let mut count: u32 = 0;
    let mut rest = encoded;
    loop {
        if count <= 32 {
            if let Some((word, after)) = rest.split_first_chunk::<4>() {
                bits |= u64::from(u32::from_be_bytes(*word)) << (32 - count);
                count += 32;
                rest = after;
            } else {
                while let [byte, after @ ..] = rest
                    && count <= 56
                {
                    bits |= u64::from(*byte) << (56 - count);
                    count += 8;
                    rest = after;
                }
            }
        }
        let (symbol, length) = QUICK[(bits >> (64 - QUICK_BITS)) as usize];
        let (symbol, length) = match length {
            0 => long(bits),
            _ => (u16::from(symbol), u32::from(length)),
        };
        if length > count {
            return check_padding(bits, count);
        }
        // RFC 7541 section 5.2: "A Huffman-encoded string literal containing the EOS symbol MUST be
        // treated as a decoding error."
        if symbol == END_OF_STRING {
            return Err(HpackError::EndOfString);
        }
        out.push(symbol as u8);
        bits <<= length;
        count -= length;
    }
}

/// The symbol that `bits` begin with, of a code word longer than `QUICK_BITS`.
fn long(bits: u64) -> (u16, u32) {
    let window = bits >> 32;
    // The last code word is all ones, so one of the limits is above any window.
    let length = (QUICK_BITS as usize + 1..=LENGTH_MAX)
        .find(|length| window < BY_LENGTH.limits[*length])
        .unwrap_or(LENGTH_MAX);
    let (first, at) = BY_LENGTH.firsts[length];
    let code = (window >> (32 - length)) as u32;
    let position = u32::from(at) + code.wrapping_sub(first);
    let symbol = BY_LENGTH.symbols.get(position as usize).copied().unwrap_or(END_OF_STRING);
    (symbol, length as u32)
}

/// RFC 7541 section 5.2: "padding strictly longer than 7 bits MUST be treated as a decoding error.
/// A padding not corresponding to the most significant bits of the code for the EOS symbol MUST be
/// treated as a decoding error."
fn check_padding(bits: u64, count: u32) -> Result<(), HpackError> {
    let ones = bits.leading_ones();
    if count <= 7 && ones >= count { Ok(()) } else { Err(HpackError::Padding) }
}

/// Bytes that `plain` takes once encoded.
pub(super) fn encoded_len(plain: impl Iterator<Item = u8>) -> usize {
    let bits: usize = plain.map(|byte| usize::from(LENGTHS[usize::from(byte)])).sum();
    bits.div_ceil(8)
}

/// Appends `plain`, encoded.
pub(super) fn encode(plain: impl Iterator<Item = u8>, out: &mut Vec<u8>) {
    let mut bits: u64 = 0;
    let mut count: u32 = 0;
    for byte in plain {
        let length = u32::from(LENGTHS[usize::from(byte)]);
        bits = bits << length | u64::from(CODES[usize::from(byte)]);
        count += length;
        while count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        let padding = 8 - count;
        out.push((bits << padding) as u8 | ((1_u16 << padding) - 1) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> Result<Vec<u8>, HpackError> {
        let mut out = Vec::new();
        decode(bytes, &mut out).map(|()| out)
    }

    #[test]
    fn the_code_words_of_appendix_b() {
        for (symbol, code, length) in [
            (usize::from(b'0'), 0x0, 5),
            (usize::from(b' '), 0x14, 6),
            (usize::from(b':'), 0x5c, 7),
            (usize::from(b'&'), 0xf8, 8),
            (usize::from(b'!'), 0x3f8, 10),
            (usize::from(b'|'), 0x7fc, 11),
            (0, 0x1ff8, 13),
            (usize::from(b'\\'), 0x7fff0, 19),
            (1, 0x7fffd8, 23),
            (249, 0xffffffe, 28),
            (10, 0x3ffffffc, 30),
            (256, 0x3fffffff, 30),
        ] {
            assert_eq!((CODES[symbol], LENGTHS[symbol]), (code, length), "{symbol}");
        }
    }

    #[test]
    fn every_byte_and_every_pair_round_trips() {
        for first in 0..=255_u8 {
            for second in 0..=255_u8 {
                for plain in [&[first][..], &[first, second], &[first, second, b'a', first]] {
                    let mut encoded = Vec::new();
                    encode(plain.iter().copied(), &mut encoded);
                    assert_eq!(encoded.len(), encoded_len(plain.iter().copied()));
                    assert_eq!(decoded(&encoded).as_deref(), Ok(plain));
                }
            }
        }
    }

    #[test]
    fn wrong_padding_is_refused() {
        for (bytes, expected) in [
            // '0' is 00000; its padding is zeroes, or too long, or nothing but padding.
            (&[0b0000_0000][..], Err(HpackError::Padding)),
            (&[0b0000_0111], Ok(b"0".to_vec())),
            (&[0b0000_0111, 0xff], Err(HpackError::Padding)),
            (&[0xff], Err(HpackError::Padding)),
            (&[0xff, 0xff, 0xff, 0xff], Err(HpackError::EndOfString)),
            (&[0xff, 0xff, 0xff, 0xfc], Err(HpackError::EndOfString)),
            (&[0xff, 0xff, 0xff, 0xf2], Err(HpackError::Padding)),
            (&[], Ok(Vec::new())),
        ] {
            assert_eq!(decoded(bytes), expected, "{bytes:x?}");
        }
    }
}
