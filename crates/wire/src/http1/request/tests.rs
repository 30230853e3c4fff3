use super::*;
use RequestError::*;

const LIMITS: HeadLimits = HeadLimits { bytes: 4096, count: 10, uri_bytes: 64 };

fn parse(input: &[u8]) -> Result<(Progress, RequestHead), RequestError> {
    let mut head = RequestHead::default();
    head.parse(input, &LIMITS).map(|progress| (progress, head))
}

#[track_caller]
fn complete(input: &str) -> RequestHead {
    match parse(input.as_bytes()) {
        Ok((Progress::Complete, head)) => head,
        other => panic!("{input:?}: {other:?}"),
    }
}

/// Each input is refused with its error, whole and with more bytes behind it, and no prefix of it is
/// taken for a complete head or refused for another reason.
fn check_refused(cases: &[(&[u8], RequestError)]) {
    for (input, expected) in cases {
        let shown = input.escape_ascii();
        assert_eq!(parse(input).map(|_| ()), Err(*expected), "{shown}");
        let longer = [input, &b"GET / HTTP/1.1\r\n\r\n"[..]].concat();
        assert_eq!(parse(&longer).map(|_| ()), Err(*expected), "{shown} and more");
        for end in 0..input.len() {
            match parse(&input[..end]) {
                Ok((Progress::Partial, _)) => {}
                Err(error) => assert_eq!(error, *expected, "{shown} up to {end}"),
                Ok((Progress::Complete, _)) => panic!("{shown}: complete at {end}"),
            }
        }
    }
}

