//! Content-defined blocks: what a chunk held, in a few bytes a block.
//!
//! A block begins at a row whose key says so, not after a number of rows: a row more or less changes one block, and all
//! boundaries behind it stand. So two lists of blocks can be laid beside each other along the boundaries they share.

use std::collections::HashMap;
use std::ops::Range;

use arrow_array::RecordBatch;
use xxhash_rust::xxh3::xxh3_128;

use crate::batch::digest::{Digest, Meaning, Rows};
use crate::error::Result;

/// What a block is meant to hold: it is read again whole when one row of it differs.
const BLOCK_ROWS: u64 = 128;
const BLOCK_BYTES: u64 = 256 << 10;
/// Bytes of an encoded block.
const WIDTH: usize = 32;

/// The rows from one boundary up to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::verbs) struct Block {
    /// Of the key of its first row; 0 for the first block of a chunk, which begins where the chunk does.
    pub key: u64,
    pub digest: Digest,
}

/// Which rows begin a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::verbs) struct Cut(Option<u64>);

impl Cut {
    /// For rows of that many bytes.
    pub fn of(row_bytes: u64) -> Self {
        let rows = (BLOCK_BYTES / row_bytes.max(1)).clamp(1, BLOCK_ROWS);
        // The power of two below.
        Self(Some((1 << rows.ilog2()) - 1))
    }

    /// A chunk is one block: its rows are in no order that both sides share.
    pub const NEVER: Self = Self(None);

    fn begins(self, key: u64) -> bool {
        self.0.is_some_and(|mask| key != 0 && key & mask == 0)
    }
}

/// A row's key by its hash: of 128 bits, because two keys taken for one would hide a row.
pub(in crate::verbs) fn key_of(rows: &Rows<'_>, key: &[usize], row: usize, buffer: &mut Vec<u8>) -> u128 {
    buffer.clear();
    for &column in key {
        rows.cell(buffer, column, row);
    }
    xxh3_128(buffer)
}

/// Is told of rows as they come.
pub(in crate::verbs) trait Watch {
    /// A row of the batch begins a block, and the one before it has `ended`.
    fn begins(&mut self, row: usize, ended: &Block) -> Result<()>;

    /// The next row: its number in the batch, and the hashes of its key and of all of it.
    fn row(&mut self, row: usize, key: u128, hash: u128);
}

/// For whoever wants the blocks and nothing else.
impl Watch for () {
    fn begins(&mut self, _: usize, _: &Block) -> Result<()> {
        Ok(())
    }

    fn row(&mut self, _: usize, _: u128, _: u128) {}
}

/// The blocks of a chunk, made from its rows in the order of the key.
#[derive(Debug, Clone)]
pub(in crate::verbs) struct Blocks {
    pub list: Vec<Block>,
    cut: Cut,
}

impl Blocks {
    pub fn new(cut: Cut) -> Self {
        Self { list: vec![Block { key: 0, digest: Digest::default() }], cut }
    }

    /// Takes the rows of a batch; `watch` is told of each, where blocks can begin at all.
    pub fn add(
        &mut self,
        batch: &RecordBatch,
        meanings: &[Meaning],
        key: &[usize],
        watch: &mut impl Watch,
    ) -> Result<()> {
        let rows = Rows::new(batch, meanings)?;
        let (mut buffer, mut failed) = (Vec::new(), Ok(()));
        rows.hashes(|row, hash| {
            if self.cut != Cut::NEVER {
                let whole = key_of(&rows, key, row, &mut buffer);
                let key = whole as u64;
                if self.cut.begins(key) {
                    if let (Some(ended), true) = (self.list.last(), failed.is_ok()) {
                        failed = watch.begins(row, ended);
                    }
                    self.list.push(Block { key, digest: Digest::default() });
                }
                watch.row(row, whole, hash);
            }
            if let Some(block) = self.list.last_mut() {
                block.digest.count(hash);
            }
        });
        failed
    }
}

/// The sum of some blocks.
pub(in crate::verbs) fn sum(blocks: &[Block]) -> Digest {
    let mut whole = Digest::default();
    for block in blocks {
        whole.merge(block.digest);
    }
    whole
}

pub(in crate::verbs) fn encode(blocks: &[Block]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(blocks.len() * WIDTH);
    for block in blocks {
        bytes.extend_from_slice(&block.key.to_le_bytes());
        bytes.extend_from_slice(&block.digest.rows.to_le_bytes());
        bytes.extend_from_slice(&block.digest.sum.to_le_bytes());
    }
    bytes
}

/// Nothing if these are not the blocks of a chunk of so many rows.
pub(in crate::verbs) fn decode(bytes: &[u8], rows: u64) -> Option<Vec<Block>> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(WIDTH) {
        return None;
    }
    let number = |part: &[u8]| part.try_into().map(u64::from_le_bytes).unwrap_or_default();
    let blocks: Vec<_> = bytes
        .chunks_exact(WIDTH)
        .map(|part| Block {
            key: number(&part[..8]),
            digest: Digest {
                rows: number(&part[8..16]),
                sum: part[16..].try_into().map(u128::from_le_bytes).unwrap_or_default(),
            },
        })
        .collect();
    let counted = blocks.iter().try_fold(0_u64, |sum, block| sum.checked_add(block.digest.rows));
    let begins = blocks.iter().enumerate().all(|(index, block)| (block.key == 0) == (index == 0));
    (counted == Some(rows) && begins).then_some(blocks)
}

