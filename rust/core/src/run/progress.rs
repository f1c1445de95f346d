//! What a run tells while it runs, and how it is told to stop. The engine never prints.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::throttle::Throttle;
use crate::error::{Kind, Result};

/// How often a run that waits looks whether it may go on, or has to stop.
const TICK: Duration = Duration::from_millis(100);

/// Counters shared by the lanes of a run and read by whoever watches it.
#[derive(Debug, Default)]
pub struct Progress {
    rows: AtomicU64,
    bytes: AtomicU64,
    retries: AtomicU64,
    rows_expected: AtomicU64,
    table: Mutex<String>,
    cancelled: AtomicBool,
    throttle: OnceLock<Throttle>,
    paused: Mutex<Option<String>>,
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
    /// Why nothing is read at the moment.
    pub paused: Option<String>,
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
            paused: self.paused.lock().map(|paused| paused.clone()).unwrap_or_default(),
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

    /// Spares the source from now on.
    pub fn spare(&self, throttle: Throttle) {
        // A run has one source, and says so once.
        let _ = self.throttle.set(throttle);
    }

    /// Waits before a statement until the source may be read; an error once the run was asked to stop.
    pub fn turn(&self) -> Result<()> {
        self.check()?;
        let Some(throttle) = self.throttle.get() else { return Ok(()) };
        loop {
            let reason = throttle.reason()?;
            let free = reason.is_none();
            if let Ok(mut paused) = self.paused.lock() {
                *paused = reason;
            }
            if free {
                return self.wait_until(throttle.paid());
            }
            std::thread::sleep(TICK);
            self.check()?;
        }
    }

    /// Counts bytes read from the source, and waits as long as they cost; an error once the run was asked to stop.
    pub fn read(&self, bytes: u64) -> Result<()> {
        self.check()?;
        match self.throttle.get() {
            Some(throttle) => self.wait_until(throttle.read(bytes)),
            None => Ok(()),
        }
    }

    fn wait_until(&self, moment: Instant) -> Result<()> {
        loop {
            let rest = moment.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(());
            }
            std::thread::sleep(rest.min(TICK));
            self.check()?;
        }
    }
}
