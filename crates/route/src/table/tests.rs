use super::*;
use model::{
    ServiceName,
    spec::{HostPattern, PathPattern, TextMatch},
};

/// `"POST a.example/x?q=1 | cookie: a=b | x-user: me"`, with the parts that matter to a test.
struct Asked<'a> {
    method: &'a str,
    host: &'a str,
    path: &'a str,
    query: &'a str,
    headers: Vec<(&'a str, &'a str)>,
}

impl<'a> Asked<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(" | ");
        let (method, target) = parts.next().and_then(|line| line.split_once(' ')).expect("a line");
        let (host, rest) = target.split_at(target.find('/').unwrap_or(target.len()));
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let headers = parts.map(|header| header.split_once(": ").expect("a header")).collect();
        Self { method, host, path, query, headers }
    }
}

impl Request for Asked<'_> {
    fn method(&self) -> &str {
        self.method
    }
    fn host(&self) -> &str {
        self.host
    }
    fn path(&self) -> &str {
        self.path
    }
    fn query(&self) -> &str {
        self.query
    }
    fn header<'a>(&'a self, lower_name: &str, visit: &mut dyn FnMut(&'a [u8]) -> bool) {
        let mut values = self.headers.iter().filter(|(name, _)| *name == lower_name);
        values.any(|(_, value)| visit(value.as_bytes()));
    }
}

/// `"*.example.com/images/*"`, `"/exact"`, `"a.example ~ ^/regex$"`, `""`.
fn route(pattern: &str) -> RouteSpec {
    let (host, path) = match pattern.split_once("~ ") {
        Some((host, regex)) => (host.trim(), Some(PathPattern::Regex(regex.into()))),
        None => {
            let (host, path) = pattern.split_at(pattern.find('/').unwrap_or(pattern.len()));
            let path = (!path.is_empty()).then(|| match path.strip_suffix("/*") {
                Some(prefix) => PathPattern::Prefix(prefix.into()),
                None => PathPattern::Exact(path.into()),
            });
            (host, path)
        }
    };
    let host = (!host.is_empty()).then(|| match host.strip_prefix("*.") {
        Some(suffix) => HostPattern::Suffix(suffix.into()),
        None => HostPattern::Exact(host.into()),
    });
    RouteSpec { host, path, ..RouteSpec::catch_all(ServiceName::from("web")) }
}

/// Each request and the pattern that must win. The routes are given in both directions: their
/// order must not matter.
fn check(patterns: &[&str], expected: &[(&str, Option<&str>)]) {
    let mut patterns = patterns.to_vec();
    for _ in 0..2 {
        let routes: Vec<_> = patterns.iter().map(|pattern| route(pattern)).collect();
        let table = Table::build(&routes).expect("sound routes");
        for &(text, winner) in expected {
            let request = Asked::parse(text);
            let found = table.find(&request).map(|index| patterns[*index]);
            assert_eq!(found, winner, "{text} among {patterns:?}");
            check_explained(&table, &request);
        }
        patterns.reverse();
    }
}

fn check_explained(table: &Table, request: &Asked<'_>) {
    let considered = table.explain(request);
    let matched = considered.iter().find(|considered| considered.verdict == Verdict::Matched);
    assert_eq!(matched.map(|considered| considered.route), table.find(request));
}

#[test]
fn the_most_specific_host_wins() {
    check(
        &["", "shop.example.com", "*.example.com", "*.com", "*.shop.example.com", "[::1]"],
        &[
            ("GET shop.example.com/", Some("shop.example.com")),
            ("GET SHOP.Example.com.:8080/", Some("shop.example.com")),
            ("GET other.example.com/", Some("*.example.com")),
            ("GET a.b.example.com/", Some("*.example.com")),
            ("GET a.shop.example.com/", Some("*.shop.example.com")),
            ("GET example.com/", Some("*.com")),
            ("GET com/", Some("")),
            ("GET .com/", Some("")),
            ("GET xexample.org/", Some("")),
            ("GET [::1]:80/", Some("[::1]")),
            ("GET /", Some("")),
        ],
    );
    check(&["*.example.com"], &[("GET example.com/", None), ("GET xexample.com/", None)]);
}

