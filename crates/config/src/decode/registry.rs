//! `registry`.

use std::collections::BTreeMap;

use model::ServiceName;
use model::spec::{
    ClientTlsSpec, EmbeddedRegistrySpec, RegistryDataSpec, RegistrySpec, RegistryStoreSpec,
    RemoteRegistrySpec, SecretSpec, StoreUser,
};

use crate::address::parse_bind;
use crate::defect::Span;
use crate::fields::{Fields, scalar, wrong_kind};
use crate::keys;
use crate::tree::{Value, quoted};

use super::bind::{Bind, Transport};
use super::secret::{password, token};
use super::{Context, name, path_of, tls};

const PREFIX_BYTES_MAX: usize = 100;

pub(super) fn registry(file: &Fields<'_>, context: &Context<'_>) -> Option<RegistrySpec> {
    let fields = file.section("registry", &keys::REGISTRY)?;
    let url = fields.text("url");
    let token = token(&fields, context);
    let embedded = embedded(&fields, token.clone(), url.is_none(), context);
    let tls = tls::of_store(&fields, context);
    let was_refused = fields.has("url") && url.is_none();
    if tls.is_some() && !was_refused && !url.is_some_and(|(url, _)| url.starts_with("https://")) {
        context.report.error_help(
            fields.key_span("tls"),
            "`tls` is how a registry at `https://` is asked, and `url` names none",
            "write `url: https://HOST:PORT`, or remove `tls`",
        );
    }
    let Some((url, span)) = url else { return Some(RegistrySpec::Embedded(Box::new(embedded))) };
    check_url(url, span, context);
    let of_both = ["url", "token", "tls"];
    for entry in keys::REGISTRY.keys.iter().filter(|key| !of_both.contains(&key.name)) {
        if fields.has(entry.name) {
            context.report.error_help(
                fields.key_span(entry.name),
                format!(
                    "`{}` is of a registry in this process, and `url` names another",
                    entry.name
                ),
                "remove one of the two",
            );
        }
    }
    let (url, tls) = (url.to_owned(), tls.unwrap_or_default());
    Some(RegistrySpec::Remote(RemoteRegistrySpec { url, token, tls }))
}

fn embedded(
    fields: &Fields<'_>,
    token: Option<SecretSpec>,
    serves: bool,
    context: &Context<'_>,
) -> EmbeddedRegistrySpec {
    let mut spec = EmbeddedRegistrySpec { token, ..EmbeddedRegistrySpec::default() };
    let bind = fields.parsed("bind", parse_bind);
    let (bind, span) = bind.unwrap_or((spec.bind, fields.span));
    spec.bind = bind;
    if serves {
        context.binds.add(Bind {
            owner: "`registry`".into(),
            address: bind,
            span,
            transport: Transport::Tcp,
        });
        if !bind.ip().to_canonical().is_loopback() && spec.token.is_none() {
            context.report.error_help(
                span,
                format!("the registry on {bind} would be open to others without a `token`"),
                "add `token: SECRET` to `registry`, or bind 127.0.0.1",
            );
        }
    }
    spec.tokens = tokens(fields, context);
    if !spec.tokens.is_empty() && spec.token.is_none() {
        context.report.error_help(
            fields.key_span("tokens"),
            "services without a token of their own could be registered by nobody",
            "add `token: SECRET` to `registry`",
        );
    }
    if let Some(entry) = fields.entry("data") {
        match scalar(&entry.value) {
            Some("off") => spec.data = RegistryDataSpec::Off,
            Some(path) => {
                let path = path_of("data", (path, entry.value.span), context.report);
                spec.data = path.map_or(RegistryDataSpec::Beside, RegistryDataSpec::File);
            }
            None => wrong(fields_kind("data"), "data", &entry.value, context),
        }
    }
    fields.integer("services_max", &mut spec.services_max);
    fields.integer("instances_max", &mut spec.instances_max);
    fields.integer("metadata_max", &mut spec.metadata_max);
    fields.integer("watchers_max", &mut spec.watchers_max);
    fields.integer("connections_max", &mut spec.connections_max);
    self_preservation(fields, &mut spec, context);
    spec.store = store(fields, context);
    spec
}

fn self_preservation(fields: &Fields<'_>, spec: &mut EmbeddedRegistrySpec, context: &Context<'_>) {
    let Some(entry) = fields.entry("self_preservation") else { return };
    match &entry.value.value {
        Value::Map(_) => {
            let Some(fields) = fields.section("self_preservation", &keys::SELF_PRESERVATION) else {
                return;
            };
            fields.share("renewals_min", &mut spec.renewals_min);
            fields.integer("instances_min", &mut spec.preserved_instances_min);
            fields.duration("hold_max", &mut spec.preserved_max);
        }
        _ if scalar(&entry.value) == Some("off") => spec.renewals_min = 0.0,
        _ => wrong(fields_kind("self_preservation"), "self_preservation", &entry.value, context),
    }
}

