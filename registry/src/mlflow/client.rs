//! Calls of MLflow's REST API.
//!
//! Which failure it was is told by MLflow's `error_code`, never by the HTTP status alone: an unknown alias is 400, a
//! file that is missing from an object store 500.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Certificate, StatusCode,
    blocking::{self, Response},
    header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
};
use serde::de::DeserializeOwned;

use super::wire::Failure;

/// What may stand in a path segment or a query value as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// For an answer about metadata.
const METADATA: Duration = Duration::from_secs(10);
/// Tries of a call that may succeed later.
const TRIES: u32 = 3;

/// MLflow's codes for what may be otherwise a moment later.
const PASSING: [&str; 7] = [
    "INTERNAL_ERROR",
    "TEMPORARILY_UNAVAILABLE",
    "IO_ERROR",
    "REQUEST_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "ABORTED",
    "DEADLINE_EXCEEDED",
];

/// Who asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    None,
    /// HTTP basic authentication: MLflow's own.
    Basic {
        /// The user.
        username: String,
        /// Their password.
        password: String,
    },
    /// A bearer token, for a proxy or plugin before MLflow.
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Basic { .. } => "Basic",
            Self::Token(_) => "Token",
        })
    }
}

/// Where MLflow is and how to talk to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connection {
    /// Base URL; with a path where the server has a static prefix.
    pub url: String,
    /// Who asks.
    pub credentials: Credentials,
    /// Workspace, on a server that has them.
    pub workspace: Option<String>,
    /// PEM certificates to trust beside the system's.
    pub authorities: Option<Vec<u8>>,
}

/// A connection that cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConnectError(String);

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("MLflow at {url} cannot be reached: {reason}")]
    Unreachable { url: String, reason: String },
    #[error(
        "MLflow at {0} refuses the credentials: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, \
         MLFLOW_TRACKING_TOKEN, or registry.password_file or registry.token_file"
    )]
    Unauthenticated(String),
    #[error(
        "MLflow at {url} answers 403: {reason}; the user needs READ on the registered model and on its experiment, and \
         the server must know this host name (--allowed-hosts)"
    )]
    Denied { url: String, reason: String },
    #[error("{message} ({code})")]
    Api { code: String, message: String },
    #[error(
        "MLflow at {url} answers {status} to {path}, and not in MLflow's way: {reason}; is the base URL right? A server \
         with --static-prefix has a path in it"
    )]
    Strange { url: String, path: String, status: u16, reason: String },
}

impl CallError {
    /// Whether the thing that was asked for does not exist.
    pub(crate) fn is_missing(&self) -> bool {
        match self {
            Self::Api { code, message, .. } => {
                code == "RESOURCE_DOES_NOT_EXIST" || (code == "INTERNAL_ERROR" && message.contains("(404)"))
            }
            _ => false,
        }
    }

    /// Whether it says nothing about the model, only about the way there.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            // Whatever is not in MLflow's way comes from a proxy before it.
            Self::Unreachable { .. } | Self::Strange { .. } | Self::Unauthenticated(_) | Self::Denied { .. } => true,
            Self::Api { code, .. } => {
                matches!(code.as_str(), "UNAUTHENTICATED" | "PERMISSION_DENIED" | "CUSTOMER_UNAUTHORIZED")
                    || self.is_passing()
            }
        }
    }

    /// Whether the same call may succeed a moment later.
    fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Api { code, .. } => PASSING.contains(&code.as_str()) && !self.is_missing(),
            // No code of MLflow's, so the status is all there is.
            Self::Strange { status, .. } => matches!(status, 429 | 500 | 502 | 503 | 504),
            Self::Unauthenticated(_) | Self::Denied { .. } => false,
        }
    }
}

/// Talks to one server.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: blocking::Client,
    base: String,
    /// Whether the last call was answered, by whichever clone it was.
    answers: Arc<AtomicBool>,
}

