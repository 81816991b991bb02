//! Charts as inline SVG: a value, most often a latency, on a logarithmic axis against a share, a
//! time, a size or a rate.
//!
//! Above: pages make them, `html` places them. Below: nothing. Absent: colours and fonts (the
//! page's style sheet has them, for light and dark); scripts.
//! Bound: as many points as the series have, at most some hundred.

use std::fmt::Write;

/// Room for the labels of the vertical axis, in pixels.
const LEFT: f64 = 64.0;
/// Room on the right.
const RIGHT: f64 = 18.0;
/// Room for the labels of marks.
const TOP: f64 = 22.0;
/// Room for the labels of the horizontal axis.
const BOTTOM: f64 = 46.0;

/// Width of a letter of a label, about.
const LETTER: f64 = 7.5;

/// A line of the chart: x in the unit of its axis, y from 1 up (nanoseconds, as a rule). A
/// NaN interrupts it.
pub(crate) struct Series {
    /// Style class, for example `response`.
    pub(crate) class: &'static str,
    /// Points with rising x.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A point with a label and its 95 % interval.
pub(crate) struct Mark {
    /// Style class of the line it lies on.
    pub(crate) class: &'static str,
    /// Where on the horizontal axis.
    pub(crate) x: f64,
    /// Value in nanoseconds.
    pub(crate) y: f64,
    /// Interval in nanoseconds.
    pub(crate) interval: Option<(f64, f64)>,
    /// What is written beside it.
    pub(crate) text: String,
}

/// A chart without its size.
pub(crate) struct Chart {
    /// What it shows, for readers who cannot see it.
    pub(crate) description: String,
    /// Ends of the horizontal axis.
    pub(crate) x: (f64, f64),
    /// Positions and labels on it.
    pub(crate) x_ticks: Vec<(f64, String)>,
    /// What the horizontal axis is.
    pub(crate) x_title: &'static str,
    /// A value of the vertical axis in words.
    pub(crate) y_shown: fn(u64) -> String,
    /// Lines, drawn in order.
    pub(crate) series: Vec<Series>,
    /// Labelled points, drawn last.
    pub(crate) marks: Vec<Mark>,
}

/// Position of a percentile on the axis log10(1/(1-p)).
pub(crate) fn nines(share: f64) -> f64 {
    -(1.0 - share).log10()
}

impl Chart {
    /// The SVG, `width` by `height` pixels before the page scales it; nothing without points.
    pub(crate) fn draw(&self, class: &str, width: f64, height: f64) -> String {
        let Some(y) = self.y_range() else { return String::new() };
        let scale = Scale { x: self.x, y, width, height };
        let mut out = String::new();
        let _ = write!(
            out,
            r#"<svg class="{class}" viewBox="0 0 {width} {height}" role="img" aria-label="{}">"#,
            escape(&self.description)
        );
        self.draw_axes(&mut out, &scale);
        for series in &self.series {
            draw_line(&mut out, series, &scale);
        }
        for mark in &self.marks {
            draw_mark(&mut out, mark, &scale);
        }
        out.push_str("</svg>");
        out
    }

