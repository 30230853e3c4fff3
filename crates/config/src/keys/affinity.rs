//! The keys of `services.NAME.affinity`.

use super::*;

pub(crate) static AFFINITY: Section = Section {
    name: "affinity",
    doc: "Requests of one client go to one endpoint. Exactly one of `cookie`, `header` and `source` says what tells clients apart. A client that has no session yet is balanced by the policy. A drained endpoint keeps its sessions until `drain_grace` is over; when an endpoint fails or is removed, its sessions move once, and stay where they are then. A session moves, too, when its endpoint fails a request that another one then serves. See [sessions.md](sessions.md).",
    example: "cookie: { name: KEEL, ttl: 1h }",
    keys: &[
        key(
            "cookie",
            In(&AFFINITY_COOKIE),
            Means("see `header` and `source`"),
            "HTTP: by a cookie, ours or the application's.",
        ),
        key(
            "header",
            AnyOf(&[text("the name of a header", "X-User"), In(&AFFINITY_HEADER)]),
            Means("see `cookie`"),
            "HTTP: by the value of a header. A request without it is balanced by itself.",
        ),
        key(
            "source",
            AnyOf(&[Bool, In(&AFFINITY_SOURCE)]),
            Means("see `cookie`"),
            "By the client's address, without its port; for TCP and UDP, too.",
        ),
        key(
            "store",
            In(&AFFINITY_STORE),
            Means("each balancer remembers for itself"),
            "Where several balancers remember the same sessions, of a kind that is remembered at all (not `mode: insert`).",
        ),
    ],
};

pub(crate) static AFFINITY_STORE: Section = Section {
    name: "affinity store",
    doc: "A Redis, or what speaks its protocol. What this balancer knows itself it never asks for; a session that it does not know waits for the store's answer for at most `timeout`. While the store is down, each balancer goes on with what it knows. See [sessions.md](sessions.md#several-balancers).",
    example: "redis: redis://127.0.0.1:6379/0, secret: 0d9f6c1e5b7a4832",
    keys: &[
        key(
            "redis",
            text("an address", "redis://127.0.0.1:6379/0"),
            Required,
            "Where it is: `redis://HOST:PORT/DATABASE`, `rediss://HOST:PORT/DATABASE` over TLS, or `unix:///PATH` of a socket.",
        ),
        key(
            "tls",
            In(&SERVICE_TLS),
            Means("the defaults"),
            "How TLS is spoken where the address begins with `rediss://`, whose host the certificate must be for. Files are read for each connection.",
        ),
        key("username", scalar("a name", "keel"), Means("the default user"), "Of the store (ACL)."),
        key(
            "password",
            AnyOf(&[scalar("a password", "s3cret"), In(&SECRET_FILE)]),
            Means("none"),
            "Of the store. A file is read for each connection.",
        ),
        key(
            "secret",
            scalar("a text of 16 characters or more", "0d9f6c1e5b7a4832"),
            Required,
            "Keys the hash under which sessions are stored; the same in all balancers. Values of clients are never stored.",
        ),
        key(
            "prefix",
            text("a text", "evenkeel"),
            Written("evenkeel"),
            "What keys begin with; then `:`, the service's name, `:` and the hash.",
        ),
        key(
            "timeout",
            duration(1, Duration::from_secs(5)),
            Written("50ms"),
            "The longest wait of a request for an answer; then it is balanced as a new one.",
        ),
    ],
};

pub(crate) static AFFINITY_COOKIE: Section = Section {
    name: "affinity cookie",
    doc: "In a cookie, a hash of the endpoint's `id` stands for the endpoint, not its address. It is the same after a restart and in every balancer with the same `secret`. A value that names nothing is ignored. No session begins with an answer whose status is 500 or more.",
    example: "name: KEEL, ttl: 1h",
    keys: &[
        key(
            "name",
            text("the name of a cookie", "KEEL"),
            Required,
            "Its name. Of a cookie of ours: another one for each service that one host name leads to.",
        ),
        key(
            "mode",
            AnyOf(&[Word("insert"), Word("rewrite"), Word("learn")]),
            Written("insert"),
            "`insert`: a cookie of ours, set by the first answer of an endpoint that the client does not know yet. `rewrite`: the application's cookie, whose value gets the hash and `~` in front on its way to the client, and loses them on its way back. `learn`: the application's cookie unchanged; which endpoint set which value is remembered.",
        ),
        key(
            "ttl",
            duration(1000, COOKIE_AGE_MAX),
            Means("`insert`: until the browser is closed; else 30m"),
            "`insert`: how long the client keeps it (`Max-Age`), counted from when it is set. `rewrite`, `learn`: what is remembered is forgotten when it was not used for so long; at most 7d.",
        ),
        key(
            "max",
            TABLE_MAX,
            Means("100000"),
            "`rewrite`, `learn`: sessions for which there is room, 16 bytes each. `rewrite` remembers only those that had to move, and cookies from before.",
        ),
        key(
            "path",
            text("a path", "/app"),
            Written("/"),
            "`insert`: where it is sent: this path and below.",
        ),
        key("secure", Bool, Written("false"), "`insert`: the client sends it over TLS only."),
        key("http_only", Bool, Written("true"), "`insert`: scripts of the page cannot read it."),
        key(
            "same_site",
            AnyOf(&[Word("strict"), Word("lax"), Word("none")]),
            Means("as the browser decides"),
            "`insert`: whether requests that come from other sites carry it; `none` needs `secure`.",
        ),
        key(
            "secret",
            scalar("a text of 16 characters or more", "0d9f6c1e5b7a4832"),
            Means("made of the service's name"),
            "`insert`, `rewrite`: the key of the hash, which makes it a signature. Without one of your own, clients can compute which value stands for which `id`, so choose their endpoint, and find out its address by trying.",
        ),
    ],
};

pub(crate) static AFFINITY_HEADER: Section = Section {
    name: "affinity header",
    doc: "The first request of a value is balanced by the policy; where it was served is remembered.",
    example: "name: X-User, ttl: 1h",
    keys: &[
        key("name", text("the name of a header", "X-User"), Required, "Its name."),
        key("ttl", TABLE_TTL, Written("30m"), TABLE_TTL_DOC),
        key("max", TABLE_MAX, Written("100000"), TABLE_MAX_DOC),
    ],
};

pub(crate) static AFFINITY_SOURCE: Section = Section {
    name: "affinity source",
    doc: "The first request, connection or flow of an address is balanced by the policy; where it was served is remembered.",
    example: "ipv6_prefix: 64",
    keys: &[
        key(
            "ipv6_prefix",
            Integer { min: 1, max: 128 },
            Written("128"),
            "Bits of an IPv6 address that tell clients apart. 64: all addresses of a network are one client.",
        ),
        key("ttl", TABLE_TTL, Written("30m"), TABLE_TTL_DOC),
        key("max", TABLE_MAX, Written("100000"), TABLE_MAX_DOC),
    ],
};

const TABLE_TTL: Kind = duration(1000, TABLE_TTL_MAX);
const TABLE_TTL_DOC: &str =
    "A session that was not used for so long is forgotten. A change of it forgets all.";

const TABLE_MAX: Kind = Integer { min: 1, max: 10_000_000 };
const TABLE_MAX_DOC: &str = "Sessions for which there is room, 16 bytes each; of many more, those longest unused are forgotten first. A change of it forgets all.";

/// The table's stamps are of seconds, and begin again after 12 days.
pub(crate) const TABLE_TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Browsers cut longer ones to this (RFC 6265bis section 5.5).
const COOKIE_AGE_MAX: Duration = Duration::from_secs(400 * 24 * 3600);
