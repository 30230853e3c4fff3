//! What must hold for any bytes whatever, one function per decoder. The fuzz targets call these,
//! and so do the tests beside this folder: over generated messages and over the fuzz corpus.
//!
//! Where a rule would be tested against the code that implements it, there is a second opinion:
//! `httparse` for heads, an encoder for bodies and PROXY headers.
#![allow(dead_code, unused_imports, reason = "each user of this file takes some of it")]

mod http1;

pub(crate) use http1::{chunked, request_head, response_head};
use model::{AgentReply, AgentStanding};
use wire::agent_reply;
use wire::client_hello;
use wire::dns::{self, Data, MESSAGE_BYTES_MAX, Message, Section, Writer};
use wire::grpc_health::{self, ServingStatus};
use wire::lars;
use wire::orca::{self, LoadReport};
use wire::proxy_protocol::{self, Decoded};
use wire::resp;

/// Prefixes up to here are all tried; behind it only some, or long inputs would take their square
/// and the fuzzer would get through few of them.
const PREFIX_BYTES: usize = 48;
const LONG_PREFIXES: usize = 24;

fn prefixes(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let step = data.len() / LONG_PREFIXES + 1;
    let all = 0..data.len().min(PREFIX_BYTES);
    all.chain((PREFIX_BYTES..data.len()).step_by(step)).map(|end| &data[..end])
}

pub(crate) fn proxy_protocol(data: &[u8]) {
    let whole = proxy_protocol::decode(data);
    let longer = [data, b"\r\nGET"].concat();
    match whole {
        Ok(Decoded::Complete { header, len }) => {
            assert!(len <= data.len() && len <= proxy_protocol::HEADER_BYTES_MAX);
            assert_eq!(proxy_protocol::decode(&longer), whole);
            check_encoded(header);
        }
        Ok(Decoded::Partial) => assert!(data.len() < proxy_protocol::HEADER_BYTES_MAX),
        Err(error) => {
            assert!(!error.reason().is_empty());
            assert_eq!(proxy_protocol::decode(&longer), whole);
        }
    }
    for prefix in prefixes(data) {
        let part = proxy_protocol::decode(prefix);
        match whole {
            Ok(Decoded::Complete { len, .. }) if prefix.len() >= len => assert_eq!(part, whole),
            Ok(_) => assert_eq!(part, Ok(Decoded::Partial)),
            Err(_) => assert!(part == Ok(Decoded::Partial) || part == whole),
        }
    }
    // Any two ends of one family are written and read back.
    if let Some((source, rest)) = data.split_first_chunk::<18>()
        && let Some((destination, _)) = rest.split_first_chunk::<18>()
    {
        for is_ipv4 in [true, false] {
            let (source, destination) = (end(source, is_ipv4), end(destination, is_ipv4));
            let addresses = proxy_protocol::Addresses { source, destination };
            check_encoded(proxy_protocol::Header::Proxied(addresses));
        }
    }
}

fn end(bytes: &[u8; 18], is_ipv4: bool) -> std::net::SocketAddr {
    let [a, b, c, d, .., high, low] = *bytes;
    let ipv6: [u8; 16] = *bytes.first_chunk().expect("18 are more than 16");
    let port = u16::from_be_bytes([high, low]);
    if is_ipv4 { ([a, b, c, d], port).into() } else { (ipv6, port).into() }
}

fn check_encoded(header: proxy_protocol::Header) {
    let mut binary = Vec::new();
    proxy_protocol::encode_v2(header, &mut binary);
    let len = binary.len();
    assert_eq!(proxy_protocol::decode(&binary), Ok(Decoded::Complete { header, len }));
    if let proxy_protocol::Header::Proxied(addresses) = header {
        let mut text = Vec::new();
        proxy_protocol::encode_v1(&addresses, &mut text);
        let len = text.len();
        assert_eq!(proxy_protocol::decode(&text), Ok(Decoded::Complete { header, len }));
    }
}

/// Only the first line counts, texts are printable, and amounts have their bounds.
pub(crate) fn agent_reply(data: &[u8]) {
    let reply = agent_reply::decode(data);
    if agent_reply::is_whole(data) {
        assert_eq!(reply, agent_reply::decode(&[data, b" down#later\n"].concat()));
    }
    let Some(AgentReply { standing, percent, utilization }) = reply else { return };
    assert!(percent.is_none_or(|percent| percent <= 25_600));
    if let Some(AgentStanding::Down(text)) = standing {
        // What is no UTF-8 is replaced by three bytes for each.
        assert!(!text.contains(char::is_control) && text.len() <= 3 * agent_reply::REPLY_BYTES_MAX);
    }
    assert!(utilization.is_none_or(|said| said.application.is_none()));
}

