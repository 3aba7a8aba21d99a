//! The load generator's command line. Exit codes: 0 all objectives kept, 1 one broken, 2 it could not run.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod args;

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use aibuyer_loadtest::{
    client::Target,
    load::Load,
    machine::Machine,
    process::Usage,
    report::{self, Ceilings, Report, Step, latency},
    requests::{self, Entities, Pool, Synthetic},
    schedule::Schedule,
    slo::Slo,
    tally::Shared,
};
use aibuyer_proto::inference::{self, grpc_inference_service_client::GrpcInferenceServiceClient};
use args::{Arguments, Command, Gaps, Run, What, When};
use clap::Parser as _;

type Failure = Box<dyn Error>;

const SEED: u64 = 7;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(command(arguments.command)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all objectives were kept.
async fn command(command: Command) -> Result<bool, Failure> {
    match command {
        Command::Open { when, what, run } => {
            let schedules = schedules(&when)?;
            let described = if when.trace.is_some() { "trace".to_owned() } else { described(&when) };
            let plan: Vec<Plan> = schedules.into_iter().map(|s| Plan::Open(s, when.max_outstanding)).collect();
            loads(plan, &what, run, format!("open loop, {described}")).await
        }
        Command::Closed { callers, duration, what, run } => {
            let plan = vec![Plan::Closed(usize::from(callers), duration)];
            loads(plan, &what, run, "closed loop".to_owned()).await
        }
        Command::Requests { what, out } => {
            let pool = pool(&what)?;
            requests::write(&pool, &out)?;
            println!("{} requests for {} in {}", pool.len(), pool.method, out.display());
            Ok(true)
        }
    }
}

/// One load to run.
enum Plan {
    Open(Schedule, u64),
    Closed(usize, Duration),
}

impl Plan {
    fn label(&self) -> String {
        match self {
            Self::Open(schedule, _) => format!("{:.0}/s", schedule.rate()),
            Self::Closed(1, _) => "1 caller".to_owned(),
            Self::Closed(callers, _) => format!("{callers} callers"),
        }
    }

    fn load(&self) -> report::Load {
        match self {
            Self::Open(schedule, _) => report::Load::Rate(schedule.rate()),
            Self::Closed(callers, _) => report::Load::Callers(*callers),
        }
    }

    fn length(&self) -> Duration {
        match self {
            Self::Open(schedule, _) => schedule.length(),
            Self::Closed(_, length) => *length,
        }
    }
}

fn schedules(when: &When) -> Result<Vec<Schedule>, Failure> {
    if let Some(path) = &when.trace {
        return Ok(vec![Schedule::trace(path)?]);
    }
    let (length, seed) = (when.duration, when.seed);
    let schedule = |rate: &f64| match when.schedule {
        Gaps::Constant => Schedule::Constant { rate: *rate, length },
        Gaps::Poisson => Schedule::Poisson { rate: *rate, length, seed },
    };
    Ok(when.rates.iter().map(schedule).collect())
}

fn described(when: &When) -> String {
    match when.schedule {
        Gaps::Constant => format!("constant gaps, {} a step", humantime::format_duration(when.duration)),
        Gaps::Poisson => format!("Poisson, seed {}, {} a step", when.seed, humantime::format_duration(when.duration)),
    }
}

fn pool(what: &What) -> Result<Pool, Failure> {
    let pool = calls(what)?;
    Ok(if what.stream { pool.streamed()? } else { pool })
}

fn calls(what: &What) -> Result<Pool, Failure> {
    if let Some(path) = &what.data {
        return Ok(requests::read(path, &what.call)?);
    }
    let folder = what.model.as_deref().unwrap_or(Path::new("models"));
    let synthetic = Synthetic {
        form: what.form,
        keys: what.keys,
        candidates: what.candidates,
        context: what.context.clone(),
        entities: Entities { count: what.entities, format: what.key_format.clone(), carried: what.carry_features },
        count: usize::from(what.count),
        seed: SEED,
    };
    Ok(synthetic.pool(folder)?)
}

/// Runs the loads in turn and reports.
async fn loads(plan: Vec<Plan>, what: &What, run: Run, schedule: String) -> Result<bool, Failure> {
    let slo = run.slo.as_deref().map(Slo::read).transpose()?;
    let pool = pool(what)?;
    if let Some(pid) = run.pid.filter(|pid| Usage::of(*pid).is_none()) {
        return Err(format!("--pid {pid}: no such process, or this system has no /proc (only Linux has one)").into());
    }
    let target = Target { address: run.address.clone(), path: pool.method.clone(), deadline: run.deadline };
    let mut report = Report {
        name: run.name,
        address: run.address,
        method: pool.method.clone(),
        server: None,
        connections: usize::from(run.connections),
        deadline: run.deadline,
        schedule,
        requests: (pool.len(), pool.bytes()),
        rows: pool.rows(),
        machine: Machine::this(),
        ceilings: Ceilings {
            rows_per_second: run.ceiling_rows_per_second,
            requests_per_second: run.ceiling_requests_per_second,
        },
        steps: Vec::new(),
    };
    let load = Load::open(&target, report.connections, pool, run.pid).await?;
    report.server = server(&report.address).await;
    for plan in plan {
        let (label, asked) = (plan.label(), plan.load());
        let tally = if run.details { Shared::with_calls() } else { Shared::default() };
        let progress = tokio::spawn(progress(label.clone(), plan.length(), tally.clone()));
        let measured = match plan {
            Plan::Open(schedule, most) => load.run_open(schedule, most, &tally).await?,
            Plan::Closed(callers, length) => load.run_closed(callers, length, &tally).await,
        };
        progress.abort();
        let verdict = slo.as_ref().map(|slo| slo.judge(&measured)).unwrap_or_default();
        let step = Step { label, load: asked, measured, verdict };
        println!("{}", report.summary(&step));
        report.steps.push(step);
    }
    write(&report, run.json.as_deref(), run.html.as_deref())?;
    Ok(report.kept())
}

/// A line a second, so that nobody wonders whether it hangs.
async fn progress(label: String, length: Duration, tally: Shared) {
    let start = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.tick().await;
    loop {
        tick.tick().await;
        let line = {
            let tally = tally.lock();
            let failed = tally.sent() - tally.succeeded();
            let p99 = latency(tally.latency.percentile(99.0));
            format!("{} answered, p99 {p99}, {failed} failed, {} dropped", tally.succeeded(), tally.dropped)
        };
        eprintln!("  {label}: {:.0} s of {:.0} s, {line}", start.elapsed().as_secs_f64(), length.as_secs_f64());
    }
}

/// Name and version, if the server speaks the Open Inference Protocol.
async fn server(address: &str) -> Option<String> {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).ok()?.connect().await.ok()?;
    let mut client = GrpcInferenceServiceClient::new(channel);
    let reply = client.server_metadata(inference::ServerMetadataRequest {}).await.ok()?.into_inner();
    Some(format!("{} {}", reply.name, reply.version))
}

fn write(report: &Report, json: Option<&Path>, html: Option<&Path>) -> Result<(), Failure> {
    let save = |path: &Path, text: String| {
        let folder = path.parent().filter(|f| !f.as_os_str().is_empty());
        folder.map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, text))?;
        println!("written: {}", path.display());
        Ok::<(), std::io::Error>(())
    };
    let failed = |path: &Path, e: std::io::Error| format!("cannot write {}: {e}", path.display());
    if let Some(path) = json {
        for step in &report.steps {
            let path = if report.steps.len() == 1 { path.to_owned() } else { beside(path, &step.label) };
            save(&path, format!("{:#}\n", report.ghz(step))).map_err(|e| failed(&path, e))?;
        }
    }
    if let Some(path) = html {
        save(path, report.html()).map_err(|e| failed(path, e))?;
    }
    Ok(())
}

/// `out/step.json` and `500/s` make `out/step-500.json`.
fn beside(path: &Path, label: &str) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}-{}.json", label.trim_end_matches("/s")))
}
