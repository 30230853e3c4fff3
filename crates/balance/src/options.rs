//! The options of a policy, as they hold: as written, or else by their defaults.
//!
//! For: one place where a default is said, the policy's entry in the table.
//! Never: a check with a message; what is written was checked against the same entry before.
//! Start with [`Options`].

use std::time::Duration;

use model::spec::PolicySpec;
use model::vocabulary::{OptionDefault, OptionInfo, OptionKind, OptionValue, PolicyInfo};

/// One policy's options. Each is asked for by its name and kind; asking for one that the entry
/// does not have gives nothing (0, no time, no text), and a failed assertion in tests.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    described: &'static [OptionInfo],
    written: &'a [(String, OptionValue)],
}

impl<'a> Options<'a> {
    /// Of a policy that is described so.
    pub fn new(info: &PolicyInfo, written: &'a [(String, OptionValue)]) -> Self {
        Self { described: info.options, written }
    }

    /// As a configuration has them; `None` if no policy has that name.
    pub fn of(spec: &'a PolicySpec) -> Option<Self> {
        let info = crate::infos().iter().find(|info| info.name == spec.name)?;
        Some(Self::new(info, &spec.options))
    }

    pub fn has(&self, name: &str) -> bool {
        self.described.iter().any(|option| option.name == name)
    }

    /// What is written; `None` where the default holds.
    pub fn written(&self, name: &str) -> Option<&'a OptionValue> {
        // The last, as in a map that is written to.
        self.written.iter().rev().find(|(written, _)| written == name).map(|(_, value)| value)
    }

    pub fn boolean(&self, name: &str) -> bool {
        match (self.written(name), self.default(name)) {
            (Some(OptionValue::Bool(value)), _) => *value,
            (_, Some(OptionDefault::Bool(value))) => value,
            _ => false,
        }
    }

    /// Within the bounds that the entry states.
    pub fn integer(&self, name: &str) -> u64 {
        let value = match (self.written(name), self.default(name)) {
            (Some(OptionValue::Integer(value)), _) => *value,
            (_, Some(OptionDefault::Integer(value))) => value,
            _ => 0,
        };
        match self.info(name).map(|info| info.kind) {
            Some(OptionKind::Integer { min, max }) => value.clamp(min, max),
            _ => value,
        }
    }

    /// Within the bounds that the entry states.
    pub fn float(&self, name: &str) -> f64 {
        let value = match (self.written(name), self.default(name)) {
            (Some(OptionValue::Float(value)), _) => *value,
            (_, Some(OptionDefault::Float(value))) => value,
            _ => 0.0,
        };
        match self.info(name).map(|info| info.kind) {
            Some(OptionKind::Float { min, max }) => value.clamp(min, max),
            _ => value,
        }
    }

    pub fn duration(&self, name: &str) -> Duration {
        match (self.written(name), self.default(name)) {
            (Some(OptionValue::Duration(value)), _) => *value,
            (_, Some(OptionDefault::Duration(value))) => value,
            _ => Duration::ZERO,
        }
    }

    pub fn text(&self, name: &str) -> &'a str {
        match (self.written(name), self.default(name)) {
            (Some(OptionValue::Text(value)), _) => value,
            (_, Some(OptionDefault::Text(value))) => value,
            _ => "",
        }
    }

    /// The first option of that kind: a policy has one key, and one path, whatever their names.
    pub fn of_kind(&self, kind: OptionKind) -> Option<&'static OptionInfo> {
        self.described.iter().find(|option| option.kind == kind)
    }

    fn info(&self, name: &str) -> Option<&'static OptionInfo> {
        let info = self.described.iter().find(|option| option.name == name);
        debug_assert!(info.is_some(), "the policy has no option `{name}`");
        info
    }

    fn default(&self, name: &str) -> Option<OptionDefault> {
        self.info(name).map(|info| info.default)
    }
}
