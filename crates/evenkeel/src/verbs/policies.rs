use model::vocabulary::{OptionInfo, OptionKind};
use serde_json::{Value, json};

use super::Verb;
use crate::failure::Failure;
use crate::output::{BOLD, RESET, say, say_json};

/// List the balancing policies and their options
#[derive(clap::Args)]
pub(super) struct Policies {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Verb for Policies {
    const NAME: &'static str = "policies";

    fn run(self) -> Result<(), Failure> {
        if self.json {
            return say_json(&json!({ "policies": as_json() }));
        }
        let mut text = String::new();
        for policy in balance::infos() {
            text += &format!("{BOLD}{}{RESET}\n    {}\n", policy.name, policy.summary);
            for option in policy.options {
                text += &format!(
                    "    {} ({}; default {}): {}\n",
                    option.name,
                    values(option),
                    option.default,
                    option.summary
                );
            }
        }
        text += "\nA service chooses one with `policy: NAME`, or `policy: { NAME: { OPTION: VALUE } }`.";
        say(&text)
    }
}

fn values(option: &OptionInfo) -> String {
    match option.kind {
        OptionKind::Bool => "true or false".into(),
        OptionKind::Integer { min, max } => format!("{min} to {max}"),
        OptionKind::Float { min, max } => format!("a number from {min} to {max}"),
        OptionKind::Duration => "a duration".into(),
        OptionKind::OneOf(values) => values.join(" or "),
        OptionKind::Key => "source, path, header:NAME, cookie:NAME or query:NAME".into(),
        OptionKind::Path => "a path such as /load, or off".into(),
        OptionKind::Text => "a text without spaces".into(),
    }
}

fn as_json() -> Vec<Value> {
    balance::infos()
        .iter()
        .map(|policy| {
            let options: Vec<Value> = policy
                .options
                .iter()
                .map(|option| {
                    json!({
                        "name": option.name,
                        "summary": option.summary,
                        "values": values(option),
                        "default": option.default.to_string(),
                    })
                })
                .collect();
            json!({ "name": policy.name, "summary": policy.summary, "options": options })
        })
        .collect()
}
