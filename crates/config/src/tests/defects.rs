//! What is said of wrong texts, word for word. The cases stand in `defects.txt`: a title, a text,
//! and what a person reads; `UPDATE=1 cargo test -p config` writes what is said now, to be read
//! before it is committed.

use super::read;

const CASES: &str = include_str!("defects.txt");
const TITLE: &str = "######## ";
const SAID: &str = "-------- said\n";

#[test]
#[expect(clippy::disallowed_methods, reason = "UPDATE writes the cases")]
fn defects_are_said_as_written() {
    let mut now = String::new();
    for case in CASES.split(TITLE).skip(1) {
        let (title, case) = case.split_once('\n').unwrap();
        let (text, _) = case.split_once(SAID).unwrap_or((case, ""));
        let said = match read(text) {
            Ok(checked) => checked.warnings.iter().map(|w| format!("{w}\n")).collect(),
            Err(defects) => format!("{defects}\n"),
        };
        assert_ne!(said, "", "{title}: nothing is wrong");
        now += &format!("{TITLE}{title}\n{text}{SAID}{said}");
    }
    if std::env::var_os("UPDATE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/defects.txt");
        std::fs::write(path, &now).unwrap();
    } else if now != CASES {
        for (now, expected) in now.split(TITLE).zip(CASES.split(TITLE)) {
            assert_eq!(now, expected, "\n{now}\n--- expected:\n{expected}");
        }
        panic!("the file of cases has something before its first title");
    }
}
