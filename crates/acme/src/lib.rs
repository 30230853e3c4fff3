//! Certificates that a CA issues by itself (ACME, RFC 8555), renewed in time.
//!
//! For: deciding when a certificate is ordered, and when again after a failure ([`renewal`], pure);
//! keeping account, keys and certificates where several balancers share them (`store`, with a
//! lease so that one of them orders); carrying an order out; and handing what comes of it to
//! [`tls::Issued`], which listeners show.
//! Never: accepts connections; proofs are shown by the data plane. Never takes back a certificate
//! because a newer one could not be had.
//! Start with [`Acme`], then [`renewal::Plan`].
#![forbid(unsafe_code)]

mod directory;
mod lease;
mod order;
pub mod renewal;
mod site;
mod store;
mod supervisor;

pub use supervisor::{Acme, Wanted};
