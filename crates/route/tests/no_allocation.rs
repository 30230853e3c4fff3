//! `Table::find` and the quick pass of `normalise_path` allocate nothing once warm.
#![allow(unsafe_code, reason = "a counting global allocator cannot be written without")]

use model::{
    ServiceName,
    spec::{HostPattern, PathPattern, RouteSpec, TextMatch},
};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes on unchanged to `System`, which keeps the contract; counting touches a
// thread-local without a destructor, which neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above, so from `System`, with this `layout`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Asked {
    host: &'static str,
    path: &'static str,
    query: &'static str,
    headers: &'static [(&'static str, &'static str)],
}

impl route::Request for Asked {
    fn method(&self) -> &str {
        "GET"
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

#[test]
fn find_allocates_nothing() {
    let plain = || RouteSpec::catch_all(ServiceName::from("web"));
    let exact = |name: &str, text: &str| (name.to_owned(), TextMatch::Exact(text.to_owned()));
    let regex = |name: &str, text: &str| (name.to_owned(), TextMatch::Regex(text.to_owned()));
    let routes = [
        RouteSpec {
            host: Some(HostPattern::Exact("shop.example.com".into())),
            path: Some(PathPattern::Exact("/a/b".into())),
            headers: vec![exact("x", "1"), regex("y", "^[a-z]+$")],
            query: vec![exact("q", "a b"), regex("r", "^[0-9]+$")],
            cookies: vec![exact("c", "1")],
            ..plain()
        },
        RouteSpec {
            host: Some(HostPattern::Suffix("example.com".into())),
            path: Some(PathPattern::Regex("^/users/[0-9]+$".into())),
            ..plain()
        },
        RouteSpec { path: Some(PathPattern::Prefix("/images".into())), ..plain() },
        plain(),
    ];
    let table = route::Table::build(&routes).expect("sound routes");
    let requests = [
        Asked {
            host: "SHOP.example.com.:80",
            path: "/a/b",
            query: "p=%20&q=a%20b&r=12",
            headers: &[("x", "1"), ("y", "abc"), ("cookie", "b=2; c=\"1\"")],
        },
        Asked { host: "www.Example.com", path: "/users/17", query: "", headers: &[] },
        Asked { host: "other", path: "/images/a.png", query: "", headers: &[] },
        Asked { host: "", path: "/a/b", query: "q=a+b", headers: &[("x", "1")] },
    ];
    let find_all = || {
        for (expected, request) in requests.iter().enumerate() {
            assert_eq!(table.find(request), Some(&expected));
            let mut out = Vec::new();
            assert_eq!(route::normalise_path(request.path, &mut out), route::Normalised::Same);
        }
    };
    // A regex acquires its scratch memory on first use.
    find_all();
    let before = ALLOCATIONS.with(Cell::get);
    find_all();
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 1, "the allocator counts");
}
