//! The rows of a chunk that differ, and how to name them in a report.

use std::collections::{BTreeMap, HashMap, HashSet};

use arrow_array::cast::AsArray;
use arrow_array::types as t;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use arrow_select::filter::filter_record_batch;
use data_encoding::HEXLOWER;
use xxhash_rust::xxh3::xxh3_128;

use super::{Comparison, Discrepancy, Lane, Side, TableJob};
use crate::batch::bytes_of;
use crate::batch::calendar::{push_date, push_datetime, push_time};
use crate::batch::digest::{Digest, Meaning, Rows};
use crate::error::{Kind, Result};
use crate::mysql::chunk::Chunk;
use crate::river::sink::{Begun, Moved, Piece, Sink};
use crate::river::sinks::digest::{BLOCK, Blocks};
use crate::river::steady::Steady;
use crate::run::progress::Progress;

/// Values in a report are cut to this many characters.
const SHOWN: usize = 120;

/// Rows that differ.
#[derive(Default)]
pub(in crate::verbs) struct Differences {
    pub rows: Vec<Discrepancy>,
    /// Some were equal only within the tolerance.
    pub tolerated: bool,
    /// There were more than may be listed.
    pub truncated: bool,
    /// All rows among which these were found, on both sides.
    source: Digest,
    destination: Digest,
}

impl Differences {
    fn add(&mut self, more: Self) {
        self.rows.extend(more.rows);
        self.tolerated |= more.tolerated;
        self.truncated |= more.truncated;
        self.source.merge(more.source);
        self.destination.merge(more.destination);
    }

    /// Lists one more, if there is room for it: a report is read by people, and memory is not for what they will not read.
    fn list(&mut self, room: usize, make: impl FnOnce() -> Discrepancy) {
        if self.rows.len() < room {
            self.rows.push(make());
        } else {
            self.truncated = true;
        }
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
    (left, right): (&Blocks, &Blocks),
    room: usize,
) -> Result<Differences> {
    if table.walks_rows {
        let mut found = Differences::default();
        for range in ranges(progress, lane, table, chunk, left, right)? {
            let room = room.saturating_sub(found.rows.len());
            found.add(differing_rows(plan, progress, lane, table, &range, room)?);
            if found.truncated {
                return Ok(found);
            }
        }
        if found.explain(left.whole(), right.whole()) {
            return Ok(found);
        }
    }
    differing_rows(plan, progress, lane, table, chunk, room)
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
        let end = if number + 1 == left.count() { None } else { after(&rest, BLOCK)? };
        let Some(upper) = end else {
            found.push(rest);
            break;
        };
        found.push(Chunk::between(rest.lower.replace(upper.clone()), Some(upper)));
        at = number + 1;
    }
    Ok(found)
}

/// The rows of a range that differ, whatever its length and whatever the order of either side.
///
/// Most ranges are short, and the destination's rows are held while the source's go by. Where only the destination has rows,
/// or many rows begin with one key, a range has no bound: then it is read in parts, by the hash of the key, each of which is
/// held; and only those parts whose sums differ.
pub(in crate::verbs) fn differing_rows(
    plan: &Comparison,
    progress: &Progress,
    lane: &mut Lane,
    table: &TableJob,
    chunk: &Chunk,
    room: usize,
) -> Result<Differences> {
    let most = usize::try_from(plan.chunk_bytes).unwrap_or(usize::MAX).max(1 << 16).saturating_mul(2);
    if let Some(found) = matched(plan, progress, lane, table, chunk, room, &Wanted { parts: None, most })? {
        return Ok(found);
    }
    let left = parts(progress, &table.source, &mut lane.source, &table.key, chunk)?;
    let right = parts(progress, &table.destination, &mut lane.destination, &table.key, chunk)?;
    let differing: Vec<_> = (0..PARTS).filter(|&part| left[part].digest != right[part].digest).collect();
    let mut found = Differences::default();
    let mut rest = differing.as_slice();
    while !rest.is_empty() && !found.truncated {
        let mut held = 0;
        let taken = rest.iter().take_while(|&&part| {
            held += right[part].bytes;
            held <= most
        });
        let (now, later) = rest.split_at(taken.count().max(1));
        rest = later;
        let mut chosen = vec![false; PARTS];
        for &part in now {
            chosen[part] = true;
        }
        let wanted = Wanted { parts: Some(chosen), most: usize::MAX };
        let room = room.saturating_sub(found.rows.len());
        if let Some(more) = matched(plan, progress, lane, table, chunk, room, &wanted)? {
            found.add(more);
        }
    }
    Ok(found)
}

/// Parts of a range, by the hash of the key: of a terabyte one is a batch.
const PARTS: usize = 1 << 16;