/// A stretch between two boundaries that all lists have: for each of them, its blocks.
pub(in crate::verbs) type Stretch = Vec<Range<usize>>;

/// Lays lists of blocks of one chunk beside each other. Together the stretches are all blocks of all lists.
pub(in crate::verbs) fn align(lists: &[&[Block]]) -> Vec<Stretch> {
    let Some((first, others)) = lists.split_first() else { return Vec::new() };
    let places: Vec<HashMap<u64, usize>> = others
        .iter()
        .map(|list| list.iter().enumerate().map(|(index, block)| (block.key, index)).collect())
        .collect();
    let mut stretches = Vec::new();
    let mut begin: Vec<usize> = vec![0; lists.len()];
    for (index, block) in first.iter().enumerate().skip(1) {
        let mut at = vec![index];
        at.extend(places.iter().map_while(|place| place.get(&block.key).copied()));
        // A list that was not made here may have its boundaries in any order.
        if at.len() == lists.len() && at.iter().zip(&begin).all(|(at, begin)| at > begin) {
            stretches.push(begin.iter().zip(&at).map(|(&from, &to)| from..to).collect());
            begin = at;
        }
    }
    stretches.push(begin.iter().zip(lists).map(|(&from, list)| from..list.len().max(from)).collect());
    stretches
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array};

    use super::*;

    fn blocks(rows: impl Iterator<Item = (i64, i64)>, batch_rows: usize) -> Vec<Block> {
        let rows: Vec<_> = rows.collect();
        let mut blocks = Blocks::new(Cut::of(1024));
        for part in rows.chunks(batch_rows) {
            let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(part.iter().map(|row| row.0)));
            let values: ArrayRef = Arc::new(Int64Array::from_iter_values(part.iter().map(|row| row.1)));
            let batch = RecordBatch::try_from_iter([("id", ids), ("v", values)]).expect("valid");
            blocks.add(&batch, &[Meaning::Value, Meaning::Value], &[0], &mut ()).expect("hashable");
        }
        blocks.list
    }

    fn differing(one: &[Block], other: &[Block]) -> (usize, u64) {
        let stretches = align(&[one, other]);
        let differ: Vec<_> = stretches
            .iter()
            .filter(|stretch| sum(&one[stretch[0].clone()]) != sum(&other[stretch[1].clone()]))
            .collect();
        (differ.len(), differ.iter().map(|stretch| sum(&one[stretch[0].clone()]).rows).sum())
    }

    #[test]
    fn a_row_more_or_less_changes_one_block_wherever_it_stands() {
        let whole = blocks((0..20_000).map(|id| (id, id)), 997);
        assert!(whole.len() > 40);
        assert_eq!(whole, blocks((0..20_000).map(|id| (id, id)), 64));
        for changed in [0, 1, 7_777, 19_999] {
            let without = blocks((0..20_000).filter(|id| *id != changed).map(|id| (id, id)), 500);
            let (stretches, rows) = differing(&whole, &without);
            assert_eq!(stretches, 1);
            assert!(rows < 4_000);
            let updated = blocks((0..20_000).map(|id| (id, if id == changed { -1 } else { id })), 500);
            assert_eq!(differing(&whole, &updated).0, 1);
        }
        assert_eq!(differing(&whole, &blocks(std::iter::empty(), 1)), (1, 20_000));
    }

    #[test]
    fn what_was_encoded_is_read_back_and_what_does_not_add_up_is_not() {
        let whole = blocks((0..5_000).map(|id| (id, id)), 997);
        let bytes = encode(&whole);
        assert_eq!(decode(&bytes, 5_000).expect("its own"), whole);
        assert!(decode(&bytes, 4_999).is_none());
        assert!(decode(&bytes[..bytes.len() - 1], 5_000).is_none());
        assert!(decode(&[], 0).is_none());
        let huge = Block { key: 0, digest: Digest { rows: u64::MAX, sum: 0 } };
        assert!(decode(&encode(&[huge, Block { key: 4, ..huge }]), u64::MAX).is_none());
    }

    #[test]
    fn lists_that_nobody_made_are_laid_beside_each_other_without_losing_a_block() {
        let of = |keys: &[u64]| -> Vec<Block> {
            keys.iter().map(|&key| Block { key, digest: Digest { rows: 1, sum: u128::from(key) } }).collect()
        };
        let (one, other) = (of(&[0, 8, 16, 24]), of(&[0, 24, 8, 8, 16]));
        let stretches = align(&[&one, &other]);
        for (which, list) in [&one, &other].into_iter().enumerate() {
            let covered: Vec<_> = stretches.iter().flat_map(|stretch| stretch[which].clone()).collect();
            assert_eq!(covered, (0..list.len()).collect::<Vec<_>>());
        }
    }
}
