//! `services.NAME.run`.

use std::path::PathBuf;
use std::time::Duration;

use model::spec::RunSpec;

use crate::defect::Span;
use crate::fields::{Fields, scalar, wrong_kind};
use crate::keys;
use crate::table::Kind;
use crate::tree::{Value, quoted};

use super::Context;

const REPLICAS: usize = 1;
const STOP_GRACE: Duration = Duration::from_secs(10);
const START_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn run(fields: &Fields<'_>, cwd: Option<PathBuf>, context: &Context<'_>) -> RunSpec {
    let mut spec = RunSpec {
        command: command(fields, context),
        replicas: REPLICAS,
        env: env(fields, context),
        cwd,
        stop_grace: STOP_GRACE,
        start_timeout: START_TIMEOUT,
    };
    fields.integer("replicas", &mut spec.replicas);
    fields.duration("stop_grace", &mut spec.stop_grace);
    fields.duration("start_timeout", &mut spec.start_timeout);
    spec
}

fn command(fields: &Fields<'_>, context: &Context<'_>) -> Vec<String> {
    let Some(entry) = fields.entry("command") else { return Vec::new() };
    let span = entry.value.span;
    let command: Vec<String> = match &entry.value.value {
        Value::Scalar { text, .. } => match split(text) {
            Ok(words) => words,
            Err(Unsplittable { message, help }) => {
                context.report.error_help(span, message, help);
                return Vec::new();
            }
        },
        _ => {
            let words = fields.list("command").unwrap_or_default();
            let mut command = Vec::new();
            for node in words {
                match scalar(node) {
                    Some(text) => command.push(text.to_owned()),
                    None => {
                        let message = format!("`command` must list words, not {}", node.describe());
                        context.report.error(node.span, message);
                    }
                }
            }
            command
        }
    };
    let is_container = !matches!(entry.value.value, Value::Map(_));
    if command.first().is_none_or(String::is_empty) && is_container {
        context.report.error_help(
            span,
            "`command` names no program",
            "write `command: python3 app.py`, or `command: [ python3, app.py ]`",
        );
    }
    if command.iter().any(|word| word.contains('\0')) {
        context.report.error(span, "`command` holds a NUL byte");
    }
    warn_of_variables(&command, span, context);
    command
}

/// `$PORT` in an argument stays as it is, which is rarely meant.
fn warn_of_variables(command: &[String], span: Span, context: &Context<'_>) {
    let shells = ["sh", "bash", "dash", "zsh", "ash", "busybox", "env"];
    let program = command.first().map_or("", |p| p.rsplit('/').next().unwrap_or(p));
    let names = |word: &String| word.contains("$PORT") || word.contains("${PORT}");
    if !shells.contains(&program) && command.iter().any(names) {
        context.report.warning(
            span,
            "`$PORT` is not replaced: the command is not run through a shell",
            "read PORT in the program, or write `command: [ sh, -c, \"exec PROGRAM $PORT\" ]`",
        );
    }
}

struct Unsplittable {
    message: &'static str,
    help: &'static str,
}

/// Splits at spaces, with the quotes of a shell: `'...'` as it is, `"..."` with `\"` and `\\`,
/// and `\` before one character. What only a shell could do is refused.
fn split(text: &str) -> Result<Vec<String>, Unsplittable> {
    let unclosed = Unsplittable {
        message: "a quote in `command` is never closed",
        help: "add the closing quote, or write the command as a list",
    };
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '|' | '&' | ';' | '<' | '>' | '`' => {
                return Err(Unsplittable {
                    message: "`command` is not run through a shell, so `|`, `&`, `;`, `<`, `>` and \
                              backquotes do nothing",
                    help: "write `command: [ sh, -c, \"...\" ]`, or put the character in quotes",
                });
            }
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err(unclosed),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => match chars.next() {
                            Some(c @ ('"' | '\\')) => word.push(c),
                            Some(c) => word.extend(['\\', c]),
                            None => return Err(unclosed),
                        },
                        Some(c) => word.push(c),
                        None => return Err(unclosed),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn env(fields: &Fields<'_>, context: &Context<'_>) -> Vec<(String, String)> {
    let mut env = Vec::new();
    let Some(Kind::MapOf(_, kind)) = keys::RUN.key("env").map(|key| key.kind) else { return env };
    for entry in fields.map("env") {
        let name = &*entry.key;
        if matches!(name, "PORT" | "REPLICA") {
            let message = format!("`{name}` is set for each replica by itself");
            context.report.error_help(entry.key_span, message, "remove it");
        }
        if name.is_empty() || name.contains(['=', '\0']) {
            let message = format!("{} cannot be the name of a variable", quoted(name));
            context.report.error(entry.key_span, message);
        }
        match scalar(&entry.value).filter(|text| !text.contains('\0')) {
            Some(_) if entry.value.is_null() => env.push((name.into(), String::new())),
            Some(value) => env.push((name.into(), value.into())),
            None => wrong_kind(context.report, name, kind, &entry.value),
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_split_as_in_a_shell() {
        for (text, expected) in [
            ("python3 app.py", Some(&["python3", "app.py"][..])),
            ("  a   b\t", Some(&["a", "b"])),
            ("a 'b c' \"d e\"", Some(&["a", "b c", "d e"])),
            (r#"a "x\"y\\z\n" b\ c"#, Some(&["a", r#"x"y\z\n"#, "b c"])),
            ("a ''", Some(&["a", ""])),
            ("a'b'c", Some(&["abc"])),
            ("", Some(&[])),
            ("a 'b", None),
            ("a \"b", None),
            ("a \"b\\", None),
            ("a | b", None),
            ("a && b", None),
            ("a '|' b", Some(&["a", "|", "b"])),
        ] {
            let words = split(text).ok();
            let expected = expected.map(|e| e.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
            assert_eq!(words, expected, "{text}");
        }
    }
}
