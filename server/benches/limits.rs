//! How near the server comes to its limits: requests a second, latency and processor time for 1 and 32
//! candidates, beside ONNX Runtime in process (the limit of compute) and a bare tonic server that answers
//! without thinking (the limit of gRPC).
//!
//! Closed loop, client and server on this machine, all rounds interleaved so that they see the same machine.
//! Only the ratios mean anything on a shared machine.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "limits/echo.rs"]
mod echo;
#[path = "limits/load.rs"]
mod load;
#[path = "limits/process.rs"]
mod process;
#[path = "limits/requests.rs"]
mod requests;
#[path = "limits/results.rs"]
mod results;
#[path = "limits/rounds.rs"]
mod rounds;
#[path = "limits/rows.rs"]
mod rows;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use aibuyer_domain::model::{ServableId, Version};
use aibuyer_loader::{
    onnx::{self, OnnxRuntime},
    stages::{Fetched, Kind, Places, Prepared},
};

use aibuyer_loadtest::requests::Form;
use load::Round;
use process::Process;
use requests::Scenario;
use results::{Results, Row};

const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;
/// Rows of a batch in process: where batching gains no more on a CPU.
const CEILING_BATCH: usize = 128;
/// Different batches in process, as many rows as the requests have: one batch over and over finds its table rows in the
/// nearest cache, as no server does.
const CEILING_BATCHES: usize = 64;
const LANES: usize = 2;

const fn scenario(model: &'static str, form: Form, candidates: u32, callers: usize) -> Scenario {
    let context: &[&str] = if matches!(form, Form::Named) { &["week", "test_id"] } else { &[] };
    Scenario { model, form, context, candidates, callers }
}

const DEMO: &str = "ctr-upworthy";
/// Made by `loadtest/make_model.py`: the size of a production DeepFM.
const LARGE: &str = "ctr-criteo-shape";

const SCENARIOS: [Scenario; 9] = [
    scenario(DEMO, Form::Named, 1, 1),
    scenario(DEMO, Form::Named, 32, 1),
    scenario(DEMO, Form::Named, 1, 64),
    scenario(DEMO, Form::Named, 32, 64),
    scenario(LARGE, Form::Encoded, 1, 1),
    scenario(LARGE, Form::Encoded, 32, 1),
    scenario(LARGE, Form::Encoded, 1, 64),
    scenario(LARGE, Form::Encoded, 32, 16),
    scenario(LARGE, Form::Encoded, 32, 64),
];

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Folder of a model's version, in the repository or where `make bench` puts it.
fn folder(model: &str) -> PathBuf {
    let root = if model == DEMO { "models" } else { ".cache/models" };
    repository().join(root).join(model).join("1")
}

/// Rows a second of ONNX Runtime in process, one session a thread.
struct Ceiling {
    runtime: OnnxRuntime,
}

impl Ceiling {
    fn rows_per_second(&self, model: &str, batch: usize) -> f64 {
        let id = ServableId { name: model.parse().unwrap(), version: Version::new(1).unwrap() };
        let fetched = Fetched::local(id, folder(model));
        let prepared = fetched.verify().unwrap().prepare(&self.runtime, LANES, batch, &|| true).unwrap();
        let Prepared::Graph(warmed) = prepared else { panic!("not an ONNX model") };
        let Kind::Ctr(ctr) = &warmed.verified.kind else { panic!("not a CTR model") };
        let places = Places::new(&warmed.signature);
        let rows = rows::random(&ctr.spec.id_bounds(), ctr.spec.columns(), batch, CEILING_BATCHES);
        let inputs: Arc<Vec<_>> = Arc::new(rows.into_iter().map(|rows| places.tensors(rows)).collect());
        let barrier = Arc::new(Barrier::new(LANES));
        let threads: Vec<_> = warmed
            .sessions
            .into_iter()
            .enumerate()
            .map(|(lane, mut session)| {
                let (inputs, barrier) = (Arc::clone(&inputs), Arc::clone(&barrier));
                thread::spawn(move || {
                    barrier.wait();
                    let (started, mut runs) = (Instant::now(), 0);
                    while started.elapsed() < ROUND / 2 {
                        // Sessions start in different places, as lanes are in different requests.
                        session.run(&inputs[(runs + lane * inputs.len() / LANES) % inputs.len()]).unwrap();
                        runs += 1;
                    }
                    (runs * batch) as f64 / started.elapsed().as_secs_f64()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|a| a == "--echo") {
        return echo::serve(&arguments[at + 1]);
    }
    // `cargo test --benches` only wants to know that it builds.
    if !arguments.iter().any(|a| a == "--bench") {
        return;
    }
    std::env::set_current_dir(repository()).unwrap();
    let configured = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let library = onnx::find(None, configured.as_deref(), None).unwrap_or_else(|e| panic!("{e}"));
    let library = library.canonicalize().unwrap();
    let ceiling = Ceiling { runtime: OnnxRuntime::start(&library).unwrap() };
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let echo = echo::start("127.0.0.1:18511");

    let only: Vec<&String> = arguments.iter().skip(1).filter(|a| !a.starts_with('-')).collect();
    let chosen = |name: &str| only.is_empty() || only.iter().any(|part| name.contains(*part));
    let mut results = Results::new(LANES, ROUNDS, ROUND);
    for (n, scenario) in SCENARIOS.into_iter().enumerate().filter(|(_, s)| chosen(&s.to_string())) {
        eprintln!("{} of {}: {scenario} ...", n + 1, SCENARIOS.len());
        let (folder, pool) = (folder(scenario.model), scenario.pool(&folder(scenario.model)));
        let root = folder.parent().and_then(Path::parent).unwrap();
        let server = Process::server(&library, root, "127.0.0.1:18510", &[&format!("batching.lanes={LANES}")]);
        load::until_served(&tokio, &server, scenario, &pool);
        let mut row = Row::new(scenario);
        for _ in 0..ROUNDS {
            let top = ceiling.rows_per_second(scenario.model, CEILING_BATCH);
            let bare = load::round(&tokio, &echo, scenario, &pool, ROUND / 2);
            let Round { rate, median, tail, cpu_per_request } = load::round(&tokio, &server, scenario, &pool, ROUND);
            let candidates = f64::from(scenario.candidates);
            row.requests_per_second.push(rate);
            row.p50_us.push(median);
            row.p99_us.push(tail);
            row.server_cpu_us.push(cpu_per_request);
            row.beyond_compute_us.push(cpu_per_request - candidates * LANES as f64 / top * 1e6);
            row.over_in_process.push(rate * candidates / top);
            row.over_bare_tonic.push(rate / bare.rate);
            row.in_process_rows_per_second.push(top);
            row.bare_tonic_requests_per_second.push(bare.rate);
        }
        row.resident_mb.push(server.resident_mb());
        results.add(row);
    }
    // Figures of a few scenarios must not stand where those of all are expected.
    if only.is_empty() {
        results.write(Path::new("loadtest/results"));
    } else {
        print!("{}", results.markdown());
    }
}
