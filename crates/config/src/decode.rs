//! The tree to the specification: what each section means, and what must hold between them.
//!
//! For: one function per section, named after it; each reads every key of its table.
//! Never: stops at the first defect; a value that is wrong is reported and its default taken, so
//! that the rest is still checked.
//! Start with [`file`].

mod acme;
mod affinity;
mod agent;
mod bind;
mod discover;
mod dns;
mod endpoint;
mod failures;
mod header;
mod health;
mod hedge;
mod listener;
mod pattern;
mod policy;
mod queue;
mod registry;
mod route;
mod run;
mod scenario;
mod secret;
mod service;
mod tls;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use model::ServiceName;
use model::spec::{
    AccessLogSpec, AdminSpec, AffinitySpec, ListenerSpec, Protocol, ServiceSpec, Spec,
};
use model::vocabulary::Vocabulary;

use crate::address::parse_bind;
use crate::defect::{Report, Span};
use crate::fields::{Fields, scalar, wrong_kind};
use crate::keys;
use crate::suggest;
use crate::tree::{Entry, Node, Value, quoted};

pub(crate) use endpoint::of_service as endpoints;
pub use listener::matchers as route_matchers;
pub(crate) use policy::expected as option_expected;
pub(crate) use scenario::scenario;

use bind::{Bind, Binds, Transport};

/// What the sections of one file share.
struct Context<'a> {
    report: &'a Report<'a>,
    vocabulary: &'a Vocabulary,
    /// The services that the file defines, and whether something sends to them.
    services: BTreeMap<&'a str, DefinedService>,
    binds: Binds,
    /// Containers are discovered: services and routes may come by their labels.
    discovers: bool,
    /// There is a registry, in this process or another.
    registry: bool,
    /// Regular expressions read so far.
    expressions: Cell<usize>,
    /// Where certificates are wanted that need a listener in clear.
    http01: RefCell<Vec<Span>>,
}

struct DefinedService {
    span: Span,
    used: Cell<bool>,
    /// Where a listener sends it streams or flows.
    stream: Cell<Option<Span>>,
}

/// The address of the admin API when `admin` names none: this machine only.
const ADMIN_BIND: &str = "127.0.0.1:9900";

/// What each service depends on beside what it says itself, and who depends on it: what is to be
/// known to read one anew while the rest of its file stays as it is.
#[derive(Default)]
pub(crate) struct Surroundings {
    discovers: bool,
    registry: bool,
    /// Its callers may ask for any service, so none is unused.
    pub(crate) has_agent: bool,
    /// Services that nothing in the file sends to.
    pub(crate) unused: BTreeSet<Box<str>>,
    /// Those that a listener sends streams or flows to.
    pub(crate) streamed: BTreeSet<Box<str>>,
}

/// Services alone, of a file that is otherwise as it was.
pub(crate) fn services(
    entries: &[Entry],
    surroundings: &Surroundings,
    report: &Report<'_>,
    vocabulary: &Vocabulary,
) -> Vec<ServiceSpec> {
    let context = Context {
        report,
        vocabulary,
        // None: one that referred to another is refused here, and then read with its file.
        services: BTreeMap::new(),
        binds: Binds::default(),
        discovers: surroundings.discovers,
        registry: surroundings.registry,
        expressions: Cell::new(0),
        http01: RefCell::default(),
    };
    let named = entries.iter().filter(|entry| name(&context, entry, "service"));
    named.map(|entry| service::service(entry, &context)).collect()
}

