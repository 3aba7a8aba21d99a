//! A closed loop of callers against a process of its own.

use std::{
    path::Path,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use aibuyer_proto::serving::v1::{
    self as pb, ctr_service_client::CtrServiceClient, stream_predict_ctr_request::Form,
    stream_predict_ctr_response::Result as Outcome,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Channel};

use crate::requests::{self, AnyRequest, Scenario};

/// A server under load. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    address: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// The engine on the models in `root`.
    pub(crate) fn server(library: &Path, root: &Path, address: &str, lanes: usize) -> Self {
        let set = [
            format!("server.grpc_listen={address}"),
            format!("registry.path={}", root.display()),
            format!("batching.lanes={lanes}"),
            "server.http_listen=127.0.0.1:0".to_owned(),
            "log.level=error".to_owned(),
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_aibuyer-server"));
        command.arg("serve").env("ORT_DYLIB_PATH", library);
        for set in set {
            command.arg("--set").arg(set);
        }
        Self { child: command.spawn().unwrap(), address: address.to_owned() }
    }

    /// A bare tonic server.
    pub(crate) fn echo(address: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap()).args(["--echo", address]).spawn().unwrap();
        let process = Self { child, address: address.to_owned() };
        while std::net::TcpStream::connect(address).is_err() {
            thread::sleep(Duration::from_millis(20));
        }
        process
    }

    /// Processor time used, in seconds.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        // Linux reports in hundredths of a second on every platform we run on.
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }

    /// Memory in use.
    pub(crate) fn resident_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1000.0
    }
}

/// What a round measured. Times in microseconds.
pub(crate) struct Round {
    pub(crate) rate: f64,
    pub(crate) median: f64,
    pub(crate) tail: f64,
    pub(crate) cpu_per_request: f64,
}

async fn call(client: &mut CtrServiceClient<Channel>, request: &AnyRequest) -> Result<usize, Status> {
    match request {
        AnyRequest::Named(r) => Ok(client.predict_ctr(r.clone()).await?.into_inner().predictions.len()),
        AnyRequest::Encoded(r) => Ok(client.predict_ctr_encoded(r.clone()).await?.into_inner().ctr.len()),
    }
}

/// Callers that share a stream: each asks again when it is answered. Microseconds of each answer.
async fn stream(mut client: CtrServiceClient<Channel>, scenario: Scenario, callers: usize, end: Instant) -> Vec<f64> {
    let AnyRequest::Named(request) = scenario.request() else { panic!("streams are of named columns") };
    let ask = |caller: usize| pb::StreamPredictCtrRequest {
        id: caller as u64,
        timeout_micros: None,
        form: Some(Form::Named(request.clone())),
    };
    let (requests, waiting) = mpsc::channel(callers);
    let mut sent = vec![Instant::now(); callers];
    for caller in 0..callers {
        requests.send(ask(caller)).await.unwrap();
    }
    let mut answers = client.stream_predict_ctr(ReceiverStream::new(waiting)).await.unwrap().into_inner();
    let (mut latencies, mut requests) = (Vec::new(), Some(requests));
    while let Some(answer) = answers.message().await.unwrap() {
        let Some(Outcome::Named(reply)) = answer.result else { panic!("{answer:?}") };
        assert_eq!(reply.predictions.len(), scenario.candidates);
        let caller = usize::try_from(answer.id).unwrap();
        latencies.push(sent[caller].elapsed().as_secs_f64() * 1e6);
        sent[caller] = Instant::now();
        match &requests {
            Some(requests) if sent[caller] < end => requests.send(ask(caller)).await.unwrap(),
            // The caller's side closes; what is under way is still answered.
            _ => requests = None,
        }
    }
    latencies
}

async fn connect(address: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?;
    endpoint.tcp_nodelay(true).connect().await
}

/// Waits until the scenario's model answers.
pub(crate) fn until_served(tokio: &tokio::runtime::Runtime, address: &str, scenario: Scenario) {
    tokio.block_on(async {
        loop {
            if let Ok(channel) = connect(address).await
                && call(&mut CtrServiceClient::new(channel), &scenario.request()).await.is_ok()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}

/// Runs the scenario for `length`.
pub(crate) fn round(tokio: &tokio::runtime::Runtime, process: &Process, scenario: Scenario, length: Duration) -> Round {
    tokio.block_on(async {
        let mut channels = Vec::new();
        for _ in 0..scenario.callers.min(16) {
            channels.push(connect(&process.address).await.unwrap());
        }
        let (cpu, started) = (process.cpu(), Instant::now());
        let mut tasks = tokio::task::JoinSet::new();
        let streamed = scenario.form == requests::Form::Streamed;
        for (i, channel) in channels.iter().enumerate().filter(|_| streamed) {
            let callers = (i..scenario.callers).step_by(channels.len()).count();
            tasks.spawn(stream(CtrServiceClient::new(channel.clone()), scenario, callers, started + length));
        }
        for i in (0..scenario.callers).filter(|_| !streamed) {
            let mut client = CtrServiceClient::new(channels[i % channels.len()].clone());
            tasks.spawn(async move {
                let request = scenario.request();
                let mut latencies = Vec::new();
                while started.elapsed() < length {
                    let sent = Instant::now();
                    assert_eq!(call(&mut client, &request).await.unwrap(), scenario.candidates);
                    latencies.push(sent.elapsed().as_secs_f64() * 1e6);
                }
                latencies
            });
        }
        let mut all: Vec<f64> = tasks.join_all().await.concat();
        all.sort_by(f64::total_cmp);
        let n = all.len();
        Round {
            rate: n as f64 / started.elapsed().as_secs_f64(),
            median: all[n / 2],
            tail: all[n * 99 / 100],
            cpu_per_request: (process.cpu() - cpu) * 1e6 / n as f64,
        }
    })
}
