//! The examples of RFC 7541 appendix C, and what encoder and decoder promise each other.

use super::*;
use crate::Fields;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, HpackError> {
    let mut fields = Fields::default();
    fields.begin(64 * 1024, 100);
    decoder.decode(block, &mut fields)?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Ok(fields.iter().map(|(name, value)| (text(name), text(value))).collect())
}

/// A block, what it holds, and the size of the table afterwards.
type Example<'a> = (&'a str, &'a [(&'a str, &'a str)], usize);

/// Blocks of one connection.
fn check(table: usize, blocks: &[Example<'_>]) {
    let mut decoder = Decoder::new(4096);
    // The examples of C.5 and C.6 take SETTINGS_HEADER_TABLE_SIZE for 256.
    decoder
        .decode(&[0x3f, (table - 31) as u8 | 0x80, ((table - 31) >> 7) as u8], &mut {
            let mut fields = Fields::default();
            fields.begin(0, 0);
            fields
        })
        .unwrap();
    for (hex, expected, size) in blocks {
        let decoded = decode(&mut decoder, &bytes(hex)).unwrap();
        let expected: Vec<_> =
            expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        assert_eq!(decoded, expected, "{hex}");
        assert_eq!(decoder.table_size().0, *size, "{hex}");
    }
}

#[test]
fn c_2_representations() {
    check(
        4096,
        &[(
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            &[("custom-key", "custom-header")],
            55,
        )],
    );
    check(4096, &[("040c 2f73 616d 706c 652f 7061 7468", &[(":path", "/sample/path")], 0)]);
    check(4096, &[("1008 7061 7373 776f 7264 0673 6563 7265 74", &[("password", "secret")], 0)]);
    check(4096, &[("82", &[(":method", "GET")], 0)]);
}

const C_3_FIELDS: [&[(&str, &str)]; 3] = [
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
        ("cache-control", "no-cache"),
    ],
    &[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ],
];

#[test]
fn c_3_requests_without_huffman_coding() {
    let [first, second, third] = C_3_FIELDS;
    check(
        4096,
        &[
            ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", first, 57),
            ("8286 84be 5808 6e6f 2d63 6163 6865", second, 110),
            (
                "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
                third,
                164,
            ),
        ],
    );
}

#[test]
fn c_4_requests_with_huffman_coding() {
    let [first, second, third] = C_3_FIELDS;
    check(
        4096,
        &[
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", first, 57),
            ("8286 84be 5886 a8eb 1064 9cbf", second, 110),
            ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", third, 164),
        ],
    );
}

