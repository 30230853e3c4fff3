//! gRPC-Web by hand, as browsers send it, to a server of gRPC.

use super::*;
use crate::e2e::harness::Client;

const SERVICE: &str = "protocol: h2c\ngrpc_web: true";

/// A message in gRPC's framing.
fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[0][..], &length, bytes].concat()
}

/// The frames of a body, each with its flag.
fn frames(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while !body.is_empty() {
        let length = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
        frames.push((body[0], body[5..5 + length].to_vec()));
        body = &body[5 + length..];
    }
    frames
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for digit in 0..4 {
            text.push(match digit <= three.len() {
                true => DIGITS[(bits >> (18 - 6 * digit)) as usize & 63],
                false => b'=',
            });
        }
    }
    text
}

/// Of segments that are padded each by itself.
fn unbase64(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for quad in text.chunks(4) {
        let known = quad.iter().filter_map(|d| DIGITS.iter().position(|known| known == d));
        let digits: Vec<u32> = known.map(|digit| u32::try_from(digit).unwrap()).collect();
        let bits =
            digits.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - digits.len()));
        let three = [(bits >> 16) as u8, (bits >> 8) as u8, bits as u8];
        bytes.extend_from_slice(&three[..digits.len() - 1]);
    }
    bytes
}

fn ask(web: &Web, path: &str, form: &str, more: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut client = Client::connect(web.address);
    let length = body.len();
    client
        .send(format!(
            "POST /test.Echo/{path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/{form}\r\n\
             X-Grpc-Web: 1\r\n{more}Content-Length: {length}\r\n\r\n"
        ))
        .unwrap();
    client.send(body).unwrap();
    let answer = client.response().unwrap();
    assert_eq!(answer.status, 200);
    let head = format!(
        "{} {}",
        answer.header("content-type").unwrap_or_default(),
        answer.header("grpc-status").unwrap_or("-")
    );
    (head, answer.body)
}

#[test]
fn messages_and_trailers_in_both_forms() {
    let Some(one) = Server::start("one") else { return };
    let web = Web::before(&[one.address], "", SERVICE);
    for size in [0, 1, 5, 20_000, 300_000] {
        let sent = vec![b'y'; size];
        let expected = [b"one:", &sent[..]].concat();
        for form in ["grpc-web+proto", "grpc-web-text+proto"] {
            let is_text = form.contains("text");
            let body = message(&sent);
            let body = if is_text { base64(&body) } else { body };
            let (head, body) = ask(&web, "Unary", form, "", &body);
            let name = if is_text { "application/grpc-web-text" } else { "application/grpc-web" };
            assert!(head.starts_with(name) && head.ends_with(" -"), "{head}");
            let frames = frames(&if is_text { unbase64(&body) } else { body });
            assert_eq!(frames.len(), 2, "{size} {form}");
            assert!(frames[0] == (0, expected.clone()), "{size} {form}");
            let trailers = String::from_utf8(frames[1].1.clone()).unwrap();
            assert_eq!(frames[1].0, 0x80);
            assert!(trailers.contains("grpc-status: 0\r\n"), "{trailers}");
            assert!(trailers.contains("replica: one\r\n"), "{trailers}");
        }
    }
    // Many messages.
    let (_, body) = ask(&web, "ServerStream", "grpc-web-text", "", &base64(&message(b"100")));
    assert_eq!(frames(&unbase64(&body)).len(), 101);
}

#[test]
fn text_that_is_padded_in_its_midst() {
    let Some(one) = Server::start("one") else { return };
    let web = Web::before(&[one.address], "", SERVICE);
    let body = [base64(&message(b"a")), base64(&message(b"bc"))].concat();
    let (_, answer) = ask(&web, "ClientStream", "grpc-web-text", "", &body);
    assert_eq!(frames(&unbase64(&answer))[0], (0, b"3".to_vec()));
}

#[test]
fn errors_before_and_after_messages() {
    let Some(one) = Server::start("one") else { return };
    let web = Web::before(&[one.address], "", SERVICE);
    let (head, body) = ask(&web, "Unary", "grpc-web", "fail: 5\r\n", &message(b"x"));
    assert_eq!((&head[..], body.len()), ("application/grpc-web 5", 0));
    let (_, body) = ask(&web, "ServerStream", "grpc-web", "late: 9\r\n", &message(b"2"));
    let frames = frames(&body);
    let trailers = String::from_utf8(frames[2].1.clone()).unwrap();
    assert!(frames.len() == 3 && trailers.contains("grpc-status: 9\r\n"), "{trailers}");
    // Ours.
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let web = Web::before(&[nobody], "", SERVICE);
    let (head, _) = ask(&web, "Unary", "grpc-web", "", &message(b"x"));
    assert_eq!(head, "application/grpc-web 14");
}

#[test]
fn without_the_key_nothing_is_translated() {
    let Some(one) = Server::start("one") else { return };
    let web = Web::before(&[one.address], "", "protocol: h2c");
    let mut client = Client::connect(web.address);
    client
        .send("POST /test.Echo/Unary HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    // The server knows no gRPC-Web, and says so in its way.
    let answer = client.response().unwrap();
    assert!(answer.status != 200 || answer.header("grpc-status") != Some("0"), "{}", answer.status);
}
