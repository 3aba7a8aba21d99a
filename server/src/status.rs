//! From the engine's errors to gRPC status: the only place that names gRPC codes.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use aibuyer_domain::{
    ErrorKind,
    ctr::{EncodeError, Violation},
};
use aibuyer_loader::{ResolveError, batch::ScoreError};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// How long a caller should wait before it tries again.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The code of a failure.
fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::NotReady => Code::Unavailable,
        ErrorKind::Overloaded => Code::ResourceExhausted,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Internal => Code::Internal,
    }
}

fn status(kind: ErrorKind, message: String) -> Status {
    match kind {
        ErrorKind::NotReady | ErrorKind::Overloaded => {
            Status::with_error_details(code(kind), message, ErrorDetails::with_retry_info(Some(RETRY_DELAY)))
        }
        // Callers get a number to quote; what happened stays in the log.
        ErrorKind::Internal => {
            let reference = RandomState::new().build_hasher().finish();
            tracing::error!(reference = format!("{reference:016x}"), error = %message, "internal error");
            Status::internal(format!("internal error, reference {reference:016x}; the server's log has the cause"))
        }
        _ => Status::new(code(kind), message),
    }
}

/// INVALID_ARGUMENT with one field violation for each thing wrong.
pub(crate) fn invalid(violations: Vec<Violation>) -> Status {
    let message = EncodeError(violations.clone()).to_string();
    let fields: Vec<FieldViolation> = violations.into_iter().map(|v| FieldViolation::new(v.field, v.reason)).collect();
    Status::with_error_details(code(ErrorKind::Invalid), message, ErrorDetails::with_bad_request(fields))
}

/// INVALID_ARGUMENT about one field.
pub(crate) fn invalid_field(field: &str, reason: impl Into<String>) -> Status {
    invalid(vec![Violation { field: field.to_owned(), reason: reason.into() }])
}

pub(crate) fn from_resolve(error: &ResolveError) -> Status {
    status(error.kind(), error.to_string())
}

pub(crate) fn from_score(error: &ScoreError) -> Status {
    status(error.kind(), error.to_string())
}

/// NOT_FOUND for a health check of something that is not there.
pub(crate) fn unknown_health_service(service: &str) -> Status {
    let hint = "there are \"\", \"aibuyer.serving.v1.CtrService\" and \"models/<name>\" for each model";
    status(ErrorKind::NotFound, format!("no health of {service:?}; {hint}"))
}

/// The gRPC code in a response's headers, where a call that failed before its first message carries it;
/// OK otherwise.
pub(crate) fn code_of(headers: &http::HeaderMap) -> Code {
    Status::from_header_map(headers).map_or(Code::Ok, |s| s.code())
}

/// A code's canonical name, for labels.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
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

/// Tonic says OUT_OF_RANGE to a message over the size limit; gRPC's own word is RESOURCE_EXHAUSTED, and every
/// other server says so.
pub(crate) fn oversize(headers: &http::HeaderMap, limit: usize) -> Option<Status> {
    let status = Status::from_header_map(headers)?;
    let ours = status.code() == Code::OutOfRange && status.message().contains("message length too large");
    ours.then(|| {
        let hint = format!(
            "the request message is larger than limits.max_message_bytes ({limit} bytes): send fewer candidates at once"
        );
        Status::new(Code::ResourceExhausted, hint)
    })
}
