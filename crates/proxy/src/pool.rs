//! Idle connections to endpoints, kept by each worker for its own next request.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use model::Instant;
use model::spec::PoolSpec;
use service::EndpointHandle;

use crate::upstream::Upstream;

/// How often idle connections are looked through for those that ended or grew too old.
pub(crate) const SWEEP_EVERY_TICKS: u32 = 10;

/// One worker's idle connections, by `EndpointHandle::key`.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    by_endpoint: RefCell<HashMap<u64, Pool, BuildHasherDefault<KeyHasher>>>,
}

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

#[derive(Debug)]
struct Pool {
    idle: Vec<Upstream>,
    settings: PoolSpec,
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
        if endpoint.is_leaving() || settings.idle_max == 0 || upstream.retire_at <= now {
            return;
        }
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

    /// The endpoint leaves: close what is idle.
    pub(crate) fn forget(&self, endpoint: u64) {
        self.by_endpoint.borrow_mut().remove(&endpoint);
    }

    pub(crate) fn sweep(&self, now: Instant) {
        self.by_endpoint.borrow_mut().retain(|_, pool| {
            pool.idle.retain_mut(|u| is_fresh(u, &pool.settings, now) && u.stream.is_quiet());
            !pool.idle.is_empty()
        });
    }
}

fn is_fresh(upstream: &Upstream, settings: &PoolSpec, now: Instant) -> bool {
    now < upstream.retire_at && now.since(upstream.idle_since) < settings.idle_timeout
}
