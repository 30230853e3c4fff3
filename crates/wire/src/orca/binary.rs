//! The message in the binary format of protobuf, in base64 (RFC 4648 section 4, padded or not).

use super::LoadReport;
use crate::protobuf::{Fields, Value};

/// Bytes of a message that is looked at.
const MESSAGE_BYTES_MAX: usize = 4096;

pub(super) fn decode_base64(text: &[u8]) -> Option<LoadReport> {
    let mut message = [0; MESSAGE_BYTES_MAX];
    let count = base64(text, &mut message)?;
    decode_message(&message[..count])
}

/// Writes what `text` stands for to `into`; `None` if it does not fit, or is no base64.
fn base64(text: &[u8], into: &mut [u8]) -> Option<usize> {
    let padded = text.len().is_multiple_of(4);
    let digits = match text {
        [rest @ .., b'=', b'='] | [rest @ .., b'='] if padded => rest,
        rest => rest,
    };
    if digits.len() % 4 == 1 {
        return None;
    }
    let (mut bits, mut held, mut count) = (0u32, 0, 0);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            *into.get_mut(count)? = (bits >> held) as u8;
            count += 1;
            bits &= (1 << held) - 1;
        }
    }
    (bits == 0).then_some(count)
}

/// The map of named metrics: of names to doubles.
const NAMED_METRICS: u64 = 8;

/// Other fields of `OrcaLoadReport`, all of them doubles.
const FIELDS: [(u64, &[u8]); 3] =
    [(1, b"cpu_utilization"), (2, b"mem_utilization"), (9, b"application_utilization")];

fn decode_message(bytes: &[u8]) -> Option<LoadReport> {
    let mut report = LoadReport::default();
    for field in Fields::of(bytes) {
        match field.ok()? {
            (field, Value::Fixed64(value)) => {
                if let Some((_, name)) = FIELDS.iter().find(|(number, _)| *number == field) {
                    report.set(name, f64::from_le_bytes(value));
                }
            }
            (NAMED_METRICS, Value::Bytes(entry)) => {
                let (name, value) = decode_entry(entry)?;
                report.set_named(name, value);
            }
            _ => {}
        }
    }
    Some(report)
}

/// A map's entry is a message of its own: the key is field 1, the value field 2; what is left out
/// is empty, or zero.
fn decode_entry(bytes: &[u8]) -> Option<(&[u8], f64)> {
    let (mut name, mut number) = (&[][..], 0.0);
    for field in Fields::of(bytes) {
        match field.ok()? {
            (1, Value::Bytes(bytes)) => name = bytes,
            (2, Value::Fixed64(value)) => number = f64::from_le_bytes(value),
            // An entry has nothing else.
            _ => return None,
        }
    }
    Some((name, number))
}
