use super::*;

fn name(text: &str) -> Name {
    Name::from_text(text).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn names() {
    let long = "a".repeat(63);
    let longest = [&*long, &long, &long, &"a".repeat(61)].join(".");
    for (text, shown) in [
        ("", "."),
        (".", "."),
        ("a", "a"),
        ("_http._tcp.Web.example.", "_http._tcp.Web.example"),
        (&*longest, &*longest),
    ] {
        assert_eq!(name(text).to_string(), shown);
    }
    for (text, defect) in [
        ("a..b", NameDefect::EmptyLabel),
        (".a", NameDefect::EmptyLabel),
        ("..", NameDefect::EmptyLabel),
        (&*format!("{long}a.b"), NameDefect::LongLabel),
        (&*format!("a{longest}"), NameDefect::LongLabel),
        (&*format!("b.{longest}"), NameDefect::LongName),
    ] {
        assert_eq!(Name::from_text(text).unwrap_err(), defect, "{text}");
    }
    assert_eq!(name("A.Example"), name("a.eXAMPLE."));
    assert_eq!(name("a.b").cmp(&name("A.B")), std::cmp::Ordering::Equal);
    assert_ne!(name("a.b"), name("ab"));
    let odd = Name::of([&b"a.b\\"[..], b"\x00\xff "]).unwrap();
    assert_eq!(odd.to_string(), "a\\.b\\\\.\\000\\255\\032");

    let below = |text: &str, suffix: &str| {
        let (name, suffix) = (name(text), name(suffix));
        name.below(&suffix).map(|labels| labels.join(&b'.'))
    };
    assert_eq!(below("a.b.Example", "example"), Some(b"a.b".to_vec()));
    assert_eq!(below("example", "example"), Some(Vec::new()));
    assert_eq!(below("a.example", "b.example"), None);
    assert_eq!(below("example", "a.example"), None);
    assert_eq!(below("xexample", "example"), None);
}

macro_rules! recorded {
    ($name:literal) => {
        include_bytes!(concat!("../../../../fuzz/corpus/dns_message/", $name)).as_slice()
    };
}

/// What dig 9.18 sent and what dnsmasq 2.90 answered.
#[test]
fn recorded_messages() {
    let query = decode(recorded!("web.test_query")).unwrap();
    let question = Question { name: name("web.test"), kind: kind::A, class: CLASS_IN };
    assert!(query.header.recursion_desired && !query.header.is_response);
    assert_eq!(query.question, Some(question.clone()));
    assert_eq!(query.edns, Some(Edns { payload: 1232, version: 0 }));
    // Ours is that without dig's wish for validation (AD) and without its cookie.
    let plain = recorded!("noedns_web.test_AAAA_query");
    let asked = decode(plain).unwrap();
    let mut ours = super::query(asked.header.id, &asked.question.unwrap(), false);
    ours[3] |= 0x20;
    assert_eq!(ours, plain);

    let answer = recorded!("web.test_answer");
    let read = decode(answer).unwrap();
    assert!(read.header.is_response && read.header.authoritative);
    assert!(read.header.recursion_available && !read.header.truncated);
    let record = |last: u8| Record {
        name: name("web.test"),
        ttl: 1,
        data: Data::A([127, 0, 0, last].into()),
    };
    assert_eq!(read.answers, [record(2), record(3)]);
    let mut writer = Writer::new(read.header, read.question.as_ref(), 512);
    writer.edns(Edns { payload: 1232, version: 0 });
    assert!(read.answers.iter().all(|record| writer.record(Section::Answer, record)));
    assert_eq!(writer.finish(), answer);

    let services = decode(recorded!("_http._tcp.web.test_SRV_answer")).unwrap();
    let srv = |priority, weight, target: &str| {
        Data::Srv(Srv { priority, weight, port: 5000, target: name(target) })
    };
    let data: Vec<Data> = services.answers.into_iter().map(|record| record.data).collect();
    assert_eq!(data, [srv(20, 1, "b.web.test"), srv(10, 3, "a.web.test")]);
    assert_eq!(services.additionals[0].name, name("a.web.test"));
    let alias = decode(recorded!("alias.test_answer")).unwrap();
    assert_eq!(alias.answers[0].data, Data::Cname(name("web.test")));
    assert_eq!(alias.answers[1].name, name("web.test"));
    assert_eq!(decode(recorded!("nothing.test_answer")).unwrap().header.code, code::NAME_ERROR);
    assert_eq!(decode(recorded!("many.test_answer")).unwrap().answers.len(), 60);
}

#[test]
fn what_is_written_is_read() {
    let header = Header {
        id: 7,
        is_response: true,
        opcode: 0,
        authoritative: true,
        truncated: false,
        recursion_desired: true,
        recursion_available: true,
        code: code::BAD_VERSION,
    };
    let question = Question { name: name("_http._tcp.web.test"), kind: kind::SRV, class: CLASS_IN };
    let srv = Srv { priority: 1, weight: 2, port: 3, target: name("a.web.test") };
    let soa = Soa {
        server: name("ns.test"),
        mailbox: name("hostmaster.test"),
        serial: 1,
        refresh: 2,
        retry: 3,
        expire: 4,
        minimum: u32::MAX,
    };
    let record = |text: &str, data| Record { name: name(text), ttl: 60, data };
    let answers =
        [record("_http._tcp.web.test", Data::Srv(srv)), record("x.test", Data::Cname(name("y")))];
    let authorities = [record("test", Data::Soa(Box::new(soa))), record("t", Data::Ns(name(".")))];
    let additionals = [record("a.web.test", Data::Aaaa("::1".parse().unwrap()))];
    let mut writer = Writer::new(header, Some(&question), MESSAGE_BYTES_MAX);
    writer.edns(Edns { payload: 4096, version: 0 });
    let sections = [
        (Section::Answer, &answers[..]),
        (Section::Authority, &authorities[..]),
        (Section::Additional, &additionals[..]),
    ];
    for (section, records) in sections {
        assert!(records.iter().all(|record| writer.record(section, record)));
    }
    assert!(!writer.record(Section::Additional, &record("z", Data::Other(99))));
    let message = writer.finish();
    let expected = Message {
        header,
        question: Some(question),
        answers: answers.into(),
        authorities: authorities.into(),
        additionals: additionals.into(),
        edns: Some(Edns { payload: 4096, version: 0 }),
    };
    assert_eq!(decode(&message), Ok(expected));
    // Cut anywhere, it is refused.
    for length in 0..message.len() {
        assert!(decode(&message[..length]).is_err(), "{length}");
    }
}

#[test]
fn what_does_not_fit_is_left_out_whole() {
    let question = Question { name: name("web.test"), kind: kind::A, class: CLASS_IN };
    let mut writer = Writer::new(Header::default(), Some(&question), UDP_BYTES);
    writer.edns(Edns { payload: 1232, version: 0 });
    let record =
        |n: u8| Record { name: name("web.test"), ttl: 1, data: Data::A([10, 0, 0, n].into()) };
    let written = (0..100).take_while(|n| writer.record(Section::Answer, &record(*n))).count();
    writer.truncate();
    let message = writer.finish();
    assert!(message.len() <= UDP_BYTES && message.len() > UDP_BYTES - 16, "{}", message.len());
    let read = decode(&message).unwrap();
    assert_eq!((read.answers.len(), written), (29, 29));
    assert!(read.header.truncated && read.edns.is_some());
}

#[test]
fn hostile_messages_are_refused() {
    let head = "0001 8180 0001 0001 0000 0000 01 61 00 0001 0001";
    let header = decode(&bytes("0001 8180 0000 0000 0000 0000")).unwrap().header;
    let query = decode(&bytes("0001 0100 0000 0000 0000 0000")).unwrap().header;
    let malformed = Err(Defect::Malformed(header));
    for (what, message, expected) in [
        ("nothing", String::new(), Err(Defect::ShortHeader)),
        ("eleven bytes", "00".repeat(11), Err(Defect::ShortHeader)),
        ("two questions", "0001 0100 0002 0000 0000 0000".into(), Err(Defect::Questions(query))),
        ("too many", "0001 8180 0000 ffff ffff ffff".into(), Err(Defect::TooManyRecords(header))),
        (
            "a pointer to itself",
            "0001 8180 0001 0000 0000 0000 c00c 0001 0001".into(),
            malformed.clone(),
        ),
        (
            "a pointer forward",
            "0001 8180 0001 0000 0000 0000 c00e 01 61 00 0001 0001".into(),
            malformed.clone(),
        ),
        (
            "a pointer into the header",
            "0001 8180 0001 0000 0000 0000 01 61 c005 0001 0001".into(),
            malformed.clone(),
        ),
        (
            "a circle",
            "0001 8180 0001 0000 0000 0000 01 61 c00c 0001 0001".into(),
            malformed.clone(),
        ),
        (
            "a reserved kind of label",
            "0001 8180 0001 0000 0000 0000 41 61 00 0001 0001".into(),
            malformed.clone(),
        ),
        (
            "a name without an end",
            "0001 8180 0001 0000 0000 0000 03 6161".into(),
            malformed.clone(),
        ),
        (
            "five bytes of IPv4",
            format!("{head} c00c 0001 0001 00000001 0005 0102030405"),
            malformed.clone(),
        ),
        (
            "a record beyond the end",
            format!("{head} c00c 0001 0001 00000001 0004 010203"),
            malformed.clone(),
        ),
        (
            "a CNAME beyond its record",
            format!("{head} c00c 0005 0001 00000001 0001 01 62 00"),
            malformed.clone(),
        ),
        (
            "a CNAME short of its record",
            format!("{head} c00c 0005 0001 00000001 0004 01 62 00 00"),
            malformed.clone(),
        ),
    ] {
        assert_eq!(decode(&bytes(&message)), expected, "{what}");
    }
    let opt = "00 0029 1000 0000 0000 0000";
    let twice = format!("0001 8180 0000 0000 0000 0002 {opt} {opt}");
    assert_eq!(decode(&bytes(&twice)), Err(Defect::TwoEdns(header)));
    // Names that double at each step, as far as pointers allow, stay within 255 bytes.
    let long = "3f".to_owned() + &"61".repeat(63);
    let chain = format!("0001 8180 0001 0000 0000 0000 {long}{long}{long}{long} 00 0001 0001");
    assert_eq!(decode(&bytes(&chain)), malformed);
    // Other kinds, classes and lifetimes are passed over.
    let other = "0001 8180 0001 0003 0000 0000 01 61 00 0001 0001
         c00c 0010 0001 00000001 0002 01 61
         c00c 0001 0003 ffffffff 0001 00
         c00c 0001 0001 80000000 0004 01020304";
    let read = decode(&bytes(other)).unwrap();
    let data: Vec<(u32, Data)> = read.answers.into_iter().map(|r| (r.ttl, r.data)).collect();
    let expected = [(1, Data::Other(16)), (0, Data::Other(1)), (0, Data::A([1, 2, 3, 4].into()))];
    assert_eq!(data, expected);
}
