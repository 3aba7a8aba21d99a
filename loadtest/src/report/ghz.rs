//! JSON as ghz v0.121 writes it, so that what reads ghz's results reads these.
//!
//! Times are nanoseconds, marks of the histogram seconds. What ghz has no field for travels in `tags`.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::{Load, Report, Step};
use crate::{
    code::Code,
    tally::{Call, Latencies},
};

const PERCENTAGES: [u32; 7] = [10, 25, 50, 75, 90, 95, 99];
const BUCKETS: u32 = 10;

impl Report {
    /// One step as a ghz result.
    #[must_use]
    pub fn ghz(&self, step: &Step) -> Value {
        let (measured, tally) = (&step.measured, &step.measured.tally);
        let (fastest, slowest) = tally.latency.range();
        let errors: Map<String, Value> = tally
            .errors
            .iter()
            .map(|((code, message), n)| (format!("rpc error: code = {code} desc = {message}"), json!(n)))
            .collect();
        let codes: Map<String, Value> = tally.codes.iter().map(|(code, n)| (code.to_string(), json!(n))).collect();
        let percentile = |p: u32| json!({"percentage": p, "latency": ns(tally.latency.percentile(f64::from(p)))});
        json!({
            "name": self.name,
            "endReason": "normal",
            "date": humantime::format_rfc3339_seconds(measured.started).to_string(),
            "options": self.options(step),
            "count": tally.sent(),
            "total": ns(measured.elapsed),
            "average": ns(tally.latency.mean()),
            "fastest": ns(fastest),
            "slowest": ns(slowest),
            "rps": tally.sent() as f64 / measured.elapsed.as_secs_f64(),
            "errorDistribution": errors,
            "statusCodeDistribution": codes,
            "latencyDistribution": PERCENTAGES.map(percentile),
            "histogram": histogram(&tally.latency),
            "details": tally.calls.iter().flatten().map(|call| detail(measured.started, call)).collect::<Vec<_>>(),
            "tags": {
                "generator": format!("aibuyer-loadtest {}", env!("CARGO_PKG_VERSION")),
                "schedule": self.schedule,
                "dropped": tally.dropped.to_string(),
                "p99.9": ns(tally.latency.percentile(99.9)).to_string(),
                "send lag p99": ns(tally.lag.percentile(99.0)).to_string(),
            },
        })
    }

    fn options(&self, step: &Step) -> Value {
        let mut options = json!({
            "call": self.method.replace('/', "."),
            "host": self.address,
            "insecure": true,
            "load-schedule": "const",
            "load-start": 0,
            "load-end": 0,
            "load-step": 0,
            "load-step-duration": 0,
            "load-max-duration": 0,
            "concurrency-schedule": "const",
            "concurrency-start": 0,
            "concurrency-end": 0,
            "concurrency-step": 0,
            "concurrency-step-duration": 0,
            "concurrency-max-duration": 0,
            "connections": self.connections,
            "duration": ns(step.measured.elapsed),
            "timeout": ns(self.deadline.unwrap_or_default()),
            "binary": true,
            "CPUs": self.machine.cores,
            "name": self.name,
        });
        match step.load {
            Load::Rate(rate) => {
                options["rps"] = json!(whole(rate));
                options["async"] = json!(true);
            }
            Load::Callers(callers) => options["concurrency"] = json!(callers),
        }
        options
    }
}

/// ghz tells when a call was sent, this when it was due.
fn detail(started: SystemTime, call: &Call) -> Value {
    json!({
        "timestamp": humantime::format_rfc3339_nanos(started + call.due).to_string(),
        "latency": ns(call.latency),
        "error": if call.code == Code::OK { String::new() } else { format!("rpc error: code = {}", call.code) },
        "status": call.code.to_string(),
    })
}

/// ghz's rates are whole numbers.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(rate: f64) -> u64 {
    rate.round() as u64
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Eleven marks from the fastest to the slowest, each with the calls since the mark before.
fn histogram(latency: &Latencies) -> Vec<Value> {
    if latency.count() == 0 {
        return Vec::new();
    }
    let (fastest, slowest) = latency.range();
    let step = (slowest.saturating_sub(fastest)) / BUCKETS;
    let mut recorded = latency.recorded().peekable();
    let bucket = |n: u32| {
        let mark = if n == BUCKETS { slowest } else { fastest + step * n };
        let mut count = 0;
        // The last one takes what the histogram's rounding has put above the slowest.
        while let Some((_, some)) = recorded.next_if(|(at, _)| n == BUCKETS || *at <= mark) {
            count += some;
        }
        json!({"mark": mark.as_secs_f64(), "count": count, "frequency": count as f64 / latency.count() as f64})
    };
    (0..=BUCKETS).map(bucket).collect()
}
