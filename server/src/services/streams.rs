//! Streams of requests: each is answered in a task of its own, and none can end the stream or crowd out others.
//!
//! A stream ends when its caller has closed its side and everything is answered, when the engine stops, or when a
//! message cannot be read; what is under way is answered first. When the caller leaves, it is dropped.

use std::{sync::Arc, time::Instant};

use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, JoinSet},
};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Response, Status};

use crate::{
    layers::observe::{Call, CountsItsRequests},
    metrics::Metrics,
    readiness::Readiness,
    status,
};

/// Requests of one stream that may be under way. At the bound the server does not read on: the caller's sending
/// waits, and one stream can hardly fill a version's queue by itself.
const MAX_UNDER_WAY: usize = 256;

/// What a caller receives.
pub(crate) type Answers<A> = ReceiverStream<Result<A, Status>>;

/// The answer to one request.
#[derive(Debug)]
pub(crate) struct Answer<A> {
    /// What the caller gets.
    pub(crate) message: A,
    /// Name of the gRPC code that it is counted under.
    pub(crate) code: &'static str,
}

/// In which order answers go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Each when it is ready.
    AsReady,
    /// That of the requests.
    AsAsked,
}

/// What a stream needs of the engine.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) readiness: Readiness,
    pub(crate) max_message_bytes: usize,
}

impl Streams {
    /// Answers `requests` by `answer`, which also gets the time at which the request was read. Each request is
    /// counted as a call of `method`.
    pub(crate) fn open<Q, A, F>(
        &self,
        method: &'static str,
        order: Order,
        requests: impl Stream<Item = Result<Q, Status>> + Send + Unpin + 'static,
        answer: impl Fn(Q, Instant) -> F + Send + 'static,
    ) -> Response<Answers<A>>
    where
        Q: Send + 'static,
        A: Send + 'static,
        F: Future<Output = Answer<A>> + Send + 'static,
    {
        let (out, answers) = mpsc::channel(MAX_UNDER_WAY);
        let stream = Open { streams: self.clone(), method, order, out, under_way: JoinSet::new(), turn: None };
        tokio::spawn(stream.run(requests, answer));
        let mut response = Response::new(ReceiverStream::new(answers));
        response.extensions_mut().insert(CountsItsRequests);
        response
    }
}

/// An open stream.
struct Open<A> {
    streams: Streams,
    method: &'static str,
    order: Order,
    out: mpsc::Sender<Result<A, Status>>,
    /// Dropped with the stream, and the requests with it.
    under_way: JoinSet<()>,
    /// Closed when the newest request's answer has gone out; in [`Order::AsAsked`] only.
    turn: Option<oneshot::Receiver<()>>,
}

impl<A: Send + 'static> Open<A> {
    async fn run<Q, F>(
        mut self,
        requests: impl Stream<Item = Result<Q, Status>> + Send + Unpin,
        answer: impl Fn(Q, Instant) -> F + Send,
    ) where
        F: Future<Output = Answer<A>> + Send + 'static,
    {
        let out = self.out.clone();
        let end = tokio::select! {
            end = self.answer_all(requests, answer) => end,
            // Nobody listens: what is under way is dropped with `self`.
            () = out.closed() => return,
        };
        if let Err(status) = end {
            // Nobody may be left to read it.
            let _ = out.send(Err(status)).await;
        }
    }

    /// Reads and answers until the stream's end; the error is what ended it too early.
    async fn answer_all<Q, F>(
        &mut self,
        mut requests: impl Stream<Item = Result<Q, Status>> + Send + Unpin,
        answer: impl Fn(Q, Instant) -> F + Send,
    ) -> Result<(), Status>
    where
        F: Future<Output = Answer<A>> + Send + 'static,
    {
        let mut stopped = std::pin::pin!(self.streams.readiness.stopped());
        let end = loop {
            tokio::select! {
                request = requests.next(), if self.under_way.len() < MAX_UNDER_WAY => match request {
                    None => break Ok(()),
                    Some(Ok(request)) => self.begin(answer(request, Instant::now())),
                    Some(Err(status)) => break self.broken_off(status),
                },
                Some(done) = self.under_way.join_next() => whole(done)?,
                () = &mut stopped => break Err(status::stopping()),
            }
        };
        while let Some(done) = self.under_way.join_next().await {
            whole(done)?;
        }
        end
    }

    fn begin(&mut self, answer: impl Future<Output = Answer<A>> + Send + 'static) {
        let call = Call::begin(Arc::clone(&self.streams.metrics), self.method);
        let out = self.out.clone();
        let (before, gone) = match self.order {
            Order::AsReady => (None, None),
            Order::AsAsked => {
                let (gone, turn) = oneshot::channel::<()>();
                (self.turn.replace(turn), Some(gone))
            }
        };
        self.under_way.spawn(async move {
            let Answer { message, code } = answer.await;
            call.end(code);
            if let Some(before) = before {
                // Closed, never sent to.
                let _ = before.await;
            }
            // Waits while the caller does not read. Fails when it has left.
            let _ = out.send(Ok(message)).await;
            drop(gone);
        });
    }

    /// What a message that cannot be read ends the stream with.
    fn broken_off(&self, status: Status) -> Result<(), Status> {
        let Some(status) = status::broken_off(status, self.streams.max_message_bytes) else { return Ok(()) };
        Call::begin(Arc::clone(&self.streams.metrics), self.method).end(status::name_of(&status));
        Err(status)
    }
}

