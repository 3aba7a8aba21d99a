//! What is sent: request bodies, encoded before the load starts and sent in turn.

mod draw;
mod entities;
mod files;
mod spec;
mod synthetic;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use crate::client::PREFIX;

pub use entities::{Entities, KeyFormat};
pub use files::{read, write};
pub use synthetic::{Form, Keys, Synthetic};

/// `CtrService`'s method for named columns.
pub const PREDICT_CTR: &str = "aibuyer.serving.v1.CtrService/PredictCtr";
/// `CtrService`'s method for tensors as bytes.
pub const PREDICT_CTR_ENCODED: &str = "aibuyer.serving.v1.CtrService/PredictCtrEncoded";
/// `CtrService`'s method for either, on a stream.
pub const STREAM_PREDICT_CTR: &str = "aibuyer.serving.v1.CtrService/StreamPredictCtr";

/// Why there are no requests to send.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// A file cannot be read, written or understood.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No such method in the API.
    #[error("no method `{0}` in the API; for example: {PREDICT_CTR}")]
    Method(String),
    /// Its requests do not travel on a stream.
    #[error("`{0}` has no stream: one carries requests of {PREDICT_CTR} and of {PREDICT_CTR_ENCODED}")]
    Stream(String),
    /// Requests for the model have no such column.
    #[error("requests for this model have no column `{0}`; they have: {1}")]
    Column(String, String),
}

impl RequestError {
    fn file(path: &Path, reason: &dyn ToString) -> Self {
        Self::File { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// Bodies of requests for one method. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pool {
    /// `package.Service/Method`.
    pub method: String,
    bodies: Arc<[Bytes]>,
    rows: Option<f64>,
}

impl Pool {
    /// From encoded messages; `rows` is how many candidates a request has on average, if that is known.
    ///
    /// # Panics
    /// If there are none.
    #[must_use]
    pub fn new(method: &str, messages: impl IntoIterator<Item = Vec<u8>>, rows: Option<f64>) -> Self {
        let bodies: Arc<[Bytes]> = messages.into_iter().map(|m| crate::client::framed(&m)).collect();
        assert!(!bodies.is_empty(), "a pool needs requests");
        Self { method: method.to_owned(), bodies, rows }
    }

    /// The same requests as messages of [`STREAM_PREDICT_CTR`]. Their ids come when they are sent.
    ///
    /// # Errors
    /// They are requests of a method that has no stream.
    pub fn streamed(self) -> Result<Self, RequestError> {
        let field = match self.method.as_str() {
            PREDICT_CTR => 3,
            PREDICT_CTR_ENCODED => 4,
            STREAM_PREDICT_CTR => return Ok(self),
            _ => return Err(RequestError::Stream(self.method)),
        };
        let message = |body: &Bytes| {
            let mut message = Vec::with_capacity(body.len() + 8);
            // A message within another is written as bytes are.
            prost::encoding::bytes::encode(field, &body.slice(PREFIX..), &mut message);
            message
        };
        Ok(Self::new(STREAM_PREDICT_CTR, self.bodies.iter().map(message), self.rows))
    }

    /// The body of the `n`th call, gRPC's prefix included.
    #[must_use]
    pub fn body(&self, n: usize) -> Bytes {
        self.bodies[n % self.bodies.len()].clone()
    }

    /// Different requests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bodies.len()
    }

    /// Never: a pool has requests.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bodies.is_empty()
    }

    /// Candidates a request, on average, if that is known.
    #[must_use]
    pub fn rows(&self) -> Option<f64> {
        self.rows
    }

    /// Bytes a request, on average, gRPC's prefix included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bodies.iter().map(Bytes::len).sum::<usize>() / self.bodies.len()
    }
}
