//! `lars` against the specification of Lars' choosing and reporting: traces worked out by hand,
//! and random ones against a model of plain lists that is written down from the specification.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use balance::{Candidate, POLICIES, PickRequest, Picker, Policy, Tracker};
use model::vocabulary::OptionValue;
use model::{Instant, Load, Outcome, Report, Rng};

type Options = Vec<(String, OptionValue)>;

const S: Duration = Duration::from_secs(1);

fn build(options: &Options) -> Box<dyn Policy> {
    POLICIES.iter().find(|entry| entry.info.name == "lars").unwrap().build(options)
}

fn options(of: &[(&str, OptionValue)]) -> Options {
    of.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn text(text: &str) -> OptionValue {
    OptionValue::Text(text.into())
}

/// The policy, with endpoints named by letters.
struct Real {
    policy: Box<dyn Policy>,
    picker: Box<dyn Picker>,
    names: Vec<char>,
    trackers: BTreeMap<char, Arc<dyn Tracker>>,
    loads: Vec<Arc<Load>>,
    rng: Rng,
    now: Instant,
}

impl Real {
    fn new(options: &Options, names: &str) -> Self {
        let policy = build(options);
        let picker = policy.prepare(&[], &mut Rng::from_seed(1));
        let mut real = Self {
            policy,
            picker,
            names: Vec::new(),
            trackers: BTreeMap::new(),
            loads: Vec::new(),
            rng: Rng::from_seed(1),
            now: Instant::ZERO,
        };
        real.set(names.chars().map(|name| (name, 1)).collect());
        real
    }

    fn set(&mut self, endpoints: Vec<(char, u16)>) {
        let candidate = |(name, weight): &(char, u16)| Candidate {
            weight: *weight,
            zone: None,
            identity_hash: u64::from(u32::from(*name)),
        };
        let candidates: Vec<Candidate> = endpoints.iter().map(candidate).collect();
        self.picker = self.policy.prepare(&candidates, &mut self.rng);
        self.loads = candidates.iter().map(|_| Arc::default()).collect();
        self.names = endpoints.iter().map(|(name, _)| *name).collect();
        for (position, name) in (0..).zip(&self.names) {
            if let Some(tracker) = self.picker.tracker(position) {
                self.trackers.insert(*name, tracker);
            }
        }
    }

    fn pick_other(&mut self, exclude: &[char]) -> Option<char> {
        let position = |name: &char| self.names.iter().position(|n| n == name).map(|p| p as u32);
        let exclude: Vec<u32> = exclude.iter().filter_map(position).collect();
        let request = PickRequest { now: self.now, key: None, exclude: &exclude };
        let position = self.picker.pick(&request, &self.loads, &mut self.rng)?;
        Some(self.names[position as usize])
    }

    fn report(&self, name: char, outcome: Outcome) {
        self.trackers[&name].report(&Report::new(self.now, outcome));
    }

    /// So many picks as letters; `-` where there is none.
    fn picks(&mut self, count: usize) -> String {
        (0..count).map(|_| self.pick_other(&[]).unwrap_or('-')).collect()
    }

    fn reports(&self, name: char, outcome: Outcome, count: usize) {
        (0..count).for_each(|_| self.report(name, outcome));
    }
}

const FAILED: Outcome = Outcome::ServerError;

/// So many errors in a row at `a` of `a` and `b`, and then picks: is `a` left to probes?
fn is_out_after(options: &Options, errors: usize) -> bool {
    let mut real = Real::new(options, "ab");
    real.reports('a', FAILED, errors);
    match real.picks(11).as_str() {
        "abababababa" => false,
        "bbbbbbbbbba" => true,
        other => panic!("{other} after {errors} errors"),
    }
}

/// So many successes after so many errors left it to probes, and then picks: is it back?
fn is_back_after(options: &Options, errors: usize, successes: usize) -> bool {
    let mut real = Real::new(options, "ab");
    real.reports('a', FAILED, errors);
    real.reports('a', Outcome::Success, successes);
    match real.picks(11).as_str() {
        "bababababab" => true,
        "bbbbbbbbbba" => false,
        other => panic!("{other} after {successes} successes"),
    }
}

#[test]
fn one_of_eleven_picks_probes() {
    let mut real = Real::new(&options(&[]), "abc");
    assert_eq!(real.picks(7), "abcabca");
    real.reports('c', FAILED, 15);
    // `b` is next, `c` has left, and nothing was counted so far.
    assert_eq!(real.picks(33), "bababababac".to_owned() + "bababababac" + "bababababac");
    real.reports('a', FAILED, 15);
    assert_eq!(real.picks(22), "bbbbbbbbbbcbbbbbbbbbba");
    real.reports('b', FAILED, 15);
    // None is left: ten are refused, and the next goes to whose turn it is among the others.
    assert_eq!(real.picks(33), "----------c----------a----------b");
}

#[test]
fn what_ejects_and_what_brings_back() {
    let readme = options(&[("defaults", text("readme"))]);
    let code = options(&[("defaults", text("code"))]);
    let no_row = |set: &str| {
        let mut set = options(&[("defaults", text(set))]);
        for name in ["contin_err_limit", "contin_succ_limit"] {
            // Before and after `defaults`, which changes nothing.
            set.insert(0, (name.into(), OptionValue::Integer(1000)));
        }
        set
    };
    // By the row, 15 or 10; by the rate, 21: 20 of 200 are not above a tenth.
    let cases = [
        (options(&[]), 15),
        (readme, 15),
        (code, 10),
        (no_row("readme"), 21),
        (no_row("code"), 21),
    ];
    for (options, errors) in cases {
        assert!(!is_out_after(&options, errors - 1) && is_out_after(&options, errors));
    }
    // 6 of 11 are above 0.5. 57 of 62 are not above 0.92, 58 of 63 are; 10 in a row come before.
    let code = options(&[("defaults", text("code"))]);
    // The last: 15 in a row, where the rate would need 58.
    let row = options(&[("succ_rate", OptionValue::Float(0.92))]);
    let cases = [
        (options(&[]), 15, 6),
        (no_row("readme"), 21, 6),
        (code, 10, 10),
        (no_row("code"), 21, 58),
        (row, 15, 15),
    ];
    for (options, errors, successes) in cases {
        let back = |successes| is_back_after(&options, errors, successes);
        assert!(!back(successes - 1) && back(successes), "{options:?}");
    }
}

#[test]
fn a_success_ends_a_row_and_an_abandoned_one_is_neither() {
    let mut real = Real::new(&options(&[]), "ab");
    real.reports('a', FAILED, 14);
    real.report('a', Outcome::Abandoned);
    real.report('a', Outcome::Success);
    assert_eq!(real.picks(4), "abab");
    // 20 of 201 with those before.
    real.reports('a', FAILED, 6);
    assert_eq!(real.picks(4), "abab");
    real.reports('a', Outcome::TimedOut, 1);
    assert_eq!(real.picks(11), "bbbbbbbbbba", "21 of 202");
}

#[test]
fn windows_end_in_whole_seconds_and_only_with_a_report() {
    // Came at 0.9 s: in second 0.
    let begin = |real: &mut Real| {
        real.now = Instant::ZERO + S * 9 / 10;
        assert_eq!(real.picks(2), "ab");
    };
    let mut real = Real::new(&options(&[]), "ab");
    begin(&mut real);
    real.reports('a', FAILED, 14);
    // Second 14: not yet over, and the row ends.
    real.now = Instant::from_nanos(14_999_999_999);
    real.reports('a', Outcome::Success, 1);
    assert_eq!(real.picks(4), "abab");
    // Second 15: 14 of 16 really failed.
    real.now = Instant::ZERO + S * 15;
    assert_eq!(real.picks(4), "abab", "no report, no clock");
    real.reports('a', Outcome::Success, 1);
    assert_eq!(real.picks(11), "bbbbbbbbbba");
    // It stays until a report comes 15 s later, whatever that says.
    real.now = Instant::from_nanos(29_999_999_999);
    real.report('a', FAILED);
    assert_eq!(real.picks(11), "bbbbbbbbbba");
    real.now = Instant::ZERO + S * 30;
    real.report('a', FAILED);
    assert_eq!(real.picks(4), "baba");

    // 0.7 is enough, less is not: then all counts begin anew.
    for (failed, of, out) in [(7, 10, true), (2, 3, false)] {
        let mut real = Real::new(&options(&[]), "ab");
        begin(&mut real);
        real.now = Instant::ZERO + S * 14;
        real.reports('a', FAILED, failed);
        real.reports('a', Outcome::Success, of - failed - 1);
        real.now = Instant::ZERO + S * 15;
        real.report('a', Outcome::Success);
        let expected = if out { "bbbbbbbbbba" } else { "abababababa" };
        assert_eq!(real.picks(11), expected);
        if !out {
            // Of 180 again: 20 more, with a success between that ends the row.
            real.reports('a', FAILED, 14);
            real.report('a', Outcome::Success);
            real.reports('a', FAILED, 6);
            assert_eq!(real.picks(2), "ba");
            real.reports('a', FAILED, 1);
            assert_eq!(real.picks(11), "bbbbbbbbbba");
        }
    }
}

#[test]
fn who_comes_is_last_and_who_leaves_is_forgotten() {
    let mut real = Real::new(&options(&[]), "abc");
    assert_eq!(real.picks(1), "a");
    real.reports('b', FAILED, 15);
    // Idle: c, a; then d. Positions do not matter.
    real.set(vec![('d', 1), ('c', 1), ('b', 1), ('a', 1)]);
    assert_eq!(real.picks(11), "cadcadcadcb");
    real.set(vec![('a', 1), ('d', 1)]);
    real.report('b', FAILED);
    assert_eq!(real.picks(4), "adad");
    // As good as new.
    real.set(vec![('a', 1), ('b', 1), ('d', 1)]);
    assert_eq!(real.picks(6), "adbadb");
    // Without weight it is not there.
    real.set(vec![('a', 1), ('b', 0), ('d', 1)]);
    assert_eq!(real.picks(4), "adad");
}

#[test]
fn a_further_attempt_passes_over_what_was_tried() {
    let mut real = Real::new(&options(&[]), "abc");
    assert_eq!(real.pick_other(&['a', 'b']), Some('c'));
    assert_eq!(real.picks(3), "abc");
    real.reports('c', FAILED, 15);
    assert_eq!(real.pick_other(&['a', 'b']), Some('c'), "rather than one that was tried");
    assert_eq!(real.pick_other(&['a', 'b', 'c']), Some('a'));
    assert_eq!(real.picks(2), "ba");
}

#[test]
fn weights_are_kept_by_the_idle_list() {
    let mut real = Real::new(&options(&[]), "");
    real.set(vec![('a', 5), ('b', 1), ('c', 2), ('d', 8)]);
    let count = |picks: &str, name| picks.chars().filter(|c| *c == name).count();
    let picks = real.picks(1600);
    for (name, expected) in [('a', 500usize), ('b', 100), ('c', 200), ('d', 800)] {
        assert!(count(&picks, name).abs_diff(expected) < 5, "{name}: {}", count(&picks, name));
    }
    // Without `d`, and one in eleven for it.
    real.reports('d', FAILED, 15);
    let picks = real.picks(880);
    for (name, expected) in [('a', 500usize), ('b', 100), ('c', 200), ('d', 80)] {
        assert!(count(&picks, name).abs_diff(expected) < 5, "{name}: {}", count(&picks, name));
    }
    assert_eq!(count(&picks, 'd'), 80);
}

/// The specification as it stands, with lists that are lists.
struct Reference {
    probe_num: u64,
    init_succ_cnt: u64,
    init_err_cnt: u64,
    err_rate: f64,
    succ_rate: f64,
    contin_err_limit: u64,
    contin_succ_limit: u64,
    window_err_rate: f64,
    idle_timeout: u64,
    overload_timeout: u64,
    idle: VecDeque<char>,
    overload: VecDeque<char>,
    access: u64,
    hosts: BTreeMap<char, Host>,
}

#[derive(Default)]
struct Host {
    vsucc: u64,
    verr: u64,
    rsucc: u64,
    rerr: u64,
    contin_succ: u64,
    contin_err: u64,
    overload: bool,
    idle_ts: u64,
    overload_ts: u64,
}

impl Reference {
    fn set(&mut self, names: &[char], now: u64) {
        self.hosts.retain(|name, _| names.contains(name));
        self.idle.retain(|name| names.contains(name));
        self.overload.retain(|name| names.contains(name));
        for name in names {
            if !self.hosts.contains_key(name) {
                self.hosts.insert(*name, Host::default());
                self.set_idle(*name, now);
                self.idle.push_back(*name);
            }
        }
    }

    fn set_idle(&mut self, name: char, now: u64) {
        let vsucc = self.init_succ_cnt;
        self.hosts.insert(name, Host { vsucc, idle_ts: now, ..Host::default() });
    }

    fn set_overload(&mut self, name: char, now: u64) {
        let verr = self.init_err_cnt;
        let host = Host { verr, overload: true, overload_ts: now, ..Host::default() };
        self.hosts.insert(name, host);
    }

    fn turn(list: &mut VecDeque<char>, exclude: &[char]) -> Option<char> {
        for _ in 0..list.len() {
            let head = list.pop_front()?;
            list.push_back(head);
            if !exclude.contains(&head) {
                return Some(head);
            }
        }
        None
    }

    fn pick(&mut self, exclude: &[char]) -> Option<char> {
        let (first, other) = match (self.idle.is_empty(), self.overload.is_empty()) {
            (true, true) => return None,
            (true, false) => {
                if self.access < self.probe_num {
                    self.access += 1;
                    return None;
                }
                self.access = 0;
                (&mut self.overload, &mut self.idle)
            }
            (false, true) => (&mut self.idle, &mut self.overload),
            (false, false) => {
                if self.access >= self.probe_num {
                    self.access = 0;
                    (&mut self.overload, &mut self.idle)
                } else {
                    self.access += 1;
                    (&mut self.idle, &mut self.overload)
                }
            }
        };
        let next = Self::turn(first, exclude).or_else(|| Self::turn(other, exclude));
        next.or_else(|| Self::turn(first, &[]))
    }

    fn eject(&mut self, name: char, now: u64) {
        self.set_overload(name, now);
        self.idle.retain(|other| *other != name);
        self.overload.push_back(name);
    }

    fn restore(&mut self, name: char, now: u64) {
        self.set_idle(name, now);
        self.overload.retain(|other| *other != name);
        self.idle.push_back(name);
    }

    fn report(&mut self, name: char, succeeded: bool, now: u64) {
        let Some(host) = self.hosts.get_mut(&name) else { return };
        if succeeded {
            host.vsucc += 1;
            host.rsucc += 1;
            host.contin_succ += 1;
            host.contin_err = 0;
        } else {
            host.verr += 1;
            host.rerr += 1;
            host.contin_err += 1;
            host.contin_succ = 0;
        }
        let total = (host.vsucc + host.verr) as f64;
        if !host.overload && !succeeded {
            let rate = host.verr as f64 / total;
            if rate > self.err_rate || host.contin_err >= self.contin_err_limit {
                return self.eject(name, now);
            }
        }
        if host.overload && succeeded {
            let rate = host.vsucc as f64 / total;
            if rate > self.succ_rate || host.contin_succ >= self.contin_succ_limit {
                return self.restore(name, now);
            }
        }
        if !host.overload && now - host.idle_ts >= self.idle_timeout {
            if host.rerr as f64 / (host.rsucc + host.rerr) as f64 >= self.window_err_rate {
                self.eject(name, now);
            } else {
                self.set_idle(name, now);
            }
        } else if host.overload && now - host.overload_ts >= self.overload_timeout {
            self.restore(name, now);
        }
    }
}

/// Parameters by chance, or the defaults of one set.
fn parameters(rng: &mut Rng) -> (Options, Reference) {
    let code = rng.below(2) == 0;
    let mut given = options(&[("defaults", text(if code { "code" } else { "readme" }))]);
    let (row, succ_rate) = if code { (10, 0.92) } else { (15, 0.5) };
    let varies = rng.below(2) == 0;
    let mut count = |rng: &mut Rng, name: &str, default: u64, most: u64| {
        if !varies || rng.below(2) == 0 {
            return default;
        }
        let value = rng.below(most + 1);
        given.push((name.to_owned(), OptionValue::Integer(value)));
        value
    };
    let probe_num = count(rng, "probe_num", 10, 20);
    let init_succ_cnt = count(rng, "init_succ_cnt", 180, 200);
    let init_err_cnt = count(rng, "init_err_cnt", 5, 20);
    let contin_err_limit = count(rng, "contin_err_limit", row, 20);
    let contin_succ_limit = count(rng, "contin_succ_limit", row, 20);
    let mut rate = |rng: &mut Rng, name: &str, default: f64| {
        if !varies || rng.below(2) == 0 {
            return default;
        }
        let value = rng.below(21) as f64 / 20.0;
        given.push((name.to_owned(), OptionValue::Float(value)));
        value
    };
    let err_rate = rate(rng, "err_rate", 0.1);
    let succ_rate = rate(rng, "succ_rate", succ_rate);
    let window_err_rate = rate(rng, "window_err_rate", 0.7);
    let mut time = |rng: &mut Rng, name: &str| {
        if !varies || rng.below(2) == 0 {
            return 15;
        }
        let value = 1 + rng.below(20);
        // Parts of a second count as a whole one.
        let given_as = S * value as u32 - Duration::from_millis(rng.below(1000));
        given.push((name.to_owned(), OptionValue::Duration(given_as)));
        value
    };
    let idle_timeout = time(rng, "idle_timeout");
    let overload_timeout = time(rng, "overload_timeout");
    let reference = Reference {
        probe_num,
        init_succ_cnt,
        init_err_cnt,
        err_rate,
        succ_rate,
        contin_err_limit,
        contin_succ_limit,
        window_err_rate,
        idle_timeout,
        overload_timeout,
        idle: VecDeque::new(),
        overload: VecDeque::new(),
        access: 0,
        hosts: BTreeMap::new(),
    };
    (given, reference)
}

/// One random course; answers how many picks found nothing, and how many endpoints changed lists.
fn compare(seed: u64) -> (usize, usize) {
    let mut rng = Rng::from_seed(seed);
    let (options, mut reference) = parameters(&mut rng);
    let mut real = Real::new(&options, "");
    // How likely each of them fails.
    let mut failing = [0.0; 8];
    let (mut refused, mut changes) = (0, 0);
    for step in 0..3000 {
        let second = |real: &Real| real.now.since(Instant::ZERO).as_secs();
        // Who comes has come at the next pick: nobody tells a policy the time before.
        real.now += Duration::from_millis(rng.below(20));
        if step == 0 || rng.below(150) == 0 {
            let mut names: Vec<(char, u16)> = ('a'..='h').map(|name| (name, 1)).collect();
            names.retain(|_| rng.below(4) > 0);
            for _ in 0..rng.below(4) {
                let (one, other) = (rng.below(8) as usize, rng.below(8) as usize);
                if one < names.len() && other < names.len() {
                    names.swap(one, other);
                }
            }
            // Without weight one is not there, unless all are without.
            if names.len() > 2 && rng.below(3) == 0 {
                names[0].1 = 0;
            }
            real.set(names.clone());
            let present: Vec<char> =
                names.iter().filter(|(_, weight)| *weight > 0).map(|(name, _)| *name).collect();
            reference.set(&present, second(&real));
        } else if rng.below(100) == 0 {
            failing[rng.below(8) as usize] = [0.0, 0.05, 0.3, 1.0][rng.below(4) as usize];
        } else if rng.below(50) == 0 {
            real.now += Duration::from_millis(rng.below(8000));
        }
        let exclude: Vec<char> = match rng.below(5) {
            0 => ('a'..='h').filter(|_| rng.below(3) == 0).collect(),
            _ => Vec::new(),
        };
        let expected = reference.pick(&exclude);
        let picked = real.pick_other(&exclude);
        assert_eq!(picked, expected, "seed {seed}, step {step}, without {exclude:?}: {options:?}");
        refused += usize::from(picked.is_none() && !reference.hosts.is_empty());
        // Mostly of the one that was picked; sometimes several, sometimes of any.
        for _ in 0..rng.below(4) {
            let any = char::from(b'a' + rng.below(8) as u8);
            let name = picked.filter(|_| rng.below(4) > 0).unwrap_or(any);
            let failed = rng.unit() < failing[(name as u8 - b'a') as usize];
            if real.trackers.contains_key(&name) {
                let before = reference.overload.len();
                reference.report(name, !failed, second(&real));
                changes += usize::from(reference.overload.len() != before);
                real.report(name, if failed { Outcome::Broken } else { Outcome::Success });
            }
            if rng.below(10) == 0 && real.trackers.contains_key(&name) {
                real.report(name, Outcome::Abandoned);
            }
        }
    }
    (refused, changes)
}

#[test]
fn random_courses_are_those_of_the_specification() {
    let (mut refused, mut changes) = (0, 0);
    for seed in 0..300 {
        let (none, moved) = compare(seed);
        refused += none;
        changes += moved;
    }
    // They are neither idle nor hopeless.
    assert!(refused > 1000 && changes > 5000, "{refused} refused, {changes} changes");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "what several threads do to it is the question")]
