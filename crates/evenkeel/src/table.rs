//! Tables for people: aligned columns without borders, so that they can be cut with `awk` too.

use comfy_table::{Table, presets};

use crate::output::{BOLD, RESET};

pub(crate) struct Row<const N: usize> {
    pub(crate) cells: [String; N],
    /// The cell with this index in this colour.
    pub(crate) colour: Option<(usize, &'static str)>,
}

impl<const N: usize> Row<N> {
    pub(crate) fn plain(cells: [String; N]) -> Self {
        Self { cells, colour: None }
    }
}

/// `None` if there are no rows.
pub(crate) fn render<const N: usize>(
    header: [&str; N],
    rows: impl Iterator<Item = Row<N>>,
) -> Option<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    let mut colours = Vec::new();
    for row in rows {
        // A line break in a cell would put the colours below into the wrong line.
        table.add_row(row.cells.each_ref().map(|cell| cell.replace(['\n', '\r'], " ")));
        colours.push(row.colour.map(|(cell, colour)| (row.cells[cell].clone(), colour)));
    }
    if colours.is_empty() {
        return None;
    }
    let colours = std::iter::once(None).chain(colours);
    let lines = table.lines().zip(colours).enumerate().map(|(number, (line, colour))| {
        let line = line.trim_end();
        let line = line.strip_prefix(' ').unwrap_or(line);
        match colour {
            _ if number == 0 => format!("{BOLD}{line}{RESET}"),
            // Padding stands on both sides of a cell that is not the first.
            Some((word, colour)) => {
                line.replacen(&format!(" {word} "), &format!(" {colour}{word}{RESET} "), 1)
            }
            None => line.to_owned(),
        }
    });
    Some(lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::GREEN;

    #[test]
    fn columns_are_aligned_and_cells_coloured() {
        let row =
            |a: &str, b: &str, c: &str, colour| Row { cells: [a, b, c].map(str::to_owned), colour };
        let rows = [row("web", "up", "a\nb", Some((1, GREEN))), row("images", "down", "", None)];
        let text = render(["NAME", "STATE", "REASON"], rows.into_iter()).unwrap();
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain, "NAME    STATE  REASON\nweb     up     a b\nimages  down");
        assert!(text.contains(&format!("{GREEN}up{RESET}")), "{text:?}");
        assert!(render(["NAME"], std::iter::empty::<Row<1>>()).is_none());
    }
}
