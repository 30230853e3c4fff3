use anstream::{eprintln, println};
use compose::engine::Source;
use compose::observed::Observed;

use super::Verb;
use crate::failure::Failure;
use crate::output::{RESET, YELLOW};
use crate::stack::{ComposeFile, Stack, block_on};

/// Colours by container, as many as are told apart easily (ECMA-48).
const COLOURS: [&str; 6] = ["\x1b[36m", "\x1b[33m", "\x1b[32m", "\x1b[35m", "\x1b[34m", "\x1b[31m"];

/// Show what the containers of a Compose file print
#[derive(clap::Args)]
pub(super) struct Logs {
    #[command(flatten)]
    file: ComposeFile,
    /// Go on with what they print from now on
    #[arg(long)]
    follow: bool,
    /// How many lines of each; default: all
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<usize>,
    /// Only these services
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Verb for Logs {
    const NAME: &'static str = "logs";

    fn run(self) -> Result<(), Failure> {
        let stack = self.file.open(&self.services)?;
        for name in &self.services {
            stack.service(name)?;
        }
        block_on(async {
            let mut containers = stack.containers().await?;
            if !self.services.is_empty() {
                containers.retain(|container| self.services.contains(&container.service));
            }
            let tail = self.tail.map_or_else(|| "all".into(), |lines| lines.to_string());
            let query = format!("follow={}&tail={tail}", self.follow);
            follow(&stack, &containers, &query, self.follow).await
        })
    }
}

/// Shows what the containers print, each line with its container's name, until all have ended.
pub(super) async fn follow(
    stack: &Stack,
    containers: &[Observed],
    query: &str,
    together: bool,
) -> Result<(), Failure> {
    let width = containers.iter().map(|container| container.name.len()).max().unwrap_or(0);
    let mut streams = Vec::new();
    for (at, container) in containers.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let prefix = format!("{colour}{:<width$} |{RESET} ", container.name);
        let mut lines = stack.logs(&container.id, query).await?;
        let stream = Box::pin(async move {
            loop {
                match lines.next().await {
                    Ok(Some((Source::Output, line))) => println!("{prefix}{line}"),
                    Ok(Some((Source::Error, line))) => println!("{prefix}{YELLOW}{line}{RESET}"),
                    Ok(None) => return,
                    Err(error) => return eprintln!("{prefix}{error}"),
                }
            }
        });
        match together {
            true => streams.push(stream),
            // One after the other, so that each is in one piece.
            false => stream.await,
        }
    }
    std::future::poll_fn(|context| {
        streams.retain_mut(|stream| stream.as_mut().poll(context).is_pending());
        if streams.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    Ok(())
}
