use super::*;

const KEY: Key = Key { modid: 1, cmdid: 2 };

fn host(text: &str) -> Host {
    text.parse::<SocketAddrV4>().unwrap().into()
}

fn frame(number: i32, body: &[u8]) -> Vec<u8> {
    [&number.to_le_bytes()[..], &(body.len() as i32).to_le_bytes(), body].concat()
}

/// What protobuf's own compiler makes of these messages.
#[test]
fn frames_are_those_of_the_specification() {
    // 192.168.1.177 is 3232235953, as an int32 -1062731343: ten bytes.
    let negative = [0x08, 0xb1, 0x83, 0xa0, 0x85, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x01];
    let far = [&[0x2a, 14][..], &negative, &[0x10, 0x90, 0x3f]].concat();
    let near = [0x08, 0x81, 0x80, 0x80, 0xf8, 0x07, 0x10, 0x90, 0x3f];
    let check = |message: Message, number, body: &[u8]| {
        let mut bytes = Vec::new();
        encode(&message, &mut bytes);
        assert_eq!(bytes, frame(number, body), "{message:?}");
        let len = bytes.len();
        assert_eq!(decode(&bytes), Ok(Decoded::Complete { message, len }));
    };
    check(Message::GetRouteRequest(KEY), 1, &[8, 1, 16, 2]);
    check(
        Message::GetRouteResponse(KEY, vec![host("127.0.0.1:8080"); 2]),
        2,
        &[&[8, 1, 16, 2, 0x1a, 9][..], &near, &[0x1a, 9], &near].concat(),
    );
    let results =
        vec![CallResult { host: host("127.0.0.1:8080"), succ: 300, err: 1, overload: true }];
    check(
        Message::ReportStatusRequest { key: KEY, caller: 3, results, ts: 5 },
        3,
        &[&[8, 1, 16, 2, 24, 3, 0x22, 16][..], &near, &[24, 0xac, 2, 32, 1, 40, 1, 40, 5]].concat(),
    );
    check(Message::GetHostRequest { seq: 9, key: KEY }, 4, &[8, 9, 16, 1, 24, 2]);
    check(
        Message::GetHostResponse {
            seq: 9,
            key: KEY,
            retcode: SUCC,
            host: Some(host("192.168.1.177:8080")),
        },
        5,
        &[&[8, 9, 16, 1, 24, 2][..], &far].concat(),
    );
    check(
        Message::GetHostResponse { seq: 9, key: KEY, retcode: OVERLOAD, host: None },
        5,
        &[8, 9, 16, 1, 24, 2, 32, 1],
    );
    check(
        Message::ReportRequest { key: KEY, host: host("127.0.0.1:8080"), retcode: 2 },
        6,
        &[&[8, 1, 16, 2, 0x1a, 9][..], &near, &[32, 2]].concat(),
    );
    check(Message::ApiGetRouteRequest(Key::default()), 7, &[]);
    check(Message::ApiGetRouteResponse(KEY, Vec::new()), 8, &[8, 1, 16, 2]);
}

#[test]
fn addresses_from_128_on_are_negative() {
    let host = host("192.168.1.177:80");
    assert_eq!(host.ip as u32, 3_232_235_953);
    assert!(host.ip < 0);
    assert_eq!(host.address().unwrap().to_string(), "192.168.1.177:80");
    assert_eq!(Host { port: 65_536, ..host }.address(), None);
    assert_eq!(Host { port: -1, ..host }.address(), None);
}

#[test]
fn a_key_belongs_to_one_of_three_servers() {
    for (modid, cmdid, server) in [(1, 1, 2), (1, 2, 0), (0, 1, 1), (-1, 0, 2), (i32::MAX, 1, 2)] {
        assert_eq!(Key { modid, cmdid }.server(), server, "{modid} {cmdid}");
    }
    assert!(Key { modid: i32::MIN, cmdid: i32::MIN }.server() < 3);
}

#[test]
fn what_is_no_frame_is_refused() {
    let check = |bytes: &[u8], expected| assert_eq!(decode(bytes), expected, "{bytes:?}");
    let header = |number: i32, length: i32| [number.to_le_bytes(), length.to_le_bytes()].concat();
    check(&[], Ok(Decoded::Partial));
    check(&header(4, 1), Ok(Decoded::Partial));
    check(&header(4, BODY_BYTES_MAX as i32), Ok(Decoded::Partial));
    check(&header(4, BODY_BYTES_MAX as i32 + 1), Err(FrameError::Length));
    check(&header(4, -1), Err(FrameError::Length));
    check(&header(0, 0), Err(FrameError::UnknownMessage));
    check(&header(9, 0), Err(FrameError::UnknownMessage));
    check(&header(-4, 0), Err(FrameError::UnknownMessage));
    for body in [
        // Cut within a number; a number of 65 bits; field 0; a group; a length beyond the end.
        &[8, 0x80][..],
        &[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        &[0, 0],
        &[0x0b],
        &[0x1a, 5, 8],
    ] {
        check(&frame(6, body), Err(FrameError::Body));
    }
}

/// protobuf asks of readers that they skip what they do not know, and merge what comes twice.
#[test]
fn what_is_not_known_is_skipped() {
    let unknown = [0x7a, 1, 0, 0x79, 0, 0, 0, 0, 0, 0, 0, 0, 0x7d, 0, 0, 0, 0, 0x78, 1];
    let body = [&[8, 7, 8, 1, 16, 2, 0x1a, 2, 8, 5, 0x1a, 2, 16, 6][..], &unknown].concat();
    let host = Host { ip: 5, port: 6 };
    let message = Message::ReportRequest { key: KEY, host, retcode: 0 };
    let bytes = frame(6, &body);
    assert_eq!(decode(&bytes), Ok(Decoded::Complete { message, len: bytes.len() }));
}

#[test]
fn the_longest_route_fits() {
    for (count, ip) in [(HOSTS_MAX, -1), (HOSTS_MAX + 1000, i32::MIN)] {
        let hosts = vec![Host { ip, port: -1 }; count];
        let key = Key { modid: -1, cmdid: -1 };
        let mut bytes = Vec::new();
        encode(&Message::GetRouteResponse(key, hosts.clone()), &mut bytes);
        let message = Message::GetRouteResponse(key, hosts[..HOSTS_MAX].to_vec());
        assert_eq!(decode(&bytes), Ok(Decoded::Complete { message, len: bytes.len() }));
    }
    let result = CallResult {
        host: Host { ip: -1, port: -1 },
        succ: u32::MAX,
        err: u32::MAX,
        overload: true,
    };
    let key = Key { modid: -1, cmdid: -1 };
    let results = vec![result; 5000];
    let message = Message::ReportStatusRequest { key, caller: -1, results, ts: u32::MAX };
    let mut bytes = Vec::new();
    encode(&message, &mut bytes);
    assert!(matches!(decode(&bytes), Ok(Decoded::Complete { len, .. }) if len == bytes.len()));
}
