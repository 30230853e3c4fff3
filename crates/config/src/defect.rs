//! What is wrong with a text, where, and what to write instead; and how a person is told.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;

use crate::Source;

/// Whether a defect stops the configuration from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// One thing that is wrong. Its `Display` is what a person reads:
///
/// ```text
/// evenkeel.yaml:6:5: error: unknown key `endpionts` in service `web`
///  6 |     endpionts: [ :5001 ]
///    |     ^^^^^^^^^
///    = help: did you mean `endpoints`?
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    pub severity: Severity,
    /// The file's name as given in the source.
    pub file: Arc<str>,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// Characters that the caret underlines; at least 1.
    pub width: usize,
    /// The line it stands in, or the part of a long line around the place.
    pub snippet: String,
    /// Characters of `snippet` before the place.
    pub indent: usize,
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let Self { file, line, column, message, snippet, .. } = self;
        write!(f, "{file}:{line}:{column}: {severity}: {message}")?;
        let gutter = " ".repeat(line.to_string().len());
        // A tab is as wide as the terminal says: the caret's line repeats it.
        let same_width = |c| if c == '\t' { '\t' } else { ' ' };
        let indent: String = snippet.chars().take(self.indent).map(same_width).collect();
        let carets = "^".repeat(self.width);
        write!(f, "\n {line} | {snippet}\n {gutter} | {indent}{carets}")?;
        if let Some(help) = &self.help {
            write!(f, "\n {gutter} = help: {help}")?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a text, in the order of its lines: one error at least, and the
/// warnings too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defects(pub Vec<Defect>);

impl Defects {
    pub fn iter(&self) -> std::slice::Iter<'_, Defect> {
        self.0.iter()
    }
    /// `FILE:LINE:COLUMN: MESSAGE; HELP` of the first error, and how many there are more.
    pub fn in_one_line(&self) -> String {
        let mut errors = self.0.iter().filter(|d| d.severity == Severity::Error);
        let Some(Defect { file, line, column, message, help, .. }) = errors.next() else {
            return String::new();
        };
        let help = help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
        let more = match errors.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        format!("{file}:{line}:{column}: {message}{help}{more}")
    }
    /// How many of them are errors.
    pub fn errors(&self) -> usize {
        self.0.iter().filter(|d| d.severity == Severity::Error).count()
    }
}

impl fmt::Display for Defects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, defect) in self.0.iter().enumerate() {
            write!(f, "{}{defect}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Defects {}

/// A place in the text, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

/// Errors, and warnings, reported for one text, so that a file that is wrong throughout neither fills the
/// terminal nor takes long; more errors are counted.
pub(crate) const DEFECTS_MAX: usize = 100;

/// Where defects are gathered while a text is read.
pub struct Report<'a> {
    source: Source<'a>,
    file: Arc<str>,
    /// Further texts that are read with it, by the place where their spans begin.
    further: RefCell<Vec<Further>>,
    /// Apart, so that no number of warnings crowds out an error.
    errors: RefCell<Vec<(Span, Defect)>>,
    warnings: RefCell<Vec<(Span, Defect)>>,
    errors_hidden: Cell<usize>,
}

/// A text whose places come after those of all texts before it.
struct Further {
    base: u32,
    file: Arc<str>,
    text: Arc<str>,
}

impl<'a> Report<'a> {
    pub fn new(source: Source<'a>) -> Self {
        let file = source.name.into();
        Self {
            source,
            file,
            further: RefCell::default(),
            errors: RefCell::default(),
            warnings: RefCell::default(),
            errors_hidden: Cell::new(0),
        }
    }

    /// Takes in a further text, so that one tree can hold what several files say. Answers what
    /// to add to the text's own places ([`crate::tree::read_at`]); `None` if all together is more
    /// than places can be told of, 4 GiB.
    pub fn include(&self, source: Source<'_>) -> Option<u32> {
        let mut further = self.further.borrow_mut();
        let (base, text) = match further.last() {
            Some(last) => (last.base, last.text.len()),
            None => (0, self.source.text.len()),
        };
        // Between two texts is one place that is the end of the first.
        let base = base.checked_add(u32::try_from(text).ok()?)?.checked_add(1)?;
        base.checked_add(u32::try_from(source.text.len()).ok()?)?;
        further.push(Further { base, file: source.name.into(), text: source.text.into() });
        Some(base)
    }

    /// The file's name and text that a place is in, and the place in that text.
    fn locate<T>(&self, span: Span, use_it: impl FnOnce(&Arc<str>, &str, Span) -> T) -> T {
        let further = self.further.borrow();
        match further.iter().rev().find(|further| further.base <= span.start) {
            Some(Further { base, file, text }) => {
                let local = Span { start: span.start - base, end: span.end.saturating_sub(*base) };
                use_it(file, text, local)
            }
            None => use_it(&self.file, self.source.text, span),
        }
    }

    pub fn error(&self, span: Span, message: impl Into<String>) {
        self.add(Severity::Error, span, message.into(), None);
    }

