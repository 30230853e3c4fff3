//! What is taken away from headers, added, and left alone.

use crate::e2e::harness::{Client, Replica, Seen, Web};

fn parse(bytes: &[u8]) -> Seen {
    Seen { head: String::from_utf8_lossy(bytes).into_owned(), body: Vec::new() }
}

/// Sends a GET with these header lines; what the replica got of it.
fn seen(web: &Web, replica: &Replica, lines: &str) -> Seen {
    let before = replica.received().len();
    let request =
        format!("GET / HTTP/1.1\r\nHost: shop.example:81\r\nConnection: close\r\n{lines}\r\n");
    assert_eq!(Client::exchange(web.address, request).unwrap().status, 200);
    parse(&replica.received()[before..])
}

#[test]
fn an_unknown_client_cannot_speak_for_others() {
    let replica = Replica::named("a");
    let web = Web::start(&[&replica], "forwarding: { forwarded: true }", "");
    let lies = "X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 7.7.7.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\nX-Request-Id: mine\r\nVia: 1.0 old\r\n";
    for lines in ["", lies] {
        let seen = seen(&web, &replica, lines);
        assert_eq!(seen.headers("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(seen.headers("x-forwarded-proto"), ["http"]);
        assert_eq!(seen.headers("x-forwarded-host"), ["shop.example:81"]);
        assert_eq!(
            seen.headers("forwarded"),
            ["for=127.0.0.1;proto=http;host=\"shop.example:81\""]
        );
        assert_eq!(seen.headers("host"), ["shop.example:81"]);
        assert_eq!(*seen.headers("via").last().unwrap(), "1.1 evenkeel");
        let id = seen.headers("x-request-id");
        assert!(id.len() == 1 && id[0].len() == 32 && id[0] != "mine", "{id:?}");
    }
    let first = seen(&web, &replica, "");
    let second = seen(&web, &replica, "");
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
}

#[test]
fn a_trusted_proxy_is_believed_and_extended() {
    let replica = Replica::named("a");
    let web =
        Web::start(&[&replica], "forwarding: { forwarded: true, trusted: [127.0.0.0/8] }", "");
    let lines = "X-Forwarded-For: 1.1.1.1, 2.2.2.2\r\nX-Forwarded-For: 3.3.3.3\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: front\r\nForwarded: for=1.1.1.1\r\nX-Request-Id: mine\r\nVia: 1.0 old\r\n";
    let told = seen(&web, &replica, lines);
    assert_eq!(told.headers("x-forwarded-for"), ["1.1.1.1, 2.2.2.2, 3.3.3.3, 127.0.0.1"]);
    assert_eq!(told.headers("x-forwarded-proto"), ["https"]);
    assert_eq!(told.headers("x-forwarded-host"), ["front"]);
    assert_eq!(
        told.headers("forwarded"),
        ["for=1.1.1.1, for=127.0.0.1;proto=http;host=\"shop.example:81\""]
    );
    assert_eq!(told.headers("x-request-id"), ["mine"]);
    assert_eq!(told.headers("via"), ["1.0 old", "1.1 evenkeel"]);
    // What it does not say is made.
    let silent = seen(&web, &replica, "");
    assert_eq!(silent.headers("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(silent.headers("x-forwarded-proto"), ["http"]);
    assert_eq!(silent.headers("x-forwarded-host"), ["shop.example:81"]);
    assert_eq!(silent.header("x-request-id").map(str::len), Some(32));
}

#[test]
fn another_name_for_the_request_id_is_kept_apart() {
    let replica = Replica::named("a");
    let web = Web::start(&[&replica], "forwarding: { request_id: X-Trace }", "");
    let seen = seen(&web, &replica, "X-Request-Id: mine\r\nx-trace: mine\r\n");
    assert_eq!(seen.headers("x-request-id"), ["mine"]);
    let id = seen.headers("x-trace");
    assert!(id.len() == 1 && id[0].len() == 32, "{id:?}");
}

/// RFC 3875 section 4.1.18 gives `-` and `_` in names one meaning: so do WSGI, Rack and PHP.
#[test]
fn underscores_do_not_make_another_header() {
    let replica = Replica::named("a");
    let web = Web::start(&[&replica], "forwarding: { trusted: [10.0.0.0/8] }", "");
    let lies = "X_Forwarded_For: 6.6.6.6\r\nX-Forwarded_Proto: https\r\nx_forwarded-host: evil\r\nX_Request_Id: mine\r\nContent_Length: 5\r\nTransfer_Encoding: chunked\r\nX_Other: stays\r\n";
    let seen = seen(&web, &replica, lies);
    let with_underscore: Vec<_> = seen
        .head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| name.contains('_'))
        .collect();
    assert_eq!(with_underscore, [("X_Other", "stays")]);
}

/// RFC 9110 section 7.6.1.
#[test]
fn hop_by_hop_headers_end_here_in_both_directions() {
    let answer = "HTTP/1.1 200 Fine\r\nx-A: 1\r\nConnection: X-Hop, close\r\nX-Hop: 2\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nX-a: 3\r\nSet-Cookie: a=b\r\nset-cookie: c=d\r\nContent-Length: 1\r\nSERVER: x\r\n\r\na";
    let replica = Replica::http(move |_| answer.as_bytes().to_vec());
    let plain = "forwarding: { x_forwarded: false, via: false, request_id: off }";
    let web = Web::start(&[&replica], plain, "");
    let mut client = Client::connect(web.address);
    let request = "GET /A?b HTTP/1.1\r\nACCEPT: x\r\nHost: h\r\nConnection: X-Hop\r\nconnection: keep-alive, x-other\r\nX-HOP: 1\r\nx-Other: 2\r\nKeep-Alive: 3\r\nTE: trailers\r\nProxy-Authorization: Basic x\r\nCookie: a=b\r\ncookie: c=d\r\nX-Last: 4\r\n\r\n";
    client.send(request).unwrap();
    let response = client.response().unwrap();
    let expected = "HTTP/1.1 200 Fine\r\nx-A: 1\r\nX-a: 3\r\nSet-Cookie: a=b\r\nset-cookie: c=d\r\nContent-Length: 1\r\nSERVER: x\r\n\r\n";
    assert_eq!(response.head, expected);
    // That trailers are welcome is said anew: they are passed on.
    let expected = "GET /A?b HTTP/1.1\r\nHost: h\r\nACCEPT: x\r\nCookie: a=b\r\ncookie: c=d\r\nX-Last: 4\r\nTE: trailers\r\nConnection: TE\r\n\r\n";
    assert_eq!(String::from_utf8(replica.received()).unwrap(), expected);
}
