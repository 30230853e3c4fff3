//! The data plane: listeners, connection pools, and the forwarding of HTTP/1, HTTP/2,
//! TCP and UDP.
//!
//! For: moving bytes between clients and endpoints with as few system calls, copies and
//! allocations as the protocols allow; one single-threaded worker per core, each with its own
//! sockets, pools and buffers. Also the driver that carries out health checks, since it is made of
//! the same sockets.
//! Never: a balancing decision (that is `service`), a text format (that is `config`).
//! Start with [`Proxy`], then `worker`, `listener`, `http1::connection`; `pump` moves the bytes of
//! every protocol; `io` is the only place that knows the runtime's sockets.
#![forbid(unsafe_code)]

mod accept;
mod access_log;
mod arrival;
mod buffer;
mod clock;
mod dialling;
mod http1;
mod http2;
mod io;
mod lifecycle;
mod listener;
mod metrics;
mod passthrough;
mod pool;
mod probe;
mod proxy;
mod proxy_protocol;
mod pump;
mod queue;
mod relay;
mod retirement;
mod session;
mod session_store;
mod spares;
mod splice;
mod tcp;
mod tracked;
mod udp;
mod upstream;
mod worker;

pub use proxy::{Proxy, ProxyOptions, Reloaded};
