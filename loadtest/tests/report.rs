//! Reports: JSON in ghz's form, and the page.

#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, SystemTime};

use aibuyer_loadtest::{
    client::Answer,
    code::Code,
    machine::Machine,
    report::{Ceilings, Load, Report, Step},
    tally::{Call, Measured, Tally},
};
use serde_json::Value;

/// What ghz v0.121.0 wrote for a run of 2,000 calls; details but one, and the requests, taken out.
const GHZ: &str = include_str!("data/ghz-v0.121.0.json");
/// Options that only make sense for ghz's own way of running.
const GHZ_ONLY: [&str; 2] = ["total", "dial-timeout"];

fn report() -> Report {
    let mut tally = Tally { dropped: 3, ..Tally::default() };
    for micros in 1..=1000 {
        tally.record(Answer { code: Code::OK, message: String::new(), bytes: 20 }, Duration::from_micros(micros));
    }
    let message = "<full> & \"busy\"".to_owned();
    tally.record(Answer { code: Code::RESOURCE_EXHAUSTED, message, bytes: 0 }, Duration::from_micros(5));
    let elapsed = Duration::from_secs(2);
    let measured = Measured { started: SystemTime::UNIX_EPOCH, elapsed, tally, server: None, client: None };
    let step = |rate: f64| Step {
        label: format!("{rate:.0}/s"),
        load: Load::Rate(rate),
        measured: measured.clone(),
        verdict: vec![],
    };
    Report {
        name: "a <test>".to_owned(),
        address: "127.0.0.1:1".to_owned(),
        method: "p.S/M".to_owned(),
        server: None,
        connections: 4,
        deadline: None,
        schedule: "constant".to_owned(),
        requests: (1, 10),
        rows: Some(32.0),
        machine: Machine { cpu: "one".to_owned(), cores: 2, memory_gib: None, system: "x".to_owned(), commit: None },
        ceilings: Ceilings { rows_per_second: Some(32_000.0), requests_per_second: None },
        steps: vec![step(500.4), step(1000.0)],
    }
}

/// What a value is, as a reader with types of its own sees it.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_u64() => "whole",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn assert_fields(theirs: &Value, ours: &Value, without: &[&str]) {
    for (key, value) in theirs.as_object().unwrap().iter().filter(|(key, _)| !without.contains(&key.as_str())) {
        assert_eq!(kind(&ours[key]), kind(value), "{key}: {}", ours[key]);
    }
}

#[test]
fn json_has_the_fields_of_ghz() {
    let theirs: Value = serde_json::from_str(GHZ).unwrap();
    let report = report();
    let mut closed = report.steps[0].clone();
    closed.load = Load::Callers(8);
    let (due, latency) = (Duration::from_millis(1500), Duration::from_micros(250));
    closed.measured.tally.calls = Some(vec![Call { due, latency, code: Code::OK }]);
    let ours = report.ghz(&closed);
    assert_fields(&theirs["details"][0], &ours["details"][0], &[]);
    assert_eq!(ours["details"][0]["timestamp"], "1970-01-01T00:00:01.500000000Z");
    assert_fields(&theirs, &ours, &[]);
    assert_fields(&theirs["options"], &ours["options"], &GHZ_ONLY);
    assert_fields(&theirs["latencyDistribution"][0], &ours["latencyDistribution"][0], &[]);
    assert_fields(&theirs["histogram"][0], &ours["histogram"][0], &[]);
    let percentages = |v: &Value| -> Vec<u64> {
        v["latencyDistribution"].as_array().unwrap().iter().map(|p| p["percentage"].as_u64().unwrap()).collect()
    };
    assert_eq!(percentages(&ours), percentages(&theirs));
    assert_eq!(ours["histogram"].as_array().unwrap().len(), 11);
}

#[test]
fn json_adds_up() {
    let report = report();
    let json = report.ghz(&report.steps[0]);
    assert_eq!((json["count"].as_u64(), json["rps"].as_f64()), (Some(1001), Some(500.5)));
    assert_eq!((json["options"]["rps"].as_u64(), json["tags"]["dropped"].as_str()), (Some(500), Some("3")));
    assert_eq!(json["statusCodeDistribution"]["ResourceExhausted"], 1);
    assert_eq!(json["errorDistribution"]["rpc error: code = ResourceExhausted desc = <full> & \"busy\""], 1);
    let counted: u64 = json["histogram"].as_array().unwrap().iter().map(|b| b["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, 1000);
    let median = json["latencyDistribution"][2]["latency"].as_u64().unwrap();
    assert!((499_000..=501_000).contains(&median), "{median}");
}

#[test]
fn the_page_stands_alone_and_says_what_users_wrote_safely() {
    let page = report().html();
    assert!(page.contains("a &lt;test&gt;") && page.contains("&lt;full&gt; &amp; &quot;busy&quot;"));
    for foreign in ["<test>", "<full>", "<script", "http://", "https://", "NaN", "inf"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert_eq!(page.matches("<svg").count(), 2);
    // 500 answers a second of 32 rows are half of the ceiling.
    assert!(page.contains("<td>16,000<td>0.50"));
}

#[test]
fn the_summary_gives_the_ratio_beside_the_figure() {
    let report = report();
    let text = report.summary(&report.steps[0]);
    assert!(text.contains("16,000/s = 0.50 of ONNX Runtime in process"), "{text}");
    assert!(text.contains("1 of 1001 (0.100 %), 3 dropped") && text.contains("1 × ResourceExhausted"), "{text}");
}