pub(crate) fn file(
    root: &Node,
    report: &Report<'_>,
    vocabulary: &Vocabulary,
) -> (Spec, Surroundings) {
    let fields = Fields::open(report, &keys::FILE, "the file", root, Span::default());
    let services = fields.map("services");
    let context = Context {
        report,
        vocabulary,
        services: defined(services),
        binds: Binds::default(),
        discovers: has_key(root, "providers"),
        registry: has_key(root, "registry"),
        expressions: Cell::new(0),
        http01: RefCell::default(),
    };
    let mut spec = Spec { admin: admin(&fields, &context), ..Spec::default() };
    spec.providers = discover::providers(&fields, &context);
    spec.registry = registry::registry(&fields, &context);
    spec.agent = agent::agent(&fields, &context);
    spec.dns = dns::dns(&fields, &context);
    spec.access_log = access_log(&fields, report);
    let mut workers = 0;
    fields.integer("workers", &mut workers);
    spec.workers = (workers > 0).then_some(workers);
    fields.duration("stop_grace", &mut spec.stop_grace.0);
    for entry in fields.map("listeners") {
        if name(&context, entry, "listener")
            && let Some(listener) = listener::listener(entry, &context)
        {
            spec.listeners.insert(listener.name.clone(), listener);
        }
    }
    for entry in services {
        if name(&context, entry, "service") {
            let service = service::service(entry, &context);
            spec.services.insert(service.name.clone(), service);
        }
    }
    let is_map = matches!(root.value, Value::Map(_));
    match &mut spec.providers.docker {
        Some(docker) => discover::listener(&fields, docker, &mut spec.listeners, &context),
        None if is_map
            && !fields.has("listeners")
            && !context.discovers
            && !context.registry
            && !fields.has("agent") =>
        {
            report.error_help(
                fields.span,
                "the file has no `listeners`",
                "add `listeners: { web: { bind: :8080, service: web } }`",
            )
        }
        None => {}
    }
    context.binds.check(report);
    let in_clear = |l: &ListenerSpec| l.protocol == Protocol::Http && l.tls.is_none();
    if is_map && !spec.listeners.values().any(in_clear) {
        for span in context.http01.take() {
            report.error_help(
                span,
                "CAs ask by HTTP-01 in clear, and no listener speaks HTTP without `tls`",
                "add one on port 80, such as `{ bind: :80, routes: [ { redirect: \
                 \"https://{host}{uri}\" } ] }`, or write `challenge: tls-alpn-01`",
            );
        }
    }
    for (name, service) in &context.services {
        let affinity = spec.services.get(*name).and_then(|spec| spec.affinity.as_ref());
        if let Some(span) = service.stream.get()
            && affinity.is_some_and(AffinitySpec::needs_http)
        {
            report.warning(
                span,
                format!(
                    "service {} keeps its sessions by what only HTTP has: here each connection is \
                     balanced by itself",
                    quoted(name)
                ),
                "write `affinity: { source: true }` in a service of its own for this listener",
            );
        }
    }
    // Where a text is wrong, a service may only seem unused.
    // The agent's callers may ask for any.
    let all_told = report.errors() == 0 && spec.agent.is_none();
    for (name, service) in context.services.iter().filter(|_| all_told) {
        if !service.used.get() {
            report.warning(
                service.span,
                format!("nothing sends to service {}", quoted(name)),
                "name it as the `service` of a listener or a route, or remove it",
            );
        }
    }
    let surroundings = surroundings(&spec, &context);
    (spec, surroundings)
}

fn surroundings(spec: &Spec, context: &Context<'_>) -> Surroundings {
    let those = |keep: fn(&DefinedService) -> bool| {
        let kept = context.services.iter().filter(|(_, service)| keep(service));
        kept.map(|(name, _)| Box::from(*name)).collect()
    };
    Surroundings {
        discovers: context.discovers,
        registry: context.registry,
        has_agent: spec.agent.is_some(),
        unused: those(|service| !service.used.get()),
        streamed: those(|service| service.stream.get().is_some()),
    }
}

/// Known before the sections are read, for they depend on it.
fn has_key(root: &Node, key: &str) -> bool {
    matches!(&root.value, Value::Map(entries)
        if entries.iter().any(|entry| &*entry.key == key))
}

fn defined<'a>(entries: &'a [Entry]) -> BTreeMap<&'a str, DefinedService> {
    let service = |entry: &'a Entry| DefinedService {
        span: entry.key_span,
        used: Cell::new(false),
        stream: Cell::new(None),
    };
    entries.iter().map(|entry| (&*entry.key, service(entry))).collect()
}

