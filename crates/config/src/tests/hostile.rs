//! Texts that mean harm, or nothing.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::reading::{DESIGN, FULL};
use super::{good, read};

/// The first message.
fn refused(text: &str) -> String {
    let defects = read(text).expect_err("refused");
    assert!(!defects.to_string().is_empty());
    defects.0[0].message.clone()
}

#[test]
fn depth_size_and_aliases_are_bounded() {
    let flow = "[".repeat(100_000);
    assert_eq!(refused(&flow), "more than 32 maps or lists inside each other");
    let block: String = (0..1000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert_eq!(refused(&block), "more than 32 maps or lists inside each other");
    let long = "#".repeat(crate::tree::TEXT_BYTES_MAX + 1);
    assert_eq!(refused(&long), "the text is longer than 8 MiB");

    let mut laughs = String::from("a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]\n");
    for n in 1..20 {
        let before = format!("*a{}, ", n - 1).repeat(10);
        writeln!(laughs, "a{n}: &a{n} [{before}]").unwrap();
    }
    assert!(refused(&laughs).starts_with("more than 1000000 values"));
    assert!(refused("a: &a [ *a ]").contains("inside the very node"));
}

#[test]
fn a_file_that_is_wrong_throughout_is_refused_quickly_and_shortly() {
    let mut text = String::from("listeners:\n  web:\n    bind: :80\n    routes:\n");
    for n in 0..20_000 {
        writeln!(text, "      - {{ path: /{n}, service: servise-{n} }}").unwrap();
    }
    text += "services:\n";
    for n in 0..20_000 {
        writeln!(text, "  service-{n}: {{ endpoints: [ :1 ] }}").unwrap();
    }
    let defects = read(&text).unwrap_err();
    assert_eq!(defects.errors(), 100);
    assert!(defects.to_string().contains("(and 19900 more errors)"), "{defects}");
}

#[test]
fn one_very_long_line_is_cut() {
    let text = format!("listeners: {{ web: {{ bind: :80, {}x: 1 }} }}", "     ".repeat(100_000));
    let defects = read(&text).unwrap_err();
    assert!(defects.to_string().len() < 2000);
}

#[test]
fn ten_thousand_routes_are_read() {
    let mut text = String::from(
        "services: { web: { endpoints: [ :1 ] } }\nlisteners:\n  web:\n    bind: :80\n    routes:\n",
    );
    for n in 0..10_000 {
        writeln!(text, "      - {{ host: h{n}.example.com, path: /a/{n}/*, service: web }}")
            .unwrap();
    }
    assert_eq!(good(&text).spec.listeners["web"].routes.len(), 10_000);
}

/// Changes a text in the way that typing errors and broken tools do.
fn broken(text: &str, edits: &[(usize, u8, char)]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for (at, how, c) in edits {
        let at = at % chars.len().max(1);
        match how % 4 {
            0 => chars.insert(at, *c),
            1 => chars[at] = *c,
            2 => drop(chars.remove(at)),
            _ => {
                let end = (at + 40).min(chars.len());
                let piece: Vec<char> = chars[at..end].to_vec();
                let to = (*c as usize) % chars.len();
                chars.splice(to..to, piece);
            }
        }
        if chars.is_empty() {
            break;
        }
    }
    chars.into_iter().collect()
}

fn yaml_char() -> impl Strategy<Value = char> {
    prop_oneof![
        prop::sample::select(
            " \t\n\r:-[]{},#&*!|>'\"%@`~?<=.0159aZ/$\\\u{feff}\u{0}é".chars().collect::<Vec<_>>()
        ),
        any::<char>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn no_text_panics(text in prop::collection::vec(yaml_char(), 0..200)) {
        let text: String = text.into_iter().collect();
        if let Err(defects) = read(&text) {
            prop_assert!(defects.errors() > 0);
            let _ = defects.to_string();
        }
    }

    #[test]
    fn no_edit_panics(
        full in any::<bool>(),
        edits in prop::collection::vec((any::<usize>(), any::<u8>(), yaml_char()), 1..6),
    ) {
        let text = broken(if full { FULL } else { DESIGN }, &edits);
        if let Err(defects) = read(&text) {
            for defect in defects.iter() {
                prop_assert!(!defect.message.is_empty());
                prop_assert!(defect.line >= 1 && defect.column >= 1 && defect.width >= 1);
                prop_assert!(defect.line <= text.split('\n').count());
            }
            let _ = defects.to_string();
        }
    }

    #[test]
    fn no_scalar_panics(text in "\\PC{0,40}") {
        let _ = (crate::parse_duration(&text), crate::parse_bytes(&text));
        let _ = (crate::parse_bind(&text), crate::parse_endpoint_address(&text));
    }

    #[test]
    fn no_scalar_panics_in_place(key in 0..40_usize, value in "[-~*$^()\\[\\]{}a-z0-9:/%.\\\\ ]{0,20}") {
        let keys = [
            "host", "path", "method", "service", "redirect", "respond", "bind", "protocol", "to",
            "interval", "expect", "command", "budget", "on", "weight", "address", "token",
            "access_log", "policy", "trusted", "request_id", "https", "header_bytes", "prefix",
        ];
        let key = keys[key % keys.len()];
        let quoted = serde_json::Value::from(value).to_string();
        let at = FULL.find(&format!("{key}: ")).expect("in the text") + key.len() + 2;
        let end = FULL[at..].find([',', '}', '\n']).map_or(FULL.len(), |end| at + end);
        let text = format!("{}{quoted} {}", &FULL[..at], &FULL[end..]);
        let _ = read(&text).map_err(|defects| defects.to_string());
    }
}
