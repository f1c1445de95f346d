//! The sums of a chunk's rows, block by block, in the order in which the rows came.
//!
//! They come in the order of the key, but no server promises that. So what the blocks lead to is believed only if the rows
//! found there explain the difference of the whole chunk.

use std::collections::BTreeSet;

use arrow_array::RecordBatch;

use crate::batch::digest::{Digest, Meaning, Rows};
use crate::error::Result;
use crate::river::sink::{Begun, Moved, Piece, Sink};

/// Rows of a block.
pub const BLOCK: u64 = 4096;

/// The sums of a chunk's blocks. The last is the only one that may be shorter.
#[derive(Debug, Default)]
pub struct Blocks(Vec<Digest>);

impl Blocks {
    /// Adds the next rows; `meanings` has one for each column.
    pub fn add(&mut self, batch: &RecordBatch, meanings: &[Meaning]) -> Result<()> {
        let mut current = self.0.pop().unwrap_or_default();
        Rows::new(batch, meanings)?.hashes(|_, hash| {
            if current.rows == BLOCK {
                self.0.push(std::mem::take(&mut current));
            }
            current.count(hash);
        });
        self.0.push(current);
        Ok(())
    }

    /// The digest of the chunk.
    #[must_use]
    pub fn whole(&self) -> Digest {
        let mut whole = Digest::default();
        for block in &self.0 {
            whole.merge(*block);
        }
        whole
    }

    /// How many blocks there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The blocks whose rows have other hashes in `other`, which may have more of them: those belong to the last.
    #[must_use]
    pub fn differing(&self, other: &Self) -> BTreeSet<usize> {
        let Some(last) = self.count().checked_sub(1) else { return BTreeSet::new() };
        (0..self.count().max(other.count()))
            .filter(|&number| self.0.get(number) != other.0.get(number))
            .map(|number| number.min(last))
            .collect()
    }
}

/// Sums the rows of a chunk.
pub struct Summing<'a> {
    meanings: &'a [Meaning],
    /// The sums of the chunk that was read last.
    pub blocks: Blocks,
}

impl<'a> Summing<'a> {
    /// Hashes values by their meanings.
    #[must_use]
    pub fn new(meanings: &'a [Meaning]) -> Self {
        Self { meanings, blocks: Blocks::default() }
    }
}

impl Sink for Summing<'_> {
    fn begin(&mut self, _: &Piece) -> Result<Begun> {
        self.blocks = Blocks::default();
        Ok(Begun::Open)
    }

    fn batch(&mut self, batch: RecordBatch) -> Result<()> {
        self.blocks.add(&batch, self.meanings)
    }

    fn commit(&mut self, _: &Piece, _: Moved) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array};

    use super::*;

    fn blocks(rows: impl Iterator<Item = i64>, batch_rows: usize) -> Blocks {
        let rows: Vec<_> = rows.collect();
        let mut blocks = Blocks::default();
        for part in rows.chunks(batch_rows) {
            let array: ArrayRef = Arc::new(Int64Array::from(part.to_vec()));
            let batch = RecordBatch::try_from_iter([("id", array)]).expect("valid");
            blocks.add(&batch, &[Meaning::Value]).expect("hashable");
        }
        blocks
    }

    #[test]
    fn blocks_are_the_same_however_rows_were_batched() {
        let one = blocks(0..10_000, 10_000);
        assert_eq!(one.count(), 3);
        for rows in [1, 100, 4095, 4096, 4097] {
            let other = blocks(0..10_000, rows);
            assert!(one.differing(&other).is_empty());
            assert_eq!(one.whole(), other.whole());
        }
    }

    #[test]
    fn a_row_that_differs_leads_to_its_block_and_rows_too_many_to_the_last() {
        let one = blocks(0..10_000, 5000);
        let changed = blocks((0..10_000).map(|row| if row == 5000 { -1 } else { row }), 5000);
        assert_eq!(one.differing(&changed), BTreeSet::from([1]));
        assert_eq!(one.differing(&blocks(0..20_000, 5000)), BTreeSet::from([2]));
        assert_eq!(one.differing(&blocks(1..10_000, 5000)), BTreeSet::from([0, 1, 2]));
        assert_eq!(one.differing(&blocks(0..0, 1)), BTreeSet::from([0, 1, 2]));
        assert!(blocks(0..0, 1).differing(&one).is_empty());
    }
}
