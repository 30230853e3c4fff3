//! Compose files: what they say, what is to be done for them, and the engine that does it.
//!
//! For: `evenkeel up` and its relatives. A file is read ([`read::read`]), compared with what the
//! engine has ([`plan::plan`]), and the difference is put into effect over the engine's API
//! ([`Engine`]). Names and labels are those of Docker Compose, so that each takes over what the
//! other started.
//! Never: carries traffic. The ports of services are listened on by a balancer, whose configuration
//! is made here ([`balancer::configuration`]) and run by the binary.
//! Start with [`project::Project`] and [`plan::Action`]. Reading and planning are pure; `engine` and what
//! is below it are not.
#![forbid(unsafe_code)]

pub mod autoscale;
pub mod balancer;
pub mod context;
pub mod dotenv;
pub mod engine;
pub mod hash;
pub mod interpolate;
pub mod labels;
pub mod observed;
pub mod plan;
pub mod progress;
pub mod project;
pub mod read;
pub mod registry;
pub mod request;
pub mod verdict;

pub use engine::Engine;
