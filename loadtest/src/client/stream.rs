//! Requests on one long-lived stream of a connection: each carries an id, by which its answer is found.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::{SendStream, client::ResponseFuture};
use prost::Message as _;
use tokio::sync::oneshot;

use super::{Answer, ConnectError, Connection, PREFIX, Target, refusal, status};
use crate::code::Code;

/// A stream of `StreamPredictCtr` on a connection of its own. Cheap to clone; its last clone closes the caller's side.
#[derive(Debug, Clone)]
pub struct Stream {
    sending: Arc<Mutex<Sending>>,
    waiting: Arc<Mutex<Waiting>>,
    deadline: Option<Duration>,
}

#[derive(Debug)]
struct Sending {
    stream: SendStream<Bytes>,
    last_id: u64,
}

/// Requests without an answer.
#[derive(Debug, Default)]
struct Waiting {
    requests: HashMap<u64, oneshot::Sender<Answer>>,
    /// What the stream ended with: nothing that is sent after it has an answer.
    end: Option<Answer>,
}

/// What a request on a stream has besides the form that it is asked in.
#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, optional, tag = "2")]
    timeout_micros: Option<u64>,
}

/// Of an answer only what is needed: predictions are skipped.
#[derive(Clone, PartialEq, prost::Message)]
struct Outcome {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, optional, tag = "4")]
    error: Option<Failure>,
}

/// `google.rpc.Status` without its details.
#[derive(Clone, PartialEq, prost::Message)]
struct Failure {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

impl Stream {
    /// Connects and opens the stream. Its answers are read by a task of the current runtime.
    ///
    /// # Errors
    /// As [`Connection::open`]. A server that does not know the method says so to the first request.
    pub async fn open(target: &Target) -> Result<Self, ConnectError> {
        // The deadline is each request's, not the stream's.
        let connection = Connection::open(&Target { deadline: None, ..target.clone() }).await?;
        let http2 = |source| ConnectError::Http2 { address: target.address.clone(), source };
        let (response, stream) = connection.begin().await.map_err(http2)?;
        let waiting = Arc::<Mutex<Waiting>>::default();
        let reader = Arc::clone(&waiting);
        tokio::spawn(async move {
            let end = read(response, &reader).await.unwrap_or_else(Answer::from);
            let ended = || Answer::failed(Code::UNAVAILABLE, "the server ended the stream");
            lock(&reader).end_with(&if end.code == Code::OK { ended() } else { end });
        });
        let sending = Arc::new(Mutex::new(Sending { stream, last_id: 0 }));
        Ok(Self { sending, waiting, deadline: target.deadline })
    }

    /// Sends one request, gRPC's prefix included, and waits for its answer.
    pub async fn call(&self, body: &[u8]) -> Answer {
        let (id, answer) = match self.send(body) {
            Ok(sent) => sent,
            Err(answer) => {
                // Callers in a closed loop would never let go of the thread.
                tokio::task::yield_now().await;
                return answer;
            }
        };
        let answer = async { answer.await.unwrap_or_else(|_| Answer::failed(Code::CANCELED, "the stream is gone")) };
        let Some(deadline) = self.deadline else { return answer.await };
        match tokio::time::timeout(deadline, answer).await {
            Ok(answer) => answer,
            Err(_) => {
                lock(&self.waiting).requests.remove(&id);
                Answer::late()
            }
        }
    }

    /// The request's id and where its answer will be; the answer itself if the stream has ended.
    fn send(&self, body: &[u8]) -> Result<(u64, oneshot::Receiver<Answer>), Answer> {
        let mut sending = lock(&self.sending);
        sending.last_id += 1;
        let id = sending.last_id;
        let (reply, answer) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            if let Some(end) = &waiting.end {
                return Err(end.clone());
            }
            waiting.requests.insert(id, reply);
        }
        sending.stream.send_data(addressed(body, id, self.deadline), false).map_err(|error| {
            lock(&self.waiting).requests.remove(&id);
            Answer::from(error)
        })?;
        Ok((id, answer))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        // Fails where the stream is over already.
        let _ = self.stream.send_data(Bytes::new(), true);
    }
}

