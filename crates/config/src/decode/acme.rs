//! `listeners.NAME.tls.acme`.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use model::spec::{
    AcmeChallenge, AcmeSpec, DOMAINS_MAX, EabSpec, HostPattern, Protocol, RouteSpec, exact_hosts,
};

use crate::fields::{Fields, scalar};
use crate::keys;
use crate::tree::quoted;

use super::tls::is_name;
use super::{Context, path_of, secret};

/// Let's Encrypt's directories.
const PRODUCTION: &str = "https://acme-v02.api.letsencrypt.org/directory";
const STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// `routes`: of the listener, by which domains are named that are not listed. `others`: it has
/// certificates from files, too, which may be for wildcards.
pub(super) fn acme(
    fields: &Fields<'_>,
    protocol: Protocol,
    routes: &[RouteSpec],
    others: bool,
    context: &Context<'_>,
) -> Option<AcmeSpec> {
    let entry = fields.entry("acme")?;
    let is_true = scalar(&entry.value) == Some("true");
    if scalar(&entry.value) == Some("false") {
        return None;
    }
    let errors = context.report.errors();
    let section = if is_true { None } else { Some(fields.section("acme", &keys::ACME)?) };
    let mut spec = AcmeSpec {
        directory: PRODUCTION.into(),
        domains: Vec::new(),
        from_routes: true,
        email: None,
        challenge: AcmeChallenge::TlsAlpn01,
        ca: None,
        eab: None,
        store: None,
        renew_before: None,
    };
    if let Some(fields) = &section {
        read(fields, &mut spec, context);
    }
    if spec.from_routes {
        spec.domains = exact_hosts(routes);
        if spec.domains.len() > DOMAINS_MAX {
            context.report.warning(
                entry.key_span,
                format!(
                    "`acme` gets certificates for the first {DOMAINS_MAX} of {} hosts of routes",
                    spec.domains.len()
                ),
                "spread them over several balancers, or list in `domains` those that need one",
            );
            spec.domains.truncate(DOMAINS_MAX);
        }
    }
    let listed = section.as_ref().is_some_and(|fields| fields.has("domains"));
    let wildcard = routes.iter().find_map(|route| match &route.host {
        Some(HostPattern::Suffix(parent)) => Some(parent),
        _ => None,
    });
    if let Some(parent) = wildcard
        && !listed
        && !others
    {
        context.report.error_help(
            entry.key_span,
            format!("`acme` cannot get a certificate for *.{parent}, which is the host of a route"),
            "list the names in `domains`, or add `certificates` with one for the wildcard: CAs \
             prove wildcards by DNS-01, which is not offered",
        );
    } else if spec.domains.is_empty()
        && !listed
        && !context.discovers
        && context.report.errors() == errors
    {
        let help = match protocol {
            Protocol::Http => "write `domains: [ shop.example.com ]`, or give routes a `host`",
            _ => "write `domains: [ db.example.com ]`",
        };
        context.report.error_help(entry.key_span, "`acme` has no domain", help);
    }
    if spec.challenge == AcmeChallenge::Http01 {
        let span = section.as_ref().map_or(entry.key_span, |f| f.key_span("challenge"));
        context.http01.borrow_mut().push(span);
    }
    Some(spec)
}

fn read(fields: &Fields<'_>, spec: &mut AcmeSpec, context: &Context<'_>) {
    let mut staging = false;
    fields.bool("staging", &mut staging);
    if staging {
        spec.directory = STAGING.into();
    }
    if let Some((url, span)) = fields.text("directory") {
        if staging {
            context.report.error_help(
                fields.key_span("staging"),
                "`staging` is Let's Encrypt's, and there is a `directory`",
                "keep one of the two",
            );
        }
        let host = url.strip_prefix("https://").and_then(|rest| rest.split('/').next());
        if host.is_some_and(|host| !host.is_empty()) && url.bytes().all(|b| b.is_ascii_graphic()) {
            spec.directory = url.into();
        } else {
            // RFC 8555 section 6.1: by HTTPS only.
            context.report.error_help(
                span,
                format!("`directory` must be an https URL, not {}", quoted(url)),
                "write what the CA calls its ACME directory: https://ca.example.com/acme/directory",
            );
        }
    }
    if let Some((email, span)) = fields.text("email") {
        let (name, host) = email.split_once('@').unwrap_or_default();
        if !name.is_empty() && is_name(host) && name.bytes().all(|b| b.is_ascii_graphic()) {
            spec.email = Some(email.into());
        } else {
            context.report.error_help(
                span,
                format!("`email` must be an address, not {}", quoted(email)),
                "write one such as ops@example.com, or remove `email`",
            );
        }
    }
    domains(fields, spec, context);
    if let Some(("http-01", _)) = fields.word("challenge") {
        spec.challenge = AcmeChallenge::Http01;
    }
    spec.ca = fields.text("ca").and_then(|path| path_of("ca", path, context.report));
    spec.store = fields.text("store").and_then(|path| path_of("store", path, context.report));
    fields.duration_or_off("renew_before", &mut spec.renew_before);
    if let Some(fields) = fields.section("eab", &keys::EAB) {
        spec.eab = eab(&fields, context);
    }
}

fn domains(fields: &Fields<'_>, spec: &mut AcmeSpec, context: &Context<'_>) {
    let Some(nodes) = fields.list("domains") else { return };
    spec.from_routes = false;
    for node in nodes {
        let name = scalar(node).unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
        let message = |what: &str| format!("`domains` must list host names, not {what}");
        if let Some(parent) = name.strip_prefix("*.") {
            context.report.error_help(
                node.span,
                format!("`acme` cannot get a certificate for {name}"),
                format!(
                    "list the names below {parent} one by one, or give a certificate in \
                     `certificates`: CAs prove wildcards by DNS-01, which is not offered"
                ),
            );
        } else if name.parse::<std::net::IpAddr>().is_ok() {
            context.report.error_help(
                node.span,
                message("an IP address"),
                "write the name that clients ask for",
            );
        } else if !is_name(&name) {
            context.report.error_help(
                node.span,
                message(&node.describe()),
                "write names such as shop.example.com",
            );
        } else if spec.domains.contains(&name) {
            context.report.error_help(
                node.span,
                format!("`domains` lists {} twice", quoted(&name)),
                "remove one of the two",
            );
        } else {
            spec.domains.push(name);
        }
    }
    let span = fields.key_span("domains");
    if nodes.is_empty() {
        let help = "list names, or remove `domains`";
        context.report.error_help(span, "`domains` lists no name", help);
    } else if spec.domains.len() > DOMAINS_MAX {
        context.report.error_help(
            span,
            format!("`domains` lists {} names; at most {DOMAINS_MAX}", spec.domains.len()),
            "spread them over several balancers",
        );
    }
}

fn eab(fields: &Fields<'_>, context: &Context<'_>) -> Option<EabSpec> {
    let key_id = fields.text("key_id").map(|(text, _)| text.to_owned());
    let (key, span) = fields.text("hmac_key")?;
    secret::refuse_redacted("hmac_key", (key, span), context);
    // RFC 8555 section 7.3.4 leaves the form open; CAs give base64url, with padding or without.
    match BASE64_URL_SAFE_NO_PAD.decode(key.trim_end_matches('=')) {
        Ok(hmac_key) if !hmac_key.is_empty() => Some(EabSpec { key_id: key_id?, hmac_key }),
        _ => {
            context.report.error_help(
                span,
                "`hmac_key` is not base64url",
                "write it as the CA gave it: letters, digits, `-` and `_`",
            );
            None
        }
    }
}
