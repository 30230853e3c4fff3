//! A listener: what accepts, its limits, and the routes that its connections read.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use model::spec::{ActionSpec, HeaderEdit, ListenerSpec, Protocol, RouteSpec, ServerTlsSpec};
use model::{ListenerName, ServiceName};
use route::{Rewriter, Split, Table};
use service::Service;
use socket2::{Domain, Socket, Type};

use crate::http1::is_edited;
use crate::metrics::{Latencies, ListenerShard};
use crate::session_store::SessionStore;
use crate::udp;
use crate::upstream::Secure;
use crate::worker::Worker;

/// Connections that may wait to be accepted, per worker; the kernel bounds it by somaxconn.
const BACKLOG: i32 = 4096;

/// A listener as all workers share it. It outlives changes of its routes and settings.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) id: u32,
    pub(crate) name: ListenerName,
    pub(crate) protocol: Protocol,
    /// As it was bound: with the port that the kernel chose if 0 was asked for.
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<ArcSwap<ListenerState>>,
    pub(crate) shards: Arc<[ListenerShard]>,
    /// Another listener has its sockets now, and takes what arrives on them.
    handed_over: AtomicBool,
    open: AtomicUsize,
    /// TLS handshakes under way.
    handshakes: AtomicUsize,
    per_client: Mutex<HashMap<IpAddr, usize>>,
}

/// What connections read for each request; replaced as a whole when the configuration changes.
#[derive(Debug)]
pub(crate) struct ListenerState {
    pub(crate) spec: ListenerSpec,
    pub(crate) table: Table,
    pub(crate) routes: Vec<Route>,
    /// `None`: clients speak in clear.
    pub(crate) tls: Option<Arc<tls::Server>>,
    /// What a CA may come to see (HTTP-01).
    pub(crate) issued: Arc<tls::Issued>,
}

/// A route, ready to be carried out.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) action: Action,
    pub(crate) rewriter: Option<Rewriter>,
    pub(crate) rewrite_host: Option<String>,
    pub(crate) request_headers: Vec<HeaderEdit>,
    pub(crate) response_headers: Vec<HeaderEdit>,
}

#[derive(Debug)]
pub(crate) enum Action {
    Forward { split: Split, targets: Vec<Arc<Target>> },
    Redirect { status: u16, location: String },
    Respond { status: u16, body: String, content_type: String },
}

/// A service and what the data plane measures of it.
pub(crate) struct Target {
    pub(crate) service: Arc<Service>,
    pub(crate) latencies: Arc<[Latencies]>,
    /// What is spoken to its endpoints; replaced when its files change.
    pub(crate) secure: ArcSwap<Secure>,
    /// Where its sessions are shared with other balancers, if they are.
    pub(crate) store: ArcSwapOption<SessionStore>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(self.service.name()).finish()
    }
}

/// How routes find their services while a configuration is applied.
pub(crate) type Targets<'a> = &'a dyn Fn(&ServiceName) -> Option<Arc<Target>>;

impl ListenerState {
    /// `former`: the TLS of the listener until now. `issued`: where certificates by ACME come to.
    pub(crate) fn build(
        spec: &ListenerSpec,
        targets: Targets<'_>,
        former: Option<Arc<tls::Server>>,
        issued: Arc<tls::Issued>,
    ) -> io::Result<Self> {
        let mut specs = spec.routes.clone();
        specs.extend(spec.service.clone().map(RouteSpec::catch_all));
        let table = Table::build(&specs).map_err(|e| invalid(format!("{}: {e}", spec.name)))?;
        let tls = match &spec.tls {
            None => None,
            Some(tls) => Some(secured(spec, tls, former, issued.clone())?),
        };
        let hsts = tls.as_ref().and_then(|tls| tls.hsts());
        let routes = specs
            .iter()
            .map(|route| Route::build(route, targets, hsts))
            .collect::<io::Result<_>>()?;
        Ok(Self { spec: spec.clone(), table, routes, tls, issued })
    }

    /// TCP and UDP listeners have one route, to one service.
    pub(crate) fn only_target(&self) -> Option<&Arc<Target>> {
        self.routes.iter().find_map(|route| match &route.action {
            Action::Forward { targets, .. } => targets.first(),
            _ => None,
        })
    }
}

