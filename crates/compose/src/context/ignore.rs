//! `.dockerignore`: lines of patterns (Go's `filepath.Match`, and `**`), the last that matches
//! decides, `!` brings back. A pattern that matches a folder concerns all that is in it.

/// Patterns of one file; more are passed over.
const PATTERNS_MAX: usize = 1_000;

pub(super) struct Ignore {
    patterns: Vec<Pattern>,
}

struct Pattern {
    parts: Vec<String>,
    brings_back: bool,
}

impl Ignore {
    pub(super) fn read(text: &str) -> Self {
        let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let pattern = |line: &str| {
            let (brings_back, line) = match line.strip_prefix('!') {
                Some(line) => (true, line.trim()),
                None => (false, line),
            };
            let parts = line.split('/').filter(|part| !part.is_empty() && *part != ".");
            let mut clean: Vec<String> = Vec::new();
            for part in parts {
                match part {
                    ".." => drop(clean.pop()),
                    part => clean.push(part.to_owned()),
                }
            }
            Pattern { parts: clean, brings_back }
        };
        Self { patterns: lines.take(PATTERNS_MAX).map(pattern).collect() }
    }

    pub(super) fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.brings_back)
    }

    /// `path` is relative, with `/` between its parts.
    pub(super) fn leaves_out(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        let mut left_out = false;
        for pattern in &self.patterns {
            // It, or a folder that it is in.
            let matches = !pattern.parts.is_empty()
                && (1..=parts.len()).any(|length| path_matches(&pattern.parts, &parts[..length]));
            if matches {
                left_out = !pattern.brings_back;
            }
        }
        left_out
    }
}

fn path_matches(pattern: &[String], parts: &[&str]) -> bool {
    match pattern.split_first() {
        None => parts.is_empty(),
        Some((first, rest)) if first == "**" => {
            (0..=parts.len()).any(|skipped| path_matches(rest, &parts[skipped..]))
        }
        Some((first, rest)) => match parts.split_first() {
            Some((part, parts)) => {
                let (first, part): (Vec<char>, Vec<char>) =
                    (first.chars().collect(), part.chars().collect());
                part_matches(&first, &part) && path_matches(rest, parts)
            }
            None => false,
        },
    }
}

/// `*`, `?`, `[a-z]`, `[^a]` and `\` before a character that stands for itself.
fn part_matches(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['*', rest @ ..] => (0..=text.len()).any(|skipped| part_matches(rest, &text[skipped..])),
        ['?', rest @ ..] => !text.is_empty() && part_matches(rest, &text[1..]),
        ['[', rest @ ..] => {
            let Some(end) = rest.iter().skip(1).position(|c| *c == ']').map(|at| at + 1) else {
                return false;
            };
            let (set, rest) = (&rest[..end], &rest[end + 1..]);
            let (not, set) = match set {
                ['^' | '!', set @ ..] => (true, set),
                set => (false, set),
            };
            let Some((c, text)) = text.split_first() else { return false };
            let mut inside = false;
            let mut at = 0;
            while at < set.len() {
                match set[at..] {
                    [from, '-', to, ..] => {
                        inside |= (from..=to).contains(c);
                        at += 3;
                    }
                    [one, ..] => {
                        inside |= one == *c;
                        at += 1;
                    }
                    [] => break,
                }
            }
            inside != not && part_matches(rest, text)
        }
        ['\\', one, rest @ ..] | [one, rest @ ..] => {
            text.first() == Some(one) && part_matches(rest, &text[1..])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (text, path, expected) in [
            ("*.log", "a.log", true),
            ("*.log", "src/a.log", false),
            ("**/*.log", "src/deep/a.log", true),
            ("**/*.log", "a.log", true),
            ("/node_modules/", "node_modules/x/y.js", true),
            ("src", "srcs", false),
            ("src/**", "src/a/b", true),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("\\*x", "*x", true),
            ("*\n!keep", "keep", false),
            ("*\n!keep", "keep/this", false),
            ("!a\na", "a", true),
            ("# a\n\na", "a", true),
            ("docs\n!docs/README.md", "docs/README.md", false),
            ("[", "[", false),
            ("../a", "a", true),
        ] {
            assert_eq!(Ignore::read(text).leaves_out(path), expected, "{text:?} {path}");
        }
    }
}
