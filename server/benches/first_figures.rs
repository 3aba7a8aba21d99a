//! First figures: requests a second and latency for 1 and 32 candidates, beside ONNX Runtime in process.
//!
//! Closed loop, client and server on this machine, rounds interleaved with the ceiling so that both see the
//! same machine. Only the ratios mean anything on a shared machine.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss)]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use aibuyer_domain::{
    ctr::{Column, Values},
    model::{ServableId, Version},
};
use aibuyer_loader::{
    onnx::{self, OnnxRuntime},
    session::Inputs,
    stages::Fetched,
};
use aibuyer_proto::serving::v1::{self as pb, ctr_service_client::CtrServiceClient};

const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;
/// Candidates in a request and callers at once.
const LOADS: [(usize, usize); 5] = [(1, 1), (32, 1), (1, 64), (32, 16), (32, 64)];
/// Rows of a batch in process: where batching gains no more on a CPU.
const CEILING_BATCH: usize = 64;
const LANES: usize = 2;

const HEADLINE: [&str; 12] =
    ["a", "dog", "learns", "to", "fly", "and", "nobody", "in", "town", "is", "surprised", "now"];

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    fn start(library: &Path, address: &str) -> Self {
        let set = [format!("server.grpc_listen={address}"), format!("batching.lanes={LANES}")];
        let child = Command::new(env!("CARGO_BIN_EXE_aibuyer-server"))
            .args(["serve", "--set", &set[0], "--set", &set[1], "--set", "server.http_listen=127.0.0.1:0"])
            .args(["--set", "log.level=error"])
            .env("ORT_DYLIB_PATH", library)
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Processor time the server has used, in seconds.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        // Linux reports in hundredths of a second on every platform we run on.
        ticks / 100.0
    }
}

fn request(candidates: usize) -> pb::PredictCtrRequest {
    let column = |name: &str, values| pb::Column { name: name.to_owned(), values: Some(values), missing: vec![] };
    let strings = |values: Vec<String>| pb::column::Values::Strings(pb::StringValues { values });
    let ints = |f: &dyn Fn(usize) -> i64| {
        pb::column::Values::Int64s(pb::Int64Values { values: (0..candidates).map(f).collect() })
    };
    let words = (0..candidates).flat_map(|_| HEADLINE.map(str::to_owned)).collect();
    let lengths = vec![u32::try_from(HEADLINE.len()).unwrap(); candidates];
    pb::PredictCtrRequest {
        model: Some(pb::ModelSelector { name: "ctr-upworthy".to_owned(), pick: None }),
        context: vec![
            column("week", strings(vec!["201303".to_owned()])),
            column("test_id", strings(vec!["51436061220cb800020001e7".to_owned()])),
        ],
        candidates: vec![
            column("headline", pb::column::Values::StringLists(pb::StringListValues { values: words, lengths })),
            column("eyecatcher_id", strings((0..candidates).map(|i| format!("5332ba141fae79f09f00{i:04x}")).collect())),
            column("headline_chars", ints(&|i| 40 + i64::try_from(i).unwrap())),
            column("headline_words", ints(&|_| 12)),
            column("has_question", ints(&|i| i64::from(i % 3 == 0))),
        ],
        ..Default::default()
    }
}

/// One closed-loop round: latencies in microseconds, sorted.
fn round(tokio: &tokio::runtime::Runtime, address: &str, candidates: usize, callers: usize) -> Vec<f64> {
    tokio.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        let mut channels = Vec::new();
        for _ in 0..callers.min(16) {
            let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
            channels.push(endpoint.tcp_nodelay(true).connect().await.unwrap());
        }
        let end = Instant::now() + ROUND;
        for i in 0..callers {
            let mut client = CtrServiceClient::new(channels[i % channels.len()].clone());
            tasks.spawn(async move {
                let request = request(candidates);
                let mut latencies = Vec::new();
                while Instant::now() < end {
                    let sent = Instant::now();
                    let reply = client.predict_ctr(request.clone()).await.unwrap().into_inner();
                    assert_eq!(reply.predictions.len(), candidates);
                    latencies.push(sent.elapsed().as_secs_f64() * 1e6);
                }
                latencies
            });
        }
        let mut all: Vec<f64> = tasks.join_all().await.concat();
        all.sort_by(f64::total_cmp);
        all
    })
}

