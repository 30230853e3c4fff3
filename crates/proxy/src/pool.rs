//! Connections to endpoints, kept by each worker for its own next requests: idle ones of HTTP/1.1,
//! and those of HTTP/2, idle or not.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use model::Instant;
use model::spec::PoolSpec;
use service::{EndpointHandle, Settings};

use crate::dialling::Dialling;
use crate::http2::{Asking, Carrier};
use crate::upstream::Upstream;

/// How often idle connections are looked through for those that ended or grew too old.
pub(crate) const SWEEP_EVERY_TICKS: u32 = 10;

/// One worker's connections, by `EndpointHandle::key`.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    by_endpoint: RefCell<ByEndpoint<Pool>>,
    carriers: RefCell<ByEndpoint<Carriers>>,
}

type ByEndpoint<T> = HashMap<u64, T, BuildHasherDefault<KeyHasher>>;

/// Keys are numbers that we gave ourselves, one after the other: nobody can choose them so that they
/// fall together, and a multiplication spreads them (D. Knuth, TAOCP volume 3, section 6.4).
#[derive(Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = (self.0 ^ key).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What a worker has with one endpoint over HTTP/2.
#[derive(Debug)]
struct Carriers {
    all: Vec<Rc<Carrier>>,
    /// Under way.
    dials: Vec<Rc<Dialling>>,
    settings: PoolSpec,
    /// Of two protocols that it was offered it chose HTTP/1.1 the last time.
    speaks_http1: bool,
    /// The endpoint leaves: what carries nothing is closed.
    is_leaving: bool,
}

#[derive(Debug)]
struct Pool {
    idle: Vec<Upstream>,
    settings: PoolSpec,
}

impl Carriers {
    fn new(settings: &PoolSpec) -> Self {
        let settings = settings.clone();
        let (all, dials) = (Vec::new(), Vec::new());
        Self { all, dials, settings, speaks_http1: false, is_leaving: false }
    }
}

impl Pools {
    /// The connection used last, since it is the likeliest to be still good. `ask_kernel`: make
    /// sure with a system call that the endpoint did not close it. `terms`: see
    /// [`Upstream::terms`]; connections of other terms are closed.
    pub(crate) fn checkout(
        &self,
        endpoint: &EndpointHandle,
        now: Instant,
        ask_kernel: bool,
        terms: u64,
    ) -> Option<Upstream> {
        let mut pools = self.by_endpoint.borrow_mut();
        let pool = pools.get_mut(&endpoint.key)?;
        while let Some(mut upstream) = pool.idle.pop() {
            if upstream.terms == terms
                && is_fresh(&upstream, &pool.settings, now)
                && upstream.stream.is_quiet()
                && (!ask_kernel || upstream.stream.is_quiet_now())
            {
                return Some(upstream);
            }
        }
        None
    }

    pub(crate) fn checkin(
        &self,
        endpoint: &EndpointHandle,
        mut upstream: Upstream,
        settings: &PoolSpec,
        now: Instant,
    ) {
        if endpoint.is_leaving()
            || settings.idle_max == 0
            || upstream.retire_at <= now
            || upstream.requests_left == 0
        {
            return;
        }
        upstream.requests_left -= 1;
        upstream.idle_since = now;
        let mut pools = self.by_endpoint.borrow_mut();
        let pool = pools
            .entry(endpoint.key)
            .or_insert_with(|| Pool { idle: Vec::new(), settings: settings.clone() });
        if pool.settings != *settings {
            pool.settings = settings.clone();
        }
        if pool.idle.len() < settings.idle_max {
            pool.idle.push(upstream);
        }
    }

