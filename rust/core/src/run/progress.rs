//! What a run tells while it runs, and how it is told to stop. The engine never prints.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::Serialize;

use crate::error::{Kind, Result};

/// Counters shared by the lanes of a run and read by whoever watches it.
#[derive(Debug, Default)]
pub struct Progress {
    rows: AtomicU64,
    bytes: AtomicU64,
    retries: AtomicU64,
    rows_expected: AtomicU64,
    table: Mutex<String>,
    cancelled: AtomicBool,
}

/// The counters at one moment.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Seen {
    /// The table worked on last, as `schema.table`.
    pub table: String,
    pub rows: u64,
    pub bytes: u64,
    /// An estimate by the server's statistics.
    pub rows_expected: u64,
    pub retries: u64,
}

impl Progress {
    pub fn add(&self, rows: u64, bytes: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes back what a failed attempt had counted.
    pub fn take_back(&self, rows: u64, bytes: u64) {
        self.rows.fetch_sub(rows, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub fn expect(&self, rows: u64) {
        self.rows_expected.fetch_add(rows, Ordering::Relaxed);
    }

    pub fn at(&self, table: &str) {
        if let Ok(mut current) = self.table.lock()
            && *current != table
        {
            table.clone_into(&mut current);
        }
    }

    pub(super) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen {
            table: self.table.lock().map(|table| table.clone()).unwrap_or_default(),
            rows: self.rows.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            rows_expected: self.rows_expected.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
        }
    }

    /// Asks the run to stop at the next batch.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// An error once the run was asked to stop.
    pub fn check(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) { Err(Kind::Cancelled.into()) } else { Ok(()) }
    }
}
