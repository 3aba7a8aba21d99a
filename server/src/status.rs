//! From the engine's errors to gRPC status: the only place that names gRPC codes.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use aibuyer_domain::{
    ErrorKind,
    ctr::{EncodeError, Violation},
};
use aibuyer_features::analytics::AnalyticsError;
use aibuyer_loader::{ResolveError, batch::ScoreError, executor::ExecutorError};
use prost::Message as _;
use tokio::task::JoinError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt, pb};

use crate::reload::ReloadError;

/// How long a caller should wait before it tries again.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The code of a failure.
fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::NotReady | ErrorKind::Dependency => Code::Unavailable,
        ErrorKind::Unprepared => Code::FailedPrecondition,
        ErrorKind::Overloaded => Code::ResourceExhausted,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Internal => Code::Internal,
    }
}

/// Error details travel in HTTP headers, of which clients take 8 to 16 kB in all: beyond it the caller would
/// see a broken connection in place of the error.
const MAX_VIOLATIONS: usize = 16;
const MAX_MESSAGE: usize = 1000;
const MAX_FIELD: usize = 100;
const MAX_REASON: usize = 300;

/// The first `most` characters of a text that may echo anything that a caller or a file contains.
fn clip(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn status(kind: ErrorKind, message: &str) -> Status {
    let code = code(kind);
    match kind {
        ErrorKind::NotReady | ErrorKind::Overloaded | ErrorKind::Dependency => {
            let details = ErrorDetails::with_retry_info(Some(RETRY_DELAY));
            Status::with_error_details(code, clip(message, MAX_MESSAGE), details)
        }
        // Callers get a number to quote; what happened stays in the log.
        ErrorKind::Internal => {
            let reference = RandomState::new().build_hasher().finish();
            tracing::error!(reference = format!("{reference:016x}"), error = %message, "internal error");
            Status::internal(format!("internal error, reference {reference:016x}; the server's log has the cause"))
        }
        _ => Status::new(code, clip(message, MAX_MESSAGE)),
    }
}

/// INVALID_ARGUMENT with a field violation for each thing wrong, of the first few.
pub(crate) fn invalid(error: &EncodeError) -> Status {
    let message = clip(&error.to_string(), MAX_MESSAGE);
    let shown = error.0.iter().take(MAX_VIOLATIONS);
    let fields: Vec<FieldViolation> =
        shown.map(|v| FieldViolation::new(clip(&v.field, MAX_FIELD), clip(&v.reason, MAX_REASON))).collect();
    Status::with_error_details(code(ErrorKind::Invalid), message, ErrorDetails::with_bad_request(fields))
}

/// INVALID_ARGUMENT about one field.
pub(crate) fn invalid_field(field: &str, reason: impl Into<String>) -> Status {
    invalid(&EncodeError(vec![Violation { field: field.to_owned(), reason: reason.into() }]))
}

/// UNAVAILABLE because something that the engine depends on does not answer.
pub(crate) fn dependency(message: &str) -> Status {
    status(ErrorKind::Dependency, message)
}

/// DEADLINE_EXCEEDED before any work was done.
pub(crate) fn too_late() -> Status {
    from_score(&ScoreError::DeadlineExceeded)
}

pub(crate) fn from_resolve(error: &ResolveError) -> Status {
    status(error.kind(), &error.to_string())
}

pub(crate) fn from_score(error: &ScoreError) -> Status {
    status(error.kind(), &error.to_string())
}

pub(crate) fn from_executor(error: &ExecutorError) -> Status {
    status(error.kind(), &error.to_string())
}

pub(crate) fn from_reload(error: &ReloadError) -> Status {
    status(error.kind(), &error.to_string())
}

pub(crate) fn from_analytics(error: &AnalyticsError) -> Status {
    status(error.kind(), &error.to_string())
}

/// FAILED_PRECONDITION: there is no ClickHouse to ask.
pub(crate) fn without_clickhouse() -> Status {
    let message =
        "this needs ClickHouse: set clickhouse.url, and run `aibuyer-server migrate` once, which makes the tables";
    status(ErrorKind::Unprepared, message)
}

/// UNAVAILABLE, as Triton says where it polls its repository. To try again is no use.
pub(crate) fn unload_refused() -> Status {
    let message = "explicit model unload is not allowed if polling is enabled: the registry decides what serves; \
                   to retire a version, put a greater one beside it or point aliases.yaml at another";
    Status::new(Code::Unavailable, message)
}

/// NOT_FOUND for a health check of something that is not there.
pub(crate) fn unknown_health_service(service: &str) -> Status {
    let hint = "there are \"\", \"aibuyer.serving.v1.CtrService\" and \"models/<name>\" for each model";
    status(ErrorKind::NotFound, &format!("no health of {service:?}; {hint}"))
}

/// The name of success.
pub(crate) const OK: &str = "OK";

/// The name of the code of a call whose caller left.
pub(crate) const LEFT: &str = "CANCELLED";

/// The name of a status's code.
pub(crate) fn name_of(status: &Status) -> &'static str {
    code_name(status.code())
}

