use super::Verb;
use crate::control::vocabulary;
use crate::failure::Failure;
use crate::output::say_json;

/// Print the JSON Schema of the configuration, for editors
#[derive(clap::Args)]
pub(super) struct Schema {}

impl Verb for Schema {
    const NAME: &'static str = "schema";

    fn run(self) -> Result<(), Failure> {
        say_json(&config::json_schema(&vocabulary()))
    }
}
