use model::Rng;
use model::spec::{EndpointSource, HealthKind, ServiceSpec, SessionTableSpec};
use model::{Endpoint, Instant};
use service::NoEvents;
use wire::http1::{HeadLimits, Progress, RequestKind};

use super::*;

/// A service of one endpoint, its token, and what a request said.
struct Bench {
    service: Arc<Service>,
    endpoint: Arc<EndpointHandle>,
    token: Token,
    asked: Option<Session>,
}

impl Bench {
    fn new(affinity: AffinitySpec) -> Self {
        let mut spec = ServiceSpec::new("web".into());
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 5001));
        spec.source = EndpointSource::Static(vec![Endpoint::at(address)]);
        spec.health.kind = HealthKind::Off;
        spec.affinity = Some(affinity);
        let service = Service::new(&spec, Arc::new(NoEvents), Instant::ZERO, 1);
        let endpoint = service.eligible()[0].clone();
        let token = service.settings().sessions().unwrap().token(&endpoint.id);
        Self { service, endpoint, token, asked: None }
    }

    fn asking(mut self, value: &str) -> Self {
        self.asked = self.service.settings().sessions().unwrap().of_value(value.as_bytes());
        self
    }

    fn with<R>(&self, f: impl FnOnce(&Keeping<'_>) -> R) -> R {
        let settings = self.service.settings();
        f(&Keeping {
            service: &self.service,
            sessions: settings.sessions().unwrap(),
            endpoint: &self.endpoint,
            asked: self.asked,
            tried: &[],
        })
    }

    fn set_cookie(&self, value: &str, status: u16) -> String {
        let mut out = Vec::new();
        self.with(|keeping| {
            keeping.write_set_cookie(&mut out, b"set-Cookie", value.as_bytes(), status);
        });
        String::from_utf8(out).unwrap()
    }

    fn own(&self, status: u16) -> String {
        let mut out = Vec::new();
        self.with(|keeping| keeping.write_own(&mut out, status));
        String::from_utf8(out).unwrap()
    }

    fn learn(&self, head: &str) -> usize {
        let mut response = ResponseHead::default();
        let limits = HeadLimits { bytes: 4096, count: 16, uri_bytes: 0 };
        let parsed = response.parse(head.as_bytes(), &limits, RequestKind::default());
        assert_eq!(parsed, Ok(Progress::Complete));
        self.with(|keeping| keeping.learn(head.as_bytes(), &response, Instant::ZERO));
        self.service.session_status(Instant::ZERO).unwrap().entries
    }

    fn knows(&self, value: &str) -> bool {
        let session = self.service.settings().sessions().unwrap().of_value(value.as_bytes());
        let request = Request { now: Instant::ZERO, key: None, exclude: &[] };
        self.service.resume(session.unwrap(), &request).is_some()
    }

    fn digits(&self) -> String {
        String::from_utf8(self.token.digits().to_vec()).unwrap()
    }
}

fn rewrite() -> AffinitySpec {
    let table = SessionTableSpec::default();
    AffinitySpec::Rewrite { name: "SID".into(), secret: None, table }
}

#[test]
fn the_applications_cookie_gets_a_token_and_keeps_the_rest() {
    let bench = Bench::new(rewrite());
    let check = |value: &str, expected: &str| {
        let expected = format!("set-Cookie: {}\r\n", expected.replace('@', &bench.digits()));
        assert_eq!(bench.set_cookie(value, 200), expected);
    };
    check("SID=abc", "SID=@~abc");
    check("SID=abc; Path=/app; HttpOnly; SID=x", "SID=@~abc; Path=/app; HttpOnly; SID=x");
    check("SID=\"a b\"; Path=/", "SID=\"@~a b\"; Path=/");
    check("SID = abc ;Path=/", "SID = @~abc ;Path=/");
    check("SID=; Max-Age=0", "SID=@~; Max-Age=0");
    check("SID=a~b~c", "SID=@~a~b~c");
    check("SID=0123456789abcdef~abc", "SID=@~0123456789abcdef~abc");
    // Others pass as they are.
    for value in ["sid=abc", "SIDE=abc", "SID", "SID; x=SID=abc", "x=1; SID=abc", "=SID", ""] {
        check(value, value);
    }
    // A failure begins no session; where the client's is already, it goes on.
    assert_eq!(bench.set_cookie("SID=abc", 500), "set-Cookie: SID=abc\r\n");
    let value = format!("{}~old", bench.digits());
    let here = Bench::new(rewrite()).asking(&value);
    assert_eq!(
        here.set_cookie("SID=abc", 500),
        format!("set-Cookie: SID={}~abc\r\n", here.digits())
    );
    assert_eq!(here.own(200), "", "no cookie of ours");
}

