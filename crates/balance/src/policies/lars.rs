//! `lars`: in turn, by two lists: endpoints that do well, and those that proved overloaded, which
//! get one pick in eleven until they prove well again.
//!
//! For those who come from Lars (github.com/aceld/Lars), whose decisions these are to the letter,
//! and for a rule that judges by outcomes alone: who fails more than one request in ten is left to
//! probes, and comes back by succeeding. It neither looks at latencies nor at what is in flight:
//! an endpoint that is slow, but answers, is as good as any. A request that its client gave up
//! counts neither as a success nor as an error.
//!
//! * **Choice.** Both lists are walked in turn. While both have endpoints, `probe_num` picks go to
//!   the idle list and the next one to the overloaded list. While all are overloaded, `probe_num`
//!   requests are refused, with a 503, and the next one goes through.
//! * **Idle to overloaded**, when a request fails: the error rate is above `err_rate`, where
//!   `init_succ_cnt` successes are given in advance; or `contin_err_limit` failed in a row. Or the
//!   window of `idle_timeout` ends, and `window_err_rate` of what was really asked in it failed; if
//!   not, all counts begin anew.
//! * **Overloaded to idle**, when a request succeeds: the success rate is above `succ_rate`, where
//!   `init_err_cnt` errors are given in advance; or `contin_succ_limit` succeeded in a row. Or
//!   `overload_timeout` is over.
//! * Time is looked at in whole seconds, and only when a request ends: there is no timer. A new
//!   endpoint is idle and last in turn; its window begins with the next request. One that was
//!   away (removed, or unhealthy by its checks) is new when it comes back.
//!
//! `defaults` chooses between what Lars' manual and configuration file say, and what its code falls
//! back to; options set one by one go before. Its eleventh parameter, `update_timeout`, is about
//! how agents fetch their routes, and has no meaning here.
//!
//! What Lars does not have: with **different weights**, the idle list is walked in proportion to
//! them (by the multiples of the golden ratio, so that turns are spread evenly); the overloaded
//! list is not. A **further attempt** of a request passes over the endpoints that it was tried on
//! as if they had had their turn, and goes to the other list rather than to one of them.
//! Constant time, or logarithmic with different weights. When an endpoint changes lists, whoever
//! reports that copies them, under a lock.

use std::collections::BTreeMap;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use model::vocabulary::{OptionDefault, OptionInfo, OptionKind, PolicyInfo};
use model::{Instant, Load, Outcome, Report, Rng};

use crate::policies::PolicyEntry;
use crate::usable::Usable;
use crate::{Candidate, Options, PickRequest, Picker, Policy, Tracker};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    info: PolicyInfo {
        name: "lars",
        summary: "in turn; who fails too often gets one pick in eleven until it succeeds again",
        options: &[
            OptionInfo {
                name: "defaults",
                summary: "which of Lars' two sets of defaults the other options have",
                kind: OptionKind::OneOf(&["readme", "code"]),
                default: OptionDefault::Text("readme"),
            },
            count("probe_num", "picks from the idle list between two from the other", 10),
            count("init_succ_cnt", "successes that an idle endpoint begins with", 180),
            count("init_err_cnt", "errors that an overloaded endpoint begins with", 5),
            rate("err_rate", "an idle one with a higher share of errors is overloaded", 0.1),
            rate(
                "succ_rate",
                "an overloaded one with a higher share of successes is idle again (0.92 with \
                 `defaults: code`)",
                0.5,
            ),
            count(
                "contin_err_limit",
                "so many errors in a row make overloaded (10 with `defaults: code`)",
                15,
            ),
            count(
                "contin_succ_limit",
                "so many successes in a row make idle (10 with `defaults: code`)",
                15,
            ),
            rate(
                "window_err_rate",
                "this share of errors at the end of a window makes overloaded",
                0.7,
            ),
            seconds("idle_timeout", "length of the window, in whole seconds (rounded up)"),
            seconds(
                "overload_timeout",
                "longest time as overloaded, in whole seconds (rounded up)",
            ),
        ],
    },
    make: |options| Box::new(Lars { shared: Arc::new(Shared::new(Rules::of(options))) }),
};

