//! The `aibuyer-server` binary: reads the command line, the environment and the file, and runs a command.

#![allow(clippy::print_stdout, clippy::print_stderr)] // the terminal is what this file is for

use std::{env, fs, path::PathBuf, process::ExitCode, time::Duration};

use aibuyer_loader::{onnx::wait_closed, session::Runtime as _};
use aibuyer_server::{
    commands::{
        inspect, migrate, predict,
        serve::{self, AnyError},
    },
    config::{self, Config, Raw, Sources},
    lanes,
};
use clap::{Parser, Subcommand};

/// ONNX Runtime allocates by it too: memory of an unloaded model goes back to the system, where glibc keeps it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Serves click-through-rate models over gRPC.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    /// Configuration file (TOML).
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Sets one setting, over the file and the environment; may be repeated.
    #[arg(long, global = true, value_name = "SECTION.NAME=VALUE")]
    set: Vec<String>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the engine (the default).
    Serve,
    /// Make ClickHouse's tables, or bring them up to date; safe to repeat.
    Migrate,
    /// Print the effective configuration with comments.
    Config,
    /// Send a prediction request from a JSON file and print the answer.
    Predict {
        /// The request, or - for standard input.
        file: PathBuf,
        /// Address of the engine.
        #[arg(long, default_value = "127.0.0.1:8500", value_name = "HOST:PORT")]
        address: String,
    },
    /// Show a model directory: signature, features, golden result, size.
    Inspect {
        /// The directory of one version, such as models/ctr-upworthy/1.
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let result = run(Cli::parse());
    // An exit under sessions on a GPU is an abort.
    let _ = wait_closed(Duration::from_secs(10));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aibuyer-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), AnyError> {
    let file = match &cli.config {
        None => None,
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
            Some((path.display().to_string(), text))
        }
    };
    let raw = Raw::read(&Sources {
        file: file.as_ref().map(|(path, text)| (path.as_str(), text.as_str())),
        environment: env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect(),
        flags: cli.set,
    })?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let config = Config::new(&raw, cores)?;
    // What speaks gRPC has threads of its own; this one waits for signals and answers HTTP.
    let tokio = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => tokio()?.block_on(serve::run(&config)),
        Command::Migrate => {
            print!("{}", tokio()?.block_on(migrate::run(&config))?);
            Ok(())
        }
        Command::Config => {
            print!("{}", config::render(&raw));
            Ok(())
        }
        Command::Predict { file, address } => {
            println!("{}", tokio()?.block_on(predict::run(&address, &file))?);
            Ok(())
        }
        Command::Inspect { folder } => {
            let runtime = serve::runtime(&config)?;
            let options = lanes::options(&config, runtime.placement().device);
            print!("{}", inspect::run(&folder, &runtime, options.limits.max_batch_rows)?);
            Ok(())
        }
    }
}
