//! The two loops.

use std::{
    io,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::{
    client::{Answer, ConnectError, Connection, Stream, Target},
    code::Code,
    process::Usage,
    requests::{Pool, STREAM_PREDICT_CTR},
    schedule::Schedule,
    tally::{Measured, Shared},
    timer::Timer,
};

/// How long a load waits for answers after its last call.
const PATIENCE: Duration = Duration::from_secs(30);
/// Calls that are started in one go at most, when the schedule is ahead; then answers are read.
const BURST: usize = 64;

/// Connections and what to send over them, in turn.
#[derive(Debug)]
pub struct Load {
    connections: Vec<Way>,
    pool: Pool,
    server: Option<u32>,
}

/// How requests travel over a connection.
#[derive(Debug, Clone)]
enum Way {
    /// Each as a call.
    Calls(Connection),
    /// All on one stream.
    Stream(Stream),
}

impl Way {
    async fn open(target: &Target, pool: &Pool) -> Result<Self, ConnectError> {
        Ok(match pool.method.as_str() {
            STREAM_PREDICT_CTR => Self::Stream(Stream::open(target).await?),
            _ => Self::Calls(Connection::open(target).await?),
        })
    }

    async fn call(&self, body: Bytes) -> Answer {
        match self {
            Self::Calls(connection) => connection.call(body).await,
            Self::Stream(stream) => stream.call(&body).await,
        }
    }
}

impl Load {
    /// Opens `connections` connections and makes one call on each, which may fail; `server` is the process whose use
    /// of the machine is measured. Requests of `StreamPredictCtr` travel on one stream a connection, and one of them
    /// is a call in all that is said here.
    ///
    /// # Errors
    /// A connection could not be opened, or nobody serves the method there.
    pub async fn open(
        target: &Target,
        connections: usize,
        pool: Pool,
        server: Option<u32>,
    ) -> Result<Self, ConnectError> {
        let mut open = Vec::with_capacity(connections);
        for _ in 0..connections {
            let connection = Way::open(target, &pool).await?;
            let answer = connection.call(pool.body(open.len())).await;
            if answer.code == Code::UNIMPLEMENTED {
                let (address, path) = (target.address.clone(), target.path.clone());
                return Err(ConnectError::Method { address, path, reason: answer.message });
            }
            open.push(connection);
        }
        Ok(Self { connections: open, pool, server })
    }

    /// The open loop: sends each call when it is due and measures from then. A call that is due while
    /// `max_outstanding` have no answer is dropped and counted, never delayed.
    ///
    /// # Errors
    /// The system has no timer left to give.
    pub async fn run_open(&self, schedule: Schedule, max_outstanding: u64, tally: &Shared) -> io::Result<Measured> {
        let length = schedule.length();
        let mut timer = Timer::new()?;
        let meter = Meter::start(self.server);
        let (mut calls, mut sent, mut burst) = (JoinSet::new(), 0, 0);
        for offset in schedule.arrivals() {
            let intended = meter.start + offset;
            let mut now = Instant::now();
            if intended > now {
                timer.wait(intended - now).await?;
                (now, burst) = (Instant::now(), 0);
            } else if burst == BURST {
                tokio::task::yield_now().await;
                (now, burst) = (Instant::now(), 0);
            }
            burst += 1;
            while calls.try_join_next().is_some() {}
            {
                let mut tally = tally.lock();
                if tally.outstanding >= max_outstanding {
                    tally.dropped += 1;
                    continue;
                }
                tally.outstanding += 1;
                tally.lag.record(now.saturating_duration_since(intended));
            }
            let connection = self.connections[sent % self.connections.len()].clone();
            let (body, tally) = (self.pool.body(sent), tally.clone());
            sent += 1;
            calls.spawn(async move {
                let answer = connection.call(body).await;
                let latency = intended.elapsed();
                let mut tally = tally.lock();
                tally.outstanding -= 1;
                tally.record_call(offset, answer, latency);
            });
        }
        let all = async { while calls.join_next().await.is_some() {} };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            calls.shutdown().await;
            let mut tally = tally.lock();
            let message = format!("no answer within {} s after the last call", PATIENCE.as_secs());
            for _ in 0..std::mem::take(&mut tally.outstanding) {
                tally.record(Answer::failed(Code::DEADLINE_EXCEEDED, message.clone()), PATIENCE);
            }
        }
        Ok(meter.stop(tally, length))
    }

    /// The closed loop: `callers` callers, each of which waits for its answer before its next call, for `length`.
    pub async fn run_closed(&self, callers: usize, length: Duration, tally: &Shared) -> Measured {
        let meter = Meter::start(self.server);
        let (start, end) = (meter.start, meter.start + length);
        let mut running = JoinSet::new();
        for caller in 0..callers {
            let connection = self.connections[caller % self.connections.len()].clone();
            let (pool, tally) = (self.pool.clone(), tally.clone());
            running.spawn(async move {
                // Callers start in different places, so that they do not march through the pool in step.
                for n in (caller * 31).. {
                    let sent = Instant::now();
                    if sent >= end {
                        return;
                    }
                    let answer = connection.call(pool.body(n)).await;
                    tally.lock().record_call(sent - start, answer, sent.elapsed());
                }
            });
        }
        running.join_all().await;
        meter.stop(tally, length)
    }
}

/// Watches processor time from the start of a load to its end.
struct Meter {
    start: Instant,
    started: SystemTime,
    pid: Option<u32>,
    server: Option<Usage>,
    client: Option<Usage>,
}

impl Meter {
    fn start(pid: Option<u32>) -> Self {
        let (server, client) = (pid.and_then(Usage::of), Usage::own());
        Self { start: Instant::now(), started: SystemTime::now(), pid, server, client }
    }

    fn stop(self, tally: &Shared, length: Duration) -> Measured {
        let elapsed = self.start.elapsed().max(length);
        let since = |now: Option<Usage>, then: Option<Usage>| Some(now?.since(then?));
        Measured {
            started: self.started,
            elapsed,
            tally: tally.lock().clone(),
            server: since(self.pid.and_then(Usage::of), self.server),
            client: since(Usage::own(), self.client),
        }
    }
}