    /// The ends of the vertical axis: the 1-2-5 steps around all values.
    fn y_range(&self) -> Option<(f64, f64)> {
        let lines = self.series.iter().flat_map(|series| &series.points);
        let values = lines.map(|(_, y)| *y).filter(|y| y.is_finite() && *y > 0.0);
        let (low, high) = values
            .fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), y| (low.min(y), high.max(y)));
        if high <= 0.0 {
            return None;
        }
        let steps = steps_125();
        let below = steps.iter().rev().find(|step| **step <= low * 0.98).copied();
        let above = steps.iter().find(|step| **step >= high * 1.02).copied();
        Some((below.unwrap_or(1.0), above.unwrap_or(high * 2.0)))
    }

    fn draw_axes(&self, out: &mut String, scale: &Scale) {
        let (right, bottom) = (scale.width - RIGHT, scale.height - BOTTOM);
        let decades = (scale.y.1 / scale.y.0).log10();
        for step in steps_125().iter().filter(|step| (scale.y.0..=scale.y.1).contains(step)) {
            let y = scale.y(*step);
            let _ = write!(out, r#"<path class="grid" d="M{LEFT} {y:.1}H{right}"/>"#);
            let is_decade = step.log10().fract().abs() < 1e-9;
            if decades < 3.1 || is_decade {
                let label = (self.y_shown)(*step as u64);
                let label = label.replace(".00", "").replace(".0 ", " ");
                let (x, y) = (LEFT - 8.0, y + 4.0);
                let _ = write!(out, r#"<text class="y" x="{x}" y="{y:.1}">{label}</text>"#);
            }
        }
        let mut free_from = 0.0;
        for (at, label) in &self.x_ticks {
            let x = scale.x(*at);
            let _ = write!(out, r#"<path class="grid" d="M{x:.1} {TOP}V{bottom}"/>"#);
            let half = label.chars().count() as f64 * LETTER / 2.0;
            if x - half < free_from || x + half > scale.width {
                continue;
            }
            free_from = x + half + LETTER;
            let y = bottom + 18.0;
            let _ = write!(out, r#"<text class="x" x="{x:.1}" y="{y}">{}</text>"#, escape(label));
        }
        let _ = write!(out, r#"<path class="axis" d="M{LEFT} {bottom}H{right}"/>"#);
        let (x, y) = ((LEFT + right) / 2.0, scale.height - 8.0);
        let _ = write!(out, r#"<text class="x title" x="{x}" y="{y}">{}</text>"#, self.x_title);
    }
}

struct Scale {
    x: (f64, f64),
    y: (f64, f64),
    width: f64,
    height: f64,
}

impl Scale {
    fn x(&self, value: f64) -> f64 {
        let share = (value - self.x.0) / (self.x.1 - self.x.0).max(f64::MIN_POSITIVE);
        LEFT + share.clamp(0.0, 1.0) * (self.width - LEFT - RIGHT)
    }

    fn y(&self, value_ns: f64) -> f64 {
        let share = (value_ns / self.y.0).log10() / (self.y.1 / self.y.0).log10();
        self.height - BOTTOM - share.clamp(0.0, 1.0) * (self.height - TOP - BOTTOM)
    }
}

fn draw_line(out: &mut String, series: &Series, scale: &Scale) {
    let mut path = String::new();
    let is_drawn = |(_, y): &&(f64, f64)| y.is_finite() && *y > 0.0;
    for run in series.points.split(|point| !is_drawn(&point)) {
        for (at, (x, y)) in run.iter().enumerate() {
            let command = if at > 0 { 'L' } else { 'M' };
            let _ = write!(path, "{command}{:.1} {:.1}", scale.x(*x), scale.y(*y));
        }
        if run.len() == 1 {
            // A line of no length is not drawn; this one looks like a dot.
            path.push_str("h0.1");
        }
    }
    if !path.is_empty() {
        let _ = write!(out, r#"<path class="line {}" d="{path}"/>"#, series.class);
    }
}

fn draw_mark(out: &mut String, mark: &Mark, scale: &Scale) {
    let (x, y, line) = (scale.x(mark.x), scale.y(mark.y), mark.class);
    if let Some((low, high)) = mark.interval {
        let (low, high) = (scale.y(low), scale.y(high));
        let _ = write!(out, r#"<path class="whisker {line}" d="M{x:.1} {low:.1}V{high:.1}"/>"#);
    }
    let _ = write!(out, r#"<circle class="mark {line}" cx="{x:.1}" cy="{y:.1}" r="4"/>"#);
    // Left of the rising curve there is room, except beside the axis.
    let beside_axis = x < LEFT + 57.0;
    let (class, x, y) =
        if beside_axis { ("mark right", x + 7.0, y + 19.0) } else { ("mark", x - 8.0, y - 9.0) };
    let text = escape(&mark.text);
    let _ = write!(out, r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{text}</text>"#);
}

/// 1, 2 and 5 of every decade from 1 ns to 500 s.
fn steps_125() -> Vec<f64> {
    let decades = (0..12).map(|decade| 10_f64.powi(decade));
    decades.flat_map(|decade| [decade, 2.0 * decade, 5.0 * decade]).collect()
}

/// Text that is safe inside HTML and its attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::time_shown;

    fn chart(points: Vec<(f64, f64)>) -> Chart {
        Chart {
            description: "a <test>".to_owned(),
            x: (0.0, 2.0),
            x_ticks: vec![(0.0, "0 %".to_owned()), (1.0, "90 %".to_owned())],
            x_title: "percentile",
            y_shown: time_shown,
            series: vec![Series { class: "response", points }],
            marks: Vec::new(),
        }
    }

    /// The points of a line as they were drawn.
    fn drawn(svg: &str) -> Vec<(f64, f64)> {
        let path = svg.split(r#"class="line response" d=""#).nth(1).expect("a line");
        let path = path.split('"').next().expect("an end");
        let point = |pair: &str| {
            let (x, y) = pair.split_once(' ').expect("two numbers");
            (x.parse().expect("a number"), y.parse().expect("a number"))
        };
        path.split(['M', 'L']).skip(1).map(point).collect()
    }

    #[test]
    fn a_curve_runs_through_its_points_on_a_logarithmic_axis() {
        let svg = chart(vec![(0.0, 10_500.0), (1.0, 31_000.0), (2.0, 95_000.0)]);
        let points = drawn(&svg.draw("wide", 960.0, 380.0));
        assert_eq!(points.len(), 3);
        assert_eq!((points[0].0, points[2].0), (LEFT, 960.0 - RIGHT));
        let y = |ns: f64| 380.0 - BOTTOM - (ns / 1e4_f64).log10() * (380.0 - TOP - BOTTOM);
        for (point, ns) in points.iter().zip([10_500.0, 31_000.0, 95_000.0]) {
            assert!((point.1 - y(ns)).abs() < 0.11, "{} for {}", point.1, y(ns));
        }
    }

    #[test]
    fn gaps_lift_the_pen_and_text_is_escaped() {
        let points = vec![(0.0, 1e4), (0.5, f64::NAN), (1.0, 2e4), (2.0, 3e4)];
        let svg = chart(points).draw("wide", 960.0, 380.0);
        assert_eq!(svg.matches('M').count() - svg.matches(r#"class="grid" d="M"#).count(), 3);
        assert_eq!(svg.matches("h0.1\"").count() + svg.matches("h0.1M").count(), 1, "a dot");
        assert!(svg.contains(r#"aria-label="a &lt;test&gt;""#) && svg.ends_with("</svg>"));
        assert!(svg.contains("10 µs") && svg.contains("90 %"));
    }

    #[test]
    fn labels_without_room_are_left_out() {
        let mut chart = chart(vec![(0.0, 1e4), (2.0, 3e4)]);
        chart.x_ticks = [0.0, 0.02, 1.0].map(|at| (at, format!("at {at}"))).to_vec();
        let svg = chart.draw("narrow", 400.0, 360.0);
        assert!(svg.contains(">at 0<") && !svg.contains(">at 0.02<") && svg.contains(">at 1<"));
    }

    #[test]
    fn nothing_to_draw_draws_nothing() {
        assert_eq!(chart(Vec::new()).draw("wide", 960.0, 380.0), "");
        assert_eq!(chart(vec![(0.0, f64::NAN)]).draw("wide", 960.0, 380.0), "");
    }

    #[test]
    fn percentiles_stand_at_their_nines() {
        assert!((nines(0.9) - 1.0).abs() < 1e-9 && (nines(0.999) - 3.0).abs() < 1e-9);
        assert!(nines(0.0).abs() < 1e-9);
    }
}
