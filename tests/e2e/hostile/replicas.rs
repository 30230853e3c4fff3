//! Replicas that misbehave: what is no answer reaches no client as one.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::super::harness::replica::Connection;
use super::super::harness::{Client, Replica, Response};
use super::Site;

#[test]
fn a_replica_that_accepts_and_never_answers_gives_504() {
    let silent = Replica::raw(|connection| while connection.fill().is_some() {});
    let site = Site::start(&[&silent], "", "timeouts: { first_byte: 1s }", "");
    let beside = site.beside();
    let memory = site.watch_memory();
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let mut client = Client::connect(site.web);
                // The connection to the client goes on.
                for _ in 0..2 {
                    client.send("GET /silent HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
                    assert_eq!(client.response().unwrap().status, 504);
                }
                client.send("GET /fine HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
                assert_eq!(client.response().unwrap().status, 200);
            });
        }
    });
    let growth = memory.growth_kib();
    let unharmed = beside.assert_unharmed();
    eprintln!("100 requests to a silent replica: 504, memory +{growth} KiB, {unharmed} beside");
}

/// What is no HTTP response, or one that cannot be trusted.
const GARBAGE: &[&str] = &[
    "\0\u{1}\u{2}\u{7f}",
    "220 mail.example.com ESMTP\r\n",
    "SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked, chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
    "HTTP/1.1 200 OK\r\nSpace : before\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX: nul\0byte\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "",
    "HTTP/1.1 200",
];

#[test]
fn a_replica_that_answers_garbage_gives_502_or_the_request_is_tried_elsewhere() {
    let answer = |index: usize| {
        move |connection: &mut Connection| {
            if connection.request().is_some() {
                let _ = connection.send(GARBAGE[index]);
                // Ended by its close.
            }
        }
    };
    for (index, garbage) in GARBAGE.iter().enumerate() {
        let odd = Replica::raw(answer(index));
        let site = Site::start(&[&odd], "", "retry: off", "");
        let response = Client::get(site.web, "/odd");
        assert_eq!(response.status, 502, "{garbage:?}: {}", response.head);
        assert_eq!(Client::get(site.web, "/fine").status, 200);
    }
    // Beside a good one, nobody sees the garbage.
    let odd: Vec<Replica> = (0..GARBAGE.len()).map(|index| Replica::raw(answer(index))).collect();
    let good = Replica::named("good");
    let mut all: Vec<&Replica> = odd.iter().collect();
    all.push(&good);
    let site =
        Site::start(&all, "", "retry: { attempts: 10, budget: 100%, budget_min: 100000 }", "");
    let beside = site.beside();
    let mut good_answers = 0;
    for _ in 0..100 {
        let status = Client::get(site.web, "/odd").status;
        good_answers += u32::from(status == 200);
        assert!(status == 200 || status == 502, "{status}");
    }
    let pair = Site::start(&[&odd[0], &good], "", "", "");
    for _ in 0..100 {
        assert_eq!(Client::get(pair.web, "/odd").text(), "good");
    }
    let unharmed = beside.assert_unharmed();
    eprintln!(
        "{} kinds of garbage: 502 each; one good of {}: {good_answers} of 100 answered; one of two: all; \
         {unharmed} beside",
        GARBAGE.len(),
        all.len()
    );
}

#[test]
fn a_body_that_breaks_off_is_seen_as_broken() {
    let big = "x".repeat(2_000_000);
    let cases: Vec<(&str, String, bool)> = vec![
        ("length", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf".into(), false),
        ("length, nothing", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".into(), false),
        ("large", format!("HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n{big}"), false),
        ("chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nhalf".into(), false),
        (
            "no last chunk",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n".into(),
            false,
        ),
        (
            "bad chunk",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n".into(),
            false,
        ),
        ("reset", "HTTP/1.1 200 OK\r\n\r\nto the end".into(), true),
        ("large, reset", format!("HTTP/1.1 200 OK\r\n\r\n{big}"), true),
    ];
    for (name, answer, resets) in cases {
        let odd = Replica::raw(move |connection| {
            if connection.request().is_none() || connection.send(&answer).is_err() {
                return;
            }
            if resets {
                // Reset by the test once it was passed on: a reset overtakes what is on its way.
                let _ = connection.fill();
            }
        });
        let site = Site::start(&[&odd], "", "", "");
        let beside = site.beside();
        let mut client = Client::connect(site.web);
        client.send("GET /odd HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let head = client.head();
        if resets {
            assert_eq!(head.unwrap().status, 200, "{name}");
            client.take(10).unwrap();
            odd.reset_all();
            let mut rest = Vec::new();
            let end = client.stream.read_to_end(&mut rest);
            assert!(end.is_err(), "{name}: a reset looked like the end");
        } else {
            match head {
                // Nothing but the head had come: it may be answered with an error instead.
                Ok(head) if head.status == 502 => {
                    assert!(["length", "length, nothing", "bad chunk"].contains(&name), "{name}");
                }
                Ok(head) => {
                    assert_eq!(head.status, 200, "{name}");
                    let whole = read_body(&mut client, &head);
                    assert!(whole.is_err(), "{name}: looked whole");
                }
                Err(_) => {}
            }
        }
        eprintln!("{name}: broken, {} beside", beside.assert_unharmed());
    }
}

fn read_body(client: &mut Client, head: &Response) -> io::Result<Vec<u8>> {
    match head.header("content-length") {
        Some(length) => client.take(length.parse().unwrap()),
        None => loop {
            let line = client.line()?;
            let size = usize::from_str_radix(&line, 16).map_err(io::Error::other)?;
            if size == 0 {
                return Ok(Vec::new());
            }
            client.take(size + 2)?;
        },
    }
}

#[test]
fn an_endless_response_head_is_cut_off() {
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    let odd = Replica::raw(move |connection| {
        if connection.request().is_none() || connection.send("HTTP/1.1 200 OK\r\n").is_err() {
            return;
        }
        let line = format!("X-More: {}\r\n", "x".repeat(1000));
        while connection.send(&line).is_ok() {
            counted.fetch_add(line.len() as u64, SeqCst);
        }
    });
    let site = Site::start(&[&odd], "", "retry: off", "");
    let beside = site.beside();
    let memory = site.watch_memory();
    for _ in 0..100 {
        assert_eq!(Client::get(site.web, "/odd").status, 502);
    }
    let (growth, unharmed) = (memory.growth_kib(), beside.assert_unharmed());
    let sent = sent.load(SeqCst) / 1024;
    eprintln!("100 endless heads ({sent} KiB sent): 502, memory +{growth} KiB, {unharmed} beside");
    assert!(growth < 8 * 1024, "memory grew by {growth} KiB");
}