const fn count(name: &'static str, summary: &'static str, default: u64) -> OptionInfo {
    let kind = OptionKind::Integer { min: 0, max: 1_000_000 };
    OptionInfo { name, summary, kind, default: OptionDefault::Integer(default) }
}

const fn rate(name: &'static str, summary: &'static str, default: f64) -> OptionInfo {
    let kind = OptionKind::Float { min: 0.0, max: 1.0 };
    OptionInfo { name, summary, kind, default: OptionDefault::Float(default) }
}

const fn seconds(name: &'static str, summary: &'static str) -> OptionInfo {
    let default = OptionDefault::Duration(Duration::from_secs(15));
    OptionInfo { name, summary, kind: OptionKind::Duration, default }
}

/// The parameters, under Lars' own names.
struct Rules {
    probe_num: u64,
    init_succ_cnt: u64,
    init_err_cnt: u64,
    err_rate: f64,
    succ_rate: f64,
    contin_err_limit: u64,
    contin_succ_limit: u64,
    window_err_rate: f64,
    /// In seconds, as the next.
    idle_timeout: u64,
    overload_timeout: u64,
}

impl Rules {
    fn of(options: Options<'_>) -> Self {
        let code = options.text("defaults") == "code";
        let or_code = |name, default| {
            if code && options.written(name).is_none() { default } else { options.integer(name) }
        };
        Self {
            probe_num: options.integer("probe_num"),
            init_succ_cnt: options.integer("init_succ_cnt"),
            init_err_cnt: options.integer("init_err_cnt"),
            err_rate: options.float("err_rate"),
            succ_rate: match options.written("succ_rate") {
                None if code => 0.92,
                _ => options.float("succ_rate"),
            },
            contin_err_limit: or_code("contin_err_limit", 10),
            contin_succ_limit: or_code("contin_succ_limit", 10),
            window_err_rate: options.float("window_err_rate"),
            idle_timeout: whole_seconds(options.duration("idle_timeout")),
            overload_timeout: whole_seconds(options.duration("overload_timeout")),
        }
    }
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_nanos().div_ceil(NANOS_PER_SECOND.into()) as u64
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The clock of the rules.
fn second(now: Instant) -> u64 {
    now.as_nanos() / NANOS_PER_SECOND
}

struct Lars {
    shared: Arc<Shared>,
}

struct Shared {
    rules: Rules,
    /// Picks while there were overloaded ones: Lars' `access`, which begins anew at
    /// `probe_num`, is the remainder.
    access: Access,
    /// Of the latest picker. Whoever holds the lock may move endpoints between its lists.
    latest: Mutex<Option<Arc<Table>>>,
}

/// Alone on its cache lines: all workers write it while endpoints are overloaded.
#[derive(Default)]
#[repr(align(128))]
struct Access(AtomicU64);

/// What one picker was prepared for.
struct Table {
    lists: ArcSwap<Lists>,
    /// By position; `None` for those that are not to be picked.
    hosts: Vec<Option<Arc<Host>>>,
    /// By position.
    weights: Vec<u16>,
    /// When those that are new in this table came.
    came: Arc<AtomicU64>,
}

/// Never changed, only replaced.
struct Lists {
    idle: Arc<List>,
    overloaded: Arc<List>,
}

/// Positions, walked in turn by all workers.
struct List {
    entries: Vec<u32>,
    /// The running sums of the weights of the entries, if these differ.
    sums: Vec<u64>,
    turn: Access,
}

/// What is known of one endpoint.
#[repr(align(64))]
struct Host {
    identity: u64,
    /// In the latest table; [`NOWHERE`]: it left.
    position: AtomicU32,
    overloaded: AtomicBool,
    /// The second since which it is what it is; [`UNKNOWN`]: since it came.
    since: AtomicU64,
    came: Arc<AtomicU64>,
    /// Successes and errors: virtual ones decide, real ones count in the window.
    succ: AtomicU64,
    err: AtomicU64,
    real_succ: AtomicU64,
    real_err: AtomicU64,
    contin_succ: AtomicU64,
    contin_err: AtomicU64,
}

const NOWHERE: u32 = u32::MAX;

const UNKNOWN: u64 = u64::MAX;

impl Policy for Lars {
    fn prepare(&self, candidates: &[Candidate], _: &mut Rng) -> Box<dyn Picker> {
        let mut latest = self.shared.lock();
        let table = Arc::new(Table::after(latest.as_deref(), candidates, &self.shared.rules));
        *latest = Some(table.clone());
        Box::new(LarsPicker { shared: self.shared.clone(), table })
    }
}

struct LarsPicker {
    shared: Arc<Shared>,
    table: Arc<Table>,
}

impl Picker for LarsPicker {
    fn pick(&self, request: &PickRequest<'_>, _: &[Arc<Load>], _: &mut Rng) -> Option<u32> {
        self.table.has_begun(request.now);
        let lists = self.table.lists.load();
        let (first, other) = if lists.overloaded.entries.is_empty() {
            (&lists.idle, &lists.overloaded)
        } else {
            let probe_num = self.shared.rules.probe_num;
            let access = self.shared.access.0.fetch_add(1, Relaxed) % (probe_num + 1);
            if access == probe_num {
                (&lists.overloaded, &lists.idle)
            } else if lists.idle.entries.is_empty() {
                return None;
            } else {
                (&lists.idle, &lists.overloaded)
            }
        };
        let next = first.next(request.exclude).or_else(|| other.next(request.exclude));
        next.or_else(|| first.next(&[]))
    }

