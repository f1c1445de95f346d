//! Looking by key: where a log names few rows of a chunk, these are asked for and not the chunk.
//!
//! The copy holds what its line says, because nobody but us has written to it, or the keys that somebody wrote are known
//! and are others. So what the line is to say follows from these rows alone. It says no more where in the chunk they
//! stand: it becomes one block, until the chunk is read.

use std::collections::HashSet;

use arrow_array::Array;

use super::blocks::{Block, sum};
use super::state::Line;
use super::{Dirty, Found, Lane, Look, Looked, Run, Table};
use crate::batch::digest::{Digest, Rows};
use crate::error::Result;
use crate::mysql::chunk::{Bound, Chunk};
use crate::mysql::walk::Walk;
use crate::river::cutter::rows_of;
use crate::run::progress::Progress;

/// A row of so many is looked up; of more, the chunk is read along.
pub(super) const SPARSE: u64 = 32;
/// What the server may find along the index in one statement: it plans each column of each key.
pub(super) const MOST_VALUES: usize = 8_000;
/// A chunk that has grown to so many times what it is to be is read, and cut.
const MOST_GROWTH: u64 = 4;

impl Table {
    /// Nothing if no key that is asked for can be in the chunk of a line; else the keys, if they are to be looked up.
    #[expect(clippy::option_option, reason = "nothing to look at, or one way or the other to look")]
    pub(super) fn named(&self, line: &Line, chunk_bytes: u64) -> Option<Option<Vec<Bound>>> {
        let plan = &self.plan;
        let Some(keys) = &plan.keys else { return Some(None) };
        let there: HashSet<_> = keys.iter().filter(|key| Walk::may_hold(&line.chunk, key)).collect();
        if there.is_empty() {
            return None;
        }
        let width = self.sides.source.walk.width();
        // Who gives keys without a log knows nothing of what was written to the copy.
        let is_told = !plan.logs.is_empty() && (plan.trusts_copy || !plan.copy_logs.is_empty());
        let row_bytes = plan.compare.data_bytes / plan.compare.rows.max(1);
        let rows = there.len() as u64;
        let are_few = rows.saturating_mul(SPARSE) <= line.rows
            && there.len() * width <= MOST_VALUES
            && line.rows + rows <= rows_of(chunk_bytes, row_bytes).saturating_mul(MOST_GROWTH);
        let mut keys = there.iter();
        let is_plain = keys.all(|key| key.len() == width && !plan.written.contains(*key));
        let looked_up = is_told && self.sides.walks_rows && are_few && is_plain;
        Some(looked_up.then(|| there.into_iter().cloned().collect()))
    }
}

impl Run<'_> {
    /// False if the chunk has to be read: because the rows were not looked up, or say that they are not all there is.
    pub(super) fn look_by_key(&self, lane: &mut Lane, look: &Look) -> Result<bool> {
        let (table, Some(keys), Some(known)) = (&look.table, &look.few, &look.line) else { return Ok(false) };
        let rows = look.chunk.with(keys.clone());
        let mut met = HashSet::new();
        let source = table.source_by_key(self.progress, lane, &rows, &mut met)?;
        let copy = table.copy_by_key(self.progress, lane, &rows, &mut met)?;
        self.progress.add(source.rows, 0);
        let mut found = table.found()?;
        found.rows_read += source.rows;
        found.copy_rows_read += copy.rows;
        drop(found);
        // A key that nobody has: its row came and went, or it is spelled as nobody spells it.
        if !keys.iter().all(|key| met.contains(key)) {
            return Ok(false);
        }
        let sql = table.state.blocks(&table.plan.copy.destination_table, known.number);
        let said = lane.both.destination.ask(self.progress, |reader| reader.query(&sql))?;
        let base = sum(&table.state.decoded(known, &said)?);
        let Some(mut now) = base.without(copy) else { return Ok(false) };
        now.merge(source);
        let mut found = table.found()?;
        found.source.rows += now.rows;
        if source != copy {
            found.chunks.push(Found {
                line: Some(known.number),
                parts: vec![Looked {
                    chunk: look.chunk.clone(),
                    blocks: vec![Block { key: 0, digest: now }],
                    dirty: vec![Dirty::new(rows, source, copy)],
                    around: Vec::new(),
                }],
            });
        }
        Ok(true)
    }
}

impl Table {
    /// The sum of some rows of production; `met` are their keys.
    pub(super) fn source_by_key(
        &self,
        progress: &Progress,
        lane: &mut Lane,
        rows: &Chunk,
        met: &mut HashSet<Bound>,
    ) -> Result<Digest> {
        let side = &self.sides.source;
        let columns: Vec<_> = side.columns.iter().map(String::as_str).collect();
        let from = side.walk.joined(rows, &side.joins, &columns)?;
        let sql = format!("SELECT {} FROM {from}", self.source_select.join(", "));
        lane.both.source.ask(progress, |source| {
            let mut digest = Digest::default();
            self.bounds.read(source, &sql, progress, &mut |batch, read| {
                progress.read(read)?;
                let key: Vec<&dyn Array> =
                    self.source_key.iter().map(|&column| batch.column(column).as_ref()).collect();
                for row in 0..batch.num_rows() {
                    met.insert(side.walk.bound_of(&key, row)?);
                }
                Rows::new(&batch, &side.meanings)?.hashes(|_, hash| digest.count(hash));
                Ok(())
            })?;
            Ok(digest)
        })
    }

    /// The same for the copy.
    pub(super) fn copy_by_key(
        &self,
        progress: &Progress,
        lane: &mut Lane,
        rows: &Chunk,
        met: &mut HashSet<Bound>,
    ) -> Result<Digest> {
        lane.both.destination.ask(progress, |reader| {
            let held = self.held(progress, reader, rows, &|_| true, "")?;
            for bound in held.bounds(self) {
                met.insert(bound?);
            }
            Ok(held.all)
        })
    }
}

impl Looked {
    /// What its line says when the rows that were looked up are taken out, and what is left of them is known; nothing
    /// for a chunk that was read.
    pub(super) fn without_named(&self) -> Result<Option<Vec<Block>>> {
        let [dirty] = self.dirty.as_slice() else { return Ok(None) };
        if dirty.range.only.is_none() {
            return Ok(None);
        }
        let Some(left) = *dirty.left()? else { return Ok(None) };
        let Some(mut digest) = sum(&self.blocks).without(dirty.source) else { return Ok(None) };
        digest.merge(left);
        Ok(Some(vec![Block { key: 0, digest }]))
    }
}
