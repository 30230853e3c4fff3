//! The keys of `tls`, in listeners and in services.

use super::*;

/// Two years: browsers take no longer `max_age` for a better one.
const HSTS_MAX: Duration = Duration::from_secs(2 * 366 * 86_400);

const FILE_PATH: Kind = text("a path", "/etc/evenkeel/site.pem");

const MIN_VERSION: Key = key(
    "min_version",
    AnyOf(&[Word("1.2"), Word("1.3")]),
    Written("1.2"),
    "The oldest version of TLS that is spoken. Older ones than 1.2 never are.",
);

pub(crate) static LISTENER_TLS: Section = Section {
    name: "listener tls",
    doc: "TLS towards clients. At least one of `certificates` and `self_signed`. Files are read again when they change; paths count from the directory of this file.",
    example: "certificates: [ site.pem ]",
    keys: &[
        key(
            "certificates",
            ListOf(&AnyOf(&[FILE_PATH, In(&CERTIFICATE)])),
            Means("see `self_signed`"),
            "PEM files: one with chain and key, or one of each. Which one a client is shown follows from the names in the certificates and from what the client can verify; the first is for all other names. Several may have the same names and other keys (ECDSA and RSA).",
        ),
        key(
            "self_signed",
            AnyOf(&[Bool, ListOf(&text("a host name", "app.test"))]),
            Written("false"),
            "For development: a certificate for `localhost`, and for these names, by a CA that is made once for this user. What makes a system trust it is logged at start.",
        ),
        key(
            "client_auth",
            In(&CLIENT_AUTH),
            Means("clients are not asked for certificates"),
            "Who may connect. HTTP: the application is told by `Client-Cert` (RFC 9440), `X-Client-Cert-Subject`, `-SHA256` and `-Names`.",
        ),
        MIN_VERSION,
        key(
            "ciphers",
            ListOf(&CIPHER),
            Means("all of them"),
            "The cipher suites that are used, the preferred ones first.",
        ),
        key(
            "resumption",
            Bool,
            Written("true"),
            "Clients may take up a session again with a ticket; the keys of tickets change every 6 hours.",
        ),
        key(
            "strict_names",
            Bool,
            Written("false"),
            "Refuse clients that ask for a name which no certificate has.",
        ),
        key(
            "hsts",
            AnyOf(&[OFF, duration(1000, HSTS_MAX), In(&HSTS)]),
            Written("off"),
            "HTTP: `Strict-Transport-Security` (RFC 6797) with every answer: for how long browsers come by TLS only.",
        ),
        key(
            "handshake_timeout",
            TIMEOUT,
            Written("10s"),
            "From accept to the end of the handshake, then closed.",
        ),
    ],
};

const CIPHER: Kind = AnyOf(&[
    Word("TLS_AES_256_GCM_SHA384"),
    Word("TLS_AES_128_GCM_SHA256"),
    Word("TLS_CHACHA20_POLY1305_SHA256"),
    Word("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    Word("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    Word("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    Word("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    Word("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    Word("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
]);

pub(crate) static CERTIFICATE: Section = Section {
    name: "certificate",
    doc: "A certificate chain, the server's own certificate first, and its key.",
    example: "certificate: site.crt, key: site.key",
    keys: &[
        key("certificate", FILE_PATH, Required, "The chain, as PEM."),
        key(
            "key",
            text("a path", "/etc/evenkeel/site.key"),
            Required,
            "The key of its first certificate, as PEM, not encrypted.",
        ),
    ],
};

pub(crate) static CLIENT_AUTH: Section = Section {
    name: "client_auth",
    doc: "Certificates of clients.",
    example: "ca: clients.pem",
    keys: &[
        key("ca", FILE_PATH, Required, "PEM: certificates of clients lead to one of these."),
        key(
            "mode",
            AnyOf(&[Word("require"), Word("optional")]),
            Written("require"),
            "`optional` serves clients without a certificate, too. One that is not good is refused either way.",
        ),
    ],
};

pub(crate) static HSTS: Section = Section {
    name: "hsts",
    doc: "`Strict-Transport-Security`.",
    example: "max_age: 365d",
    keys: &[
        key("max_age", duration(1000, HSTS_MAX), Required, "For how long."),
        key("include_subdomains", Bool, Written("false"), "For the names below this one, too."),
        key(
            "preload",
            Bool,
            Written("false"),
            "The name may be put on the lists that browsers are built with. That is hard to take back.",
        ),
    ],
};

pub(crate) static SERVICE_TLS: Section = Section {
    name: "service tls",
    doc: "TLS towards endpoints.",
    example: "server_name: app.internal",
    keys: &[
        key(
            "server_name",
            text("a host name", "app.internal"),
            Means("the endpoint's address, without SNI"),
            "What endpoints are asked for by SNI, and what their certificates must be for.",
        ),
        key(
            "ca",
            FILE_PATH,
            Means("what this system trusts"),
            "PEM: the endpoints' certificates lead to one of these, and to no other.",
        ),
        key(
            "certificate",
            AnyOf(&[FILE_PATH, In(&CERTIFICATE)]),
            Means("none"),
            "Shown to endpoints that ask for one.",
        ),
        key(
            "verify",
            Bool,
            Written("true"),
            "`false` takes any certificate: who stands between us and the endpoint can read and change everything.",
        ),
        MIN_VERSION,
    ],
};
