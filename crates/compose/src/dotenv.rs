//! Files of variables: `.env` beside the Compose file, and those that `env_file` names. Pure.
//!
//! Lines of `NAME=value`, `export NAME=value`, comments after `#`. In double quotes `\n`, `\t`,
//! `\"` and `\\` are read, and variables are put in; in single quotes nothing is. A quoted value
//! may have several lines. `NAME` alone takes the value of the environment.

use std::collections::BTreeMap;

use crate::interpolate::interpolate;

/// Bytes of one file.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// Line, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub line: usize,
    pub message: String,
}

/// The variables of a file. `environment` is what they may refer to, beside those above them.
pub fn read(
    text: &str,
    environment: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Refused> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Refused { line: 1, message: "the file is longer than 1 MiB".into() });
    }
    let mut known = environment.clone();
    let mut found = BTreeMap::new();
    let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let refused = |message: &str| Refused { line: at + 1, message: message.into() };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        let Some((name, value)) = line.split_once('=') else {
            check_name(line).map_err(|message| refused(&message))?;
            if let Some(value) = environment.get(line) {
                found.insert(line.to_owned(), value.clone());
            }
            continue;
        };
        let (name, value) = (name.trim(), value.trim());
        check_name(name).map_err(|message| refused(&message))?;
        let value = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let mut raw = value[1..].to_owned();
                let mut end = closing(&raw, quote);
                while end.is_none() {
                    let Some((_, more)) = lines.next() else {
                        return Err(refused("this quote is never closed"));
                    };
                    raw.push('\n');
                    raw.push_str(more);
                    end = closing(&raw, quote);
                }
                let end = end.unwrap_or(raw.len());
                let after = raw[end..].get(1..).unwrap_or("").trim();
                if !after.is_empty() && !after.starts_with('#') {
                    return Err(refused("there is text after the closing quote"));
                }
                raw.truncate(end);
                if quote == '"' { substitute(&unescape(&raw), &known, &refused)? } else { raw }
            }
            _ => {
                let end = value.find(" #").unwrap_or(value.len());
                let value = if value.starts_with('#') { "" } else { value[..end].trim_end() };
                substitute(value, &known, &refused)?
            }
        };
        known.insert(name.to_owned(), value.clone());
        found.insert(name.to_owned(), value);
    }
    Ok(found)
}

fn substitute(
    value: &str,
    known: &BTreeMap<String, String>,
    refused: &dyn Fn(&str) -> Refused,
) -> Result<String, Refused> {
    match interpolate(value, known) {
        Ok((value, _)) => Ok(value),
        // A password may hold a dollar sign; it is no variable then.
        Err(error) if error.message.starts_with("a `$`") => Ok(value.to_owned()),
        Err(error) => Err(refused(&error.message)),
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if !name.is_empty() && name.chars().all(fits) {
        return Ok(());
    }
    Err(format!("{name:?} is no name of a variable; write NAME=value"))
}

fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            _ if c == quote => return Some(at),
            _ => {}
        }
    }
    None
}

fn unescape(text: &str) -> String {
    let mut value = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (c, rest.clone().next()) {
            ('\\', Some('n')) => value.push('\n'),
            ('\\', Some('t')) => value.push('\t'),
            ('\\', Some('r')) => value.push('\r'),
            ('\\', Some('$')) => value.push_str("$$"),
            ('\\', Some(other @ ('"' | '\\'))) => value.push(other),
            _ => {
                value.push(c);
                continue;
            }
        }
        rest.next();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let environment = BTreeMap::from([("HOME".to_owned(), "/h".to_owned())]);
        let found = read(text, &environment).unwrap_or_else(|e| panic!("{text:?}: {e:?}"));
        let found: Vec<(&str, &str)> =
            found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn lines_of_variables() {
        check("A=1\n# no\n\n B = two words \n", &[("A", "1"), ("B", "two words")]);
        check("export A=1 # why\nB=#none", &[("A", "1"), ("B", "")]);
        check(
            "A='$HOME #'\nB=\"$HOME/x\"\nC=$A-${D:-d}",
            &[("A", "$HOME #"), ("B", "/h/x"), ("C", "$HOME #-d")],
        );
        check("A=\"one\ntwo\\n\\\"\"\nHOME\nNOT_SET", &[("A", "one\ntwo\n\""), ("HOME", "/h")]);
        check("PASSWORD=a$\nURL=http://x/?a=b", &[("PASSWORD", "a$"), ("URL", "http://x/?a=b")]);
        check("\u{feff}A=\"\\$HOME\"", &[("A", "$HOME")]);
    }

    #[test]
    fn what_is_no_line_of_variables() {
        for (text, line) in [("A=1\nx y=2", 2), ("=1", 1), ("A=\"x", 1), ("A='x' y", 1), ("!", 1)] {
            let refused = read(text, &BTreeMap::new()).unwrap_err();
            assert_eq!(refused.line, line, "{text:?}: {refused:?}");
        }
    }
}