fn store(fields: &Fields<'_>, context: &Context<'_>) -> Option<RegistryStoreSpec> {
    let store = fields.section("store", &keys::REGISTRY_STORE)?;
    let etcd = store.section("etcd", &keys::ETCD).map(|etcd| {
        let mut endpoints = Vec::new();
        for node in etcd.list("endpoints").unwrap_or_default() {
            match scalar(node) {
                Some(url) => {
                    check_url(url, node.span, context);
                    endpoints.push((url.to_owned(), node.span));
                }
                None => wrong(
                    keys::ETCD.key("endpoints").map(|key| key.kind),
                    "endpoints",
                    node,
                    context,
                ),
            }
        }
        if endpoints.is_empty() && etcd.has("endpoints") && context.report.errors() == 0 {
            context.report.error_help(
                etcd.key_span("endpoints"),
                "`endpoints` names no member of etcd",
                "write `endpoints: [ http://10.0.0.7:2379 ]`",
            );
        }
        refuse_mixture(&endpoints, context);
        RegistryStoreSpec::Etcd {
            prefix: prefix(&etcd, context),
            tls: store_tls(&etcd, endpoints.iter().map(|(url, _)| &**url), context),
            user: user(&etcd, context),
            endpoints: endpoints.into_iter().map(|(url, _)| url).collect(),
        }
    });
    let consul = store.section("consul", &keys::CONSUL).map(|consul| {
        let url = consul.text("url");
        if let Some((url, span)) = url {
            check_url(url, span, context);
        }
        // As an agent of Consul listens where nothing else is said.
        let default = match consul.has("tls") {
            true => "https://127.0.0.1:8501",
            false => "http://127.0.0.1:8500",
        };
        let url = url.map_or(default, |(url, _)| url).to_owned();
        RegistryStoreSpec::Consul {
            tls: store_tls(&consul, [&*url], context),
            url,
            token: token(&consul, context),
            prefix: prefix(&consul, context),
        }
    });
    match (etcd, consul) {
        (Some(_), Some(_)) => {
            context.report.error_help(
                store.key_span("consul"),
                "`store` has both `etcd` and `consul`",
                "keep one of the two",
            );
            None
        }
        (None, None) => {
            context.report.error_help(
                store.span,
                "`store` does not say where",
                "add one of `etcd`, `consul`",
            );
            None
        }
        (etcd, consul) => etcd.or(consul),
    }
}

/// Any member may be asked next: one without TLS would be sent the password in clear.
fn refuse_mixture(endpoints: &[(String, Span)], context: &Context<'_>) {
    let is_secure = |url: &str| url.starts_with("https://");
    if !endpoints.iter().any(|(url, _)| is_secure(url)) {
        return;
    }
    for (url, span) in endpoints.iter().filter(|(url, _)| !is_secure(url)) {
        context.report.error_help(
            *span,
            format!("{} would be asked in clear, and others over TLS", quoted(url)),
            "write `https://` in front of each member of `endpoints`, or of none",
        );
    }
}

pub(super) fn store_tls<'a>(
    fields: &Fields<'_>,
    urls: impl IntoIterator<Item = &'a str>,
    context: &Context<'_>,
) -> ClientTlsSpec {
    let spec = tls::of_store(fields, context);
    let is_used = urls.into_iter().any(|url| url.starts_with("https://"));
    if spec.is_some() && !is_used {
        context.report.error_help(
            fields.key_span("tls"),
            "`tls` has no meaning for addresses that begin with `http://`",
            "write `https://` in front of the address, or remove `tls`",
        );
    }
    spec.unwrap_or_default()
}

fn user(etcd: &Fields<'_>, context: &Context<'_>) -> Option<StoreUser> {
    let fields = etcd.section("user", &keys::ETCD_USER)?;
    let name = fields.text("name").map(|(name, _)| name.to_owned());
    let password = password(&fields, context);
    Some(StoreUser { name: name?, password: password? })
}

fn prefix(fields: &Fields<'_>, context: &Context<'_>) -> String {
    const DEFAULT: &str = "evenkeel/registry/";
    let Some((prefix, span)) = fields.text("prefix") else { return DEFAULT.to_owned() };
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    if !prefix.ends_with('/') || prefix.len() > PREFIX_BYTES_MAX || !prefix.bytes().all(legal) {
        context.report.error_help(
            span,
            format!("`prefix` cannot be {}", quoted(prefix)),
            format!(
                "use up to {PREFIX_BYTES_MAX} letters, digits, `-`, `_`, `.` and `/`, and end \
                 with `/`"
            ),
        );
    }
    prefix.to_owned()
}

/// As the client reads it.
fn check_url(url: &str, span: Span, context: &Context<'_>) {
    let help = "write http://HOST:PORT or https://HOST:PORT";
    let bare = match url.split_once("://") {
        None => url,
        Some(("http" | "https", rest)) => rest.strip_suffix('/').unwrap_or(rest),
        Some((scheme, _)) => {
            let message =
                format!("only `http` and `https` are spoken here, not {}", quoted(scheme));
            context.report.error_help(span, message, help);
            return;
        }
    };
    let port = match bare.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => port.parse().is_ok_and(|port: u16| port > 0),
        _ => true,
    };
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    if bare.is_empty() || !port || !bare.bytes().all(legal) {
        context.report.error_help(span, format!("{} is no address", quoted(url)), help);
    }
}

fn tokens(fields: &Fields<'_>, context: &Context<'_>) -> BTreeMap<ServiceName, SecretSpec> {
    let mut tokens = BTreeMap::new();
    for entry in fields.map("tokens") {
        if !name(context, entry, "service") {
            continue;
        }
        let owner = format!("the token of {}", quoted(&entry.key));
        let own = Fields::open(
            context.report,
            &keys::SERVICE_TOKEN,
            &owner,
            &entry.value,
            entry.key_span,
        );
        if let Some(token) = token(&own, context) {
            tokens.insert(ServiceName::new(&*entry.key), token);
        }
    }
    tokens
}

fn fields_kind(key: &str) -> Option<crate::table::Kind> {
    keys::REGISTRY.key(key).map(|key| key.kind)
}

fn wrong(
    kind: Option<crate::table::Kind>,
    key: &str,
    node: &crate::tree::Node,
    context: &Context<'_>,
) {
    if let Some(kind) = kind {
        wrong_kind(context.report, key, &kind, node);
    }
}
