//! Mends statuses that tonic makes itself: a message over the size limit, and a caller that left before its
//! request had arrived.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

use crate::status;

/// Layer of [`Mend`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct MendLayer {
    /// The limit, for the message.
    pub(crate) limit: usize,
}

impl<S> Layer<S> for MendLayer {
    type Service = Mend<S>;

    fn layer(&self, inner: S) -> Mend<S> {
        Mend { inner, limit: self.limit }
    }
}

/// Replaces a status by the right one.
#[derive(Debug, Clone)]
pub(crate) struct Mend<S> {
    inner: S,
    limit: usize,
}

impl<S> Service<Request<Body>> for Mend<S>
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
            let mended = status::in_headers(response.headers()).and_then(|status| status::mended(&status, limit));
            Ok(match mended {
                Some(status) => status.into_http(),
                None => response,
            })
        })
    }
}
