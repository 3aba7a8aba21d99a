//! Times each call and counts it by method and code; a call that is dropped, because its caller left or its
//! time was over, counts as CANCELLED.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

use crate::{metrics::Metrics, status};

/// Layer of [`Observe`].
#[derive(Debug, Clone)]
pub(crate) struct ObserveLayer {
    /// Where measurements go.
    pub(crate) metrics: Arc<Metrics>,
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe { inner, metrics: Arc::clone(&self.metrics) }
    }
}

/// Measures until the response's head is ready, which for a unary call is when its handler is done.
#[derive(Debug, Clone)]
pub(crate) struct Observe<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S> Service<Request<Body>> for Observe<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = request.uri().path().trim_start_matches('/').to_owned();
        let call = Call {
            metrics: Arc::clone(&self.metrics),
            method,
            started: Instant::now(),
            code: status::code_name(status::LEFT),
        };
        let response = self.inner.call(request);
        Box::pin(async move {
            // The whole of it: the block would capture the one field that it assigns.
            let mut call = call;
            let response = response.await?;
            call.code = status::code_name(status::code_of(response.headers()));
            Ok(response)
        })
    }
}

/// A call under way: counted when dropped, which is when it is answered or given up.
struct Call {
    metrics: Arc<Metrics>,
    method: String,
    started: Instant,
    code: &'static str,
}

impl Drop for Call {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        self.metrics.call(&self.method, self.code, elapsed);
        tracing::debug!(method = self.method, code = self.code, ?elapsed, "call");
    }
}
