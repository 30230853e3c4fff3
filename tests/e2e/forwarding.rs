//! Requests to replicas and answers back: connections, messages, headers, upgrades, and what
//! happens when a replica fails.

mod connections;
mod faults;
mod headers;
mod messages;
mod retries;
mod upgrades;