    /// A place for a request on a connection that carries others, the fullest one that has room, so
    /// that those of a past rush grow idle; and whether it carried none until now. `ask_kernel`: a
    /// connection that carries none is used only if the endpoint has said nothing that we have not
    /// read, its end above all.
    pub(crate) fn place(
        &self,
        endpoint: &EndpointHandle,
        settings: &Settings,
        now: Instant,
        ask_kernel: bool,
        terms: u64,
    ) -> Option<(Asking, bool)> {
        let mut carriers = self.carriers.borrow_mut();
        let carriers = carriers.get_mut(&endpoint.key)?;
        if carriers.settings != settings.pool {
            carriers.settings = settings.pool.clone();
        }
        let is_good = |carrier: &&Rc<Carrier>| {
            carrier.terms == terms
                && carrier.room(now) > 0
                && !(ask_kernel && carrier.is_idle() && !carrier.is_quiet_now())
        };
        // The oldest first: it is the fullest.
        let carrier = carriers.all.iter().find(is_good)?;
        let was_idle = carrier.is_idle();
        Some((carrier.reserve(settings.grpc_web), was_idle))
    }

    /// The latest dial to the endpoint that is under way and has room for one more to wait for it,
    /// or what `begin` makes. None: the endpoint prefers HTTP/1.1.
    pub(crate) fn dialling(
        &self,
        endpoint: &EndpointHandle,
        settings: &PoolSpec,
        begin: impl FnOnce(usize) -> Rc<Dialling>,
    ) -> Option<Rc<Dialling>> {
        let mut all = self.carriers.borrow_mut();
        let carriers = all.entry(endpoint.key).or_insert_with(|| Carriers::new(settings));
        if carriers.speaks_http1 {
            return None;
        }
        if let Some(dialling) = carriers.dials.last().filter(|dialling| dialling.join()) {
            return Some(dialling.clone());
        }
        // As many as the endpoint allowed the last time.
        let allowed = carriers.all.last().map(|carrier| carrier.streams_max());
        // None is to take the place of the new one.
        carriers.all.retain(|carrier| !carrier.is_closed());
        let most = usize::try_from(settings.streams_max).unwrap_or(usize::MAX);
        let dialling = begin(allowed.unwrap_or(most).clamp(1, most));
        carriers.dials.push(dialling.clone());
        Some(dialling)
    }

    /// A dial is over; `carrier`: with this connection.
    pub(crate) fn dialled(
        &self,
        endpoint: &EndpointHandle,
        dialling: Option<&Rc<Dialling>>,
        settings: &PoolSpec,
        carrier: Option<&Rc<Carrier>>,
        speaks_http1: bool,
    ) {
        let mut all = self.carriers.borrow_mut();
        let carriers = all.entry(endpoint.key).or_insert_with(|| Carriers::new(settings));
        carriers.dials.retain(|under_way| dialling.is_none_or(|it| !Rc::ptr_eq(it, under_way)));
        carriers.speaks_http1 = speaks_http1;
        // It has sessions still, and a connection for them is used as any other.
        carriers.is_leaving = endpoint.is_leaving();
        if let Some(carrier) = carrier {
            carriers.all.retain(|carrier| !carrier.is_closed());
            carriers.all.push(carrier.clone());
        }
    }

    /// The endpoint leaves: close what is idle, and begin nothing on what is not.
    pub(crate) fn forget(&self, endpoint: u64) {
        self.by_endpoint.borrow_mut().remove(&endpoint);
        if let Some(carriers) = self.carriers.borrow_mut().get_mut(&endpoint) {
            carriers.speaks_http1 = false;
            carriers.is_leaving = true;
            carriers.all.iter().for_each(|carrier| carrier.drain());
        }
    }

    pub(crate) fn sweep(&self, now: Instant) {
        self.carriers.borrow_mut().retain(|_, carriers| {
            let Carriers { all, dials, settings, is_leaving, .. } = carriers;
            all.iter().for_each(|carrier| carrier.tick(now, settings, *is_leaving));
            all.retain(|carrier| !carrier.is_closed());
            // What it speaks is known until it leaves, or says otherwise.
            let is_known = carriers.speaks_http1 && !*is_leaving;
            is_known || !all.is_empty() || !dials.is_empty()
        });
        self.by_endpoint.borrow_mut().retain(|_, pool| {
            pool.idle.retain_mut(|u| is_fresh(u, &pool.settings, now) && u.stream.is_quiet());
            !pool.idle.is_empty()
        });
    }
}

fn is_fresh(upstream: &Upstream, settings: &PoolSpec, now: Instant) -> bool {
    now < upstream.retire_at && now.since(upstream.idle_since) < settings.idle_timeout
}