/// Rows a second of ONNX Runtime in process, one session a thread.
struct Ceiling {
    runtime: OnnxRuntime,
}

impl Ceiling {
    fn rows_per_second(&self, batch: usize) -> f64 {
        let id = ServableId { name: "ctr-upworthy".parse().unwrap(), version: Version::new(1).unwrap() };
        let fetched = Fetched::local(id, repository().join("models/ctr-upworthy/1"));
        let warmed = fetched.verify().unwrap().open(&self.runtime, LANES).unwrap().warm(batch).unwrap();
        let chars: Vec<i64> = (0..batch).map(|i| i64::try_from(i).unwrap()).collect();
        let column = Column { name: "headline_chars", values: Values::Int64s(&chars), missing: &[] };
        let rows = Arc::new(warmed.verified.encoder.encode(&[], &[column], batch).unwrap().rows);
        let barrier = Arc::new(Barrier::new(LANES));
        let threads: Vec<_> = warmed
            .sessions
            .into_iter()
            .map(|mut session| {
                let (rows, barrier) = (Arc::clone(&rows), Arc::clone(&barrier));
                thread::spawn(move || {
                    barrier.wait();
                    let (started, mut runs) = (Instant::now(), 0);
                    while started.elapsed() < ROUND / 2 {
                        session.run(Inputs { rows: rows.len, ids: &rows.ids, dense: &rows.dense }).unwrap();
                        runs += rows.len;
                    }
                    runs as f64 / started.elapsed().as_secs_f64()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    }
}

fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    std::env::set_current_dir(repository()).unwrap();
    let configured = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let library = onnx::find(None, configured.as_deref(), None).unwrap_or_else(|e| panic!("{e}"));
    let ceiling = Ceiling { runtime: OnnxRuntime::start(&library).unwrap() };
    let address = "127.0.0.1:18510";
    let server = Server::start(&library.canonicalize().unwrap(), address);
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    while std::net::TcpStream::connect(address).is_err() {
        thread::sleep(Duration::from_millis(20));
    }
    for _ in 0..2 {
        thread::sleep(Duration::from_millis(500)); // the model loads after the port opens
        round(&tokio, address, 32, 1);
    }

    println!("{ROUNDS} interleaved rounds of {ROUND:?}; median (least to most)\n");
    println!("| candidates | callers | requests/s | p50 µs | p99 µs | server CPU µs/request | rows/s ÷ in process |");
    println!("|---|---|---|---|---|---|---|");
    for (candidates, callers) in LOADS {
        let (mut rate, mut p50, mut p99, mut cpu, mut ratio) = (vec![], vec![], vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            let top = ceiling.rows_per_second(CEILING_BATCH);
            let before = server.cpu();
            let latencies = round(&tokio, address, candidates, callers);
            let n = latencies.len();
            let per_second = n as f64 / ROUND.as_secs_f64();
            cpu.push((server.cpu() - before) * 1e6 / n as f64);
            rate.push(per_second);
            p50.push(latencies[n / 2]);
            p99.push(latencies[n * 99 / 100]);
            ratio.push(per_second * candidates as f64 / top);
        }
        let cell = |values: Vec<f64>, digits: usize| {
            let (median, least, most) = spread(values);
            format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
        };
        println!(
            "| {candidates} | {callers} | {} | {} | {} | {} | {} |",
            cell(rate, 0),
            cell(p50, 0),
            cell(p99, 0),
            cell(cpu, 0),
            cell(ratio, 3)
        );
    }
    for batch in [1, 32, CEILING_BATCH] {
        let (median, least, most) = spread((0..ROUNDS).map(|_| ceiling.rows_per_second(batch)).collect());
        println!(
            "\nin process, {LANES} sessions of one thread, batch {batch}: {median:.0} ({least:.0} to {most:.0}) rows/s"
        );
    }
}
