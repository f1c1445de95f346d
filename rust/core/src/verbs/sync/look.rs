//! Looking: the three sides of a chunk, laid beside each other.

use std::collections::HashSet;

use super::blocks::{Block, Blocks, align, sum};
use super::foreign::written;
use super::kept::{Differing, Kept};
use super::keys::{MOST_VALUES, SPARSE};
use super::plan::Base;
use super::{Dirty, Found, Lane, Look, Looked, Run, Table};
use crate::batch::digest::Digest;
use crate::error::Result;
use crate::mysql::chunk::{Bound, Chunk};
use crate::river::count::Counted;
use crate::river::cutter::rows_of;
use crate::verbs::compare::Discrepancy;
use crate::verbs::compare::differences::differing_rows;

/// Ranges of the copy that are asked for one by one: of a chunk with more, all of it is read.
const MOST_RANGES: usize = 64;
/// Rows among which it is told who wrote which.
const TOLD_APART: usize = 4096;

impl Run<'_> {
    pub(super) fn look(&self, lane: &mut Lane, look: &Look) -> Result<()> {
        self.progress.turn()?;
        let table = &look.table;
        if self.look_by_key(lane, look)? {
            return Ok(());
        }
        let base = match &look.line {
            Some(known) => {
                let sql = table.state.blocks(&table.plan.copy.destination_table, known.number);
                let rows = lane.both.destination.ask(self.progress, |reader| reader.query(&sql))?;
                Some(table.state.decoded(known, &rows)?)
            }
            None if table.plan.base == Base::Empty => Some(Blocks::new(table.cut).list),
            None => None,
        };
        let known = base.as_deref().filter(|_| look.line.is_some());
        let mut read = table.read_source(self.progress, &mut lane.both.source, &look.chunk, known)?;
        let source = sum(&read.blocks);
        self.progress.add(source.rows, read.bytes);
        let mut theirs = CopyRead { rows: 0, kept: Kept::nothing() };
        let mut copy = Digest::default();
        let mut dirty = Vec::new();
        let mut conflicts = Vec::new();
        for part in self.parts(lane, table, &look.chunk, &read, base.as_deref(), &mut theirs)? {
            copy.merge(part.copy);
            if part.source == part.copy {
                continue;
            }
            let range = read.range(&look.chunk, &part.blocks);
            if base.is_none() || part.base != Some(part.copy) {
                conflicts.push((range.clone(), part.source, part.base));
            }
            dirty.push((part, range));
        }
        for (range, source, base) in conflicts {
            self.name(lane, table, &range, source, base)?;
        }
        let mut parts = self.split(&look.chunk, &read, dirty);
        // Where rows are taken out before others are put, it is proved before that nobody came among them.
        if let ([one], true) = (parts.as_mut_slice(), look.line.is_some() && !table.plan.unique)
            && !one.dirty.is_empty()
        {
            let kept = (&mut read.kept, &mut theirs.kept);
            if let Some(rows) = self.row_by_row(lane, table, &look.chunk, kept, (source, copy))? {
                let ranges = std::mem::replace(&mut one.dirty, rows);
                one.around = ranges.into_iter().map(|dirty| (dirty.range, dirty.source)).collect();
            }
        }
        let is_new = table.lines.is_none();
        let is_same = !is_new
            && parts.iter().all(|part| part.dirty.is_empty())
            && base.as_ref().is_some_and(|base| parts.len() == 1 && *base == parts[0].blocks);
        let mut found = table.found()?;
        found.source.merge(source);
        found.rows_read += source.rows;
        found.copy_rows_read += theirs.rows;
        if !is_same {
            found.chunks.push(Found { line: look.line.as_ref().map(|line| line.number), parts });
        }
        Ok(())
    }

    /// The three sides of a chunk, stretch by stretch. The copy is read where production differs from the base; all of it
    /// where somebody may have written to it.
    fn parts(
        &self,
        lane: &mut Lane,
        table: &Table,
        chunk: &Chunk,
        read: &Read,
        base: Option<&[Block]>,
        theirs: &mut CopyRead,
    ) -> Result<Vec<Part>> {
        let reader = &mut lane.both.destination;
        if let (Some(base), true) = (base, table.plan.trusts_copy) {
            let parts: Vec<_> = align(&[&read.blocks, base])
                .into_iter()
                .map(|stretch| {
                    let base = sum(&base[stretch[1].clone()]);
                    let source = sum(&read.blocks[stretch[0].clone()]);
                    Part { blocks: stretch[0].clone(), source, base: Some(base), copy: base }
                })
                .collect();
            let differ = parts.iter().filter(|part| part.source != part.copy);
            let (count, rows) = differ.fold((0, 0), |(count, rows), part| (count + 1, rows + part.copy.rows));
            if count <= MOST_RANGES && rows * 2 <= sum(base).rows.max(1) {
                theirs.kept = Kept::new(&[]);
                return parts
                    .into_iter()
                    .map(|mut part| {
                        if part.source != part.copy {
                            let range = read.range(chunk, &part.blocks);
                            let kept = &mut theirs.kept;
                            part.copy = table.keep_range(self.progress, reader, &range, kept)?;
                            theirs.rows += part.copy.rows;
                        }
                        Ok(part)
                    })
                    .collect();
            }
        }
        let known = base.map(|_| read.blocks.as_slice());
        let copy;
        (copy, theirs.kept) = table.read_beside(self.progress, reader, chunk, known)?;
        theirs.rows += sum(&copy).rows;
        // Nobody wrote to it, so it is the base; and its blocks are fine where the line has but one.
        let base = base.map(|base| if sum(base) == sum(&copy) { copy.as_slice() } else { base });
        let mut lists: Vec<&[Block]> = vec![&read.blocks, &copy];
        lists.extend(base);
        Ok(align(&lists)
            .into_iter()
            .map(|stretch| Part {
                source: sum(&read.blocks[stretch[0].clone()]),
                copy: sum(&copy[stretch[1].clone()]),
                base: base.map(|base| sum(&base[stretch[2].clone()])),
                blocks: stretch[0].clone(),
            })
            .collect())
    }

    /// The rows of a chunk that differ, by their keys; nothing if it is not known which they are, or if they are so many
    /// that the blocks they lie in are as soon read.
    fn row_by_row(
        &self,
        lane: &mut Lane,
        table: &Table,
        chunk: &Chunk,
        (mine, theirs): (&mut Kept, &mut Kept),
        (source, copy): (Digest, Digest),
    ) -> Result<Option<Vec<Dirty>>> {
        let walks = (&table.sides.source.walk, &table.sides.destination.walk);
        let together = MOST_VALUES / walks.0.width().max(1);
        let most = usize::try_from(source.rows.max(copy.rows) / SPARSE).unwrap_or(usize::MAX);
        let found = Differing::between((mine, walks.0), (theirs, walks.1), together, most)?;
        let Some(found) = found.filter(|found| Differing::explain(found, source, copy)) else {
            return Ok(None);
        };
        let mut dirty = Vec::with_capacity(found.len());
        for one in found {
            let rows = chunk.with(one.keys);
            let mut met = HashSet::new();
            // A key may be spelled so that the server finds another row by it, or none.
            if table.source_by_key(self.progress, lane, &rows, &mut met)? != one.source
                || table.copy_by_key(self.progress, lane, &rows, &mut met)? != one.copy
            {
                return Ok(None);
            }
            dirty.push(Dirty::new(rows, one.source, one.copy));
        }
        Ok(Some(dirty))
    }

    /// Names the rows of a range that somebody else wrote.
    fn name(
        &self,
        lane: &mut Lane,
        table: &Table,
        range: &Chunk,
        source: Digest,
        base: Option<Digest>,
    ) -> Result<()> {
        let room = self.plan.max_conflicts.saturating_sub(table.found()?.conflicts.len());
        if room == 0 {
            table.found()?.truncated = true;
            return Ok(());
        }
        let mut named = Vec::new();
        let mut truncated = false;
        if !table.sides.key.is_empty() {
            let most = room.max(TOLD_APART);
            let differing =
                differing_rows(&self.comparison, self.progress, &mut lane.both, &table.sides, range, most)?;
            truncated = differing.truncated;
            named = differing.rows;
        }
        if let (Some(base), false) = (base, truncated) {
            let sides: Vec<_> = named.iter().map(Discrepancy::sides).collect();
            let production = sides.iter().filter_map(|side| side.0);
            let differing = production.clone().fold(0_u128, u128::wrapping_add);
            let equal = source.sum.wrapping_sub(differing);
            let equal_rows = source.rows.saturating_sub(production.count() as u64);
            let rows = base.rows.checked_sub(equal_rows);
            let told = rows.and_then(|rows| written(&sides, rows, base.sum.wrapping_sub(equal)));
            if let Some(theirs) = told {
                let mut theirs = theirs.into_iter();
                named.retain(|_| theirs.next() == Some(true));
            }
        }
        if named.is_empty() {
            named.push(Discrepancy::of_rows(source.rows, base.map(|base| base.rows)));
        }
        let mut found = table.found()?;
        found.truncated |= truncated || named.len() > room;
        found.conflicts.extend(named.into_iter().take(room));
        Ok(())
    }

    /// A chunk that has grown becomes several.
    fn split(&self, chunk: &Chunk, read: &Read, dirty: Vec<(Part, Chunk)>) -> Vec<Looked> {
        let rows = sum(&read.blocks).rows;
        let most = rows_of(self.comparison.chunk_bytes, read.bytes / rows.max(1));
        let mut ends = Vec::new();
        if rows > most.saturating_mul(2) {
            let mut held = 0;
            for (index, block) in read.blocks.iter().enumerate() {
                if held >= most {
                    ends.push(index);
                    held = 0;
                }
                held += block.digest.rows;
            }
        }
        // What the copy holds in half of a stretch is not known, unless it holds nothing.
        ends.retain(|end| {
            let inside = |part: &Part| part.blocks.start < *end && *end < part.blocks.end;
            !dirty.iter().any(|(part, _)| part.copy.rows > 0 && inside(part))
        });
        ends.push(read.blocks.len());
        let mut dirty = dirty.into_iter().peekable();
        let mut begin = 0;
        let mut parts = Vec::with_capacity(ends.len());
        for end in ends {
            let mut looked = Looked {
                chunk: read.range(chunk, &(begin..end)),
                blocks: read.blocks[begin..end].to_vec(),
                dirty: Vec::new(),
                around: Vec::new(),
            };
            if let Some(first) = looked.blocks.first_mut() {
                first.key = 0;
            }
            while let Some((part, range)) = dirty.peek().cloned() {
                if part.blocks.start >= end {
                    break;
                }
                let (from, to) = (part.blocks.start.max(begin), part.blocks.end.min(end));
                if from == part.blocks.start && to == part.blocks.end {
                    looked.dirty.push(Dirty::new(range, part.source, part.copy));
                } else if from < to {
                    let source = sum(&read.blocks[from..to]);
                    let range = read.range(chunk, &(from..to));
                    looked.dirty.push(Dirty::new(range, source, part.copy));
                }
                if part.blocks.end > end {
                    break;
                }
                dirty.next();
            }
            begin = end;
            parts.push(looked);
        }
        parts
    }

    /// What cuts a reading short would have rows deleted: their number is asked for by a statement of another shape.
    pub(super) fn prove_count(&self, table: &Table, lanes: &mut [Lane]) -> Result<()> {
        if table.plan.keys.is_some() && table.lines.is_some() {
            return Ok(());
        }
        let rows = table.found()?.source.rows;
        let copy = &table.plan.copy;
        let counted = Counted { schema: &copy.source_schema, table: &copy.source_table, filter: None };
        match lanes.first_mut() {
            Some(lane) => lane.both.source.ask(self.progress, |source| counted.prove(source, rows)),
            None => Ok(()),
        }
    }
}

/// A stretch of a chunk: which of production's blocks, and what the three sides hold there.
#[derive(Debug, Clone)]
struct Part {
    blocks: std::ops::Range<usize>,
    source: Digest,
    copy: Digest,
    base: Option<Digest>,
}

/// What was read of a chunk of production.
pub(super) struct Read {
    pub blocks: Vec<Block>,
    /// The keys at which all blocks but the first begin.
    pub bounds: Vec<Bound>,
    pub bytes: u64,
    pub kept: Kept,
}

/// What was read of the copy.
struct CopyRead {
    rows: u64,
    kept: Kept,
}

impl Read {
    /// The range of some of the blocks.
    fn range(&self, chunk: &Chunk, blocks: &std::ops::Range<usize>) -> Chunk {
        let begin = |index: usize| self.bounds.get(index.wrapping_sub(1)).cloned();
        Chunk::between(
            if blocks.start == 0 { chunk.lower.clone() } else { begin(blocks.start) },
            if blocks.end >= self.blocks.len() { chunk.upper.clone() } else { begin(blocks.end) },
        )
    }
}
