//! A scenario for `evenkeel simulate`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::spec::scenario::{
    Action, Antagonists, CacheSpec, ClientGroup, EndpointGroup, Fault, Latency, Recording,
    Scenario, ScenarioEvent, Traffic,
};
use model::vocabulary::Vocabulary;

use crate::defect::{Report, Span};
use crate::fields::{Fields, scalar, wrong_kind};
use crate::keys::scenario as keys;
use crate::table::Kind;
use crate::tree::{Entry, Node, Value, quoted};
use crate::units;

use super::bind::Binds;
use super::{Context, affinity, name, path_of, policy, service};

pub(crate) fn scenario(root: &Node, report: &Report<'_>, vocabulary: &Vocabulary) -> Scenario {
    let context = Context {
        report,
        vocabulary,
        services: BTreeMap::new(),
        discovers: false,
        registry: false,
        binds: Binds::default(),
        expressions: Cell::new(0),
        http01: RefCell::default(),
    };
    let fields = Fields::open(report, &keys::SCENARIO, "the scenario", root, Span::default());
    let mut scenario = Scenario::new(Duration::from_secs(1));
    fields.duration("duration", &mut scenario.duration);
    fields.integer("seed", &mut scenario.seed);
    fields.integer("balancers", &mut scenario.balancers);
    fields.duration("stale", &mut scenario.stale);
    let policies = fields.list("policies").unwrap_or_default();
    scenario.policies = policies.iter().map(|node| policy::one(node, &context)).collect();
    if let Some(fields) = fields.section("service", &keys::SCENARIO_SERVICE) {
        scenario.service.affinity = affinity::affinity(&fields, &context);
        service::treatment(&fields, &mut scenario.service, &context);
    }
    for entry in fields.map("clients") {
        if name(&context, entry, "group of clients") {
            scenario.clients.push(clients(entry, report));
        }
    }
    for entry in fields.map("endpoints") {
        if name(&context, entry, "group of endpoints") {
            scenario.endpoints.push(endpoints(entry, report));
        }
    }
    for node in fields.list("events").unwrap_or_default() {
        let event = event(node, &scenario, report);
        scenario.events.extend(event);
    }
    for (key, is_empty) in
        [("clients", scenario.clients.is_empty()), ("endpoints", scenario.endpoints.is_empty())]
    {
        if is_empty && fields.has(key) && report.errors() == 0 {
            report.error(fields.key_span(key), format!("`{key}` names no group"));
        }
    }
    scenario
}

fn clients(entry: &Entry, report: &Report<'_>) -> ClientGroup {
    let what = format!("clients {}", quoted(&entry.key));
    let fields = Fields::open(report, &keys::CLIENTS, &what, &entry.value, entry.key_span);
    let rate = fields.parsed("rate", number).map(|(rate, _)| rate);
    let (mut users, mut think) = (0, Duration::from_secs(1));
    fields.integer("users", &mut users);
    fields.duration("think", &mut think);
    let is_map = matches!(entry.value.value, Value::Map(_));
    let recording =
        fields.section("recorded", &keys::RECORDED).and_then(|fields| recording(&fields, report));
    let given: Vec<&Entry> = fields.entries(&["rate", "users", "recorded"]).collect();
    match given[..] {
        [first, second, ..] => report.error_help(
            second.key_span,
            format!("{what} have both `{}` and `{}`", first.key, second.key),
            "keep one of the two",
        ),
        [] if is_map => report.error_help(
            entry.key_span,
            format!("{what} send nothing"),
            "add `rate: 100` for requests at random moments, or `users: 10`",
        ),
        _ => {}
    }
    let traffic = match (rate, recording) {
        (Some(rate), _) => Traffic::Open { rate },
        (None, Some(recording)) => Traffic::Recorded(recording),
        (None, None) => Traffic::Closed { users, think },
    };
    let mut group = ClientGroup::new(&entry.key, traffic);
    fields.duration_or_off("timeout", &mut group.timeout);
    fields.integer("keys", &mut group.keys);
    group
}

