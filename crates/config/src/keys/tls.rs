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
    doc: "TLS towards clients. At least one of `certificates`, `acme` and `self_signed`. Files are read again when they change; paths count from the directory of this file.",
    example: "certificates: [ site.pem ]",
    keys: &[
        key(
            "certificates",
            ListOf(&AnyOf(&[FILE_PATH, In(&CERTIFICATE)])),
            Means("see `acme` and `self_signed`"),
            "PEM files: one with chain and key, or one of each. Which one a client is shown follows from the names in the certificates and from what the client can verify; the first is for all other names. Several may have the same names and other keys (ECDSA and RSA).",
        ),
        key(
            "self_signed",
            AnyOf(&[Bool, ListOf(&text("a host name", "app.test"))]),
            Written("false"),
            "For development: a certificate for `localhost`, and for these names, by a CA that is made once for this user. What makes a system trust it is logged at start.",
        ),
        key(
            "acme",
            AnyOf(&[Bool, In(&ACME)]),
            Written("false"),
            "Certificates that a CA issues by itself, and renews in time; by Let's Encrypt, if nothing else is said. By using it you agree to the CA's terms. See [tls.md](tls.md).",
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

pub(crate) static ACME: Section = Section {
    name: "acme",
    doc: "Certificates of a CA that speaks ACME (RFC 8555), one for each domain. Names that have none yet are refused.",
    example: "email: ops@example.com",
    keys: &[
        key(
            "domains",
            ListOf(&text("a host name", "shop.example.com")),
            Means("the hosts of the listener's routes"),
            "The names that certificates are wanted for; no wildcards.",
        ),
        key(
            "email",
            text("an address", "ops@example.com"),
            Means("none is given"),
            "Where the CA may write to.",
        ),
        key(
            "directory",
            text("an https URL", "https://ca.example.com/acme/directory"),
            Means("Let's Encrypt's"),
            "The CA's ACME directory.",
        ),
        key(
            "staging",
            Bool,
            Written("false"),
            "To try things out: Let's Encrypt's staging directory, whose certificates no browser trusts, and whose limits are wide.",
        ),
        key(
            "challenge",
            AnyOf(&[Word("tls-alpn-01"), Word("http-01")]),
            Written("tls-alpn-01"),
            "How the CA sees that a domain is ours: by this listener, which it must reach on port 443 (RFC 8737), or by the HTTP listeners without `tls`, of which it must reach one on port 80, before their routes and redirects.",
        ),
        key(
            "ca",
            FILE_PATH,
            Means("what this system trusts"),
            "PEM: whom the directory's own certificate must lead to, for private CAs.",
        ),
        key(
            "eab",
            In(&EAB),
            Means("the CA takes new accounts of anybody"),
            "An account that was made at the CA beforehand (external account binding).",
        ),
        key(
            "store",
            text("a path", "/var/lib/evenkeel/acme"),
            Means(
                "`acme` in systemd's `STATE_DIRECTORY`; else `evenkeel/acme` in `/var/lib` for root, or in `XDG_STATE_HOME`",
            ),
            "The directory for the account, keys and certificates. Balancers that share it issue once.",
        ),
        key(
            "renew_before",
            AnyOf(&[OFF, duration(1000, RENEW_BEFORE_MAX)]),
            Written("off"),
            "How long before its end a certificate is renewed, at least half of its life after its beginning. `off`: when the CA says (RFC 9773), or when a third of its life is left.",
        ),
    ],
};

/// No public CA issues for longer than 398 days.
const RENEW_BEFORE_MAX: Duration = Duration::from_secs(398 * 86_400);

pub(crate) static EAB: Section = Section {
    name: "eab",
    doc: "External account binding (RFC 8555 section 7.3.4).",
    example: "key_id: kid-1, hmac_key: zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W",
    keys: &[
        key("key_id", text("an id", "kid-1"), Required, "What the CA calls the account."),
        key(
            "hmac_key",
            text("base64url", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"),
            Required,
            "The key that the CA gave; a secret.",
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
            Means(
                "the endpoint's address, without SNI; of a store or a list at a URL, the host in its address",
            ),
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
