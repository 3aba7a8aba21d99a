//! The caller's deadline as a value that handlers can read, parsed once.

use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::Request;
use tonic::Status;
use tower::{Layer, Service};

use crate::status;

/// When the answer stops being wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

/// The deadline of a call that a handler takes up at `started`.
///
/// # Errors
/// DEADLINE_EXCEEDED if it has passed: no work is begun for nobody.
pub(crate) fn deadline<T>(request: &tonic::Request<T>, started: Instant, longest: Duration) -> Result<Instant, Status> {
    // Every request comes through the layer; one that did not has the longest time.
    let deadline = request.extensions().get::<Deadline>().map_or(started + longest, |d| d.0);
    in_time(deadline, started)
}

/// The deadline of a message on a stream that is read at `started` and brings its own timeout, or none. The
/// stream's own deadline is the caller's affair: its client ends the stream.
///
/// # Errors
/// DEADLINE_EXCEEDED if there is no time at all.
pub(crate) fn of_message(asked: Option<Duration>, started: Instant, longest: Duration) -> Result<Instant, Status> {
    in_time(due(asked, started, longest), started)
}

fn in_time(deadline: Instant, started: Instant) -> Result<Instant, Status> {
    if deadline <= started { Err(status::too_late()) } else { Ok(deadline) }
}

/// When an answer must be on its way that is wanted within `asked`, or the longest time if that is shorter. One
/// at the very last moment arrives too late, and tonic's own timer, which says CANCELLED, would be first.
fn due(asked: Option<Duration>, started: Instant, longest: Duration) -> Instant {
    let timeout = asked.map_or(longest, |t| t.min(longest));
    let margin = (timeout / 8).min(Duration::from_millis(1));
    started + (timeout - margin)
}

/// Layer of [`SetDeadline`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeadlineLayer {
    /// Time of a request that brings no deadline, and the longest that any may bring.
    pub(crate) longest: Duration,
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = SetDeadline<S>;

    fn layer(&self, inner: S) -> SetDeadline<S> {
        SetDeadline { inner, longest: self.longest }
    }
}

/// Puts a [`Deadline`] into each request: the caller's `grpc-timeout`, or the server's own.
#[derive(Debug, Clone)]
pub(crate) struct SetDeadline<S> {
    inner: S,
    longest: Duration,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for SetDeadline<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let asked = request.headers().get("grpc-timeout").and_then(|v| v.to_str().ok()).and_then(parse);
        request.extensions_mut().insert(Deadline(due(asked, Instant::now(), self.longest)));
        self.inner.call(request)
    }
}

/// Reads a `grpc-timeout` value: at most eight digits and a unit (gRPC over HTTP/2 protocol).
fn parse(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(n * 3600),
        'M' => Duration::from_secs(n * 60),
        'S' => Duration::from_secs(n),
        'm' => Duration::from_millis(n),
        'u' => Duration::from_micros(n),
        'n' => Duration::from_nanos(n),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// The time that a request with this header gets, from now on.
    async fn time_left(timeout: Option<&str>) -> Duration {
        let inner = tower::service_fn(|request: Request<()>| async move {
            let Some(Deadline(at)) = request.extensions().get::<Deadline>() else { panic!("no deadline") };
            Ok::<_, Infallible>(at.saturating_duration_since(Instant::now()))
        });
        let mut service = DeadlineLayer { longest: Duration::from_secs(10) }.layer(inner);
        let mut request = Request::new(());
        if let Some(timeout) = timeout {
            request.headers_mut().insert("grpc-timeout", timeout.parse().expect("header"));
        }
        service.call(request).await.expect("infallible")
    }

    #[tokio::test]
    async fn the_shorter_of_the_callers_and_the_servers_deadline_counts() {
        let within = |low: u64, high: u64| Duration::from_millis(low)..=Duration::from_millis(high);
        assert!(within(9_000, 10_000).contains(&time_left(None).await));
        assert!(within(9_000, 10_000).contains(&time_left(Some("1H")).await));
        assert!(within(9_000, 10_000).contains(&time_left(Some("nonsense")).await), "as if it brought none");
        assert!(within(1_000, 2_000).contains(&time_left(Some("2S")).await));
        assert_eq!(time_left(Some("1n")).await, Duration::ZERO);
    }

    #[test]
    fn timeouts_are_read_as_the_protocol_says() {
        let cases = [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("100m", Some(Duration::from_millis(100))),
            ("7u", Some(Duration::from_micros(7))),
            ("0n", Some(Duration::ZERO)),
            ("", None),
            ("m", None),
            ("100", None),
            ("-1m", None),
            ("+1m", None),
            ("1.5S", None),
            ("123456789m", None),
            ("1ms", None),
            ("1é", None),
        ];
        for (text, expect) in cases {
            assert_eq!(parse(text), expect, "{text:?}");
        }
    }
}
