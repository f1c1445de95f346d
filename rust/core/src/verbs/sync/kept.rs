//! Which rows of a chunk differ, told while both sides are read: then these are asked for, and not the blocks they lie in.
//!
//! Of each side those rows are kept, by their hashes, that lie in blocks which the other side does not have. Blocks of a sum
//! that both have hold the same rows, so what differs is among these. That it is all that differs, and that the keys find
//! these rows and no others, is proved; where it is not, all rows of the blocks are gone through.

use std::cmp::Ordering;
use std::collections::HashMap;

use arrow_array::{Array, ArrayRef};

use super::blocks::{Block, Watch};
use crate::batch::digest::Digest;
use crate::error::Result;
use crate::mysql::chunk::Bound;
use crate::mysql::walk::Walk;

/// Rows of a chunk that are kept: of more, all of their blocks are read again.
const MOST_ROWS: usize = 1 << 17;
/// Bytes of their keys.
const MOST_BYTES: usize = 8 << 20;

#[derive(Debug, Clone, Copy)]
struct Row {
    key: [u64; 2],
    hash: [u64; 2],
    batch: u32,
    /// Its number in the batch.
    at: u32,
}

fn halves(number: u128) -> [u64; 2] {
    [(number >> 64) as u64, number as u64]
}

fn whole([high, low]: [u64; 2]) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

/// Rows of one side of a chunk.
#[derive(Default)]
pub(super) struct Kept {
    /// The blocks that the other side has.
    known: HashMap<u64, Digest>,
    rows: Vec<Row>,
    /// Where the rows of the block begin that is being read.
    begin: usize,
    /// The key's columns of each batch that was read.
    keys: Vec<Vec<ArrayRef>>,
    bytes: usize,
    is_too_much: bool,
}

impl Kept {
    pub fn new(known: &[Block]) -> Self {
        Self { known: known.iter().map(|block| (block.key, block.digest)).collect(), ..Self::default() }
    }

    /// Keeps nothing.
    pub fn nothing() -> Self {
        Self { is_too_much: true, ..Self::default() }
    }

    /// Takes the columns of the key of the batch whose rows come next.
    pub fn batch(&mut self, key: Vec<ArrayRef>) {
        if self.is_too_much {
            return;
        }
        self.bytes += key.iter().map(Array::get_buffer_memory_size).sum::<usize>();
        self.keys.push(key);
        if self.bytes > MOST_BYTES {
            self.drop_all();
        }
    }

    /// Takes the next row.
    pub fn add(&mut self, row: usize, key: u128, hash: u128) {
        if self.is_too_much {
            return;
        }
        if self.rows.len() >= MOST_ROWS {
            return self.drop_all();
        }
        let batch = self.keys.len().saturating_sub(1) as u32;
        self.rows.push(Row { key: halves(key), hash: halves(hash), batch, at: row as u32 });
    }

    /// The rows since the last end were those of this block.
    pub fn end(&mut self, block: &Block) {
        if self.known.get(&block.key) == Some(&block.digest) {
            self.rows.truncate(self.begin);
        }
        self.begin = self.rows.len();
    }

    fn drop_all(&mut self) {
        *self = Self::nothing();
    }

    fn bound(&self, row: &Row, walk: &Walk) -> Result<Bound> {
        let columns: Vec<&dyn Array> = self.keys[row.batch as usize].iter().map(AsRef::as_ref).collect();
        walk.bound_of(&columns, row.at as usize)
    }

    /// The rows in the order of their keys' hashes; nothing if some were not kept, or if two have one key.
    fn sorted(&mut self) -> Option<Vec<Row>> {
        if self.is_too_much {
            return None;
        }
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_unstable_by_key(|row| row.key);
        rows.is_sorted_by(|one, other| one.key < other.key).then_some(rows)
    }
}

impl Watch for Kept {
    fn begins(&mut self, _: usize, ended: &Block) -> Result<()> {
        self.end(ended);
        Ok(())
    }

    fn row(&mut self, row: usize, key: u128, hash: u128) {
        self.add(row, key, hash);
    }
}

/// Some of the rows that differ, and what both sides hold of them.
#[derive(Default)]
pub(super) struct Differing {
    pub keys: Vec<Bound>,
    pub source: Digest,
    pub copy: Digest,
}

