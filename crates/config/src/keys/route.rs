//! The keys of `listeners.NAME.routes`.

use super::*;

const PATTERN: Kind =
    scalar("a pattern: `value`, `prefix*`, `~ regex`, or `*` for any", "~ ^v[0-9]+$");

pub(crate) static ROUTE: Section = Section {
    name: "route",
    doc: "All matchers must hold; absent ones match everything. Exactly one of `service`, `services`, `redirect` and `respond` says what happens.",
    example: "path: /images/*, service: web",
    keys: &[
        key(
            "host",
            text("a host name", "shop.example.com"),
            Means("any host"),
            "`shop.example.com`, or `\"*.example.com\"` (in quotes) for every name below it.",
        ),
        key(
            "path",
            text("a path", "/images/*"),
            Means("any path"),
            "`/login` exactly; `/images/*` and all below; `~ ^/users/[0-9]+$` as a regular expression.",
        ),
        key(
            "method",
            AnyOf(&[text("a method", "GET"), ListOf(&text("a method", "GET"))]),
            Means("any method"),
            "One method, or a list.",
        ),
        key(
            "headers",
            MapOf("HEADER", &PATTERN),
            Written("{}"),
            "Headers that the request must have.",
        ),
        key(
            "query",
            MapOf("PARAMETER", &PATTERN),
            Written("{}"),
            "Query parameters that the request must have.",
        ),
        key(
            "cookies",
            MapOf("COOKIE", &PATTERN),
            Written("{}"),
            "Cookies that the request must have.",
        ),
        key(
            "service",
            SERVICE_NAME,
            Means("see the other actions"),
            "Action: send the request to this service.",
        ),
        key(
            "services",
            MapOf("SERVICE", &Integer { min: 0, max: 65_535 }),
            Means("see the other actions"),
            "Action: split requests between services by weight.",
        ),
        key(
            "alpn",
            ListOf(&text("the name of a protocol", "h2")),
            Means("any, or none"),
            "Protocol `tls`: the client offers one of these by ALPN.",
        ),
        key(
            "redirect",
            AnyOf(&[text("a location", "https://{host}{uri}"), In(&REDIRECT)]),
            Means("see the other actions"),
            "Action: send the client elsewhere.",
        ),
        key(
            "respond",
            AnyOf(&[Integer { min: 200, max: 599 }, In(&RESPOND)]),
            Means("see the other actions"),
            "Action: answer without a service.",
        ),
        key("rewrite", In(&REWRITE), Written("{}"), "What is changed on the way."),
        Key::later("mirror"),
    ],
};

pub(crate) static REDIRECT: Section = Section {
    name: "redirect",
    doc: "An answer that sends the client elsewhere.",
    example: "to: /new",
    keys: &[
        key(
            "to",
            text("a location", "https://{host}{uri}"),
            Required,
            "May hold `{scheme}`, `{host}`, `{path}`, `{query}` (with its `?`) and `{uri}` (path and query).",
        ),
        key("status", Integer { min: 300, max: 399 }, Written("302"), "301, 302, 303, 307 or 308."),
    ],
};

pub(crate) static RESPOND: Section = Section {
    name: "respond",
    doc: "A fixed answer.",
    example: "status: 404, body: not here",
    keys: &[
        key("status", Integer { min: 200, max: 599 }, Written("200"), "The status."),
        key(
            "body",
            scalar("text", "Down for maintenance."),
            Written("\"\""),
            "The body, up to 1 MiB.",
        ),
        key(
            "content_type",
            text("a media type", "text/html"),
            Written("text/plain; charset=utf-8"),
            "Its media type.",
        ),
    ],
};

pub(crate) static REWRITE: Section = Section {
    name: "rewrite",
    doc: "What a route changes in requests and answers.",
    example: "",
    keys: &[
        key(
            "path",
            text("a path", "/new$1"),
            Means("unchanged"),
            "Replaces the whole path. With a regex `path`, `$1` and `${name}` are its groups.",
        ),
        key(
            "prefix",
            text("a path", "/"),
            Means("unchanged"),
            "Replaces the matched prefix, or the whole exact path; without a `path` in the route it is put in front.",
        ),
        key(
            "host",
            text("a host name", "internal.example.com"),
            Means("unchanged"),
            "Replaces the `Host` that the endpoint sees.",
        ),
        key(
            "request_headers",
            In(&HEADER_EDITS),
            Written("{}"),
            "Header changes before the request is sent on.",
        ),
        key(
            "response_headers",
            In(&HEADER_EDITS),
            Written("{}"),
            "Header changes before the answer is sent on.",
        ),
    ],
};

pub(crate) static HEADER_EDITS: Section = Section {
    name: "header edits",
    doc: "Done in the order in which they are written.",
    example: "set: { x-a: b }",
    keys: &[
        key("set", MapOf("HEADER", &HEADER_VALUE), Written("{}"), "Replace the header, or add it."),
        key("add", MapOf("HEADER", &HEADER_VALUE), Written("{}"), "Add a line, whatever is there."),
        key(
            "remove",
            ListOf(&text("a header name", "server")),
            Written("[]"),
            "Remove all lines of that name.",
        ),
    ],
};
