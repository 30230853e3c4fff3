//! TLS on both sides: certificates and what is chosen from them, the settings of handshakes, and
//! the state machine that turns bytes of a socket into plaintext and back.
//!
//! For: [`Server`] and [`Client`], which are made of a specification and its files and follow the
//! files' changes; [`Issued`], what comes from a CA meanwhile; [`Session`], one connection's state machine over rustls, without a socket and
//! without a buffer of its own while nothing is half-way; the development CA ([`LocalCa`]); the
//! other secrets by which we are known to others ([`read_secret`]).
//! Never: sockets, waiting, the configuration's text. A [`Fault`] says which key it is about; who
//! holds the text finds the place.
//! Start with [`Server::new`], then [`Session::process`].
#![forbid(unsafe_code)]

mod certificate;
mod client;
mod fault;
mod identity;
mod issued;
mod local_ca;
mod outgoing;
mod provider;
mod secret;
mod server;
mod session;
mod store;
mod watch;

pub use client::{Client, Dialling, towards, trusting};
pub use fault::{Fault, Place, Severity, check};
pub use identity::Identity;
pub use issued::{ALPN_ACME, Issued, IssuedCertificate, Proof, SigningRequest};
pub use local_ca::LocalCa;
pub use outgoing::Outgoing;
pub use secret::read_secret;
pub use server::{ALPN_HTTP1, ALPN_HTTP2, Server, Shown};
pub use session::{Processed, Session, TlsError};
pub use watch::{Fingerprint, Watch};
