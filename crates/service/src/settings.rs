use std::ops::Deref;
use std::sync::Arc;

use balance::Options;
use model::spec::{KeySource, PolicySpec, ServiceSpec};
use model::vocabulary::OptionKind;

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
    let options = Options::of(policy)?;
    options.text(options.of_kind(OptionKind::Key)?.name).parse().ok()
}

/// Where the policy wants endpoints to be asked how they are, as its option of that kind says.
pub(crate) fn probe_path(policy: &PolicySpec) -> Option<Arc<str>> {
    let options = Options::of(policy)?;
    let path = options.text(options.of_kind(OptionKind::Path)?.name);
    (path != "off").then(|| path.into())
}
