use super::Verb;
use crate::control::vocabulary;
use crate::failure::Failure;
use crate::output::{say, say_json};

/// Print the JSON Schema of the configuration, for editors
#[derive(clap::Args)]
pub(super) struct Schema {
    /// Print the reference manual instead, in Markdown
    #[arg(long)]
    markdown: bool,
}

impl Verb for Schema {
    const NAME: &'static str = "schema";

    fn run(self) -> Result<(), Failure> {
        if self.markdown {
            return say(config::reference_markdown(&vocabulary()).trim_end());
        }
        say_json(&config::json_schema(&vocabulary()))
    }
}
