//! Reads one text after the other, each at the cost of what it does not share with the last.
//!
//! For: a configuration that changes while it is in force. A text of ten thousand services takes a
//! fifth of a second to read; one that differs from it in a service takes a millisecond.
//! Never: another answer than [`parse`](crate::parse) gives. Only a change that lies within the services
//! is read alone, and only where nothing could make one part of the text depend on another; in
//! every doubt, and whenever anything at all is to be said of what changed, the text is read as a whole.
//! Start with [`Reader::read`], then [`Last::follow`], which has the conditions and why they are
//! enough.

mod section;
mod stretch;

use std::collections::BTreeSet;
use std::sync::Arc;

use model::spec::{AffinitySpec, ServiceSpec, Spec};
use model::vocabulary::Vocabulary;
use model::{Differing, ServiceName, SharedMap};

use crate::decode::{self, Surroundings};
use crate::defect::{DEFECTS_MAX, Defect, Defects, Report, Span};
use crate::tree::{self, Entry, NODES_MAX, Node, TEXT_BYTES_MAX, Value};
use crate::{Checked, Source};

use section::Section;
use stretch::Stretch;

/// Bytes of the text around a change that are read anew at most; what is larger is read as a whole.
const STRETCH_BYTES_MAX: usize = 256 * 1024;

/// Of the texts read so far, what helps to read the next.
pub struct Reader {
    vocabulary: Vocabulary,
    /// The last text without errors, if parts of it can be read alone.
    last: Option<Last>,
    services_read: usize,
}

/// A text, and what was read from it.
struct Last {
    text: Arc<str>,
    spec: Spec,
    warnings: Vec<(Span, Defect)>,
    section: Section,
    surroundings: Surroundings,
    /// At least as many as the tree has.
    nodes: usize,
}

/// What a new text makes of the last.
struct Change {
    stretch: Stretch,
    /// Where the names of its services stand.
    starts: Vec<u32>,
    warnings: Vec<(Span, Defect)>,
    nodes: usize,
    removed: Vec<ServiceName>,
    added: Vec<ServiceName>,
    /// Added, or not as they were.
    set: Vec<ServiceSpec>,
    services_read: usize,
}

impl Reader {
    /// `vocabulary`: of every text.
    pub fn new(vocabulary: Vocabulary) -> Self {
        Self { vocabulary, last: None, services_read: 0 }
    }

    /// As [`parse`](crate::parse), whatever was read before. Services that stayed as they were
    /// share their specification with that of the last text.
    pub fn read(&mut self, name: &str, text: &Arc<str>) -> Result<Checked, Defects> {
        let source = Source { name, text };
        // Taken: if reading panics, nothing half-made is left.
        if let Some(mut last) = self.last.take() {
            if let Some(services) = last.follow(text, &self.vocabulary) {
                self.services_read = services;
                let checked = last.checked(name);
                self.last = Some(last);
                #[cfg(debug_assertions)]
                same(&checked, crate::parse(&source, &self.vocabulary));
                return Ok(checked);
            }
            // It stays if this one is wrong: the next is probably the last with a change, too.
            self.last = Some(last);
        }
        let (checked, last) = self.whole(&source, text)?;
        self.last = last;
        Ok(checked)
    }

    /// How many services were decoded for the last text without errors: what changed and its two
    /// neighbours, or all.
    pub fn services_read(&self) -> usize {
        self.services_read
    }

    fn whole(
        &mut self,
        source: &Source<'_>,
        text: &Arc<str>,
    ) -> Result<(Checked, Option<Last>), Defects> {
        let report = Report::new(*source);
        let tree = tree::read_whole(source.text, &report);
        let read = tree.as_ref().map(|tree| decode::file(&tree.root, &report, &self.vocabulary));
        let warnings = report.finish_with_places()?;
        // Without a tree there was a defect, so both are there.
        let (mut spec, surroundings) = read.unwrap_or_default();
        self.services_read = spec.services.len();
        if let Some(last) = &self.last {
            spec.services = shared(spec.services, &last.spec.services);
        }
        let all = warnings.iter().map(|(_, warning)| warning.clone()).collect();
        let checked = Checked { spec: spec.clone(), warnings: all };
        let tree = tree.filter(|tree| tree.is_plain && warnings.len() < DEFECTS_MAX);
        let last = tree.and_then(|tree| {
            let section = Section::of(text, &tree.root)?;
            let text = Arc::clone(text);
            Some(Last { text, spec, warnings, section, surroundings, nodes: tree.nodes })
        });
        Ok((checked, last))
    }
}