    fn tracker(&self, position: u32) -> Option<Arc<dyn Tracker>> {
        let host = self.table.hosts.get(position as usize)?.clone()?;
        let came = self.table.came.clone();
        Some(Arc::new(LarsTracker { shared: self.shared.clone(), came, host }))
    }
}

impl Table {
    /// What was known goes on: the order of the lists, and the counts. New endpoints are last.
    fn after(former: Option<&Table>, candidates: &[Candidate], rules: &Rules) -> Self {
        let usable = Usable::of(candidates);
        let mut positions: BTreeMap<u64, u32> = BTreeMap::new();
        for (position, _) in usable.entries() {
            let identity = candidates[*position as usize].identity_hash;
            positions.entry(identity).or_insert(*position);
        }
        let weights: Vec<u16> = candidates.iter().map(|c| c.weight).collect();
        let mut hosts: Vec<Option<Arc<Host>>> = candidates.iter().map(|_| None).collect();
        let (mut idle, mut overloaded) = (Vec::new(), Vec::new());
        let mut turn = 0;
        if let Some(former) = former {
            let lists = former.lists.load();
            turn = lists.idle.turn.0.load(Relaxed);
            for (from, to) in [(&lists.idle, &mut idle), (&lists.overloaded, &mut overloaded)] {
                for host in from.order().filter_map(|at| former.hosts[at as usize].as_ref()) {
                    let position = positions.remove(&host.identity);
                    host.position.store(position.unwrap_or(NOWHERE), Relaxed);
                    if let Some(position) = position {
                        hosts[position as usize] = Some(host.clone());
                        to.push(position);
                    }
                }
            }
        }
        // While nothing was asked, those of two tables came at the same time.
        let came = former.map(|former| &former.came).filter(|c| c.load(Relaxed) == UNKNOWN);
        let came = came.map_or_else(|| Arc::new(AtomicU64::new(UNKNOWN)), Arc::clone);
        for (position, _) in usable.entries() {
            let index = *position as usize;
            if hosts[index].is_none() {
                let identity = candidates[index].identity_hash;
                hosts[index] = Some(Arc::new(Host::new(identity, *position, came.clone(), rules)));
                idle.push(*position);
            }
        }
        let lists = Lists {
            idle: Arc::new(List::weighted(idle, &weights, turn)),
            overloaded: Arc::new(List::in_turn(overloaded)),
        };
        Self { lists: ArcSwap::from_pointee(lists), hosts, weights, came }
    }

    fn has_begun(&self, now: Instant) {
        begin(&self.came, second(now));
    }

