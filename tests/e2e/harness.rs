//! Starting the program and its replicas, and speaking to them.

pub mod balancer;
pub mod beside;
pub mod client;
pub mod consul_fake;
pub mod engine;
pub mod etcd;
pub mod measure;
pub mod names;
pub mod open_loop;
pub mod pebble;
pub mod peer;
pub mod pki;
pub mod program;
pub mod recorded_engine;
pub mod registrar;
pub mod replica;
pub mod secure;
pub mod site;
pub mod streams;
pub mod wait;
pub mod web;
pub mod wrk;

pub use balancer::{Balancer, LOAD_SECONDS};
pub use beside::Beside;
pub use client::{Client, Response};
pub use measure::Memory;
pub use pebble::Pebble;
pub use peer::Peer;
pub use pki::Pki;
pub use program::{Evenkeel, Quickstart, free_port, local};
pub use replica::{Replica, Seen};
pub use secure::Secure;
pub use streams::{Lines, WebSocket};
pub use wait::{until, within};
pub use web::Web;
pub use wrk::Wrk;
