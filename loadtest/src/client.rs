//! gRPC over bare HTTP/2: bodies are encoded before the load starts and of a reply only the status is read, so that
//! the processor is left to the server.

mod stream;

use std::time::Duration;

use bytes::Bytes;
use h2::{
    SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header, response};
use percent_encoding::percent_decode;
use tokio::net::TcpStream;

pub use stream::Stream;

use crate::code::Code;

/// gRPC's bytes before each message: a flag and the length.
pub(crate) const PREFIX: usize = 5;
/// Windows so wide that flow control never delays a reply.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;

/// Where calls go.
#[derive(Debug, Clone)]
pub struct Target {
    /// `host:port`, without TLS.
    pub address: String,
    /// `/package.Service/Method`.
    pub path: String,
    /// Sent as `grpc-timeout` and kept here, too: a call that has no answer by then is reset.
    pub deadline: Option<Duration>,
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address or the method is not one.
    #[error("`{0}` is not an address and a method: give `host:port` and `package.Service/Method`")]
    Target(String),
    /// No TCP connection.
    #[error("no connection to {address}: {source}; is the server running, and is this its gRPC port?")]
    Tcp {
        /// What was tried.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// TCP, but not HTTP/2.
    #[error("{address} does not speak HTTP/2 without TLS: {source}")]
    Http2 {
        /// What was tried.
        address: String,
        /// What went wrong.
        source: h2::Error,
    },
    /// The server does not know the method.
    #[error("{address} does not serve {path}: {reason}")]
    Method {
        /// Who was asked.
        address: String,
        /// For what.
        path: String,
        /// What it said.
        reason: String,
    },
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub code: Code,
    /// What the server, or the connection, said of a failure.
    pub message: String,
    /// Length of the reply's body, gRPC's prefix included.
    pub bytes: usize,
}

impl Answer {
    /// A failure that no server told.
    pub(crate) fn failed(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), bytes: 0 }
    }

    /// Nothing came in time.
    fn late() -> Self {
        Self::failed(Code::DEADLINE_EXCEEDED, "the deadline passed before an answer came")
    }
}

impl From<h2::Error> for Answer {
    fn from(error: h2::Error) -> Self {
        let code = match error.reason() {
            Some(reason) if error.is_reset() => Code::of_reset(reason),
            _ => Code::UNAVAILABLE,
        };
        Self::failed(code, error.to_string())
    }
}

/// One HTTP/2 connection.
#[derive(Debug, Clone)]
pub struct Connection {
    sender: SendRequest<Bytes>,
    uri: Uri,
    headers: HeaderMap,
    deadline: Option<Duration>,
}

impl Connection {
    /// Connects. The connection is driven by a task of the current runtime.
    ///
    /// # Errors
    /// Nobody listens there, or it is not HTTP/2.
    pub async fn open(target: &Target) -> Result<Self, ConnectError> {
        let text = format!("http://{}/{}", target.address, target.path.trim_start_matches('/'));
        let uri: Uri = text.parse().map_err(|_| ConnectError::Target(text))?;
        let address = &target.address;
        let tcp = |source| ConnectError::Tcp { address: address.clone(), source };
        let stream = TcpStream::connect(address).await.map_err(tcp)?;
        stream.set_nodelay(true).map_err(tcp)?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW).enable_push(false);
        let http2 = |source| ConnectError::Http2 { address: address.clone(), source };
        let (sender, connection) = builder.handshake(stream).await.map_err(http2)?;
        // Its error reaches every call that is under way.
        tokio::spawn(async move { drop(connection.await) });
        let sender = sender.ready().await.map_err(http2)?;

        let mut headers = HeaderMap::new();
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static("aibuyer-loadtest"));
        if let Some(deadline) = target.deadline {
            headers.insert("grpc-timeout", timeout(deadline));
        }
        Ok(Self { sender, uri, headers, deadline: target.deadline })
    }

    /// Sends one request, gRPC's prefix included, and waits for its status.
    pub async fn call(&self, body: Bytes) -> Answer {
        let Some(deadline) = self.deadline else { return self.exchange(body).await.unwrap_or_else(Answer::from) };
        match tokio::time::timeout(deadline, self.exchange(body)).await {
            Ok(answer) => answer.unwrap_or_else(Answer::from),
            // Dropping the exchange has reset its stream.
            Err(_) => Answer::late(),
        }
    }

    async fn exchange(&self, body: Bytes) -> Result<Answer, h2::Error> {
        let (response, mut stream) = self.begin().await?;
        stream.send_data(body, true)?;

        let (head, mut reply) = response.await?.into_parts();
        if let Some(refusal) = refusal(&head) {
            return Ok(refusal);
        }
        let mut bytes = 0;
        while let Some(chunk) = reply.data().await {
            let length = chunk?.len();
            bytes += length;
            reply.flow_control().release_capacity(length)?;
        }
        Ok(status(reply.trailers().await?.as_ref(), bytes))
    }

    /// Sends the head of a request.
    async fn begin(&self) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        self.sender.clone().ready().await?.send_request(request, false)
    }
}

/// The answer of a reply that has nothing but a head.
fn refusal(head: &response::Parts) -> Option<Answer> {
    if head.status != StatusCode::OK {
        let message = format!("HTTP status {}: not a gRPC server?", head.status);
        return Some(Answer::failed(Code::of_http(head.status), message));
    }
    head.headers.contains_key("grpc-status").then(|| status(Some(&head.headers), 0))
}

fn status(trailers: Option<&HeaderMap>, bytes: usize) -> Answer {
    let Some(trailers) = trailers else {
        return Answer::failed(Code::INTERNAL, "the reply ended without a grpc-status");
    };
    let code = trailers.get("grpc-status").map_or(Code::UNKNOWN, |v| Code::parse(v.as_bytes()));
    let message = trailers.get("grpc-message").filter(|_| code != Code::OK);
    let message = message.map(|m| percent_decode(m.as_bytes()).decode_utf8_lossy().into_owned());
    Answer { code, message: message.unwrap_or_default(), bytes }
}

/// A `grpc-timeout` value: at most eight digits and a unit.
fn timeout(deadline: Duration) -> HeaderValue {
    let micros = deadline.as_micros();
    let text =
        if micros < 100_000_000 { format!("{micros}u") } else { format!("{}S", deadline.as_secs().min(99_999_999)) };
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("1S"))
}

/// A message as the body of a request: gRPC's five bytes, then the message.
///
/// # Panics
/// If the message is longer than 4 GiB, which gRPC cannot say.
#[must_use]
pub fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("a message of less than 4 GiB");
    let mut body = Vec::with_capacity(message.len() + PREFIX);
    body.push(0);
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(message);
    body.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_fit_eight_digits() {
        assert_eq!(timeout(Duration::from_millis(50)), "50000u");
        assert_eq!(timeout(Duration::from_micros(99_999_999)), "99999999u");
        assert_eq!(timeout(Duration::from_secs(100)), "100S");
    }

    #[test]
    fn bodies_carry_their_length() {
        assert_eq!(framed(b"abc").as_ref(), b"\0\0\0\0\x03abc");
    }
}
