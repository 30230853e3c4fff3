//! `tls`, in listeners and in services.

use std::time::Duration;

use model::spec::{
    CertificateFiles, ClientAuthSpec, ClientTlsSpec, HstsSpec, ListenerSpec, ServerTlsSpec,
    TlsVersion,
};

use crate::fields::{Fields, duration, scalar, wrong_kind};
use crate::keys;
use crate::table::Kind;
use crate::tree::{Node, Value, quoted};

use super::{Context, acme, path_of};

/// `listener`: what is known of it so far.
pub(super) fn of_listener(
    fields: &Fields<'_>,
    listener: &ListenerSpec,
    context: &Context<'_>,
) -> Option<ServerTlsSpec> {
    let errors = context.report.errors();
    let fields = fields.section("tls", &keys::LISTENER_TLS)?;
    let mut spec = ServerTlsSpec::default();
    for node in fields.list("certificates").unwrap_or_default() {
        spec.certificates.extend(certificate("certificates", node, context));
    }
    spec.self_signed = self_signed(&fields, context);
    let others = !spec.certificates.is_empty();
    spec.acme = acme::acme(&fields, listener.protocol, &listener.routes, others, context);
    if let Some(fields) = fields.section("client_auth", &keys::CLIENT_AUTH) {
        let ca = fields.text("ca").and_then(|path| path_of("ca", path, context.report));
        let optional = matches!(fields.word("mode"), Some(("optional", _)));
        spec.client_auth = ca.map(|ca| ClientAuthSpec { ca, required: !optional });
    }
    spec.min_version = min_version(&fields);
    spec.ciphers = ciphers(&fields, spec.min_version, context);
    fields.bool("resumption", &mut spec.resumption);
    fields.bool("strict_names", &mut spec.strict_names);
    spec.hsts = hsts(&fields, context);
    fields.duration("handshake_timeout", &mut spec.handshake_timeout);
    let is_self_signed = !spec.self_signed.is_empty();
    if is_self_signed && fields.list("certificates").is_some_and(|list| !list.is_empty()) {
        context.report.error_help(
            fields.key_span("self_signed"),
            "`tls` has both `certificates` and `self_signed`",
            "keep one of the two",
        );
    }
    if is_self_signed && spec.acme.is_some() {
        context.report.error_help(
            fields.key_span("self_signed"),
            "`tls` has both `acme` and `self_signed`",
            "keep one of the two",
        );
    }
    let without_files = !is_self_signed && spec.acme.is_none();
    if without_files && spec.certificates.is_empty() && context.report.errors() == errors {
        context.report.error_help(
            fields.span,
            "`tls` has no certificate",
            "add `certificates: [ FILE ]`, `acme: true`, or for development `self_signed: true`",
        );
    }
    Some(spec)
}

/// `true`, or names.
fn self_signed(fields: &Fields<'_>, context: &Context<'_>) -> Vec<String> {
    let Some(entry) = fields.entry("self_signed") else { return Vec::new() };
    match scalar(&entry.value) {
        Some("true") => return vec!["localhost".into()],
        Some("false") => return Vec::new(),
        _ => {}
    }
    let mut names = Vec::new();
    for node in fields.list("self_signed").unwrap_or_default() {
        let name = scalar(node).unwrap_or_default().to_ascii_lowercase();
        if is_name(name.strip_prefix("*.").unwrap_or(&name)) {
            names.push(name);
        } else {
            context.report.error_help(
                node.span,
                format!("`self_signed` must list host names, not {}", node.describe()),
                "write names such as app.test or *.app.test",
            );
        }
    }
    names
}

fn certificate(key: &str, node: &Node, context: &Context<'_>) -> Option<CertificateFiles> {
    if let Some(path) = scalar(node) {
        let path = path_of(key, (path, node.span), context.report)?;
        return Some(CertificateFiles { certificate: path.clone(), key: path });
    }
    if !matches!(node.value, Value::Map(_)) {
        let kind = keys::LISTENER_TLS.key("certificates").map(|key| key.kind);
        if let Some(Kind::ListOf(item)) = kind {
            wrong_kind(context.report, key, item, node);
        }
        return None;
    }
    let fields =
        Fields::open(context.report, &keys::CERTIFICATE, "this certificate", node, node.span);
    let path = |key| fields.text(key).and_then(|path| path_of(key, path, context.report));
    let (certificate, key) = (path("certificate"), path("key"));
    Some(CertificateFiles { certificate: certificate?, key: key? })
}

