//! `aibuyer-server serve`: runs the engine until it is told to stop.

use std::{
    env,
    io::{self, IsTerminal as _},
    path::PathBuf,
    sync::Arc,
};

use aibuyer_loader::onnx::{self, OnnxRuntime};

use crate::{app::App, config::Config};

/// Any error, for the person at the terminal.
pub type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Loads ONNX Runtime as configured.
///
/// # Errors
/// When the library is nowhere, or is not one.
pub fn runtime(config: &Config) -> Result<OnnxRuntime, AnyError> {
    let environment = env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let binary = env::current_exe().ok();
    let library = onnx::find(config.onnxruntime_library.as_deref(), environment.as_deref(), binary.as_deref())?;
    let runtime = OnnxRuntime::start(&library)?;
    tracing::info!(library = %library.display(), "ONNX Runtime loaded");
    Ok(runtime)
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

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When the engine cannot start.
pub async fn run(config: &Config) -> Result<(), AnyError> {
    start_log(config);
    let runtime = runtime(config)?;
    let app = App::start(config, Arc::new(runtime)).await?;
    tracing::info!(
        grpc = %app.grpc_address, http = %app.http_address, models = %config.registry_path.display(),
        lanes = config.lanes, "listening"
    );
    tokio::select! {
        () = app.ready() => tracing::info!("ready"),
        signal = stop_signal() => return stop(app, signal?).await,
    }
    let signal = stop_signal().await?;
    stop(app, signal).await
}

async fn stop(app: App, signal: &'static str) -> Result<(), AnyError> {
    tracing::info!(signal, "stopping: requests under way may finish");
    if app.stop().await {
        tracing::info!("stopped");
        Ok(())
    } else {
        Err("stopped before every request was finished: server.shutdown_grace was over".into())
    }
}

/// Waits for a signal to stop; its name.
async fn stop_signal() -> io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    })
}
