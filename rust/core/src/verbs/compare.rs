//! Comparing two tables by meaning: sums of row hashes chunk by chunk, and row by row only where a sum differs.

pub(super) mod differences;
mod plan;
mod side;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use self::differences::{cancel_moved, find};
pub use self::plan::{
    ComparePlan, CompareSummary, ComparedColumn, ComparedKind, ComparedTable, Comparison, Discrepancy,
    TableComparison, TrackingName,
};
pub(super) use self::side::Side;
use super::sync::noting::Noting;
use crate::batch::digest::Digest;
use crate::error::{At, Kind, Result};
use crate::mysql::chunk::Chunk;
use crate::mysql::session::{open_loader, open_reader};
use crate::river::cutter::{Cutter, Sizes};
use crate::river::read::Bounds;
use crate::river::sink::Piece;
use crate::river::source::Readers;
use crate::river::spare::spare;
use crate::river::steady::Steady;
use crate::run::lanes::{Queue, run};
use crate::run::memory::LargeRows;
use crate::run::progress::Progress;

const BATCH_BYTES: usize = 4 << 20;

/// A table under comparison: what both sides are asked, and what came of it.
pub(super) struct TableJob {
    plan: ComparedTable,
    pub source: Side,
    pub destination: Side,
    /// Positions of the key's columns among the compared ones.
    pub key: Vec<usize>,
    /// Bounds are whole keys, so that there is one before every row.
    pub walks_rows: bool,
    found: Mutex<Found>,
    begun: Instant,
    /// Chunks that were noted.
    noted: AtomicU64,
    /// Rows of both sides before they are read, counted by the server: none where a snapshot holds.
    before: [Option<u64>; 2],
}

#[derive(Default)]
struct Found {
    source: Digest,
    destination: Digest,
    discrepancies: Vec<Discrepancy>,
    truncated: bool,
    /// Chunks whose sums differ although every row is equal within the tolerance.
    tolerated: bool,
    seconds: f64,
}

type Job = (Arc<TableJob>, Chunk);

/// Rows of tables of the source, by their destinations, counted at the instant of a snapshot.
pub(super) type RowCounts<'a> = BTreeMap<(&'a str, &'a str), u64>;

/// The connections of one lane.
pub(super) struct Lane {
    pub source: Steady,
    pub destination: Steady,
}

/// Compares every pair of tables in the plan.
pub fn compare(plan: &ComparePlan, progress: &Progress) -> Result<CompareSummary> {
    spare(&plan.source, &plan.throttle, progress)?;
    let mut readers = readers(plan, progress)?;
    let open = || Steady::open(&plan.destination, open_reader);
    let mut probe = open()?;
    let lanes = readers.lanes.drain(..).map(|source| Ok(Lane { source, destination: open()? }));
    let mut lanes = lanes.collect::<Result<Vec<_>>>()?;
    let comparison = &Comparison {
        chunk_bytes: plan.throttle.piece(plan.comparison.chunk_bytes),
        ..plan.comparison.clone()
    };
    let walker = &mut readers.walker;
    let noting =
        if comparison.note { Some(Noting::new(Steady::open(&plan.destination, open_loader)?)) } else { None };
    let held = plan.snapshot.then(RowCounts::new);
    let (held, noting) = (held.as_ref(), noting.as_ref());
    let compared = compare_with(comparison, progress, walker, &mut probe, &mut lanes, held, noting);
    readers.judge(compared)
}

/// Compares over connections that are open already. If the lanes have `held` a snapshot of the source, what was counted in it
/// is not counted again.
pub(super) fn compare_with(
    plan: &Comparison,
    progress: &Progress,
    walker: &mut Steady,
    probe: &mut Steady,
    lanes: &mut [Lane],
    held: Option<&RowCounts<'_>>,
    noting: Option<&Noting>,
) -> Result<CompareSummary> {
    let begun = Instant::now();
    let bounds = Bounds { batch_bytes: BATCH_BYTES, large: LargeRows::of(plan.memory_bytes), copies: 1 };
    let (mut jobs, many) = (Vec::with_capacity(plan.tables.len()), lanes.len());
    for table in &plan.tables {
        progress.expect(table.rows);
    }
    run(
        lanes,
        |queue| {
            for table in &plan.tables {
                let place = || format!("{}.{}", table.source_schema, table.source_table);
                progress.turn()?;
                if let Some(noting) = noting {
                    noting.begin(progress, table).at(place)?;
                }
                let job = Arc::new(begin(table, &bounds, progress, walker, probe, held.is_some()).at(place)?);
                jobs.push(job.clone());
                walk(plan, many, progress, &job, walker, queue).at(place)?;
            }
            Ok(())
        },
        |lane, (table, chunk): Job| {
            let place = format!("{}.{}", table.plan.source_schema, table.plan.source_table);
            progress.at(&place);
            progress.touches(&table.plan.destination_schema);
            compare_chunk(plan, progress, lane, &table, &chunk, noting).at(|| place)
        },
    )?;
    for job in &jobs {
        prove_counts(job, held, progress, walker, probe, lanes)?;
    }
    let tables: Vec<_> = jobs.into_iter().map(|job| finish(plan, &job)).collect::<Result<_>>()?;
    Ok(CompareSummary {
        matches: tables.iter().all(|table| table.matches),
        time_taken: begun.elapsed().as_secs_f64(),
        tables,
    })
}