#[test]
fn the_application_sees_what_it_set() {
    let check = |value: &str, expected: &str| {
        let mut out = Vec::new();
        write_cookie(&mut out, b"cookie", value.as_bytes(), b"SID");
        assert_eq!(String::from_utf8(out).unwrap(), format!("cookie: {expected}\r\n"));
    };
    let token = "0123456789abcdef";
    for (value, expected) in [
        ("SID=@~abc", "SID=abc"),
        ("a=b; SID=@~abc; c=@~d", "a=b; SID=abc; c=@~d"),
        ("SID=@~abc;SID=@~def ; SID=old", "SID=abc;SID=def ; SID=old"),
        ("SID=\"@~a b\"; x=1", "SID=\"a b\"; x=1"),
        (" SID = @~abc", " SID = abc"),
        ("SID=@~", "SID="),
        ("SID=@~a~b", "SID=a~b"),
        ("SID=@~@~a", "SID=@~a"),
        // Not ours.
        ("SID=a~b", "SID=a~b"),
        ("SID=@", "SID=@"),
        ("SID=@abc", "SID=@abc"),
        ("sid=@~abc", "sid=@~abc"),
        ("SID", "SID"),
        ("@~abc", "@~abc"),
        (";;SID=@~x;", ";;SID=x;"),
        ("", ""),
    ] {
        check(&value.replace('@', token), &expected.replace('@', token));
    }
}

/// Whatever an application sets, it gets back.
#[test]
fn what_is_rewritten_is_taken_back() {
    let bench = Bench::new(rewrite());
    let mut rng = Rng::from_seed(1);
    for _ in 0..5000 {
        let alphabet = b"abf019~=\"; \tSIDxyz,";
        let text: Vec<u8> = (0..rng.below(40))
            .map(|_| alphabet[rng.below(alphabet.len() as u64) as usize])
            .collect();
        let set = [b"SID=", &text[..]].concat();
        // Without white space around it, as a header is read.
        let set = String::from_utf8(set).unwrap().trim_end().to_owned();
        let rewritten = bench.set_cookie(&set, 200);
        // The browser sends back what stands before the first semicolon.
        let pair = |line: &str| line.split(';').next().unwrap().trim_end().to_owned();
        let sent = pair(rewritten.strip_prefix("set-Cookie: ").unwrap());
        assert!(sent.contains(&bench.digits()));
        let mut out = Vec::new();
        write_cookie(&mut out, b"Cookie", sent.as_bytes(), b"SID");
        let seen = String::from_utf8(out).unwrap();
        assert_eq!(seen.trim_end(), format!("Cookie: {}", pair(&set)), "{set:?}");
    }
}

#[test]
fn our_own_cookie_is_set_where_the_client_does_not_have_it() {
    let bench = Bench::new(AffinitySpec::cookie("K"));
    let line = format!("Set-Cookie: K={}; Path=/; HttpOnly\r\n", bench.digits());
    assert_eq!((bench.own(200), bench.own(499)), (line.clone(), line.clone()));
    assert_eq!((bench.own(500), bench.own(503)), (String::new(), String::new()));
    assert_eq!(bench.set_cookie("K=x", 200), "set-Cookie: K=x\r\n", "the application's affair");
    let value = bench.digits();
    assert_eq!(bench.asking(&value).own(200), "");
    assert_eq!(Bench::new(AffinitySpec::cookie("K")).asking("0123456789abcdef").own(200), line);
}

#[test]
fn a_cookie_is_learnt_from_the_answer_and_from_the_request() {
    let learning = || {
        let table = SessionTableSpec::default();
        Bench::new(AffinitySpec::Learn { name: "SID".into(), table })
    };
    let bench = learning();
    assert_eq!(bench.learn("HTTP/1.1 200 OK\r\n\r\n"), 0);
    assert_eq!(bench.learn("HTTP/1.1 500 Oops\r\nSet-Cookie: SID=abc\r\n\r\n"), 0);
    assert_eq!(bench.learn("HTTP/1.1 200 OK\r\nSet-Cookie: x=abc\r\nSet-Cookie: SID=\r\n\r\n"), 0);
    let head = "HTTP/1.1 200 OK\r\nSet-Cookie: x=1\r\nset-cookie: SID=\"a b\"; Path=/\r\n\
                Set-Cookie: SID=other; Path=/app\r\n\r\n";
    assert_eq!(bench.learn(head), 2);
    assert!(bench.knows("a b") && bench.knows("other") && !bench.knows("x"));
    let bench = learning().asking("old");
    assert_eq!(bench.learn("HTTP/1.1 204 No Content\r\n\r\n"), 1);
    assert!(bench.knows("old"));
    assert_eq!(bench.learn("HTTP/1.1 200 OK\r\nSet-Cookie: SID=new\r\n\r\n"), 2);
    assert_eq!(bench.set_cookie("SID=abc", 200), "set-Cookie: SID=abc\r\n", "no byte is changed");
}
