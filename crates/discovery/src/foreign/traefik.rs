//! The labels that Traefik reads. One service for each container is understood; so are the rules of
//! its routers, its port, its health check, its sticky cookie, and the stripping of a prefix; and
//! routers for TCP.

mod tcp;

use std::collections::{BTreeMap, BTreeSet};

use super::{Translation, rule};
use crate::Container;

const PREFIX: &str = "traefik.";

/// Middlewares that let everybody through: a route without them is another one, but opens nothing.
/// All others may be what keeps strangers out, such as `basicauth`, `ipallowlist`, or one that is
/// defined elsewhere.
const LETS_THROUGH: [&str; 14] = [
    "addprefix",
    "buffering",
    "circuitbreaker",
    "compress",
    "contenttype",
    "errors",
    "headers",
    "inflightreq",
    "ratelimit",
    "redirectregex",
    "redirectscheme",
    "retry",
    "stripprefix",
    "stripprefixregex",
];

pub(super) fn translate(container: &Container, translation: &mut Translation) {
    // Traefik does not care for the case of keys.
    let labels: BTreeMap<String, &str> = (container.labels.iter())
        .filter_map(|(name, value)| {
            let key = name.to_ascii_lowercase();
            Some((key.strip_prefix(PREFIX)?.to_owned(), value.as_str()))
        })
        .collect();
    if labels.is_empty() {
        return;
    }
    translation.concerned = true;
    let mut reader = Reader { labels: &labels, translation, service: None };
    reader.read();
}

struct Reader<'a> {
    labels: &'a BTreeMap<String, &'a str>,
    translation: &'a mut Translation,
    /// The one service that is understood: the first by name.
    service: Option<String>,
}

