//! `dns`.

use model::spec::DnsServerSpec;

use crate::address::parse_bind;
use crate::fields::Fields;
use crate::keys;

use super::Context;
use super::bind::{Bind, Transport};
use super::discover::parse_name;

/// Bytes of a domain, so that there is room for names in it (of 253).
const DOMAIN_BYTES_MAX: usize = 150;

pub(super) fn dns(file: &Fields<'_>, context: &Context<'_>) -> Option<DnsServerSpec> {
    let fields = file.section("dns", &keys::DNS)?;
    let mut spec = DnsServerSpec::default();
    let (bind, span) = fields.parsed("bind", parse_bind).unwrap_or((spec.bind, fields.span));
    spec.bind = bind;
    for transport in [Transport::Udp, Transport::Tcp] {
        context.binds.add(Bind { owner: "`dns`".into(), address: bind, span, transport });
    }
    if let Some((domain, span)) = fields.parsed("domain", parse_name) {
        if domain.len() > DOMAIN_BYTES_MAX {
            let message = format!("`domain` has more than {DOMAIN_BYTES_MAX} bytes");
            context.report.error_help(span, message, "names in it would have no room");
        }
        spec.domain = domain;
    }
    let ttl = spec.ttl;
    fields.duration("ttl", &mut spec.ttl);
    if spec.ttl.subsec_nanos() > 0 {
        context.report.error_help(
            fields.key_span("ttl"),
            "`ttl` must be whole seconds, as the DNS counts them",
            "write `ttl: 1s`, or `ttl: 0s` if nobody is to keep answers",
        );
        spec.ttl = ttl;
    }
    fields.integer_or_off("rate", &mut spec.rate);
    Some(spec)
}
