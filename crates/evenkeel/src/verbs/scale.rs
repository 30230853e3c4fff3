use std::time::Duration;

use serde_json::json;

use super::Verb;
use crate::client::{AdminAddress, encoded};
use crate::failure::Failure;
use crate::output::say;
use crate::stack::{ComposeFile, Stack, block_on};

/// Change how many replicas of a service run: of a running balancer, or with -f of a Compose file
#[derive(clap::Args)]
pub(super) struct Scale {
    /// The service and the number, e.g. `web=6`
    #[arg(value_name = "SERVICE=N", value_parser = parse)]
    target: (String, usize),
    /// The Compose file whose containers are meant, and further ones on top of it
    #[arg(short, long, value_name = "FILE")]
    file: Vec<std::path::PathBuf>,
    /// Its project's name
    #[arg(short, long, value_name = "NAME", env = "COMPOSE_PROJECT_NAME")]
    project: Option<String>,
    #[command(flatten)]
    admin: AdminAddress,
}

impl Verb for Scale {
    const NAME: &'static str = "scale";

    fn run(self) -> Result<(), Failure> {
        let (service, replicas) = self.target;
        if !self.file.is_empty() {
            let files = ComposeFile::of(self.file, self.project);
            let stack = files.open(std::slice::from_ref(&service))?;
            return containers(&stack, service, replicas);
        }
        let path = format!("/v1/services/{}/scale", encoded(&service));
        let answer = self.admin.client()?.post(&path, Some(&json!({ "replicas": replicas })))?;
        let replicas = answer["replicas"].as_u64().unwrap_or(replicas as u64);
        let plural = if replicas == 1 { "" } else { "s" };
        say(&format!("service {service}: {replicas} replica{plural} wanted"))
    }
}

/// Only this service is touched, and of it only the number.
fn containers(stack: &Stack, service: String, replicas: usize) -> Result<(), Failure> {
    block_on(async {
        let _turn = stack.claim(&format!("scale {service}={replicas}")).await?;
        let options = stack.as_they_are(&service, replicas, WITHIN).await?;
        let done = stack.up(&options).await?;
        for unwell in &done.unwell {
            anstream::eprintln!("{unwell}");
        }
        let plural = if replicas == 1 { "" } else { "s" };
        say(&format!("service {service}: {replicas} container{plural}"))?;
        if done.unwell.is_empty() { Ok(()) } else { Err(Failure::Said) }
    })
}

/// How long a new container may take to be well.
const WITHIN: Duration = Duration::from_secs(60);

pub(super) fn parse(text: &str) -> Result<(String, usize), String> {
    let wrong = || format!("write SERVICE=N, e.g. web=6, instead of {text}");
    let (service, replicas) = text.split_once('=').ok_or_else(wrong)?;
    let replicas = replicas.parse().map_err(|_| wrong())?;
    if service.is_empty() { Err(wrong()) } else { Ok((service.to_owned(), replicas)) }
}
