//! Shows how far a pull, a push or a build is: bars on a terminal, lines elsewhere. Pure: updates
//! in, text out.

use std::fmt::Write as _;

use crate::engine::Update;

/// Layers that are shown at once; more are counted.
const LAYERS_MAX: usize = 12;

/// Characters of a bar.
const BAR: usize = 24;

/// One transfer.
pub struct Progress {
    terminal: bool,
    /// In the order of their first mention.
    layers: Vec<Update>,
    /// Lines on the terminal that are written over.
    shown: usize,
}

impl Progress {
    /// `terminal`: lines can be written over.
    pub fn new(terminal: bool) -> Self {
        Self { terminal, layers: Vec::new(), shown: 0 }
    }

    /// What is to be written now; empty: nothing.
    pub fn take(&mut self, update: Update) -> String {
        if !update.stream.is_empty() {
            return update.stream;
        }
        if update.status.is_empty() {
            return String::new();
        }
        if update.id.is_empty() || update.id.contains([' ', '/']) {
            return format!("{}\n", update.status);
        }
        let known = self.layers.iter_mut().find(|layer| layer.id == update.id);
        let is_news = known.as_ref().is_none_or(|layer| layer.status != update.status);
        let line = format!("{}: {}\n", update.id, update.status);
        match known {
            Some(layer) => *layer = update,
            None => self.layers.push(update),
        }
        match (self.terminal, is_news) {
            (true, _) => self.redraw(),
            (false, true) => line,
            (false, false) => String::new(),
        }
    }

    fn redraw(&mut self) -> String {
        let mut text = String::new();
        if self.shown > 0 {
            // Up, to the first column, and clear below (ECMA-48 CPL and ED).
            let _ = write!(text, "\x1b[{}F\x1b[J", self.shown);
        }
        let done = |layer: &&Update| layer.status.ends_with("complete") || layer.status == "Pushed";
        let finished = self.layers.iter().filter(done).count();
        let active: Vec<&Update> = self.layers.iter().filter(|layer| !done(layer)).collect();
        let _ = writeln!(text, "{finished} of {} layers", self.layers.len());
        for layer in active.iter().take(LAYERS_MAX) {
            let _ = writeln!(text, "  {} {:<18} {}", layer.id, layer.status, bar(layer));
        }
        self.shown = 1 + active.len().min(LAYERS_MAX);
        text
    }
}

fn bar(layer: &Update) -> String {
    if layer.total == 0 {
        return String::new();
    }
    let current = layer.current.min(layer.total);
    let full = (current as u128 * BAR as u128 / u128::from(layer.total)) as usize;
    let mega = |bytes: u64| bytes as f64 / 1e6;
    format!(
        "[{}{}] {:.1} of {:.1} MB",
        "=".repeat(full),
        " ".repeat(BAR - full),
        mega(current),
        mega(layer.total)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(id: &str, status: &str, current: u64, total: u64) -> Update {
        Update { id: id.into(), status: status.into(), current, total, ..Update::default() }
    }

    #[test]
    fn bars_on_a_terminal_and_lines_elsewhere() {
        let mut bars = Progress::new(true);
        let text = bars.take(layer("abc", "Downloading", 5_000_000, 10_000_000));
        assert_eq!(
            text,
            "0 of 1 layers\n  abc Downloading        [============            ] 5.0 of 10.0 MB\n"
        );
        let text = bars.take(layer("abc", "Pull complete", 0, 0));
        assert_eq!(text, "\x1b[2F\x1b[J1 of 1 layers\n");

        let mut lines = Progress::new(false);
        assert_eq!(lines.take(layer("abc", "Downloading", 1, 2)), "abc: Downloading\n");
        assert_eq!(lines.take(layer("abc", "Downloading", 2, 2)), "");
        assert_eq!(lines.take(layer("abc", "Pull complete", 0, 0)), "abc: Pull complete\n");
        // More than there is must not make a bar longer than it can be.
        assert!(bar(&layer("x", "Pushing", 9, 3)).starts_with("[========================]"));
        let step = Update { stream: "Step 1/2".into(), ..Update::default() };
        assert_eq!(lines.take(step), "Step 1/2");
    }
}