fn min_version(fields: &Fields<'_>) -> TlsVersion {
    match fields.word("min_version") {
        Some(("1.3", _)) => TlsVersion::V1_3,
        _ => TlsVersion::V1_2,
    }
}

fn ciphers(fields: &Fields<'_>, min: TlsVersion, context: &Context<'_>) -> Vec<String> {
    let Some(nodes) = fields.list("ciphers") else { return Vec::new() };
    let kind = keys::LISTENER_TLS.key("ciphers").map(|key| key.kind);
    let Some(Kind::ListOf(item)) = kind else { return Vec::new() };
    let mut ciphers: Vec<String> = Vec::new();
    for node in nodes {
        let known = scalar(node).filter(|text| {
            item.alternatives().iter().any(|kind| matches!(kind, Kind::Word(w) if w == text))
        });
        match known {
            Some(name) if ciphers.iter().any(|c| c == name) => {}
            Some(name) => ciphers.push(name.into()),
            None => wrong_kind(context.report, "ciphers", item, node),
        }
    }
    // Suites of TLS 1.3 name no way to agree on keys.
    let of_1_3 = |name: &String| !name.starts_with("TLS_ECDHE_");
    let span = fields.key_span("ciphers");
    if nodes.is_empty() {
        let help = "name suites, or remove `ciphers`";
        context.report.error_help(span, "`ciphers` lists no cipher suite", help);
    } else if min == TlsVersion::V1_3 && !ciphers.is_empty() && !ciphers.iter().any(of_1_3) {
        context.report.error_help(
            span,
            "`ciphers` has no suite of TLS 1.3, which `min_version` demands",
            "add TLS_AES_128_GCM_SHA256, or remove `ciphers`",
        );
    }
    ciphers
}

fn hsts(fields: &Fields<'_>, context: &Context<'_>) -> Option<HstsSpec> {
    let entry = fields.entry("hsts")?;
    let kind = keys::LISTENER_TLS.key("hsts")?.kind;
    match scalar(&entry.value) {
        Some("off") => None,
        Some(text) => match duration(&kind, text) {
            Some(max_age) => Some(HstsSpec { max_age, include_subdomains: false, preload: false }),
            None => {
                wrong_kind(context.report, "hsts", &kind, &entry.value);
                None
            }
        },
        None => {
            let fields = fields.section("hsts", &keys::HSTS)?;
            let mut spec =
                HstsSpec { max_age: Duration::ZERO, include_subdomains: false, preload: false };
            fields.duration("max_age", &mut spec.max_age);
            fields.bool("include_subdomains", &mut spec.include_subdomains);
            fields.bool("preload", &mut spec.preload);
            Some(spec)
        }
    }
}

pub(super) fn of_service(fields: &Fields<'_>, context: &Context<'_>) -> Option<ClientTlsSpec> {
    let entry = fields.entry("tls")?;
    match scalar(&entry.value) {
        Some("true") => return Some(ClientTlsSpec::default()),
        Some("false") => return None,
        Some(_) => {
            let kind = keys::SERVICE.key("tls")?.kind;
            wrong_kind(context.report, "tls", &kind, &entry.value);
            return None;
        }
        None => {}
    }
    of_store(fields, context)
}

/// With its settings written out.
pub(super) fn of_store(fields: &Fields<'_>, context: &Context<'_>) -> Option<ClientTlsSpec> {
    let fields = fields.section("tls", &keys::SERVICE_TLS)?;
    let mut spec = ClientTlsSpec::default();
    if let Some((name, span)) = fields.text("server_name") {
        if is_name(name) || name.parse::<std::net::IpAddr>().is_ok() {
            spec.server_name = Some(name.to_ascii_lowercase());
        } else {
            let message = format!("`server_name` must be a host name, not {}", quoted(name));
            context.report.error_help(span, message, "write a name such as app.internal");
        }
    }
    spec.ca = fields.text("ca").and_then(|path| path_of("ca", path, context.report));
    if let Some(entry) = fields.entry("certificate") {
        spec.certificate = certificate("certificate", &entry.value, context);
    }
    fields.bool("verify", &mut spec.verify);
    if !spec.verify && spec.ca.is_some() {
        context.report.error_help(
            fields.key_span("ca"),
            "`ca` has no meaning with `verify: false`",
            "remove one of the two",
        );
    }
    spec.min_version = min_version(&fields);
    Some(spec)
}

/// A DNS name as it stands in certificates (RFC 1123 section 2.1; `_` is in use for services).
pub(super) fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}
