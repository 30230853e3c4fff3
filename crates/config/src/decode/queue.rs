//! `services.NAME.limits` and `services.NAME.queue`.

use model::spec::{
    ConcurrencySpec, EndpointSource, QueuePer, QueueSpec, ServiceLimitSpec, WakeSpec,
};

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

pub(super) fn wake(
    fields: &Fields<'_>,
    source: &EndpointSource,
    context: &Context<'_>,
) -> Option<WakeSpec> {
    let entry = fields.entry("wake")?;
    match scalar(&entry.value) {
        Some("off") => return None,
        Some(_) => {
            let kind = keys::SERVICE.key("wake").map_or(Kind::Bool, |key| key.kind);
            wrong_kind(context.report, "wake", &kind, &entry.value);
            return None;
        }
        None => {}
    }
    let own = fields.section("wake", &keys::WAKE)?;
    let mut spec = WakeSpec::default();
    own.integer("max", &mut spec.max);
    own.duration("timeout", &mut spec.timeout);
    own.duration("idle", &mut spec.idle);
    match source {
        // What is wrong with the source was said already.
        _ if context.report.errors() > 0 => {}
        EndpointSource::Run(_) => {}
        EndpointSource::Static(_) => context.report.error_help(
            entry.key_span,
            "`wake` with `endpoints`: nobody here could start them",
            "use `run` or `discover`, or remove `wake`",
        ),
        EndpointSource::Discover(_) if own.has("idle") => context.report.error_help(
            own.key_span("idle"),
            "`idle` is of replicas that are run here; who runs these decides when they end",
            "remove it; in a Compose file write `x-evenkeel: { autoscale: { min: 0, idle: 5m } }`",
        ),
        EndpointSource::Discover(_) => {}
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
