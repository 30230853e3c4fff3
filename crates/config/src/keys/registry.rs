//! The keys of `registry`.

use super::*;

const TOKEN: Kind = AnyOf(&[scalar("a token", "d41d8cd98f00b204"), In(&SECRET_FILE)]);
pub(super) const STORE_TLS: &str = "How TLS is spoken to an address that begins with `https://`, whose host certificates must be for. Renewed files are in use with the next connection.";
const PREFIX: Kind = text("a prefix of keys that ends with `/`", "shop/registry/");

pub(crate) static REGISTRY: Section = Section {
    name: "registry",
    doc: "Where instances register themselves, and where the services with `discover: { registry: {} }` look. In this process; with `url`, in another one. See [registry.md](registry.md).",
    example: "",
    keys: &[
        key(
            "bind",
            BIND,
            Written("127.0.0.1:9910"),
            "Where its API listens. An address other than this machine's own needs a `token`.",
        ),
        key(
            "url",
            scalar("an address", "http://10.0.0.7:9910"),
            Means("the registry is in this process"),
            "The registry of another process, which is asked over HTTP; over HTTPS where something in front of it speaks TLS.",
        ),
        key("tls", In(&SERVICE_TLS), Means("the defaults"), STORE_TLS),
        key(
            "token",
            TOKEN,
            Means("no token"),
            "Whoever has it may register, list and remove all services; with `url`, what is sent there.",
        ),
        key(
            "tokens",
            MapOf("SERVICE", &In(&SERVICE_TOKEN)),
            Means("none; all services need `token`, if there is one"),
            "Tokens that open one service each, by its name.",
        ),
        key(
            "data",
            AnyOf(&[text("a path", "/var/lib/evenkeel/registry.redb"), OFF]),
            Means("`evenkeel-registry.redb` beside the configuration"),
            "The file that survives a restart. What it holds must prove itself before it gets traffic. Takes effect at start.",
        ),
        key(
            "services_max",
            Integer { min: 1, max: 100_000 },
            Written("1000"),
            "Services with at least one instance; a registration beyond it gets 507.",
        ),
        key(
            "instances_max",
            Integer { min: 1, max: 1_000_000 },
            Written("20000"),
            "Instances of all services together; a registration beyond it gets 507.",
        ),
        key(
            "metadata_max",
            Integer { min: 0, max: 1000 },
            Written("32"),
            "Pairs of metadata that one instance may have.",
        ),
        key(
            "watchers_max",
            Integer { min: 1, max: 100_000 },
            Written("1000"),
            "Requests that wait for a change at once; further ones get 503.",
        ),
        key(
            "connections_max",
            Integer { min: 1, max: 1_000_000 },
            Written("20000"),
            "Connections at once; further ones wait. Takes effect with `bind`.",
        ),
        key(
            "self_preservation",
            AnyOf(&[In(&SELF_PRESERVATION), OFF]),
            Means("on"),
            "When most instances fall silent at once, nobody is removed for it.",
        ),
        key(
            "store",
            In(&REGISTRY_STORE),
            Means("this process alone"),
            "Where instances are kept for several balancers. Takes effect at start.",
        ),
    ],
};

pub(crate) static SECRET_FILE: Section = Section {
    name: "secret file",
    doc: "A token or password that a file holds.",
    example: "file: /run/secrets/registry",
    keys: &[key(
        "file",
        text("a path", "/run/secrets/registry"),
        Required,
        "White space around it is left out.",
    )],
};

pub(crate) static SERVICE_TOKEN: Section = Section {
    name: "token of a service",
    doc: "The token of one service.",
    example: "token: d41d8cd98f00b204",
    keys: &[key("token", TOKEN, Required, "Opens this service and no other.")],
};

pub(crate) static SELF_PRESERVATION: Section = Section {
    name: "self-preservation",
    doc: "When silence is not believed; the rule is Eureka's.",
    example: "renewals_min: 50%",
    keys: &[
        key(
            "renewals_min",
            Share,
            Written("50%"),
            "With fewer than this share of the instances on time, those that are silent stay.",
        ),
        key(
            "instances_min",
            Integer { min: 1, max: 1_000_000 },
            Written("3"),
            "With fewer instances than this, each leaves after its TTL.",
        ),
        key(
            "hold_max",
            duration(1000, Duration::from_secs(7 * 24 * 3600)),
            Written("1h"),
            "Silence that lasts so long is believed after all.",
        ),
    ],
};

pub(crate) static REGISTRY_STORE: Section = Section {
    name: "registry store",
    doc: "One of `etcd` and `consul`.",
    example: "etcd: { endpoints: [ 'http://10.0.0.7:2379' ] }",
    keys: &[
        key("etcd", In(&ETCD), Means("not in etcd"), "etcd, version 3, through its JSON gateway."),
        key(
            "consul",
            In(&CONSUL),
            Means("not in Consul"),
            "Consul's key-value store and sessions.",
        ),
    ],
};

pub(crate) static ETCD: Section = Section {
    name: "etcd",
    doc: "An etcd cluster.",
    example: "endpoints: [ 'http://10.0.0.7:2379' ]",
    keys: &[
        key(
            "endpoints",
            ListOf(&scalar("an address", "http://10.0.0.7:2379")),
            Required,
            "Its members, `http://` or `https://`; the first that answers is used.",
        ),
        key("prefix", PREFIX, Written("evenkeel/registry/"), "Of all keys."),
        key(
            "user",
            In(&ETCD_USER),
            Means("nobody"),
            "Who we are, where etcd wants to know it. It must read and write below `prefix`.",
        ),
        key("tls", In(&SERVICE_TLS), Means("the defaults"), STORE_TLS),
    ],
};

pub(crate) static ETCD_USER: Section = Section {
    name: "etcd user",
    doc: "A user of etcd's own authentication.",
    example: "name: evenkeel, password: s3cret-of-etcd",
    keys: &[
        key("name", scalar("a name", "evenkeel"), Required, "Its name."),
        key(
            "password",
            AnyOf(&[scalar("a password", "s3cret-of-etcd"), In(&SECRET_FILE)]),
            Required,
            "Its password. A file is read again whenever etcd asks.",
        ),
    ],
};

pub(crate) static CONSUL: Section = Section {
    name: "consul",
    doc: "An agent of Consul.",
    example: "url: http://127.0.0.1:8500",
    keys: &[
        key(
            "url",
            scalar("an address", "http://127.0.0.1:8500"),
            Written("http://127.0.0.1:8500"),
            "Where it listens for HTTP or HTTPS. With `tls`, https://127.0.0.1:8501 by default.",
        ),
        key(
            "token",
            TOKEN,
            Means("no token"),
            "An ACL token; it must write below `prefix`, and sessions.",
        ),
        key("prefix", PREFIX, Written("evenkeel/registry/"), "Of all keys."),
        key("tls", In(&SERVICE_TLS), Means("the defaults"), STORE_TLS),
    ],
};

pub(crate) static DISCOVER_REGISTRY: Section = Section {
    name: "discover registry",
    doc: "The instances that registered themselves; needs `registry`.",
    example: "",
    keys: &[key(
        "service",
        SERVICE_NAME,
        Means("the name of this service"),
        "The service that they registered for.",
    )],
};
