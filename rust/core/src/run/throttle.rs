//! Sparing production: so many bytes a second over all lanes, and pauses while a file is there or the server is busy.
//!
//! Bytes are paid for between batches, pauses are made between statements: a server closes a connection whose result
//! nobody takes, and with it would go the snapshot.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::error::Result;

/// How long what the server said of its load is believed.
const LOAD_INTERVAL: Duration = Duration::from_secs(1);

/// The longest wait while a statement is open. Servers wait longer (`net_write_timeout`), what remains is paid later.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What a run may take of its source. The names are those of the Python plan.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of rows that are read in a second, of all lanes together.
    #[serde(default)]
    pub max_bytes_per_second: Option<u64>,
    /// Status variables of the server and the most they may be.
    #[serde(default)]
    pub max_load: Vec<(String, f64)>,
    /// Nothing is read while there is a file of this name.
    #[serde(default)]
    pub pause_file: Option<PathBuf>,
}

impl Limits {
    /// True if nothing is limited.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.max_bytes_per_second.is_none() && self.max_load.is_empty() && self.pause_file.is_none()
    }

    /// The size of a chunk or batch of `bytes`, cut so that a lane waits often and shortly.
    #[must_use]
    pub fn piece(&self, bytes: u64) -> u64 {
        self.max_bytes_per_second.map_or(bytes, |rate| (rate / 4).max(16 << 10).min(bytes))
    }
}

/// Asks the source for the variables of `max_load`, in their order.
pub type AskLoad = Box<dyn FnMut() -> Result<Vec<f64>> + Send>;

/// The limits of one run, shared by its lanes.
pub struct Throttle {
    limits: Limits,
    load: Mutex<Load>,
    /// When everything read so far has been paid for.
    due: Mutex<Instant>,
}

struct Load {
    ask: AskLoad,
    asked: Option<Instant>,
    above: Option<String>,
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.limits.fmt(out)
    }
}

impl Throttle {
    /// Keeps `limits`; `ask` tells the load, in the order of `max_load`.
    #[must_use]
    pub fn new(limits: Limits, ask: AskLoad) -> Self {
        let load = Mutex::new(Load { ask, asked: None, above: None });
        Self { limits, load, due: Mutex::new(Instant::now()) }
    }

    /// Why nothing may be read now, if that is so.
    pub fn reason(&self) -> Result<Option<String>> {
        if let Some(file) = &self.limits.pause_file
            && file.exists()
        {
            return Ok(Some(format!("{} is there", file.display())));
        }
        if self.limits.max_load.is_empty() {
            return Ok(None);
        }
        let mut load = self.load.lock().unwrap_or_else(PoisonError::into_inner);
        if load.asked.is_none_or(|asked| asked.elapsed() >= LOAD_INTERVAL) {
            let told = (load.ask)()?;
            load.asked = Some(Instant::now());
            load.above = self
                .limits
                .max_load
                .iter()
                .zip(told)
                .find(|((_, most), is)| is > most)
                .map(|((name, most), is)| format!("{name} is {is}, above {most}"));
        }
        Ok(load.above.clone())
    }

    /// Counts what was read and says until when its reader waits.
    #[must_use]
    pub fn read(&self, bytes: u64) -> Instant {
        let now = Instant::now();
        let Some(rate) = self.limits.max_bytes_per_second else { return now };
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        // What was not read while nothing was to be read is not made up for.
        *due = (*due).max(now) + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        (*due).min(now + LONGEST_WAIT)
    }

    /// When everything read so far has been paid for.
    #[must_use]
    pub fn paid(&self) -> Instant {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(limits: Limits, ask: AskLoad) -> Throttle {
        Throttle::new(limits, ask)
    }

    #[test]
    fn what_is_read_is_paid_for_by_all_readers_together() {
        let limits = Limits { max_bytes_per_second: Some(1000), ..Limits::default() };
        let throttle = throttle(limits, Box::new(|| Ok(Vec::new())));
        let begun = Instant::now();
        for _ in 0..10 {
            let _ = throttle.read(500);
        }
        assert!(throttle.paid() >= begun + Duration::from_secs(5));
        // A wait within a statement has an end; the rest is paid between statements.
        assert!(throttle.read(1_000_000) <= Instant::now() + LONGEST_WAIT);
        assert!(throttle.paid() >= begun + Duration::from_secs(1000));
    }

    #[test]
    fn a_server_above_a_limit_is_named_and_one_at_the_limit_is_not() {
        let limits = Limits {
            max_load: vec![("Threads_running".into(), 25.0), ("Threads_connected".into(), 100.0)],
            ..Limits::default()
        };
        let at = throttle(limits.clone(), Box::new(|| Ok(vec![25.0, 100.0])));
        assert_eq!(at.reason().expect("asked"), None);
        let above = throttle(limits, Box::new(|| Ok(vec![25.0, 101.0])));
        assert_eq!(above.reason().expect("asked").as_deref(), Some("Threads_connected is 101, above 100"));
    }
}
