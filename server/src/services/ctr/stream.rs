//! One request of a stream: the same prediction as a call's, its failure as a message.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aibuyer_proto::serving::v1::{
    self as pb, stream_predict_ctr_request::Form, stream_predict_ctr_response::Result as Outcome,
};
use tonic::Status;

use super::{Clock, Ctr};
use crate::{layers::deadline, services::streams::Answer, status};

/// The method, as metrics name it.
pub(super) const METHOD: &str = "aibuyer.serving.v1.CtrService/StreamPredictCtr";

impl Ctr {
    /// The answer to a request that was read at `started`.
    pub(super) async fn answer(
        self: Arc<Self>,
        request: pb::StreamPredictCtrRequest,
        started: Instant,
    ) -> Answer<pb::StreamPredictCtrResponse> {
        let pb::StreamPredictCtrRequest { id, timeout_micros, form } = request;
        let (result, code) = match self.outcome(form, timeout_micros, started).await {
            Ok(outcome) => (outcome, status::OK),
            Err(error) => (Outcome::Error(status::as_message(&error)), status::name_of(&error)),
        };
        Answer { message: pb::StreamPredictCtrResponse { id, result: Some(result) }, code }
    }

    async fn outcome(&self, form: Option<Form>, timeout: Option<u64>, started: Instant) -> Result<Outcome, Status> {
        let timeout = timeout.map(Duration::from_micros);
        let clock = Clock { started, deadline: deadline::of_message(timeout, started, self.default_deadline)? };
        match form {
            Some(Form::Named(request)) => self.named(request, clock).await.map(Outcome::Named),
            Some(Form::Encoded(request)) => self.encoded(request, clock).await.map(Outcome::Encoded),
            None => Err(status::invalid_field("form", "is required: set named or encoded")),
        }
    }
}
