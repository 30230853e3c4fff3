//! The keys of `providers` and of `services.NAME.discover`.

use super::*;

const LABEL: Kind = scalar("`NAME=VALUE`, or `NAME` for any value", "tier=web");
const NETWORK: Kind = scalar("the name of a network", "frontend");
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
