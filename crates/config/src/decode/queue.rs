//! `services.NAME.limits` and `services.NAME.queue`.

use model::spec::{ConcurrencySpec, QueuePer, QueueSpec, ServiceLimitSpec};

use crate::fields::{Fields, scalar, wrong_kind};
use crate::keys;
use crate::table::Kind;

use super::{Context, header};

pub(super) fn limits(fields: &Fields<'_>, context: &Context<'_>) -> ServiceLimitSpec {
    let mut spec = ServiceLimitSpec::default();
    if let Some(fields) = fields.section("limits", &keys::SERVICE_LIMITS) {
        spec.concurrency = concurrency(&fields, context);
        fields.integer_or_off("requests", &mut spec.requests);
        fields.integer_or_off("retries", &mut spec.retries);
    }
    spec
}

fn concurrency(fields: &Fields<'_>, context: &Context<'_>) -> Option<ConcurrencySpec> {
    let entry = fields.entry("concurrency")?;
    match scalar(&entry.value) {
        Some("learnt") => return Some(ConcurrencySpec::LEARNT),
        Some(_) => {
            let mut fixed = None;
            fields.integer_or_off("concurrency", &mut fixed);
            return fixed.map(ConcurrencySpec::Fixed);
        }
        None => {}
    }
    let ConcurrencySpec::Learnt { mut min, mut max } = ConcurrencySpec::LEARNT else { return None };
    let fields = fields.section("concurrency", &keys::CONCURRENCY)?;
    let learnt = fields.section("learnt", &keys::LEARNT)?;
    learnt.integer("min", &mut min);
    learnt.integer("max", &mut max);
    if min > max {
        context.report.error_help(
            learnt.key_span("min"),
            format!("`min` is {min}, more than `max`, which is {max}"),
            "write a smaller `min`, or a larger `max`",
        );
        return None;
    }
    Some(ConcurrencySpec::Learnt { min, max })
}

pub(super) fn queue(
    fields: &Fields<'_>,
    limits: &ServiceLimitSpec,
    context: &Context<'_>,
) -> Option<QueueSpec> {
    let entry = fields.entry("queue")?;
    match scalar(&entry.value) {
        Some("off") => return None,
        Some(_) => {
            wrong_kind(context.report, "queue", &keys::QUEUE_KIND, &entry.value);
            return None;
        }
        None => {}
    }
    let fields = fields.section("queue", &keys::QUEUE)?;
    let per = match fields.word("per") {
        Some(("endpoint", _)) => QueuePer::Endpoint,
        _ => QueuePer::Service,
    };
    let mut spec = QueueSpec { per, ..QueueSpec::default() };
    fields.integer("max", &mut spec.max);
    fields.duration("timeout", &mut spec.timeout);
    spec.priority = priority(&fields, context);
    if limits.concurrency.is_none() && context.report.errors() == 0 {
        context.report.error_help(
            entry.key_span,
            "`queue` without `limits.concurrency`: no endpoint is ever full, so nothing would wait",
            "add `limits: { concurrency: 32 }`, or remove `queue`",
        );
    }
    Some(spec)
}

fn priority(fields: &Fields<'_>, context: &Context<'_>) -> Option<String> {
    let (written, span) = fields.text("priority")?;
    if written == "off" {
        return None;
    }
    match written.strip_prefix("header:") {
        Some(name) => header::name(name.trim(), span, context),
        None => {
            let entry = fields.entry("priority")?;
            let kind = keys::QUEUE.key("priority").map_or(Kind::Bool, |key| key.kind);
            wrong_kind(context.report, "priority", &kind, &entry.value);
            None
        }
    }
}
