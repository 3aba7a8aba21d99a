//! Times each call and counts it by method and code; a call that is dropped, because its caller left or its
//! time was over, counts as CANCELLED. On a stream of requests each of them counts as a call: how long the stream
//! was open says nothing.

use std::{
    borrow::Cow,
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

/// Mark on the response of a stream that counts its requests one by one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CountsItsRequests;

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
        let call = Call::begin(Arc::clone(&self.metrics), method);
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            if response.extensions().get::<CountsItsRequests>().is_some() {
                call.pass();
            } else {
                call.end(status::in_headers(response.headers()).map_or(status::OK, |s| status::name_of(&s)));
            }
            Ok(response)
        })
    }
}

/// A call under way: counted when dropped, which is when it is answered or given up.
#[derive(Debug)]
pub(crate) struct Call {
    metrics: Arc<Metrics>,
    method: Cow<'static, str>,
    started: Instant,
    /// `None` for a call that is not to be counted.
    code: Option<&'static str>,
}

impl Call {
    /// Starts the clock of a call that ends as given up unless [`Call::end`] says otherwise.
    pub(crate) fn begin(metrics: Arc<Metrics>, method: impl Into<Cow<'static, str>>) -> Self {
        Self { metrics, method: method.into(), started: Instant::now(), code: Some(status::LEFT) }
    }

    /// The call is answered with this code.
    pub(crate) fn end(mut self, code: &'static str) {
        self.code = Some(code);
    }

    /// The call is not counted.
    fn pass(mut self) {
        self.code = None;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(code) = self.code {
            let elapsed = self.started.elapsed();
            self.metrics.call(&self.method, code, elapsed);
            tracing::debug!(method = &*self.method, code, ?elapsed, "call");
        }
    }
}
