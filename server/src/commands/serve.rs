//! `aibuyer-server serve`: runs the engine until it is told to stop.

use std::{
    env,
    io::{self, IsTerminal as _},
    path::PathBuf,
    sync::Arc,
};

use aibuyer_loader::onnx::{self, OnnxRuntime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{app::App, config::Config};

/// Any error, for the person at the terminal.
pub type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Loads ONNX Runtime as configured.
///
/// # Errors
/// When the library is nowhere, or is not one, or the GPU that was asked for cannot be used.
pub fn runtime(config: &Config) -> Result<OnnxRuntime, AnyError> {
    let environment = env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let binary = env::current_exe().ok();
    let library = onnx::find(config.onnxruntime_library.as_deref(), environment.as_deref(), binary.as_deref())?;
    let runtime = OnnxRuntime::start(&library)?;
    tracing::info!(library = %library.display(), "ONNX Runtime loaded");
    Ok(runtime.with_device(config.device)?)
}

/// Starts the log on standard error.
pub fn start_log(config: &Config) {
    let log = tracing_subscriber::fmt().with_max_level(config.log_level).with_writer(io::stderr);
    let log = log.with_ansi(io::stderr().is_terminal());
    if config.log_json {
        log.json().init();
    } else {
        log.with_target(false).init();
    }
}

/// Serves until SIGTERM or SIGINT; a second one ends the wait for requests under way.
///
/// # Errors
/// When the engine cannot start, or not every request could be finished.
pub async fn run(config: &Config) -> Result<(), AnyError> {
    start_log(config);
    let mut signals = Signals::new()?;
    let runtime = runtime(config)?;
    let app = App::start(config, Arc::new(runtime)).await?;
    tracing::info!(
        grpc = %app.grpc_address, http = %app.http_address, registry = %config.registry.source,
        "listening"
    );
    let mut ready = false;
    let signal = loop {
        tokio::select! {
            () = app.ready(), if !ready => {
                ready = true;
                tracing::info!("ready");
            }
            signal = signals.next() => break signal,
        }
    };
    tracing::info!(signal, "stopping: requests under way may finish; a second signal ends them");
    let finished = tokio::select! {
        finished = app.stop() => finished,
        _ = signals.next() => false,
    };
    if finished {
        tracing::info!("stopped");
        Ok(())
    } else {
        Err("stopped before every request was finished: server.shutdown_grace was over, or a second signal came".into())
    }
}

/// The signals that stop the engine. Made once: a signal that comes before the next wait is not lost.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// The next signal's name.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}
