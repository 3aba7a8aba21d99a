//! The few kinds of failure a caller can tell apart.

/// What a failure means to the caller. Every crate's error type has a `kind()`; the server alone maps
/// kinds to gRPC status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong and will stay wrong: fix it before sending it again.
    Invalid,
    /// The model, version or alias does not exist here.
    NotFound,
    /// The model exists but no version of it can answer yet: retry shortly.
    NotReady,
    /// The engine has no room for this request now: retry with back-off.
    Overloaded,
    /// Something that the engine needs for this answer, such as ClickHouse, does not answer: retry later.
    Dependency,
    /// An operator must do something first, such as configure ClickHouse or make its tables: no use to retry before.
    Unprepared,
    /// The caller's deadline passed before an answer was ready.
    DeadlineExceeded,
    /// The engine failed. Details are in its log, not in the reply.
    Internal,
}