impl Client {
    pub(crate) fn new(connection: &Connection) -> Result<Self, ConnectError> {
        let fail = |reason: String| ConnectError(format!("registry.mlflow_url = {:?}: {reason}", connection.url));
        let base = connection.url.trim_end_matches('/').to_owned();
        if !base.starts_with("http://") && !base.starts_with("https://") {
            return Err(fail("must begin with http:// or https://".to_owned()));
        }
        let mut headers = HeaderMap::new();
        if let Some(workspace) = &connection.workspace {
            let value = HeaderValue::from_str(workspace).map_err(|_| ConnectError(bad_header("registry.workspace")))?;
            headers.insert(HeaderName::from_static("x-mlflow-workspace"), value);
        }
        let secret = match &connection.credentials {
            Credentials::None => None,
            Credentials::Basic { username, password } => {
                Some(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
            }
            Credentials::Token(token) => Some(format!("Bearer {token}")),
        };
        if let Some(secret) = secret {
            let value = HeaderValue::from_str(&secret).map_err(|_| ConnectError(bad_header("the credentials")))?;
            let value = sensitive(value);
            headers.insert(reqwest::header::AUTHORIZATION, value);
        }
        // The first to come decides; that is this one everywhere.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A redirect could carry the credentials elsewhere.
        let mut builder = blocking::Client::builder()
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .user_agent(concat!("aibuyer/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = &connection.authorities {
            let authorities = Certificate::from_pem_bundle(pem)
                .map_err(|e| ConnectError(format!("registry.ca_file holds no PEM certificates: {e}")))?;
            builder = builder.tls_certs_merge(authorities);
        }
        // Bounds of a whole call are set with each: the usual 30 s would end long downloads.
        let http = builder.timeout(None).build().map_err(|e| fail(causes(&e)))?;
        Ok(Self { http, base, answers: Arc::new(AtomicBool::new(true)) })
    }

    /// Whether the last call was answered, in whatever way.
    pub(crate) fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    /// One call about metadata, tried once: for polls, which come again by themselves.
    pub(crate) fn ask<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, CallError> {
        let url = format!("{}/api/2.0/{path}{}", self.base, encode_query(query));
        let response = self.send(self.http.get(&url).timeout(METADATA), path)?;
        let status = response.status().as_u16();
        let body = response.bytes().map_err(|e| self.unreachable(e))?;
        serde_json::from_slice(&body).map_err(|e| self.strange(path, status, &e.to_string()))
    }

    /// One call about metadata, with a few tries.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, CallError> {
        let mut pause = Duration::from_millis(100);
        for _ in 1..TRIES {
            match self.ask(path, query) {
                Err(error) if error.is_passing() => thread::sleep(pause),
                result => return result,
            }
            pause *= 4;
        }
        self.ask(path, query)
    }

    /// The head of a file's answer, of which all must arrive `within`; from a byte on where the file is still the one
    /// that the tag beside it names.
    pub(crate) fn file(
        &self,
        path: &str,
        resume: Option<(u64, &str)>,
        within: Duration,
    ) -> Result<Response, CallError> {
        let encoded: Vec<String> = path.split('/').map(|part| utf8_percent_encode(part, PLAIN).to_string()).collect();
        let url = format!("{}/api/2.0/mlflow-artifacts/artifacts/{}", self.base, encoded.join("/"));
        let mut request = self.http.get(url).timeout(within);
        if let Some((from, etag)) = resume {
            request = request.header("range", format!("bytes={from}-")).header("if-range", etag);
        }
        self.send(request, path)
    }

    fn send(&self, request: blocking::RequestBuilder, path: &str) -> Result<Response, CallError> {
        let response = request.send();
        self.answers.store(response.is_ok(), Ordering::Relaxed);
        let response = response.map_err(|e| self.unreachable(e))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
            wait_as_told(response.headers());
        }
        let text = response.text().unwrap_or_default();
        Err(match (status, serde_json::from_str::<Failure>(&text)) {
            (_, Ok(Failure { error_code, message })) if !error_code.is_empty() => {
                CallError::Api { code: error_code, message: first_line(&message) }
            }
            (StatusCode::UNAUTHORIZED, _) => CallError::Unauthenticated(self.base.clone()),
            (StatusCode::FORBIDDEN, _) => CallError::Denied { url: self.base.clone(), reason: first_line(&text) },
            _ => self.strange(path, status.as_u16(), &first_line(&text)),
        })
    }

    fn unreachable(&self, error: reqwest::Error) -> CallError {
        CallError::Unreachable { url: self.base.clone(), reason: causes(&error.without_url()) }
    }

    fn strange(&self, path: &str, status: u16, reason: &str) -> CallError {
        let reason = if reason.is_empty() { "an empty answer" } else { reason };
        CallError::Strange { url: self.base.clone(), path: path.to_owned(), status, reason: reason.to_owned() }
    }
}

/// A server that asks for patience gets some, within reason.
fn wait_as_told(headers: &HeaderMap) {
    const LONGEST: u64 = 5;
    let seconds = headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if let Some(seconds) = seconds {
        thread::sleep(Duration::from_secs(seconds.min(LONGEST)));
    }
}

fn encode_query(query: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        query.iter().map(|(key, value)| format!("{key}={}", utf8_percent_encode(value, PLAIN))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// An error and what caused it, in one line; reqwest's own text leaves the causes out.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn first_line(text: &str) -> String {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().chars().take(200).collect()
}

fn bad_header(what: &str) -> String {
    format!("{what} holds characters that cannot travel in an HTTP header, perhaps a line break at the end of a file")
}

fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}
