//! The keys of `agent`.

use super::*;

const NUMBER: Kind = Integer { min: 0, max: i32::MAX as u64 };
const NETWORKS: Kind = ListOf(&text("a network", "10.0.0.0/8"));
const ADDRESS: Kind = scalar("an IPv4 address to listen on", "127.0.0.1:7778");

pub(crate) static AGENT: Section = Section {
    name: "agent",
    doc: "The client-side agent: callers ask it which endpoint to use and tell it how that went. See [agent.md](agent.md).",
    example: "",
    keys: &[
        key(
            "bind",
            AnyOf(&[BIND, OFF]),
            Written("127.0.0.1:9901"),
            "Where it speaks HTTP with JSON. An address other than this machine's own needs a `token`.",
        ),
        key(
            "token",
            scalar("a token", "d41d8cd98f00b204"),
            Means("no token"),
            "Demanded as `Authorization: Bearer TOKEN` at `bind`.",
        ),
        key(
            "socket",
            text("a path", "/run/evenkeel/agent.sock"),
            Means("no Unix socket"),
            "A Unix socket on which the same is spoken, without a token: open to this user and group.",
        ),
        key(
            "expire",
            TIMEOUT,
            Written("60s"),
            "A pick that was not reported for so long has ended.",
        ),
        key(
            "unreported",
            AnyOf(&[Word("abandoned"), Word("timed_out")]),
            Written("abandoned"),
            "What a pick counts as that expired: as given up by its caller, which says nothing of the endpoint, or as a failure.",
        ),
        key(
            "outstanding",
            Integer { min: 1, max: 1_000_000 },
            Written("65536"),
            "Picks that may be outstanding, over HTTP and again at each UDP port of `lars`. Of more, the oldest expire.",
        ),
        key("lars", In(&LARS), Means("not spoken"), "The wire of Lars."),
    ],
};

pub(crate) static LARS: Section = Section {
    name: "lars",
    doc: "The wire of Lars (github.com/aceld/Lars): UDP for callers, TCP for agents.",
    example: "keys: [ { modid: 1, cmdid: 1, service: web } ]",
    keys: &[
        key(
            "udp",
            ListOf(&ADDRESS),
            Written("[ 127.0.0.1:8888, 127.0.0.1:8889, 127.0.0.1:8890 ]"),
            "Where callers ask: three addresses, for callers choose by `(modid + cmdid) mod 3`.",
        ),
        key(
            "routes",
            AnyOf(&[ADDRESS, OFF]),
            Written("127.0.0.1:7778"),
            "The route service: tells agents of Lars all hosts of a key, and again when they change.",
        ),
        key(
            "reports",
            AnyOf(&[ADDRESS, OFF]),
            Written("127.0.0.1:7779"),
            "The reporter: keeps what agents of Lars tell of their calls, for the admin API.",
        ),
        key(
            "from",
            NETWORKS,
            Written("[]"),
            "Who may ask beside this machine: Lars knows no token. Required when an address is not this machine's own.",
        ),
        key(
            "keys",
            ListOf(&In(&LARS_KEY)),
            Required,
            "Which service a pair of numbers stands for.",
        ),
    ],
};

pub(crate) static LARS_KEY: Section = Section {
    name: "lars key",
    doc: "What Lars calls a service.",
    example: "modid: 1, cmdid: 1, service: web",
    keys: &[
        key("modid", NUMBER, Required, "The number of the module."),
        key("cmdid", NUMBER, Required, "The number of the command."),
        key("service", SERVICE_NAME, Required, "The service."),
    ],
};