#[test]
fn a_suffix_is_whole_labels() {
    check(
        &["*.example.com", "*.ample.com"],
        &[("GET x.example.com/", Some("*.example.com")), ("GET example.com/", None)],
    );
}

#[test]
fn the_most_specific_path_wins() {
    check(
        &["/a/b", "/a/b/*", "/a/*", "~ ^/a/[a-c]$", "~ ^/a/[a-z]+$", "/*"],
        &[
            ("GET h/a/b", Some("/a/b")),
            ("GET h/a/c", Some("~ ^/a/[a-z]+$")),
            ("GET h/a/b/c", Some("/a/b/*")),
            ("GET h/a/b/", Some("/a/b/*")),
            ("GET h/a/0", Some("/a/*")),
            ("GET h/a", Some("/a/*")),
            ("GET h/ab", Some("/*")),
            ("GET h/", Some("/*")),
            ("GET h", Some("/*")),
            ("OPTIONS h", Some("/*")),
        ],
    );
}

#[test]
fn prefixes_are_whole_segments() {
    check(
        &["/images/*"],
        &[
            ("GET h/images", Some("/images/*")),
            ("GET h/images/", Some("/images/*")),
            ("GET h/images/x/y", Some("/images/*")),
            ("GET h/images//", Some("/images/*")),
            ("GET h/imagesx", None),
            ("GET h/Images", None),
            ("GET h//images", None),
            ("GET h/", None),
        ],
    );
    check(
        &["//*", "/a//*", "/a//b", "/"],
        &[
            ("GET h/", Some("/")),
            ("GET h//", Some("//*")),
            ("GET h//x", Some("//*")),
            ("GET h/a", None),
            ("GET h/a/", Some("/a//*")),
            ("GET h/a//b", Some("/a//b")),
            ("GET h/a//c", Some("/a//*")),
        ],
    );
}

#[test]
fn a_host_without_a_matching_route_falls_back() {
    check(
        &["a.example.com/x", "*.example.com/y/*", "*.com ~ ^/z", "/w"],
        &[
            ("GET a.example.com/x", Some("a.example.com/x")),
            ("GET a.example.com/y/1", Some("*.example.com/y/*")),
            ("GET a.example.com/z", Some("*.com ~ ^/z")),
            ("GET a.example.com/w", Some("/w")),
            ("GET a.example.com/v", None),
            ("GET b.example.com/x", None),
        ],
    );
}

#[test]
fn a_more_specific_host_comes_before_a_more_specific_path() {
    check(
        &["a.example/*", "/x", "*.example/x"],
        &[("GET a.example/x", Some("a.example/*")), ("GET b.example/x", Some("*.example/x"))],
    );
}

#[test]
fn percent_encoded_patterns_are_normalised() {
    check(&["/%61/b%2fc"], &[("GET h/a/b%2Fc", Some("/%61/b%2fc")), ("GET h/a/b/c", None)]);
}

#[test]
fn method_then_headers_then_query_then_cookies_then_file_order() {
    let exact = |name: &str, value: &str| (name.to_owned(), TextMatch::Exact(value.to_owned()));
    let base = || route("/a");
    let mut routes = [base(), base(), base(), base(), base(), base(), base()];
    routes[1].cookies = vec![exact("c", "1")];
    routes[2].query = vec![exact("q", "1")];
    routes[3].headers = vec![exact("x", "1")];
    routes[4].headers = vec![exact("x", "1"), exact("y", "1")];
    routes[5].methods = vec!["GET".into(), "PUT".into()];
    let table = Table::build(&routes).expect("sound routes");
    for (request, expected) in [
        ("POST h/a", Some(0)),
        ("POST h/a | cookie: b=2; c=1", Some(1)),
        ("POST h/a | cookie: b=2 | cookie: c=1", Some(1)),
        ("POST h/a?p&q=%31 | cookie: c=1", Some(2)),
        ("POST h/a?q=2&q=1", Some(2)),
        ("POST h/a?q=1 | x: 1 | cookie: c=1", Some(3)),
        ("POST h/a | x: 2 | x: 1", Some(3)),
        ("POST h/a | x: 1 | y: 1", Some(4)),
        ("GET h/a | x: 1 | y: 1", Some(5)),
        ("PUT h/a", Some(5)),
        ("get h/a", Some(0)),
        ("POST h/b", None),
    ] {
        let request_parsed = Asked::parse(request);
        assert_eq!(table.find(&request_parsed).copied(), expected, "{request}");
        check_explained(&table, &request_parsed);
    }
}

