//! The keys of `dns`.

use super::*;

pub(crate) static DNS: Section = Section {
    name: "dns",
    doc: "A server of the DNS that tells who serves: each service is a name. See [discovery.md](discovery.md#serving-dns).",
    example: "",
    keys: &[
        key(
            "bind",
            BIND,
            Written("127.0.0.1:5353"),
            "Where it listens, over UDP and TCP. Name one address: answers leave from where the system thinks best.",
        ),
        key(
            "domain",
            text("a domain", "evenkeel.internal"),
            Written("evenkeel.internal"),
            "The domain it answers for, and no other: `SERVICE.DOMAIN`.",
        ),
        key(
            "ttl",
            duration(0, Duration::from_secs(3600)),
            Written("5s"),
            "How long answers may be kept, in whole seconds; also those that there is none.",
        ),
        key(
            "rate",
            AnyOf(&[Integer { min: 1, max: 1_000_000 }, OFF]),
            Written("1000"),
            "Answers in a second over UDP for the clients of one network (/24 of IPv4, /56 of IPv6). Beyond it they are told to ask over TCP, beyond twice it nothing: forged senders cannot turn the server on others.",
        ),
    ],
};
