//! Starting the program and its replicas, and speaking to them.

pub mod client;
pub mod program;
pub mod replica;
pub mod streams;
pub mod wait;
pub mod wrk;

pub use client::{Client, Response};
pub use program::{Evenkeel, Quickstart, free_port};
pub use replica::{Replica, Seen};
pub use streams::{Lines, WebSocket};
pub use wait::{until, within};
pub use wrk::Wrk;