fn several_workers_at_once_keep_the_lists_whole() {
    let names: Vec<(char, u16)> = ('a'..='h').map(|name| (name, 1)).collect();
    let mut real = Real::new(&options(&[]), "");
    real.set(names.clone());
    std::thread::scope(|scope| {
        for worker in 0..4u64 {
            let real = &real;
            scope.spawn(move || {
                let mut rng = Rng::from_seed(worker);
                for round in 0..50_000u64 {
                    let now = Instant::ZERO + Duration::from_micros(round * 400);
                    let request = PickRequest { now, key: None, exclude: &[] };
                    let picked = real.picker.pick(&request, &real.loads, &mut rng);
                    let Some(position) = picked else { continue };
                    // Half of them fail for some time, and then are well.
                    let failed = position < 4 && round % 10_000 < 5000 && rng.below(2) == 0;
                    let outcome = if failed { FAILED } else { Outcome::Success };
                    let name = real.names[position as usize];
                    real.trackers[&name].report(&Report::new(now, outcome));
                }
            });
        }
    });
    // Each stands in exactly one list: all come back, and are walked in turn.
    real.now = Instant::ZERO + S * 100;
    for (name, _) in &names {
        real.reports(*name, Outcome::Success, 20);
    }
    let mut round: Vec<char> = real.picks(8).chars().collect();
    round.sort_unstable();
    assert_eq!(round.into_iter().collect::<String>(), "abcdefgh");
    // What it was found to be outlives the picker.
    real.reports('c', FAILED, 15);
    real.set(names);
    // Where in its eleven picks it stands is by chance: another worker may have picked after the
    // probe that brought the last one back.
    assert!((0..11).any(|_| real.picks(1) == "c"));
    assert!(!real.picks(10).contains('c'));
    assert_eq!(real.picks(1), "c");
}