impl Context<'_> {
    /// A reference to a service; reported if there is none of that name.
    fn service(&self, name: &str, span: Span) -> ServiceName {
        match self.services.get(name) {
            Some(service) => service.used.set(true),
            None if self.report.is_full() => self.report.error(span, ""),
            None => {
                let help = suggest::help(name, self.services.keys().copied(), "services");
                let message = format!("there is no service {}", quoted(name));
                self.report.error_help(span, message, help);
            }
        }
        ServiceName::new(name)
    }
}

/// Whether a listener or service can be called so. Names appear in metrics, URLs and commands.
fn name(context: &Context<'_>, entry: &Entry, what: &str) -> bool {
    const NAME_BYTES_MAX: usize = 100;
    let name = &*entry.key;
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let rest = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let fits = first && rest && name.len() <= NAME_BYTES_MAX;
    if !fits {
        context.report.error_help(
            entry.key_span,
            format!("{} cannot be the name of a {what}", quoted(name)),
            format!(
                "use up to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`, and begin with a \
                 letter or digit"
            ),
        );
    }
    if entry.value.is_null() {
        context.report.error_help(
            entry.key_span,
            format!("{what} {} is empty", quoted(name)),
            format!("indent its keys below it, or remove {}", quoted(name)),
        );
    }
    fits && !entry.value.is_null()
}

fn admin(file: &Fields<'_>, context: &Context<'_>) -> Option<AdminSpec> {
    let fields = file.section("admin", &keys::ADMIN)?;
    let default = (parse_bind(ADMIN_BIND).ok()?, fields.span);
    let bind = fields.parsed("bind", parse_bind);
    let token = token(&fields, context);
    let (bind, span) = bind.unwrap_or(default);
    context.binds.add(Bind {
        owner: "`admin`".into(),
        address: bind,
        span,
        transport: Transport::Tcp,
    });
    if !bind.ip().to_canonical().is_loopback() && token.is_none() {
        context.report.error_help(
            span,
            format!("the admin API on {bind} would be open to others without a `token`"),
            "add `token: SECRET` to `admin`, or bind 127.0.0.1",
        );
    }
    Some(AdminSpec { bind, token })
}

fn token(fields: &Fields<'_>, context: &Context<'_>) -> Option<String> {
    let (text, span) = fields.text("token")?;
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        context.report.error_help(
            span,
            "`token` must be visible ASCII characters without spaces",
            "for example the output of `openssl rand -hex 16`",
        );
    }
    secret::refuse_redacted("token", (text, span), context);
    Some(text.into())
}

fn access_log(file: &Fields<'_>, report: &Report<'_>) -> Option<AccessLogSpec> {
    let entry = file.entry("access_log")?;
    let path = match &entry.value.value {
        Value::Map(_) => {
            let fields = file.section("access_log", &keys::ACCESS_LOG)?;
            fields.text("file")?
        }
        _ => {
            let text = scalar(&entry.value).unwrap_or("");
            if text == "stdout" {
                return Some(AccessLogSpec::Stdout);
            }
            let Some(path) = text.strip_prefix("FILE ").or(text.strip_prefix("file ")) else {
                let kind = keys::FILE.key("access_log")?.kind;
                wrong_kind(report, "access_log", &kind, &entry.value);
                return None;
            };
            (path.trim_start(), entry.value.span)
        }
    };
    path_of("file", path, report).map(AccessLogSpec::File)
}

/// A path of the file system.
fn path_of(key: &str, (text, span): (&str, Span), report: &Report<'_>) -> Option<PathBuf> {
    if text.is_empty() || text.contains('\0') {
        report.error(span, format!("`{key}` must be a path, not {}", quoted(text)));
        return None;
    }
    // What is equal is then the same: `ca.pem/` equals `ca.pem`, and opens something else.
    Some(Path::new(text).components().collect())
}
