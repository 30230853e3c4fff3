//! Discovery: who serves what, learnt from where that is known.
//!
//! For: the containers of a Docker engine or a Podman service: a small process of its own holds the
//! engine's socket and tells, in lines of JSON, what there is; the balancer makes endpoints,
//! services and routes of it. And for sources that need no more rights than the balancer has, which
//! run inside it.
//! Never: chooses an endpoint or checks its health; takes a failed look-up for an answer (then
//! everybody stays); opens the engine's socket in the process that carries traffic.
//! Start with [`Message`] (what is told), then `providers/docker.rs` (how it is learnt, in the
//! watcher) and [`Picture`] (what becomes of it, in the balancer); or with [`sources`].
#![forbid(unsafe_code)]

mod backoff;
mod container;
mod foreign;
mod message;
pub mod names;
mod picture;
mod place;
pub mod providers;
pub mod sources;
mod wake;
pub mod watcher;

pub use backoff::Backoff;
pub use container::{Container, Health, Phase, Port, Published, Transport, Usage};
pub use message::{LINE_BYTES_MAX, Message};
pub use picture::{Changes, Declared, LeftOut, Listed, Picture, ReadLabels, Summary, Way};
