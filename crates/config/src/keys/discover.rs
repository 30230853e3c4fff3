//! The keys of `providers` and of `services.NAME.discover`.

use super::registry::STORE_TLS;
use super::*;

const LABEL: Kind = scalar("`NAME=VALUE`, or `NAME` for any value", "tier=web");
const NETWORK: Kind = scalar("the name of a network", "frontend");
const SERVER: Kind = scalar("the address of a server", "127.0.0.1:5353");
const PROJECT: Kind = scalar("the name of a Compose project", "shop");

pub(crate) static PROVIDERS: Section = Section {
    name: "providers",
    doc: "Where endpoints, and services and routes by label, are discovered.",
    example: "docker: {}",
    keys: &[key(
        "docker",
        In(&DOCKER),
        Means("containers are not discovered"),
        "The containers of a Docker engine or a Podman service on this machine.",
    )],
};

pub(crate) static DOCKER: Section = Section {
    name: "docker provider",
    doc: "A Docker engine or a Podman service. Its socket is read by a small process of its own. See [docker.md](docker.md).",
    example: "",
    keys: &[
        key(
            "socket",
            text("a path", "/run/podman/podman.sock"),
            Written("/var/run/docker.sock"),
            "The engine's socket.",
        ),
        key(
            "exposed_by_default",
            Bool,
            Written("false"),
            "Make a service of every container that exposes a port, also of those without `evenkeel` labels.",
        ),
        key(
            "network",
            NETWORK,
            Means("one that the balancer shares, else the first by name"),
            "The network whose addresses are used, where a container names no other.",
        ),
        key(
            "compose_project",
            PROJECT,
            Means("all containers"),
            "Read only the containers of this Compose project.",
        ),
        key(
            "address",
            AnyOf(&[Word("container"), Word("published")]),
            Written("container"),
            "Send to the container's own address, or to the port that it publishes on this machine.",
        ),
        key(
            "listener",
            scalar("the name of a listener", "web"),
            Means("the only HTTP listener"),
            "The listener that gets the routes of containers that name none.",
        ),
        key(
            "traefik_labels",
            Bool,
            Written("false"),
            "Understand the labels that Traefik reads, and tell which were not understood.",
        ),
        key(
            "virtual_host",
            Bool,
            Written("false"),
            "Understand `VIRTUAL_HOST`, `VIRTUAL_PORT` and `VIRTUAL_PATH` in a container's environment.",
        ),
        key(
            "statistics",
            AnyOf(&[duration(1000, Duration::from_secs(3600)), OFF]),
            Written("5s"),
            "How often processor and memory of each container are asked for.",
        ),
    ],
};

pub(crate) static DISCOVER: Section = Section {
    name: "discover",
    doc: "Where endpoints are found; exactly one of the keys.",
    example: "docker: { compose_service: flask, port: 5000 }",
    keys: &[
        key(
            "docker",
            In(&DISCOVER_DOCKER),
            Means("not from containers"),
            "Containers; needs `providers.docker`.",
        ),
        key(
            "file",
            text("a path", "/etc/evenkeel/endpoints.yaml"),
            Means("not from files"),
            "A file that lists them, or a folder of such files. See [discovery.md](discovery.md#files).",
        ),
        key(
            "http",
            In(&DISCOVER_HTTP),
            Means("not from a URL"),
            "A URL that lists them. See [discovery.md](discovery.md#http).",
        ),
        key(
            "dns",
            In(&DISCOVER_DNS),
            Means("not from the DNS"),
            "A name in the Domain Name System. See [discovery.md](discovery.md#dns).",
        ),
        key(
            "registry",
            In(&DISCOVER_REGISTRY),
            Means("not from a registry"),
            "The instances that registered themselves; needs `registry`. See [registry.md](registry.md).",
        ),
        key("lars", In(&DISCOVER_LARS), Means("not from Lars"), "A route service of Lars."),
    ],
};

pub(crate) static DISCOVER_LARS: Section = Section {
    name: "discover lars",
    doc: "The hosts of a key, from a route service of Lars. See [agent.md](agent.md#lars).",
    example: "address: 127.0.0.1:7778, modid: 1, cmdid: 1",
    keys: &[
        key(
            "address",
            scalar("an address", "127.0.0.1:7778"),
            Required,
            "Where the route service is.",
        ),
        key(
            "modid",
            Integer { min: 0, max: i32::MAX as u64 },
            Required,
            "The number of the module.",
        ),
        key(
            "cmdid",
            Integer { min: 0, max: i32::MAX as u64 },
            Required,
            "The number of the command.",
        ),
    ],
};

