use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use compose::plan::Wanted;

use super::Verb;
use super::logs::follow;
use crate::failure::Failure;
use crate::output::say;
use crate::stack::{ComposeFile, Stack, Turn, UpOptions, block_on};

/// Start the services of a Compose file, with a balancer on the ports that they publish
#[derive(clap::Args)]
pub(super) struct Up {
    #[command(flatten)]
    file: ComposeFile,
    /// Return once all runs; without it, show the logs until Ctrl-C, which stops the services
    #[arg(short, long)]
    detach: bool,
    /// How many containers of a service, e.g. `flask=3`
    #[arg(long, value_name = "SERVICE=N", value_parser = super::scale::parse)]
    scale: Vec<(String, usize)>,
    /// Build images that are there already
    #[arg(long)]
    build: bool,
    /// Pull images that are there already
    #[arg(long)]
    pull: bool,
    /// Replace containers that are as the file says
    #[arg(long)]
    force_recreate: bool,
    /// Remove containers of services that the file has no more
    #[arg(long)]
    remove_orphans: bool,
    /// How long a new container may take to be well
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = config::parse_duration)]
    timeout: Duration,
    /// Only these services, and what they depend on
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Verb for Up {
    const NAME: &'static str = "up";

    fn run(self) -> Result<(), Failure> {
        let stack = self.file.open(&self.services)?;
        let options = UpOptions {
            wanted: Wanted {
                services: self.services.into_iter().collect(),
                scales: self.scale.into_iter().collect::<BTreeMap<_, _>>(),
                recreate: self.force_recreate,
                remove_orphans: self.remove_orphans,
            },
            build: self.build,
            pull: self.pull,
            within: self.timeout,
        };
        let detach = self.detach;
        block_on(async {
            // Kept until the containers are up; what follows is only looking.
            let turn = tokio::select! {
                turn = stack.claim("up") => turn?,
                _ = tokio::signal::ctrl_c() => {
                    return Err(Failure::Job("interrupted; nothing was changed".into()));
                }
            };
            tokio::select! {
                ended = work(&stack, &options, detach, turn) => return ended,
                _ = tokio::signal::ctrl_c() => {}
            }
            if detach {
                return Err(Failure::Job("interrupted; `evenkeel up` goes on".into()));
            }
            // As `docker compose up`.
            anstream::eprintln!("stopping; `evenkeel down` removes");
            let _turn = stack.claim("up").await?;
            stack.balancer.stop()?;
            stack.stop_all(&stack.containers().await?, false).await
        })
    }
}

/// Brings all up; unless it is to `detach`, shows logs until all containers have ended.
async fn work(
    stack: &Stack,
    options: &UpOptions,
    detach: bool,
    turn: Rc<Turn>,
) -> Result<(), Failure> {
    let done = stack.up(options).await?;
    drop(turn);
    overview(stack, &done.listened)?;
    for unwell in &done.unwell {
        anstream::eprintln!("{unwell}");
    }
    if !done.unwell.is_empty() {
        return Err(Failure::Said);
    }
    match detach {
        true => Ok(()),
        false => follow(stack, &stack.containers().await?, "follow=true&tail=0", true).await,
    }
}

fn overview(stack: &Stack, listened: &[compose::balancer::Listened]) -> Result<(), Failure> {
    for port in listened {
        let name = &port.service;
        say(&format!(
            "{} ({}) -> {name}, port {} of each container",
            port.bind, port.protocol, port.container_port
        ))?;
    }
    match stack.balancer.admin().filter(|_| !listened.is_empty()) {
        Some(admin) => say(&format!("balancer: evenkeel status --admin {admin}")),
        None => Ok(()),
    }
}