/// Proves by counting that all rows were read: at the instant of the snapshot, or where nobody wrote meanwhile.
fn prove_counts(
    job: &TableJob,
    held: Option<&RowCounts<'_>>,
    progress: &Progress,
    walker: &mut Steady,
    probe: &mut Steady,
    lanes: &mut [Lane],
) -> Result<()> {
    let known = held.and_then(|counts| counts.get(&job.plan.destination()));
    let found = job.found.lock().map_err(|_| Kind::Internal("a lane panicked".into()))?;
    for (before, is_source) in job.before.into_iter().zip([true, false]) {
        let counted = job.plan.counted(is_source);
        let read = if is_source { found.source.rows } else { found.destination.rows };
        let Some(before) = before else {
            if known == Some(&read) {
                continue;
            }
            // Any lane is in the snapshot; the walker may not be.
            if let Some(lane) = lanes.first_mut() {
                lane.source.ask(progress, |source| counted.prove(source, read))?;
            }
            continue;
        };
        let side = if is_source { &mut *walker } else { &mut *probe };
        let is_unlike = before != read && side.ask(progress, |side| counted.count(side))? == before;
        if is_unlike {
            return Err(counted.mismatch(read, before));
        }
    }
    Ok(())
}

fn readers(plan: &ComparePlan, progress: &Progress) -> Result<Readers> {
    let wanted = plan.lanes.max(1);
    if !plan.snapshot {
        return Readers::steady(&plan.source, wanted);
    }
    let tables = &plan.comparison.tables;
    let read = tables.iter().map(|table| (table.source_schema.as_str(), table.source_table.as_str()));
    let tracking = tables
        .iter()
        .flat_map(|table| &table.columns)
        .filter_map(|column| column.source_content_hash.as_ref())
        .map(|tracking| (tracking.tracking_schema.as_str(), tracking.tracking_table.as_str()));
    Readers::at_one_instant(&plan.source, wanted, read.chain(tracking), progress, |_| ())
}

fn begin(
    plan: &ComparedTable,
    bounds: &Bounds,
    progress: &Progress,
    walker: &mut Steady,
    probe: &mut Steady,
    holds: bool,
) -> Result<TableJob> {
    let before = [
        if holds { None } else { Some(walker.ask(progress, |walker| plan.counted(true).count(walker))?) },
        Some(probe.ask(progress, |probe| plan.counted(false).count(probe))?),
    ];
    Ok(TableJob { before, ..prepare(plan, bounds, progress, walker, probe)? })
}

/// A table of which nobody counts the rows beforehand.
pub(super) fn prepare(
    plan: &ComparedTable,
    bounds: &Bounds,
    progress: &Progress,
    walker: &mut Steady,
    probe: &mut Steady,
) -> Result<TableJob> {
    let position = |name: &String| {
        let found = plan.columns.iter().position(|column| column.source == *name);
        found.ok_or_else(|| Kind::Plan(format!("key column `{name}` is not among the compared columns")))
    };
    let key = plan.key.iter().map(position).collect::<Result<Vec<_>, _>>()?;
    let destination_key: Vec<_> = key.iter().map(|&index| plan.columns[index].destination.clone()).collect();
    let ordered = plan.ordered.unwrap_or(key.len()).min(key.len());
    let source =
        walker.ask(progress, |walker| Side::new(plan, bounds, walker, true, &plan.key[..ordered]))?;
    let destination =
        probe.ask(progress, |probe| Side::new(plan, bounds, probe, false, &destination_key[..ordered]))?;
    Ok(TableJob {
        before: [None, None],
        plan: plan.clone(),
        source,
        destination,
        walks_rows: ordered > 0 && ordered == key.len(),
        key,
        found: Mutex::default(),
        noted: AtomicU64::new(0),
        begun: Instant::now(),
    })
}