/// What is equal is shared with what was, so that it is not compared again and again.
fn shared(
    new: SharedMap<ServiceName, ServiceSpec>,
    old: &SharedMap<ServiceName, ServiceSpec>,
) -> SharedMap<ServiceName, ServiceSpec> {
    let mut shared = old.clone();
    for differing in new.differences(old) {
        match differing {
            Differing::Added(name, spec) | Differing::Changed(name, _, spec) => {
                shared.insert(name.clone(), Arc::clone(spec));
            }
            Differing::Removed(name, _) => {
                shared.remove(name.as_str());
            }
        }
    }
    shared
}

impl Last {
    fn checked(&self, name: &str) -> Checked {
        let file: Arc<str> = name.into();
        let named = |warning: &Defect| Defect { file: Arc::clone(&file), ..warning.clone() };
        let warnings = self.warnings.iter().map(|(_, warning)| named(warning)).collect();
        Checked { spec: self.spec.clone(), warnings }
    }

    /// Becomes what `text` says, and answers how many services were read for it; `None`, and as it was,
    /// if `text` has to be read as a whole.
    ///
    /// Why the answer is that of the whole text. Let it be *before*, *changed* and *after*, of
    /// which the last text shares the first and the last. *Changed* begins and ends where the line of a
    /// service's name does, or the section.
    /// - Between two services the reader of YAML is in the same state, whichever they are: in a
    ///   block of this indentation, with nothing open, and without anchors. So *before* and
    ///   *after* are read as they were, if what is between leaves it in this state. This is seen by
    ///   reading it with a neighbour on either side, which must come out as it was.
    /// - A service is decoded by what it says and by its [`Surroundings`], which are elsewhere, so
    ///   the others stay as they are. What the rest of the file says of services is whether there is
    ///   one of a name, and who sends what there.
    /// - There was no error, and if there is anything to say of *changed*, the text is read as a whole.
    fn follow(&mut self, text: &Arc<str>, vocabulary: &Vocabulary) -> Option<usize> {
        if self.text == *text {
            return Some(0);
        }
        let change = self.change(text, vocabulary)?;
        for name in &change.removed {
            self.spec.services.remove(name.as_str());
            self.surroundings.unused.remove(name.as_str());
        }
        self.surroundings.unused.extend(change.added.iter().map(|name| name.as_str().into()));
        for service in change.set {
            self.spec.services.insert(service.name.clone(), service);
        }
        self.section.follow(&change.stretch, change.starts);
        self.warnings = change.warnings;
        self.nodes = change.nodes;
        self.text = Arc::clone(text);
        Some(change.services_read)
    }

    fn change(&self, text: &str, vocabulary: &Vocabulary) -> Option<Change> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let stretch = Stretch::between(&self.text, text, &self.section)?;
        if stretch.read.len() > STRETCH_BYTES_MAX {
            return None;
        }
        let piece = &text[stretch.read.clone()];
        let names = section::names(piece, self.section.indent)?;
        let document = [HEAD, piece, if stretch.is_followed { NEXT } else { "" }].concat();
        let report = Report::new(Source { name: "", text: &document });
        let tree = tree::read_whole(&document, &report)?;
        let nodes = self.nodes + tree.nodes;
        if !tree.is_plain || nodes > NODES_MAX {
            return None;
        }
        let entries = services_of(&tree.root, stretch.is_followed)?;
        let places = entries.iter().map(|entry| entry.key_span.start as usize);
        if !places.eq(names.iter().map(|at| HEAD.len() + at)) {
            return None;
        }
        let mut set = decode::services(entries, &self.surroundings, &report, vocabulary);
        if set.len() != names.len() || !report.finish().ok()?.is_empty() {
            return None;
        }
        let services_read = set.len();
        let changed = usize::from(stretch.has_left)..names.len() - usize::from(stretch.has_right);
        self.take_neighbours(&mut set, &stretch)?;

