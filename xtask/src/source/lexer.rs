//! Splits a Rust file into code and comments, by the lexical rules of the Rust reference
//! (comments nest; raw strings end at their own number of `#`; `'a` may be a lifetime).

#[derive(Clone, Copy, PartialEq)]
enum Class {
    Code,
    Comment,
    Literal,
}

/// The code alone and the comments alone, each as long as `text`, all else blank. The quotes of a
/// literal count as code, so that `= ""` is seen to have one.
pub(super) fn separate(text: &str) -> (String, String) {
    let classes = classify(text.as_bytes());
    (keep(text, &classes, Class::Code), keep(text, &classes, Class::Comment))
}

fn keep(text: &str, classes: &[Class], wanted: Class) -> String {
    let kept = text.bytes().zip(classes).map(|(byte, class)| match byte {
        b'\n' => '\n',
        _ if *class == wanted && byte.is_ascii() => char::from(byte),
        _ => ' ',
    });
    kept.collect()
}

fn classify(text: &[u8]) -> Vec<Class> {
    let mut classes = vec![Class::Code; text.len()];
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let (length, class) = if rest.starts_with(b"//") {
            (line_comment(rest), Class::Comment)
        } else if rest.starts_with(b"/*") {
            (block_comment(rest), Class::Comment)
        } else if rest[0] == b'"' {
            (string(rest), Class::Literal)
        } else if rest[0] == b'r' && !continues_a_word(text, at) {
            (raw_string(rest), Class::Literal)
        } else if rest[0] == b'\'' {
            (character(rest), Class::Literal)
        } else {
            (0, Class::Code)
        };
        let end = (at + length).min(text.len());
        let inner = if class == Class::Literal && length >= 2 { at + 1..end - 1 } else { at..end };
        classes[inner].fill(class);
        at = end.max(at + 1);
    }
    classes
}

fn continues_a_word(text: &[u8], at: usize) -> bool {
    // `br".."` and `cr".."` are raw strings too; `var` is not.
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match text[..at] {
        [.., before, b'b' | b'c'] => is_word(before),
        [b'b' | b'c'] => false,
        [.., before] => is_word(before),
        [] => false,
    }
}

fn line_comment(rest: &[u8]) -> usize {
    rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of the raw string that begins here; 0 if this `r` begins none.
fn raw_string(rest: &[u8]) -> usize {
    let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let body = 2 + hashes;
    let found = rest[body..].windows(end.len()).position(|window| window == end);
    found.map_or(rest.len(), |position| body + position + end.len())
}

/// Length of the character literal that begins here; 0 if the quote begins a lifetime.
fn character(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        let close = rest.iter().skip(3).position(|byte| *byte == b'\'');
        return close.map_or(0, |position| position + 4);
    }
    let text = String::from_utf8_lossy(&rest[1..rest.len().min(6)]);
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(character), Some('\'')) => character.len_utf8() + 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::separate;

    fn check(text: &str, code: &str, comments: &str) {
        let (found_code, found_comments) = separate(text);
        assert_eq!((found_code.trim_end(), found_comments.trim()), (code, comments), "{text}");
        assert_eq!(found_code.len(), text.len());
    }

    #[test]
    fn code_comments_and_literals_are_told_apart() {
        check("a // b", "a", "// b");
        check("a /* b /* c */ d */ e", "a                   e", "/* b /* c */ d */");
        check(r#"x = "// \" y"; z"#, r#"x = "       "; z"#, "");
        check(r##"r#"a"b"# c"##, "r      # c", "");
        check("br\"x\" var\"y\"", "br  \" var\" \"", "");
        check("'a' 'b: '\\'' '\\n' ';'", "' ' 'b: '  ' '  ' ' '", "");
        check("let \u{e9} = '\u{e9}';", "let    = '  ';", "");
    }

    #[test]
    fn whatever_is_left_open_runs_to_the_end() {
        for text in ["\"abc", "/* abc", "r#\"abc", "'", "'\\", "r", "\"\\"] {
            separate(text);
        }
    }
}