    /// To the tail of the other list.
    fn move_host(&self, position: u32, overloaded: bool) {
        let lists = self.lists.load();
        let others = |list: &List| list.order().filter(|at| *at != position).collect();
        let (mut idle, mut other): (Vec<u32>, Vec<u32>) =
            (others(&lists.idle), others(&lists.overloaded));
        if overloaded {
            other.push(position)
        } else {
            idle.push(position)
        }
        let turn = lists.idle.turn.0.load(Relaxed);
        self.lists.store(Arc::new(Lists {
            idle: Arc::new(List::weighted(idle, &self.weights, turn)),
            overloaded: Arc::new(List::in_turn(other)),
        }));
    }
}

fn begin(came: &AtomicU64, second: u64) {
    if came.load(Relaxed) == UNKNOWN {
        // Whoever is first: the others lose nothing.
        let _ = came.compare_exchange(UNKNOWN, second, Relaxed, Relaxed);
    }
}

impl List {
    fn in_turn(entries: Vec<u32>) -> Self {
        Self { entries, sums: Vec::new(), turn: Access::default() }
    }

    fn weighted(entries: Vec<u32>, weights: &[u16], turn: u64) -> Self {
        let weight = |position: &u32| weights[*position as usize];
        let first = entries.first().map(weight);
        if entries.iter().all(|entry| Some(weight(entry)) == first) {
            return Self::in_turn(entries);
        }
        let add = |sum: &mut u64, entry: &u32| {
            *sum += u64::from(weight(entry));
            Some(*sum)
        };
        let sums = entries.iter().scan(0, add).collect();
        Self { entries, sums, turn: Access(AtomicU64::new(turn)) }
    }

    /// The entries, the next one first.
    fn order(&self) -> impl Iterator<Item = u32> {
        let head = match self.entries.len() as u64 {
            0 => 0,
            _ if !self.sums.is_empty() => 0,
            length => self.turn.0.load(Relaxed) % length,
        };
        let (tail, head) = self.entries.split_at(head as usize);
        head.iter().chain(tail).copied()
    }

    /// Whose turn it is, of those that are not excluded; `None` if there are none of these. Those
    /// passed over have had their turn.
    fn next(&self, exclude: &[u32]) -> Option<u32> {
        let length = self.entries.len() as u64;
        if length == 0 {
            return None;
        }
        let turn = self.turn.0.fetch_add(1, Relaxed);
        let first = self.at(turn);
        if !exclude.contains(&first) {
            return Some(first);
        }
        let ahead = if self.sums.is_empty() { length } else { LOOK_AHEAD };
        for skipped in 1..ahead {
            let next = self.at(turn.wrapping_add(skipped));
            if !exclude.contains(&next) {
                self.turn.0.fetch_add(skipped, Relaxed);
                return Some(next);
            }
        }
        // Back to where it was: all of them have had their turn.
        self.turn.0.fetch_add(ahead - 1, Relaxed);
        // Heavy ones may have had all of these turns.
        let mut rest = self.entries.iter().copied().filter(|_| !self.sums.is_empty());
        rest.find(|entry| !exclude.contains(entry))
    }

