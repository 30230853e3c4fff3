//! Requests that two programs could read in two ways: refused, and nothing of them passed on. Those
//! that pass reach the replica in the one reading that is left.
//!
//! RFC 9112 section 11.2: "Request smuggling is a technique that exploits differences in protocol
//! parsing among various recipients to hide additional requests".

use std::io::Read;
use std::sync::{Arc, Mutex};

use super::harness::{Client, Replica, Seen, Web, until};

/// The statuses that will do, what the RFC says, and the bytes.
type Attack = (&'static [u16], &'static str, Vec<u8>);

/// What an attacker hopes that somebody takes for a request of its own.
const HIDDEN: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: attack\r\n\r\n";

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Attacks on the request line, and on the protocol as such.
fn request_lines() -> Vec<Attack> {
    let lines: &[(&[u16], &str, &[u8])] = &[
        (&[400], "9112 2.2: a bare LF before the request line", b"\nGET /attack HTTP/1.1\r\n"),
        (&[400], "9112 2.2: a bare CR before the request line", b"\rGET /attack HTTP/1.1\r\n"),
        (&[400], "9112 2.2: two empty lines before it", b"\r\n\r\nGET /attack HTTP/1.1\r\n"),
        (&[400], "9112 2.2: whitespace before it", b" GET /attack HTTP/1.1\r\n"),
        (&[400], "9112 2.2: LF alone ends the request line", b"GET /attack HTTP/1.1\n"),
        (&[400], "9112 2.2: CR alone ends the request line", b"GET /attack HTTP/1.1\r"),
        (&[400], "9112 2.2: CR CR LF ends the request line", b"GET /attack HTTP/1.1\r\r\n"),
        (&[400], "9112 3: a tab between method and target", b"GET\t/attack HTTP/1.1\r\n"),
        (&[400], "9112 3: two spaces before the target", b"GET  /attack HTTP/1.1\r\n"),
        (&[400], "9112 3: two spaces after the target", b"GET /attack  HTTP/1.1\r\n"),
        (&[400], "9112 3: a space after the version", b"GET /attack HTTP/1.1 \r\n"),
        (&[400], "9112 3: a vertical tab in the line", b"GET /attack\x0bHTTP/1.1\r\n"),
        (&[400], "9112 3: a form feed in the line", b"GET /attack\x0cHTTP/1.1\r\n"),
        (&[400], "9112 3.1: method with NUL", b"G\0T /attack HTTP/1.1\r\n"),
        (&[400], "9112 3.1: method with bytes beyond ASCII", b"G\xc9T /attack HTTP/1.1\r\n"),
        (&[400], "9112 3.1: method in quotes", b"\"GET\" /attack HTTP/1.1\r\n"),
        (&[400], "9112 3.1: method with a colon", b"GET: /attack HTTP/1.1\r\n"),
        (&[400], "9112 3.1: no method", b"/attack HTTP/1.1\r\n"),
        (
            &[501, 400],
            "9112 3: a method longer than any",
            b"GETGETGETGETGETGETGETGETGETGETGETGETGET /attack HTTP/1.1\r\n",
        ),
        (&[400], "9112 3.2: a space in the target", b"GET /attack b HTTP/1.1\r\n"),
        (
            &[400],
            "9112 3.2: a target that splits the line",
            b"GET /attack HTTP/1.1 /b HTTP/1.1\r\n",
        ),
        (&[400], "9112 3.2: NUL in the target", b"GET /attack\0 HTTP/1.1\r\n"),
        (&[400], "9112 3.2: a control byte in the target", b"GET /att\x01ack HTTP/1.1\r\n"),
        (&[400], "9112 3.2: DEL in the target", b"GET /attack\x7f HTTP/1.1\r\n"),
        (&[400], "3986 2.1: raw UTF-8 in the target", b"GET /attack/\xc3\xa9 HTTP/1.1\r\n"),
        (&[400], "3986 2.1: a byte that is not even UTF-8", b"GET /attack\xff HTTP/1.1\r\n"),
        (&[400], "9112 3.2.1: a fragment", b"GET /attack#part HTTP/1.1\r\n"),
        (&[400], "9112 3.2: a target in none of the forms", b"GET attack HTTP/1.1\r\n"),
        (&[400], "9112 3.2: a query alone", b"GET ?attack HTTP/1.1\r\n"),
        (&[400], "9112 3.2.3: authority form without CONNECT", b"GET attack:80 HTTP/1.1\r\n"),
        (&[400], "9112 3.2.4: asterisk form without OPTIONS", b"GET * HTTP/1.1\r\n"),
        (&[400], "9112 3.2.2: a scheme that is not HTTP", b"GET ftp://attack/ HTTP/1.1\r\n"),
        (&[400], "9112 3.2.2: a file", b"GET file:///etc/attack HTTP/1.1\r\n"),
        (&[400], "9110 4.2.1: an empty host", b"GET http:///attack HTTP/1.1\r\n"),
        (&[400], "9110 4.2.4: user information", b"GET http://u:p@attack/ HTTP/1.1\r\n"),
        (
            &[400],
            "9112 3.2.2: another authority than Host's",
            b"GET http://other/attack HTTP/1.1\r\n",
        ),
        (&[400], "9112 3.2.2: another port than Host's", b"GET http://attack:81/ HTTP/1.1\r\n"),
        (&[400], "9112 3.2: a path above the root", b"GET /../attack HTTP/1.1\r\n"),
        (&[400], "3986 6.2.2.2: the same, encoded", b"GET /%2e%2E/attack HTTP/1.1\r\n"),
        (&[400], "9112 2.3: HTTP/0.9 without a version", b"GET /attack\r\n"),
        (&[400], "9112 2.3: a space and no version", b"GET /attack \r\n"),
        (&[505], "9112 2.3: HTTP/0.9 by name", b"GET /attack HTTP/0.9\r\n"),
        (&[400], "9112 2.3: the name in small letters", b"GET /attack http/1.1\r\n"),
        (&[400], "9112 2.3: two digits", b"GET /attack HTTP/1.10\r\n"),
        (&[400], "9112 2.3: no dot", b"GET /attack HTTP/11\r\n"),
        (&[400], "9112 2.3: a sign", b"GET /attack HTTP/+1.1\r\n"),
        (&[400], "9112 2.3: letters", b"GET /attack HTTP/1.x\r\n"),
        (&[400], "9112 2.3: another protocol", b"GET /attack ICY/1.1\r\n"),
        (&[505], "9112 2.3: a minor version to come", b"GET /attack HTTP/1.9\r\n"),
        (&[505], "9112 2.3: HTTP/2 in the line", b"GET /attack HTTP/2.0\r\n"),
        (&[505], "9112 2.3: HTTP/3 in the line", b"GET /attack HTTP/3.0\r\n"),
        (&[400], "9110 9.3.6: CONNECT to a path", b"CONNECT /attack HTTP/1.1\r\n"),
        (&[400], "9110 9.3.6: CONNECT without a port", b"CONNECT attack HTTP/1.1\r\n"),
        (&[405], "9110 9.3.6: CONNECT, which is for proxies", b"CONNECT attack:80 HTTP/1.1\r\n"),
    ];
    let mut attacks = Vec::new();
    for (status, rfc, line) in lines {
        attacks.push((*status, *rfc, join(&[line, b"Host: attack\r\n\r\n", HIDDEN])));
    }
    let long = [b"GET /attack".as_slice(), &b"a".repeat(9000), b" HTTP/1.1\r\n"].concat();
    attacks.push((&[414], "9112 3: a target beyond the limit", join(&[&long, b"\r\n", HIDDEN])));
    attacks.push((
        &[505],
        "9113 3.4: something like the preface of HTTP/2",
        join(&[b"PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0attack"]),
    ));
    attacks.push((
        &[400],
        "8446 4.1.2: a TLS ClientHello",
        join(&[b"\x16\x03\x01\x00\x2e\x01\x00\x00\x2a\x03\x03attackattackattack", &[7; 32]]),
    ));
    attacks.push((
        &[400],
        "PROXY protocol 2.1: a header where none is expected",
        join(&[b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n", HIDDEN]),
    ));
    attacks.push((
        &[400],
        "PROXY protocol 2.2: the same in binary",
        join(&[
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x50\0\x50",
            HIDDEN,
        ]),
    ));
    attacks
}

/// Attacks on header fields, framing by them, and hosts. Each follows `POST /attack HTTP/1.1` and a
/// good Host.
fn fields() -> Vec<Attack> {
    let fields: &[(&[u16], &str, &[u8])] = &[
        // Line ends and folds.
        (&[400], "9112 2.2: LF alone ends a field", b"X-Attack: a\nContent-Length: 5\r\n"),
        (&[400], "9112 2.2: CR alone ends a field", b"X-Attack: a\rContent-Length: 5\r\n"),
        (&[400], "9112 2.2: CR CR LF ends a field", b"X-Attack: a\r\r\n"),
        (&[400], "9112 2.2: LF LF ends the head", b"X-Attack: a\n\n"),
        (&[400], "9112 2.2: LF CR", b"X-Attack: a\n\rContent-Length: 5\r\n"),
        (&[400], "9112 5.2: obs-fold by a space", b"X-Attack: a\r\n b\r\n"),
        (&[400], "9112 5.2: obs-fold by a tab", b"X-Attack: a\r\n\tb\r\n"),
        (&[400], "9112 5.2: a folded coding", b"Transfer-Encoding:\r\n chunked\r\n"),
        (&[400], "9112 5.2: a folded length", b"Content-Length:\r\n 5\r\n"),
        (&[400], "9112 2.2: a fold that is a whole line", b"X-Attack: a\r\n \r\n"),
        // Names.
        (&[400], "9112 5.1: a space before the colon", b"X-Attack : a\r\n"),
        (&[400], "9112 5.1: a tab before the colon", b"X-Attack\t: a\r\n"),
        (&[400], "9112 5.1: the same in a length", b"Content-Length : 5\r\n"),
        (&[400], "9112 5.1: the same in a coding", b"Transfer-Encoding : chunked\r\n"),
        (
            &[400],
            "9112 5.1: the same next to a length",
            b"Content-Length: 5\r\nTransfer-Encoding : chunked\r\n",
        ),
        (&[400], "9110 5.1: an empty name", b": attack\r\n"),
        (&[400], "9110 5.1: a line without a colon", b"X-Attack\r\n"),
        (&[400], "9110 5.1: a request line among the fields", b"GET /smuggled HTTP/1.1\r\n"),
        (&[400], "9110 5.6.2: NUL in a name", b"X-Att\0ack: a\r\n"),
        (&[400], "9110 5.6.2: NUL after a name", b"Transfer-Encoding\0: chunked\r\n"),
        (&[400], "9110 5.6.2: a vertical tab before a name", b"\x0bTransfer-Encoding: chunked\r\n"),
        (
            &[400],
            "9110 5.6.2: a no-break space after a name",
            b"Transfer-Encoding\xa0: chunked\r\n",
        ),
        (&[400], "9110 5.6.2: brackets in a name", b"X[Attack]: a\r\n"),
        (&[400], "9110 5.6.2: UTF-8 in a name", b"X-Att\xc3\xa4ck: a\r\n"),
        // Values.
        (&[400], "9110 5.5: NUL in a value", b"X-Attack: a\0b\r\n"),
        (&[400], "9110 5.5: a control byte in a value", b"X-Attack: a\x01b\r\n"),
        (&[400], "9110 5.5: ESC in a value", b"X-Attack: \x1b[2J\r\n"),
        (&[400], "9110 5.5: DEL in a value", b"X-Attack: a\x7f\r\n"),
        (&[400], "9110 5.5: a vertical tab before a coding", b"Transfer-Encoding: \x0bchunked\r\n"),
        (&[400], "9110 5.5: a form feed after a coding", b"Transfer-Encoding: chunked\x0c\r\n"),
        // Content-Length.
        (
            &[400],
            "9112 6.3: two lengths that differ",
            b"Content-Length: 5\r\nContent-Length: 6\r\n",
        ),
        (&[400], "9112 6.3: two that do not", b"Content-Length: 5\r\nContent-Length: 5\r\n"),
        (
            &[400],
            "9112 6.3: the second in another case",
            b"Content-Length: 0\r\nX: y\r\ncONTENT-lENGTH: 44\r\n",
        ),
        (&[400], "9110 8.6: a list of equal lengths", b"Content-Length: 5, 5\r\n"),
        (&[400], "9110 8.6: a list of others", b"Content-Length: 0,44\r\n"),
        (&[400], "9110 8.6: an empty length", b"Content-Length:\r\n"),
        (&[400], "9110 8.6: a plus sign", b"Content-Length: +5\r\n"),
        (&[400], "9110 8.6: a minus sign", b"Content-Length: -5\r\n"),
        (&[400], "9110 8.6: minus nothing", b"Content-Length: -0\r\n"),
        (&[400], "9110 8.6: hexadecimal", b"Content-Length: 0x5\r\n"),
        (&[400], "9110 8.6: hexadecimal without its mark", b"Content-Length: a\r\n"),
        (&[400], "9110 8.6: a fraction", b"Content-Length: 5.0\r\n"),
        (&[400], "9110 8.6: an exponent", b"Content-Length: 5e0\r\n"),
        (&[400], "9110 8.6: an underscore", b"Content-Length: 4_4\r\n"),
        (&[400], "9110 8.6: a space within", b"Content-Length: 4 4\r\n"),
        (&[400], "9110 8.6: a tab within", b"Content-Length: 4\t4\r\n"),
        (&[400], "9110 8.6: a quoted length", b"Content-Length: \"5\"\r\n"),
        (&[400], "9110 8.6: a parameter", b"Content-Length: 5;a=b\r\n"),
        (&[400], "9110 8.6: digits of another script", b"Content-Length: \xd9\xa5\r\n"),
        (&[400], "9110 8.6: 2^64", b"Content-Length: 18446744073709551616\r\n"),
        (
            &[400],
            "9110 8.6: 2^64 + 5, which wraps to 5",
            b"Content-Length: 18446744073709551621\r\n",
        ),
        (
            &[400],
            "9110 8.6: far more digits",
            b"Content-Length: 99999999999999999999999999999999999999\r\n",
        ),
        // Transfer-Encoding beside Content-Length.
        (&[400], "9112 6.1: CL.TE", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        (&[400], "9112 6.1: TE.CL", b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        (
            &[400],
            "9112 6.1: with a length of 0",
            b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        ),
        (&[400], "9112 6.1: in capitals", b"CONTENT-LENGTH: 5\r\nTRANSFER-ENCODING: CHUNKED\r\n"),
        (
            &[400],
            "9112 6.1: with a coding that is none",
            b"Content-Length: 5\r\nTransfer-Encoding: identity\r\n",
        ),
        (&[400], "9112 6.1: with an empty coding", b"Content-Length: 5\r\nTransfer-Encoding:\r\n"),
        // Transfer-Encoding obfuscated.
        (
            &[400],
            "9112 6.1: TE.TE, chunked twice",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ),
        (&[400], "9112 6.1: twice in one line", b"Transfer-Encoding: chunked, chunked\r\n"),
        (
            &[400],
            "9112 6.3: TE.TE, the last unknown",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n",
        ),
        (
            &[400, 501],
            "9112 6.3: TE.TE, the first unknown",
            b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n",
        ),
        (&[400], "9112 6.3: chunked not last", b"Transfer-Encoding: chunked, identity\r\n"),
        (&[400], "9112 6.3: no chunked at all", b"Transfer-Encoding: gzip\r\n"),
        (&[400], "9112 6.3: the coding that HTTP/1.1 dropped", b"Transfer-Encoding: identity\r\n"),
        (&[501], "9112 6.1: a coding that we do not know", b"Transfer-Encoding: gzip, chunked\r\n"),
        (&[400], "9112 6.1: nearly chunked", b"Transfer-Encoding: xchunked\r\n"),
        (&[400], "9112 6.1: chunked and a letter", b"Transfer-Encoding: chunkedx\r\n"),
        (&[400], "9112 6.1: quoted", b"Transfer-Encoding: \"chunked\"\r\n"),
        (&[400], "9112 6.1: single quotes", b"Transfer-Encoding: 'chunked'\r\n"),
        (&[400], "9112 7.1: with a parameter", b"Transfer-Encoding: chunked;q=1\r\n"),
        (&[400], "9110 5.6.1: an empty element first", b"Transfer-Encoding: ,chunked\r\n"),
        (&[400], "9110 5.6.1: an empty element last", b"Transfer-Encoding: chunked,\r\n"),
        (&[400], "9112 6.1: two words", b"Transfer-Encoding: chunked gzip\r\n"),
        (&[400], "9112 6.1: a bare LF hides it", b"X-Attack: a\nTransfer-Encoding: chunked\r\n"),
        (&[400], "9112 6.1: a bare CR hides it", b"X-Attack: a\rTransfer-Encoding: chunked\r\n"),
        // Fields that Connection would take away.
        (
            &[400],
            "9110 7.6.1: Connection names the length",
            b"Connection: Content-Length\r\nContent-Length: 5\r\n",
        ),
        (&[400], "9110 7.6.1: Connection names the host", b"Connection: close, host\r\n"),
        // Hosts.
        (&[400], "9112 3.2: two Hosts", b"Host: other\r\n"),
        (&[400], "9112 3.2: the same Host twice", b"hOST: attack\r\n"),
    ];
    let mut attacks = Vec::new();
    for (status, rfc, field) in fields {
        let start = b"POST /attack HTTP/1.1\r\nHost: attack\r\n";
        attacks.push((*status, *rfc, join(&[start, field, b"\r\n0\r\n\r\n", HIDDEN])));
    }
    let heads: &[(&[u16], &str, &[u8])] = &[
        (&[400], "9112 3.2: no Host", b"GET /attack HTTP/1.1\r\n"),
        (&[400], "9112 3.2: no Host beside an absolute target", b"GET http://attack/ HTTP/1.1\r\n"),
        (&[400], "9112 3.2: an empty Host", b"GET /attack HTTP/1.1\r\nHost:\r\n"),
        (
            &[400],
            "9112 3.2: a space before its colon",
            b"GET /attack HTTP/1.1\r\nHost : attack\r\n",
        ),
        (&[400], "9112 3.2: a Host before a fold", b"GET /attack HTTP/1.1\r\n Host: attack\r\n"),
        (&[400], "9110 7.2: a list of hosts", b"GET /attack HTTP/1.1\r\nHost: attack, other\r\n"),
        (&[400], "9110 7.2: two words", b"GET /attack HTTP/1.1\r\nHost: attack other\r\n"),
        (&[400], "9110 4.2.4: user information", b"GET /attack HTTP/1.1\r\nHost: user@attack\r\n"),
        (&[400], "9110 7.2: a path", b"GET /attack HTTP/1.1\r\nHost: attack/b\r\n"),
        (&[400], "9110 7.2: a scheme", b"GET /attack HTTP/1.1\r\nHost: http://attack\r\n"),
        (&[400], "9110 7.2: a query", b"GET /attack HTTP/1.1\r\nHost: attack?b\r\n"),
        (&[400], "9110 7.2: percent-encoding", b"GET /attack HTTP/1.1\r\nHost: att%61ck\r\n"),
        (&[400], "9110 7.2: a port of letters", b"GET /attack HTTP/1.1\r\nHost: attack:http\r\n"),
        (
            &[400],
            "9110 7.2: a port beyond 65535",
            b"GET /attack HTTP/1.1\r\nHost: attack:65536\r\n",
        ),
        (&[400], "9110 7.2: two ports", b"GET /attack HTTP/1.1\r\nHost: attack:80:81\r\n"),
        (&[400], "3986 3.2.2: an open bracket", b"GET /attack HTTP/1.1\r\nHost: [::1\r\n"),
        (
            &[400],
            "3986 3.2.2: no address in brackets",
            b"GET /attack HTTP/1.1\r\nHost: [attack]\r\n",
        ),
        (
            &[400],
            "9110 7.2: bytes beyond ASCII",
            b"GET /attack HTTP/1.1\r\nHost: att\xc3\xa4ck\r\n",
        ),
        (
            &[400],
            "9112 6.1: chunked in HTTP/1.0",
            b"POST /attack HTTP/1.0\r\nHost: attack\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            &[400],
            "9110 9.3.6: CONNECT with content",
            b"CONNECT attack:80 HTTP/1.1\r\nHost: attack:80\r\nContent-Length: 44\r\n",
        ),
    ];
    for (status, rfc, head) in heads {
        attacks.push((*status, *rfc, join(&[head, b"\r\n", HIDDEN])));
    }
    attacks
}

/// Attacks by the framing of a chunked body.
fn bodies() -> Vec<Attack> {
    let bodies: &[(&str, &[u8])] = &[
        ("9112 7.1: a size that is none", b"x\r\nhello\r\n0\r\n\r\n"),
        ("9112 7.1: an empty size", b"\r\nhello\r\n0\r\n\r\n"),
        ("9112 7.1: a plus sign", b"+5\r\nhello\r\n0\r\n\r\n"),
        ("9112 7.1: a minus sign", b"-5\r\nhello\r\n0\r\n\r\n"),
        ("9112 7.1: minus nothing", b"-0\r\n\r\n"),
        ("9112 7.1: the mark of hexadecimal", b"0x5\r\nhello\r\n0\r\n\r\n"),
        ("9112 7.1: an underscore", b"0_5\r\nhello\r\n0\r\n\r\n"),
        ("9112 7.1: a space before the size", b" 5\r\nhello\r\n0\r\n\r\n"),
        ("9112 7.1: a space after it", b"5 \r\nhello\r\n0\r\n\r\n"),
        ("9112 7.1: a tab after it", b"5\t\r\nhello\r\n0\r\n\r\n"),
        ("9112 7.1: NUL after it", b"5\0\r\nhello\r\n0\r\n\r\n"),
        ("9112 7.1: LF alone after it", b"5\nhello\r\n0\r\n\r\n"),
        ("9112 7.1: CR alone after it", b"5\rhello\r\n0\r\n\r\n"),
        ("9112 7.1: 2^64", b"10000000000000000\r\nhello\r\n0\r\n\r\n"),
        ("9112 7.1: 2^64 + 5, which wraps to 5", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("9112 7.1: a size of many zeros", b"00000000000000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("9112 7.1: data that is longer than said", b"4\r\nhello\r\n0\r\n\r\n"),
        ("9112 7.1: data that is shorter than said", b"6\r\nhello\r\n0\r\n\r\n"),
        ("9112 7.1: LF alone after the data", b"5\r\nhello\n0\r\n\r\n"),
        ("9112 7.1: CR alone after the data", b"5\r\nhello\r0\r\n\r\n"),
        ("9112 7.1: nothing after the data", b"5\r\nhello0\r\n\r\n"),
        ("9112 7.1: LF alone after the last size", b"0\n\r\n"),
        ("9112 7.1: LF alone at the end", b"0\r\n\n"),
        ("9112 7.1: CR alone at the end", b"0\r\n\rX"),
        ("9112 7.1.1: an extension without a name", b"5;\r\nhello\r\n0\r\n\r\n"),
        ("9112 7.1.1: LF in an extension", b"5;a\nhello\r\n0\r\n\r\n"),
        ("9112 7.1.1: CR in an extension", b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("9112 7.1.1: NUL in an extension", b"5;a=\0\r\nhello\r\n0\r\n\r\n"),
        ("9112 7.1.1: a line end in a quoted value", b"5;a=\"\r\nhello\r\n0\r\n\r\n\"\r\n"),
        ("9112 7.1.1: spaces around the semicolon", b"5 ; a=b\r\nhello\r\n0\r\n\r\n"),
        ("9112 7.1.2: a trailer that frames", b"0\r\nContent-Length: 44\r\n\r\n"),
        ("9112 7.1.2: a trailer that encodes", b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("9110 6.5.1: a trailer that routes", b"0\r\nHost: other\r\n\r\n"),
        ("9110 6.5.1: a trailer that authenticates", b"0\r\nAuthorization: attack\r\n\r\n"),
        ("9110 6.5.1: a trailer about the client", b"0\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"),
        ("9110 6.5.1: a trailer about the connection", b"0\r\nConnection: keep-alive\r\n\r\n"),
        ("9112 5.1: a space before a trailer's colon", b"0\r\nX-Attack : a\r\n\r\n"),
        ("9112 5.2: a folded trailer", b"0\r\nX-Attack: a\r\n b\r\n\r\n"),
        ("9112 2.2: LF alone after a trailer", b"0\r\nX-Attack: a\n\r\n"),
        ("9110 5.5: NUL in a trailer", b"0\r\nX-Attack: \0\r\n\r\n"),
        ("9112 7.1.2: a request in the trailers", b"0\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
    ];
    let mut attacks: Vec<Attack> = Vec::new();
    for (rfc, body) in bodies {
        attacks.push((&[400], rfc, join(&[body, HIDDEN])));
    }
    let extension = [b"5;a=".as_slice(), &b"b".repeat(300), b"\r\nhello\r\n0\r\n\r\n"].concat();
    attacks.push((&[400], "9112 7.1.1: an extension beyond the limit", extension));
    let trailers = [b"0\r\n".as_slice(), &b"X-Attack: a\r\n".repeat(80), b"\r\n"].concat();
    attacks.push((&[400], "9110 6.5: trailers beyond the limit", trailers));
    attacks
}

const CHUNKED: &[u8] =
    b"POST /attack HTTP/1.1\r\nHost: attack\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Everything that comes back, to the end.
fn answers(client: &mut Client) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset ends it as well.
    let _ = client.stream.read_to_end(&mut bytes);
    bytes
}

/// One answer with one of the statuses, then the end.
fn check_refused(answer: &[u8], expected: &[u16], what: &str) {
    let text = String::from_utf8_lossy(answer);
    let count = answer.windows(9).filter(|bytes| bytes.starts_with(b"HTTP/1.1 ")).count();
    assert_eq!(count, 1, "{what}: {count} answers: {text}");
    let status = text.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
    assert!(status.is_some_and(|status| expected.contains(&status)), "{what}: {text}");
}

/// The table must keep its point: what is refused is refused for what is wrong with it.
fn check_alive(web: &Web, replica: &Replica) {
    assert_eq!(replica.received(), b"", "something passed");
    assert_eq!(Client::get(web.address, "/well-formed").status, 200);
    let received = replica.received();
    let expected = b"GET /well-formed HTTP/1.1\r\nHost: ";
    assert!(received.starts_with(expected), "{}", received.escape_ascii());
}

#[test]
fn no_ambiguous_request_reaches_a_replica() {
    let replica = Replica::named("a");
    let web = Web::start(&[&replica], "", "health: tcp");
    let mut attacks = [request_lines(), fields()].concat();
    attacks.extend(bodies().into_iter().map(|(s, rfc, body)| (s, rfc, join(&[CHUNKED, &body]))));
    for (expected, rfc, bytes) in &attacks {
        let what = format!("RFC {rfc}: {}", bytes.escape_ascii());
        let mut client = Client::connect(web.address);
        client.send(bytes).unwrap();
        check_refused(&answers(&mut client), expected, &what);
        assert_eq!(replica.received(), b"", "{what}");
    }
    check_alive(&web, &replica);
    eprintln!("{} ambiguous requests: all refused, 0 bytes passed on", attacks.len());
}

/// Where segments end must make no difference.
#[test]
fn no_ambiguous_head_reaches_a_replica_byte_by_byte() {
    let replica = Replica::named("a");
    let web = Web::start(&[&replica], "", "health: tcp");
    let attacks = [request_lines(), fields()].concat();
    for (expected, rfc, bytes) in &attacks {
        let what = format!("RFC {rfc}: {}", bytes.escape_ascii());
        let mut client = Client::connect(web.address);
        for byte in bytes {
            // It may be refused before its end.
            if client.send([*byte]).is_err() {
                break;
            }
        }
        check_refused(&answers(&mut client), expected, &what);
        assert_eq!(replica.received(), b"", "{what}");
    }
    check_alive(&web, &replica);
    eprintln!("{} ambiguous heads byte by byte: all refused, 0 bytes passed on", attacks.len());
}

/// The head is passed on before the body is there. A body that turns out malformed then ends the
/// connection to the replica, which never has a whole message.
#[test]
fn a_body_that_turns_out_malformed_never_completes() {
    let complete: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let ended: Arc<Mutex<usize>> = Arc::default();
    let (seen, ends) = (complete.clone(), ended.clone());
    let replica = Replica::raw(move |connection| {
        while let Some(request) = connection.request() {
            seen.lock().unwrap().push(request);
        }
        *ends.lock().unwrap() += 1;
    });
    let web = Web::start(&[&replica], "", "");
    let attacks = bodies();
    for (count, (_, rfc, body)) in attacks.iter().enumerate() {
        let what = format!("RFC {rfc}: {}", body.escape_ascii());
        let before = replica.received().len();
        let mut client = Client::connect(web.address);
        client.send(CHUNKED).unwrap();
        until("the head at the replica", || replica.received()[before..].ends_with(b"\r\n\r\n"));
        let head = replica.received().len();
        client.send(body).unwrap();
        let answer = answers(&mut client);
        if !answer.is_empty() {
            check_refused(&answer, &[400], &what);
        }
        until("the end at the replica", || *ended.lock().unwrap() == count + 1);
        let received = replica.received();
        let passed = &received[head..];
        assert!(body.starts_with(passed), "{what}: {}", passed.escape_ascii());
        assert!(!passed.windows(9).any(|bytes| bytes == b"/smuggled"), "{what}");
        let complete = complete.lock().unwrap();
        assert!(complete.is_empty(), "{what}: {complete:?}");
    }
    assert_eq!(replica.connections(), attacks.len(), "a connection was used again");
    eprintln!("{} bodies turned out malformed: 0 complete at the replica", attacks.len());
}

/// A body that is shorter than its length is not taken from what another client sends.
#[test]
fn a_short_body_is_not_filled_up_by_another_client() {
    let complete: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let seen = complete.clone();
    let replica = Replica::raw(move |connection| {
        while let Some(request) = connection.request() {
            seen.lock().unwrap().push(request);
            if connection.send(super::harness::replica::ok("done")).is_err() {
                return;
            }
        }
    });
    let web = Web::start(&[&replica], "", "");
    for round in 0..10 {
        let mut attacker = Client::connect(web.address);
        let head =
            "POST /attack HTTP/1.1\r\nHost: attack\r\nContent-Length: 500\r\n\r\nGET /smuggled";
        attacker.send(head).unwrap();
        until("the beginning at the replica", || {
            let received = replica.received();
            received.windows(13).filter(|bytes| bytes == b"GET /smuggled").count() == round + 1
        });
        drop(attacker);
        assert_eq!(Client::get(web.address, "/victim").text(), "done");
    }
    let complete = complete.lock().unwrap();
    assert_eq!(complete.len(), 10, "{complete:?}");
    assert!(complete.iter().all(|request| request.line() == "GET /victim HTTP/1.1"));
}

/// What is well-formed, if unusual: it passes, and the replica is sent exactly these bytes.
#[test]
fn unusual_requests_pass_in_one_reading() {
    let replica = Replica::named("a");
    let plain = "forwarding: { x_forwarded: false, via: false, request_id: off }";
    let web = Web::start(&[&replica], plain, "");
    let local = format!("GET /a HTTP/1.1\r\nHost: {}\r\n\r\n", web.address);
    let cases: &[(&str, &[u8], &[u8])] = &[
        ("9112 2.2: one empty line first", b"\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("9112 5.1: whitespace around values", b"GET /a HTTP/1.1\r\nHost: \t h \t\r\nX-A:b\r\nX-C: \t d  e\t \r\n\r\n", b"GET /a HTTP/1.1\r\nHost: h\r\nX-A: b\r\nX-C: d  e\r\n\r\n"),
        ("9110 5.5: an empty value", b"GET /a HTTP/1.1\r\nHost: h\r\nX-A:\r\n\r\n", b"GET /a HTTP/1.1\r\nHost: h\r\nX-A: \r\n\r\n"),
        ("9110 5.5: obs-text", b"GET /a HTTP/1.1\r\nHost: h\r\nX-A: \xe9\xff\r\n\r\n", b"GET /a HTTP/1.1\r\nHost: h\r\nX-A: \xe9\xff\r\n\r\n"),
        ("9110 5.1: letter case and order", b"GET /a HTTP/1.1\r\nx-b: 1\r\nhOST: h\r\nX-a: 2\r\nX-B: 3\r\n\r\n", b"GET /a HTTP/1.1\r\nHost: h\r\nx-b: 1\r\nX-a: 2\r\nX-B: 3\r\n\r\n"),
        ("9112 3.2.2: absolute form", b"GET http://h/a?b HTTP/1.1\r\nHost: h\r\n\r\n", b"GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("9112 3.2.2: absolute form without a path", b"GET http://h HTTP/1.1\r\nHost: h\r\n\r\n", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("9112 3.2.2: a query without a path", b"GET http://h?b HTTP/1.1\r\nHost: h\r\n\r\n", b"GET /?b HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("9112 3.2.2: HTTP/1.0 and a host in the target", b"GET http://h/a HTTP/1.0\r\n\r\n", b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("9112 3.2: HTTP/1.0 and no host at all", b"GET /a HTTP/1.0\r\n\r\n", local.as_bytes()),
        ("9112 3.2.4: asterisk form", b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("9110 7.2: a port, and a final dot", b"GET /a HTTP/1.1\r\nHost: h.:8080\r\n\r\n", b"GET /a HTTP/1.1\r\nHost: h.:8080\r\n\r\n"),
        ("3986 3.2.2: an IPv6 address", b"GET /a HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", b"GET /a HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"),
        ("3986 6.2.2.3: dot segments", b"GET /a/./b/../c HTTP/1.1\r\nHost: h\r\n\r\n", b"GET /a/c HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("3986 6.2.2.2: an encoded letter", b"GET /%61%2fb HTTP/1.1\r\nHost: h\r\n\r\n", b"GET /a%2Fb HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("3986 2.1: a percent sign that encodes nothing", b"GET /a%zz HTTP/1.1\r\nHost: h\r\n\r\n", b"GET /a%25zz HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("3986 3.3: empty segments", b"GET //a//b HTTP/1.1\r\nHost: h\r\n\r\n", b"GET //a//b HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("3986 3.4: a query is left alone", b"GET /a?../%2e&b=|{}? HTTP/1.1\r\nHost: h\r\n\r\n", b"GET /a?../%2e&b=|{}? HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("3986 3.4: an empty query", b"GET /a? HTTP/1.1\r\nHost: h\r\n\r\n", b"GET /a? HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("9110 9.1: an unknown method", b"brew /a HTTP/1.1\r\nHost: h\r\n\r\n", b"brew /a HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("9110 8.6: a GET with a body", b"GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", b"GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"),
        ("9110 8.6: a body of nothing", b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"),
        ("9110 8.6: no body and no length", b"POST /a HTTP/1.1\r\nHost: h\r\n\r\n", b"POST /a HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("9112 6: HTTP/1.0 with a body", b"POST /a HTTP/1.0\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"),
        ("9112 7: chunked in any case", b"POST /a HTTP/1.1\r\nHost: h\r\nTRANSFER-ENCODING: Chunked\r\n\r\n0\r\n\r\n", b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("9112 7.1: sizes in either case, with zeros", b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n000a\r\n0123456789\r\nA\r\n0123456789\r\n00\r\n\r\n", b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n000a\r\n0123456789\r\nA\r\n0123456789\r\n00\r\n\r\n"),
        ("9112 7.1.2: trailers", b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n1\r\na\r\n0\r\nX-T: b\r\n\r\n", b"POST /a HTTP/1.1\r\nHost: h\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-T: b\r\n\r\n"),
        ("9110 7.6.1: what belongs to the connection", b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, X-Hop, upgrade\r\nX-Hop: 1\r\nX-Stay: 2\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n\r\n", b"GET /a HTTP/1.1\r\nHost: h\r\nX-Stay: 2\r\nTE: trailers\r\nConnection: TE\r\n\r\n"),
        ("9113 3.1: an upgrade to h2c is not offered on", b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("9113 3.1: nor beside another", b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n", b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("9110 7.8: an upgrade that Connection does not name", b"GET /a HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n", b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"),
    ];
    for (rfc, sent, expected) in cases {
        let before = replica.received().len();
        let mut client = Client::connect(web.address);
        client.send(sent).unwrap();
        let response = client.response().unwrap_or_else(|e| panic!("RFC {rfc}: {e}"));
        assert_eq!((response.status, response.text().as_str()), (200, "a"), "RFC {rfc}");
        let received = replica.received();
        let (received, expected) = (received[before..].escape_ascii(), expected.escape_ascii());
        assert_eq!(received.to_string(), expected.to_string(), "RFC {rfc}");
    }
    eprintln!("{} unusual requests passed in one reading", cases.len());
}
