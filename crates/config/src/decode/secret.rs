//! Secrets that are written out or that a file holds.

use std::ops::RangeInclusive;

use model::spec::SecretSpec;

use super::{Context, path_of};
use crate::defect::Span;
use crate::fields::Fields;
use crate::keys;
use crate::redact::REDACTED;
use crate::tree::Value;

/// What a secret looks like when it is written out.
struct Shape {
    /// In bytes.
    length: RangeInclusive<usize>,
    spaces: bool,
}

/// Ours: short ones can be guessed.
const TOKEN: Shape = Shape { length: 12..=256, spaces: false };

/// Another program chose it.
const PASSWORD: Shape = Shape { length: 1..=256, spaces: true };

/// `token`, if it is given.
pub(super) fn token(fields: &Fields<'_>, context: &Context<'_>) -> Option<SecretSpec> {
    secret(fields, "token", &TOKEN, context)
}

/// `password`, if it is given.
pub(super) fn password(fields: &Fields<'_>, context: &Context<'_>) -> Option<SecretSpec> {
    secret(fields, "password", &PASSWORD, context)
}

/// Written out, or `{ file: PATH }`.
fn secret(
    fields: &Fields<'_>,
    key: &'static str,
    shape: &Shape,
    context: &Context<'_>,
) -> Option<SecretSpec> {
    if let Value::Map(_) = fields.entry(key)?.value.value {
        let file = fields.section(key, &keys::SECRET_FILE)?;
        let path = file.text("file").and_then(|path| path_of("file", path, context.report))?;
        return Some(SecretSpec::File(path));
    }
    let (text, span) = fields.text(key)?;
    let legal = |byte: u8| byte.is_ascii_graphic() || (shape.spaces && byte == b' ');
    if !text.bytes().all(legal) || !shape.length.contains(&text.len()) {
        let (least, most) = (shape.length.start(), shape.length.end());
        let spaces = if shape.spaces { "" } else { " without spaces" };
        context.report.error_help(
            span,
            format!("`{key}` must be {least} to {most} visible ASCII characters{spaces}"),
            "for example the output of `openssl rand -hex 16`",
        );
    }
    refuse_redacted(key, (text, span), context);
    Some(SecretSpec::Text(text.to_owned()))
}

/// What stands in place of a secret where a configuration is shown is none: it was posted as shown.
pub(super) fn refuse_redacted(key: &str, (text, span): (&str, Span), context: &Context<'_>) {
    if text == REDACTED {
        context.report.error_help(
            span,
            format!("`{key}` is what is shown in its place"),
            "write the secret itself, or take the configuration from its file",
        );
    }
}
