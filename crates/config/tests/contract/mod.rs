//! What must hold of any texts, however they come; the fuzz target and the corpus's test share it.

use std::sync::Arc;

use config::{Checked, Defect, Defects, Reader, Source, parse};
use model::spec::Spec;
use model::vocabulary::Vocabulary;

const VOCABULARY: Vocabulary = Vocabulary { policies: &[] };

/// A text, and behind each zero byte an edit of the text before: where (two bytes, low first), how
/// many bytes go (one), and what comes instead. Each is read as if it were the first. An edit of a text
/// that is refused is one of the last good one if `where` is odd.
pub(crate) fn config_reader(data: &[u8]) {
    let mut reader = Reader::new(VOCABULARY);
    let mut pieces = data.split(|byte| *byte == 0);
    let mut text = pieces.next().unwrap_or_default().to_vec();
    let mut good = text.clone();
    read(&mut reader, &text);
    for piece in pieces {
        let [low, high, gone, new @ ..] = piece else { continue };
        let at = usize::from(u16::from_le_bytes([*low, *high])).min(text.len());
        let end = (at + usize::from(*gone)).min(text.len());
        text.splice(at..end, new.iter().copied());
        if read(&mut reader, &text) {
            good.clone_from(&text);
        } else if low % 2 == 1 {
            text.clone_from(&good);
        }
    }
}

/// Whether it is a configuration.
fn read(reader: &mut Reader, text: &[u8]) -> bool {
    let text: Arc<str> = String::from_utf8_lossy(text).into();
    let whole = outcome(parse(&Source { name: "fuzz", text: &text }, &VOCABULARY));
    let read = outcome(reader.read("fuzz", &text));
    assert_eq!(read, whole, "{text:?}");
    assert_eq!(format!("{read:?}"), format!("{whole:?}"), "{text:?}");
    whole.is_ok()
}

fn outcome(checked: Result<Checked, Defects>) -> Result<(Spec, Vec<Defect>), Vec<Defect>> {
    checked.map(|checked| (checked.spec, checked.warnings)).map_err(|defects| defects.0)
}
