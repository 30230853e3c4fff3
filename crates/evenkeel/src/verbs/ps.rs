use std::collections::BTreeMap;

use compose::observed::Observed;
use serde_json::json;

use super::Verb;
use crate::failure::Failure;
use crate::output::{say, say_json};
use crate::stack::{ComposeFile, Stack, block_on, line};
use crate::table::{self, Row};

/// Show the containers of a Compose file
#[derive(clap::Args)]
pub(super) struct Ps {
    #[command(flatten)]
    file: ComposeFile,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Verb for Ps {
    const NAME: &'static str = "ps";

    fn run(self) -> Result<(), Failure> {
        let stack = self.file.open(&[])?;
        let containers = block_on(stack.containers())?;
        let admin = stack.balancer.client().and_then(|_| stack.balancer.admin());
        if self.json {
            let containers: Vec<_> = containers.iter().map(as_json).collect();
            let log = stack.balancer.log();
            let balancer = admin.map(|admin| json!({ "admin": admin, "log": log }));
            let decisions = last_decisions(&stack);
            return say_json(&json!({
                "containers": containers, "balancer": balancer, "autoscale": decisions,
            }));
        }
        let rows = containers.iter().map(|container| {
            let colour = match container.state.as_str() {
                "running" => crate::output::GREEN,
                _ => crate::output::YELLOW,
            };
            let cells = [
                container.name.clone(),
                container.service.clone(),
                container.state.clone(),
                container.status.clone(),
                container.image.clone(),
                ports(container),
            ];
            Row { cells, colour: Some((2, colour)) }
        });
        let header = ["NAME", "SERVICE", "STATE", "STATUS", "IMAGE", "PUBLISHED"];
        say(&table::render(header, rows).unwrap_or_else(|| "there are no containers".into()))?;
        for line in last_decisions(&stack).values() {
            say(&format!("autoscale: {line}"))?;
        }
        match admin {
            Some(admin) => say(&format!("\nbalancer: evenkeel status --admin {admin}")),
            None => Ok(()),
        }
    }
}

/// Of each service.
fn last_decisions(stack: &Stack) -> BTreeMap<String, String> {
    let decisions = stack.balancer.decisions();
    decisions.iter().map(|decision| (decision.service.clone(), line(decision))).collect()
}

fn as_json(container: &Observed) -> serde_json::Value {
    json!({
        "id": container.id, "name": container.name, "service": container.service,
        "number": container.number, "state": container.state, "status": container.status,
        "image": container.image, "config_hash": container.hash,
        "published": container.published.iter().map(|(port, t)| format!("{port}/{t}"))
            .collect::<Vec<_>>(),
    })
}

/// By the engine; those of the balancer are in `status`.
fn ports(container: &Observed) -> String {
    let mut ports: Vec<String> =
        container.published.iter().map(|(port, transport)| format!("{port}/{transport}")).collect();
    ports.dedup();
    if ports.is_empty() { "-".into() } else { ports.join(" ") }
}