#[test]
fn malformed_request_lines_are_refused() {
    check_refused(&[
        // RFC 9112 section 2.2: "ignore at least one empty line (CRLF)": one, and only a CRLF.
        (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", InvalidLineEnd),
        (b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", InvalidLineEnd),
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", InvalidMethod),
        (b"\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", InvalidMethod),
        // RFC 9112 section 3.1: method = token
        (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", InvalidMethod),
        (b"\tGET / HTTP/1.1\r\nHost: a\r\n\r\n", InvalidMethod),
        (b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", InvalidMethod),
        (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", InvalidMethod),
        (b"GET\0/ HTTP/1.1\r\nHost: a\r\n\r\n", InvalidMethod),
        (b"GET\r\nHost: a\r\n\r\n", InvalidMethod),
        (b"\"GET\" / HTTP/1.1\r\nHost: a\r\n\r\n", InvalidMethod),
        (b"\xc7ET / HTTP/1.1\r\nHost: a\r\n\r\n", InvalidMethod),
        // The first bytes of a TLS ClientHello, of a PROXY header and of a UTF-8 mark.
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", InvalidMethod),
        (b"\r\n\r\n\0\r\nQUIT\n", InvalidMethod),
        (b"\xef\xbb\xbfGET / HTTP/1.1\r\nHost: a\r\n\r\n", InvalidMethod),
        (b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1\r\nHost: a\r\n\r\n", MethodTooLong),
        // RFC 9112 section 3.2: "No whitespace is allowed in the request-target."
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", EmptyTarget),
        (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", InvalidVersion),
        (b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", InvalidVersion),
        (b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", ControlInTarget),
        (b"GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n", ControlInTarget),
        (b"GET /a\x0bb HTTP/1.1\r\nHost: a\r\n\r\n", ControlInTarget),
        (b"GET /a\x7fb HTTP/1.1\r\nHost: a\r\n\r\n", ControlInTarget),
        (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", NonAsciiInTarget),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", NonAsciiInTarget),
        (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", FragmentInTarget),
        (b"GET # HTTP/1.1\r\nHost: a\r\n\r\n", FragmentInTarget),
        // Section 3.2.1 to 3.2.4: the four forms.
        (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
        (b"GET ?a HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
        (b"GET a.com:80 HTTP/1.1\r\nHost: a.com:80\r\n\r\n", InvalidTarget),
        (b"GET http:/a/ HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
        (b"GET \\\\a\\ HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
        (b"GET ** HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", AsteriskWithoutOptions),
        (b"options * HTTP/1.1\r\nHost: a\r\n\r\n", AsteriskWithoutOptions),
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", UnsupportedScheme),
        (b"GET file:///etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", UnsupportedScheme),
        (b"GET ://a/ HTTP/1.1\r\nHost: a\r\n\r\n", UnsupportedScheme),
        (b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", ConnectWithoutAuthority),
        (b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", ConnectWithoutAuthority),
        (b"CONNECT a: HTTP/1.1\r\nHost: a\r\n\r\n", ConnectWithoutAuthority),
        (b"CONNECT a:99999 HTTP/1.1\r\nHost: a\r\n\r\n", ConnectWithoutAuthority),
        (b"CONNECT u@a:80 HTTP/1.1\r\nHost: a\r\n\r\n", ConnectWithoutAuthority),
        (b"CONNECT http://a:80 HTTP/1.1\r\nHost: a\r\n\r\n", ConnectWithoutAuthority),
        (b"CONNECT * HTTP/1.1\r\nHost: a\r\n\r\n", ConnectWithoutAuthority),
        // RFC 9110 section 4.2.1: "A recipient that processes such a URI reference MUST reject it".
        (b"GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n", InvalidAuthority),
        (b"GET http://?a HTTP/1.1\r\nHost: a\r\n\r\n", InvalidAuthority),
        (b"GET http://:80/ HTTP/1.1\r\nHost: a\r\n\r\n", InvalidAuthority),
        (b"GET http://a:x/ HTTP/1.1\r\nHost: a\r\n\r\n", InvalidAuthority),
        (b"GET http://a\\b/ HTTP/1.1\r\nHost: a\r\n\r\n", InvalidAuthority),
        (b"GET http://[::1/ HTTP/1.1\r\nHost: a\r\n\r\n", InvalidAuthority),
        // RFC 9110 section 4.2.4: "treat its presence as an error"
        (b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", UserinfoInAuthority),
        (b"GET http://@a/ HTTP/1.1\r\nHost: a\r\n\r\n", UserinfoInAuthority),
        // RFC 9112 section 2.3: HTTP-name is case-sensitive, and both numbers have one digit.
        (b"GET /\r\n\r\n", MissingVersion),
        (b"GET /\n", MissingVersion),
        (b"GET / \r\n\r\n", InvalidVersion),
        (b"GET / http/1.1\r\nHost: a\r\n\r\n", InvalidVersion),
        (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", InvalidVersion),
        (b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", InvalidVersion),
        (b"GET / HTTP/11\r\nHost: a\r\n\r\n", InvalidVersion),
        (b"GET / HTTP/1,1\r\nHost: a\r\n\r\n", InvalidVersion),
        (b"GET / HTTP/+1.1\r\nHost: a\r\n\r\n", InvalidVersion),
        (b"GET / HTTPS/1.1\r\nHost: a\r\n\r\n", InvalidVersion),
        (b"GET / ICY/1.1\r\nHost: a\r\n\r\n", InvalidVersion),
        (b"GET / HTTP/1.1\0\r\nHost: a\r\n\r\n", InvalidVersion),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", UnsupportedVersion),
        (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", UnsupportedVersion),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", UnsupportedVersion),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", UnsupportedVersion),
        (b"GET / HTTP/1.1\nHost: a\r\n\r\n", InvalidLineEnd),
        (b"GET / HTTP/1.1\rHost: a\r\n\r\n", InvalidLineEnd),
        (b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", InvalidLineEnd),
    ]);
}

#[test]
fn malformed_fields_are_refused() {
    use FieldError::*;
    let with = |fields: &[u8]| [b"POST / HTTP/1.1\r\nHost: a\r\n", fields].concat();
    let cases: &[(&[u8], FieldError)] = &[
        // RFC 9112 section 2.2: "A recipient of such a bare CR MUST consider that element to be
        // invalid"; the LF that it MAY recognize as a line end, we do not.
        (b"A: b\n\r\n", BareLf),
        (b"A: b\r\n\n", BareLf),
        (b"A: b\nTransfer-Encoding: chunked\r\n\r\n", BareLf),
        (b"A: b\rTransfer-Encoding: chunked\r\n\r\n", BareCr),
        (b"A: b\r\r\n\r\n", BareCr),
        (b"A: \r\r\n\r\n", BareCr),
        (b"A: b\r\n\r\r\n", BareCr),
        (b"A: b\r\n\rX\r\n\r\n", BareCr),
        // Section 5.2: "A server that receives an obs-fold in a request message ... MUST either
        // reject the message by sending a 400". Section 2.2 on whitespace before the first field:
        // "MUST either reject the message as invalid".
        (b"A: b\r\n c\r\n\r\n", ObsoleteFold),
        (b"A: b\r\n\tc\r\n\r\n", ObsoleteFold),
        (b"A: b\r\n \r\n\r\n", ObsoleteFold),
        (b" A: b\r\n\r\n", ObsoleteFold),
        (b"Transfer-Encoding:\r\n chunked\r\n\r\n", InvalidTransferEncoding),
        // Section 5.1: "A server MUST reject, with a response status code of 400 (Bad Request), any
        // received request message that contains whitespace between a header field name and colon."
        (b"A : b\r\n\r\n", WhitespaceBeforeColon),
        (b"A\t: b\r\n\r\n", WhitespaceBeforeColon),
        (b"Content-Length : 5\r\n\r\n", WhitespaceBeforeColon),
        (b"Transfer-Encoding : chunked\r\n\r\n", WhitespaceBeforeColon),
        (b"A B: c\r\n\r\n", WhitespaceBeforeColon),
        // RFC 9110 section 5.1: field-name = token
        (b": b\r\n\r\n", EmptyName),
        (b":\r\n\r\n", EmptyName),
        (b"A\r\n\r\n", MissingColon),
        (b"A\n\r\n", MissingColon),
        (b"GET / HTTP/1.1\r\n\r\n", WhitespaceBeforeColon),
        (b"A(b): c\r\n\r\n", InvalidName),
        (b"A/b: c\r\n\r\n", InvalidName),
        (b"[A]: c\r\n\r\n", InvalidName),
        (b"\"A\": c\r\n\r\n", InvalidName),
        (b"A\0: c\r\n\r\n", InvalidName),
        (b"\0A: c\r\n\r\n", InvalidName),
        (b"A\x0b: c\r\n\r\n", InvalidName),
        (b"A\x7f: c\r\n\r\n", InvalidName),
        (b"Caf\xc3\xa9: c\r\n\r\n", InvalidName),
        (b"Transfer-Encoding\xa0: chunked\r\n\r\n", InvalidName),
        // RFC 9110 section 5.5: "Field values containing CR, LF, or NUL characters are invalid and
        // dangerous ... Field values containing other CTL characters are also invalid".
        (b"A: b\0c\r\n\r\n", ControlInValue),
        (b"A: \x01\r\n\r\n", ControlInValue),
        (b"A: b\x1bc\r\n\r\n", ControlInValue),
        (b"A: b\x7f\r\n\r\n", ControlInValue),
        (b"Transfer-Encoding: \x0bchunked\r\n\r\n", ControlInValue),
        (b"Transfer-Encoding: chunked\x0c\r\n\r\n", ControlInValue),
        // RFC 9112 section 6.3: "If a message is received without Transfer-Encoding and with an
        // invalid Content-Length header field, then the message framing is invalid and the recipient
        // MUST treat it as an unrecoverable error".
        (b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", DuplicateContentLength),
        (b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n", DuplicateContentLength),
        (b"Content-Length: 5\r\nA: b\r\ncontent-length: 0\r\n\r\n", DuplicateContentLength),
        (b"Content-Length: 5, 5\r\n\r\n", InvalidContentLength),
        (b"Content-Length: 5,6\r\n\r\n", InvalidContentLength),
        (b"Content-Length:\r\n\r\n", InvalidContentLength),
        (b"Content-Length: +5\r\n\r\n", InvalidContentLength),
        (b"Content-Length: -1\r\n\r\n", InvalidContentLength),
        (b"Content-Length: 0x5\r\n\r\n", InvalidContentLength),
        (b"Content-Length: 5 5\r\n\r\n", InvalidContentLength),
        (b"Content-Length: 5.0\r\n\r\n", InvalidContentLength),
        (b"Content-Length: 5;\r\n\r\n", InvalidContentLength),
        (b"Content-Length: \"5\"\r\n\r\n", InvalidContentLength),
        (b"Content-Length: 18446744073709551616\r\n\r\n", InvalidContentLength),
        (b"Content-Length: 99999999999999999999999\r\n\r\n", InvalidContentLength),
        // Section 6.3 on both fields: "ought to be handled as an error".
        (
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            ContentLengthWithTransferEncoding,
        ),
        (
            b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
            ContentLengthWithTransferEncoding,
        ),
        (
            b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\n",
            ContentLengthWithTransferEncoding,
        ),
        // Section 6.3: "the server MUST respond with the 400 (Bad Request) status code".
        (b"Transfer-Encoding: identity\r\n\r\n", ChunkedNotFinal),
        (b"Transfer-Encoding: gzip\r\n\r\n", ChunkedNotFinal),
        (b"Transfer-Encoding: xchunked\r\n\r\n", ChunkedNotFinal),
        (b"Transfer-Encoding: chunked, identity\r\n\r\n", ChunkedNotFinal),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n", ChunkedNotFinal),
        // Section 6.1: "A sender MUST NOT apply the chunked transfer coding more than once".
        (b"Transfer-Encoding: chunked, chunked\r\n\r\n", ChunkedTwice),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", ChunkedTwice),
        (b"Transfer-Encoding:\r\n\r\n", InvalidTransferEncoding),
        (b"Transfer-Encoding: ,chunked\r\n\r\n", InvalidTransferEncoding),
        (b"Transfer-Encoding: chunked,\r\n\r\n", InvalidTransferEncoding),
        (b"Transfer-Encoding: chunked;q=1\r\n\r\n", InvalidTransferEncoding),
        (b"Transfer-Encoding: \"chunked\"\r\n\r\n", InvalidTransferEncoding),
        (b"Transfer-Encoding: chunked gzip\r\n\r\n", InvalidTransferEncoding),
        (b"Transfer-Encoding: gzip, chunked\r\n\r\n", UnsupportedTransferCoding),
        (
            b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
            UnsupportedTransferCoding,
        ),
        // Section 3.2: "any request message that contains more than one Host header field line or a
        // Host header field with an invalid field value"
        (b"Host: a\r\n\r\n", DuplicateHost),
        (b"hOST: b\r\n\r\n", DuplicateHost),
        // Fields without which the message would mean something else.
        (b"Connection: Content-Length\r\nContent-Length: 5\r\n\r\n", ConnectionNamesEndToEndField),
        (b"Connection: close, host\r\n\r\n", ConnectionNamesEndToEndField),
        (b"Connection: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q\r\n\r\n", TooManyConnectionOptions),
        (b"A:1\r\nA:1\r\nA:1\r\nA:1\r\nA:1\r\nA:1\r\nA:1\r\nA:1\r\nA:1\r\nA:1\r\n\r\n", TooMany),
    ];
    for (fields, expected) in cases {
        check_refused(&[(&with(fields), Field(*expected))]);
    }
}

#[test]
fn malformed_hosts_are_refused() {
    use FieldError::*;
    let cases: &[(&[u8], RequestError)] = &[
        (b"GET / HTTP/1.1\r\n\r\n", MissingHost),
        (b"GET / HTTP/1.1\r\nX-Host: a\r\n\r\n", MissingHost),
        (b"GET http://a/ HTTP/1.1\r\n\r\n", MissingHost),
        (b"CONNECT a:80 HTTP/1.1\r\n\r\n", MissingHost),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", Field(InvalidHost)),
        (b"GET / HTTP/1.0\r\nHost: \t \r\n\r\n", Field(InvalidHost)),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Field(InvalidHost)),
        (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Field(InvalidHost)),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Field(InvalidHost)),
        (b"GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", Field(InvalidHost)),
        (b"GET / HTTP/1.1\r\nHost: a?b\r\n\r\n", Field(InvalidHost)),
        (b"GET / HTTP/1.1\r\nHost: a#b\r\n\r\n", Field(InvalidHost)),
        (b"GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n", Field(InvalidHost)),
        (b"GET / HTTP/1.1\r\nHost: a%2fb\r\n\r\n", Field(InvalidHost)),
        (b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", Field(InvalidHost)),
        (b"GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n", Field(InvalidHost)),
        (b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", Field(InvalidHost)),
        (b"GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", Field(InvalidHost)),
        (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", Field(InvalidHost)),
        (b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n", Field(InvalidHost)),
        (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", Field(UserinfoInHost)),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Field(DuplicateHost)),
        (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", Field(DuplicateHost)),
        (b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", AuthorityMismatch),
        (b"GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n", AuthorityMismatch),
        (b"GET http://a/ HTTP/1.0\r\nHost: b\r\n\r\n", AuthorityMismatch),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: b:80\r\n\r\n", AuthorityMismatch),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a:81\r\n\r\n", AuthorityMismatch),
    ];
    check_refused(cases);
}

#[test]
fn what_a_method_or_version_forbids_is_refused() {
    let in_http10 = Field(FieldError::TransferEncodingInHttp10);
    check_refused(&[
        // RFC 9112 section 6.1: "MUST treat the message as if the framing is faulty".
        (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", in_http10),
        // RFC 9110 section 9.3.6: "A CONNECT request message does not have content."
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 5\r\n\r\n", ContentInConnect),
        (
            b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nTransfer-Encoding: chunked\r\n\r\n",
            ContentInConnect,
        ),
    ]);
}

#[test]
fn statuses() {
    for (error, status) in [
        (InvalidMethod, 400),
        (Field(FieldError::DuplicateContentLength), 400),
        (Field(FieldError::ChunkedNotFinal), 400),
        (MissingHost, 400),
        (UriTooLong, 414),
        (HeadTooLarge, 431),
        (Field(FieldError::TooMany), 431),
        (MethodTooLong, 501),
        (Field(FieldError::UnsupportedTransferCoding), 501),
        (UnsupportedVersion, 505),
    ] {
        assert_eq!(error.status(), status, "{error}");
    }
}

#[test]
fn limits() {
    let parse = |input: &str, limits| RequestHead::default().parse(input.as_bytes(), &limits);
    let limits = HeadLimits { bytes: 40, count: 2, uri_bytes: 8 };
    // 40 bytes fit, 41 do not, whether the end has been seen or not.
    let fits = "GET /1234567 HTTP/1.1\r\nHost: 90123456\r\n\r\n";
    assert_eq!(fits.len(), 41);
    assert_eq!(parse(fits, HeadLimits { bytes: 41, ..limits }), Ok(Progress::Complete));
    assert_eq!(parse(fits, limits), Err(HeadTooLarge));
    assert_eq!(parse(&fits[..40], limits), Err(HeadTooLarge));
    assert_eq!(parse(&fits[..39], limits), Ok(Progress::Partial));
    // A target that is too long is refused before it ends.
    assert_eq!(parse("GET /1234567", limits), Ok(Progress::Partial));
    assert_eq!(parse("GET /12345678", limits), Err(UriTooLong));
    assert_eq!(parse("GET /12345678 HTTP/1.1\r\n", limits), Err(UriTooLong));
    let short = HeadLimits { bytes: 10, ..limits };
    assert_eq!(parse("GET /12345", short), Err(UriTooLong));
    assert_eq!(parse("\r\nGET /345", short), Err(UriTooLong));
    assert_eq!(parse("G", HeadLimits { bytes: 0, ..limits }), Err(UriTooLong));
    let two = "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n";
    assert_eq!(parse(two, limits), Ok(Progress::Complete));
    assert_eq!(parse(two, HeadLimits { count: 1, ..limits }), Err(Field(FieldError::TooMany)));
    let unbounded = HeadLimits { bytes: usize::MAX, count: usize::MAX, uri_bytes: usize::MAX };
    assert_eq!(parse(two, unbounded), Ok(Progress::Complete));
}

#[test]
fn a_head_is_taken_apart() {
    let input = "\r\nPOST /a/b?c=d&e HTTP/1.1\r\nHost: Example.com:8080\r\nX-One:\t a  b \t\r\n\
                 Content-Length: 12\r\nEmpty:\r\nObs: caf\u{e9}\r\n\r\nGARBAGE\0\0";
    let head = complete(input);
    let text = |span: Span| std::str::from_utf8(span.of(input.as_bytes())).unwrap();
    assert_eq!(head.len, input.find("GARBAGE").unwrap());
    assert_eq!(text(head.method), "POST");
    assert_eq!(text(head.target), "/a/b?c=d&e");
    assert_eq!(head.form, TargetForm::Origin);
    assert_eq!(text(head.path), "/a/b");
    assert_eq!(text(head.query), "c=d&e");
    assert!(head.has_query && head.scheme.is_empty());
    assert_eq!(text(head.authority), "Example.com:8080");
    assert_eq!(head.version, Version::Http11);
    let headers: Vec<_> =
        head.headers.iter().map(|h| (text(h.name), text(h.value), h.kind)).collect();
    assert_eq!(
        headers,
        [
            ("Host", "Example.com:8080", HeaderKind::Host),
            ("X-One", "a  b", HeaderKind::Other),
            ("Content-Length", "12", HeaderKind::ContentLength),
            ("Empty", "", HeaderKind::Other),
            ("Obs", "caf\u{e9}", HeaderKind::Other),
        ]
    );
    assert_eq!(head.framing, Framing::Length(12));
    assert!(head.keep_alive && !head.idempotent && !head.is_head && !head.is_connect);
    assert_eq!(head.first(HeaderKind::Host).map(|h| text(h.value)), Some("Example.com:8080"));
    assert_eq!(head.first(HeaderKind::Via), None);
}

#[test]
fn target_forms() {
    // line, Host, then form, scheme, authority, path, query
    for (line, host, form, scheme, authority, path, query) in [
        ("GET /", "a", TargetForm::Origin, "", "a", "/", None),
        ("GET /?", "a", TargetForm::Origin, "", "a", "/", Some("")),
        ("GET /?a?b", "a", TargetForm::Origin, "", "a", "/", Some("a?b")),
        ("GET //b/c", "a", TargetForm::Origin, "", "a", "//b/c", None),
        ("GET /<{|}>\"^`\\[]", "a", TargetForm::Origin, "", "a", "/<{|}>\"^`\\[]", None),
        ("GET /%00%zz", "a", TargetForm::Origin, "", "a", "/%00%zz", None),
        ("OPTIONS *", "a", TargetForm::Asterisk, "", "a", "*", None),
        ("GET http://a/b?c", "a", TargetForm::Absolute, "http", "a", "/b", Some("c")),
        ("GET HTTPS://A:1/", "a:1", TargetForm::Absolute, "HTTPS", "A:1", "/", None),
        ("GET http://a", "a", TargetForm::Absolute, "http", "a", "/", None),
        ("GET http://a?b", "a", TargetForm::Absolute, "http", "a", "/", Some("b")),
        ("GET http://[::1]:2/@", "[::1]:2", TargetForm::Absolute, "http", "[::1]:2", "/@", None),
        ("CONNECT a:443", "a:443", TargetForm::Authority, "", "a:443", "", None),
        ("CONNECT a:443", "A", TargetForm::Authority, "", "a:443", "", None),
        ("CONNECT [::1]:443", "[::1]", TargetForm::Authority, "", "[::1]:443", "", None),
    ] {
        let input = format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let head = complete(&input);
        let text = |span: Span| std::str::from_utf8(span.of(input.as_bytes())).unwrap();
        assert_eq!(head.form, form, "{line}");
        assert_eq!(text(head.scheme), scheme, "{line}");
        assert_eq!(text(head.authority), authority, "{line}");
        assert_eq!(text(head.path), path, "{line}");
        assert_eq!(head.has_query.then(|| text(head.query)), query, "{line}");
    }
}

#[test]
fn http10_needs_no_host() {
    let head = complete("GET / HTTP/1.0\r\n\r\n");
    assert!(head.authority.is_empty() && !head.keep_alive);
    let input = "GET http://a/ HTTP/1.0\r\n\r\n";
    assert_eq!(complete(input).authority.of(input.as_bytes()), b"a");
}

#[test]
fn framing() {
    for (fields, expected) in [
        ("", Framing::None),
        ("Content-Length: 0\r\n", Framing::Length(0)),
        ("Content-Length: 0005\r\n", Framing::Length(5)),
        ("content-length:\t18446744073709551615 \r\n", Framing::Length(u64::MAX)),
        ("Transfer-Encoding: chunked\r\n", Framing::Chunked),
        ("TRANSFER-ENCODING:Chunked\t\r\n", Framing::Chunked),
        ("Content_Length: 5\r\n", Framing::None),
    ] {
        let input = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        assert_eq!(complete(&input).framing, expected, "{fields:?}");
    }
}

#[test]
fn persistence() {
    // RFC 9112 section 9.3: close wins; HTTP/1.1 persists; HTTP/1.0 only if it says so.
    for (version, connection, expected) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: foo, CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.0", "Proxy-Connection: keep-alive\r\n", false),
    ] {
        let input = format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n");
        assert_eq!(complete(&input).keep_alive, expected, "{version} {connection:?}");
    }
}

#[test]
fn upgrade() {
    let both = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n";
    for (version, fields, expected) in [
        ("1.1", both, true),
        ("1.1", "Upgrade: websocket\r\n", false),
        ("1.1", "Connection: Upgrade\r\n", false),
        ("1.1", "Connection: Upgrade\r\nUpgrade:\r\n", false),
        // RFC 9110 section 7.8: "A server MUST ignore an Upgrade header field that is received in
        // an HTTP/1.0 request."
        ("1.0", both, false),
        ("1.1", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n", false),
        ("1.1", "Connection: Upgrade\r\nUpgrade: websocket, H2C\r\n", false),
    ] {
        let input = format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
        assert_eq!(complete(&input).upgrade, expected, "{version} {fields:?}");
    }
}

#[test]
fn expectations() {
    let body = "Content-Length: 5\r\n";
    for (version, fields, expected) in [
        ("1.1", format!("Expect: 100-Continue\r\n{body}"), true),
        ("1.1", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n".into(), true),
        ("1.1", "Expect: 100-continue\r\n".into(), false),
        ("1.1", "Expect: 100-continue\r\nContent-Length: 0\r\n".into(), false),
        ("1.1", format!("Expect: 200-ok\r\n{body}"), false),
        ("1.0", format!("Expect: 100-continue\r\n{body}"), false),
    ] {
        let input = format!("PUT / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
        assert_eq!(complete(&input).expect_continue, expected, "{version} {fields:?}");
    }
}

#[test]
fn methods() {
    for (method, idempotent) in [
        ("GET", true),
        ("HEAD", true),
        ("OPTIONS", true),
        ("TRACE", true),
        ("PUT", true),
        ("DELETE", true),
        ("POST", false),
        ("PATCH", false),
        // RFC 9110 section 9.1: "The method token is case-sensitive".
        ("get", false),
        ("M-SEARCH", false),
        ("UPDATEREDIRECTREF", false),
    ] {
        let head = complete(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(head.idempotent, idempotent, "{method}");
        assert_eq!(head.is_head, method == "HEAD");
    }
}

#[test]
fn hop_by_hop_fields_are_marked() {
    let input = "GET / HTTP/1.1\r\nHost: a\r\nX-Mine: 1\r\nConnection: close, x-mine, ,te, \"x\"\r\n\
                 Keep-Alive: 5\r\nProxy-Connection: x\r\nTE: trailers\r\nTrailer: a\r\nUpgrade: x\r\n\
                 x-MINE: 2\r\n\r\n";
    let marked: Vec<_> = complete(input)
        .headers
        .iter()
        .filter(|header| header.hop_by_hop)
        .map(|header| std::str::from_utf8(header.name.of(input.as_bytes())).unwrap())
        .collect();
    assert_eq!(
        marked,
        ["X-Mine", "Connection", "Keep-Alive", "Proxy-Connection", "TE", "Upgrade", "x-MINE"]
    );
}

#[test]
fn a_head_is_reused_without_a_trace_of_the_last_one() {
    let first = "CONNECT a:1 HTTP/1.0\r\nHost: a:1\r\nConnection: keep-alive\r\nX: y\r\n\r\n";
    let second = "GET /?q HTTP/1.1\r\nHost: b\r\n\r\n";
    let mut head = complete(first);
    let capacity = head.headers.capacity();
    assert_eq!(head.parse(second.as_bytes(), &LIMITS), Ok(Progress::Complete));
    assert_eq!(head, complete(second));
    assert_eq!(head.headers.capacity(), capacity);
}