/// What a health message says does not change with what is unknown of it, and no other framing of
/// it is taken.
pub(crate) fn grpc_health(data: &[u8]) {
    let said = grpc_health::decode(data);
    let Some(said) = said else { return };
    assert!(data.len() >= 5 && data[0] == 0, "compressed, or cut short");
    let message = &data[5..];
    let framed = |message: &[u8]| {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0][..], &length, message].concat()
    };
    assert_eq!(framed(message), data, "one message, and nothing behind it");
    // An unknown field in front; and the last status wins.
    let unknown = [b"\x7a\x02ab", message].concat();
    assert_eq!(grpc_health::decode(&framed(&unknown)), Some(said));
    let again = [message, b"\x08\x01"].concat();
    assert_eq!(grpc_health::decode(&framed(&again)), Some(ServingStatus::Serving));
    assert_eq!(grpc_health::decode(&[data, b"x"].concat()), None);
    assert_eq!(grpc_health::decode(&data[..data.len() - 1]), None);
    // A name comes back out of what is sent for it.
    if let Ok(name) = std::str::from_utf8(message) {
        let request = grpc_health::encode_request(name);
        assert_eq!(&request[1..5], u32::try_from(request.len() - 5).unwrap().to_be_bytes());
        assert!(request.ends_with(name.as_bytes()));
    }
}

/// Whatever is said is an amount, and says the same in each of the forms.
pub(crate) fn orca(data: &[u8]) {
    let reports = [orca::decode(data), orca::decode_binary(data)];
    for report in reports.into_iter().flatten() {
        let LoadReport { cpu, memory, application, in_flight, latency_ms } = report;
        let unbounded = [cpu, application, in_flight, latency_ms].map(|value| (value, f64::MAX));
        for (value, most) in unbounded.into_iter().chain([(memory, 1.0)]) {
            assert!(value.is_none_or(|value| (0.0..=most).contains(&value)), "{report:?}");
        }
        let fields = [
            ("cpu_utilization", 1, cpu),
            ("mem_utilization", 2, memory),
            ("application_utilization", 9, application),
        ];
        let (mut text, mut json, mut message) = (Vec::new(), Vec::new(), Vec::new());
        for (name, number, value) in fields {
            if let Some(value) = value {
                text.push(format!("{name}={value:e}"));
                json.push(format!("\"{name}\" : {value:e}"));
                message.push(number << 3 | 1);
                message.extend_from_slice(&value.to_le_bytes());
            }
        }
        let mut metrics = Vec::new();
        for (name, value) in [("rif", in_flight), ("latency_ms", latency_ms)] {
            if let Some(value) = value {
                text.push(format!("named_metrics.{name}={value:e}"));
                metrics.push(format!("\"{name}\":{value:e}"));
                let len = name.len() as u8;
                message.extend_from_slice(&[8 << 3 | 2, len + 11, 0x0a, len]);
                message.extend_from_slice(name.as_bytes());
                message.push(0x11);
                message.extend_from_slice(&value.to_le_bytes());
            }
        }
        json.push(format!("\"namedMetrics\":{{{}}}", metrics.join(",")));
        let text = format!("TEXT {}", text.join(","));
        let json = format!("JSON {{{}}}", json.join(","));
        let binary = format!("BIN {}", base64(&message));
        for form in [text, json, binary] {
            assert_eq!(orca::decode(form.as_bytes()), Some(report), "{form}");
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let bits = part.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - part.len()));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= part.len() { digit.into() } else { '=' });
        }
    }
    text
}

/// What is read of a frame is read again from its copy, and nothing behind the frame counts.
pub(crate) fn lars(data: &[u8]) {
    use lars::{BODY_BYTES_MAX, Decoded, HEADER_BYTES, Message, decode, encode};
    let whole = decode(data);
    let longer = [data, &[0xff; 9]].concat();
    match &whole {
        Ok(Decoded::Complete { message, len }) => {
            assert!(*len <= data.len() && *len <= HEADER_BYTES + BODY_BYTES_MAX);
            assert_eq!(decode(&longer), whole);
            let mut copy = Vec::new();
            encode(message, &mut copy);
            assert!(copy.len() <= HEADER_BYTES + BODY_BYTES_MAX);
            let is_cut = match message {
                Message::GetRouteResponse(_, hosts) | Message::ApiGetRouteResponse(_, hosts) => {
                    hosts.len() > lars::HOSTS_MAX
                }
                Message::ReportStatusRequest { results, .. } => results.len() > 1000,
                _ => false,
            };
            if !is_cut {
                let again = Decoded::Complete { message: message.clone(), len: copy.len() };
                assert_eq!(decode(&copy), Ok(again));
            }
        }
        Ok(Decoded::Partial) => assert!(data.len() < HEADER_BYTES + BODY_BYTES_MAX),
        Err(error) => {
            assert!(!error.reason().is_empty());
            assert_eq!(decode(&longer), whole);
        }
    }
    for prefix in prefixes(data) {
        let part = decode(prefix);
        match &whole {
            Ok(Decoded::Complete { len, .. }) if prefix.len() >= *len => assert_eq!(part, whole),
            Ok(_) => assert_eq!(part, Ok(Decoded::Partial)),
            Err(_) => assert!(part == Ok(Decoded::Partial) || part == whole),
        }
    }
}

