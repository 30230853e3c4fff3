//! `source_hash`: a client goes to the same endpoint as long as that one is there.
//!
//! For clients that keep no cookie (devices, databases, games, MQTT), and by the name that those
//! who come from nginx (`ip_hash`) or HAProxy (`balance source`) look for. Unlike theirs, a change
//! of endpoints leaves nearly all clients where they are: it is `maglev` with its default table.
//! Many clients behind one address translation are one client to it; prefer a cookie, or another
//! `key`, where there is one.
//!
//! Loads are bounded: see `keyed.rs`. Set `balance_factor: 0` if a client must not move while its
//! endpoint lives, whatever the load.

use model::vocabulary::PolicyInfo;

use super::maglev;
use crate::keyed::{ALWAYS_ALLOWED, BALANCE_FACTOR, BoundOptions, KEY};
use crate::policies::PolicyEntry;

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    info: PolicyInfo {
        name: "source_hash",
        summary: "by the client's address, weighted; for clients without cookies",
        options: &[KEY, BALANCE_FACTOR, ALWAYS_ALLOWED],
    },
    make: |options| maglev::with_table(maglev::TABLE_DEFAULT, BoundOptions::of(options)),
};