#[test]
fn explain_gives_the_reason_in_order() {
    let mut routes = [route(""), route("a.example/x"), route("a.example/x")];
    routes[1].methods = vec!["POST".into()];
    routes[2].headers = vec![("x-user".into(), TextMatch::Present)];
    let table = Table::build(&routes).expect("sound routes");
    let missed =
        |route, reason: &str| Considered { route, verdict: Verdict::Missed(reason.into()) };
    let matched = Considered { route: &0, verdict: Verdict::Matched };
    let expected = [
        missed(&1, "the method is not POST"),
        missed(&2, "no header `x-user` has the wanted value"),
        matched.clone(),
    ];
    assert_eq!(table.explain(&Asked::parse("GET a.example/x")), expected);
    let expected = [
        missed(&1, "the host is not `a.example`"),
        missed(&2, "the host is not `a.example`"),
        matched,
    ];
    assert_eq!(table.explain(&Asked::parse("GET b.example/x")), expected);
}

#[test]
fn defects_name_the_route() {
    let check = |pattern: RouteSpec, expected: &str| {
        let error = Table::build(&[route(""), pattern]).expect_err(expected);
        assert_eq!(error.index, 1);
        let text = error.to_string();
        assert!(text.starts_with("route 2: ") && text.contains(expected), "{text}");
    };
    check(route("~ ("), "regular expression");
    check(route("/a/../b"), "without them");
    check(route("/a/%2e"), "without them");
    check(RouteSpec { path: Some(PathPattern::Exact("a".into())), ..route("") }, "begin with");
    check(RouteSpec { path: Some(PathPattern::Exact("".into())), ..route("") }, "begin with");
    check(RouteSpec { host: Some(HostPattern::Exact(".".into())), ..route("") }, "host is empty");
    check(route(&"a".repeat(254)), "longer than 253");
}

#[test]
fn an_empty_table_finds_nothing() {
    let table = Table::build(&[]).expect("no routes");
    assert!(table.is_empty());
    assert_eq!(table.find(&Asked::parse("GET h/")), None);
}

