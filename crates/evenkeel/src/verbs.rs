//! The verbs: one file and one line in [`VERBS`] each.

mod autoscale;
mod check;
mod deploy;
mod down;
mod drain;
mod echo;
mod logs;
mod policies;
mod proxy;
mod ps;
mod pull;
mod push;
mod register;
mod run;
mod scale;
mod schema;
mod simulate;
mod status;
mod stop;
mod trust;
mod undrain;
mod up;
mod watchdog;
mod watcher;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::failure::Failure;

/// In the order of the help.
static VERBS: &[Entry] = &[
    entry::<run::Run>(),
    entry::<proxy::Proxy>(),
    entry::<check::Check>(),
    entry::<status::Status>(),
    entry::<scale::Scale>(),
    entry::<drain::Drain>(),
    entry::<undrain::Undrain>(),
    entry::<register::Register>(),
    entry::<up::Up>(),
    entry::<ps::Ps>(),
    entry::<logs::Logs>(),
    entry::<deploy::Deploy>(),
    entry::<autoscale::Autoscale>(),
    entry::<stop::Stop>(),
    entry::<down::Down>(),
    entry::<pull::Pull>(),
    entry::<push::Push>(),
    entry::<trust::Trust>(),
    entry::<policies::Policies>(),
    entry::<simulate::Simulate>(),
    entry::<schema::Schema>(),
    entry::<echo::Echo>(),
    entry::<watchdog::Watchdog>(),
    entry::<watcher::Watcher>(),
];

/// The arguments of a verb, and what it does with them. The first paragraph of the type's doc
/// comment is its line in the help.
trait Verb: Args + FromArgMatches {
    const NAME: &'static str;
    /// Left out of the help: not for people.
    const HIDDEN: bool = false;
    fn run(self) -> Result<(), Failure>;
}

struct Entry {
    name: &'static str,
    command: fn() -> Command,
    run: fn(&ArgMatches) -> Result<(), Failure>,
}

const fn entry<V: Verb>() -> Entry {
    Entry {
        name: V::NAME,
        command: || V::augment_args(Command::new(V::NAME)).hide(V::HIDDEN),
        run: |matches| match V::from_arg_matches(matches) {
            Ok(verb) => verb.run(),
            Err(error) => error.exit(),
        },
    }
}

fn command() -> Command {
    Command::new("evenkeel")
        .about(
            "A load balancer that keeps going: TCP, UDP and HTTP, live changes, its own replicas",
        )
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .after_help(
            "Exit status: 0 done, 1 the answer is no or the job failed, 2 wrong usage.\n\
             Start here:  evenkeel proxy --listen :8080 --to :5001 --to :5002",
        )
        .subcommands(VERBS.iter().map(|verb| (verb.command)()))
}

/// Reads the arguments and runs the verb. Leaves the process for wrong usage (2) and for help.
pub(crate) fn dispatch() -> Result<(), Failure> {
    let matches = command().get_matches();
    let Some((name, arguments)) = matches.subcommand() else {
        return Err(Failure::Usage("a verb is missing; see evenkeel --help".into()));
    };
    match VERBS.iter().find(|verb| verb.name == name) {
        Some(verb) => (verb.run)(arguments),
        None => Err(Failure::Usage(format!("there is no verb {name:?}; see evenkeel --help"))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_verb_has_a_line_in_the_help() {
        for verb in VERBS {
            assert!((verb.command)().get_about().is_some(), "{}", verb.name);
        }
    }

    #[test]
    fn every_file_is_in_the_table() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/verbs");
        let files: BTreeSet<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        let verbs: BTreeSet<String> =
            VERBS.iter().map(|verb| verb.name.trim_start_matches('_').to_owned()).collect();
        assert_eq!(files, verbs);
    }
}
