//! `maglev`: requests with the same key go to the same endpoint, by a table that is looked up in
//! constant time and shares keys out almost exactly by weight.
//!
//! For caches and for anything that profits from seeing the same key again, when the endpoints
//! change now and then: one of 100 that leaves takes its own keys along, and with the default
//! size moves 0.6 % of the others. `ring_hash` and `rendezvous` move none of the others, at a
//! coarser spread or a higher cost. (Eisenbud et al., "Maglev: a fast and reliable software
//! network load balancer", NSDI 2016.) Balancers that see the same endpoints agree.
//!
//! Loads are bounded: see `keyed.rs`. Set `balance_factor: 0` if endpoints keep state that only
//! they have.

use std::sync::Arc;

use model::vocabulary::{OptionDefault, OptionInfo, OptionKind, PolicyInfo};
use model::{Load, Rng};

use crate::keyed::{ALWAYS_ALLOWED, BALANCE_FACTOR, BoundOptions, KEY, Walk, key_hash};
use crate::maglev_table::MaglevTable;
use crate::policies::PolicyEntry;
use crate::{Candidate, PickRequest, Picker, Policy};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    info: PolicyInfo {
        name: "maglev",
        summary: "by key, with an almost even spread; a change of endpoints moves few other keys",
        options: &[
            KEY,
            OptionInfo {
                name: "table_size",
                summary: "places in the table, made a prime, and doubled below 16 per endpoint",
                kind: OptionKind::Integer { min: TABLE_MIN, max: TABLE_MAX },
                default: OptionDefault::Integer(65537),
            },
            BALANCE_FACTOR,
            ALWAYS_ALLOWED,
        ],
    },
    make: |options| with_table(options.integer("table_size"), BoundOptions::of(options)),
};

const TABLE_MIN: u64 = 251;

/// 4 MB: a hundred places for each of 10,000 endpoints.
const TABLE_MAX: u64 = 1_000_003;

/// The paper's, and Envoy's: 256 KiB.
pub(super) const TABLE_DEFAULT: u64 = 65_537;

pub(super) fn with_table(size: u64, bound: BoundOptions) -> Box<dyn Policy> {
    Box::new(Maglev { size, bound })
}

struct Maglev {
    size: u64,
    bound: BoundOptions,
}

impl Policy for Maglev {
    fn prepare(&self, candidates: &[Candidate], _: &mut Rng) -> Box<dyn Picker> {
        let walk = Walk::new(candidates, self.bound);
        let table = MaglevTable::new(candidates, walk.usable(), self.size);
        Box::new(MaglevPicker { table, walk })
    }
}

struct MaglevPicker {
    table: MaglevTable,
    walk: Walk,
}

impl Picker for MaglevPicker {
    fn pick(&self, request: &PickRequest<'_>, loads: &[Arc<Load>], rng: &mut Rng) -> Option<u32> {
        let hash = key_hash(request, rng);
        self.walk.first(hash, self.table.choices(hash), request, loads, rng)
    }
}
