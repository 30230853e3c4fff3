//! Generated messages, half of them nearly right, against the contract of each decoder.

mod contract;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Pieces that make up messages and attacks on them; strung together at random they reach deeper
/// than random bytes.
const PIECES: &[&str] = &[
    "GET ",
    "HEAD ",
    "POST ",
    "CONNECT ",
    "OPTIONS ",
    "/",
    "*",
    "/a?b",
    "http://a",
    "a:80",
    "a",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 ",
    "HTTP/1.0 204\r\n",
    "101 X\r\n",
    "Host: a\r\n",
    "Host: ",
    "Content-Length: 5\r\n",
    "Content-Length: ",
    "5",
    "0",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding:",
    "chunked",
    "gzip",
    ", ",
    ",",
    ";",
    "Connection: close\r\n",
    "Connection: ",
    "keep-alive",
    "upgrade",
    "Upgrade: websocket\r\n",
    "Expect: 100-continue\r\n",
    "X: y\r\n",
    "\r\n",
    "\r\n\r\n",
    "\r",
    "\n",
    " ",
    "\t",
    ":",
    "\0",
    "\u{7f}",
    "\u{e9}",
    "\"",
    "=",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
    "a;b=c\r\n",
    "ffffffff\r\n",
    "PROXY ",
    "PROXY TCP4 ",
    "PROXY TCP6 ",
    "1.2.3.4 ",
    "::1 ",
    "80 ",
    "443\r\n",
    "UNKNOWN",
    "\r\n\r\n\0\r\nQUIT\n",
    "\u{21}\u{11}\0\u{c}",
    "\u{20}\0\0\0",
    "\u{21}\u{21}\0\u{24}",
];

fn message() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        9 => select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..20),
    ];
    vec(piece, 0..25).prop_map(|pieces| pieces.concat())
}

/// What load reports are made of.
const REPORT_PIECES: &[&str] = &[
    "TEXT ",
    "JSON {",
    "BIN ",
    "cpu_utilization",
    "mem_utilization",
    "\"application_utilization\"",
    "\"cpuUtilization\":",
    "named_metrics.x",
    "=",
    ":",
    ",",
    "0.5",
    "1e-3",
    "-1",
    "NaN",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    " ",
    "CTMzMzMzM9M/",
    "EZqZmZmZmek/",
    "==",
    "QgE",
];

fn report() -> impl Strategy<Value = Vec<u8>> {
    let form = select(&["TEXT ", "JSON {", "BIN ", ""][..]);
    let piece = prop_oneof![
        19 => select(REPORT_PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
    ];
    (form, vec(piece, 0..12))
        .prop_map(|(form, pieces)| [form.as_bytes(), &pieces.concat()].concat())
}

/// Whole lines, so that heads stay valid often enough for what fields say together.
const FIELDS: &[&str] = &[
    "Content-Length: 5\r\n",
    "content-length:0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive, x\r\n",
    "Connection: Upgrade\r\n",
    "Upgrade: websocket\r\n",
    "Expect: 100-continue\r\n",
    "X:  y\t\r\n",
];

/// A valid head with one byte changed, or none.
/// A recorded message, some of whose bytes are others, cut off somewhere.
fn dns_message() -> impl Strategy<Value = Vec<u8>> {
    const RECORDED: &[&[u8]] = &[
        include_bytes!("../../../fuzz/corpus/dns_message/_http._tcp.web.test_SRV_answer"),
        include_bytes!("../../../fuzz/corpus/dns_message/alias.test_answer"),
        include_bytes!("../../../fuzz/corpus/dns_message/web.test_query"),
    ];
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (select(RECORDED), changes, any::<prop::sample::Index>()).prop_map(|(message, changes, cut)| {
        let mut message = message.to_vec();
        for (at, byte) in changes {
            let at = at.index(message.len());
            message[at] = byte;
        }
        if cut.index(4) == 0 {
            message.truncate(cut.index(message.len()));
        }
        message
    })
}

fn nearly_valid(lines: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![9 => select(FIELDS), 1 => select(PIECES)];
    let change = proptest::option::of((any::<prop::sample::Index>(), any::<u8>()));
    (select(lines), vec(field, 0..4), change).prop_map(|(line, fields, change)| {
        let mut bytes = [line, "Host: a\r\n", &fields.concat(), "\r\n"].concat().into_bytes();
        if let Some((index, byte)) = change {
            let position = index.index(bytes.len());
            bytes[position] = byte;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn request_heads(data in prop_oneof![
        message(),
        nearly_valid(&["GET / HTTP/1.1\r\n", "POST http://a/b?c HTTP/1.0\r\n",
            "PUT http://a?b HTTP/1.1\r\n", "OPTIONS * HTTP/1.1\r\n"]),
    ]) {
        contract::request_head(&data);
    }

    #[test]
    fn response_heads(data in prop_oneof![
        message(),
        nearly_valid(&["HTTP/1.1 200 OK\r\n", "HTTP/1.0 404 \r\n", "HTTP/1.1 101 X\r\nUpgrade: a\r\n"]),
    ]) {
        contract::response_head(&data);
    }

    #[test]
    fn chunked_bodies(data in message()) {
        contract::chunked(&data);
    }

    #[test]
    fn proxy_headers(data in message()) {
        contract::proxy_protocol(&data);
    }

    #[test]
    fn load_reports(data in report()) {
        contract::orca(&data);
    }

    #[test]
    fn dns_messages(data in dns_message()) {
        contract::dns_message(&data);
    }
}