impl Differing {
    /// The rows that differ, so many together; nothing if they are not known, or are more than `most`.
    pub fn between(
        (source, of_source): (&mut Kept, &Walk),
        (copy, of_copy): (&mut Kept, &Walk),
        together: usize,
        most: usize,
    ) -> Result<Option<Vec<Self>>> {
        let (Some(mine), Some(theirs)) = (source.sorted(), copy.sorted()) else { return Ok(None) };
        let (mut mine, mut theirs) = (mine.iter().peekable(), theirs.iter().peekable());
        let (mut found, mut rows): (Vec<Self>, usize) = (Vec::new(), 0);
        loop {
            let order = match (mine.peek(), theirs.peek()) {
                (Some(one), Some(other)) => one.key.cmp(&other.key),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return Ok(Some(found)),
            };
            let one = mine.next_if(|_| order.is_le());
            let other = theirs.next_if(|_| order.is_ge());
            if let (Some(one), Some(other)) = (one, other)
                && one.hash == other.hash
            {
                continue;
            }
            rows += 1;
            if rows > most {
                return Ok(None);
            }
            if found.last().is_none_or(|last| last.keys.len() >= together) {
                found.push(Self::default());
            }
            let Some(last) = found.last_mut() else { continue };
            if let Some(other) = other {
                last.copy.count(whole(other.hash));
            }
            match (one, other) {
                (Some(one), _) => {
                    last.source.count(whole(one.hash));
                    last.keys.push(source.bound(one, of_source)?);
                }
                (None, Some(other)) => last.keys.push(copy.bound(other, of_copy)?),
                (None, None) => {}
            }
        }
    }

    /// True if both sides are the same without these rows.
    pub fn explain(all: &[Self], source: Digest, copy: Digest) -> bool {
        let (mut mine, mut theirs) = (Digest::default(), Digest::default());
        for one in all {
            mine.merge(one.source);
            theirs.merge(one.copy);
        }
        let left = source.without(mine);
        left.is_some() && left == copy.without(theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(known: &[Block], rows: &[(u128, u128)]) -> Kept {
        let mut kept = Kept::new(known);
        kept.batch(Vec::new());
        rows.iter().enumerate().for_each(|(row, &(key, hash))| kept.add(row, key, hash));
        kept
    }

    #[test]
    fn rows_of_a_block_that_the_other_side_has_are_kept_no_longer() {
        let block = |key: u64, sum: u128| Block { key, digest: Digest { rows: 2, sum } };
        let mut kept = kept(&[block(0, 30), block(8, 70)], &[(1, 10), (2, 20)]);
        kept.end(&block(0, 30));
        kept.add(2, 3, 30);
        kept.add(3, 4, 41);
        kept.end(&block(8, 71));
        let rows = kept.sorted().expect("kept");
        assert_eq!(rows.iter().map(|row| whole(row.hash)).collect::<Vec<_>>(), [30, 41]);
    }

    #[test]
    fn what_was_not_kept_or_is_there_twice_says_nothing() {
        assert!(kept(&[], &[(1, 1), (1, 2)]).sorted().is_none());
        let many: Vec<_> = (0..=MOST_ROWS as u128).map(|row| (row, row)).collect();
        assert!(kept(&[], &many).sorted().is_none());
        assert!(kept(&[], &many[1..]).sorted().is_some());
        assert!(Kept::nothing().sorted().is_none());
    }

    #[test]
    fn rows_explain_a_difference_only_if_nothing_else_differs() {
        let digest = |rows, sum| Digest { rows, sum };
        let some = [
            Differing { source: digest(1, 5), copy: digest(1, 6), ..Differing::default() },
            Differing { source: digest(0, 0), copy: digest(1, 9), ..Differing::default() },
        ];
        assert!(Differing::explain(&some, digest(10, 105), digest(11, 115)));
        assert!(!Differing::explain(&some, digest(10, 105), digest(11, 116)));
        assert!(!Differing::explain(&some, digest(10, 105), digest(10, 115)));
        assert!(!Differing::explain(&some, digest(0, 0), digest(1, 10)));
    }
}
