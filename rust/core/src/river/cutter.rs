//! The chunks of a table, one after the other: those of a run that was stopped, then new ones from there on.
//!
//! Every verb that walks a table walks it here. A bound that does not lie strictly beyond the one before ends the run: what
//! does not go on reads the same rows for ever, and on production.

use std::sync::atomic::{AtomicU64, Ordering};

use super::sink::{Moved, Piece};
use super::steady::Steady;
use crate::error::{Error, Kind, Result};
use crate::mysql::Connection;
use crate::mysql::chunk::{Bound, Chunk};
use crate::mysql::cut::Cuts;
use crate::mysql::walk::Walk;
use crate::run::progress::Progress;

/// A chunk of narrow rows is no longer than this: what is read of them may be much longer than what is stored.
const MOST_ROWS: u64 = 250_000;
/// Fewer are not worth a lane of their own.
pub(crate) const FEWEST_ROWS: u64 = 20_000;

/// Cuts one table.
pub struct Cutter {
    walk: Walk,
    cuts: Cuts,
    /// What is not cut yet; nothing once the last chunk is.
    rest: Option<Chunk>,
    /// The number of the next chunk.
    number: u64,
}

impl Cutter {
    /// Nothing is cut yet.
    #[must_use]
    pub fn new(walk: &Walk) -> Self {
        Self { walk: walk.unfiltered(), cuts: Cuts::default(), rest: Some(Chunk::default()), number: 0 }
    }

    /// Ends the table before `upper`.
    pub fn end_before(&mut self, upper: Option<Bound>) {
        if let Some(rest) = &mut self.rest {
            rest.upper = upper;
        }
    }

    /// Takes over a chunk that an earlier run had cut. `unreadable` makes the error of a journal whose chunk does not begin
    /// where the one before it ends, or ends there.
    pub fn resume(
        &mut self,
        number: u64,
        chunk: Chunk,
        walker: &mut Steady,
        progress: &Progress,
        unreadable: impl Fn(&str) -> Error,
    ) -> Result<Piece> {
        let Some(rest) = self.rest.as_mut().filter(|rest| rest.lower == chunk.lower) else {
            return Err(unreadable("a chunk does not begin where the one before it ends"));
        };
        if let (Some(lower), Some(upper)) = (&chunk.lower, &chunk.upper) {
            walker.ask(progress, |walker| self.walk.prove_order(walker, lower, upper)).map_err(|error| {
                match error.kind() {
                    Kind::Stuck { .. } => unreadable(&error.to_string()),
                    _ => error,
                }
            })?;
        }
        rest.lower.clone_from(&chunk.upper);
        if rest.lower.is_none() {
            self.rest = None;
        }
        self.number = number + 1;
        Ok(Piece { number, chunk, former: true })
    }

    /// Nothing is left to be cut.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.rest.is_none()
    }

    /// Hands over the chunks that are left, each of about as many rows as `rows` says then, and lends the walker meanwhile.
    pub fn each(
        &mut self,
        walker: &mut Steady,
        progress: &Progress,
        rows: impl Fn() -> u64,
        mut take: impl FnMut(&mut Steady, Piece) -> Result<()>,
    ) -> Result<()> {
        loop {
            progress.turn()?;
            let rows = rows();
            let Some(chunk) = walker.ask(progress, |walker| self.next(walker, rows))? else { return Ok(()) };
            let number = self.number;
            self.number += 1;
            take(walker, Piece { number, chunk, former: false })?;
        }
    }

    /// The next chunk, of about `rows` rows. It may be asked again when the question failed.
    pub(crate) fn next(&mut self, connection: &mut Connection, rows: u64) -> Result<Option<Chunk>> {
        // A copy with a limit ends at a bound: resumed behind its last chunk it has nothing left.
        if self.rest.as_ref().is_some_and(|rest| rest.lower.is_some() && rest.lower == rest.upper) {
            self.rest = None;
        }
        let Some(rest) = &mut self.rest else { return Ok(None) };
        if self.walk.is_one_chunk(rows) {
            return Ok(self.rest.take());
        }
        let next = self.cuts.next(&self.walk, connection, rest, rows)?;
        let Some(next) = next else { return Ok(self.rest.take()) };
        if let Some(lower) = &rest.lower {
            self.walk.prove_progress(lower, &next)?;
        }
        Ok(Some(Chunk::between(rest.lower.replace(next.clone()), Some(next))))
    }
}

/// How long the rows of a table are: by what was read of it so far, else by the server's statistics.
#[derive(Debug)]
pub struct Sizes {
    chunk_bytes: u64,
    most_rows: u64,
    expected: (u64, u64),
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl Sizes {
    /// Chunks of about `chunk_bytes` of a table of which the server expects `rows` with `data_bytes`.
    #[must_use]
    pub fn new(chunk_bytes: u64, rows: u64, data_bytes: u64) -> Self {
        let (read, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { chunk_bytes, most_rows: MOST_ROWS, expected: (rows, data_bytes), rows: read, bytes }
    }

    /// A table that is no more than a few chunks is shared out among so many lanes.
    #[must_use]
    pub fn shared_by(self, lanes: usize) -> Self {
        let share = if lanes > 1 { self.expected.0 / lanes as u64 } else { MOST_ROWS };
        Self { most_rows: share.clamp(FEWEST_ROWS, MOST_ROWS), ..self }
    }

    /// Notes what was read.
    pub fn note(&self, moved: Moved) {
        self.rows.fetch_add(moved.rows, Ordering::Relaxed);
        self.bytes.fetch_add(moved.bytes, Ordering::Relaxed);
    }

    /// What was noted: rows and bytes.
    #[must_use]
    pub fn noted(&self) -> (u64, u64) {
        (self.rows.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Bytes of a row by the server's statistics.
    #[must_use]
    pub fn expected(&self) -> u64 {
        let (rows, data_bytes) = self.expected;
        data_bytes / rows.max(1)
    }

    /// How many rows fill a chunk.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows_with(0)
    }

    /// The same where each row grows by `more` bytes on its way.
    #[must_use]
    pub fn rows_with(&self, more: u64) -> u64 {
        let (rows, bytes) = self.noted();
        let read = if rows > 0 && bytes > 0 { bytes / rows } else { self.expected() };
        rows_of(self.chunk_bytes, read + more).min(self.most_rows)
    }
}

/// How many rows of that many bytes fill a chunk.
pub(crate) fn rows_of(chunk_bytes: u64, row_bytes: u64) -> u64 {
    let chunk_bytes = chunk_bytes.max(16);
    (chunk_bytes / row_bytes.clamp(16, chunk_bytes)).clamp(1, MOST_ROWS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_few_chunks_is_shared_out_among_the_lanes() {
        let rows =
            |expected: u64, lanes| Sizes::new(64 << 20, expected, expected * 100).shared_by(lanes).rows();
        assert_eq!(rows(100_000, 4), 25_000);
        assert_eq!(rows(1_000, 4), FEWEST_ROWS);
        assert_eq!(rows(4_000_000, 4), MOST_ROWS);
        assert_eq!(rows(100_000, 1), MOST_ROWS);
    }
}