/// What a row takes while it is held, beyond its values.
const HELD_ROW: usize = 64;

#[derive(Clone, Default)]
struct Part {
    digest: Digest,
    bytes: usize,
}

/// Which rows are matched, and how many bytes of them may be held.
struct Wanted {
    parts: Option<Vec<bool>>,
    most: usize,
}

fn part_of(key: u128) -> usize {
    key as usize % PARTS
}

/// The sums of all parts of a range of one side.
fn parts(
    progress: &Progress,
    side: &Side,
    connection: &mut Steady,
    key: &[usize],
    chunk: &Chunk,
) -> Result<Vec<Part>> {
    let mut sums = Summed { side, key, sums: Vec::new() };
    side.read(connection, chunk, progress, &mut sums)?;
    Ok(sums.sums)
}

/// Sums the parts of a range.
struct Summed<'a> {
    side: &'a Side,
    key: &'a [usize],
    sums: Vec<Part>,
}

impl Sink for Summed<'_> {
    fn begin(&mut self, _: &Piece) -> Result<Begun> {
        self.sums = vec![Part::default(); PARTS];
        Ok(Begun::Open)
    }

    fn batch(&mut self, batch: RecordBatch) -> Result<()> {
        let rows = Rows::new(&batch, &self.side.meanings)?;
        let bytes = bytes_of(&batch) / batch.num_rows().max(1) + HELD_ROW;
        let mut buffer = Vec::new();
        rows.hashes(|row, hash| {
            let part = &mut self.sums[part_of(key_of(&rows, self.key, row, &mut buffer))];
            part.digest.count(hash);
            part.bytes += bytes;
        });
        Ok(())
    }

    fn commit(&mut self, _: &Piece, _: Moved) -> Result<()> {
        Ok(())
    }
}

/// The destination's rows that are held.
struct Held<'a> {
    table: &'a TableJob,
    wanted: &'a Wanted,
    batches: Vec<RecordBatch>,
    rows: HashMap<u128, (usize, usize, u128)>,
    digest: Digest,
    bytes: usize,
}

impl<'a> Held<'a> {
    fn new(table: &'a TableJob, wanted: &'a Wanted) -> Self {
        let (batches, rows) = (Vec::new(), HashMap::new());
        Self { table, wanted, batches, rows, digest: Digest::default(), bytes: 0 }
    }

    fn is_too_much(&self) -> bool {
        self.bytes > self.wanted.most
    }
}

impl Sink for Held<'_> {
    fn begin(&mut self, _: &Piece) -> Result<Begun> {
        *self = Self::new(self.table, self.wanted);
        Ok(Begun::Open)
    }

    fn batch(&mut self, batch: RecordBatch) -> Result<()> {
        if self.is_too_much() {
            return Ok(());
        }
        let meanings = &self.table.destination.meanings;
        let batch = chosen(&batch, meanings, &self.table.key, self.wanted)?;
        self.bytes += bytes_of(&batch) + batch.num_rows() * HELD_ROW;
        if self.is_too_much() {
            return Ok(());
        }
        let rows = Rows::new(&batch, meanings)?;
        let mut buffer = Vec::new();
        rows.hashes(|row, hash| {
            self.digest.count(hash);
            let key = key_of(&rows, &self.table.key, row, &mut buffer);
            self.rows.insert(key, (self.batches.len(), row, hash));
        });
        drop(rows);
        self.batches.push(batch);
        Ok(())
    }

    fn commit(&mut self, _: &Piece, _: Moved) -> Result<()> {
        Ok(())
    }
}

/// The source's rows, as they go by those that are held.
struct Matching<'a> {
    plan: &'a Comparison,
    held: &'a Held<'a>,
    held_rows: Vec<Rows<'a>>,
    room: usize,
    found: Differences,
    met: HashSet<u128>,
}

impl Sink for Matching<'_> {
    fn begin(&mut self, _: &Piece) -> Result<Begun> {
        self.found = Differences { destination: self.held.digest, ..Differences::default() };
        self.met.clear();
        Ok(Begun::Open)
    }

    fn batch(&mut self, batch: RecordBatch) -> Result<()> {
        let (held, table) = (self.held, self.held.table);
        let batch = chosen(&batch, &table.source.meanings, &table.key, held.wanted)?;
        let rows = Rows::new(&batch, &table.source.meanings)?;
        let mut buffer = Vec::new();
        rows.hashes(|row, hash| {
            self.found.source.count(hash);
            let key = key_of(&rows, &table.key, row, &mut buffer);
            let Some(&(other_batch, other_row, other)) = held.rows.get(&key) else {
                self.found.list(self.room, || table.discrepancy("missing", &batch, row, hash));
                return;
            };
            self.met.insert(key);
            if other == hash {
                return;
            }
            let (right, cells) = (&held.batches[other_batch], &self.held_rows[other_batch]);
            let columns =
                differing_columns(self.plan, table, (&batch, &rows, row), (right, cells, other_row));
            if columns.is_empty() {
                self.found.tolerated = true;
            } else {
                self.found.list(self.room, || Discrepancy {
                    columns,
                    other,
                    ..table.discrepancy("differs", &batch, row, hash)
                });
            }
        });
        Ok(())
    }

    fn commit(&mut self, _: &Piece, _: Moved) -> Result<()> {
        Ok(())
    }
}

