//! Which route of a listener serves a request, and what the route does to its path.
//!
//! For: finding the most specific of many routes at a cost that does not follow their number
//! ([`Table`]), cleaning a path before it is matched ([`normalise_path`]), rewriting it
//! ([`Rewriter`]), filling in the target of a redirect ([`location`]), and splitting a route
//! between services by weight ([`Split`]).
//! Never: bytes of a protocol, services or endpoints, text of a configuration, clocks, I/O.
//! Start with [`Table::find`].
//!
//! # Which route wins
//! The routes of a table are put in order once, from the most to the least specific. The first
//! one of which every matcher holds wins. The order in the file decides only between routes that
//! are otherwise equally specific. The order compares, first difference first:
//!
//! 1. host: exact, then `*.suffix` (longer first), then none;
//! 2. path: exact, then regex (longer pattern first), then prefix (longer first), then none.
//!    `/*` counts as none;
//! 3. a method is named, before none is; then ALPN is, before it is not;
//! 4. more header matchers, then more query matchers, then more cookie matchers;
//! 5. earlier in the file.
//!
//! A request for which no route of its exact host matches goes on to the suffix hosts, longest
//! first, and then to the routes without a host; likewise from the exact path down to the
//! shorter prefixes. `docs/routes.md` shows it by example.
//!
//! # Cost
//! [`Table::find`] takes one hash look-up for the host, at most one for each label of the host
//! (suffixes), and for each of these hosts one for each path segment, but no deeper than the
//! deepest configured path. Then it tests the routes with exactly this host and path, and all
//! regex routes of the host, one after the other: ten thousand regexes under one host are ten
//! thousand tests. It allocates nothing, apart from the scratch memory that a regex acquires on
//! its first uses in a thread, and a copy of a percent-encoded query value that is compared with
//! a regex.
//!
//! A copy of a table shares its hosts, and [`Table::set_added`] makes one host anew: a change costs by
//! the routes of that host.
#![forbid(unsafe_code)]

mod cookie;
mod error;
mod host;
mod key;
mod location;
mod matcher;
mod path;
mod query;
mod rewrite;
mod rule;
mod site;
mod split;
mod table;
mod tree;

pub use error::{RouteDefect, RouteError};
pub use key::{find_cookie, key, source_key, text_key};
pub use location::location;
pub use path::{Normalised, normalise_path};
pub use rewrite::Rewriter;
pub use split::Split;
pub use table::{Considered, Table, Verdict};

/// What a route can ask of a request.
pub trait Request {
    /// As sent; methods are case-sensitive (RFC 9110 section 9.1).
    fn method(&self) -> &str;
    /// As sent: port, capitals and one trailing dot do not matter. Empty if there is none.
    fn host(&self) -> &str;
    /// Percent-encoded and already passed through [`normalise_path`]; an empty path means `/`.
    fn path(&self) -> &str;
    /// Without `?`; empty if there is none.
    fn query(&self) -> &str;
    /// Shows `visit` the value of each header of this name (in lower case), in order and without
    /// the white space around it, until `visit` returns true.
    fn header<'a>(&'a self, lower_name: &str, visit: &mut dyn FnMut(&'a [u8]) -> bool);
    /// Whether the client offers to speak this protocol, by ALPN (RFC 7301). Only what passes
    /// through undecrypted is asked.
    fn offers(&self, _protocol: &[u8]) -> bool {
        false
    }
}