pub(crate) static DISCOVER_DOCKER: Section = Section {
    name: "discover docker",
    doc: "Which containers serve. All that is given must hold; with nothing given, those whose label `evenkeel.service`, or else whose Compose service, is the name of this service.",
    example: "compose_service: flask",
    keys: &[
        key(
            "compose_service",
            scalar("the name of a Compose service", "flask"),
            Means("any"),
            "The service of a Compose file that they belong to.",
        ),
        key(
            "compose_project",
            PROJECT,
            Means("that of `providers.docker`, or any"),
            "The Compose project that they belong to.",
        ),
        key(
            "label",
            AnyOf(&[LABEL, ListOf(&LABEL)]),
            Means("any"),
            "Labels that they have: `NAME=VALUE`, or `NAME` for any value.",
        ),
        key(
            "port",
            Integer { min: 1, max: 65_535 },
            Means("the label `evenkeel.port`, or the only exposed port"),
            "The port that they listen on.",
        ),
        key(
            "network",
            NETWORK,
            Means("the label `evenkeel.network`, or that of `providers.docker`"),
            "The network whose addresses are used.",
        ),
    ],
};

pub(crate) static DISCOVER_DNS: Section = Section {
    name: "discover dns",
    doc: "A name whose addresses, or whose service records (SRV), say who serves. It is asked in the background, when its answer has run out.",
    example: "name: images.internal, port: 8080",
    keys: &[
        key(
            "name",
            scalar("a name", "images.internal"),
            Required,
            "The name. With a dot at its end it is whole; otherwise the domains of `search` in `resolv_conf` are tried, too.",
        ),
        key(
            "port",
            Integer { min: 1, max: 65_535 },
            Means("required; service records have their own"),
            "The port that all addresses listen on.",
        ),
        key(
            "type",
            AnyOf(&[Word("address"), Word("srv")]),
            Means("`srv` for a name that begins with `_`, else `address`"),
            "Addresses (A, AAAA), or service records (SRV) with ports, priorities and weights.",
        ),
        key(
            "family",
            AnyOf(&[Word("auto"), Word("ipv4"), Word("ipv6"), Word("both")]),
            Written("auto"),
            "Which addresses are used. `auto`: those of IPv4, or, where a name has none, those of IPv6. `both`: a host that has both is two endpoints.",
        ),
        key(
            "servers",
            AnyOf(&[SERVER, ListOf(&SERVER)]),
            Means("those of `resolv_conf`"),
            "Who is asked, in this order; port 53 unless it says another. Names are asked as they are then.",
        ),
        key(
            "resolv_conf",
            text("a path", "/run/systemd/resolve/resolv.conf"),
            Written("/etc/resolv.conf"),
            "Says who is asked and where names are looked for (`nameserver`, `search`, `options ndots:`). Read again when it changes.",
        ),
        key(
            "timeout",
            duration(1, Duration::from_secs(60)),
            Written("2s"),
            "For one answer of one server. Each is asked twice before the question counts as failed.",
        ),
        key(
            "ttl_min",
            duration(100, DAY),
            Written("1s"),
            "An answer holds at least so long, whatever it says.",
        ),
        key(
            "ttl_max",
            duration(100, DAY),
            Written("1m"),
            "An answer holds at most so long, whatever it says.",
        ),
        key(
            "confirmations",
            Integer { min: 1, max: 100 },
            Written("3"),
            "Who is missing in so many answers in a row has left; and so have all after as many answers that there is none. Further answers are asked for after `ttl_min`.",
        ),
        key(
            "window",
            GRACE,
            Written("5m"),
            "Where answers prove to show a part at a time, who was in one of them within this time stays; at least within 30 times the lifetime of an answer.",
        ),
    ],
};

pub(crate) static DISCOVER_HTTP: Section = Section {
    name: "discover http",
    doc: "A URL that answers with a list of endpoints, in JSON or YAML. It is asked in the background.",
    example: "url: http://127.0.0.1:8500/endpoints/web",
    keys: &[
        key(
            "url",
            text("a URL", "http://127.0.0.1:8500/endpoints/web"),
            Required,
            "What is asked, by GET. It may begin with `https://`.",
        ),
        key("tls", In(&SERVICE_TLS), Means("the defaults"), STORE_TLS),
        key(
            "token",
            scalar("a token", "d41d8cd98f00b204"),
            Means("no token"),
            "Sent as `Authorization: Bearer TOKEN`.",
        ),
        key(
            "interval",
            duration(100, DAY),
            Written("5s"),
            "Between two questions. An `ETag` is sent back as `If-None-Match`.",
        ),
        key(
            "wait",
            duration(1000, Duration::from_secs(600)),
            Means("it is asked at intervals"),
            "A long poll: the server may hold a question so long, until it has something new. The value of its header `X-...-Index` is sent back as `?index=VALUE&wait=SECONDSs`; without that header it is asked at intervals.",
        ),
        key("timeout", TIMEOUT, Written("5s"), "For a whole answer, beside `wait`."),
    ],
};