/// A status as a message, with the details that it would have carried in headers.
pub(crate) fn as_message(status: &Status) -> pb::Status {
    // Details are a whole status, of which code and message are the same.
    match pb::Status::decode(status.details()) {
        Ok(message) if !message.details.is_empty() => message,
        _ => pb::Status { code: status.code().into(), message: status.message().to_owned(), details: vec![] },
    }
}

/// INTERNAL: the state of a detector could not be written.
pub(crate) fn unwritten(error: &serde_json::Error) -> Status {
    status(ErrorKind::Internal, &format!("a detector's state could not be written: {error}"))
}

/// UNAVAILABLE at the end of a stream: the engine stops.
pub(crate) fn stopping() -> Status {
    status(ErrorKind::NotReady, "the server is stopping: open a new stream, and ask again what was not answered")
}

/// INTERNAL at the end of a stream: an answer was lost.
pub(crate) fn lost(error: &JoinError) -> Status {
    status(ErrorKind::Internal, &format!("a request of a stream was lost: {error}"))
}

/// Why reading a stream of requests failed, in the words that its caller should see; `None` where the caller left.
pub(crate) fn broken_off(status: Status, limit: usize) -> Option<Status> {
    let status = mended(&status, limit).unwrap_or(status);
    (status.code() != Code::Cancelled).then_some(status)
}

/// A code's canonical name, for labels.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => OK,
        Code::Cancelled => LEFT,
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The status in a response's headers, where a call that failed before its first message carries it.
pub(crate) fn in_headers(headers: &http::HeaderMap) -> Option<Status> {
    Status::from_header_map(headers)
}

/// The status that a response should have in place of the one that tonic gave it; `None` where it is right.
///
/// Tonic says OUT_OF_RANGE to a message over the size limit; gRPC's own word is RESOURCE_EXHAUSTED, and every
/// other server says so. It says INTERNAL to a body that ends because the caller left, which is nobody's error.
pub(crate) fn mended(status: &Status, limit: usize) -> Option<Status> {
    match status.code() {
        Code::OutOfRange if status.message().contains("message length too large") => {
            let hint = format!(
                "the request message is larger than limits.max_message_bytes ({limit} bytes): send fewer candidates at once"
            );
            Some(Status::new(Code::ResourceExhausted, hint))
        }
        Code::Internal if status.message().contains("error reading a body from connection") => {
            Some(Status::new(Code::Cancelled, "the caller left before its request had arrived"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_tonic_gets_wrong_is_mended() {
        let mend = |code: Code, message: &str| mended(&Status::new(code, message), 7).map(|s| s.code());
        assert_eq!(mend(Code::OutOfRange, "Error, decoded message length too large: 9"), Some(Code::ResourceExhausted));
        let body = "h2 protocol error: error reading a body from connection";
        assert_eq!(mend(Code::Internal, body), Some(Code::Cancelled));
        assert_eq!(mend(Code::Internal, "internal error, reference 1"), None);
        assert_eq!(mend(Code::OutOfRange, "something else"), None);
    }
}