fn walk(
    plan: &Comparison,
    lanes: usize,
    progress: &Progress,
    table: &Arc<TableJob>,
    walker: &mut Steady,
    queue: &Queue<'_, Job>,
) -> Result<()> {
    let sizes = Sizes::new(plan.chunk_bytes, table.plan.rows, table.plan.data_bytes).shared_by(lanes);
    let put = |_: &mut Steady, piece: Piece| queue.put((table.clone(), piece.chunk));
    Cutter::new(&table.source.walk).each(walker, progress, || sizes.rows(), put)
}

fn compare_chunk(
    plan: &Comparison,
    progress: &Progress,
    lane: &mut Lane,
    table: &TableJob,
    chunk: &Chunk,
    noting: Option<&Noting>,
) -> Result<()> {
    let noted = noting.map(|_| (table.plan.cut(table.walks_rows), table.key.as_slice()));
    let (left, moved, content) = table.source.digest(&mut lane.source, chunk, progress, noted)?;
    let (right, other, _) = table
        .destination
        .digest(&mut lane.destination, chunk, progress, None)
        .at(|| format!("{}.{}", table.plan.destination_schema, table.plan.destination_table))?;
    progress.add(left.whole().rows, moved.read);
    if let Some(noting) = noting.filter(|_| left.whole() == right.whole()) {
        let number = table.noted.fetch_add(1, Ordering::Relaxed) + 1;
        noting.note(progress, &table.plan, number, chunk, &content)?;
    }
    let room = {
        let found = table.found.lock().map_err(|_| Kind::Internal("a lane panicked".into()))?;
        plan.max_discrepancies.saturating_mul(4).saturating_sub(found.discrepancies.len())
    };
    let differences = if left.whole() == right.whole() || table.key.is_empty() {
        None
    } else {
        // Rows are held while others go by.
        let is_large = moved.largest.max(other.largest) > BATCH_BYTES as u64;
        let _alone = is_large.then(|| table.source.bounds.large.alone());
        Some(find(plan, progress, lane, table, chunk, (&left, &right), room)?)
    };
    let mut found = table.found.lock().map_err(|_| Kind::Internal("a lane panicked".into()))?;
    found.source.merge(left.whole());
    found.destination.merge(right.whole());
    found.seconds = table.begun.elapsed().as_secs_f64();
    if let Some(differences) = differences {
        found.tolerated |= differences.tolerated;
        found.truncated |= differences.truncated;
        for difference in differences.rows {
            if found.discrepancies.len() >= plan.max_discrepancies.saturating_mul(4) {
                found.truncated = true;
                break;
            }
            found.discrepancies.push(difference);
        }
    }
    Ok(())
}

fn finish(plan: &Comparison, table: &TableJob) -> Result<TableComparison> {
    let mut found = table.found.lock().map_err(|_| Kind::Internal("a lane panicked".into()))?;
    let mut discrepancies = std::mem::take(&mut found.discrepancies);
    cancel_moved(&mut discrepancies);
    discrepancies.sort_by(|one, other| one.key.cmp(&other.key));
    let truncated = found.truncated || discrepancies.len() > plan.max_discrepancies;
    discrepancies.truncate(plan.max_discrepancies);
    // Sums that differ without a differing row are explained by the tolerance, or by a table without a key.
    let sums_match = found.source == found.destination;
    let explained = found.tolerated && found.source.rows == found.destination.rows;
    let matches = discrepancies.is_empty() && (sums_match || explained);
    if !matches && discrepancies.is_empty() {
        let columns = BTreeMap::from([(
            "rows".to_owned(),
            (Some(found.source.rows.to_string()), Some(found.destination.rows.to_string())),
        )]);
        discrepancies.push(Discrepancy { key: BTreeMap::new(), kind: "differs", columns, hash: 0, other: 0 });
    }
    Ok(TableComparison {
        source_schema: table.plan.source_schema.clone(),
        source_table: table.plan.source_table.clone(),
        destination_schema: table.plan.destination_schema.clone(),
        destination_table: table.plan.destination_table.clone(),
        matches,
        row_count: found.source.rows,
        destination_row_count: found.destination.rows,
        discrepancies,
        truncated,
        digest: format!("{:032x}", found.source.sum),
        time_taken: found.seconds,
    })
}
