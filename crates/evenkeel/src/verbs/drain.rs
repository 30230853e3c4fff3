use serde_json::Value;

use super::Verb;
use crate::client::{AdminAddress, encoded};
use crate::failure::Failure;
use crate::output::say;

/// Give an endpoint nothing new; what it has may finish
#[derive(clap::Args)]
pub(super) struct Drain {
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Its id, as `evenkeel status` shows it
    #[arg(value_name = "ENDPOINT")]
    endpoint: String,
    #[command(flatten)]
    admin: AdminAddress,
}

impl Verb for Drain {
    const NAME: &'static str = "drain";

    fn run(self) -> Result<(), Failure> {
        act(&self.admin, &self.service, &self.endpoint, "drain")
    }
}

/// Posts `verb` for the endpoint and says what its state is then.
pub(super) fn act(
    admin: &AdminAddress,
    service: &str,
    endpoint: &str,
    verb: &str,
) -> Result<(), Failure> {
    let path = format!("/v1/services/{}/endpoints/{}/{verb}", encoded(service), encoded(endpoint));
    let answer = admin.client()?.post(&path, None)?;
    let state = answer["state"].as_str().unwrap_or("unknown");
    let in_flight = answer["in_flight"].as_u64().unwrap_or(0);
    let reason = match &answer["reason"] {
        Value::String(reason) if !reason.is_empty() => format!(", {reason}"),
        _ => String::new(),
    };
    say(&format!("{endpoint} of service {service}: {state} ({in_flight} in flight{reason})"))
}