fn recording(fields: &Fields<'_>, report: &Report<'_>) -> Option<Recording> {
    let access_log = fields.text("access_log").and_then(|p| path_of("access_log", p, report));
    let service = fields.text("service").map(|(service, _)| service.to_owned());
    let speed = fields.parsed("speed", number).map_or(1.0, |(speed, _)| speed);
    let mut durations = false;
    fields.bool("durations", &mut durations);
    let arrivals = Arc::new([]);
    Some(Recording { access_log: access_log?, service, speed, durations, arrivals })
}

fn endpoints(entry: &Entry, report: &Report<'_>) -> EndpointGroup {
    let what = format!("endpoints {}", quoted(&entry.key));
    let fields = Fields::open(report, &keys::ENDPOINTS, &what, &entry.value, entry.key_span);
    let latency = latency(&fields, report).unwrap_or(Latency::Constant(Duration::ZERO));
    let mut group = EndpointGroup::new(&entry.key, 1, latency);
    fields.integer("count", &mut group.count);
    fields.integer_or_off("threads", &mut group.threads);
    fields.integer("queue_max", &mut group.queue_max);
    fields.integer("weight", &mut group.weight);
    fields.integer("priority", &mut group.priority);
    group.zone = fields.text("zone").map(|(zone, _)| zone.to_owned());
    fields.duration("boot", &mut group.boot);
    fields.duration("warm_up", &mut group.warm_up);
    group.cache = cache(&fields, report);
    if let Some(fields) = fields.section("antagonists", &keys::ANTAGONISTS) {
        group.antagonists = antagonists(&fields, report);
    }
    group
}

fn cache(fields: &Fields<'_>, report: &Report<'_>) -> Option<CacheSpec> {
    let entry = fields.entry("cache")?;
    match scalar(&entry.value) {
        Some("off") => return None,
        Some(_) => {
            let kind = keys::ENDPOINTS.key("cache").map_or(Kind::Bool, |key| key.kind);
            wrong_kind(report, "cache", &kind, &entry.value);
            return None;
        }
        None => {}
    }
    let fields = fields.section("cache", &keys::CACHE)?;
    let mut keys = 0;
    fields.integer("keys", &mut keys);
    let miss = fields.parsed("miss", number).map_or(10.0, |(times, _)| times);
    Some(CacheSpec { keys, miss })
}

fn antagonists(fields: &Fields<'_>, report: &Report<'_>) -> Option<Antagonists> {
    let (mut every, mut share) = (Duration::from_secs(1), 0.5);
    fields.duration("every", &mut every);
    fields.share("share", &mut share);
    let (slower, span) = fields.parsed("slower", number)?;
    if slower < 1.0 {
        let message = "antagonists make an endpoint no faster";
        report.error_help(span, message, "write 1 or more: `slower: 4`");
    }
    Some(Antagonists { every, share, slower })
}

/// The key `latency`: a duration or a distribution.
fn latency(fields: &Fields<'_>, report: &Report<'_>) -> Option<Latency> {
    let entry = fields.entry("latency")?;
    if scalar(&entry.value).is_some() {
        let mut constant = Duration::ZERO;
        fields.duration("latency", &mut constant);
        return Some(Latency::Constant(constant));
    }
    let fields = fields.section("latency", &keys::LATENCY)?;
    let given = |key: &str| fields.entry(key).is_some();
    let (mut mean, mut median) = (Duration::ZERO, Duration::ZERO);
    let (mut fast, mut slow, mut share) = (Duration::ZERO, Duration::ZERO, 0.1);
    fields.duration("mean", &mut mean);
    fields.duration("median", &mut median);
    let sigma = fields.parsed("sigma", number).map_or(0.5, |(sigma, _)| sigma);
    fields.duration("fast", &mut fast);
    fields.duration("slow", &mut slow);
    fields.share("share", &mut share);
    match (given("mean"), given("median"), given("fast") && given("slow")) {
        (true, false, false) => Some(Latency::Exponential { mean }),
        (false, true, false) => Some(Latency::LogNormal { median, sigma }),
        (false, false, true) => Some(Latency::Bimodal { fast, slow, share }),
        _ => {
            report.error_help(
                entry.value.span,
                "`latency` must be one distribution",
                "write `{ mean: 10ms }`, `{ median: 10ms, sigma: 0.5 }`, or \
                 `{ fast: 10ms, slow: 1s, share: 1% }`",
            );
            None
        }
    }
}

