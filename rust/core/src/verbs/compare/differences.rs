//! The rows of a chunk that differ, and how to name them in a report.

use std::collections::{BTreeMap, HashMap};

use arrow_array::cast::AsArray;
use arrow_array::types as t;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use data_encoding::HEXLOWER;

use super::blocks::{BLOCK, Blocks};
use super::{Comparison, Discrepancy, Lane, TableJob};
use crate::digest::{Digest, Rows};
use crate::error::Result;
use crate::mysql::chunk::Chunk;
use crate::mysql::types::{push_date, push_datetime, push_double, push_time};
use crate::run::progress::Progress;

/// Values in a report are cut to this many characters.
const SHOWN: usize = 120;

/// Rows that differ.
#[derive(Default)]
pub(super) struct Differences {
    pub rows: Vec<Discrepancy>,
    /// Some were equal only within the tolerance.
    pub tolerated: bool,
    /// All rows among which these were found, on both sides.
    source: Digest,
    destination: Digest,
}

impl Differences {
    fn add(&mut self, more: Self) {
        self.rows.extend(more.rows);
        self.tolerated |= more.tolerated;
        self.source.merge(more.source);
        self.destination.merge(more.destination);
    }

    /// True if all other rows of the chunk are equal: what is left of both sums is the same.
    fn explain(&self, source: Digest, destination: Digest) -> bool {
        let left = |whole: Digest, part: Digest| {
            (whole.rows.wrapping_sub(part.rows), whole.sum.wrapping_sub(part.sum))
        };
        left(source, self.source) == left(destination, self.destination)
    }
}

/// The rows of a chunk that differ. Of a chunk only those blocks are read again whose sums differ, if that is enough.
pub(super) fn find(
    plan: &Comparison,
    progress: &Progress,
    lane: &mut Lane,
    table: &TableJob,
    chunk: &Chunk,
    left: &Blocks,
    right: &Blocks,
) -> Result<Differences> {
    if table.walks_rows {
        let mut found = Differences::default();
        for range in ranges(progress, lane, table, chunk, left, right)? {
            found.add(differing_rows(plan, progress, lane, table, &range)?);
        }
        if found.explain(left.whole(), right.whole()) {
            return Ok(found);
        }
    }
    differing_rows(plan, progress, lane, table, chunk)
}

/// The ranges of the blocks of the source that differ.
fn ranges(
    progress: &Progress,
    lane: &mut Lane,
    table: &TableJob,
    chunk: &Chunk,
    left: &Blocks,
    right: &Blocks,
) -> Result<Vec<Chunk>> {
    let walk = &table.source.walk;
    let mut after =
        |rest: &Chunk, rows| lane.source.ask(progress, |source| walk.key_after(source, rest, rows));
    let mut found = Vec::new();
    let mut rest = chunk.clone();
    let mut at = 0;
    for number in left.differing(right) {
        if number > at {
            let skipped = (number - at) as u64 * BLOCK;
            // A row fewer than before: what was found is not believed then.
            let Some(lower) = after(&rest, skipped)? else { break };
            rest.lower = Some(lower);
        }
        let end = if number + 1 == left.len() { None } else { after(&rest, BLOCK)? };
        let Some(upper) = end else {
            found.push(rest);
            break;
        };
        found.push(Chunk { lower: rest.lower.replace(upper.clone()), upper: Some(upper) });
        at = number + 1;
    }
    Ok(found)
}

fn differing_rows(
    plan: &Comparison,
    progress: &Progress,
    lane: &mut Lane,
    table: &TableJob,
    chunk: &Chunk,
) -> Result<Differences> {
    let mut found = Differences::default();
    let left = table.source.rows(&mut lane.source, chunk, progress)?;
    let right = table.destination.rows(&mut lane.destination, chunk, progress)?;
    let left_rows =
        left.iter().map(|batch| Rows::new(batch, &table.source.meanings)).collect::<Result<Vec<_>>>()?;
    let right_rows = right
        .iter()
        .map(|batch| Rows::new(batch, &table.destination.meanings))
        .collect::<Result<Vec<_>>>()?;
    let mut known = HashMap::new();
    for (batch, rows) in right_rows.iter().enumerate() {
        rows.hashes(|row, hash| {
            found.destination.count(hash);
            known.insert(key_of(rows, &table.key, row), (batch, row, hash));
        });
    }
    for (batch, rows) in left_rows.iter().enumerate() {
        rows.hashes(|row, hash| {
            found.source.count(hash);
            match known.remove(&key_of(rows, &table.key, row)) {
                None => found.rows.push(table.discrepancy("missing", &left[batch], row, hash)),
                Some((_, _, other)) if other == hash => {}
                Some((other_batch, other_row, _)) => {
                    let (other, cells) = (&right[other_batch], (&right_rows[other_batch], other_row));
                    let columns =
                        differing_columns(plan, table, (&left[batch], rows, row), (other, cells.0, cells.1));
                    if columns.is_empty() {
                        found.tolerated = true;
                    } else {
                        let mut difference = table.discrepancy("differs", &left[batch], row, hash);
                        difference.columns = columns;
                        found.rows.push(difference);
                    }
                }
            }
        });
    }
    for (batch, row, hash) in known.into_values() {
        found.rows.push(table.discrepancy("extra", &right[batch], row, hash));
    }
    Ok(found)
}