/// As it was if nothing about it changed, so that its tickets stay good.
fn secured(
    spec: &ListenerSpec,
    tls: &ServerTlsSpec,
    former: Option<Arc<tls::Server>>,
    issued: Arc<tls::Issued>,
) -> io::Result<Arc<tls::Server>> {
    let alpn: &[&[u8]] = match (spec.protocol, &spec.http2) {
        (Protocol::Http, Some(_)) => &[tls::ALPN_HTTP2, tls::ALPN_HTTP1],
        (Protocol::Http, None) => &[tls::ALPN_HTTP1],
        _ => &[],
    };
    if let Some(former) = &former
        && former.spec() == tls
        && former.alpn().eq(alpn.iter().copied())
    {
        return Ok(former.clone());
    }
    let made = tls::Server::new(spec.name.as_str(), tls, alpn, former.as_deref(), issued);
    let (server, _) = made.map_err(|faults| {
        let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
        invalid(texts.join("; "))
    })?;
    Ok(Arc::new(server))
}

impl Route {
    fn build(spec: &RouteSpec, targets: Targets<'_>, hsts: Option<&str>) -> io::Result<Self> {
        let action = match &spec.action {
            ActionSpec::Forward(services) => {
                let weights: Vec<u32> = services.iter().map(|s| s.weight).collect();
                let targets = services
                    .iter()
                    .map(|s| {
                        targets(&s.service)
                            .ok_or_else(|| invalid(format!("no service {}", s.service)))
                    })
                    .collect::<io::Result<_>>()?;
                Action::Forward { split: Split::new(&weights), targets }
            }
            ActionSpec::Redirect { status, location } => {
                Action::Redirect { status: *status, location: location.clone() }
            }
            ActionSpec::Respond { status, body, content_type } => Action::Respond {
                status: *status,
                body: body.clone(),
                content_type: content_type.clone(),
            },
        };
        let rewriter = match &spec.rewrite_path {
            None => None,
            Some(_) => Some(Rewriter::new(spec).map_err(|e| invalid(e.to_string()))?),
        };
        let mut response_headers = spec.response_headers.clone();
        let name = "strict-transport-security";
        if let Some(value) = hsts
            && !is_edited(&response_headers, name.as_bytes())
        {
            response_headers.push(HeaderEdit::Set(name.into(), value.into()));
        }
        Ok(Self {
            action,
            rewriter,
            rewrite_host: spec.rewrite_host.clone(),
            request_headers: spec.request_headers.clone(),
            response_headers,
        })
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

impl Listener {
    pub(crate) fn new(
        id: u32,
        address: SocketAddr,
        state: ListenerState,
        shards: Arc<[ListenerShard]>,
    ) -> Self {
        Self {
            id,
            name: state.spec.name.clone(),
            protocol: state.spec.protocol,
            address,
            state: Arc::new(ArcSwap::from_pointee(state)),
            shards,
            handed_over: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            handshakes: AtomicUsize::new(0),
            per_client: Mutex::default(),
        }
    }

    pub(crate) fn hand_over(&self) {
        self.handed_over.store(true, Relaxed);
    }

    pub(crate) fn is_handed_over(&self) -> bool {
        self.handed_over.load(Relaxed)
    }

    /// Has it no connection (or flow) open, on any worker?
    pub(crate) fn is_idle(&self) -> bool {
        self.open.load(Relaxed) == 0
    }

    /// A place under the limits for one connection (or flow) of `client`.
    pub(crate) fn admit(self: &Arc<Self>, client: IpAddr) -> Option<Admission> {
        let state = self.state.load();
        let limits = &state.spec.limits;
        if self.open.fetch_add(1, Relaxed) >= limits.connections {
            self.open.fetch_sub(1, Relaxed);
            return None;
        }
        let mut admission = Admission { listener: self.clone(), client: None };
        if let Some(most) = limits.connections_per_client {
            let mut clients = self.per_client.lock().unwrap_or_else(PoisonError::into_inner);
            let count = clients.entry(client).or_insert(0);
            if *count >= most {
                return None;
            }
            *count += 1;
            admission.client = Some(client);
        }
        Some(admission)
    }

    /// A place for one TLS handshake.
    pub(crate) fn shake_hands(self: &Arc<Self>) -> Option<Handshake> {
        let most = self.state.load().spec.limits.handshakes;
        let handshake = Handshake(self.clone());
        (self.handshakes.fetch_add(1, Relaxed) < most).then_some(handshake)
    }
}

/// A TLS handshake under way.
#[derive(Debug)]
pub(crate) struct Handshake(Arc<Listener>);

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.handshakes.fetch_sub(1, Relaxed);
    }
}