pub(crate) fn client_hello(data: &[u8]) {
    use client_hello::{Decoded, decode};
    let whole = decode(data);
    let longer = [data, b"\x17\x03\x03"].concat();
    match &whole {
        Ok(Decoded::Complete(hello)) => {
            assert_eq!(decode(&longer), whole);
            assert!(hello.server_name.len() <= 255 && hello.server_name.is_ascii());
            for protocol in hello.protocols() {
                assert!(!protocol.is_empty() && hello.offers(protocol));
            }
            // However it is cut into records.
            for size in [1, 3, 1000] {
                let cut = cut_records(data, size);
                if cut.len() < client_hello::INPUT_BYTES_MAX {
                    assert_eq!(decode(&cut), whole);
                }
            }
        }
        Ok(Decoded::Partial) => assert!(data.len() < client_hello::INPUT_BYTES_MAX),
        Err(error) => {
            assert!(!error.reason().is_empty());
            assert_eq!(decode(&longer), whole);
        }
    }
    for prefix in prefixes(data) {
        let part = decode(prefix);
        match &whole {
            Ok(Decoded::Partial) => assert_eq!(part, Ok(Decoded::Partial)),
            _ => assert!(part == Ok(Decoded::Partial) || part == whole),
        }
    }
}

/// The content of all whole records, in records of `size` bytes.
fn cut_records(mut data: &[u8], size: usize) -> Vec<u8> {
    let mut content = Vec::new();
    while let Some((header, rest)) = data.split_at_checked(5) {
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        let Some((record, rest)) = rest.split_at_checked(length).filter(|_| header[0] == 22) else {
            // The message ended before; or it was complete within a part of this record.
            content.extend_from_slice(rest);
            break;
        };
        content.extend_from_slice(record);
        data = rest;
    }
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&[22, 3, 1][..], &length, part].concat()
    };
    content.chunks(size).flat_map(record).collect()
}

pub(crate) fn resp(data: &[u8]) {
    let whole = resp::decode(data);
    if let Ok(Some((reply, used))) = &whole {
        assert!(*used <= data.len());
        if let resp::Reply::Text(Some(text)) = reply {
            assert!(text.len() <= resp::TEXT_BYTES_MAX);
        }
        assert_eq!(resp::decode(&data[..*used]), whole, "it is all there");
    }
    if !matches!(whole, Ok(None)) {
        let longer = [data, b"+OK\r\n"].concat();
        assert_eq!(resp::decode(&longer), whole, "what follows counts for nothing");
    }
    for prefix in prefixes(data) {
        match resp::decode(prefix) {
            Ok(None) => {}
            part => assert_eq!(part, whole, "a part says another thing"),
        }
    }
}

/// A message of the DNS that is understood is understood the same when it is written anew.
pub(crate) fn dns_message(data: &[u8]) {
    let whole = dns::decode(data);
    for prefix in prefixes(data) {
        if let (Ok(part), Ok(whole)) = (dns::decode(prefix), &whole) {
            assert_eq!(part, *whole, "bytes after the last record count");
        }
    }
    let Ok(mut message) = whole else { return };
    assert!(message.edns.is_some() || message.header.code <= 15);
    let Message { header, question, answers, authorities, additionals, edns } = &mut message;
    let mut writer = Writer::new(*header, question.as_ref(), MESSAGE_BYTES_MAX);
    if let Some(edns) = *edns {
        writer.edns(edns);
    }
    let sections = [
        (Section::Answer, answers),
        (Section::Authority, authorities),
        (Section::Additional, additionals),
    ];
    for (section, records) in sections {
        records.retain(|record| !matches!(record.data, Data::Other(_)));
        if !records.iter().all(|record| writer.record(section, record)) {
            return; // names that were compressed far behind the first 16 KiB
        }
    }
    assert_eq!(dns::decode(&writer.finish()), Ok(message));
}
