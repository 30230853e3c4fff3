//! `services.NAME.hedge`.

use model::spec::{HedgeAfter, HedgeSpec};

use crate::fields::{Fields, duration, scalar, wrong_kind};
use crate::keys;

use super::Context;

pub(super) fn hedge(fields: &Fields<'_>, context: &Context<'_>) -> Option<HedgeSpec> {
    let entry = fields.entry("hedge")?;
    if scalar(&entry.value) == Some("off") {
        return None;
    }
    if let Some(kind) = keys::SERVICE.key("hedge").map(|key| key.kind)
        && scalar(&entry.value).is_some()
    {
        wrong_kind(context.report, "hedge", &kind, &entry.value);
        return None;
    }
    let fields = fields.section("hedge", &keys::HEDGE)?;
    let mut spec = HedgeSpec::default();
    if let Some(entry) = fields.entry("after")
        && let Some(kind) = keys::HEDGE.key("after").map(|key| key.kind)
    {
        let text = scalar(&entry.value);
        let quantile = |share| Some(HedgeAfter::Quantile(share));
        let after = match text {
            Some("p50") => quantile(0.5),
            Some("p90") => quantile(0.9),
            Some("p95") => quantile(0.95),
            Some("p99") => quantile(0.99),
            _ => text.and_then(|text| duration(&kind, text)).map(HedgeAfter::Fixed),
        };
        match after {
            Some(after) => spec.after = after,
            None => wrong_kind(context.report, "after", &kind, &entry.value),
        }
    }
    fields.share("budget", &mut spec.budget);
    Some(spec)
}
