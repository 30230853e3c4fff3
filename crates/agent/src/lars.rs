//! The wire of Lars: what its callers are answered. Datagrams in, datagrams out; the sockets are
//! in the files below.

pub(crate) mod reports;
pub(crate) mod routes;
mod stream;
pub(crate) mod udp;

use std::net::{IpAddr, SocketAddr};

use model::{Instant, Outcome};
use service::{Request, Service};
use wire::lars::{
    Decoded, Host, Key, Message, NOEXIST, OVERLOAD, SUCC, SYSTEM_ERROR, decode, encode,
};

use crate::counts::count;
use crate::desk::{Desk, Refusal};
use crate::terms::Terms;

/// What a datagram is answered with, appended to `reply`; nothing for a report, and for what no
/// caller sends.
pub(crate) fn answer(
    desk: &mut Desk,
    terms: &Terms,
    datagram: &[u8],
    peer: IpAddr,
    now: Instant,
    reply: &mut Vec<u8>,
) {
    if !terms.spec.lars.as_ref().is_some_and(|lars| lars.admits(peer)) {
        return count(&desk.counts().not_admitted);
    }
    let message = match decode(datagram) {
        Ok(Decoded::Complete { message, len }) if len == datagram.len() => message,
        _ => return count(&desk.counts().malformed),
    };
    match message {
        Message::GetHostRequest { seq, key } => {
            let (retcode, host) = get_host(desk, terms, key, peer, now);
            encode(&Message::GetHostResponse { seq, key, retcode, host }, reply);
        }
        Message::ReportRequest { key, host, retcode } => {
            // Callers have numbers of their own for what went wrong.
            let outcome = if retcode == SUCC { Outcome::Success } else { Outcome::ServerError };
            match terms.keys.get(&key) {
                Some(service) => desk.report_at_place((key, host), service, outcome, now),
                None => count(&desk.counts().unmatched),
            }
        }
        Message::ApiGetRouteRequest(key) => {
            let hosts = terms.keys.get(&key).map(|service| hosts(service)).unwrap_or_default();
            encode(&Message::ApiGetRouteResponse(key, hosts), reply);
        }
        _ => count(&desk.counts().malformed),
    }
}

fn get_host(
    desk: &mut Desk,
    terms: &Terms,
    key: Key,
    peer: IpAddr,
    now: Instant,
) -> (i32, Option<Host>) {
    let Some(service) = terms.keys.get(&key) else {
        count(&desk.counts().unknown);
        return (NOEXIST, None);
    };
    if terms.stopping {
        return (OVERLOAD, None);
    }
    let request = Request { now, key: Some(route::source_key(peer)), exclude: &[] };
    let place = |address| host(address).map(|host| (key, host));
    match desk.pick_at_place(service, &request, &terms.spec, place) {
        Ok(Some((_, host))) => (SUCC, Some(host)),
        // It has an IPv6 address, which cannot be said here.
        Ok(None) => (SYSTEM_ERROR, None),
        Err(Refusal::NoEndpoint) => (NOEXIST, None),
        Err(Refusal::Overloaded) => (OVERLOAD, None),
    }
}

/// All hosts of a service, whatever their state, but those that leave, and those with an IPv6
/// address.
pub(crate) fn hosts(service: &Service) -> Vec<Host> {
    service.addresses().into_iter().filter_map(host).collect()
}

fn host(address: SocketAddr) -> Option<Host> {
    match address {
        SocketAddr::V4(address) => Some(address.into()),
        SocketAddr::V6(address) => {
            let ip = address.ip().to_ipv4_mapped()?;
            Some(std::net::SocketAddrV4::new(ip, address.port()).into())
        }
    }
}

#[cfg(test)]
mod tests;
