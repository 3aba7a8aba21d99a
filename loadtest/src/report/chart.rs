//! A line chart as SVG: latency, on a logarithmic axis, over load or over percentiles. Colours come from the page.

use std::{fmt::Write as _, time::Duration};

use super::text::latency;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 46.0;
/// Between labels at the ends of lines.
const LABEL: f64 = 15.0;

/// A line: places on the x axis, as marked on the axis, and latencies.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(f64, Duration)>,
}

/// What the x axis says.
pub(super) struct Axis {
    pub(super) label: &'static str,
    /// Where, and what stands there; the axis spans the first to the last.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to `most` in round steps.
    pub(super) fn linear(label: &'static str, most: f64) -> Self {
        let rough = (most / 6.0).max(1e-9);
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough).unwrap_or(rough);
        let mut ticks = vec![(0.0, "0".to_owned())];
        while ticks.last().is_some_and(|(at, _)| *at < most) {
            let at = step * ticks.len() as f64;
            ticks.push((at, super::text::grouped(at)));
        }
        Self { label, ticks }
    }

    /// Place on the axis, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let first = self.ticks.first().map_or(0.0, |t| t.0);
        let last = self.ticks.last().map_or(1.0, |t| t.0);
        ((value - first) / (last - first).max(1e-12)).clamp(0.0, 1.0)
    }
}

/// Draws.
pub(super) fn svg(title: &str, axis: &Axis, series: &[Series]) -> String {
    let seconds = || series.iter().flat_map(|s| s.points.iter().map(|p| p.1.as_secs_f64())).filter(|s| *s > 0.0);
    let (low, high) = bounds(seconds().fold(f64::INFINITY, f64::min), seconds().fold(0.0, f64::max));
    let x = |value: f64| LEFT + axis.place(value) * (WIDTH - LEFT - RIGHT);
    let y = |at: Duration| {
        let place = (at.as_secs_f64().max(low) / low).ln() / (high / low).ln();
        HEIGHT - BOTTOM - place * (HEIGHT - TOP - BOTTOM)
    };
    // Everything is written to a string, which does not fail.
    let mut out = String::new();
    let _ = write!(out, r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">"#);
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    for (seconds, major) in marks(low, high) {
        let at = Duration::from_secs_f64(seconds);
        let (y, class) = (y(at), if major { "grid" } else { "grid minor" });
        let _ = write!(out, r#"<path class="{class}" d="M{LEFT} {y:.1}H{right}"/>"#);
        let _ = write!(
            out,
            r#"<text class="tick" x="{}" y="{:.1}" text-anchor="end">{}</text>"#,
            LEFT - 8.0,
            y + 4.0,
            plain(at)
        );
    }
    for (at, text) in &axis.ticks {
        let x = x(*at);
        let _ = write!(out, r#"<path class="axis" d="M{x:.1} {bottom}v5"/>"#);
        let _ =
            write!(out, r#"<text class="tick" x="{x:.1}" y="{}" text-anchor="middle">{text}</text>"#, bottom + 20.0);
    }
    let _ = write!(out, r#"<path class="axis" d="M{LEFT} {bottom}H{right}"/>"#);
    let middle = f64::midpoint(LEFT, right);
    let _ = write!(
        out,
        r#"<text class="tick" x="{middle}" y="{}" text-anchor="middle">{}</text>"#,
        HEIGHT - 6.0,
        axis.label
    );

    let mut labels: Vec<(f64, usize)> = Vec::new();
    for (n, line) in series.iter().enumerate() {
        let path: Vec<String> = line.points.iter().map(|(at, l)| format!("{:.1} {:.1}", x(*at), y(*l))).collect();
        let _ = write!(out, r#"<g class="series s{n}"><path d="M{}"/>"#, path.join("L"));
        for (at, l) in line.points.iter().filter(|_| line.points.len() <= 20) {
            let (x, y) = (x(*at), y(*l));
            let _ = write!(
                out,
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="3.5"><title>{}: {}</title></circle>"#,
                line.name,
                latency(*l)
            );
        }
        out.push_str("</g>");
        if let Some((_, last)) = line.points.last() {
            labels.push((y(*last), n));
        }
    }
    for (y, n) in spread(labels) {
        let _ = write!(
            out,
            r#"<text class="name t{n}" x="{:.1}" y="{:.1}">{}</text>"#,
            right + 9.0,
            y + 4.0,
            series[n].name
        );
    }
    out.push_str("</svg>");
    out
}

/// The decades, or halves of them, that hold all values.
fn bounds(least: f64, most: f64) -> (f64, f64) {
    if most <= 0.0 {
        return (1e-4, 1e-1);
    }
    let steps = |value: f64| {
        let power = 10f64.powf(value.log10().floor());
        [1.0, 2.0, 5.0, 10.0].map(|m| m * power)
    };
    let low = steps(least).into_iter().rfind(|s| *s <= least).unwrap_or(least);
    let high = steps(most).into_iter().find(|s| *s >= most).unwrap_or(most);
    (low, if high > low { high } else { low * 10.0 })
}

/// Grid lines at 1, 2 and 5 of each decade, and whether each opens a decade.
fn marks(low: f64, high: f64) -> Vec<(f64, bool)> {
    let mut marks = Vec::new();
    for exponent in -7..4 {
        for multiple in [1.0, 2.0, 5.0] {
            let mark = multiple * 10f64.powi(exponent);
            if mark >= low * 0.999 && mark <= high * 1.001 {
                marks.push((mark, multiple < 1.5));
            }
        }
    }
    marks
}

/// A round latency, without needless digits.
fn plain(at: Duration) -> String {
    let micros = at.as_secs_f64() * 1e6;
    match micros {
        m if m < 999.5 => format!("{m:.0} µs"),
        m if m < 999_500.0 => format!("{:.0} ms", m / 1e3),
        m => format!("{:.0} s", m / 1e6),
    }
}

/// Moves labels apart, from the lowest up, so that none covers another.
fn spread(mut labels: Vec<(f64, usize)>) -> Vec<(f64, usize)> {
    labels.sort_by(|a, b| b.0.total_cmp(&a.0));
    for i in 1..labels.len() {
        labels[i].0 = labels[i].0.min(labels[i - 1].0 - LABEL);
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_hold_all_values_in_round_steps() {
        let axis = Axis::linear("load", 2_500.0);
        let ticks: Vec<&str> = axis.ticks.iter().map(|t| t.1.as_str()).collect();
        assert_eq!(ticks, ["0", "500", "1,000", "1,500", "2,000", "2,500"]);
        let (low, high) = bounds(0.000_31, 0.018);
        assert!((low - 0.000_2).abs() < 1e-12 && (high - 0.02).abs() < 1e-12, "{low} {high}");
        assert_eq!(marks(low, high).len(), 7);
    }

    #[test]
    fn labels_never_cover_each_other() {
        let labels = spread(vec![(100.0, 0), (101.0, 1), (99.0, 2), (20.0, 3)]);
        assert!(labels.windows(2).all(|w| w[0].0 - w[1].0 >= LABEL), "{labels:?}");
    }
}
