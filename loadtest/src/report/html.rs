//! The page: charts, tables, verdicts and what they ran on, in one file that needs nothing else.

use std::fmt::Write as _;

use super::{
    Load, Report, Step,
    chart::{self, Axis, Series},
    text::{PERCENTILES, grouped, latency},
};

const STYLE: &str = include_str!("page.css");
/// Percentiles of the second chart: nines on its axis.
const NINES: [f64; 5] = [0.0, 90.0, 99.0, 99.9, 99.99];
/// Lines that a chart can tell apart.
const LINES: usize = 6;

impl Report {
    /// The report as a page.
    #[must_use]
    pub fn html(&self) -> String {
        let (title, method) = (escaped(&self.name), escaped(&self.method));
        let date = self.steps.first().map(|s| humantime::format_rfc3339_seconds(s.measured.started).to_string());
        let mut page = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n\
             <p class=\"soft\">{method} at {}, {}</p>\n",
            escaped(&self.address),
            date.unwrap_or_default(),
        );
        if self.steps.len() > 1 {
            section(&mut page, "Latency over load", &self.over_load());
        }
        section(&mut page, "Latency by percentile", &self.by_percentile());
        section(&mut page, "Latency", &self.latencies());
        section(&mut page, "Throughput and cost", &self.throughput());
        if self.steps.iter().any(|s| !s.verdict.is_empty()) {
            section(&mut page, "Objectives", &self.objectives());
        }
        if self.steps.iter().any(|s| !s.measured.tally.errors.is_empty()) {
            section(&mut page, "Failures", &self.failures());
        }
        section(&mut page, "Where and how", &self.conditions());
        page.push_str(
            "<footer>Latency is of calls that succeeded. In an open loop it runs from the moment a call was due, so a \
             server that stalls is charged for every call that waited. The send lag is the generator's own part of it.\
             </footer></body></html>\n",
        );
        page
    }

    fn over_load(&self) -> String {
        let load = |step: &Step| match step.load {
            Load::Rate(rate) => rate,
            Load::Callers(callers) => callers as f64,
        };
        let most = self.steps.iter().map(load).fold(0.0, f64::max);
        let series = PERCENTILES.map(|(name, percent)| Series {
            name: name.to_owned(),
            points: self.answered().map(|s| (load(s), s.measured.tally.latency.percentile(percent))).collect(),
        });
        chart::svg("Latency percentiles over load", &Axis::linear("requests a second, offered", most), &series)
    }

    fn by_percentile(&self) -> String {
        // The place of a percentile is the number of its nines.
        let place = |percent: f64| -(1.0 - percent / 100.0).log10();
        let ticks = NINES.map(|p| (place(p), format!("{p} %"))).to_vec();
        let axis = Axis { label: "of calls are at most this slow", ticks };
        // The steps that span the range, if there are more than a chart can show.
        let steps: Vec<&Step> = self.answered().collect();
        let shown = steps.len().min(LINES);
        let pick = |i: usize| if shown < 2 { 0 } else { i * (steps.len() - 1) / (shown - 1) };
        let series: Vec<Series> = (0..shown)
            .map(|i| steps[pick(i)])
            .map(|step| {
                let latency = &step.measured.tally.latency;
                let percents = (0..=80).map(|n| 100.0 * (1.0 - 10f64.powf(-f64::from(n) / 20.0)));
                // No finer than the calls that there are.
                let finest = 100.0 * (1.0 - 1.0 / latency.count() as f64);
                let points = percents.filter(|p| *p <= finest).map(|p| (place(p), latency.percentile(p))).collect();
                Series { name: step.label.clone(), points }
            })
            .collect();
        chart::svg("Latency by percentile, a line a load", &axis, &series)
    }

    fn answered(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|s| s.measured.tally.succeeded() > 0)
    }

    fn latencies(&self) -> String {
        let mut table = String::from("<table><tr><th>load<th>p50<th>p90<th>p99<th>p99.9<th>max<th>failed<th>dropped");
        table.push_str("<th>send lag p50<th>p99</tr>");
        for step in &self.steps {
            let tally = &step.measured.tally;
            let _ = write!(table, "<tr><td>{}", escaped(&step.label));
            for (_, percent) in PERCENTILES {
                let _ = write!(table, "<td>{}", latency(tally.latency.percentile(percent)));
            }
            let _ = write!(table, "<td>{}", latency(tally.latency.range().1));
            for ratio in [tally.error_ratio(), tally.dropped_ratio()] {
                let class = if ratio > 0.0 { " class=\"bad\"" } else { "" };
                let _ = write!(table, "<td{class}>{:.2} %", ratio * 100.0);
            }
            for percent in [50.0, 99.0] {
                let lag = Some(latency(tally.lag.percentile(percent))).filter(|_| tally.lag.count() > 0);
                table.push_str(&cell(lag));
            }
            table.push_str("</tr>");
        }
        table + "</table>"
    }

    fn throughput(&self) -> String {
        let mut table = String::from(
            "<table><tr><th>load<th>answered/s<th>÷ bare tonic<th>rows/s<th>÷ in process<th>server µs/request\
             <th>client µs/request<th>server MB</tr>",
        );
        for step in &self.steps {
            let measured = &step.measured;
            let (rows_ratio, requests_ratio) = self.ratios(step);
            let micros = |usage| measured.micros_per_call(usage).map(|m| format!("{m:.0}"));
            let ratio = |r: Option<f64>| r.map(|r| format!("{r:.2}"));
            let cells = [
                Some(grouped(measured.rate())),
                ratio(requests_ratio),
                step.rows_per_second(self.rows).map(grouped),
                ratio(rows_ratio),
                micros(measured.server),
                micros(measured.client),
                measured.server.map(|u| (u.resident / 1_000_000).to_string()),
            ];
            let _ = write!(table, "<tr><td>{}{}</tr>", escaped(&step.label), cells.map(cell).concat());
        }
        table + "</table>"
    }

    /// A row a load, a column an objective.
    fn objectives(&self) -> String {
        let mut table = "<table><tr><th>load".to_owned();
        for line in self.steps.first().map_or(&[][..], |s| &s.verdict) {
            let _ = write!(table, "<th>{}<br>{}", line.objective, line.limit);
        }
        table.push_str("</tr>");
        for step in &self.steps {
            let _ = write!(table, "<tr><td>{}", escaped(&step.label));
            for line in &step.verdict {
                let (class, sign) = if line.kept { ("good", '✓') } else { ("bad", '✗') };
                let _ = write!(table, "<td class=\"{class}\">{} {sign}", line.measured);
            }
            table.push_str("</tr>");
        }
        table + "</table>"
    }

    fn failures(&self) -> String {
        let mut table = "<table class=\"left\"><tr><th>load<th>calls<th>code<th>message</tr>".to_owned();
        for step in &self.steps {
            for ((code, message), n) in &step.measured.tally.errors {
                let _ = write!(table, "<tr><td>{}<td>{n}<td>{code}<td>{}</tr>", step.label, escaped(message));
            }
        }
        table + "</table>"
    }

    fn conditions(&self) -> String {
        let ceiling = |value: Option<f64>| value.map_or("not given".to_owned(), |v| format!("{}/s", grouped(v)));
        let (count, bytes) = self.requests;
        let rows = self.rows.map_or(String::new(), |r| format!(" and {r:.3} candidates"));
        let lines = [
            ("server", self.server.clone().unwrap_or_else(|| "did not say".to_owned())),
            ("machine", self.machine.line()),
            ("schedule", self.schedule.clone()),
            ("requests", format!("{count} different ones of {bytes} bytes{rows} on average, in turn")),
            ("connections", self.connections.to_string()),
            ("deadline", self.deadline.map_or("none".to_owned(), |d| humantime::format_duration(d).to_string())),
            ("ceiling, bare tonic", ceiling(self.ceilings.requests_per_second)),
            ("ceiling, rows of ONNX Runtime in process", ceiling(self.ceilings.rows_per_second)),
        ];
        let mut table = "<table class=\"left\">".to_owned();
        for (name, value) in lines {
            let _ = write!(table, "<tr><td class=\"soft\">{name}<td>{}</tr>", escaped(&value));
        }
        table + "</table>"
    }
}

fn cell(value: Option<String>) -> String {
    format!("<td>{}", value.unwrap_or_else(|| "–".to_owned()))
}

fn section(page: &mut String, title: &str, content: &str) {
    let _ = writeln!(page, "<h2>{title}</h2>\n<div class=\"panel\">{content}</div>");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