    pub fn error_help(&self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.add(
            Severity::Error,
            span,
            message.into(),
            Some(help.into()).filter(|h| !h.is_empty()),
        );
    }

    pub fn warning(&self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Warning, span, message.into(), Some(help.into()));
    }

    /// The line of a place, from 1.
    pub fn line(&self, span: Span) -> usize {
        self.locate(span, |_, text, span| Place::of(text, span).line)
    }

    /// The place of byte `at` of a scalar whose text is `text`, if it is written there as it is
    /// (in quotes or not), else the scalar's own place.
    pub fn inside(&self, span: Span, text: &str, at: usize) -> Span {
        let found = self.locate(span, |_, whole, span| {
            whole.get(span.start as usize..span.end as usize)?.find(text)
        });
        match found {
            Some(offset) => {
                let start = span.start + (offset + at.min(text.len())) as u32;
                Span { start, end: start }
            }
            None => span,
        }
    }

    /// How many errors there are so far: equal before and after reading something that is right.
    pub fn errors(&self) -> usize {
        self.errors.borrow().len() + self.errors_hidden.get()
    }

    /// Whether more errors would only be counted: costly suggestions can be left out.
    pub fn is_full(&self) -> bool {
        self.errors.borrow().len() >= DEFECTS_MAX
    }

    fn add(&self, severity: Severity, span: Span, message: String, help: Option<String>) {
        let mut found = match severity {
            Severity::Error => self.errors.borrow_mut(),
            Severity::Warning => self.warnings.borrow_mut(),
        };
        // Two readers of one value say the same of it.
        if found.iter().any(|(other, defect)| *other == span && defect.message == message) {
            return;
        }
        if found.len() < DEFECTS_MAX {
            found.push((span, self.defect(severity, span, message, help)));
        } else if severity == Severity::Error {
            self.errors_hidden.set(self.errors_hidden.get() + 1);
        }
    }

    pub(crate) fn defect(
        &self,
        severity: Severity,
        span: Span,
        message: String,
        help: Option<String>,
    ) -> Defect {
        let (file, place) =
            self.locate(span, |file, text, span| (Arc::clone(file), Place::of(text, span)));
        Defect {
            severity,
            file,
            line: place.line,
            column: place.column,
            width: place.width,
            snippet: place.snippet,
            indent: place.indent,
            message,
            help,
        }
    }

    /// The warnings if there is no error, else everything; in the order of the text.
    pub fn finish(self) -> Result<Vec<Defect>, Defects> {
        let warnings = self.finish_with_places()?;
        Ok(warnings.into_iter().map(|(_, warning)| warning).collect())
    }

    /// The same, with the place of each warning in bytes.
    pub(crate) fn finish_with_places(self) -> Result<Vec<(Span, Defect)>, Defects> {
        let mut found = self.errors.take();
        if let (hidden @ 1.., Some((_, last))) = (self.errors_hidden.get(), found.last_mut()) {
            last.message += &format!(" (and {hidden} more errors)");
        }
        let failed = !found.is_empty();
        found.append(&mut self.warnings.take());
        found.sort_by_key(|(span, _)| *span);
        if failed {
            return Err(Defects(found.into_iter().map(|(_, defect)| defect).collect()));
        }
        Ok(found)
    }
}

/// A span as a person sees it.
struct Place {
    line: usize,
    column: usize,
    width: usize,
    snippet: String,
    indent: usize,
}

/// Characters of a line that is shown whole.
const SNIPPET_CHARS_MAX: usize = 160;
/// Characters shown on either side of the place in a longer line.
const SNIPPET_SIDE_CHARS: usize = 70;

impl Place {
    fn of(text: &str, span: Span) -> Self {
        let start = floor_char_boundary(text, span.start as usize);
        let end = floor_char_boundary(text, span.end as usize).max(start);
        let (before, after) = text.split_at(start);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_before = &before[line_start..];
        let line_after = after.split('\n').next().unwrap_or("").trim_end();
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let column = line_before.chars().count() + 1;

        let printable = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
        let line_chars = column - 1 + line_after.chars().count();
        let (mut shown_before, mut shown_after) =
            (String::from(line_before), String::from(line_after));
        if line_chars > SNIPPET_CHARS_MAX {
            let skip = (column - 1).saturating_sub(SNIPPET_SIDE_CHARS);
            let cut = if skip > 0 { "..." } else { "" };
            shown_before = cut.chars().chain(line_before.chars().skip(skip)).collect();
            shown_after = line_after.chars().take(SNIPPET_SIDE_CHARS).collect();
            if shown_after.len() < line_after.len() {
                shown_after.push_str("...");
            }
        }
        let indent = shown_before.chars().count();
        let width = text[start..end].chars().take_while(|c| !matches!(c, '\n' | '\r')).count();
        let width = width.clamp(1, shown_after.chars().count().max(1));
        let snippet = shown_before.chars().chain(shown_after.chars()).map(printable).collect();
        Self { line, column, width, snippet, indent }
    }
}

/// The last boundary of a character at or before `at`.
fn floor_char_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
