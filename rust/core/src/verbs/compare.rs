//! Comparing two tables by meaning: sums of row hashes chunk by chunk, and row by row only where a sum differs.

mod blocks;
mod differences;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use arrow_array::RecordBatch;
use serde::{Deserialize, Serialize};

use self::blocks::Blocks;
use self::differences::{cancel_moved, find};
use super::copy::{default_chunk_bytes, default_lanes};
use super::steady::Steady;
use super::throttle::spare;
use crate::convert::pointer::PointerKind;
use crate::digest::{Digest, Meaning};
use crate::error::{At, Kind, Result};
use crate::mysql::chunk::{Chunk, Walk, WalkOf};
use crate::mysql::leap::Cuts;
use crate::mysql::names::{qualified, quote};
use crate::mysql::scan::scan;
use crate::mysql::session::{self, Snapshot, open_reader};
use crate::mysql::types::Audience;
use crate::mysql::{Connection, Server};
use crate::run::lanes::{Queue, run};
use crate::run::progress::Progress;
use crate::run::throttle::Limits;

const BATCH_BYTES: usize = 4 << 20;

#[derive(Debug, Clone, Deserialize)]
pub struct ComparePlan {
    pub source: Server,
    pub destination: Server,
    #[serde(default = "default_lanes")]
    pub lanes: usize,
    #[serde(default)]
    pub snapshot: bool,
    #[serde(default)]
    pub throttle: Limits,
    #[serde(flatten)]
    pub comparison: Comparison,
}

/// Which tables are compared, and how exactly.
#[derive(Debug, Clone, Deserialize)]
pub struct Comparison {
    #[serde(default = "default_chunk_bytes")]
    pub chunk_bytes: u64,
    /// Floats that differ by no more than this, absolutely or relatively, are equal.
    #[serde(default)]
    pub tolerance: f64,
    #[serde(default = "default_discrepancies")]
    pub max_discrepancies: usize,
    pub tables: Vec<ComparedTable>,
}

fn default_discrepancies() -> usize {
    1000
}

