//! The command line.

use std::{path::PathBuf, time::Duration};

use aibuyer_loadtest::requests::{Form, KeyFormat, Keys, PREDICT_CTR};
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Load tests of a gRPC server: an open loop that measures from the moment a call was due, or a closed one.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send on a schedule, whether or not earlier calls were answered
    Open {
        #[command(flatten)]
        when: When,
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        run: Run,
    },
    /// Keep a number of callers busy, each with one call at a time
    Closed {
        /// Callers
        #[arg(long, default_value = "64", value_parser = clap::value_parser!(u16).range(1..))]
        callers: u16,
        /// How long
        #[arg(long, default_value = "10s", value_parser = length)]
        duration: Duration,
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        run: Run,
    },
    /// Write requests to a binary file that ghz takes, too (`--binary --data-file`)
    Requests {
        #[command(flatten)]
        what: What,
        /// The file
        #[arg(long)]
        out: PathBuf,
    },
}

/// When calls are due.
#[derive(Debug, Args)]
pub(crate) struct When {
    /// Calls a second; with commas, a step for each
    #[arg(long, value_delimiter = ',', value_parser = rate, required_unless_present = "trace")]
    pub(crate) rates: Vec<f64>,
    /// How long each step lasts
    #[arg(long, default_value = "10s", value_parser = length)]
    pub(crate) duration: Duration,
    /// Gaps between calls
    #[arg(long, default_value = "poisson")]
    pub(crate) schedule: Gaps,
    /// Chooses the gaps of `poisson`
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// A file of arrivals instead: seconds from the start, one a line
    #[arg(long, conflicts_with_all = ["rates", "duration", "schedule"])]
    pub(crate) trace: Option<PathBuf>,
    /// Calls without an answer beyond which due calls are dropped, and counted
    #[arg(long, default_value_t = 10_000)]
    pub(crate) max_outstanding: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Gaps {
    /// Exponential: callers that know nothing of each other
    Poisson,
    /// All alike
    Constant,
}

/// Requests to send.
#[derive(Debug, Args)]
pub(crate) struct What {
    /// Requests from a file, as ghz has them: `.json`, or binary with lengths
    #[arg(long, required_unless_present = "model", conflicts_with = "model")]
    pub(crate) data: Option<PathBuf>,
    /// The method that the file's requests are for
    #[arg(long, default_value = PREDICT_CTR, conflicts_with = "model")]
    pub(crate) call: String,
    /// Requests made for a model: the folder of a version, such as `models/ctr-upworthy/1`
    #[arg(long)]
    pub(crate) model: Option<PathBuf>,
    /// How their features travel
    #[arg(long, default_value = "named")]
    pub(crate) form: Form,
    /// As messages on streams, one stream a connection, instead of calls
    #[arg(long)]
    pub(crate) stream: bool,
    /// Candidates of each
    #[arg(long, default_value = "32", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) candidates: u32,
    /// Columns that all candidates of a request share, with commas
    #[arg(long, value_delimiter = ',')]
    pub(crate) context: Vec<String>,
    /// How ids and keys are drawn
    #[arg(long, default_value = "zipf")]
    pub(crate) keys: Keys,
    /// Entities of each kind that a feature store has: of stored features, requests carry the key
    #[arg(long, default_value = "10000", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) entities: u32,
    /// Keys of entities: `{n}` is the number, from 0 on, `{n:06}` in six digits
    #[arg(long, default_value = "{entity}_{n}")]
    pub(crate) key_format: KeyFormat,
    /// Requests carry stored features themselves, so that nothing is looked up
    #[arg(long)]
    pub(crate) carry_features: bool,
    /// Different requests, sent in turn
    #[arg(long, default_value = "256", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) count: u16,
}

/// Where to, and what to report.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The server's gRPC address
    #[arg(long, default_value = "127.0.0.1:8500")]
    pub(crate) address: String,
    /// HTTP/2 connections
    #[arg(long, default_value = "16", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) connections: u16,
    /// Deadline of each call
    #[arg(long, value_parser = length)]
    pub(crate) deadline: Option<Duration>,
    /// The server's process id: reports its processor time and memory (Linux)
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Objectives (TOML); a broken one makes the exit code 1
    #[arg(long)]
    pub(crate) slo: Option<PathBuf>,
    /// Writes ghz's JSON here; with several steps, a file each
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Lists every call in the JSON, as ghz does
    #[arg(long, requires = "json")]
    pub(crate) details: bool,
    /// Writes a page with charts here
    #[arg(long)]
    pub(crate) html: Option<PathBuf>,
    /// Title of the report
    #[arg(long, default_value = "Load test")]
    pub(crate) name: String,
    /// Rows a second of ONNX Runtime in process: the report gives the ratio
    #[arg(long, value_parser = rate)]
    pub(crate) ceiling_rows_per_second: Option<f64>,
    /// Requests a second of a bare tonic server: the report gives the ratio
    #[arg(long, value_parser = rate)]
    pub(crate) ceiling_requests_per_second: Option<f64>,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let fits = rate > 0.0 && rate <= 1e9;
    fits.then_some(rate).ok_or_else(|| "a rate is above 0, a second".to_owned())
}

fn length(text: &str) -> Result<Duration, String> {
    let length = humantime::parse_duration(text).map_err(|e| format!("{e}; write one such as 10s or 50ms"))?;
    (!length.is_zero()).then_some(length).ok_or_else(|| "must be longer than 0".to_owned())
}
