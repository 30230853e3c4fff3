use super::*;

fn vector(width: usize, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&length[4 - width..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(2, content)].concat()
}

fn names(names: &[&str]) -> Vec<u8> {
    let entries: Vec<u8> =
        names.iter().flat_map(|name| [&[0][..], &vector(2, name.as_bytes())].concat()).collect();
    extension(0, &vector(2, &entries))
}

fn protocols(list: &[&str]) -> Vec<u8> {
    let entries: Vec<u8> = list.iter().flat_map(|name| vector(1, name.as_bytes())).collect();
    extension(16, &vector(2, &entries))
}

fn message(extensions: Option<&[u8]>) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend(vector(1, &[9; 32]));
    body.extend(vector(2, &[0x13, 0x01, 0xc0, 0x2f]));
    body.extend(vector(1, &[0]));
    body.extend(extensions.map(|e| vector(2, e)).unwrap_or_default());
    [&[1][..], &vector(3, &body)].concat()
}

/// In records of up to `size` bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|part| [&[22, 3, 1][..], &vector(2, part)].concat()).collect()
}

fn complete(bytes: &[u8]) -> ClientHello {
    match decode(bytes) {
        Ok(Decoded::Complete(hello)) => hello,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hello_is_read_however_it_is_cut() {
    let extensions =
        [extension(43, &[2, 3, 4]), names(&["Shop.Example.com"]), protocols(&["h2", "http/1.1"])];
    let message = message(Some(&extensions.concat()));
    for size in [1, 2, 3, 50, 16384] {
        let bytes = records(&message, size);
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), Ok(Decoded::Partial), "{size} {length}");
        }
        let hello = complete(&bytes);
        assert_eq!(hello.server_name, "Shop.Example.com");
        assert_eq!(hello.protocols().collect::<Vec<_>>(), [&b"h2"[..], b"http/1.1"]);
        assert!(hello.offers(b"h2") && !hello.offers(b"h3"));
        // What follows is not looked at.
        assert_eq!(complete(&[&bytes[..], b"more"].concat()), hello);
    }
}

#[test]
fn names_and_protocols_may_be_absent() {
    for message in [message(None), message(Some(&[])), message(Some(&extension(10, &[0, 0])))] {
        assert_eq!(complete(&records(&message, 1000)), ClientHello::default());
    }
}

#[test]
fn what_is_no_hello_is_known_early() {
    let hello = |extensions: &[Vec<u8>]| records(&message(Some(&extensions.concat())), 16384);
    let other_name = extension(0, &vector(2, &[&[5][..], &vector(2, b"x")].concat()));
    let mut early_end = message(Some(&names(&["a"])));
    early_end[38] = 200;
    for (what, bytes, error) in [
        ("HTTP", b"GET / HTTP/1.1".to_vec(), Error::NotTls),
        ("one byte", vec![0x80], Error::NotTls),
        ("SSL 2", vec![22, 2], Error::NotTls),
        ("an alert", vec![21, 3, 1, 0, 2, 2, 0], Error::NotTls),
        ("an empty record", vec![22, 3, 1, 0, 0], Error::InvalidRecord),
        ("a large record", vec![22, 3, 1, 0x40, 1], Error::InvalidRecord),
        ("a ServerHello", vec![22, 3, 1, 0, 5, 2], Error::UnexpectedMessage),
        ("a large message", vec![22, 3, 1, 0, 5, 1, 0, 0x40, 1], Error::TooLong),
        ("an alert between", vec![22, 3, 1, 0, 1, 1, 21], Error::NotTls),
        ("two lists of names", hello(&[names(&["a"]), names(&["a"])]), Error::DuplicateExtension),
        (
            "two lists of protocols",
            hello(&[protocols(&["a"]), protocols(&["a"])]),
            Error::DuplicateExtension,
        ),
        ("two names", hello(&[names(&["a", "b"])]), Error::InvalidServerName),
        ("an empty name", hello(&[names(&[""])]), Error::InvalidServerName),
        ("a name with a space", hello(&[names(&["a b"])]), Error::InvalidServerName),
        ("no host name", hello(&[other_name]), Error::InvalidServerName),
        ("no protocols", hello(&[protocols(&[])]), Error::Malformed),
        ("an empty protocol", hello(&[protocols(&["h2", ""])]), Error::Malformed),
        ("an extension cut short", hello(&[vec![0, 0, 0, 9, 0]]), Error::Malformed),
        ("lengths that do not fit", records(&early_end, 16384), Error::Malformed),
    ] {
        assert_eq!(decode(&bytes), Err(error), "{what}");
    }
}

#[test]
fn input_is_bounded() {
    // A long message in records of one byte each.
    let long = [&[1, 0, 0x3f, 0xff][..], &[0; 0x3fff]].concat();
    let bytes = records(&long, 1);
    assert!(bytes.len() > INPUT_BYTES_MAX);
    assert_eq!(decode(&bytes[..INPUT_BYTES_MAX - 1]), Ok(Decoded::Partial));
    assert_eq!(decode(&bytes[..INPUT_BYTES_MAX]), Err(Error::TooLong));
}
