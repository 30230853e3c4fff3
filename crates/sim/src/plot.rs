//! Reports as a picture: latency over time, and the share of one group of endpoints.

use std::fmt::Write as _;

use crate::Report;

/// Pixels.
const WIDTH: f64 = 900.0;
const PANEL: f64 = 240.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 36.0;
const GAP: f64 = 60.0;

/// Told apart by most people who see few colours (Okabe and Ito, 2008), and used again in order.
const COLOURS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// An SVG with one line per report: above the p99 of each interval, below the share of attempts
/// that went to the group at this position.
pub fn svg(reports: &[Report], group: usize) -> String {
    let end = reports.iter().flat_map(|report| &report.samples).map(|s| s.at_ms).max();
    let end = end.unwrap_or(1).max(1) as f64;
    let height = TOP + 2.0 * PANEL + 2.0 * GAP;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let name = reports.first().and_then(|r| r.groups.get(group)).map_or("", String::as_str);
    let latency = Panel { top: TOP, title: "p99 in ms".into(), end };
    let lines: Vec<Line> = reports.iter().map(|report| line(report, |s| s.p99_ms)).collect();
    latency.draw(&mut text, &lines);
    let title = format!("share of the attempts that went to {}, in percent", escape(name));
    let share = Panel { top: TOP + PANEL + GAP, title, end };
    let percent = |s: &crate::Sample| s.shares.get(group).copied().unwrap_or(0.0) * 100.0;
    let lines: Vec<Line> = reports.iter().map(|report| line(report, percent)).collect();
    share.draw(&mut text, &lines);
    for (index, report) in reports.iter().enumerate() {
        let y = TOP + 12.0 + 18.0 * index as f64;
        let x = WIDTH - RIGHT + 14.0;
        let colour = COLOURS[index % COLOURS.len()];
        let name = escape(&report.policy);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"3\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{y}\">{name}</text>",
            y - 5.0,
            x + 18.0
        );
    }
    text += "</svg>\n";
    text
}

/// Time in milliseconds, and a value.
type Line = Vec<(f64, f64)>;

fn line(report: &Report, value: impl Fn(&crate::Sample) -> f64) -> Line {
    let samples = report.samples.iter().filter(|sample| sample.requests > 0);
    samples.map(|sample| (sample.at_ms as f64, value(sample))).collect()
}

struct Panel {
    top: f64,
    title: String,
    end: f64,
}

impl Panel {
    fn draw(&self, text: &mut String, lines: &[Line]) {
        let most = lines.iter().flatten().map(|(_, value)| *value).fold(0.0, f64::max);
        let step = step(most);
        let ceiling = (most / step).ceil().max(1.0) * step;
        let x = |at: f64| LEFT + at / self.end * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| self.top + PANEL * (1.0 - value / ceiling);
        let _ = writeln!(
            text,
            "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{}</text>",
            self.top - 12.0,
            self.title
        );
        let mut mark = 0.0;
        while mark <= ceiling * 1.001 {
            let _ = writeln!(
                text,
                "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y(mark) + 4.0,
                (mark * 1e6).round() / 1e6,
                y = y(mark)
            );
            mark += step;
        }
        let seconds = step_of_time(self.end / 1000.0);
        let mut mark = 0.0;
        while mark * 1000.0 <= self.end {
            let _ = writeln!(
                text,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{} s</text>",
                x(mark * 1000.0),
                self.top + PANEL + 18.0,
                (mark * 1e6).round() / 1e6
            );
            mark += seconds;
        }
        for (index, line) in lines.iter().enumerate() {
            let points: Vec<String> =
                line.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value))).collect();
            let _ = writeln!(
                text,
                "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\" points=\"{}\"/>",
                COLOURS[index % COLOURS.len()],
                points.join(" ")
            );
        }
    }
}

/// A round distance of marks, of which up to five cover `most`.
fn step(most: f64) -> f64 {
    let rough = (most / 5.0).max(1e-3);
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|s| *s >= rough * 0.999)
        .unwrap_or(rough)
}

fn step_of_time(seconds: f64) -> f64 {
    step(seconds / 2.0)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round() {
        for (most, expected) in [(0.9, 0.2), (1.0, 0.2), (7.0, 2.0), (1000.0, 200.0), (60.0, 20.0)]
        {
            assert!((step(most) - expected).abs() < 1e-9, "{most}: {}", step(most));
        }
    }
}
