//! The table of policies: one file and one line each.
//!
//! For: what the configuration may name, and how each is built.
//! Never: a decision; those are in the files below `policies/`.
//! Start with [`POLICIES`].

mod first_available;
mod lars;
mod least_connections;
mod least_request;
mod maglev;
mod peak_ewma;
mod prequal;
mod random;
mod rendezvous;
mod resource;
mod response_time;
mod ring_hash;
mod round_robin;
mod source_hash;
mod zone_aware;

use std::sync::LazyLock;

use model::spec::PolicySpec;
use model::vocabulary::{OptionValue, PolicyInfo};

use crate::{Options, Policy};

/// One policy: what it says of itself, and how it is built from its options (those not given
/// take their defaults; those given were checked against `info`).
#[derive(Clone, Copy)]
pub struct PolicyEntry {
    pub info: PolicyInfo,
    make: fn(Options<'_>) -> Box<dyn Policy>,
}

impl PolicyEntry {
    /// The policy with these options, which fit its description.
    pub fn build(&self, written: &[(String, OptionValue)]) -> Box<dyn Policy> {
        (self.make)(Options::new(&self.info, written))
    }
}

/// All policies, the default first.
pub static POLICIES: &[PolicyEntry] = &[
    round_robin::ENTRY, //
    random::ENTRY,
    least_request::ENTRY,
    least_connections::ENTRY,
    peak_ewma::ENTRY,
    prequal::ENTRY,
    response_time::ENTRY,
    resource::ENTRY,
    zone_aware::ENTRY,
    first_available::ENTRY,
    source_hash::ENTRY,
    maglev::ENTRY,
    ring_hash::ENTRY,
    rendezvous::ENTRY,
    lars::ENTRY,
];

/// What the table says of itself, for [`model::vocabulary::Vocabulary`].
pub fn infos() -> &'static [PolicyInfo] {
    static INFOS: LazyLock<Vec<PolicyInfo>> =
        LazyLock::new(|| POLICIES.iter().map(|entry| entry.info).collect());
    &INFOS
}

/// The policy that a configuration names; `None` if the table has no such name.
pub fn build(spec: &PolicySpec) -> Option<Box<dyn Policy>> {
    let entry = POLICIES.iter().find(|entry| entry.info.name == spec.name)?;
    Some(entry.build(&spec.options))
}

#[cfg(test)]
mod tests {
    use model::vocabulary::{OptionDefault, OptionKind};

    use super::*;

    #[test]
    fn every_file_below_policies_is_in_the_table_and_the_other_way_round() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/policies");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| name.strip_suffix(".rs").map(str::to_owned))
            .collect();
        let mut table: Vec<&str> = POLICIES.iter().map(|entry| entry.info.name).collect();
        files.sort();
        table.sort_unstable();
        assert_eq!(files, table, "one file and one line in policies.rs for each policy");
    }

    #[test]
    fn entries_describe_themselves() {
        for info in infos() {
            assert!(!info.summary.is_empty() && !info.summary.contains('\n'), "{}", info.name);
            let spec = PolicySpec { name: info.name.into(), options: Vec::new() };
            assert!(build(&spec).is_some());
            for option in info.options {
                assert!(!option.summary.is_empty());
                let fits = match (option.kind, option.default) {
                    (OptionKind::Bool, OptionDefault::Bool(_))
                    | (OptionKind::Duration, OptionDefault::Duration(_))
                    | (
                        OptionKind::Key | OptionKind::Path | OptionKind::Text,
                        OptionDefault::Text(_),
                    ) => true,
                    (OptionKind::Integer { min, max }, OptionDefault::Integer(value)) => {
                        (min..=max).contains(&value)
                    }
                    (OptionKind::Float { min, max }, OptionDefault::Float(value)) => {
                        (min..=max).contains(&value)
                    }
                    (OptionKind::OneOf(words), OptionDefault::Text(word)) => words.contains(&word),
                    _ => false,
                };
                assert!(fits, "{}: the default of {} is of its kind", info.name, option.name);
            }
        }
        assert!(build(&PolicySpec { name: "fastest".into(), options: Vec::new() }).is_none());
        assert_eq!(infos()[0].name, PolicySpec::default().name, "the default comes first");
    }
}
