//! Starts the replicas of a service as processes, keeps as many running as are wanted, and stops
//! them without losing a request.
//!
//! What it never does: choose who gets traffic, or judge health. It tells [`Replicas`] which
//! replicas run, asks it whether one is healthy and when one is idle, and leaves the rest to the
//! service behind it.
//!
//! Where to start: [`ProcessRunner`] is the handle; `fleet` decides how many replicas there are
//! and which are replaced; `replica` is the life of one; [`Tied`] is one process group, from start
//! to its certain end; [`watchdog`] ends what is left when the balancer itself is killed.
#![deny(unsafe_code)]

mod backoff;
mod before_exec;
mod file_limit;
mod fleet;
mod group;
mod launch;
mod output;
mod ports;
mod process;
mod published;
mod replica;
mod spawner;
mod tied;
pub mod watchdog;

use std::pin::Pin;

use model::{Endpoint, EndpointId};

pub use file_limit::raise_file_limit;
pub use fleet::ProcessRunner;
pub use tied::Tied;
pub use watchdog::Watchdog;

/// The service that the replicas serve, as the runner sees it.
pub trait Replicas: Send + Sync + 'static {
    /// The replicas that run now, all of them; called again after every change, in order.
    /// Must not call back into the runner.
    fn set(&self, endpoints: Vec<Endpoint>);
    fn is_healthy(&self, id: &EndpointId) -> bool;
    /// Gives the replica nothing new. Resolves when it is idle, or when the time that streams are
    /// given is over.
    fn drain(&self, id: &EndpointId) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}
