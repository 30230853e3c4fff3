//! A client of Evenkeel's agent: asks which endpoint of a service to use, and tells how it went.
//!
//! ```no_run
//! let agent = agent_client::Agent::unix("/run/evenkeel/agent.sock");
//! let pick = agent.pick("web")?;
//! match std::net::TcpStream::connect(pick.address()) {
//!     Ok(_stream) => pick.succeeded(),
//!     Err(_) => pick.report(agent_client::Outcome::ConnectFailed, None),
//! }?;
//! # Ok::<(), agent_client::Error>(())
//! ```
//!
//! For: programs that call the endpoints of a service themselves, in threads; nothing here is
//! asynchronous. While the agent cannot be reached, the endpoints that it last told of are used in
//! turn ([`Pick::is_last_known`]), and it is asked again once a second.
//! Never: connects to endpoints, or keeps a caller waiting for longer than the time-out.
//! Start with [`Agent`]; `http.rs` is how it is spoken to.
#![forbid(unsafe_code)]

mod agent;
mod http;
mod known;

pub use agent::{Agent, Error, Outcome, Pick, Wish};
pub use known::Endpoint;