/// Counted, not timed: look-ups and rules tried for one request, whatever the number of routes.
#[test]
fn the_number_of_routes_does_not_matter() {
    type Shape = (&'static str, fn(usize) -> String, &'static [&'static str]);
    let shapes: [Shape; 6] = [
        ("hosts", |n| format!("h{n}.example.com"), &["GET h3.example.com/a", "GET no.example/a"]),
        ("suffixes", |n| format!("*.h{n}.example.com"), &["GET a.h3.example.com/a"]),
        ("exact paths", |n| format!("/app/page{n}"), &["GET h/app/page3", "GET h/app/none"]),
        ("prefixes", |n| format!("/app/{n}/*"), &["GET h/app/3/x/y/z", "GET h/app/none/x"]),
        ("deep prefixes", |n| format!("/a/{}/b/{n}/c/*", n % 7), &["GET h/a/3/b/3/c/x"]),
        ("both", |n| format!("h{}.example/p{n}/*", n % 100), &["GET h3.example/p3/x"]),
    ];
    for (shape, pattern, requests) in shapes {
        let steps_of = |count: usize| -> Vec<usize> {
            let mut routes: Vec<_> = (0..count).map(|n| route(&pattern(n))).collect();
            routes.push(route(""));
            let table = Table::build(&routes).expect("sound routes");
            let steps = requests.iter().map(|request| {
                let mut steps = 0;
                assert!(table.find_counted(&Asked::parse(request), &mut steps).is_some());
                steps
            });
            steps.collect()
        };
        let few = steps_of(10);
        assert!(few.iter().all(|&steps| steps <= 8), "{shape}: {few:?}");
        for count in [10_000, 100_000] {
            assert_eq!(steps_of(count), few, "{shape} with {count} routes");
        }
    }
}

/// A request chooses how many labels and segments it sends, but not how many are looked up.
#[test]
fn a_long_request_costs_no_more_than_the_deepest_route() {
    let table = Table::build(&[route("/a/b/c/*"), route("*.b.c")]).expect("sound routes");
    let path = format!("GET {}b.c{}", "a.".repeat(100), "/a/b/c".repeat(1000));
    let mut steps = 0;
    assert_eq!(table.find_counted(&Asked::parse(&path), &mut steps), Some(&1));
    assert!(steps <= 4, "{steps}");
    let path = format!("GET {}{}", "a".repeat(300), "/a/b/c".repeat(1000));
    let mut steps = 0;
    assert_eq!(table.find_counted(&Asked::parse(&path), &mut steps), Some(&0));
    assert!(steps <= 5, "{steps}");
}

/// What is added for one host is found, and taken back, beside any number of others.
#[test]
fn routes_of_a_host_come_and_go() {
    let routes: Vec<_> = (0..1000).map(|n| route(&format!("h{n}.example"))).collect();
    let built = routes.iter().enumerate().map(|(n, spec)| (spec, n));
    let catch_all = route("");
    let mut table = Table::of(built, Some((&catch_all, 5000))).expect("sound routes");
    let before = table.clone();
    let find = |table: &Table, text: &str| table.find(&Asked::parse(text)).copied();
    for (host, all, text) in [
        ("new.example", vec![route("new.example/a")], "GET NEW.example/a"),
        ("h7.example", vec![route("h7.example/a")], "GET h7.example/a"),
        ("*.example.org", vec![route("*.example.org")], "GET x.y.example.org/a"),
        ("", vec![route("/a"), route("")], "GET other/a"),
    ] {
        let pattern = route(host).host;
        let len = table.len();
        let added = |from: usize| all.iter().enumerate().map(move |(n, spec)| (spec, from + n));
        for from in [6000, 7000] {
            table.set_added(pattern.as_ref(), added(from)).expect("sound routes");
            assert_eq!(find(&table, text), Some(from), "{text}");
            assert_eq!(table.len(), len + all.len());
        }
        // Of routes that are equally specific, the one that comes last.
        assert_eq!(find(&table, "GET h8.example/a"), Some(8));
        assert!(find(&before, text).is_none_or(|found| found < 6000), "a copy stays as it was");
        if !host.is_empty() {
            table.set_added(pattern.as_ref(), []).expect("nothing");
            assert_eq!(find(&table, text), find(&before, text), "{text}");
            assert_eq!((table.len(), table.suffix_len_max), (len, 0));
        }
    }
    assert_eq!(find(&table, "GET other/b"), Some(7001), "what is added comes before the last");
    let error = table.set_added(None, [(&route("/a/../b"), 1)]);
    assert!(error.is_err());
    assert_eq!(find(&table, "GET other/b"), Some(7001), "nothing has changed");
}

/// Counted, not timed: what two versions do not share after one host has changed.
#[test]
fn a_change_of_one_host_leaves_the_others_alone() {
    for count in [100, 10_000] {
        let routes: Vec<_> = (0..count).map(|n| route(&format!("h{n}.example"))).collect();
        let before = Table::build(&routes).expect("sound routes");
        let mut after = before.clone();
        let added = route("new.example");
        after.set_added(added.host.as_ref(), [(&added, count)]).expect("a sound route");
        let mut kept: std::collections::HashSet<_> =
            before.exact_hosts.iter().map(Arc::as_ptr).collect();
        let new = after.exact_hosts.iter().filter(|site| !kept.remove(&Arc::as_ptr(site)));
        assert_eq!((new.count(), kept.len()), (1, 0), "of {count}");
    }
}
