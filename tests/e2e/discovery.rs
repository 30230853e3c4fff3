//! Endpoints that the balancer finds out itself: listed in files, at URLs, or named in the DNS; and what is told of them there.

mod dns;
mod file;
mod http;
mod serve_dns;

use std::net::SocketAddr;

use super::harness::{Client, Evenkeel};

/// One HTTP listener before one service that is discovered so.
pub fn discovered(bind: SocketAddr, discover: &str) -> String {
    format!(
        "listeners: {{ web: {{ bind: {bind}, service: web }} }}\n\
         services: {{ web: {{ discover: {discover} }} }}\n"
    )
}

/// Ports of the endpoints of `web`, in order.
pub fn ports(program: &Evenkeel) -> Vec<u16> {
    let service = program.service("web");
    let port = |endpoint: &serde_json::Value| {
        endpoint["address"].as_str()?.parse::<SocketAddr>().ok().map(|address| address.port())
    };
    let mut ports: Vec<u16> =
        service["endpoints"].as_array().unwrap().iter().filter_map(port).collect();
    ports.sort_unstable();
    ports
}

pub fn answer(bind: SocketAddr) -> String {
    let response = Client::get(bind, "/");
    assert_eq!(response.status, 200, "{}", response.text());
    response.text()
}
