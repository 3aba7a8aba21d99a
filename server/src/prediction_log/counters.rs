//! What the log counts.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Counts of one log. Every row that was offered, or found on disk at the start, is written, dropped, waiting in memory or on disk.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests for which somebody asked whether they are logged.
    pub requests: AtomicU64,
    /// Of them those that are not.
    pub skipped: AtomicU64,
    /// Requests that were given an id.
    pub(super) named: AtomicU64,
    /// Rows handed in.
    pub offered: AtomicU64,
    /// Rows in memory: handed in, and neither written, put by on disk nor dropped.
    pub waiting: AtomicUsize,
    /// Rows that ClickHouse has acknowledged.
    pub written: AtomicU64,
    /// Of them those that came from the disk.
    pub replayed: AtomicU64,
    /// Rows that were put by on disk.
    pub spilled: AtomicU64,
    /// Inserts that were tried.
    pub inserts: AtomicU64,
    /// Of them those that failed.
    pub failures: AtomicU64,
    dropped: [AtomicU64; Reason::ALL.len()],
    /// Whether the disk had no room for the last batch.
    pub(super) spill_full: AtomicBool,
}

impl Counters {
    /// Rows that were dropped, by reason.
    pub fn dropped(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(self.dropped.iter().map(|rows| rows.load(Ordering::Relaxed)))
    }

    pub(super) fn drop_rows(&self, reason: Reason, rows: usize) {
        self.dropped[reason as usize].fetch_add(rows as u64, Ordering::Relaxed);
    }
}

/// Why rows are not known to be in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// More came in than could be sent.
    BufferFull,
    /// ClickHouse takes none, the disk has no more room for the log, and then memory had none.
    SpillFull,
    /// One row, or all in memory together, took more bytes than are set apart for it.
    TooLarge,
    /// The model's output was not a finite number.
    NotFinite,
    /// ClickHouse refuses the batch, but takes others: it is set aside on disk.
    Refused,
    /// A batch on disk is damaged: it is set aside.
    Unreadable,
    /// The engine had stopped.
    Stopped,
}

impl Reason {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::BufferFull,
        Self::SpillFull,
        Self::TooLarge,
        Self::NotFinite,
        Self::Refused,
        Self::Unreadable,
        Self::Stopped,
    ];

    /// As labels have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BufferFull => "buffer_full",
            Self::SpillFull => "spill_full",
            Self::TooLarge => "too_large",
            Self::NotFinite => "not_finite",
            Self::Refused => "refused",
            Self::Unreadable => "unreadable",
            Self::Stopped => "stopped",
        }
    }
}