impl Waiting {
    fn end_with(&mut self, end: &Answer) {
        self.end = Some(end.clone());
        for (_, reply) in self.requests.drain() {
            let _ = reply.send(end.clone());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands out answers until the stream's end, and gives its status.
async fn read(response: ResponseFuture, waiting: &Mutex<Waiting>) -> Result<Answer, h2::Error> {
    let (head, mut reply) = response.await?.into_parts();
    if let Some(refusal) = refusal(&head) {
        return Ok(refusal);
    }
    let mut buffer = BytesMut::new();
    while let Some(chunk) = reply.data().await {
        let chunk = chunk?;
        reply.flow_control().release_capacity(chunk.len())?;
        buffer.extend_from_slice(&chunk);
        while let Some(message) = next_message(&mut buffer) {
            let Ok(Outcome { id, error }) = Outcome::decode(&message[PREFIX..]) else {
                return Ok(Answer::failed(Code::INTERNAL, "an answer on the stream cannot be decoded"));
            };
            let (code, text) = error.map_or((Code::OK, String::new()), |e| (Code::numbered(e.code), e.message));
            // Nobody waits for an answer that came after its deadline.
            if let Some(reply) = lock(waiting).requests.remove(&id) {
                let _ = reply.send(Answer { code, message: text, bytes: message.len() });
            }
        }
    }
    Ok(status(reply.trailers().await?.as_ref(), 0))
}

/// Takes the first message off the buffer, gRPC's prefix included, once it is whole.
fn next_message(buffer: &mut BytesMut) -> Option<BytesMut> {
    let length = buffer.get(1..PREFIX)?.get_u32() as usize;
    (buffer.len() - PREFIX >= length).then(|| buffer.split_to(PREFIX + length))
}

/// The body with an id and a deadline. In protobuf fields may stand in any order, and the last of each counts.
fn addressed(body: &[u8], id: u64, deadline: Option<Duration>) -> Bytes {
    let timeout_micros = deadline.map(|d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX));
    let envelope = Envelope { id, timeout_micros };
    let length = body.len() - PREFIX + envelope.encoded_len();
    let mut message = Vec::with_capacity(PREFIX + length);
    message.extend_from_slice(body);
    envelope.encode_raw(&mut message);
    // The pool's bodies are far shorter than 4 GiB.
    message[1..PREFIX].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    message.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use aibuyer_proto::serving::v1::{self as pb, stream_predict_ctr_request::Form};

    use super::*;
    use crate::client::framed;

    #[test]
    fn a_request_gets_its_id_and_deadline() {
        let form = Form::Named(pb::PredictCtrRequest { candidate_count: Some(3), ..Default::default() });
        let request = pb::StreamPredictCtrRequest { id: 1, form: Some(form), timeout_micros: None };
        let body = addressed(&framed(&request.encode_to_vec()), 7, Some(Duration::from_millis(50)));
        assert_eq!(body[..PREFIX], framed(&body[PREFIX..])[..PREFIX]);
        let decoded = pb::StreamPredictCtrRequest::decode(&body[PREFIX..]).unwrap();
        assert_eq!(decoded, pb::StreamPredictCtrRequest { id: 7, timeout_micros: Some(50_000), ..request });
    }

    #[test]
    fn messages_are_whole_however_they_are_cut() {
        let sent = [framed(b"one"), framed(b""), framed(b"three")].concat();
        let mut buffer = BytesMut::new();
        let mut got = Vec::new();
        for byte in &sent {
            buffer.extend_from_slice(&[*byte]);
            got.extend(next_message(&mut buffer));
        }
        assert_eq!(got.concat(), sent);
        assert_eq!((got.len(), buffer.len()), (3, 0));
    }
}
