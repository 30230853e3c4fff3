//! What containers say in the words of other programs, in ours: labels in, labels out, and what
//! was not understood.

mod rule;
mod traefik;
mod virtual_host;

use std::collections::BTreeMap;

use crate::Container;

/// Labels as `evenkeel.*`, and a sentence for each thing that was not understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Translation {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) notes: Vec<String>,
    /// Something was said at all, be it "not me".
    pub(crate) concerned: bool,
    /// Routes were asked for, and none of them is understood: then there is none, rather than one
    /// that nobody asked for.
    pub(crate) unreachable: bool,
}

impl Translation {
    fn set(&mut self, key: &str, value: impl Into<String>) {
        self.labels.insert(format!("evenkeel.{key}"), value.into());
    }

    fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

pub(crate) fn translate(container: &Container, traefik: bool, virtual_host: bool) -> Translation {
    let mut translation = Translation::default();
    if virtual_host {
        virtual_host::translate(container, &mut translation);
    }
    if traefik {
        traefik::translate(container, &mut translation);
    }
    translation
}