/// What an event does, by its key; exactly one of them.
const DEEDS: [&str; 8] =
    ["slower", "latency", "errors", "resets", "fault", "scale", "replace", "times"];

fn event(node: &Node, scenario: &Scenario, report: &Report<'_>) -> Option<ScenarioEvent> {
    let fields = Fields::open(report, &keys::EVENT, "this event", node, node.span);
    let mut at = Duration::ZERO;
    fields.duration("at", &mut at);
    let mut lasts = None;
    fields.duration_or_off("for", &mut lasts);
    let endpoints = group(&fields, "endpoints", report, |name| {
        scenario.endpoints.iter().position(|group| group.name == name)
    });
    let clients = group(&fields, "clients", report, |name| {
        scenario.clients.iter().position(|group| group.name == name)
    });
    let fault = fault(&fields, report);
    let (mut count, mut scale, mut pace) = (0, 0, Duration::ZERO);
    fields.integer("count", &mut count);
    fields.integer("scale", &mut scale);
    fields.duration("replace", &mut pace);
    let times = fields.parsed("times", number).map(|(times, _)| times);
    let deeds: Vec<&Entry> = fields.entries(&DEEDS).collect();
    let [deed] = deeds[..] else {
        let span = deeds.get(1).map_or(node.span, |deed| deed.key_span);
        let all = DEEDS.map(|deed| format!("`{deed}`")).join(", ");
        if report.errors() == 0 {
            let message = "an event does one thing, no more and no less";
            report.error_help(span, message, format!("write one of {all}"));
        }
        return None;
    };
    let missing = |key: &str| {
        if !fields.has(key) {
            let message = format!("`{}` does not say which `{key}`", deed.key);
            report.error_help(deed.key_span, message, format!("add `{key}: GROUP`"));
        }
    };
    let action = match &*deed.key {
        "times" => {
            missing("clients");
            let traffic = &clients.and_then(|clients| scenario.clients.get(clients))?.traffic;
            if !matches!(traffic, Traffic::Open { .. }) {
                let message = "`times` is for clients with a `rate`";
                report.error(deed.key_span, message);
            }
            Action::Burst { group: clients?, factor: times? }
        }
        key => {
            missing("endpoints");
            let group = endpoints?;
            match key {
                "scale" => Action::Scale { group, count: scale },
                "replace" => Action::Replace { group, pace },
                _ => Action::Fault { group, count: (count > 0).then_some(count), fault: fault? },
            }
        }
    };
    Some(ScenarioEvent { at, lasts, action })
}

fn fault(fields: &Fields<'_>, report: &Report<'_>) -> Option<Fault> {
    let (mut errors, mut resets) = (0.0, 0.0);
    fields.share("errors", &mut errors);
    fields.share("resets", &mut resets);
    let slower = fields.parsed("slower", number).map(|(times, _)| Fault::Slower(times));
    let latency = latency(fields, report).map(Fault::Latency);
    let word = fields.word("fault").map(|(word, _)| match word {
        "crash" => Fault::Crash,
        "hang" => Fault::Hang,
        "drain" => Fault::Drain,
        "checks_pass" => Fault::ChecksPass,
        _ => Fault::ChecksFail,
    });
    let errors = fields.entry("errors").map(|_| Fault::Errors(errors));
    let resets = fields.entry("resets").map(|_| Fault::Resets(resets));
    slower.or(latency).or(word).or(errors).or(resets)
}

/// The group that a key names.
fn group(
    fields: &Fields<'_>,
    key: &str,
    report: &Report<'_>,
    find: impl Fn(&str) -> Option<usize>,
) -> Option<usize> {
    let (text, span) = fields.text(key)?;
    let found = find(text);
    if found.is_none() {
        let message = format!("there is no group {} of {key}", quoted(text));
        report.error_help(span, message, format!("name one that stands below `{key}`"));
    }
    found
}

/// Above zero.
fn number(text: &str) -> Result<f64, String> {
    /// Ten million times anything is beyond what can be simulated.
    const MAX: f64 = 1e7;
    let number = units::plain_number(text).filter(|number| *number > 0.0 && *number <= MAX);
    number.ok_or_else(|| format!("{text:?} is no number above 0; write 100 or 1.5"))
}
