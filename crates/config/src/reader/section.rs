//! Where each service stands in a text.

use crate::tree::{Node, Value};

use super::stretch::Stretch;

/// `services:` at the margin, and below it names of services that are all indented alike, each on a
/// line of its own. A service's *chunk* is from the line of its name to that of the next.
pub(super) struct Section {
    /// Spaces before each name.
    pub(super) indent: usize,
    /// Where the line of each name begins, in bytes.
    starts: Vec<u32>,
    /// Where the last chunk ends: at the next section, or with the text.
    end: u32,
}

impl Section {
    /// `None` if the services are written in another way. `root`: of the whole text, of which
    /// nothing refers to another part.
    pub(super) fn of(text: &str, root: &Node) -> Option<Self> {
        let Value::Map(sections) = &root.value else { return None };
        let services = sections.iter().find(|entry| &*entry.key == "services")?;
        let Value::Map(entries) = &services.value.value else { return None };
        let head = services.key_span.start as usize;
        let next = sections.iter().map(|section| section.key_span.start as usize);
        let end = next.filter(|start| *start > head).min().unwrap_or(text.len());
        let at_margin = |at: usize| at == 0 || text.as_bytes().get(at - 1) == Some(&b'\n');
        if !at_margin(head) || (end < text.len() && !at_margin(end)) {
            return None;
        }
        let first = entries.first()?.key_span.start as usize;
        let line = text.get(..first)?.rfind('\n')? + 1;
        let rest = text.get(head..line)?.strip_prefix("services:")?;
        let mut between = rest.lines();
        let is_blank =
            |line: &str| matches!(line.trim_start_matches(' ').bytes().next(), None | Some(b'#'));
        if !between.all(is_blank) || rest.starts_with('#') {
            return None;
        }
        let indent = first - line;
        let mut section = Self { indent, starts: Vec::new(), end: u32::try_from(end).ok()? };
        for entry in entries {
            let name = entry.key_span.start;
            let start = name.checked_sub(u32::try_from(indent).ok()?)?;
            let stands = at_margin(start as usize)
                && section.starts.last().is_none_or(|last| *last < start)
                && name < section.end
                && text.get(start as usize..).and_then(|line| name_in(line, indent))
                    == Some(&*entry.key);
            if indent == 0 || !stands {
                return None;
            }
            section.starts.push(start);
        }
        Some(section)
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    pub(super) fn start(&self, chunk: usize) -> usize {
        self.starts[chunk] as usize
    }

    pub(super) fn end(&self, chunk: usize) -> usize {
        self.starts.get(chunk + 1).map_or(self.end as usize, |next| *next as usize)
    }

    /// The chunk that a byte is in; the end of the section counts to the last.
    pub(super) fn at(&self, byte: usize) -> Option<usize> {
        if byte > self.end as usize {
            return None;
        }
        self.starts.partition_point(|start| *start as usize <= byte).checked_sub(1)
    }

    /// Whose chunk it is; `text`: that of this section.
    pub(super) fn name<'a>(&self, text: &'a str, chunk: usize) -> &'a str {
        name_in(&text[self.start(chunk)..], self.indent).unwrap_or_default()
    }

    /// `starts`: of the chunks that are new in place of those of the stretch.
    pub(super) fn follow(&mut self, stretch: &Stretch, starts: Vec<u32>) {
        let moved = |at: u32| stretch.moved(at as usize) as u32;
        self.end = moved(self.end);
        self.starts[stretch.chunks.end..].iter_mut().for_each(|start| *start = moved(*start));
        self.starts.splice(stretch.chunks.clone(), starts);
    }
}

/// The name that stands behind `indent` spaces at the beginning of a text, alone with its `:` or
/// before a value.
fn name_in(text: &str, indent: usize) -> Option<&str> {
    let line = text.get(indent..).filter(|_| text.bytes().take(indent).all(|b| b == b' '))?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let length = line.bytes().take_while(|b| legal(*b)).count();
    let (name, rest) = line.split_at(length);
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let ends = matches!(rest.as_bytes(), [b':'] | [b':', b' ' | b'\n', ..]);
    (first && ends).then_some(name)
}

/// Where names stand in a piece of a section, in bytes; `None` if a line may be anything else than
/// a name, what belongs to the name above it, a comment, or empty.
pub(super) fn names(piece: &str, indent: usize) -> Option<Vec<usize>> {
    // What some readers of YAML take for the end of a line or for no text, and others do not.
    let is_doubtful =
        |c: char| c.is_control() && c != '\n' || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    if piece.contains(is_doubtful) {
        return None;
    }
    let mut names = Vec::new();
    let mut start = 0;
    for line in piece.split_inclusive('\n') {
        let text = line.trim_end_matches('\n').trim_start_matches(' ');
        let depth = line.len() - line.trim_start_matches(' ').len();
        match text.bytes().next() {
            None | Some(b'#') => {}
            Some(_) if depth > indent => {}
            Some(_) => {
                name_in(line, indent).filter(|_| depth == indent)?;
                names.push(start + indent);
            }
        }
        start += line.len();
    }
    (names.first() == Some(&indent)).then_some(names)
}