        let chunk_name = |chunk| ServiceName::new(self.section.name(&self.text, chunk));
        let was: BTreeSet<ServiceName> = stretch.chunks.clone().map(chunk_name).collect();
        let is: BTreeSet<ServiceName> = set.iter().map(|spec| spec.name.clone()).collect();
        let removed: Vec<ServiceName> = was.difference(&is).cloned().collect();
        let added: Vec<ServiceName> = is.difference(&was).cloned().collect();
        if !self.may_go(&removed) || !self.may_come(&added) {
            return None;
        }
        set.retain(|new| self.spec.services.get(new.name.as_str()).is_none_or(|old| **old != *new));
        if set.iter().any(|new| self.is_judged_elsewhere(new)) {
            return None;
        }
        let start = |at: &usize| (stretch.read.start + at - self.section.indent) as u32;
        let starts = names.get(changed)?.iter().map(start).collect();
        let warnings = self.warnings_beside(&stretch, text)?;
        Some(Change { stretch, starts, warnings, nodes, removed, added, set, services_read })
    }

    /// Leaves what is between the neighbours, if these are as they were.
    fn take_neighbours(&self, read: &mut Vec<ServiceSpec>, stretch: &Stretch) -> Option<()> {
        let is_as_it_was = |neighbour: ServiceSpec, chunk: usize| {
            let name = self.section.name(&self.text, chunk);
            self.spec.services.get(name).is_some_and(|old| **old == neighbour)
        };
        if stretch.has_right && !is_as_it_was(read.pop()?, stretch.chunks.end) {
            return None;
        }
        if stretch.has_left {
            let first = if read.is_empty() { return None } else { read.remove(0) };
            is_as_it_was(first, stretch.chunks.start - 1).then_some(())?;
        }
        Some(())
    }

    /// Nothing refers to them.
    fn may_go(&self, removed: &[ServiceName]) -> bool {
        removed.iter().all(|name| self.surroundings.unused.contains(name.as_str()))
    }

    /// There are none of that name elsewhere, and nothing is to be said of services to which nothing
    /// sends: nothing refers to these, or they would have been missing before.
    fn may_come(&self, added: &[ServiceName]) -> bool {
        let is_new = |name: &ServiceName| !self.spec.services.contains_key(name.as_str());
        added.is_empty() || (self.surroundings.has_agent && added.iter().all(is_new))
    }

    /// Whether a listener may have to be warned of it, or no longer.
    fn is_judged_elsewhere(&self, new: &ServiceSpec) -> bool {
        let needs_http =
            |spec: &ServiceSpec| spec.affinity.as_ref().is_some_and(AffinitySpec::needs_http);
        let old = self.spec.services.get(new.name.as_str());
        self.surroundings.streamed.contains(new.name.as_str())
            && (needs_http(new) || old.is_some_and(|old| needs_http(old)))
    }

    /// The last text's warnings where they stand now; `None` if there was one of what changed.
    fn warnings_beside(&self, stretch: &Stretch, text: &str) -> Option<Vec<(Span, Defect)>> {
        let lines = |text: &str| text.bytes().filter(|byte| *byte == b'\n').count();
        let lines_before = lines(&self.text[stretch.old.clone()]);
        let lines_now = lines(&text[stretch.new.clone()]);
        let moved = |(span, warning): &(Span, Defect)| {
            let start = span.start as usize;
            if start < stretch.old.start {
                return Some((*span, warning.clone()));
            }
            if start < stretch.old.end {
                return None;
            }
            let moved = |at: u32| stretch.moved(at as usize) as u32;
            let span = Span { start: moved(span.start), end: moved(span.end) };
            let line = warning.line - lines_before + lines_now;
            Some((span, Defect { line, ..warning.clone() }))
        };
        self.warnings.iter().map(moved).collect()
    }
}

/// What stands before the services that are read alone, and behind them, if there is a further
/// section: a key that ends them, as that one does.
const HEAD: &str = "services:\n";
const NEXT: &str = "x: x\n";

/// The services of a document that begins with [`HEAD`].
fn services_of(root: &Node, is_followed: bool) -> Option<&[Entry]> {
    let Value::Map(sections) = &root.value else { return None };
    let (services, next) = sections.split_first()?;
    let ends = match next {
        [] => !is_followed,
        [next] => {
            is_followed && matches!(&next.value.value, Value::Scalar { text, .. } if &**text == "x")
        }
        _ => false,
    };
    match &services.value.value {
        Value::Map(entries) if ends => Some(entries),
        _ => None,
    }
}

/// The way through a part and the way through the whole must never say different things; where we
/// look for mistakes, it is looked at each time.
#[cfg(debug_assertions)]
fn same(checked: &Checked, whole: Result<Checked, Defects>) {
    let whole = whole.map(|whole| (whole.spec, whole.warnings)).map_err(|defects| defects.0);
    let part = Ok((checked.spec.clone(), checked.warnings.clone()));
    assert_eq!(part, whole);
    // What is equal need not be the same, as paths show.
    assert_eq!(format!("{part:?}"), format!("{whole:?}"));
}
