//! Click-through rates while forecasts are computed beside.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use aibuyer_loadtest::{
    client::Target,
    load::Load,
    requests::{Form, Pool},
    schedule::Schedule,
    tally::Shared,
};
use aibuyer_proto::serving::v1 as pb;
use prost::Message as _;
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::{process::Process, requests::Scenario, rounds::Rounds};

const RATE: f64 = 1_000.0;
const STORM_RATE: f64 = 300.0;
const LENGTH: Duration = Duration::from_secs(3);
const CALLERS: usize = 8;
const CONNECTIONS: usize = 8;

/// What goes on beside.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Beside {
    Nothing,
    /// Forecasts of a day: what the client and gRPC cost.
    Cheap,
    /// Forecasts of a year with the trend's interval, most of the executor's time.
    Storm,
    /// As many of them as there is time for.
    Flood,
}

const ALL: [Beside; 4] = [Beside::Nothing, Beside::Cheap, Beside::Storm, Beside::Flood];

/// Milliseconds and ratios to the same round without forecasts, by what goes on beside.
#[derive(Serialize)]
pub(crate) struct Found(Vec<Figures>);

#[derive(Serialize)]
struct Figures {
    beside: String,
    p50_ms: Rounds,
    p99_ms: Rounds,
    p99_over_quiet: Rounds,
    forecasts_per_second: Rounds,
}

impl Found {
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "## Click-through rates beside forecasts\n\n{RATE} requests a second of 32 candidates, open loop; beside them \
             {STORM_RATE} forecasts a second, or {CALLERS} callers without pause (flood).\n\n| beside | forecasts/s | p50 ms \
             | p99 ms | p99 ÷ quiet |\n|---|---|---|---|---|\n"
        );
        for Figures { beside, p50_ms, p99_ms, p99_over_quiet, forecasts_per_second } in &self.0 {
            let cells = [forecasts_per_second.cell(0), p50_ms.cell(2), p99_ms.cell(2), p99_over_quiet.cell(2)];
            let _ = writeln!(text, "| {beside} | {} |", cells.join(" | "));
        }
        text
    }
}

pub(crate) fn measure(tokio: &Runtime, server: &Process, rounds: usize) -> Found {
    let scenario = Scenario {
        model: "ctr-upworthy",
        form: Form::Named,
        context: &["week", "test_id"],
        candidates: 32,
        callers: CONNECTIONS,
    };
    let ctr = scenario.pool("models/ctr-upworthy/1".as_ref());
    let mut found: Vec<Figures> = ALL.into_iter().map(Figures::of).collect();
    for round in 0..rounds {
        let mut quiet = f64::NAN;
        for (beside, figures) in ALL.into_iter().zip(&mut found) {
            let storm = storm(beside, server.address.clone());
            // It is under way before anything is measured.
            thread::sleep(Duration::from_millis(200));
            let schedule = Schedule::Poisson { rate: RATE, length: LENGTH, seed: round as u64 };
            let load = tokio.block_on(open(&server.address, ctr.clone())).unwrap();
            let measured = tokio.block_on(load.run_open(schedule, 10_000, &Shared::default())).unwrap();
            assert!(measured.tally.errors.is_empty(), "{:?}", measured.tally.errors);
            let forecasts = storm.map_or(0.0, |storm| storm.join().unwrap());
            let at = |percent| measured.tally.latency.percentile(percent).as_secs_f64() * 1e3;
            if beside == Beside::Nothing {
                quiet = at(99.0);
            }
            figures.p50_ms.push(at(50.0));
            figures.p99_ms.push(at(99.0));
            figures.p99_over_quiet.push(at(99.0) / quiet);
            figures.forecasts_per_second.push(forecasts);
        }
    }
    Found(found)
}

impl Figures {
    fn of(beside: Beside) -> Self {
        let name = match beside {
            Beside::Nothing => "nothing",
            Beside::Cheap => "a day each",
            Beside::Storm => "a year with trend interval each",
            Beside::Flood => "the same, flood",
        };
        let (p50_ms, p99_ms, p99_over_quiet, forecasts_per_second) = Default::default();
        Self { beside: name.to_owned(), p50_ms, p99_ms, p99_over_quiet, forecasts_per_second }
    }
}

async fn open(address: &str, pool: Pool) -> Result<Load, aibuyer_loadtest::client::ConnectError> {
    let target = Target { address: address.to_owned(), path: pool.method.clone(), deadline: None };
    Load::open(&target, CONNECTIONS, pool, None).await
}

/// Forecasts on a thread of their own, from a little before the measurement to a little after; how many a second.
fn storm(beside: Beside, address: String) -> Option<thread::JoinHandle<f64>> {
    if beside == Beside::Nothing {
        return None;
    }
    Some(thread::spawn(move || {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio.block_on(async {
            let load = open(&address, forecasts(beside != Beside::Cheap)).await.unwrap();
            let length = LENGTH + Duration::from_millis(400);
            let started = Instant::now();
            let measured = match beside {
                Beside::Flood => load.run_closed(CALLERS, length, &Shared::default()).await,
                _ => {
                    let schedule = Schedule::Constant { rate: STORM_RATE, length };
                    load.run_open(schedule, 10_000, &Shared::default()).await.unwrap()
                }
            };
            assert!(measured.tally.errors.is_empty(), "{:?}", measured.tally.errors);
            measured.tally.succeeded() as f64 / started.elapsed().as_secs_f64()
        })
    }))
}

/// All different: equal ones that are under way at once are computed once.
fn forecasts(long: bool) -> Pool {
    let request = |n: i64| {
        let rows = pb::ForecastRange {
            start_unix_micros: Some((1_700_000_000 + n) * 1_000_000),
            frequency: "D".to_owned(),
            horizon: if long { 365 } else { 1 },
        };
        let request = pb::ForecastRequest {
            model: Some(pb::ModelSelector { name: "daily".to_owned(), pick: None }),
            rows: Some(pb::forecast_request::Rows::Range(rows)),
            interval_width: Some(0.8),
            include_trend_quantiles: long,
            ..Default::default()
        };
        request.encode_to_vec()
    };
    Pool::new("aibuyer.serving.v1.ForecastService/Forecast", (0..1_000).map(request), None)
}
