//! What one look-up costs with few and with many routes:
//! `cargo run --release -p route --example find_cost`.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use model::{
    ServiceName,
    spec::{HostPattern, PathPattern, RouteSpec},
};
use std::{hint::black_box, time::Instant};

const FINDS: u32 = 2_000_000;
const REQUESTS: usize = 64;

struct Asked {
    host: String,
    path: String,
}

impl route::Request for Asked {
    fn method(&self) -> &str {
        "GET"
    }
    fn host(&self) -> &str {
        &self.host
    }
    fn path(&self) -> &str {
        &self.path
    }
    fn query(&self) -> &str {
        ""
    }
    fn header<'a>(&'a self, _: &str, _: &mut dyn FnMut(&'a [u8]) -> bool) {}
}

fn measure(shape: &str, count: usize, spec: fn(usize) -> RouteSpec, ask: fn(usize) -> Asked) {
    let mut routes: Vec<_> = (0..count).map(spec).collect();
    routes.push(plain());
    let table = route::Table::build(&routes).expect("sound routes");
    let requests: Vec<_> = (0..REQUESTS).map(|n| ask(n * 7919 % count)).collect();
    let start = Instant::now();
    for at in 0..FINDS {
        black_box(table.find(black_box(&requests[at as usize % REQUESTS])));
    }
    let each = start.elapsed() / FINDS;
    println!("{shape:28} {count:>7} routes {:>6} ns", each.as_nanos());
}

fn plain() -> RouteSpec {
    RouteSpec::catch_all(ServiceName::from("web"))
}

fn exact_host(n: usize) -> RouteSpec {
    let host = Some(HostPattern::Exact(format!("shop{n}.example.com")));
    let path = Some(PathPattern::Prefix("/images".into()));
    RouteSpec { host, path, ..plain() }
}

fn prefix(n: usize) -> RouteSpec {
    RouteSpec { path: Some(PathPattern::Prefix(format!("/app/part{n}"))), ..plain() }
}

fn main() {
    for count in [1, 10, 10_000, 100_000] {
        measure("host and prefix", count, exact_host, |n| Asked {
            host: format!("shop{n}.example.com:8080"),
            path: "/images/logo.png".into(),
        });
        measure("no such host", count, exact_host, |n| Asked {
            host: format!("other{n}.example.com"),
            path: "/images/logo.png".into(),
        });
        measure("prefix of two segments", count, prefix, |n| Asked {
            host: "shop.example.com".into(),
            path: format!("/app/part{n}/index.html"),
        });
    }
}
