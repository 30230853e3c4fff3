//! A Rust file, taken apart just far enough for the checks: which bytes are code, comment or
//! literal, which lines only tests compile, which paths are named, where functions begin and end.
//!
//! It never fails: a file that the compiler refuses is the compiler's to report.

mod lexer;
mod paths;

pub(crate) use paths::Named;

pub(crate) struct Source {
    /// The file with everything that is not code blanked out, byte for byte.
    code: String,
    /// The file with everything that is not a comment blanked out.
    comments: String,
    /// Bytes that only tests compile: items under `#[cfg(test)]`.
    test_ranges: Vec<(usize, usize)>,
}

/// An attribute: `#[..]` or `#![..]`.
pub(crate) struct Attribute<'a> {
    pub(crate) line: usize,
    /// What stands between the brackets; literals are blank.
    pub(crate) text: &'a str,
}

pub(crate) struct Function<'a> {
    pub(crate) name: &'a str,
    pub(crate) line: usize,
    pub(crate) lines: usize,
    /// Signature and body.
    pub(crate) code: &'a str,
    start: usize,
}

impl Function<'_> {
    pub(crate) fn contains(&self, offset: usize) -> bool {
        (self.start..self.start + self.code.len()).contains(&offset)
    }
}

impl Source {
    pub(crate) fn new(text: &str) -> Source {
        let (code, comments) = lexer::separate(text);
        let test_ranges = test_ranges(&code);
        Source { code, comments, test_ranges }
    }

    pub(crate) fn code(&self) -> &str {
        &self.code
    }

    pub(crate) fn comments(&self) -> &str {
        &self.comments
    }

    pub(crate) fn lines(&self) -> usize {
        self.code.lines().count()
    }

    pub(crate) fn line_of(&self, offset: usize) -> usize {
        line_of(&self.code, offset)
    }

    pub(crate) fn is_test(&self, offset: usize) -> bool {
        self.test_ranges.iter().any(|(start, end)| (*start..*end).contains(&offset))
    }

    /// Every path in the code: those written out, and those that `use` declarations bring in.
    pub(crate) fn paths(&self) -> Vec<Named> {
        paths::named(&self.code)
    }

    /// Does the code use this word as a whole identifier, followed by `then`? Offsets of each.
    pub(crate) fn words<'a>(&'a self, word: &'a str, then: &'a str) -> Vec<usize> {
        let whole = |start: usize| {
            let before = self.code[..start].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
                && self.code[start + word.len()..].trim_start().starts_with(then)
        };
        self.code.match_indices(word).map(|(start, _)| start).filter(|&s| whole(s)).collect()
    }

    pub(crate) fn attributes(&self) -> Vec<Attribute<'_>> {
        let mut found = Vec::new();
        for (start, _) in self.code.match_indices('#') {
            let rest = self.code[start + 1..].trim_start_matches('!');
            let open = self.code.len() - rest.len();
            if rest.starts_with('[') {
                let end = closing(&self.code, open);
                found
                    .push(Attribute { line: self.line_of(start), text: &self.code[open + 1..end] });
            }
        }
        found
    }

    /// Every function that has a body.
    pub(crate) fn functions(&self) -> Vec<Function<'_>> {
        let mut found = Vec::new();
        for start in self.words("fn", "") {
            let rest = self.code[start + 2..].trim_start();
            let name = &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(0)];
            if let Some(end) = end_of_item(&self.code, start).filter(|_| !name.is_empty()) {
                let line = self.line_of(start);
                let lines = self.line_of(end) - line + 1;
                let code = &self.code[start..=end];
                found.push(Function { name, line, lines, code, start });
            }
        }
        found
    }
}

pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

fn test_ranges(code: &str) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    for (start, _) in code.match_indices("#[cfg(") {
        let end = closing(code, start + 1);
        let attribute = &code[start..end];
        let tests = attribute.starts_with("#[cfg(test)") || attribute.starts_with("#[cfg(all(test");
        if tests {
            ranges.push((start, end_of_item(code, end + 1).unwrap_or(end) + 1));
        }
    }
    ranges
}

/// Where the bracket that opens at `open` closes; the end of the text if it never does.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return offset;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// The last byte of the item that begins at `start`: the brace that closes its body, or `;`.
/// Bodiless items answer their `;` too, so that callers can tell them by the byte.
fn end_of_item(code: &str, start: usize) -> Option<usize> {
    let bytes = code.as_bytes();
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            b'(' | b'[' => at = closing(code, at),
            b'{' => return Some(closing(code, at).min(code.len() - 1)),
            b';' => return Some(at),
            b'}' => return None,
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_under_cfg_test_are_test_code() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { } }\nfn c() {}\n";
        let source = Source::new(text);
        let is_test = |name: &str| source.is_test(text.find(name).unwrap());
        assert_eq!([is_test("fn a"), is_test("fn b"), is_test("fn c")], [false, true, false]);
    }

    #[test]
    fn functions_know_their_length() {
        let source = Source::new("trait T { fn none(&self); }\nfn long(\n  a: [u8; 2],\n) {\n}\n");
        let found: Vec<_> = source.functions().iter().map(|f| (f.name, f.line, f.lines)).collect();
        assert_eq!(found, [("none", 1, 1), ("long", 2, 4)]);
    }

    #[test]
    fn words_are_whole_and_followed() {
        let source = Source::new("sleep(1); my_sleep(2); sleep (3); let sleep = 4; // sleep(5)");
        assert_eq!(source.words("sleep", "(").len(), 2);
    }

    #[test]
    fn attributes_keep_their_text_and_lose_their_literals() {
        let source = Source::new("#![allow(x, reason = \"y [\")]\n#[ignore] fn a() {}");
        let texts: Vec<_> = source.attributes().iter().map(|a| a.text).collect();
        assert_eq!(texts, ["allow(x, reason = \"   \")", "ignore"]);
    }
}
