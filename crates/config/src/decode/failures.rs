//! What happens when endpoints fail and come back: `outlier`, `slow_start`, `panic`,
//! `failover_below` and `subset` of a service.

use std::ops::RangeInclusive;
use std::time::Duration;

use model::spec::{OutlierSpec, ServiceSpec, SlowStartSpec};

use crate::fields::{Fields, scalar};
use crate::keys;
use crate::tree::Value;
use crate::units;

use super::Context;

/// What `latency` and `hold_above` may be: with less than a tenth more, chance alone would do.
const TIMES: RangeInclusive<f64> = 1.1..=1000.0;

const CURVE: RangeInclusive<f64> = 0.1..=10.0;

/// An endpoint without a share would never show that it can do more.
const FROM_MIN: f64 = 0.01;

pub(super) fn failures(fields: &Fields<'_>, spec: &mut ServiceSpec, context: &Context<'_>) {
    spec.outlier = outlier(fields, context);
    spec.slow_start = slow_start(fields, context);
    fields.share_or_off("panic", &mut spec.panic);
    fields.share("failover_below", &mut spec.failover_below);
    fields.integer_or_off("subset", &mut spec.subset);
}

fn outlier(fields: &Fields<'_>, context: &Context<'_>) -> Option<OutlierSpec> {
    let entry = fields.entry("outlier")?;
    match scalar(&entry.value) {
        Some("off") => return None,
        Some(_) => {
            context.report.error_help(
                entry.value.span,
                format!("`outlier` must be `off` or a map, not {}", entry.value.describe()),
                "write `outlier: {}` to turn it on with all defaults",
            );
            return None;
        }
        None => {}
    }
    let fields = fields.section("outlier", &keys::OUTLIER)?;
    let mut spec = OutlierSpec::default();
    fields.integer_or_off("consecutive", &mut spec.consecutive);
    fields.share_or_off("error_rate", &mut spec.error_rate);
    if spec.error_rate == Some(0.0) {
        context.report.error_help(
            fields.key_span("error_rate"),
            "`error_rate: 0%` would eject an endpoint without a single failure",
            "write a share above it, such as 50%, or `off`",
        );
    }
    times_or_off(&fields, "latency", &mut spec.latency);
    fields.integer("requests_min", &mut spec.requests_min);
    fields.duration("interval", &mut spec.interval);
    fields.duration("ejection", &mut spec.ejection);
    fields.duration("ejection_max", &mut spec.ejection_max);
    fields.share("share_max", &mut spec.share_max);
    if spec.ejection > spec.ejection_max {
        let longer = units::show_duration(spec.ejection);
        context.report.error_help(
            fields.key_span("ejection"),
            format!("an `ejection` of {longer} is longer than `ejection_max` allows"),
            format!("write `ejection_max: {longer}` or more"),
        );
    }
    Some(spec)
}

/// The window alone, or a map.
fn slow_start(fields: &Fields<'_>, context: &Context<'_>) -> Option<SlowStartSpec> {
    let entry = fields.entry("slow_start")?;
    if !matches!(entry.value.value, Value::Map(_)) {
        let mut window = None;
        fields.duration_or_off("slow_start", &mut window);
        return window.map(SlowStartSpec::new);
    }
    let fields = fields.section("slow_start", &keys::SLOW_START)?;
    let mut spec = SlowStartSpec::new(Duration::from_secs(30));
    fields.duration("window", &mut spec.window);
    fields.share("from", &mut spec.from);
    if spec.from < FROM_MIN {
        context.report.error_help(
            fields.key_span("from"),
            "`from` must be 1% or more: an endpoint without requests cannot show what it can do",
            "write for example `from: 10%`",
        );
    }
    if let Some((curve, _)) = fields.parsed("curve", |text| number(text, CURVE)) {
        spec.curve = curve;
    }
    times_or_off(&fields, "hold_above", &mut spec.hold_above);
    Some(spec)
}

fn times_or_off(fields: &Fields<'_>, name: &str, target: &mut Option<f64>) {
    let read = |text: &str| match text {
        "off" => Ok(None),
        text => number(text, TIMES).map(Some).map_err(|message| format!("{message}, or `off`")),
    };
    if let Some((times, _)) = fields.parsed(name, read) {
        *target = times;
    }
}

fn number(text: &str, bounds: RangeInclusive<f64>) -> Result<f64, String> {
    let number = units::plain_number(text).filter(|number| bounds.contains(number));
    number.ok_or_else(|| {
        let (low, high) = (bounds.start(), bounds.end());
        format!("{text:?} does not fit; write a number from {low} to {high}")
    })
}