fn key_of(rows: &Rows<'_>, key: &[usize], row: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &column in key {
        rows.cell(&mut bytes, column, row);
    }
    bytes
}

type Texts = BTreeMap<String, (Option<String>, Option<String>)>;

fn differing_columns(
    plan: &Comparison,
    table: &TableJob,
    (left, left_rows, left_row): (&RecordBatch, &Rows<'_>, usize),
    (right, right_rows, right_row): (&RecordBatch, &Rows<'_>, usize),
) -> Texts {
    let mut columns = BTreeMap::new();
    for (index, column) in table.plan.columns.iter().enumerate() {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        left_rows.cell(&mut one, index, left_row);
        right_rows.cell(&mut other, index, right_row);
        if one == other {
            continue;
        }
        let floats = (float(left.column(index), left_row), float(right.column(index), right_row));
        if let (Some(a), Some(b)) = floats {
            let distance = (a - b).abs();
            if distance <= plan.tolerance || distance <= plan.tolerance * a.abs().max(b.abs()) {
                continue;
            }
        }
        columns.insert(
            column.source.clone(),
            (text(left.column(index), left_row), text(right.column(index), right_row)),
        );
    }
    columns
}

fn float(array: &ArrayRef, row: usize) -> Option<f64> {
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::Float32 => Some(f64::from(array.as_primitive::<t::Float32Type>().value(row))),
        DataType::Float64 => Some(array.as_primitive::<t::Float64Type>().value(row)),
        _ => None,
    }
}

/// A cell for a report: short, and readable where it is text.
fn text(array: &ArrayRef, row: usize) -> Option<String> {
    if array.is_null(row) {
        return None;
    }
    let written = |push: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    };
    Some(match array.data_type() {
        DataType::Int8 => array.as_primitive::<t::Int8Type>().value(row).to_string(),
        DataType::UInt8 => array.as_primitive::<t::UInt8Type>().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<t::Int16Type>().value(row).to_string(),
        DataType::UInt16 => array.as_primitive::<t::UInt16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<t::Int32Type>().value(row).to_string(),
        DataType::UInt32 => array.as_primitive::<t::UInt32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<t::Int64Type>().value(row).to_string(),
        DataType::UInt64 => array.as_primitive::<t::UInt64Type>().value(row).to_string(),
        DataType::Float32 | DataType::Float64 => {
            written(&|out| push_double(out, float(array, row).unwrap_or_default()))
        }
        DataType::Date32 => written(&|out| push_date(out, array.as_primitive::<t::Date32Type>().value(row))),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            written(&|out| push_datetime(out, array.as_primitive::<t::TimestampMicrosecondType>().value(row)))
        }
        DataType::Duration(_) => {
            written(&|out| push_time(out, array.as_primitive::<t::DurationMicrosecondType>().value(row)))
        }
        _ => shown(array.as_binary::<i64>().value(row)),
    })
}

fn shown(bytes: &[u8]) -> String {
    let (text, cut) = match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|symbol| symbol.is_control() && !symbol.is_whitespace()) => {
            (text.chars().take(SHOWN).collect::<String>(), text.chars().count() > SHOWN)
        }
        _ => {
            (format!("0x{}", HEXLOWER.encode(&bytes[..bytes.len().min(SHOWN / 2)])), bytes.len() > SHOWN / 2)
        }
    };
    if cut { format!("{text}… ({} bytes)", bytes.len()) } else { text }
}

impl TableJob {
    fn discrepancy(&self, kind: &'static str, batch: &RecordBatch, row: usize, hash: u128) -> Discrepancy {
        let cell = |&index: &usize| {
            (self.plan.columns[index].source.clone(), text(batch.column(index), row).unwrap_or_default())
        };
        Discrepancy { key: self.key.iter().map(cell).collect(), kind, columns: BTreeMap::new(), hash }
    }
}

/// Where the two sides order text differently a row may fall into different chunks: missing here and extra there is the
/// same row.
pub(super) fn cancel_moved(discrepancies: &mut Vec<Discrepancy>) {
    let mut extra: HashMap<u128, usize> = HashMap::new();
    for one in discrepancies.iter().filter(|one| one.kind == "extra") {
        *extra.entry(one.hash).or_default() += 1;
    }
    let mut moved: HashMap<u128, usize> = HashMap::new();
    discrepancies.retain(|one| {
        if one.kind != "missing" {
            return true;
        }
        match extra.get_mut(&one.hash) {
            Some(count) if *count > 0 => {
                *count -= 1;
                *moved.entry(one.hash).or_default() += 1;
                false
            }
            _ => true,
        }
    });
    discrepancies.retain(|one| {
        if one.kind != "extra" {
            return true;
        }
        match moved.get_mut(&one.hash) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => true,
        }
    });
}
