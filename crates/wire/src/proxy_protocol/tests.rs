use super::*;

fn addresses(source: &str, destination: &str) -> Addresses {
    Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

/// Each prefix is partial, and bytes behind it change nothing.
#[track_caller]
fn check(input: &[u8], header: Header) {
    let shown = input.escape_ascii();
    let expected = Ok(Decoded::Complete { header, len: input.len() });
    assert_eq!(decode(input), expected, "{shown}");
    assert_eq!(decode(&[input, &b"GET / \xff\r\n"[..]].concat()), expected, "{shown} and more");
    for end in 0..input.len() {
        assert_eq!(decode(&input[..end]), Ok(Decoded::Partial), "{shown} up to {end}");
    }
}

#[track_caller]
fn check_refused(input: &[u8], expected: Error) {
    let shown = input.escape_ascii();
    assert_eq!(decode(input), Err(expected), "{shown}");
    for end in 0..input.len() {
        match decode(&input[..end]) {
            Ok(Decoded::Partial) => {}
            other => assert_eq!(other, Err(expected), "{shown} up to {end}"),
        }
    }
}

#[test]
fn text_headers() {
    check(
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
        Header::Proxied(addresses("192.0.2.1:56324", "198.51.100.2:443")),
    );
    check(
        b"PROXY TCP6 2001:db8::1 ::ffff:1.2.3.4 0 65535\r\n",
        Header::Proxied(addresses("[2001:db8::1]:0", "[::ffff:1.2.3.4]:65535")),
    );
    check(
        b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
        Header::Proxied(addresses(
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
        )),
    );
    check(b"PROXY UNKNOWN\r\n", Header::Local);
    check(b"PROXY UNKNOWN ffff::1 anything here 1 2\r\n", Header::Local);
}

#[test]
fn malformed_text_headers_are_refused() {
    for (input, expected) in [
        (&b"GET / HTTP/1.1\r\n"[..], Error::UnknownSignature),
        (b"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n", Error::UnknownSignature),
        (b"PROXY\tTCP4 1.1.1.1 2.2.2.2 1 2\r\n", Error::UnknownSignature),
        (b"PROXY\r\n", Error::UnknownSignature),
        (b"PROXY \r\n", Error::InvalidFamily),
        (b"PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n", Error::InvalidFamily),
        (b"PROXY UNKNOWNX\r\n", Error::InvalidFamily),
        (b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n", Error::InvalidFamily),
        (b"PROXY TCP4\r\n", Error::InvalidText),
        (b"PROXY TCP4 1.1.1.1\r\n", Error::InvalidText),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", Error::InvalidText),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n", Error::InvalidText),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n", Error::InvalidText),
        (b"PROXY TCP4 1.1.1.1  2.2.2.2 1 2\r\n", Error::InvalidAddress),
        (b"PROXY TCP4 ::1 ::2 1 2\r\n", Error::InvalidAddress),
        (b"PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n", Error::InvalidAddress),
        (b"PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n", Error::InvalidAddress),
        (b"PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n", Error::InvalidAddress),
        (b"PROXY TCP4 256.1.1.1 2.2.2.2 1 2\r\n", Error::InvalidAddress),
        (b"PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n", Error::InvalidAddress),
        (b"PROXY TCP6 [::1] ::2 1 2\r\n", Error::InvalidAddress),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n", Error::InvalidPort),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n", Error::InvalidPort),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n", Error::InvalidPort),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 -2\r\n", Error::InvalidPort),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2  2\r\n", Error::InvalidPort),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n", Error::InvalidText),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\rX", Error::InvalidText),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 \xff\r\n", Error::InvalidText),
    ] {
        check_refused(input, expected);
    }
}

#[test]
fn a_text_header_has_at_most_107_bytes() {
    let fits = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
    assert_eq!(fits.len(), 107);
    check(fits.as_bytes(), Header::Local);
    check_refused(format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 15)).as_bytes(), Error::TooLong);
    check_refused(format!("PROXY UNKNOWN {}", "x".repeat(200)).as_bytes(), Error::TooLong);
}

fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&v2::SIGNATURE[..], &[command, family], &length, rest].concat()
}

const IPV4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0xDC, 0x04, 0x01, 0xBB];