    fn at(&self, turn: u64) -> u32 {
        let length = self.entries.len();
        let Some(total) = self.sums.last() else {
            return self.entries[(turn % length as u64) as usize];
        };
        let share = u128::from(turn.wrapping_mul(GOLDEN)) * u128::from(*total);
        let below = (share >> 64) as u64;
        self.entries[self.sums.partition_point(|sum| *sum <= below).min(length - 1)]
    }
}

/// Turns that a further attempt looks at in a list with weights, as in `round_robin`.
const LOOK_AHEAD: u64 = 64;

/// 2^64 times the golden ratio's fraction: its multiples, taken modulo 2^64, are spread more
/// evenly than those of any other number (Knuth, "The art of computer programming", vol. 3, 6.4).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

struct LarsTracker {
    shared: Arc<Shared>,
    /// Of the table that it belongs to.
    came: Arc<AtomicU64>,
    host: Arc<Host>,
}

impl Tracker for LarsTracker {
    fn report(&self, report: &Report) {
        let succeeded = report.outcome == Outcome::Success;
        if !succeeded && !report.outcome.is_failure() {
            return;
        }
        let now = second(report.now);
        begin(&self.came, now);
        self.host.count(succeeded);
        if self.host.verdict(&self.shared.rules, succeeded, now) != Verdict::Stays {
            self.shared.judge(&self.host, succeeded, now);
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    Stays,
    /// Stays idle, and its counts begin anew.
    Renewed,
    Overloaded,
    Idle,
}

impl Shared {
    fn new(rules: Rules) -> Self {
        Self { rules, access: Access::default(), latest: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Table>>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is to change, unless another worker has just done that.
    fn judge(&self, host: &Host, succeeded: bool, now: u64) {
        let latest = self.lock();
        let overloaded = match host.verdict(&self.rules, succeeded, now) {
            Verdict::Stays => return,
            Verdict::Renewed => return host.become_idle(&self.rules, now),
            Verdict::Overloaded => true,
            Verdict::Idle => false,
        };
        if overloaded {
            host.become_overloaded(&self.rules, now);
        } else {
            host.become_idle(&self.rules, now);
        }
        let position = host.position.load(Relaxed);
        if let Some(table) = &*latest
            && position != NOWHERE
        {
            table.move_host(position, overloaded);
        }
    }
}

impl Host {
    fn new(identity: u64, position: u32, came: Arc<AtomicU64>, rules: &Rules) -> Self {
        Self {
            identity,
            position: AtomicU32::new(position),
            overloaded: AtomicBool::new(false),
            since: AtomicU64::new(UNKNOWN),
            came,
            succ: AtomicU64::new(rules.init_succ_cnt),
            err: AtomicU64::new(0),
            real_succ: AtomicU64::new(0),
            real_err: AtomicU64::new(0),
            contin_succ: AtomicU64::new(0),
            contin_err: AtomicU64::new(0),
        }
    }

    fn count(&self, succeeded: bool) {
        let (virtual_count, real_count, row, broken) = if succeeded {
            (&self.succ, &self.real_succ, &self.contin_succ, &self.contin_err)
        } else {
            (&self.err, &self.real_err, &self.contin_err, &self.contin_succ)
        };
        for count in [virtual_count, real_count, row] {
            count.fetch_add(1, Relaxed);
        }
        if broken.load(Relaxed) != 0 {
            broken.store(0, Relaxed);
        }
    }

    fn verdict(&self, rules: &Rules, succeeded: bool, now: u64) -> Verdict {
        let overloaded = self.overloaded.load(Acquire);
        let (succ, err) = (self.succ.load(Relaxed), self.err.load(Relaxed));
        if !overloaded && !succeeded {
            let row = self.contin_err.load(Relaxed);
            if share(err, succ) > rules.err_rate || row >= rules.contin_err_limit {
                return Verdict::Overloaded;
            }
        }
        if overloaded && succeeded {
            let row = self.contin_succ.load(Relaxed);
            if share(succ, err) > rules.succ_rate || row >= rules.contin_succ_limit {
                return Verdict::Idle;
            }
        }
        let age = now.saturating_sub(self.since(now));
        if overloaded {
            return if age >= rules.overload_timeout { Verdict::Idle } else { Verdict::Stays };
        }
        if age < rules.idle_timeout {
            return Verdict::Stays;
        }
        let errors = share(self.real_err.load(Relaxed), self.real_succ.load(Relaxed));
        if errors >= rules.window_err_rate { Verdict::Overloaded } else { Verdict::Renewed }
    }

    fn since(&self, now: u64) -> u64 {
        let since = Some(self.since.load(Relaxed)).filter(|since| *since != UNKNOWN);
        let since = since.unwrap_or_else(|| self.came.load(Relaxed));
        if since == UNKNOWN { now } else { since }
    }

    fn become_idle(&self, rules: &Rules, now: u64) {
        self.become_any(rules.init_succ_cnt, 0, now);
        self.overloaded.store(false, Release);
    }

    fn become_overloaded(&self, rules: &Rules, now: u64) {
        self.become_any(0, rules.init_err_cnt, now);
        self.overloaded.store(true, Release);
    }

    fn become_any(&self, succ: u64, err: u64, now: u64) {
        self.succ.store(succ, Relaxed);
        self.err.store(err, Relaxed);
        for count in [&self.real_succ, &self.real_err, &self.contin_succ, &self.contin_err] {
            count.store(0, Relaxed);
        }
        self.since.store(now, Relaxed);
    }
}

/// Of the two counts, the share of the first. Of none at all, which only another worker's report
/// in the same moment can leave, it is no number: neither above nor below any.
fn share(count: u64, other: u64) -> f64 {
    count as f64 / (count + other) as f64
}