/// Requests do not panic. If one did, its caller must not wait for ever.
fn whole(done: Result<(), JoinError>) -> Result<(), Status> {
    done.map_err(|error| status::lost(&error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use aibuyer_loader::serving_map::Serving;
    use aibuyer_registry::Problems;
    use tokio::sync::Semaphore;

    use super::*;

    /// A stream whose answers wait for a permit of the gate.
    struct Case {
        ask: mpsc::Sender<Result<usize, Status>>,
        answers: Answers<usize>,
        gate: Arc<Semaphore>,
        started: Arc<AtomicUsize>,
        readiness: Readiness,
    }

    fn open(order: Order) -> Case {
        let metrics = Arc::new(Metrics::new(
            Serving::default(),
            Problems::default(),
            &aibuyer_loader::device::Placement::default(),
        ));
        let readiness = Readiness::default();
        let streams = Streams { metrics, readiness: readiness.clone(), max_message_bytes: 1 };
        let (ask, requests) = mpsc::channel(1);
        let (gate, started) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let answer = {
            let (gate, started) = (Arc::clone(&gate), Arc::clone(&started));
            move |id: usize, _| {
                let (gate, started) = (Arc::clone(&gate), Arc::clone(&started));
                async move {
                    started.fetch_add(1, Relaxed);
                    if id == 0 {
                        // The first is the last to be ready: nobody else closes the gate.
                        while !gate.is_closed() {
                            tokio::task::yield_now().await;
                        }
                    } else {
                        gate.acquire().await.unwrap().forget();
                    }
                    Answer { message: id, code: status::OK }
                }
            }
        };
        let answers = streams.open("test", order, ReceiverStream::new(requests), answer).into_inner();
        Case { ask, answers, gate, started, readiness }
    }

    /// Lets every other task run until it waits.
    async fn settle() {
        for _ in 0..10 * MAX_UNDER_WAY {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn at_the_bound_nothing_more_is_read_and_nothing_is_refused() {
        let Case { ask, mut answers, gate, started, .. } = open(Order::AsReady);
        let asking = tokio::spawn(async move {
            for id in 1..=2 * MAX_UNDER_WAY {
                ask.send(Ok(id)).await.unwrap();
            }
        });
        settle().await;
        assert_eq!(started.load(Relaxed), MAX_UNDER_WAY);
        assert!(!asking.is_finished(), "the caller waits");
        gate.add_permits(1);
        assert!(answers.next().await.unwrap().is_ok());
        settle().await;
        assert_eq!(started.load(Relaxed), MAX_UNDER_WAY + 1, "one out, one in");
        gate.add_permits(2 * MAX_UNDER_WAY);
        for _ in 1..2 * MAX_UNDER_WAY {
            assert!(answers.next().await.unwrap().is_ok());
        }
        assert!(answers.next().await.is_none());
    }

    #[tokio::test]
    async fn answers_come_as_they_are_ready_or_as_they_were_asked_for() {
        for (order, expect) in [(Order::AsReady, [1, 2, 0]), (Order::AsAsked, [0, 1, 2])] {
            let Case { ask, mut answers, gate, .. } = open(order);
            for id in 0..3 {
                ask.send(Ok(id)).await.unwrap();
                settle().await;
            }
            drop(ask);
            for _ in 0..2 {
                gate.add_permits(1);
                settle().await;
            }
            gate.close();
            let mut got = Vec::new();
            while let Some(answer) = answers.next().await {
                got.push(answer.unwrap());
            }
            assert_eq!(got, expect, "{order:?}");
        }
    }

    #[tokio::test]
    async fn a_stop_ends_the_stream_after_what_is_under_way() {
        let Case { ask, mut answers, gate, readiness, .. } = open(Order::AsReady);
        ask.send(Ok(1)).await.unwrap();
        settle().await;
        readiness.stop();
        settle().await;
        gate.add_permits(1);
        assert_eq!(answers.next().await.unwrap().unwrap(), 1);
        let end = answers.next().await.unwrap().unwrap_err();
        assert_eq!(status::name_of(&end), "UNAVAILABLE");
        assert!(answers.next().await.is_none());
    }

    #[tokio::test]
    async fn a_caller_that_left_takes_its_requests_along() {
        let Case { ask, answers, gate, started, .. } = open(Order::AsReady);
        ask.send(Ok(1)).await.unwrap();
        settle().await;
        assert_eq!((started.load(Relaxed), Arc::strong_count(&gate)), (1, 3), "ours, the stream's, the request's");
        drop(answers);
        settle().await;
        assert_eq!(Arc::strong_count(&gate), 1);
        assert!(ask.is_closed());
    }
}
