//! The client-side agent: callers ask which endpoint to use, and tell how it went.

mod clients;
mod http;
mod lars;
mod shared;