const C_5_FIELDS: [&[(&str, &str)]; 3] = [
    &[
        (":status", "302"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ],
    &[
        (":status", "307"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ],
    &[
        (":status", "200"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        ("location", "https://www.example.com"),
        ("content-encoding", "gzip"),
        ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
    ],
];

#[test]
fn c_5_responses_without_huffman_coding() {
    let [first, second, third] = C_5_FIELDS;
    check(
        256,
        &[
            (
                "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 \
                 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 \
                 6c65 2e63 6f6d",
                first,
                222,
            ),
            ("4803 3330 37c1 c0bf", second, 222),
            (
                "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d \
                 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 \
                 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e \
                 3d31",
                third,
                215,
            ),
        ],
    );
}

#[test]
fn c_6_responses_with_huffman_coding() {
    let [first, second, third] = C_5_FIELDS;
    check(
        256,
        &[
            (
                "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 \
                 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                first,
                222,
            ),
            ("4883 640e ffc1 c0bf", second, 222),
            (
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab \
                 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f \
                 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
                third,
                215,
            ),
        ],
    );
}

#[test]
fn blocks_that_no_decoder_may_take() {
    for (hex, expected) in [
        ("80", HpackError::InvalidIndex),
        ("be", HpackError::InvalidIndex),
        ("7f 00 01 61", HpackError::InvalidIndex),
        ("40", HpackError::Truncated),
        ("40 0a 61", HpackError::Truncated),
        ("40 01 61 01", HpackError::Truncated),
        ("ff", HpackError::Truncated),
        ("ff ff ff ff ff ff", HpackError::IntegerTooLarge),
        ("40 7f ff ff ff ff 0f", HpackError::IntegerTooLarge),
        ("82 20", HpackError::LateSizeUpdate),
        ("3f e2 1f", HpackError::SizeUpdateTooLarge),
        ("40 81 00 01 61", HpackError::Padding),
        ("40 84 ff ff ff ff 01 61", HpackError::EndOfString),
    ] {
        assert_eq!(decode(&mut Decoder::new(4096), &bytes(hex)), Err(expected), "{hex}");
    }
}

#[test]
fn size_updates_are_followed() {
    let mut decoder = Decoder::new(4096);
    decode(&mut decoder, &bytes("40 01 61 01 62")).unwrap();
    assert_eq!(decoder.table_size(), (34, 1));
    // To nothing, and back: two updates in a row are one change.
    decode(&mut decoder, &bytes("20 3f e1 1f 40 01 61 01 63")).unwrap();
    assert_eq!(decoder.table_size(), (34, 1));
    decode(&mut decoder, &bytes("20")).unwrap();
    assert_eq!(decoder.table_size(), (0, 0));
}

#[test]
fn a_bomb_costs_no_memory() {
    let mut decoder = Decoder::new(4096);
    let mut fields = Fields::default();
    let mut block = vec![0x40, 1, b'a', 0x7f, 0xe1, 0x1d];
    let length = block.len();
    block.extend_from_slice(&[b'x'; 4000]);
    // The length of the value as it was written above.
    assert_eq!(super::integer::decode(&block[3..length], 7), Ok((3936, 3)));
    block.truncate(length + 3936);
    block.extend(std::iter::repeat_n(0xbe, 10_000));
    fields.begin(16 * 1024, 100);
    decoder.decode(&block, &mut fields).unwrap();
    assert!(fields.is_over());
    assert_eq!(fields.len(), 4);
    assert_eq!(fields.size(), 10_001 * (1 + 3936 + 32));
    assert!(fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() < 16_384);
}

#[test]
fn repeated_fields_shrink_and_secrets_are_never_kept() {
    let mut encoder = Encoder::new(4096);
    let mut decoder = Decoder::new(4096);
    let mut lengths = Vec::new();
    for number in 0..4 {
        let mut out = Vec::new();
        let length = number.to_string();
        encoder.begin(&mut out);
        encoder.status(200, &mut out);
        encoder.field(b"Content-Type", b"text/html; charset=utf-8", &mut out);
        encoder.field(b"X-Served-By", b"replica-1", &mut out);
        encoder.field(b"content-length", length.as_bytes(), &mut out);
        encoder.field(b"Set-Cookie", b"session=secret", &mut out);
        encoder.field(b"X-Number", length.as_bytes(), &mut out);
        let expected = [
            (":status", "200"),
            ("content-type", "text/html; charset=utf-8"),
            ("x-served-by", "replica-1"),
            ("content-length", &length),
            ("set-cookie", "session=secret"),
            ("x-number", &length),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(decode(&mut decoder, &out), Ok(expected.to_vec()));
        assert_eq!(encoder.table_size(), decoder.table_size());
        lengths.push(out.len());
    }
    assert_eq!(encoder.table_size().1, 2, "content-type and x-served-by");
    assert!(lengths[1] < lengths[0] && lengths[2] + 30 < lengths[0], "{lengths:?}");
    assert_eq!(lengths[2], lengths[3]);
}

#[test]
fn the_peers_table_size_is_kept_to() {
    let mut encoder = Encoder::new(4096);
    let mut decoder = Decoder::new(4096);
    let send = |encoder: &mut Encoder, decoder: &mut Decoder, value: &str| {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        encoder.field(b"x-a", value.as_bytes(), &mut out);
        let expected = vec![("x-a".to_owned(), value.to_owned())];
        assert_eq!(decode(decoder, &out), Ok(expected));
        assert_eq!(encoder.table_size(), decoder.table_size());
        out.len()
    };
    for value in ["1", "1", "2", "2", "1", "2"] {
        send(&mut encoder, &mut decoder, value);
    }
    assert_eq!(encoder.table_size(), (72, 2));
    encoder.allow(200);
    send(&mut encoder, &mut decoder, "1");
    assert_eq!(encoder.table_size(), (72, 2));
    // Down and up again between two blocks: both are told.
    encoder.allow(0);
    encoder.allow(1000);
    assert_eq!(encoder.table_size(), (0, 0));
    let mut out = Vec::new();
    encoder.begin(&mut out);
    assert_eq!(out, [0x20, 0x3f, 0xc9, 0x07]);
    decode(&mut decoder, &out).unwrap();
    // More than we want is not used.
    encoder.allow(1 << 20);
    out.clear();
    encoder.begin(&mut out);
    assert_eq!(out, [0x3f, 0xe1, 0x1f]);
    decode(&mut decoder, &out).unwrap();
    for value in ["3", "3", "3"] {
        send(&mut encoder, &mut decoder, value);
    }
    assert_eq!(encoder.table_size(), (36, 1));
}
