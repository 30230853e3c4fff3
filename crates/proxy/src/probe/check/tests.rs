use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;

fn http(method: &str) -> HealthSpec {
    HealthSpec {
        kind: HealthKind::Http {
            path: "/healthz".into(),
            method: method.into(),
            host: Some("app.example".into()),
            headers: vec![("X-Check".into(), "1".into())],
            expect: StatusSet(vec![(200, 299), (418, 418)]),
            tls: false,
        },
        timeout: Duration::from_secs(20),
        ..HealthSpec::default()
    }
}

/// A server with a certificate of its own making.
fn acceptor(name: &str) -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn on_runtime<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run)
}

/// Checks an endpoint that says `answer` to the whole request and closes. Gives the request
/// that it got.
fn check(spec: &HealthSpec, answer: &[u8]) -> (Verdict, String) {
    on_runtime(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            }
            stream.write_all(answer).await.unwrap();
            String::from_utf8(request).unwrap()
        };
        tokio::join!(run(spec, address, &Secure::Plain, EndpointProtocol::Http1), endpoint)
    })
}

#[test]
fn answers() {
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", ""),
        ("HTTP/1.0 204 No Content\r\n\r\n", ""),
        (
            "HTTP/1.1 418 I am a teapot\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "",
        ),
        ("HTTP/1.1 200\r\n\r\nuntil the end", ""),
        ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "status 503, expected 200-299, 418"),
        ("", "connection closed before an answer"),
        ("HTTP/1.1 200 OK\r\n", "not an HTTP answer: it ends within the head"),
        ("SSH-2.0-OpenSSH_9.6\r\n", "not an HTTP answer: invalid protocol version"),
    ] {
        let (verdict, request) = check(&http("GET"), answer.as_bytes());
        match verdict {
            Verdict::Passed => assert_eq!("", expected, "{answer:?}"),
            Verdict::Failed(reason) => assert_eq!(reason, expected, "{answer:?}"),
            Verdict::NotRun(e) => panic!("{e}"),
        }
        let lines = "GET /healthz HTTP/1.1\r\nHost: app.example\r\n\
            User-Agent: evenkeel-health\r\nConnection: close\r\nX-Check: 1\r\n\r\n";
        assert_eq!(request, lines);
    }
}

#[test]
fn an_endless_head_is_bounded() {
    let mut answer = b"HTTP/1.1 200 OK\r\n".to_vec();
    for line in 0..10_000 {
        answer.extend_from_slice(format!("X-{line}: y\r\n").as_bytes());
    }
    on_runtime(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Cut off by the check at some point.
            let _ = stream.write_all(&answer).await;
        };
        let (verdict, ()) = tokio::join!(
            async { run(&http("GET"), address, &Secure::Plain, EndpointProtocol::Http1).await },
            endpoint
        );
        assert!(
            matches!(&verdict, Verdict::Failed(r) if r.starts_with("not an HTTP")),
            "{verdict:?}"
        );
    });
}

#[test]
fn head_requests_and_configured_headers() {
    let mut spec = http("HEAD");
    if let HealthKind::Http { headers, .. } = &mut spec.kind {
        headers.push(("user-agent".into(), "mine".into()));
    }
    let (verdict, request) = check(&spec, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
    assert!(matches!(verdict, Verdict::Passed));
    assert!(request.starts_with("HEAD /healthz HTTP/1.1\r\n"));
    assert!(request.contains("user-agent: mine\r\n") && !request.contains("evenkeel-health"));
    let text = request_text("POST");
    assert!(text.contains("Content-Length: 0\r\n"));
}

fn request_text(method: &str) -> String {
    String::from_utf8(request(method, "/", "a", &[])).unwrap()
}

#[test]
fn https_passes_with_a_certificate_that_nobody_vouches_for() {
    let mut spec = http("GET");
    if let HealthKind::Http { tls, .. } = &mut spec.kind {
        *tls = true;
    }
    on_runtime(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = acceptor("somebody.else");
        let endpoint = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
            stream.flush().await.unwrap();
            String::from_utf8(request).unwrap()
        };
        let (verdict, request) =
            tokio::join!(run(&spec, address, &Secure::Plain, EndpointProtocol::Http1), endpoint);
        assert!(matches!(verdict, Verdict::Passed), "{verdict:?}");
        assert!(request.starts_with("GET /healthz HTTP/1.1\r\nHost: app.example\r\n"));

        let plain = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            let _ = stream.read_buf(&mut Vec::new()).await;
        };
        let (verdict, ()) =
            tokio::join!(run(&spec, address, &Secure::Plain, EndpointProtocol::Http1), plain);
        let said = format!("{verdict:?}");
        assert!(said.contains("TLS handshake"), "{said}");
    });
}

#[test]
fn refused_and_silent_endpoints() {
    on_runtime(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tcp = HealthSpec::default();
        assert!(matches!(
            run(&tcp, address, &Secure::Plain, EndpointProtocol::Http1).await,
            Verdict::Passed
        ));
        // Accepted by the kernel, answered by nobody.
        let silent = HealthSpec { timeout: Duration::from_millis(250), ..http("GET") };
        match run(&silent, address, &Secure::Plain, EndpointProtocol::Http1).await {
            Verdict::Failed(reason) => assert_eq!(reason, "no answer within 250ms"),
            other => panic!("{other:?}"),
        }
        drop(listener);
        for spec in [tcp, http("GET")] {
            match run(&spec, address, &Secure::Plain, EndpointProtocol::Http1).await {
                Verdict::Failed(reason) => assert_eq!(reason, "connection refused"),
                other => panic!("{other:?}"),
            }
        }
    });
}