/// One connection's place under its listener's limits.
#[derive(Debug)]
pub(crate) struct Admission {
    listener: Arc<Listener>,
    client: Option<IpAddr>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.listener.open.fetch_sub(1, Relaxed);
        if let Some(client) = self.client {
            let mut clients =
                self.listener.per_client.lock().unwrap_or_else(PoisonError::into_inner);
            if let Entry::Occupied(mut count) = clients.entry(client) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }
}

/// A socket that one worker accepts on.
#[derive(Debug)]
pub(crate) enum Bound {
    Tcp(std::net::TcpListener),
    Udp(std::net::UdpSocket),
}

impl Bound {
    /// The same socket once more: it is closed when both are.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        match self {
            Bound::Tcp(socket) => socket.try_clone().map(Bound::Tcp),
            Bound::Udp(socket) => socket.try_clone().map(Bound::Udp),
        }
    }
}

/// Binds one socket per worker to the same address, between which the kernel spreads clients.
/// `beside_ours`: sockets of ours that are about to close stand on this port, which is then not
/// asked for alone.
///
/// SO_REUSEPORT would let a second instance share our port in silence: the first socket is bound
/// without it, which is refused when anyone else listens there, and gets it afterwards for the
/// others to join. A socket made only to ask and closed again would not do: processes that are
/// being started hold it until they become their program.
pub(crate) fn bind(
    mut address: SocketAddr,
    protocol: Protocol,
    workers: usize,
    beside_ours: bool,
) -> io::Result<(SocketAddr, Vec<Bound>)> {
    let kind = if protocol == Protocol::Udp { Type::DGRAM } else { Type::STREAM };
    let mut sockets = Vec::with_capacity(workers);
    for index in 0..workers {
        let socket = Socket::new(Domain::for_address(address), kind, None)?;
        let alone = index == 0 && !beside_ours;
        socket.set_reuse_port(!alone)?;
        socket.set_nonblocking(true)?;
        dual_stack(&socket, address)?;
        if kind == Type::STREAM {
            socket.set_reuse_address(true)?;
            // Accepted connections inherit both.
            socket.set_tcp_nodelay(true)?;
            crate::io::bound_unsent(&socket);
        }
        if kind == Type::DGRAM {
            udp::tell_destinations(&socket, address.ip())?;
        }
        socket.bind(&address.into())?;
        if alone {
            address = socket.local_addr()?.as_socket().unwrap_or(address);
            socket.set_reuse_port(true)?;
        }
        if kind == Type::STREAM {
            socket.listen(BACKLOG)?;
            sockets.push(Bound::Tcp(socket.into()));
        } else {
            sockets.push(Bound::Udp(socket.into()));
        }
    }
    Ok((address, sockets))
}

/// `[::]` takes IPv4 clients too, whatever the system's default.
fn dual_stack(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() { socket.set_only_v6(!address.ip().is_unspecified()) } else { Ok(()) }
}

/// A listener as one worker sees it.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) worker: Rc<Worker>,
    pub(crate) listener: Arc<Listener>,
}

impl Door {
    pub(crate) fn counters(&self) -> &ListenerShard {
        &self.listener.shards[self.worker.index]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn processes_that_are_being_started_are_no_obstacle() {
        // Between fork and exec a child holds every socket that its parent had open.
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    std::process::Command::new("true").status().unwrap();
                }
            });
            for _ in 0..2_000 {
                for protocol in [Protocol::Http, Protocol::Udp] {
                    let any = "127.0.0.1:0".parse().unwrap();
                    if let Err(e) = bind(any, protocol, 2, false) {
                        over.store(true, Relaxed);
                        panic!("{protocol:?}: {e}");
                    }
                }
            }
            over.store(true, Relaxed);
        });
    }
}
