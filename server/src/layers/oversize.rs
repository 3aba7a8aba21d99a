//! Gives a message over the size limit the status that gRPC defines for it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

use crate::status;

/// Layer of [`Oversize`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct OversizeLayer {
    /// The limit, for the message.
    pub(crate) limit: usize,
}

impl<S> Layer<S> for OversizeLayer {
    type Service = Oversize<S>;

    fn layer(&self, inner: S) -> Oversize<S> {
        Oversize { inner, limit: self.limit }
    }
}

/// Rewrites tonic's OUT_OF_RANGE.
#[derive(Debug, Clone)]
pub(crate) struct Oversize<S> {
    inner: S,
    limit: usize,
}

impl<S> Service<Request<Body>> for Oversize<S>
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
        let response = self.inner.call(request);
        let limit = self.limit;
        Box::pin(async move {
            let response = response.await?;
            Ok(match status::oversize(response.headers(), limit) {
                Some(status) => status.into_http(),
                None => response,
            })
        })
    }
}
