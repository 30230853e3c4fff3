//! Variables in values: `$NAME`, `${NAME}`, `${NAME:-default}` and the other forms of the Compose
//! Specification ("Interpolation"). `$$` is a dollar sign. Pure.

use std::collections::BTreeMap;

/// Expressions inside each other: `${A:-${B:-c}}` has two levels.
const DEPTH_MAX: usize = 16;

/// Bytes of one value with its variables put in, so that nested ones cannot fill the memory.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// What is wrong with a value, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Byte of the value where it begins.
    pub at: usize,
    pub message: String,
    pub help: String,
}

/// The value with its variables put in, and the names of those that are not set: they count as
/// empty, as with Docker Compose.
pub fn interpolate(
    text: &str,
    variables: &BTreeMap<String, String>,
) -> Result<(String, Vec<String>), Refused> {
    let mut reader = Reader { text, at: 0, variables, unset: Vec::new() };
    let value = reader.value(0, false)?;
    Ok((value, reader.unset))
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    variables: &'a BTreeMap<String, String>,
    unset: Vec<String>,
}

impl<'a> Reader<'a> {
    /// Up to the end, or to the `}` that ends the expression around it.
    fn value(&mut self, depth: usize, inside: bool) -> Result<String, Refused> {
        if depth > DEPTH_MAX {
            return Err(self.refused(self.at, "variables are nested too deeply", "use fewer"));
        }
        let mut value = String::new();
        while let Some(next) = self.text[self.at..].chars().next() {
            if inside && next == '}' {
                break;
            }
            if next == '$' {
                let part = self.variable(depth)?;
                value.push_str(&part);
            } else {
                value.push(next);
                self.at += next.len_utf8();
            }
            if value.len() > VALUE_BYTES_MAX {
                return Err(self.refused(0, "the value becomes longer than 1 MiB", ""));
            }
        }
        Ok(value)
    }

    fn variable(&mut self, depth: usize) -> Result<String, Refused> {
        let start = self.at;
        self.at += 1;
        let rest = &self.text[self.at..];
        if rest.starts_with('$') {
            self.at += 1;
            return Ok("$".into());
        }
        let Some(braced) = rest.strip_prefix('{') else {
            let name = name_at(rest);
            if name.is_empty() {
                return Err(self.refused(
                    start,
                    "a `$` must be followed by the name of a variable",
                    "write `$$` for a dollar sign",
                ));
            }
            self.at += name.len();
            return Ok(self.look_up(name).unwrap_or_else(|| self.blank(name)));
        };
        self.at += 1;
        let name = name_at(braced);
        if name.is_empty() {
            return Err(self.refused(
                start,
                "`${` must be followed by the name of a variable",
                "write `${NAME}` or `${NAME:-default}`; `$$` is a dollar sign",
            ));
        }
        self.at += name.len();
        let found = self.look_up(name);
        let operators = [":-", ":?", ":+", "-", "?", "+"];
        let rest = &self.text[self.at..];
        let operator = operators.into_iter().find(|operator| rest.starts_with(operator));
        self.at += operator.map_or(0, str::len);
        let argument = match operator {
            Some(_) => {
                // What a variable that is set does not need is not missed.
                let before = self.unset.len();
                let argument = self.value(depth + 1, true)?;
                let needed = match operator {
                    Some(":+" | "+") => found.is_some(),
                    _ => found.as_ref().is_none_or(String::is_empty),
                };
                if !needed {
                    self.unset.truncate(before);
                }
                argument
            }
            None => String::new(),
        };
        if !self.text[self.at..].starts_with('}') {
            return Err(self.refused(
                start,
                "this variable does not end as it should",
                "write `${NAME}`, `${NAME:-default}`, `${NAME:?message}` or `${NAME:+instead}`",
            ));
        }
        self.at += 1;
        let full = found.clone().filter(|value| !value.is_empty());
        match operator {
            Some(":-") => Ok(full.unwrap_or(argument)),
            Some("-") => Ok(found.unwrap_or(argument)),
            Some(":+") => Ok(full.map(|_| argument).unwrap_or_default()),
            Some("+") => Ok(found.map(|_| argument).unwrap_or_default()),
            Some(":?") => full.ok_or_else(|| self.needed(start, name, &argument)),
            Some("?") => found.ok_or_else(|| self.needed(start, name, &argument)),
            _ => Ok(found.unwrap_or_else(|| self.blank(name))),
        }
    }

    fn look_up(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn blank(&mut self, name: &str) -> String {
        self.unset.push(name.to_owned());
        String::new()
    }

    fn needed(&self, at: usize, name: &str, message: &str) -> Refused {
        let why = if message.is_empty() { "it is needed here" } else { message };
        let message = format!("the variable {name} is not set: {why}");
        self.refused(at, &message, &format!("set {name} in the environment or in `.env`"))
    }

    fn refused(&self, at: usize, message: &str, help: &str) -> Refused {
        Refused { at, message: message.into(), help: help.into() }
    }
}

/// The name at the beginning of `text`; empty if there is none.
fn name_at(text: &str) -> &str {
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    if first { &text[..end] } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_the_specification() {
        let variables: BTreeMap<String, String> =
            [("A", "a"), ("EMPTY", ""), ("PORT", "80")].map(|(k, v)| (k.into(), v.into())).into();
        for (text, expected) in [
            ("plain", Some("plain")),
            ("$A-x", Some("a-x")),
            ("${A}b", Some("ab")),
            ("$$A ${A}", Some("$A a")),
            ("${NO:-d}", Some("d")),
            ("${EMPTY:-d}", Some("d")),
            ("${EMPTY-d}", Some("")),
            ("${NO-d}", Some("d")),
            ("${A:-d}", Some("a")),
            ("${A:+x}${NO:+y}${EMPTY:+z}", Some("x")),
            ("${EMPTY+z}", Some("z")),
            ("${NO:-${A}}:${NO:-${NO:-deep}}", Some("a:deep")),
            ("${NO:-a b: {c}", Some("a b: {c")),
            ("${A:?no}", Some("a")),
            ("${NO:?no}", None),
            ("${EMPTY:?}", None),
            ("${EMPTY?}", Some("")),
            ("$", None),
            ("${", None),
            ("${A", None),
            ("${A!}", None),
            ("$1", None),
            ("${1}", None),
            ("ä$A", Some("äa")),
        ] {
            let found = interpolate(text, &variables);
            assert_eq!(found.as_ref().ok().map(|(v, _)| v.as_str()), expected, "{text}: {found:?}");
        }
        let unset = |text| interpolate(text, &variables).unwrap().1;
        assert_eq!(unset("$NO ${NEITHER}"), ["NO", "NEITHER"]);
        assert!(unset("${NO:-x} ${A:-$NO}").is_empty());
        assert!(interpolate(&"${A:-".repeat(1000), &variables).is_err());
    }
}
