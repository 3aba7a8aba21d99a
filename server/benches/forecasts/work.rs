//! Many forecasts and large budgets, each through gRPC and, for forecasts, in process.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use aibuyer_domain::forecast::{Frame, Frequency, Options, Prophet};
use aibuyer_proto::serving::v1::{
    self as pb, budget_service_client::BudgetServiceClient, forecast_batch_response::Result as Outcome,
    forecast_request::Rows, forecast_service_client::ForecastServiceClient,
};
use serde::Serialize;
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use crate::{ADDRESS, PROPHET, process::Process, rounds::Rounds};

const SERIES: usize = 1_000;
const DAYS: usize = 30;
const CAMPAIGNS: usize = 10_000;

/// Milliseconds, a value a round.
#[derive(Default, Serialize)]
pub(crate) struct Found {
    forecasts_rpc_ms: Rounds,
    forecasts_in_process_ms: Rounds,
    rpc_share: Rounds,
    budget_concave_ms: Rounds,
    budget_s_shaped_ms: Rounds,
}

impl Found {
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "## Through gRPC\n\n{SERIES} series × {DAYS} days with interval on one `ForecastBatch` stream, one executor \
             thread; in process on one thread. `OptimizeBudget` with {CAMPAIGNS} campaigns.\n\n| what | ms |\n|---|---|\n"
        );
        for (name, rounds) in [
            ("forecasts through gRPC", &self.forecasts_rpc_ms),
            ("the same in process", &self.forecasts_in_process_ms),
            ("budget, concave curves", &self.budget_concave_ms),
            ("budget, S-shaped curves", &self.budget_s_shaped_ms),
        ] {
            let _ = writeln!(text, "| {name} | {} |", rounds.cell(1));
        }
        let _ = writeln!(text, "\ngRPC's share of the forecasts: {}.", self.rpc_share.cell(2));
        text
    }
}

pub(crate) fn measure(tokio: &Runtime, server: &Process, rounds: usize) -> Found {
    let model = Prophet::parse(&std::fs::read_to_string(PROPHET).unwrap()).unwrap();
    let channel = tokio.block_on(connect());
    tokio.block_on(ready(&channel));
    let mut found = Found::default();
    let (concave, shaped) = (budget(1.0), budget(2.5));
    for round in 0..rounds {
        let rpc = tokio.block_on(batch(&channel, &model, round));
        let own = in_process(&model, round);
        found.forecasts_rpc_ms.push(millis(rpc));
        found.forecasts_in_process_ms.push(millis(own));
        found.rpc_share.push(1.0 - own.as_secs_f64() / rpc.as_secs_f64());
        found.budget_concave_ms.push(millis(tokio.block_on(optimize(&channel, &concave))));
        found.budget_s_shaped_ms.push(millis(tokio.block_on(optimize(&channel, &shaped))));
    }
    eprintln!("the server holds {:.0} MB", server.resident_mb());
    found
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

async fn connect() -> Channel {
    let endpoint = Channel::from_shared(format!("http://{ADDRESS}")).unwrap();
    loop {
        match endpoint.connect().await {
            Ok(channel) => return channel,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn ready(channel: &Channel) {
    let request = pb::ForecastRequest { rows: range(0, 1), ..question() };
    while ForecastServiceClient::new(channel.clone()).forecast(request.clone()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn question() -> pb::ForecastRequest {
    let model = pb::ModelSelector { name: "daily".to_owned(), pick: None };
    pb::ForecastRequest { model: Some(model), interval_width: Some(0.8), ..Default::default() }
}

/// Each begins at another second.
fn start(model: &Prophet, n: usize) -> i64 {
    model.last_date().unwrap().micros() + (86_400 + n as i64) * 1_000_000
}

fn range(start: i64, horizon: usize) -> Option<Rows> {
    let (frequency, horizon) = ("D".to_owned(), u32::try_from(horizon).unwrap());
    Some(Rows::Range(pb::ForecastRange { start_unix_micros: Some(start), frequency, horizon }))
}

async fn batch(channel: &Channel, model: &Prophet, round: usize) -> Duration {
    let requests: Vec<_> = (0..SERIES)
        .map(|n| pb::ForecastBatchRequest {
            id: n as u64,
            request: Some(pb::ForecastRequest { rows: range(start(model, round * SERIES + n), DAYS), ..question() }),
            timeout_micros: Some(60_000_000),
        })
        .collect();
    let started = Instant::now();
    let answers = ForecastServiceClient::new(channel.clone()).forecast_batch(tokio_stream::iter(requests)).await;
    let mut answers = answers.unwrap().into_inner();
    let mut answered = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        match answer.result {
            Some(Outcome::Response(response)) => assert_eq!(response.yhat.len(), DAYS),
            other => panic!("{other:?}"),
        }
        answered += 1;
    }
    assert_eq!(answered, SERIES);
    started.elapsed()
}

fn in_process(model: &Prophet, round: usize) -> Duration {
    let started = Instant::now();
    let options = Options::interval(0.8);
    for n in 0..SERIES {
        let first = aibuyer_domain::forecast::Timestamp::from_micros(start(model, round * SERIES + n));
        let dates = Frequency::parse("D").unwrap().dates_from(first, DAYS).unwrap();
        std::hint::black_box(model.forecast(&Frame::new(dates), &options).unwrap());
    }
    started.elapsed()
}

fn budget(slope: f64) -> pb::OptimizeBudgetRequest {
    use pb::{budget_campaign::Response, response_curve::Kind};
    let campaign = |n: usize| {
        // Spread without a pattern.
        let share = |k: usize| ((n * k) % 997) as f64 / 997.0;
        let hill = pb::HillCurve { beta: 10.0 + 90.0 * share(31), kappa: 5.0 + 45.0 * share(57), slope };
        pb::BudgetCampaign {
            id: n.to_string(),
            response: Some(Response::Curve(pb::ResponseCurve { kind: Some(Kind::Hill(hill)) })),
            ..Default::default()
        }
    };
    let campaigns = (0..CAMPAIGNS).map(campaign).collect();
    pb::OptimizeBudgetRequest { budget: 20.0 * CAMPAIGNS as f64, campaigns, ..Default::default() }
}

async fn optimize(channel: &Channel, request: &pb::OptimizeBudgetRequest) -> Duration {
    let mut client = BudgetServiceClient::new(channel.clone()).max_decoding_message_size(64 << 20);
    let request = request.clone();
    let started = Instant::now();
    let answer = client.optimize_budget(request).await.unwrap().into_inner();
    let took = started.elapsed();
    assert_eq!(answer.campaigns.len(), CAMPAIGNS);
    took
}
