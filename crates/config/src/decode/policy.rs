//! `services.NAME.policy`: checked against the vocabulary that the binary brings.

use model::spec::PolicySpec;
use model::vocabulary::{OptionInfo, OptionKind, OptionValue, PolicyInfo};

use crate::defect::Span;
use crate::fields::{Fields, scalar};
use crate::suggest;
use crate::tree::{Entry, Node, Value, quoted};
use crate::units;

use super::{Context, header};

pub(super) fn policy(fields: &Fields<'_>, context: &Context<'_>) -> PolicySpec {
    let entry = fields.entry("policy");
    entry.map_or_else(PolicySpec::default, |entry| one(&entry.value, context))
}

/// A policy's name, or a map from its name to its options.
pub(super) fn one(node: &Node, context: &Context<'_>) -> PolicySpec {
    let (name, span, options) = match &node.value {
        Value::Scalar { text, .. } => (text, node.span, None),
        Value::Map(entries) if entries.len() == 1 => {
            (&entries[0].key, entries[0].key_span, Some(&entries[0].value))
        }
        _ => {
            context.report.error_help(
                node.span,
                format!("`policy` must be one policy, not {}", node.describe()),
                "write `policy: least_request`, or `policy: { least_request: { ... } }`",
            );
            return PolicySpec::default();
        }
    };
    let policies = context.vocabulary.policies;
    let Some(info) = policies.iter().find(|info| info.name == &**name) else {
        let help = suggest::help(name, policies.iter().map(|info| info.name), "policies");
        context.report.error_help(span, format!("there is no policy {}", quoted(name)), help);
        return PolicySpec::default();
    };
    let mut spec = PolicySpec { name: info.name.into(), options: Vec::new() };
    match options.map(|node| (&node.value, node)) {
        None => {}
        Some((Value::Map(entries), _)) => {
            spec.options = entries.iter().filter_map(|e| option(info, e, context)).collect();
        }
        Some((_, node)) if node.is_null() => {}
        Some((_, node)) => {
            let message = format!("the options of `{name}` must be a map, not {}", node.describe());
            let help =
                format!("write `policy: {name}`, or `policy: {{ {name}: {{ OPTION: VALUE }} }}`");
            context.report.error_help(node.span, message, help);
        }
    }
    spec
}

fn option(
    info: &PolicyInfo,
    entry: &Entry,
    context: &Context<'_>,
) -> Option<(String, OptionValue)> {
    let Some(option) = info.options.iter().find(|option| option.name == &*entry.key) else {
        let help = suggest::help(&entry.key, info.options.iter().map(|o| o.name), "options");
        let message = format!("policy `{}` has no option {}", info.name, quoted(&entry.key));
        context.report.error_help(entry.key_span, message, help);
        return None;
    };
    let text = scalar(&entry.value).filter(|_| !entry.value.is_null());
    let value = text.and_then(|text| value(option, text));
    if value.is_none() {
        let span: Span = entry.value.span;
        let message = format!(
            "`{}` must be {}, not {}",
            option.name,
            expected(&option.kind),
            entry.value.describe()
        );
        let words = match option.kind {
            OptionKind::OneOf(words) => words,
            OptionKind::Key => &["source", "path"],
            _ => &[],
        };
        let help = match suggest::nearest(text.unwrap_or(""), words.iter().copied()) {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!("its default is `{}`", option.default),
        };
        context.report.error_help(span, message, help);
    }
    Some((option.name.into(), value?))
}

fn value(option: &OptionInfo, text: &str) -> Option<OptionValue> {
    match option.kind {
        OptionKind::Bool => match text {
            "true" => Some(OptionValue::Bool(true)),
            "false" => Some(OptionValue::Bool(false)),
            _ => None,
        },
        OptionKind::Integer { min, max } => {
            let number = text.parse().ok().filter(|n| (min..=max).contains(n));
            number.map(OptionValue::Integer)
        }
        OptionKind::Float { min, max } => {
            let number = units::plain_number(text).filter(|n| (min..=max).contains(n));
            number.map(OptionValue::Float)
        }
        OptionKind::Duration => {
            let duration = units::parse_duration(text).ok();
            duration.filter(|d| !d.is_zero() && *d <= crate::keys::DAY).map(OptionValue::Duration)
        }
        OptionKind::OneOf(words) => words.contains(&text).then(|| OptionValue::Text(text.into())),
        OptionKind::Key => is_key(text).then(|| OptionValue::Text(text.into())),
        OptionKind::Path => is_path(text).then(|| OptionValue::Text(text.into())),
        OptionKind::Text => is_text(text).then(|| OptionValue::Text(text.into())),
    }
}

/// What a hash is taken of.
fn is_key(text: &str) -> bool {
    match text.split_once(':') {
        None => matches!(text, "source" | "path"),
        Some(("header" | "cookie", name)) => header::is_token(name),
        Some(("query", name)) => !name.is_empty(),
        Some(_) => false,
    }
}

fn is_path(text: &str) -> bool {
    text == "off" || text.starts_with('/') && is_text(text)
}

fn is_text(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What a value of this kind is, with its article.
pub(crate) fn expected(kind: &OptionKind) -> String {
    match kind {
        OptionKind::Bool => "`true` or `false`".into(),
        OptionKind::Integer { min, max } => {
            format!(
                "a whole number, {} to {}",
                units::show_integer(*min),
                units::show_integer(*max)
            )
        }
        OptionKind::Float { min, max } => format!("a number, {min} to {max}"),
        OptionKind::Duration => "a duration such as `10s`".into(),
        OptionKind::OneOf(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            words.join(" or ")
        }
        OptionKind::Key => "`source`, `path`, `header:NAME`, `cookie:NAME` or `query:NAME`".into(),
        OptionKind::Path => "a path such as `/load`, or `off`".into(),
        OptionKind::Text => "a text without spaces".into(),
    }
}