impl Reader<'_> {
    fn read(&mut self) {
        self.service = self.names("http.services.").into_iter().next();
        let mut sticky = false;
        let mut routed: BTreeSet<String> = BTreeSet::new();
        for (key, value) in self.labels {
            let levels: Vec<&str> = key.split('.').collect();
            match &*levels {
                ["enable"] => self.translation.set("enable", *value),
                ["docker", "network"] => self.translation.set("network", *value),
                ["http", "services", name, "loadbalancer", rest @ ..] => {
                    if self.service.as_deref() != Some(name) {
                        self.not_understood(key, "one service for each container is");
                        continue;
                    }
                    sticky |= matches!(rest, ["sticky"] | ["sticky", "cookie", ..]);
                    self.service_key(key, rest, value);
                }
                ["http", "routers", name, ..] => drop(routed.insert((*name).to_owned())),
                // Read with the routers that use them.
                ["http", "middlewares", ..] => {}
                // Read behind all others.
                ["tcp", ..] => {}
                _ => self.not_understood(key, ""),
            }
        }
        if sticky {
            let name = self.sticky("name").unwrap_or("_evenkeel").to_owned();
            self.translation.set("affinity.cookie.name", name);
        }
        let mut used = BTreeSet::new();
        let any = !routed.is_empty();
        for router in routed {
            self.router(&router, &mut used);
        }
        let is_route = |key: &String| key.starts_with("evenkeel.routes.");
        self.translation.unreachable |= any && !self.translation.labels.keys().any(is_route);
        let is_http =
            |key: &String| key.starts_with("http.routers.") || key.starts_with("http.services.");
        let has_http = self.labels.keys().any(is_http);
        tcp::translate(self, has_http);
        for name in self.names("http.middlewares.") {
            if !used.contains(&name) {
                self.not_understood(&format!("http.middlewares.{name}"), "");
            }
        }
    }

    /// The names directly below `prefix`.
    fn names(&self, prefix: &str) -> BTreeSet<String> {
        let below = self.labels.keys().filter_map(|key| key.strip_prefix(prefix));
        below.filter_map(|rest| Some(rest.split_once('.')?.0.to_owned())).collect()
    }

    fn sticky(&self, key: &str) -> Option<&str> {
        let service = self.service.as_deref()?;
        let key = format!("http.services.{service}.loadbalancer.sticky.cookie.{key}");
        self.labels.get(&key).copied()
    }

    fn service_key(&mut self, key: &str, levels: &[&str], value: &str) {
        let ours = match levels {
            ["server", "port"] => "port",
            ["server", "scheme"] if value == "http" => return,
            ["passhostheader"] if value == "true" => return,
            ["sticky"] | ["sticky", "cookie"] | ["sticky", "cookie", "name"] => return,
            ["sticky", "cookie", "secure"] => "affinity.cookie.secure",
            ["sticky", "cookie", "httponly"] => "affinity.cookie.http_only",
            ["sticky", "cookie", "samesite"] => "affinity.cookie.same_site",
            ["healthcheck", "path"] => "health.http",
            ["healthcheck", "interval"] => "health.interval",
            ["healthcheck", "timeout"] => "health.timeout",
            ["healthcheck", "port"] => "health.port",
            ["healthcheck", "hostname"] => "health.host",
            ["healthcheck", "method"] => "health.method",
            _ => return self.not_understood(key, ""),
        };
        self.translation.set(ours, value);
    }

    fn router(&mut self, name: &str, used: &mut BTreeSet<String>) {
        let prefix = format!("http.routers.{name}.");
        let (mut strip, mut rule, mut guarded) = (None, None, false);
        for (key, value) in self.labels.iter().filter(|(key, _)| key.starts_with(&prefix)) {
            match &key[prefix.len()..] {
                "rule" => rule = Some(*value),
                // Where a router listens is not the container's affair here: all routes go to the
                // provider's listener.
                "entrypoints" => {}
                "service" => {
                    let service = value.to_ascii_lowercase();
                    if self.service.as_ref().is_some_and(|known| *known != service) {
                        self.not_understood(key, "one service for each container is");
                        rule = None;
                        break;
                    }
                }
                "middlewares" => {
                    for middleware in value.split(',').map(|name| name.trim()) {
                        // `NAME@docker` names the provider that it comes from.
                        let middleware = middleware.to_ascii_lowercase();
                        let middleware = middleware.split('@').next().unwrap_or("").to_owned();
                        let found = self.strip_prefix(&middleware);
                        let lets_through = self.lets_through(&middleware);
                        match found {
                            Some(prefix) if strip.is_none() => strip = Some(prefix),
                            _ if lets_through => self.not_understood(key, &format!("`{value}`")),
                            _ => {
                                guarded = true;
                                let why = format!(
                                    "`{middleware}` may be what keeps strangers out, so the router \
                                     is left out"
                                );
                                self.not_understood(key, &why);
                            }
                        }
                        used.insert(middleware);
                    }
                }
                _ => self.not_understood(key, ""),
            }
        }
        let Some(rule) = rule.filter(|_| !guarded) else { return };
        match rule::routes(rule) {
            Ok(routes) => {
                for (at, route) in routes.into_iter().enumerate() {
                    for (key, value) in route {
                        self.translation.set(&format!("routes.{name}-{at}.{key}"), value);
                    }
                    if let Some(prefix) = &strip {
                        self.strip(&format!("{name}-{at}"), prefix);
                    }
                }
            }
            Err(why) => self.not_understood(&format!("{prefix}rule"), &why),
        }
    }

    /// Our rewriting replaces the prefix that the route matched; so it must be the one to strip.
    fn strip(&mut self, route: &str, prefix: &str) {
        let path = self.translation.labels.get(&format!("evenkeel.routes.{route}.path"));
        if path.is_some_and(|path| *path == format!("{prefix}/*")) {
            self.translation.set(&format!("routes.{route}.rewrite.prefix"), "/");
        } else {
            let why = format!("{prefix} is not what the rule's PathPrefix says");
            self.not_understood("http.middlewares: stripprefix", &why);
        }
    }

    /// All that is known of the middleware lets everybody through.
    fn lets_through(&self, middleware: &str) -> bool {
        let kinds = self.names(&format!("http.middlewares.{middleware}."));
        // `compress: true` has nothing below it.
        let plain = LETS_THROUGH
            .iter()
            .filter(|kind| {
                self.labels.contains_key(&format!("http.middlewares.{middleware}.{kind}"))
            })
            .map(|kind| (*kind).to_owned());
        let kinds: BTreeSet<String> = kinds.into_iter().chain(plain).collect();
        !kinds.is_empty() && kinds.iter().all(|kind| LETS_THROUGH.contains(&&**kind))
    }

    /// The one prefix that a middleware strips, if that is what it does.
    fn strip_prefix(&self, middleware: &str) -> Option<String> {
        let key = format!("http.middlewares.{middleware}.stripprefix.prefixes");
        let prefixes = self.labels.get(&key)?;
        let prefix = prefixes.trim_end_matches('/');
        (!prefix.contains(',') && prefix.starts_with('/')).then(|| prefix.to_owned())
    }

    fn not_understood(&mut self, key: &str, why: &str) {
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        self.translation.note(format!("{PREFIX}{key} is not understood{why}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn translated(labels: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let pairs =
            labels.iter().map(|(name, value)| (format!("traefik.{name}"), value.to_string()));
        let container = Container { labels: pairs.collect(), ..Container::default() };
        let mut translation = Translation::default();
        translate(&container, &mut translation);
        let labels = translation.labels.iter().map(|(name, value)| {
            format!("{}={value}", name.strip_prefix("evenkeel.").unwrap_or(name))
        });
        let unreachable = translation.unreachable.then(|| "unreachable".to_owned());
        (labels.chain(unreachable).collect(), translation.notes)
    }

    /// Who is served only behind a password there is not served without one here.
    #[test]
    fn what_may_keep_strangers_out_leaves_the_router_out() {
        let check = |middleware: &[(&str, &str)], expected: &[&str]| {
            let router =
                [("http.routers.a.rule", "Host(`a`)"), ("http.routers.a.middlewares", "m@docker")];
            let (labels, notes) = translated(&[&router[..], middleware].concat());
            assert_eq!(labels, expected, "{middleware:?}: {notes:?}");
            assert_eq!(notes.len(), 1, "{middleware:?}: {notes:?}");
        };
        check(&[], &["unreachable"]);
        check(&[("http.middlewares.m.basicauth.users", "a:b")], &["unreachable"]);
        check(&[("http.middlewares.m.chain.middlewares", "x")], &["unreachable"]);
        let both = [
            ("http.middlewares.m.compress", "true"),
            ("http.middlewares.m.ipallowlist.sourcerange", "10.0.0.0/8"),
        ];
        check(&both, &["unreachable"]);
        check(&[("http.middlewares.m.compress", "true")], &["routes.a-0.host=a"]);
        check(&[("http.middlewares.m.retry.attempts", "2")], &["routes.a-0.host=a"]);
    }

    #[test]
    fn the_usual_labels() {
        let (labels, notes) = translated(&[
            ("enable", "true"),
            ("docker.network", "front"),
            ("http.routers.Shop.rule", "Host(`shop.example`) && PathPrefix(`/api`)"),
            ("http.routers.shop.entrypoints", "web"),
            ("http.routers.shop.middlewares", "strip@docker"),
            ("http.routers.shop.service", "shop"),
            ("http.middlewares.strip.stripprefix.prefixes", "/api"),
            ("http.services.shop.loadbalancer.server.port", "5000"),
            ("http.services.shop.loadbalancer.sticky.cookie", "true"),
            ("http.services.shop.loadbalancer.sticky.cookie.name", "SID"),
            ("http.services.shop.loadbalancer.healthcheck.path", "/up"),
        ]);
        assert_eq!(
            labels,
            [
                "affinity.cookie.name=SID",
                "enable=true",
                "health.http=/up",
                "network=front",
                "port=5000",
                "routes.shop-0.host=shop.example",
                "routes.shop-0.path=/api/*",
                "routes.shop-0.rewrite.prefix=/",
            ]
        );
        assert_eq!(notes, Vec::<String>::new());
    }

    #[test]
    fn what_is_not_understood_is_told() {
        let check = |label: &str, value: &str, expected: &str| {
            let (_, notes) = translated(&[(label, value)]);
            assert_eq!(notes.len(), 1, "{label}: {notes:?}");
            assert!(notes[0].contains(expected), "{notes:?}");
        };
        check("http.routers.a.rule", "HostRegexp(`.*`)", "`HostRegexp` is not understood");
        check("http.routers.a.tls.certresolver", "le", "tls.certresolver is not understood");
        check("http.routers.a.middlewares", "auth", "`auth`");
        check("http.middlewares.auth.basicauth.users", "a:b", "http.middlewares.auth");
        check("udp.routers.a.entrypoints", "dns", "traefik.udp.routers.a.entrypoints");
        check("http.services.a.loadbalancer.server.scheme", "https", "scheme is not understood");
        let two = [
            ("http.services.a.loadbalancer.server.port", "1"),
            ("http.services.b.loadbalancer.server.port", "2"),
            ("http.routers.b.rule", "Host(`b`)"),
            ("http.routers.b.service", "b"),
        ];
        let (labels, notes) = translated(&two);
        assert_eq!(labels, ["port=1", "unreachable"]);
        assert_eq!(notes.len(), 2, "{notes:?}");
    }
}
