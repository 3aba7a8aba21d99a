//! Where a version stands.

use std::{fmt, time::Instant};

/// A version's phase.
///
/// ```text
/// Pending  => Loading
/// Loading  => (Ready | Failed)
/// Failed   => Loading              after a pause, or at once when its files change
/// Ready    => Draining             when nothing has asked for it for a while: no route, no wish of the registry
/// Draining => (gone)               when its last request is answered and its sessions are freed
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// The registry wants it; its load has not begun.
    Pending,
    /// Its load is under way.
    Loading,
    /// It answers requests.
    Ready,
    /// It takes no new requests.
    Draining,
    /// Its last load failed.
    Failed(Failure),
}

/// A load that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The check that failed.
    pub check: &'static str,
    /// Why, for a person to read.
    pub reason: String,
    /// Loads that have failed in a row.
    pub attempts: u32,
    /// When the next try is due.
    pub retry_at: Instant,
}

impl Phase {
    /// Every phase's name, in order of a version's life.
    pub const NAMES: [&'static str; 5] = ["pending", "loading", "ready", "draining", "failed"];

    /// The phase's name, one of [`Phase::NAMES`].
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Failed(_) => "failed",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
