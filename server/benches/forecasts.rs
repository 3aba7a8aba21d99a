//! Forecasts and budgets through gRPC, and what a storm of forecasts does to click-through rates.
//!
//! Client and server on this machine, all rounds interleaved. Nothing is answered from memory.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "limits/process.rs"]
mod process;
#[path = "limits/requests.rs"]
#[allow(dead_code)] // `callers` is for closed loops
mod requests;
#[path = "limits/rounds.rs"]
mod rounds;
#[path = "forecasts/storm.rs"]
mod storm;
#[path = "forecasts/work.rs"]
mod work;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use aibuyer_loader::onnx;
use aibuyer_loadtest::machine::Machine;
use serde::Serialize;

use process::Process;

const ADDRESS: &str = "127.0.0.1:18512";
const PROPHET: &str = "domain/testdata/prophet/cases/daily/model.json";
const ROUNDS: usize = 7;

#[derive(Serialize)]
struct Results {
    date: String,
    machine: Machine,
    work: work::Found,
    storm: storm::Found,
}

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let repository = PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
    std::env::set_current_dir(&repository).unwrap();
    let configured = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let library = onnx::find(None, configured.as_deref(), None).unwrap_or_else(|e| panic!("{e}"));
    let models = models(&repository);
    let settings = ["executor.cache_bytes=0", "batching.lanes=2"];
    let server = Process::server(&library.canonicalize().unwrap(), models.path(), ADDRESS, &settings);
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    eprintln!("1 of 2: forecasts and budgets through gRPC and in process ...");
    let work = work::measure(&tokio, &server, ROUNDS);
    eprint!("{}", work.markdown());
    eprintln!("2 of 2: click-through rates beside a storm of forecasts, about 90 s ...");
    let storm = storm::measure(&tokio, &server, ROUNDS);
    eprint!("{}", storm.markdown());
    let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    write(&Results { date, machine: Machine::this(), work, storm }, Path::new("loadtest/results"));
}

/// The demo model and a Prophet model as `mlflow.prophet` logs it.
fn models(repository: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let prophet = folder.path().join("daily/1");
    fs::create_dir_all(&prophet).unwrap();
    fs::copy(PROPHET, prophet.join("model.pr")).unwrap();
    fs::write(prophet.join("MLmodel"), "flavors:\n  prophet:\n    data: model.pr\n  python_function: {}\n").unwrap();
    std::os::unix::fs::symlink(repository.join("models/ctr-upworthy"), folder.path().join("ctr-upworthy")).unwrap();
    folder
}

fn write(results: &Results, folder: &Path) {
    let mut text = String::from("# Forecasts and budgets\n\nWritten by `make bench-forecasts`. ");
    let _ = writeln!(
        text,
        "{}. {}.\nMedian (least–most) of {ROUNDS} interleaved rounds.\n",
        results.date,
        results.machine.line()
    );
    text.push_str(&results.work.markdown());
    text.push('\n');
    text.push_str(&results.storm.markdown());
    fs::write(folder.join("forecasts.md"), text).unwrap();
    fs::write(folder.join("forecasts.json"), serde_json::to_string_pretty(results).unwrap() + "\n").unwrap();
    println!("written: {0}/forecasts.md, {0}/forecasts.json", folder.display());
}
