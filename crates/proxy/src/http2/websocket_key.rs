use model::Rng;

/// A `Sec-WebSocket-Key` (RFC 6455 section 4.1): 16 bytes by chance, in base64. RFC 8441 has none,
/// and endpoints that speak HTTP/1.1 want one.
pub(super) fn websocket_key(rng: &mut Rng) -> [u8; 24] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut key = [b'='; 24];
    let mut bits = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
    for digit in &mut key[..21] {
        *digit = DIGITS[(bits >> 122) as usize];
        bits <<= 6;
    }
    // Two bits are left for the last digit: 128 is 21 times 6 and 2.
    key[21] = DIGITS[(bits >> 122) as usize & 0x30];
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_sixteen_bytes() {
        for seed in 0..100 {
            let key = websocket_key(&mut Rng::from_seed(seed));
            assert!(key.ends_with(b"=="));
            assert!(matches!(key[21], b'A' | b'Q' | b'g' | b'w'), "{}", key.escape_ascii());
        }
    }
}
