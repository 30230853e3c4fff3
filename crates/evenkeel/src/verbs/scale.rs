use serde_json::json;

use super::Verb;
use crate::client::{AdminAddress, segment};
use crate::failure::Failure;
use crate::output::say;

/// Change how many replicas of a service run, until the file says otherwise
#[derive(clap::Args)]
pub(super) struct Scale {
    /// The service and the number, e.g. `web=6`
    #[arg(value_name = "SERVICE=N", value_parser = parse)]
    target: (String, usize),
    #[command(flatten)]
    admin: AdminAddress,
}

impl Verb for Scale {
    const NAME: &'static str = "scale";

    fn run(self) -> Result<(), Failure> {
        let (service, replicas) = self.target;
        let path = format!("/v1/services/{}/scale", segment(&service));
        let answer = self.admin.client()?.post(&path, Some(&json!({ "replicas": replicas })))?;
        let replicas = answer["replicas"].as_u64().unwrap_or(replicas as u64);
        let plural = if replicas == 1 { "" } else { "s" };
        say(&format!("service {service}: {replicas} replica{plural} wanted"))
    }
}

fn parse(text: &str) -> Result<(String, usize), String> {
    let wrong = || format!("write SERVICE=N, e.g. web=6, instead of {text}");
    let (service, replicas) = text.split_once('=').ok_or_else(wrong)?;
    let replicas = replicas.parse().map_err(|_| wrong())?;
    if service.is_empty() { Err(wrong()) } else { Ok((service.to_owned(), replicas)) }
}
