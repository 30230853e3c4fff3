use std::ops::Deref;
use std::sync::Arc;

use model::spec::{KeySource, PolicySpec, ServiceSpec};
use model::vocabulary::{OptionKind, OptionValue};

use crate::Sessions;

/// A specification in force, and what is worked out of it once.
#[derive(Debug)]
pub struct Settings {
    spec: Arc<ServiceSpec>,
    key: Option<KeySource>,
    sessions: Option<Arc<Sessions>>,
}

impl Settings {
    pub(crate) fn new(spec: Arc<ServiceSpec>, sessions: Option<Arc<Sessions>>) -> Self {
        let key = key_source(&spec.policy);
        Self { spec, key, sessions }
    }

    /// What the policy hashes of a request; `None`: it hashes nothing.
    pub fn key(&self) -> Option<&KeySource> {
        self.key.as_ref()
    }

    /// How clients are kept where they are; `None`: they are not.
    pub fn sessions(&self) -> Option<&Sessions> {
        self.sessions.as_deref()
    }
}

impl Deref for Settings {
    type Target = ServiceSpec;
    fn deref(&self) -> &ServiceSpec {
        &self.spec
    }
}

/// As the policy's option of that kind says, or its default.
fn key_source(policy: &PolicySpec) -> Option<KeySource> {
    let info = balance::infos().iter().find(|info| info.name == policy.name)?;
    let option = info.options.iter().find(|option| option.kind == OptionKind::Key)?;
    let written = policy.options.iter().find_map(|(name, value)| match value {
        OptionValue::Text(text) if name == option.name => Some(text.as_str()),
        _ => None,
    });
    written.unwrap_or(option.default).parse().ok()
}

/// Where the policy wants endpoints to be asked how they are, as its option of that kind says.
pub(crate) fn probe_path(policy: &PolicySpec) -> Option<Arc<str>> {
    let info = balance::infos().iter().find(|info| info.name == policy.name)?;
    let option = info.options.iter().find(|option| option.kind == OptionKind::Path)?;
    policy.options.iter().find_map(|(name, value)| match value {
        OptionValue::Text(path) if name == option.name && path != "off" => Some(path[..].into()),
        _ => None,
    })
}
