//! Outcomes of calls, as gRPC names them.

use std::fmt;

use http::StatusCode;

/// A gRPC status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code(u8);

/// By number; spelt as ghz and Go spell them.
const NAMES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

impl Code {
    /// The call succeeded.
    pub const OK: Self = Self(0);
    /// One side gave the call up.
    pub const CANCELED: Self = Self(1);
    /// A status that is none of gRPC's.
    pub const UNKNOWN: Self = Self(2);
    /// The deadline passed.
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    /// The server has no room.
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    /// No such method.
    pub const UNIMPLEMENTED: Self = Self(12);
    /// Broken framing or HTTP.
    pub const INTERNAL: Self = Self(13);
    /// No connection, or it broke.
    pub const UNAVAILABLE: Self = Self(14);

    /// Reads a `grpc-status` value.
    #[must_use]
    pub fn parse(value: &[u8]) -> Self {
        std::str::from_utf8(value).ok().and_then(|v| v.parse().ok()).map_or(Self::UNKNOWN, Self::numbered)
    }

    /// Reads the code of a `google.rpc.Status`.
    #[must_use]
    pub fn numbered(number: i32) -> Self {
        let number = u8::try_from(number).ok();
        number.filter(|n| usize::from(*n) < NAMES.len()).map_or(Self::UNKNOWN, Self)
    }

    /// The code of a reply that is not gRPC's, as the gRPC protocol maps HTTP statuses.
    #[must_use]
    pub fn of_http(status: StatusCode) -> Self {
        match status.as_u16() {
            400 => Self::INTERNAL,
            401 => Self(16),
            403 => Self(7),
            404 => Self::UNIMPLEMENTED,
            429 | 502..=504 => Self::UNAVAILABLE,
            _ => Self::UNKNOWN,
        }
    }

    /// The code of a call whose stream was reset, as the gRPC protocol maps HTTP/2 reasons.
    #[must_use]
    pub fn of_reset(reason: h2::Reason) -> Self {
        match reason {
            h2::Reason::REFUSED_STREAM => Self::UNAVAILABLE,
            h2::Reason::CANCEL => Self::CANCELED,
            h2::Reason::ENHANCE_YOUR_CALM => Self::RESOURCE_EXHAUSTED,
            _ => Self::INTERNAL,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES[usize::from(self.0)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_named_and_strange_ones_are_unknown() {
        assert_eq!(Code::parse(b"0"), Code::OK);
        assert_eq!(Code::parse(b"8").to_string(), "ResourceExhausted");
        assert_eq!(Code::parse(b"14").to_string(), "Unavailable");
        for strange in [&b"17"[..], b"-1", b"ok", b"", b"\xff"] {
            assert_eq!(Code::parse(strange), Code::UNKNOWN);
        }
    }

    #[test]
    fn resets_and_http_statuses_map_as_grpc_says() {
        assert_eq!(Code::of_reset(h2::Reason::REFUSED_STREAM), Code::UNAVAILABLE);
        assert_eq!(Code::of_reset(h2::Reason::CANCEL), Code::CANCELED);
        assert_eq!(Code::of_reset(h2::Reason::PROTOCOL_ERROR), Code::INTERNAL);
        assert_eq!(Code::of_http(StatusCode::NOT_FOUND), Code::UNIMPLEMENTED);
        assert_eq!(Code::of_http(StatusCode::BAD_GATEWAY).to_string(), "Unavailable");
        assert_eq!(Code::of_http(StatusCode::FORBIDDEN).to_string(), "PermissionDenied");
    }
}