/// The rows of a batch that are wanted.
fn chosen(batch: &RecordBatch, meanings: &[Meaning], key: &[usize], wanted: &Wanted) -> Result<RecordBatch> {
    let Some(parts) = &wanted.parts else { return Ok(batch.clone()) };
    let rows = Rows::new(batch, meanings)?;
    let mut buffer = Vec::new();
    let mask = (0..batch.num_rows()).map(|row| parts[part_of(key_of(&rows, key, row, &mut buffer))]);
    let mask = BooleanArray::from(mask.collect::<Vec<_>>());
    filter_record_batch(batch, &mask).map_err(|error| Kind::Internal(error.to_string()).into())
}

/// The differences among the wanted rows of a range; nothing if too many would have to be held.
fn matched(
    plan: &Comparison,
    progress: &Progress,
    lane: &mut Lane,
    table: &TableJob,
    chunk: &Chunk,
    room: usize,
    wanted: &Wanted,
) -> Result<Option<Differences>> {
    let mut held = Held::new(table, wanted);
    table.destination.read(&mut lane.destination, chunk, progress, &mut held)?;
    if held.is_too_much() {
        return Ok(None);
    }
    let meanings = &table.destination.meanings;
    let held_rows =
        held.batches.iter().map(|batch| Rows::new(batch, meanings)).collect::<Result<Vec<_>>>()?;
    let (found, met) = (Differences::default(), HashSet::new());
    let mut matching = Matching { plan, held: &held, held_rows, room, found, met };
    table.source.read(&mut lane.source, chunk, progress, &mut matching)?;
    let Matching { mut found, met, .. } = matching;
    for (_, &(batch, row, hash)) in held.rows.iter().filter(|(key, _)| !met.contains(*key)) {
        found.list(room, || table.discrepancy("extra", &held.batches[batch], row, hash));
    }
    Ok(Some(found))
}

/// A key by its hash: of 128 bits, because two keys that were taken for one would hide a row.
fn key_of(rows: &Rows<'_>, key: &[usize], row: usize, buffer: &mut Vec<u8>) -> u128 {
    buffer.clear();
    for &column in key {
        rows.cell(buffer, column, row);
    }
    xxh3_128(buffer)
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
        if left_rows.same(left_row, right_rows, right_row, index) {
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
        // The shortest text that is this very number.
        DataType::Float32 => format!("{:?}", array.as_primitive::<t::Float32Type>().value(row)),
        DataType::Float64 => format!("{:?}", array.as_primitive::<t::Float64Type>().value(row)),
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

impl Discrepancy {
    /// Rows that cannot be named.
    pub(in crate::verbs) fn of_rows(source: u64, destination: Option<u64>) -> Self {
        let rows = (Some(source.to_string()), destination.map(|rows| rows.to_string()));
        let columns = BTreeMap::from([("rows".to_owned(), rows)]);
        Self { key: BTreeMap::new(), kind: "differs", columns, hash: 0, other: 0 }
    }

    /// A row that only the destination has.
    pub(in crate::verbs) fn extra(key: BTreeMap<String, String>) -> Self {
        Self { key, kind: "extra", columns: BTreeMap::new(), hash: 0, other: 0 }
    }

    /// The hashes of the row on both sides, where it is there.
    pub(in crate::verbs) fn sides(&self) -> (Option<u128>, Option<u128>) {
        match self.kind {
            "missing" => (Some(self.hash), None),
            "extra" => (None, Some(self.hash)),
            _ => (Some(self.hash), Some(self.other)),
        }
    }
}

impl TableJob {
    fn discrepancy(&self, kind: &'static str, batch: &RecordBatch, row: usize, hash: u128) -> Discrepancy {
        let cell = |&index: &usize| {
            (self.plan.columns[index].source.clone(), text(batch.column(index), row).unwrap_or_default())
        };
        Discrepancy {
            key: self.key.iter().map(cell).collect(),
            kind,
            columns: BTreeMap::new(),
            hash,
            other: 0,
        }
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
