//! Where a value stands, for defects that are found outside: in the files that a configuration
//! names.

use crate::Source;
use crate::defect::{Defect, Report, Severity, Span};
use crate::tree::{self, Node, Value};

/// A defect of the value that `place` leads to: names of keys from the outermost, and places in
/// lists as numbers from 0. Where it leads nowhere, the defect is that of the last value on the
/// way: a key that is left out has the place of what it would stand in.
pub fn defect_at(
    source: &Source<'_>,
    place: &[String],
    severity: Severity,
    message: &str,
    help: &str,
) -> Defect {
    let report = Report::new(*source);
    let span =
        tree::read(source.text, &report).map_or_else(Span::default, |root| find(&root, place));
    let help = Some(help.to_owned()).filter(|help| !help.is_empty());
    report.defect(severity, span, message.to_owned(), help)
}

fn find(root: &Node, place: &[String]) -> Span {
    let (mut node, mut span) = (root, root.span);
    for step in place {
        let next = match &node.value {
            Value::Map(entries) => {
                entries.iter().find(|entry| &*entry.key == step).map(|e| (&e.value, e.key_span))
            }
            Value::List(items) => {
                let item = step.parse().ok().and_then(|index: usize| items.get(index));
                item.map(|item| (item, item.span))
            }
            // One value that stands for a list of one.
            Value::Scalar { .. } if step == "0" => Some((node, node.span)),
            Value::Scalar { .. } => None,
        };
        let Some((below, at)) = next else { return span };
        node = below;
        // A value on one line is shown itself, a map by its key.
        span = if matches!(node.value, Value::Scalar { .. }) { node.span } else { at };
    }
    span
}
