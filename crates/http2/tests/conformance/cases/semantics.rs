//! RFC 9113 section 8: requests that are well formed, and those that are not.

use super::super::Case;
use super::super::Expect::{Response, StreamError};
use super::super::frames::{
    END_HEADERS, HEADERS, WHOLE, block, data, frame, get, last_data, post, request,
};
use super::{PROTOCOL, case};

pub(super) fn well_formed() -> Vec<Case> {
    let whole = |block: &[u8]| frame(HEADERS, WHOLE, 1, block);
    vec![
        case("8.1", "a request without a body", &[get(1)], Response(1)),
        case("8.1", "a request with a body", &[post(1, &[]), last_data(1, b"abc")], Response(1)),
        case(
            "8.1",
            "a request with trailers",
            &[post(1, &[]), data(1, b"abc"), frame(HEADERS, WHOLE, 1, &block(&[("a", "b")]))],
            Response(1),
        ),
        case(
            "8.1",
            "trailers without a body",
            &[post(1, &[]), frame(HEADERS, WHOLE, 1, &block(&[("a", "b")]))],
            Response(1),
        ),
        case(
            "8.1",
            "three requests at once",
            &[post(1, &[]), get(3), get(5), last_data(1, b"x")],
            Response(1),
        ),
        case("8.1", "OPTIONS", &[whole(&request("OPTIONS", &[]))], Response(1)),
        case(
            "8.2.3",
            "cookies in several fields",
            &[whole(&request("GET", &[("cookie", "a=b"), ("cookie", "c=d")]))],
            Response(1),
        ),
        case(
            "8.2.2",
            "te: trailers",
            &[whole(&request("GET", &[("te", "trailers")]))],
            Response(1),
        ),
        case(
            "8.3.1",
            "Host instead of :authority",
            &[whole(&block(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/"),
                ("host", "localhost"),
            ]))],
            Response(1),
        ),
        case(
            "8.3.1",
            "Host that says the same as :authority",
            &[whole(&request("GET", &[("host", "localhost")]))],
            Response(1),
        ),
        case(
            "8.1.1",
            "a body as long as content-length says",
            &[post(1, &[("content-length", "3")]), data(1, b"ab"), last_data(1, b"c")],
            Response(1),
        ),
    ]
}

pub(super) fn malformed() -> Vec<Case> {
    let check = |section, name, list: &[(&str, &str)]| {
        case(
            section,
            name,
            &[frame(HEADERS, WHOLE, 1, &block(list)), get(3)],
            StreamError(1, PROTOCOL),
        )
    };
    let with = |section, name, more: &[(&str, &str)]| {
        let head = frame(HEADERS, WHOLE, 1, &request("GET", more));
        case(section, name, &[head, get(3)], StreamError(1, PROTOCOL))
    };
    let (m, s, p, a) =
        ((":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"));
    vec![
        with("8.2.1", "a name in upper case", &[("X-A", "b")]),
        with("8.2.1", "a space in a name", &[("x a", "b")]),
        with("8.2.1", "a name that is empty", &[("", "b")]),
        with("8.2.1", "a colon in a name", &[("x:a", "b")]),
        with("8.2.1", "a line end in a name", &[("x\r\na", "b")]),
        with("8.2.1", "a line feed in a value", &[("x", "a\nb: c")]),
        with("8.2.1", "a carriage return in a value", &[("x", "a\rb")]),
        with("8.2.1", "NUL in a value", &[("x", "a\0b")]),
        with("8.2.1", "a value that starts with a space", &[("x", " a")]),
        with("8.2.1", "a value that ends with a tab", &[("x", "a\t")]),
        with("8.2.2", "connection", &[("connection", "close")]),
        with("8.2.2", "keep-alive", &[("keep-alive", "timeout=5")]),
        with("8.2.2", "proxy-connection", &[("proxy-connection", "close")]),
        with("8.2.2", "transfer-encoding", &[("transfer-encoding", "chunked")]),
        with("8.2.2", "upgrade", &[("upgrade", "h2c")]),
        with("8.2.2", "te with another value", &[("te", "trailers, gzip")]),
        with("8.3", "an unknown pseudo-header field", &[(":x", "y")]),
        with("8.3", ":status in a request", &[(":status", "200")]),
        with("8.3", "a pseudo-header field after a field", &[("x", "y"), (":path", "/b")]),
        with("8.3", ":path twice", &[(":path", "/")]),
        with("8.3", ":method twice", &[(":method", "GET")]),
        with("8.3", ":scheme twice", &[(":scheme", "http")]),
        check("8.3.1", "no :method", &[s, p, a]),
        check("8.3.1", "no :scheme", &[m, p, a]),
        check("8.3.1", "no :path", &[m, s, a]),
        check("8.3.1", "an empty :path", &[m, s, (":path", ""), a]),
        check("8.3.1", ":path without a slash", &[m, s, (":path", "a"), a]),
        check("8.3.1", "an asterisk without OPTIONS", &[m, s, (":path", "*"), a]),
        check("8.3.1", "a space in :path", &[m, s, (":path", "/ HTTP/1.1"), a]),
        check("8.3.1", "a line end in :path", &[m, s, (":path", "/\r\nx: y"), a]),
        check("8.3.1", "a fragment in :path", &[m, s, (":path", "/a#b"), a]),
        check("8.3.1", "a space in :method", &[(":method", "GET /x"), s, p, a]),
        check("8.3.1", "user information in :authority", &[m, s, p, (":authority", "u@a")]),
        with("8.3.1", "Host that differs from :authority", &[("host", "other")]),
        with("8.3.1", "Host twice", &[("host", "localhost"), ("host", "localhost")]),
        check("8.5", "CONNECT with :path", &[(":method", "CONNECT"), p, a]),
        check("8.5", "CONNECT without :authority", &[(":method", "CONNECT")]),
        check("RFC 8441 4", ":protocol without CONNECT", &[m, (":protocol", "websocket"), s, p, a]),
        with("8.1.1", "content-length without a body", &[("content-length", "3")]),
        with("8.1.1", "content-length that is no number", &[("content-length", "3 ")]),
        with("8.1.1", "content-length twice", &[("content-length", "0"), ("content-length", "0")]),
        case(
            "8.1.1",
            "a body longer than content-length says",
            &[post(1, &[("content-length", "1")]), last_data(1, b"ab")],
            StreamError(1, PROTOCOL),
        ),
        case(
            "8.1.1",
            "a body shorter than content-length says",
            &[post(1, &[("content-length", "9")]), data(1, b"ab"), last_data(1, b"c")],
            StreamError(1, PROTOCOL),
        ),
        case(
            "8.1.1",
            "trailers before content-length is reached",
            &[
                post(1, &[("content-length", "9")]),
                data(1, b"ab"),
                frame(HEADERS, WHOLE, 1, &block(&[("a", "b")])),
            ],
            StreamError(1, PROTOCOL),
        ),
        case(
            "8.1",
            "trailers that do not end the stream",
            &[post(1, &[]), frame(HEADERS, END_HEADERS, 1, &block(&[("a", "b")]))],
            StreamError(1, PROTOCOL),
        ),
        case(
            "8.1",
            "a pseudo-header field in trailers",
            &[post(1, &[]), frame(HEADERS, WHOLE, 1, &block(&[(":method", "GET")]))],
            StreamError(1, PROTOCOL),
        ),
    ]
}
