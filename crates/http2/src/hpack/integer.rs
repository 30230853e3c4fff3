//! Integers with a prefix (RFC 7541 section 5.1).

use super::HpackError;

/// Larger ones occur nowhere: no index, length or table size that is taken comes near it. RFC 7541
/// section 5.1: "Integer encodings that exceed implementation limits -- in value or octet length --
/// MUST be treated as decoding errors."
const VALUE_MAX: u32 = 1 << 24;

/// Reads the integer whose prefix is the low `prefix` bits of the first byte of `bytes`; returns it
/// and how many bytes it took.
pub(super) fn decode(bytes: &[u8], prefix: u32) -> Result<(usize, usize), HpackError> {
    let mask = (1_u32 << prefix) - 1;
    let first = u32::from(*bytes.first().ok_or(HpackError::Truncated)?) & mask;
    if first < mask {
        return Ok((first as usize, 1));
    }
    let mut value = mask;
    // Four bytes of seven bits pass the limit.
    for position in 0..4 {
        let byte = u32::from(*bytes.get(position + 1).ok_or(HpackError::Truncated)?);
        value += (byte & 0x7f) << (7 * position);
        if value > VALUE_MAX {
            break;
        }
        if byte & 0x80 == 0 {
            return Ok((value as usize, position + 2));
        }
    }
    Err(HpackError::IntegerTooLarge)
}

/// Appends `value` with a prefix of `prefix` bits, above which `flags` stands.
pub(super) fn encode(out: &mut Vec<u8>, flags: u8, prefix: u32, value: usize) {
    let mask = (1_usize << prefix) - 1;
    if value < mask {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541 appendices C.1.1 to C.1.3.
    #[test]
    fn the_examples_of_the_rfc() {
        for (value, prefix, bytes) in
            [(10, 5, &[0x0a][..]), (1337, 5, &[0x1f, 0x9a, 0x0a]), (42, 8, &[0x2a])]
        {
            let mut out = Vec::new();
            encode(&mut out, 0, prefix, value);
            assert_eq!(out, bytes);
            assert_eq!(decode(bytes, prefix), Ok((value, bytes.len())));
        }
    }

    #[test]
    fn every_prefix_round_trips() {
        for prefix in 1..=8 {
            for value in (0..600).chain([16_383, 16_384, 16_511, 1 << 20, 1 << 24]) {
                let mut out = Vec::new();
                encode(&mut out, 0, prefix, value);
                assert_eq!(decode(&out, prefix), Ok((value, out.len())), "{prefix} {value}");
                for end in 0..out.len() {
                    assert_eq!(decode(&out[..end], prefix), Err(HpackError::Truncated));
                }
            }
        }
    }

    #[test]
    fn what_is_too_large_is_refused() {
        for bytes in [
            &[0xff, 0xff, 0xff, 0xff, 0x7f][..],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            // Zeroes without end.
            &[0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
        ] {
            assert_eq!(decode(bytes, 8), Err(HpackError::IntegerTooLarge));
        }
    }
}
