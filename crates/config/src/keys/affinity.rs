//! The keys of `services.NAME.affinity`.

use super::*;

pub(crate) static AFFINITY: Section = Section {
    name: "affinity",
    doc: "Requests of one client go to one endpoint, over HTTP. A client that has no session yet is balanced by the policy. A drained endpoint keeps its sessions until `drain_grace` is over; when an endpoint fails or is removed, its sessions move once, and stay where they are then.",
    example: "cookie: { name: KEEL, ttl: 1h }",
    keys: &[key(
        "cookie",
        In(&AFFINITY_COOKIE),
        Required,
        "A cookie of ours names the endpoint. It is set by the first answer of an endpoint that the client does not know yet, unless the status is 500 or more.",
    )],
};

pub(crate) static AFFINITY_COOKIE: Section = Section {
    name: "affinity cookie",
    doc: "The cookie's value is a hash of the endpoint's `id`, not its address. It is the same after a restart and in every balancer with the same `secret`. A value that names nothing is ignored.",
    example: "name: KEEL, ttl: 1h",
    keys: &[
        key(
            "name",
            text("the name of a cookie", "KEEL"),
            Required,
            "Its name: another one for each service that one host name leads to.",
        ),
        key(
            "ttl",
            duration(1000, COOKIE_AGE_MAX),
            Means("until the browser is closed"),
            "How long the client keeps it (`Max-Age`), counted from when it is set.",
        ),
        key("path", text("a path", "/app"), Written("/"), "Where it is sent: this path and below."),
        key("secure", Bool, Written("false"), "The client sends it over TLS only."),
        key("http_only", Bool, Written("true"), "Scripts of the page cannot read it."),
        key(
            "same_site",
            AnyOf(&[Word("strict"), Word("lax"), Word("none")]),
            Means("as the browser decides"),
            "Whether requests that come from other sites carry it; `none` needs `secure`.",
        ),
        key(
            "secret",
            scalar("a text of 16 characters or more", "0d9f6c1e5b7a4832"),
            Means("made of the service's name"),
            "The key of the hash. Without one of your own, clients can compute which value stands for which `id`, so choose their endpoint, and find out its address by trying.",
        ),
    ],
};

/// Browsers cut longer ones to this (RFC 6265bis section 5.5).
const COOKIE_AGE_MAX: Duration = Duration::from_secs(400 * 24 * 3600);
