use super::*;

#[test]
fn an_empty_buffer_is_partial() {
    assert_eq!(decode(b""), Ok(Decoded::Partial));
}
