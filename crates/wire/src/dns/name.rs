use std::fmt;
use std::hash::{Hash, Hasher};

use super::message::HEADER_BYTES;

/// Bytes of a name as it is sent, its lengths and its end included (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 255;
/// Bytes between two dots.
const LABEL_BYTES_MAX: usize = 63;

/// A name, without regard to the case of ASCII letters (RFC 4343), though it keeps it.
#[derive(Clone)]
pub struct Name {
    /// As it is sent, uncompressed: each label behind its length, and the empty one of the root.
    wire: Box<[u8]>,
}

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameDefect {
    EmptyLabel,
    LongLabel,
    LongName,
}

impl fmt::Display for NameDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NameDefect::EmptyLabel => "it has nothing between two dots",
            NameDefect::LongLabel => "it has more than 63 bytes between two dots",
            NameDefect::LongName => "it has more than 253 bytes",
        })
    }
}

impl Name {
    pub fn root() -> Self {
        Self { wire: [0].into() }
    }

    /// Text with dots between its labels, with or without one at its end.
    pub fn from_text(text: &str) -> Result<Self, NameDefect> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Ok(Self::root());
        }
        Self::of(text.split('.').map(str::as_bytes))
    }

    /// The outermost (`www`) first.
    pub fn of<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, NameDefect> {
        let mut wire = Vec::with_capacity(32);
        for label in labels {
            let length = u8::try_from(label.len()).map_err(|_| NameDefect::LongLabel)?;
            match label.len() {
                0 => return Err(NameDefect::EmptyLabel),
                1..=LABEL_BYTES_MAX => {}
                _ => return Err(NameDefect::LongLabel),
            }
            wire.push(length);
            wire.extend_from_slice(label);
            if wire.len() >= NAME_BYTES_MAX {
                return Err(NameDefect::LongName);
            }
        }
        wire.push(0);
        Ok(Self { wire: wire.into() })
    }

    /// The outermost first.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.wire;
        std::iter::from_fn(move || {
            let (&length, after) = rest.split_first()?;
            let label = after.get(..usize::from(length)).filter(|label| !label.is_empty())?;
            rest = &after[label.len()..];
            Some(label)
        })
    }

    pub fn is_root(&self) -> bool {
        self.wire.len() == 1
    }

    /// Itself, then without its first label, and so on; without the root.
    pub(super) fn suffixes(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.wire;
        std::iter::from_fn(move || {
            let suffix = rest;
            let length = usize::from(*suffix.first()?);
            rest = suffix.get(1 + length..)?;
            (length > 0).then_some(suffix)
        })
    }

    pub(super) fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// The labels before `suffix`; `None` if it is not below it, nor it itself.
    pub fn below(&self, suffix: &Name) -> Option<Vec<&[u8]>> {
        let (own, of): (Vec<_>, Vec<_>) = (self.labels().collect(), suffix.labels().collect());
        let (before, rest) = own.split_at_checked(own.len().checked_sub(of.len())?)?;
        let same = rest.iter().zip(&of).all(|(a, b)| a.eq_ignore_ascii_case(b));
        same.then(|| before.to_vec())
    }
}

impl std::str::FromStr for Name {
    type Err = NameDefect;

    fn from_str(text: &str) -> Result<Self, NameDefect> {
        Self::from_text(text)
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        // A length is below 64, and so no letter.
        self.wire.eq_ignore_ascii_case(&other.wire)
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let lower = |name: &'_ Self| name.wire.to_ascii_lowercase();
        lower(self).cmp(&lower(other))
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.wire.to_ascii_lowercase().hash(state);
    }
}

/// With dots between its labels and none at its end; bytes that are no visible ASCII as `\DDD`
/// (RFC 1035, section 5.1).
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for (at, label) in self.labels().enumerate() {
            if at > 0 {
                f.write_str(".")?;
            }
            for &byte in label {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(byte))?,
                    0x21..=0x7e => write!(f, "{}", char::from(byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Reads a name at `at` of a message; answers it and where the bytes after it begin. Pointers
/// (RFC 1035, section 4.1.4) only lead backwards, so that none leads in a circle, and never into the
/// header, where no name can be.
pub(super) fn read(message: &[u8], at: usize) -> Option<(Name, usize)> {
    let mut wire = Vec::with_capacity(32);
    let (mut at, mut end, mut first) = (at, None, at);
    loop {
        let length = *message.get(at)?;
        match length {
            0 => {
                wire.push(0);
                let name = Name { wire: wire.into() };
                return Some((name, end.unwrap_or(at + 1)));
            }
            1..=0x3f => {
                let label = message.get(at..=at + usize::from(length))?;
                if wire.len() + label.len() >= NAME_BYTES_MAX {
                    return None;
                }
                wire.extend_from_slice(label);
                at += label.len();
            }
            0xc0.. => {
                let to = usize::from(length & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
                end = end.or(Some(at + 2));
                if !(HEADER_BYTES..first).contains(&to) {
                    return None;
                }
                (at, first) = (to, to);
            }
            _ => return None,
        }
    }
}
