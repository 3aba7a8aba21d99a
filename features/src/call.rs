//! One call of ClickHouse: bounded in time, with an error that a person can read.

use std::{future::Future, time::Duration};

use ::clickhouse::error::Error;

/// Longest text of the server that is passed on, in characters.
const LONGEST: usize = 500;

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nobody answers.
    #[error("ClickHouse at {url} cannot be reached: {reason}; is clickhouse.url right, and the server up?")]
    Unreachable {
        /// The server.
        url: String,
        /// What went wrong on the way.
        reason: String,
    },
    /// The answer did not come in time.
    #[error("ClickHouse at {url} did not answer within {within:?}")]
    Timeout {
        /// The server.
        url: String,
        /// How long was waited.
        within: Duration,
    },
    /// The user is unknown, their password wrong, or a right is missing.
    #[error(
        "ClickHouse at {url} refuses: {reason}; set clickhouse.user and clickhouse.password_file, or grant the right"
    )]
    Denied {
        /// The server.
        url: String,
        /// The server's words.
        reason: String,
    },
    /// The statement failed.
    #[error("ClickHouse at {url}: {reason}")]
    Failed {
        /// The server.
        url: String,
        /// ClickHouse's number of the error, if it gave one.
        code: Option<u32>,
        /// The server's words.
        reason: String,
    },
}

impl CallError {
    /// ClickHouse's number of the error, if the server refused the statement itself.
    #[must_use]
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Failed { code, .. } => *code,
            _ => None,
        }
    }

    /// Whether the database, a table or a column is not what the statement takes it for: no use to try again before
    /// somebody has mended it.
    #[must_use]
    pub fn is_schema(&self) -> bool {
        // An unknown column, database, table or identifier; a type that does not fit; data that does not fit a table.
        matches!(self.code(), Some(10 | 16 | 20 | 47 | 53 | 60 | 81 | 117 | 386))
    }

    fn new(url: &str, error: &Error) -> Self {
        let url = url.to_owned();
        match error {
            Error::Network(cause) => Self::Unreachable { url, reason: shorten(&causes(cause.as_ref())) },
            other => {
                let text = causes(other);
                let code = code(&text);
                let reason = shorten(&text);
                match code {
                    // Authentication failed; access denied; unknown user; wrong password.
                    Some(516 | 497 | 192 | 193) => Self::Denied { url, reason },
                    code => Self::Failed { url, code, reason },
                }
            }
        }
    }
}

/// Runs a call, which is dropped when its time is over: the client has no limits of its own.
pub(crate) async fn bounded<T>(
    url: &str,
    within: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, CallError> {
    let timeout = || CallError::Timeout { url: url.to_owned(), within };
    let result = tokio::time::timeout(within, call).await.map_err(|_| timeout())?;
    result.map_err(|error| match CallError::new(url, &error) {
        // The server's own limit, which is the same, came first.
        error if error.code() == Some(159) => timeout(),
        error => error,
    })
}

/// An error and what caused it, in one line, without saying anything twice.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The server's own words. An exception in the middle of a result comes behind all of its rows; some repeat the
/// statement at the end, with all of its keys.
fn words(text: &str) -> &str {
    let text = text.rfind("Code: ").map_or(text, |at| &text[at..]);
    text.find(" In scope ").map_or(text, |at| &text[..at])
}

fn shorten(text: &str) -> String {
    words(text)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST)
        .collect::<String>()
        .trim()
        .to_owned()
}

fn code(text: &str) -> Option<u32> {
    let digits = words(text).strip_prefix("Code: ")?;
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_behind_megabytes_of_rows_is_short() {
        let rows = "\u{1}binary Code: 7. ".repeat(100_000);
        let text = format!("{rows}\nCode: 159. DB::Exception: Timeout exceeded. {}", "x".repeat(1000));
        let CallError::Failed { code, reason, .. } = CallError::new("u", &Error::BadResponse(text)) else {
            panic!("not a failure of the statement")
        };
        assert_eq!(code, Some(159));
        assert!(reason.starts_with("Code: 159. DB::Exception: Timeout exceeded."), "{reason}");
        assert_eq!(reason.chars().count(), LONGEST);
    }

    #[test]
    fn a_refused_user_is_told_what_to_set() {
        let text = "Code: 516. DB::Exception: default: Authentication failed".to_owned();
        let error = CallError::new("http://c:8123", &Error::BadResponse(text)).to_string();
        assert!(error.contains("clickhouse.password_file") && error.contains("http://c:8123"), "{error}");
    }

    #[test]
    fn text_without_a_code_stays() {
        let error = CallError::new("u", &Error::BadResponse("502 Bad Gateway".to_owned()));
        let reason = "bad response: 502 Bad Gateway".to_owned();
        assert_eq!(error, CallError::Failed { url: "u".to_owned(), code: None, reason });
    }
}