#[test]
fn binary_headers() {
    let ipv4 = Header::Proxied(addresses("192.0.2.1:56324", "198.51.100.2:443"));
    check(&binary(0x21, 0x11, &IPV4), ipv4);
    check(&binary(0x21, 0x12, &IPV4), ipv4);
    let mut ipv6 = [0; 36];
    (ipv6[0], ipv6[15], ipv6[31], ipv6[33], ipv6[35]) = (0xfe, 1, 2, 3, 4);
    let expected = Header::Proxied(addresses("[fe00::1]:3", "[::2]:4"));
    check(&binary(0x21, 0x21, &ipv6), expected);
    check(&binary(0x21, 0x22, &ipv6), expected);
    // LOCAL: "discard the protocol block including the family which is ignored".
    check(&binary(0x20, 0x00, b""), Header::Local);
    check(&binary(0x20, 0x11, &IPV4), Header::Local);
    check(&binary(0x20, 0xFF, b"anything"), Header::Local);
    check(&binary(0x21, 0x00, b"anything"), Header::Local);
    check(&binary(0x21, 0x31, &[0; 216]), Header::Local);
    // Extensions: two of them, an empty one, and one that fills the header.
    for extensions in
        [&b"\x01\x00\x02h2\x04\x00\x00"[..], &[b"\x04\x0F\xE1", &[0; 4065][..]].concat()]
    {
        check(&binary(0x21, 0x11, &[&IPV4[..], extensions].concat()), ipv4);
    }
}

#[test]
fn malformed_binary_headers_are_refused() {
    for (input, expected) in [
        (b"\r\n\r\n\0\r\nQUIX\n".to_vec(), Error::UnknownSignature),
        (b"\r\n\r\nGET".to_vec(), Error::UnknownSignature),
        (binary(0x11, 0x11, &IPV4), Error::InvalidVersion),
        (binary(0x31, 0x11, &IPV4), Error::InvalidVersion),
        (binary(0x22, 0x11, &IPV4), Error::InvalidCommand),
        (binary(0x2F, 0x11, &IPV4), Error::InvalidCommand),
        (binary(0x21, 0x10, &IPV4), Error::InvalidFamily),
        (binary(0x21, 0x41, &IPV4), Error::InvalidFamily),
        (binary(0x21, 0x01, &IPV4), Error::InvalidFamily),
        (binary(0x21, 0x11, &IPV4[..11]), Error::AddressesTruncated),
        (binary(0x21, 0x21, &IPV4), Error::AddressesTruncated),
        (binary(0x21, 0x21, &[0; 35]), Error::AddressesTruncated),
        (binary(0x21, 0x31, &[0; 215]), Error::AddressesTruncated),
        (binary(0x21, 0x11, &[&IPV4[..], b"\x01"].concat()), Error::ExtensionTruncated),
        (binary(0x21, 0x11, &[&IPV4[..], b"\x01\x00\x01"].concat()), Error::ExtensionTruncated),
        (binary(0x21, 0x11, &[&IPV4[..], b"\x01\xFF\xFFx"].concat()), Error::ExtensionTruncated),
        (binary(0x20, 0x00, &[0; HEADER_BYTES_MAX - 15]), Error::TooLong),
        (binary(0x21, 0x11, &[0; 65_535]), Error::TooLong),
    ] {
        check_refused(&input[..input.len().min(300)], expected);
    }
}

#[test]
fn encoded_headers_decode_to_themselves() {
    for (source, destination) in [
        ("1.2.3.4:0", "255.255.255.255:65535"),
        ("[::]:1", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:2"),
        ("[::ffff:1.2.3.4]:1", "[2001:db8::1]:2"),
    ] {
        let addresses = addresses(source, destination);
        let (mut v1, mut v2) = (Vec::new(), Vec::new());
        encode_v1(&addresses, &mut v1);
        encode_v2(Header::Proxied(addresses), &mut v2);
        check(&v1, Header::Proxied(addresses));
        check(&v2, Header::Proxied(addresses));
    }
    let mut local = Vec::new();
    encode_v2(Header::Local, &mut local);
    check(&local, Header::Local);
}

#[test]
fn ends_of_different_families_become_ipv6() {
    for (source, destination, expected) in [
        ("1.2.3.4:1", "[::1]:2", addresses("[::ffff:1.2.3.4]:1", "[::1]:2")),
        ("[::1]:1", "1.2.3.4:2", addresses("[::1]:1", "[::ffff:1.2.3.4]:2")),
    ] {
        let mixed = addresses(source, destination);
        let (mut v1, mut v2) = (Vec::new(), Vec::new());
        encode_v1(&mixed, &mut v1);
        encode_v2(Header::Proxied(mixed), &mut v2);
        check(&v1, Header::Proxied(expected));
        check(&v2, Header::Proxied(expected));
    }
}
