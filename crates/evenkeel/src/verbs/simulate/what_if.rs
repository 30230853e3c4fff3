use std::time::Duration;

/// A scenario in one line, of a service whose configuration is there.
#[derive(clap::Args)]
#[group(skip)]
pub(super) struct WhatIf {
    /// Without a scenario: so many requests a second come
    #[arg(long, value_name = "NUMBER", value_parser = number, allow_negative_numbers = true, conflicts_with = "scenario")]
    pub(super) rate: Option<f64>,
    /// Without a scenario: an endpoint takes so long; the median of a log-normal distribution
    #[arg(long, value_name = "DURATION", value_parser = config::parse_duration, conflicts_with = "scenario")]
    pub(super) latency: Option<Duration>,
    /// Without a scenario: an endpoint serves so many at a time, and the others queue there
    /// [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000), conflicts_with = "scenario")]
    pub(super) threads: Option<u32>,
    /// Without a scenario: the first N endpoints crash after a quarter of the time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "scenario")]
    pub(super) lose: Option<u32>,
    /// Without a scenario: clients give up after this [default: never]
    #[arg(long, value_name = "DURATION", value_parser = config::parse_duration, conflicts_with = "scenario")]
    pub(super) timeout: Option<Duration>,
    /// Without a scenario: clients send so long
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s", conflicts_with = "scenario")]
    pub(super) duration: Duration,
}

fn number(text: &str) -> Result<f64, String> {
    /// As in a scenario.
    const MAX: f64 = 1e7;
    let number = text.parse().ok().filter(|number| *number > 0.0 && *number <= MAX);
    number.ok_or_else(|| format!("{text:?} is no number above 0 and up to {MAX}"))
}

fn duration(text: &str) -> Result<Duration, String> {
    /// As in a scenario.
    const MAX: Duration = Duration::from_secs(24 * 3600);
    let duration = config::parse_duration(text)?;
    if duration.is_zero() || duration > MAX {
        return Err(format!("{text:?} must be above 0 and at most a day"));
    }
    Ok(duration)
}