#[derive(Debug, Clone, Deserialize)]
pub struct ComparedTable {
    pub source_schema: String,
    pub source_table: String,
    pub destination_schema: String,
    pub destination_table: String,
    /// Source names of the key's columns.
    #[serde(default)]
    pub key: Vec<String>,
    /// How many of the key's leading columns both sides put into the same order, which chunks need. None: all.
    #[serde(default)]
    pub ordered: Option<usize>,
    #[serde(default)]
    pub index: Option<String>,
    pub columns: Vec<ComparedColumn>,
    #[serde(default)]
    pub where_clause: Option<String>,
    #[serde(default)]
    pub rows: u64,
    #[serde(default)]
    pub data_bytes: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct ComparedColumn {
    pub source: String,
    pub destination: String,
    pub kind: ComparedKind,
    #[serde(default)]
    pub pointer_kind: Option<PointerKind>,
    /// The tracking table that knows the contents' MD5 of blobs carried over from 0.11.
    #[serde(default)]
    pub source_content_hash: Option<TrackingName>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct TrackingName {
    pub tracking_schema: String,
    pub tracking_table: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComparedKind {
    Value,
    /// Text in different character sets: both sides as utf8mb4.
    Text,
    Decimal,
    Json,
    /// BINARY(16) on the left, JSON metadata on the right.
    Pointer,
}

#[derive(Debug, Clone, Serialize)]
pub struct CompareSummary {
    #[serde(rename = "match")]
    pub matches: bool,
    pub time_taken: f64,
    pub tables: Vec<TableComparison>,
}

#[derive(Debug, Clone, Serialize)]
pub struct TableComparison {
    pub source_schema: String,
    pub source_table: String,
    pub destination_schema: String,
    pub destination_table: String,
    #[serde(rename = "match")]
    pub matches: bool,
    pub row_count: u64,
    pub destination_row_count: u64,
    pub discrepancies: Vec<Discrepancy>,
    /// More rows differ than are listed.
    pub truncated: bool,
    /// The sum of the source's row hashes, in hexadecimal.
    pub digest: String,
    pub time_taken: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Discrepancy {
    pub key: BTreeMap<String, String>,
    /// `missing` in the destination, `extra` in it, or `differs`.
    pub kind: &'static str,
    /// For `differs`: source and destination text of each column that does. NULL is `None`.
    pub columns: BTreeMap<String, (Option<String>, Option<String>)>,
    #[serde(skip)]
    hash: u128,
}

/// A table under comparison: what both sides are asked, and what came of it.
struct TableJob {
    plan: ComparedTable,
    source: Side,
    destination: Side,
    /// Positions of the key's columns among the compared ones.
    key: Vec<usize>,
    /// Bounds are whole keys, so that there is one before every row.
    walks_rows: bool,
    found: Mutex<Found>,
    begun: Instant,
}

struct Side {
    walk: Walk,
    select: String,
    joins: String,
    meanings: Vec<Meaning>,
    is_source: bool,
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

/// The connections of one lane.
pub(super) struct Lane {
    pub source: Steady,
    pub destination: Steady,
}

/// Compares every pair of tables in the plan.
pub fn compare(plan: &ComparePlan, progress: &Progress) -> Result<CompareSummary> {
    spare(&plan.source, &plan.throttle, progress)?;
    let (mut walker, sources) = open_sources(plan)?;
    let open = || Steady::open(&plan.destination, open_reader);
    let mut probe = open()?;
    let lanes = sources.into_iter().map(|source| Ok(Lane { source, destination: open()? }));
    let mut lanes = lanes.collect::<Result<Vec<_>>>()?;
    let comparison = &Comparison {
        chunk_bytes: plan.throttle.piece(plan.comparison.chunk_bytes),
        ..plan.comparison.clone()
    };
    compare_with(comparison, progress, &mut walker, &mut probe, &mut lanes)
}

/// Compares over connections that are open already, and perhaps share a snapshot.
pub(super) fn compare_with(
    plan: &Comparison,
    progress: &Progress,
    walker: &mut Steady,
    probe: &mut Steady,
    lanes: &mut [Lane],
) -> Result<CompareSummary> {
    let begun = Instant::now();
    let mut jobs = Vec::with_capacity(plan.tables.len());
    for table in &plan.tables {
        progress.expect(table.rows);
    }
    run(
        lanes,
        |queue| {
            for table in &plan.tables {
                let place = || format!("{}.{}", table.source_schema, table.source_table);
                progress.turn()?;
                let job = Arc::new(begin(table, progress, walker, probe).at(place)?);
                jobs.push(job.clone());
                walk(plan, progress, &job, walker, queue).at(place)?;
            }
            Ok(())
        },
        |lane, (table, chunk): Job| {
            let place = format!("{}.{}", table.plan.source_schema, table.plan.source_table);
            progress.at(&place);
            compare_chunk(plan, progress, lane, &table, &chunk).at(|| place)
        },
    )?;
    let tables: Vec<_> = jobs.into_iter().map(|job| finish(plan, &job)).collect::<Result<_>>()?;
    Ok(CompareSummary {
        matches: tables.iter().all(|table| table.matches),
        time_taken: begun.elapsed().as_secs_f64(),
        tables,
    })
}

impl CompareSummary {
    pub(super) fn differs(&self, destination: &(&str, &str)) -> bool {
        self.tables.iter().any(|table| !table.matches && table.destination() == *destination)
    }

    /// Takes the results of a later comparison of some of the tables.
    pub(super) fn replace(&mut self, later: Self) {
        self.time_taken += later.time_taken;
        for table in later.tables {
            if let Some(old) = self.tables.iter_mut().find(|old| old.destination() == table.destination()) {
                *old = table;
            }
        }
        self.matches = self.tables.iter().all(|table| table.matches);
    }
}

impl TableComparison {
    fn destination(&self) -> (&str, &str) {
        (&self.destination_schema, &self.destination_table)
    }
}

impl ComparedTable {
    pub(super) fn destination(&self) -> (&str, &str) {
        (&self.destination_schema, &self.destination_table)
    }
}

/// The walker and a reader for each lane.
fn open_sources(plan: &ComparePlan) -> Result<(Steady, Vec<Steady>)> {
    let steady = || Steady::open(&plan.source, open_reader);
    let wanted = plan.lanes.max(1);
    if !plan.snapshot {
        return Ok((steady()?, (0..wanted).map(|_| steady()).collect::<Result<_>>()?));
    }
    let mut walker = open_reader(&plan.source)?;
    let mut sources = (0..wanted).map(|_| open_reader(&plan.source)).collect::<Result<Vec<_>>>()?;
    let read: Vec<_> = plan
        .comparison
        .tables
        .iter()
        .map(|table| (table.source_schema.as_str(), table.source_table.as_str()))
        .collect();
    let mut locker = open_reader(&plan.source)?;
    let mut readers: Vec<_> = std::iter::once(&mut walker).chain(&mut sources).collect();
    let walker = if session::share_snapshot(&mut locker, &mut readers, &read)? == Snapshot::Single {
        session::begin_single(&mut walker, &mut sources[0])?;
        sources.truncate(1);
        steady()?
    } else {
        Steady::only(walker)
    };
    Ok((walker, sources.into_iter().map(Steady::only).collect()))
}

fn begin(
    plan: &ComparedTable,
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
    let source = walker.ask(progress, |walker| Side::new(plan, walker, true, &plan.key[..ordered]))?;
    let destination =
        probe.ask(progress, |probe| Side::new(plan, probe, false, &destination_key[..ordered]))?;
    Ok(TableJob {
        plan: plan.clone(),
        source,
        destination,
        walks_rows: ordered > 0 && ordered == key.len(),
        key,
        found: Mutex::default(),
        begun: Instant::now(),
    })
}

impl Side {
    fn new(
        plan: &ComparedTable,
        connection: &mut Connection,
        is_source: bool,
        key: &[String],
    ) -> Result<Self> {
        let (schema, table) = if is_source {
            (&plan.source_schema, &plan.source_table)
        } else {
            (&plan.destination_schema, &plan.destination_table)
        };
        let index = plan.index.as_deref().filter(|_| is_source);
        let walk = Walk::new(
            connection,
            WalkOf { schema, table, key, index, filter: plan.where_clause.as_deref() },
        )?;
        let mut select = Vec::new();
        let mut joins = String::new();
        let mut meanings = Vec::new();
        for (index, column) in plan.columns.iter().enumerate() {
            let name = format!("s.{}", quote(if is_source { &column.source } else { &column.destination }));
            let (expression, meaning) = match column.kind {
                ComparedKind::Value => (name, Meaning::Value),
                ComparedKind::Decimal => (name, Meaning::Decimal),
                ComparedKind::Json => (name, Meaning::Json),
                ComparedKind::Text => (format!("CONVERT({name} USING utf8mb4)"), Meaning::Value),
                ComparedKind::Pointer if is_source => {
                    let expression = match &column.source_content_hash {
                        None => name,
                        Some(tracking) => {
                            let tracking = qualified(&tracking.tracking_schema, &tracking.tracking_table);
                            let _ = write!(
                                joins,
                                " LEFT JOIN {tracking} AS e{index} ON e{index}.`hash` = {name}"
                            );
                            format!(
                                "IF(e{index}.`filepath` IS NULL, {name}, COALESCE(e{index}.`contents_hash`, {name}))"
                            )
                        }
                    };
                    (expression, Meaning::Value)
                }
                ComparedKind::Pointer => {
                    let kind = column.pointer_kind.ok_or_else(|| {
                        Kind::Plan(format!("column `{}` has no pointer kind", column.source))
                    })?;
                    (name, Meaning::Pointer(kind))
                }
            };
            select.push(expression);
            meanings.push(meaning);
        }
        Ok(Self { walk, select: select.join(", "), joins, meanings, is_source })
    }

    fn sql(&self, chunk: &Chunk) -> Result<String> {
        Ok(format!(
            "SELECT {} FROM {}{}{}",
            self.select,
            self.walk.from(),
            self.joins,
            self.walk.condition(chunk)?
        ))
    }

    fn digest(&self, connection: &mut Steady, chunk: &Chunk, progress: &Progress) -> Result<(Blocks, u64)> {
        let sql = self.sql(chunk)?;
        connection.ask(progress, |connection| {
            let mut blocks = Blocks::default();
            let scanned = scan(connection, &sql, Audience::River, BATCH_BYTES, &mut |batch, read| {
                self.pay(progress, read)?;
                blocks.add(&batch, &self.meanings)
            })?;
            Ok((blocks, scanned.bytes))
        })
    }

    /// Only what is read from production is limited.
    fn pay(&self, progress: &Progress, read: u64) -> Result<()> {
        if self.is_source { progress.read(read) } else { progress.check() }
    }

    fn rows(&self, connection: &mut Steady, chunk: &Chunk, progress: &Progress) -> Result<Vec<RecordBatch>> {
        let sql = self.sql(chunk)?;
        connection.ask(progress, |connection| {
            let mut batches = Vec::new();
            scan(connection, &sql, Audience::River, BATCH_BYTES, &mut |batch, read| {
                batches.push(batch);
                self.pay(progress, read)
            })?;
            Ok(batches)
        })
    }
}

fn walk(
    plan: &Comparison,
    progress: &Progress,
    table: &Arc<TableJob>,
    walker: &mut Steady,
    queue: &Queue<'_, Job>,
) -> Result<()> {
    let row_bytes = table.plan.data_bytes / table.plan.rows.max(1);
    let rows = (plan.chunk_bytes / row_bytes.clamp(16, plan.chunk_bytes)).clamp(1, 250_000);
    let walk = &table.source.walk;
    let mut rest = Chunk::default();
    let mut cuts = Cuts::default();
    loop {
        progress.turn()?;
        let next = walker.ask(progress, |walker| cuts.next(walk, walker, &rest, rows))?;
        queue.put((table.clone(), Chunk { lower: rest.lower.take(), upper: next.clone() }))?;
        if next.is_none() {
            return Ok(());
        }
        rest.lower = next;
    }
}

fn compare_chunk(
    plan: &Comparison,
    progress: &Progress,
    lane: &mut Lane,
    table: &TableJob,
    chunk: &Chunk,
) -> Result<()> {
    progress.turn()?;
    let (left, bytes) = table.source.digest(&mut lane.source, chunk, progress)?;
    let (right, _) = table
        .destination
        .digest(&mut lane.destination, chunk, progress)
        .at(|| format!("{}.{}", table.plan.destination_schema, table.plan.destination_table))?;
    progress.add(left.whole().rows, bytes);
    let differences = if left.whole() == right.whole() || !table.source.walk.has_key() {
        None
    } else {
        Some(find(plan, progress, lane, table, chunk, &left, &right)?)
    };
    let mut found = table.found.lock().map_err(|_| Kind::Internal("a lane panicked".into()))?;
    found.source.merge(left.whole());
    found.destination.merge(right.whole());
    found.seconds = table.begun.elapsed().as_secs_f64();
    if let Some(differences) = differences {
        found.tolerated |= differences.tolerated;
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
        discrepancies.push(Discrepancy { key: BTreeMap::new(), kind: "differs", columns, hash: 0 });
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
