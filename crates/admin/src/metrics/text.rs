use std::fmt::{Display, Write};

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Writes families and their samples. A family without samples leaves no trace.
#[derive(Debug, Default)]
pub(super) struct Text {
    out: String,
    name: &'static str,
    /// The family's HELP and TYPE lines, until its first sample comes.
    header: String,
}

impl Text {
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.name = name;
        self.header = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.part("", labels, value);
    }

    /// One of the series that make up a histogram: `_bucket`, `_sum`, `_count`.
    pub(super) fn part(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.out.push_str(&self.header);
        self.header.clear();
        self.out.push_str(self.name);
        self.out.push_str(suffix);
        for (position, (name, label)) in labels.iter().enumerate() {
            self.out.push(if position == 0 { '{' } else { ',' });
            self.out.push_str(name);
            self.out.push_str("=\"");
            self.push_escaped(label);
            self.out.push('"');
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {value}"); // writing to a String cannot fail
    }

    fn push_escaped(&mut self, label: &str) {
        for character in label.chars() {
            match character {
                '\\' => self.out.push_str("\\\\"),
                '"' => self.out.push_str("\\\""),
                '\n' => self.out.push_str("\\n"),
                other => self.out.push(other),
            }
        }
    }

    pub(super) fn finish(self) -> String {
        self.out
    }
}
