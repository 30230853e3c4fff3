//! What is wrong with a text, where, and what to write instead; and how a person is told.

use std::fmt;
use std::sync::Arc;

/// Whether a defect stops the configuration from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// One thing that is wrong. Its `Display` is what a person reads.
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
    /// The line it stands in, without its end.
    pub snippet: String,
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

/// Lines longer than this many characters are cut around the caret, so that a hostile or generated
/// file does not fill the terminal.
const SNIPPET_CHARS_MAX: usize = 120;

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let Self { file, line, column, message, .. } = self;
        write!(f, "{file}:{line}:{column}: {severity}: {message}")?;
        let gutter = " ".repeat(line.to_string().len());
        let (text, caret) = self.window();
        // A tab is as wide as the terminal says: the caret's line repeats it.
        let indent: String =
            text.chars().take(caret).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let room = text.chars().count().saturating_sub(caret).max(1);
        let carets = "^".repeat(self.width.clamp(1, room));
        write!(f, "\n {line} | {text}\n {gutter} | {indent}{carets}")?;
        if let Some(help) = &self.help {
            write!(f, "\n {gutter} = help: {help}")?;
        }
        Ok(())
    }
}

impl Defect {
    /// The part of the line to show, and where in it the caret begins.
    fn window(&self) -> (String, usize) {
        let caret = self.column.saturating_sub(1);
        let printable = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
        let start = if self.snippet.chars().count() <= SNIPPET_CHARS_MAX {
            0
        } else {
            caret.saturating_sub(SNIPPET_CHARS_MAX / 2)
        };
        let text = self.snippet.chars().skip(start).take(SNIPPET_CHARS_MAX).map(printable);
        (text.collect::<String>().trim_end().into(), caret - start)
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
