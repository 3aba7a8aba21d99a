//! How near the server comes to its limits: requests a second, latency and processor time for 1 and 32
//! candidates, beside ONNX Runtime in process (the limit of compute) and a bare tonic server that answers
//! without thinking (the limit of gRPC).
//!
//! Closed loop, client and server on this machine, all rounds interleaved so that they see the same machine.
//! Only the ratios mean anything on a shared machine.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss)]

#[path = "limits/echo.rs"]
mod echo;
#[path = "limits/load.rs"]
mod load;
#[path = "limits/requests.rs"]
mod requests;

use std::{
    path::PathBuf,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use aibuyer_domain::model::{ServableId, Version};
use aibuyer_loader::{
    onnx::{self, OnnxRuntime},
    stages::{Fetched, Kind, Places},
};

use load::{Process, Round};
use requests::{Form, Scenario};

const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;
/// Rows of a batch in process: where batching gains no more on a CPU.
const CEILING_BATCH: usize = 128;
const LANES: usize = 2;

const fn scenario(model: &'static str, form: Form, candidates: usize, callers: usize) -> Scenario {
    Scenario { model, form, candidates, callers }
}

const DEMO: &str = "ctr-upworthy";
/// Made by `loadtest/make_model.py`: the size of a production DeepFM.
const LARGE: &str = "ctr-criteo-shape";

const SCENARIOS: [Scenario; 11] = [
    scenario(DEMO, Form::Named, 1, 1),
    scenario(DEMO, Form::Named, 32, 1),
    scenario(DEMO, Form::Named, 1, 64),
    scenario(DEMO, Form::Named, 32, 64),
    scenario(DEMO, Form::Streamed, 1, 64),
    scenario(DEMO, Form::Streamed, 32, 64),
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
        let warmed = fetched.verify().unwrap().open(&self.runtime, LANES).unwrap().warm(batch).unwrap();
        let Kind::Ctr(ctr) = &warmed.verified.kind else { panic!("not a CTR model") };
        let rows = requests::random_rows(&ctr.spec.id_bounds(), ctr.spec.columns(), batch);
        let inputs = Arc::new(Places::new(&warmed.signature).tensors(rows));
        let barrier = Arc::new(Barrier::new(LANES));
        let threads: Vec<_> = warmed
            .sessions
            .into_iter()
            .map(|mut session| {
                let (inputs, barrier) = (Arc::clone(&inputs), Arc::clone(&barrier));
                thread::spawn(move || {
                    barrier.wait();
                    let (started, mut runs) = (Instant::now(), 0);
                    while started.elapsed() < ROUND / 2 {
                        session.run(&inputs).unwrap();
                        runs += batch;
                    }
                    runs as f64 / started.elapsed().as_secs_f64()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    }
}

/// Median, least and most.
fn cell(mut values: Vec<f64>, digits: usize) -> String {
    values.sort_by(f64::total_cmp);
    let (median, least, most) = (values[values.len() / 2], values[0], values[values.len() - 1]);
    format!("{median:.digits$} ({least:.digits$}–{most:.digits$})")
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
    let echo = Process::echo("127.0.0.1:18511");

    println!("{ROUNDS} interleaved rounds of {ROUND:?}, {LANES} lanes; median (least–most)\n");
    println!(
        "| model, form | rows × callers | requests/s | p50 µs | p99 µs | server CPU µs/request | beyond compute | rows/s ÷ in process | requests/s ÷ bare tonic | RSS MB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let only: Vec<&String> = arguments.iter().skip(1).filter(|a| !a.starts_with('-')).collect();
    for scenario in SCENARIOS {
        let name = format!("{}, {:?}, {} × {}", scenario.model, scenario.form, scenario.candidates, scenario.callers);
        if !only.is_empty() && !only.iter().any(|part| name.contains(*part)) {
            continue;
        }
        let root = folder(scenario.model).parent().unwrap().parent().unwrap().to_owned();
        let server = Process::server(&library, &root, "127.0.0.1:18510", LANES);
        load::until_served(&tokio, "127.0.0.1:18510", scenario);
        let (mut rates, mut p50, mut p99, mut cpu, mut beyond, mut rows, mut bare) =
            (vec![], vec![], vec![], vec![], vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            let top = ceiling.rows_per_second(scenario.model, CEILING_BATCH);
            let echoed = load::round(&tokio, &echo, scenario.called(), ROUND / 2);
            let Round { rate, median, tail, cpu_per_request } = load::round(&tokio, &server, scenario, ROUND);
            let compute = scenario.candidates as f64 * LANES as f64 / top * 1e6;
            rates.push(rate);
            p50.push(median);
            p99.push(tail);
            cpu.push(cpu_per_request);
            beyond.push(cpu_per_request - compute);
            rows.push(rate * scenario.candidates as f64 / top);
            bare.push(rate / echoed.rate);
        }
        println!(
            "| {}, {:?} | {} × {} | {} | {} | {} | {} | {} | {} | {} | {:.0} |",
            scenario.model,
            scenario.form,
            scenario.candidates,
            scenario.callers,
            cell(rates, 0),
            cell(p50, 0),
            cell(p99, 0),
            cell(cpu, 0),
            cell(beyond, 0),
            cell(rows, 3),
            cell(bare, 2),
            server.resident_mb(),
        );
    }
}
