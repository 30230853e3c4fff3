//! `Table::find` against a search through all routes that is written straight from the
//! documentation (docs/routes.md).

use model::{
    ServiceName,
    spec::{HostPattern, PathPattern, RouteSpec, TextMatch},
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use std::cmp::Ordering;

#[derive(Clone, Debug)]
struct Asked {
    method: String,
    host: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
}

impl route::Request for Asked {
    fn method(&self) -> &str {
        &self.method
    }
    fn host(&self) -> &str {
        &self.host
    }
    fn path(&self) -> &str {
        &self.path
    }
    fn query(&self) -> &str {
        &self.query
    }
    fn header<'a>(&'a self, lower_name: &str, visit: &mut dyn FnMut(&'a [u8]) -> bool) {
        let mut values = self.headers.iter().filter(|(name, _)| name == lower_name);
        values.any(|(_, value)| visit(value.as_bytes()));
    }
}

/// The first matching route that no other matching route comes before.
fn find_naively(routes: &[RouteSpec], request: &Asked) -> Option<usize> {
    let mut matching = (0..routes.len()).filter(|&index| matches(&routes[index], request));
    let first = matching.next()?;
    Some(matching.fold(first, |best, next| {
        if compare(&routes[next], &routes[best]) == Ordering::Less { next } else { best }
    }))
}

/// Less: more specific.
fn compare(a: &RouteSpec, b: &RouteSpec) -> Ordering {
    let host = |route: &RouteSpec| match &route.host {
        Some(HostPattern::Exact(_)) => (2, 0),
        Some(HostPattern::Suffix(suffix)) => (1, suffix.len()),
        None => (0, 0),
    };
    let path = |route: &RouteSpec| match &route.path {
        Some(PathPattern::Exact(_)) => (3, 0),
        Some(PathPattern::Regex(pattern)) => (2, pattern.len()),
        Some(PathPattern::Prefix(prefix)) if !prefix.is_empty() => (1, prefix.len()),
        _ => (0, 0),
    };
    host(b)
        .cmp(&host(a))
        .then_with(|| path(b).cmp(&path(a)))
        .then_with(|| (!b.methods.is_empty()).cmp(&!a.methods.is_empty()))
        .then_with(|| b.headers.len().cmp(&a.headers.len()))
        .then_with(|| b.query.len().cmp(&a.query.len()))
        .then_with(|| b.cookies.len().cmp(&a.cookies.len()))
}

fn matches(route: &RouteSpec, request: &Asked) -> bool {
    let host = request.host.to_lowercase();
    let host = host.split(':').next().unwrap_or_default();
    let host = host.strip_suffix('.').unwrap_or(host);
    let host_matches = match &route.host {
        None => true,
        Some(HostPattern::Exact(name)) => host == name,
        Some(HostPattern::Suffix(name)) => {
            host.ends_with(&format!(".{name}")) && host.len() > name.len() + 1
        }
    };
    let path = if request.path.is_empty() { "/" } else { &request.path };
    let path_matches = match &route.path {
        None => true,
        Some(PathPattern::Exact(exact)) => path == exact,
        Some(PathPattern::Prefix(prefix)) => {
            prefix.is_empty() || path == prefix || path.starts_with(&format!("{prefix}/"))
        }
        Some(PathPattern::Regex(pattern)) => {
            regex::Regex::new(pattern).expect("a sound pattern").is_match(path)
        }
    };
    let decode = |text: &str| text.replace('+', " ").replace("%31", "1");
    let query: Vec<(String, String)> = request
        .query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect();
    let cookies: Vec<(String, String)> = request
        .headers
        .iter()
        .filter(|(name, _)| name == "cookie")
        .flat_map(|(_, line)| line.split("; "))
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    host_matches
        && path_matches
        && (route.methods.is_empty() || route.methods.contains(&request.method))
        && hold(&route.headers, &request.headers)
        && hold(&route.query, &query)
        && hold(&route.cookies, &cookies)
}

fn hold(matchers: &[(String, TextMatch)], values: &[(String, String)]) -> bool {
    matchers.iter().all(|(wanted, matcher)| {
        values.iter().filter(|(name, _)| name == wanted).any(|(_, value)| match matcher {
            TextMatch::Present => true,
            TextMatch::Exact(text) => value == text,
            TextMatch::Prefix(text) => value.starts_with(text),
            TextMatch::Regex(pattern) => {
                regex::Regex::new(pattern).expect("a sound pattern").is_match(value)
            }
        })
    })
}

// Few words, so that routes and requests meet often.

fn name() -> impl Strategy<Value = String> {
    vec(select(vec!["a", "b", "c"]), 1..4).prop_map(|labels| labels.join("."))
}

fn path() -> impl Strategy<Value = String> {
    vec(select(vec!["a", "b", "ab", ""]), 1..4).prop_map(|parts| format!("/{}", parts.join("/")))
}

fn matchers() -> impl Strategy<Value = Vec<(String, TextMatch)>> {
    let matcher = prop_oneof![
        Just(TextMatch::Present),
        select(vec!["1", "2", ""]).prop_map(|text| TextMatch::Exact(text.into())),
        select(vec!["1", ""]).prop_map(|text| TextMatch::Prefix(text.into())),
        select(vec!["^[12]$", "2$"]).prop_map(|text| TextMatch::Regex(text.into())),
    ];
    prop_oneof![
        3 => Just(Vec::new()),
        1 => vec((select(vec!["x".to_owned(), "y".to_owned()]), matcher), 1..3),
    ]
}

fn route_spec() -> impl Strategy<Value = RouteSpec> {
    let host =
        prop_oneof![name().prop_map(HostPattern::Exact), name().prop_map(HostPattern::Suffix)];
    let regex = select(vec!["^/a", "^/b", "b$", "^/a/(a|b)$", "^/[ab]+$", "."]);
    let path = prop_oneof![
        path().prop_map(PathPattern::Exact),
        path().prop_map(PathPattern::Prefix),
        Just(PathPattern::Prefix(String::new())),
        regex.prop_map(|pattern| PathPattern::Regex(pattern.into())),
    ];
    let methods = prop_oneof![
        2 => Just(Vec::new()),
        1 => vec(select(vec!["GET".to_owned(), "POST".to_owned()]), 1..3),
    ];
    let matchers = (matchers(), matchers(), matchers());
    (option::of(host), option::of(path), methods, matchers).prop_map(
        |(host, path, methods, (headers, query, cookies))| RouteSpec {
            host,
            path,
            methods,
            headers,
            query,
            cookies,
            ..RouteSpec::catch_all(ServiceName::from("web"))
        },
    )
}

fn request() -> impl Strategy<Value = Asked> {
    let host = (name(), select(vec!["", ".", ":80", ".:80"]), any::<bool>()).prop_map(
        |(name, end, capitals)| {
            let name = if capitals { name.to_uppercase() } else { name };
            format!("{name}{end}")
        },
    );
    let path = prop_oneof![9 => path(), 1 => Just(String::new())];
    let query = vec(select(vec!["x=1", "x=%31", "y", "y=2", "x", "y=12", "x=+1", ""]), 0..3);
    let header = prop_oneof![
        (select(vec!["x", "y"]), select(vec!["1", "2", "12", ""])),
        (Just("cookie"), select(vec!["x=1", "y=2", "x=; y=1", "z=1; x=12"])),
    ];
    let headers = vec(header.prop_map(|(n, v)| (n.to_owned(), v.to_owned())), 0..4);
    let method = select(vec!["GET".to_owned(), "POST".to_owned(), "PUT".to_owned()]);
    (method, host, path, query, headers).prop_map(|(method, host, path, query, headers)| Asked {
        method,
        host,
        path,
        query: query.join("&"),
        headers,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn find_is_the_naive_search(
        routes in vec(route_spec(), 0..12),
        requests in vec(request(), 1..12),
    ) {
        let table = route::Table::build(&routes).expect("sound routes");
        for request in &requests {
            let found = table.find(request);
            prop_assert_eq!(found.copied(), find_naively(&routes, request), "{:?}", request);
            let explained = table.explain(request);
            let matched = explained.iter().find(|c| c.verdict == route::Verdict::Matched);
            prop_assert_eq!(matched.map(|c| c.route), found, "{:?}", request);
        }
    }

    /// Routes that were added for their hosts, after others had been.
    #[test]
    fn a_table_that_was_changed_is_as_one_that_was_built(
        routes in vec(route_spec(), 0..12),
        others in vec(route_spec(), 0..6),
        built in 0_usize..12,
        requests in vec(request(), 1..12),
    ) {
        let built = built.min(routes.len());
        let last = RouteSpec::catch_all("last".into());
        let all: Vec<RouteSpec> = routes.iter().chain([&last]).cloned().collect();
        let positions = || routes.iter().enumerate().map(|(n, spec)| (spec, n));
        let mut table = route::Table::of(positions().take(built), Some((&last, routes.len())))
            .expect("sound routes");
        for spec in others.iter().chain(&routes) {
            let host = |other: &&RouteSpec| other.host == spec.host;
            let added = others.iter().filter(host).map(|spec| (spec, 99));
            table.set_added(spec.host.as_ref(), added).expect("sound routes");
        }
        for spec in others.iter().chain(&routes) {
            let added = positions().skip(built).filter(|(other, _)| other.host == spec.host);
            table.set_added(spec.host.as_ref(), added).expect("sound routes");
        }
        prop_assert_eq!(table.len(), all.len());
        for request in &requests {
            let found = table.find(request).copied();
            prop_assert_eq!(found, find_naively(&all, request), "{:?}", request);
        }
    }
}
