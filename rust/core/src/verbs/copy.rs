//! Copying tables: inside one server by `INSERT … SELECT`, or through us as record batches.

mod plan;
mod tracking;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};

pub use self::plan::{ColumnKind, ColumnPlan, CopyPlan, CopySummary, LoadBy, Route, TablePlan, TableSummary};
pub(super) use self::plan::{default_chunk_bytes, default_lanes, default_memory_bytes};
use self::tracking::Shelf;
use super::compare::{CompareSummary, Comparison, Lane as CompareLane, compare_with};
use super::steady::Steady;
use super::throttle::spare;
use crate::convert::pointer::WIDTH;
use crate::convert::tracked::Tracked;
use crate::error::{At, Kind, Result};
use crate::mysql::Connection;
use crate::mysql::chunk::{Chunk, Walk, WalkOf};
use crate::mysql::leap::Cuts;
use crate::mysql::load::{Load, Store, allows_infile};
use crate::mysql::names::{qualified, quote};
use crate::mysql::scan::scan;
use crate::mysql::session::{self, Snapshot, open_loader, open_reader};
use crate::mysql::types::Audience;
use crate::run::journal::Journal;
use crate::run::lanes::{Queue, retry, run};
use crate::run::progress::Progress;

/// What a pointer takes as JSON.
const JSON_BYTES: u64 = 160;
const FEWEST_ROWS: u64 = 20_000;
const MOST_ROWS: u64 = 250_000;

/// A table that is being copied.
struct TableJob {
    plan: TablePlan,
    walk: Walk,
    select: String,
    joins: String,
    /// For each column, the tracking rows of its pointers, if they are in memory.
    tracked: Vec<Option<Arc<Tracked>>>,
    load: Option<Load>,
    journal: Option<Journal>,
    rows: AtomicU64,
    bytes: AtomicU64,
    chunks: AtomicU64,
    resumed: AtomicU64,
    begun: Instant,
    millis: AtomicU64,
}

/// A chunk of it.
struct Job {
    table: Arc<TableJob>,
    number: u64,
    chunk: Chunk,
    /// A run that was stopped had begun it.
    former: bool,
}

/// The connections of one lane.
struct Lane {
    source: Option<Connection>,
    destination: Option<Connection>,
}

/// Everything the planner and the lanes share.
struct Copy<'a> {
    plan: &'a CopyPlan,
    progress: &'a Progress,
    snapshot: Option<Snapshot>,
    shelf: Mutex<Shelf>,
    infile: bool,
    batch_bytes: usize,
    chunk_bytes: u64,
}

/// Copies the tables of the plan.
pub fn copy(plan: &CopyPlan, progress: &Progress) -> Result<CopySummary> {
    let begun = Instant::now();
    spare(&plan.source, &plan.throttle, progress)?;
    let mut control = Steady::open(&plan.destination, open_loader)?;
    let infile = match plan.load {
        LoadBy::Auto => plan.route == Route::River && control.ask(progress, allows_infile)?,
        LoadBy::Infile => true,
        LoadBy::Insert => false,
    };
    let wanted = plan.lanes.max(1);
    let (mut walker, mut lanes, snapshot) = open_lanes(plan, wanted)?;
    let copy = Copy {
        plan,
        progress,
        snapshot,
        shelf: Mutex::new(Shelf::new(plan.memory_bytes / 4)),
        infile,
        batch_bytes: plan.throttle.piece((plan.memory_bytes / (4 * wanted)).clamp(1 << 16, 4 << 20) as u64)
            as usize,
        chunk_bytes: plan.throttle.piece(plan.chunk_bytes),
    };
    for table in &plan.tables {
        progress.expect(table.limit.map_or(table.rows, |limit| limit.min(table.rows)));
    }
    let all: Vec<_> = plan.tables.iter().collect();
    let mut tables = copy.tables(&all, &mut walker, &mut control, &mut lanes)?;
    let compared = match &plan.compare {
        Some(comparison) => {
            Some(copy.prove(comparison, &mut tables, &mut walker, &mut control, &mut lanes)?)
        }
        None => None,
    };
    if plan.journal && !plan.keep_journal {
        let schemas: BTreeSet<_> = plan.tables.iter().map(|table| &table.destination_schema).collect();
        for schema in schemas {
            control.execute(progress, &Journal::new(schema).remove())?;
        }
    }
    Ok(CopySummary {
        rows_copied: tables.iter().map(|table| table.rows_copied).sum(),
        bytes: tables.iter().map(|table| table.bytes).sum(),
        time_taken: begun.elapsed().as_secs_f64(),
        snapshot: match snapshot {
            Some(Snapshot::Shared) => "shared",
            Some(Snapshot::Single) => "single",
            None => "none",
        },
        load: (plan.route == Route::River).then_some(if infile { "infile" } else { "insert" }),
        tables,
        compared,
    })
}

fn open_lanes(plan: &CopyPlan, wanted: usize) -> Result<(Steady, Vec<Lane>, Option<Snapshot>)> {
    let steady = || Steady::open(&plan.source, open_reader);
    if plan.route == Route::Server {
        let lanes = (0..wanted)
            .map(|_| Ok(Lane { source: None, destination: Some(open_loader(&plan.destination)?) }));
        return Ok((steady()?, lanes.collect::<Result<_>>()?, None));
    }
    let mut sources = (0..wanted).map(|_| open_reader(&plan.source)).collect::<Result<Vec<_>>>()?;
    let (mut steady_walker, mut snapshot) = (None, None);
    if plan.snapshot {
        let mut walker = open_reader(&plan.source)?;
        let mut read = plan
            .tables
            .iter()
            .map(|table| (table.source_schema.as_str(), table.source_table.as_str()))
            .collect::<Vec<_>>();
        for pointer in
            plan.tables.iter().flat_map(|table| &table.columns).filter_map(|column| column.pointer.as_ref())
        {
            read.push((&pointer.tracking_schema, &pointer.tracking_table));
        }
        read.sort_unstable();
        read.dedup();
        let mut locker = open_reader(&plan.source)?;
        let mut readers: Vec<_> = std::iter::once(&mut walker).chain(&mut sources).collect();
        let opened = session::share_snapshot(&mut locker, &mut readers, &read)?;
        if opened == Snapshot::Single {
            // The walker reads outside the one snapshot; a bound that has moved since only makes chunks unequal in size.
            session::begin_single(&mut walker, &mut sources[0])?;
            sources.truncate(1);
        } else {
            steady_walker = Some(Steady::only(walker));
        }
        snapshot = Some(opened);
    }
    let lanes = sources
        .into_iter()
        .map(|source| Ok(Lane { source: Some(source), destination: Some(open_loader(&plan.destination)?) }));
    Ok((steady_walker.map_or_else(steady, Ok)?, lanes.collect::<Result<_>>()?, snapshot))
}

impl Copy<'_> {
    fn tables(
        &self,
        plans: &[&TablePlan],
        walker: &mut Steady,
        control: &mut Steady,
        lanes: &mut [Lane],
    ) -> Result<Vec<TableSummary>> {
        let mut jobs = Vec::with_capacity(plans.len());
        run(
            lanes,
            |queue| {
                for plan in plans {
                    self.progress.turn()?;
                    let job = self.begin_table(plan, walker, control).at(|| plan.place())?;
                    jobs.push(job.clone());
                    self.walk(&job, walker, control, queue).at(|| plan.place())?;
                }
                Ok(())
            },
            |lane, job: Job| self.work(lane, &job).at(|| job.table.plan.place()),
        )?;
        Ok(jobs.iter().map(|job| job.summary()).collect())
    }

    /// Compares what was copied with the instant it was copied from.
    ///
    /// Chunks that an earlier run had copied are of an earlier instant: where production has gone on since, their tables
    /// are copied once more, so that all of the copy is of this instant.
    fn prove(
        &self,
        comparison: &Comparison,
        tables: &mut [TableSummary],
        walker: &mut Steady,
        control: &mut Steady,
        lanes: &mut [Lane],
    ) -> Result<CompareSummary> {
        let mut compared = self.compare(comparison, walker, lanes)?;
        let stale: Vec<usize> = (0..tables.len())
            .filter(|&index| {
                tables[index].resumed_chunks > 0 && compared.differs(&tables[index].destination())
            })
            .collect();
        if stale.is_empty() {
            return Ok(compared);
        }
        let plans: Vec<_> = stale.iter().map(|&index| &self.plan.tables[index]).collect();
        for plan in &plans {
            let table = qualified(&plan.destination_schema, &plan.destination_table);
            control.execute(self.progress, &format!("TRUNCATE TABLE {table}"))?;
            if self.plan.journal {
                let journal = Journal::new(&plan.destination_schema);
                control.execute(self.progress, &journal.forget(&plan.destination_table))?;
            }
        }
        for (summary, index) in self.tables(&plans, walker, control, lanes)?.into_iter().zip(stale) {
            tables[index] = summary;
        }
        let again = Comparison {
            tables: comparison
                .tables
                .iter()
                .filter(|table| plans.iter().any(|plan| plan.destination() == table.destination()))
                .cloned()
                .collect(),
            ..comparison.clone()
        };
        compared.replace(self.compare(&again, walker, lanes)?);
        Ok(compared)
    }

    fn compare(
        &self,
        comparison: &Comparison,
        walker: &mut Steady,
        lanes: &mut [Lane],
    ) -> Result<CompareSummary> {
        let open = || Steady::open(&self.plan.destination, open_reader);
        let mut probe = open()?;
        let mut both = Vec::with_capacity(lanes.len());
        for lane in lanes.iter_mut() {
            let source = lane.source.take().ok_or_else(|| {
                Kind::Plan("only what came through the river is compared by its copy".into())
            })?;
            both.push(CompareLane { source: Steady::only(source), destination: open()? });
        }
        let comparison = &Comparison {
            chunk_bytes: self.plan.throttle.piece(comparison.chunk_bytes),
            ..comparison.clone()
        };
        let compared = compare_with(comparison, self.progress, walker, &mut probe, &mut both);
        for (lane, both) in lanes.iter_mut().zip(both) {
            lane.source = both.source.release();
        }
        compared
    }

    fn begin_table(
        &self,
        plan: &TablePlan,
        walker: &mut Steady,
        control: &mut Steady,
    ) -> Result<Arc<TableJob>> {
        let of = WalkOf {
            schema: &plan.source_schema,
            table: &plan.source_table,
            key: &plan.key,
            index: plan.index.as_deref(),
            filter: plan.where_clause.as_deref(),
        };
        let walk = walker.ask(self.progress, |walker| Walk::new(walker, of))?;
        let mut select = Vec::new();
        let mut joins = String::new();
        let mut stores = Vec::new();
        let mut tracked = Vec::new();
        for (index, column) in plan.columns.iter().enumerate() {
            let rows = match (column.kind, &column.pointer) {
                (ColumnKind::Pointer, Some(pointer)) => {
                    let rows = self.tracked(plan, pointer, walker)?;
                    if rows.is_none() {
                        joins.push_str(&pointer.join(&column.source, index));
                    }
                    rows
                }
                _ => None,
            };
            select.push(TablePlan::expression(column, self.plan.route, index, rows.is_some())?);
            tracked.push(rows);
            let store = match column.kind {
                ColumnKind::Json | ColumnKind::Pointer => Store::Json,
                ColumnKind::EnumIndex => Store::EnumIndex,
                ColumnKind::Value | ColumnKind::Text => Store::Plain,
            };
            stores.push((column.destination.as_str(), store));
        }
        let target = (plan.destination_schema.as_str(), plan.destination_table.as_str());
        let load = match self.plan.route {
            Route::River => {
                Some(control.ask(self.progress, |control| Load::new(control, target, &stores, self.infile))?)
            }
            Route::Server => None,
        };
        let journal = self.plan.journal.then(|| Journal::new(&plan.destination_schema));
        if let Some(journal) = &journal {
            control.execute(self.progress, &journal.create())?;
        }
        Ok(Arc::new(TableJob {
            plan: plan.clone(),
            walk,
            select: select.join(", "),
            joins,
            tracked,
            load,
            journal,
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            chunks: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            begun: Instant::now(),
            millis: AtomicU64::new(0),
        }))
    }

    /// Queues the chunks of a table: first those a former run has planned and not done, then new ones from there on.
    fn walk(
        &self,
        table: &Arc<TableJob>,
        walker: &mut Steady,
        control: &mut Steady,
        queue: &Queue<'_, Job>,
    ) -> Result<()> {
        let fingerprint = table.plan.fingerprint();
        let mut number = 0;
        let mut rest = Chunk::default();
        if let Some(journal) = &table.journal {
            let read = journal.read(&table.plan.destination_table);
            let rows = control.ask(self.progress, |control| control.query(&read))?;
            for entry in journal.entries::<Chunk>(&fingerprint, &rows)? {
                let after_the_last = number > 0 && rest.lower.is_none();
                if after_the_last || entry.chunk.lower != rest.lower {
                    return Err(journal.unreadable("a chunk does not begin where the one before it ends"));
                }
                rest.lower.clone_from(&entry.chunk.upper);
                number = entry.number + 1;
                if entry.done {
                    table.resumed.fetch_add(1, Ordering::Relaxed);
                } else {
                    let number = entry.number;
                    queue.put(Job { table: table.clone(), number, chunk: entry.chunk, former: true })?;
                }
            }
            if number > 0 && rest.lower.is_none() {
                return Ok(());
            }
        }
        if let Some(limit) = table.plan.limit {
            if limit == 0 {
                return Ok(());
            }
            if table.walk.has_key() {
                rest.upper = walker
                    .ask(self.progress, |walker| table.walk.key_after(walker, &Chunk::default(), limit))?;
            }
        }
        let mut cuts = Cuts::default();
        loop {
            self.progress.turn()?;
            let rows = self.chunk_rows(table);
            let next = walker.ask(self.progress, |walker| cuts.next(&table.walk, walker, &rest, rows))?;
            let chunk =
                Chunk { lower: rest.lower.take(), upper: next.clone().or_else(|| rest.upper.clone()) };
            if let Some(journal) = &table.journal {
                let planned = journal.planned(&table.plan.destination_table, &fingerprint, number, &chunk)?;
                control.execute(self.progress, &planned)?;
            }
            queue.put(Job { table: table.clone(), number, chunk, former: false })?;
            number += 1;
            if next.is_none() {
                return Ok(());
            }
            rest.lower = next;
        }
    }

    /// How many rows fill a chunk: by what was read so far, else by the server's statistics. A table that is no more than
    /// a few chunks is shared out among the lanes.
    fn chunk_rows(&self, table: &TableJob) -> u64 {
        let (rows, bytes) = (table.rows.load(Ordering::Relaxed), table.bytes.load(Ordering::Relaxed));
        let plan = &table.plan;
        let read = if rows > 0 && bytes > 0 { bytes / rows } else { plan.data_bytes / plan.rows.max(1) };
        let pointers = plan.columns.iter().filter(|column| column.kind == ColumnKind::Pointer).count() as u64;
        let row_bytes = read + pointers * JSON_BYTES;
        let share = (plan.rows / self.plan.lanes.max(1) as u64).max(FEWEST_ROWS);
        (self.chunk_bytes / row_bytes.clamp(16, self.chunk_bytes)).min(share).clamp(1, MOST_ROWS)
    }

    fn work(&self, lane: &mut Lane, job: &Job) -> Result<()> {
        self.progress.at(&job.table.plan.place());
        let moved = retry(self.progress, || {
            self.progress.turn()?;
            let mut counted = (0, 0);
            let moved = self.attempt(lane, job, &mut counted);
            if moved.is_err() {
                self.progress.take_back(counted.0, counted.1);
            }
            moved
        });
        let (rows, bytes) = moved?;
        let table = &job.table;
        table.rows.fetch_add(rows, Ordering::Relaxed);
        table.bytes.fetch_add(bytes, Ordering::Relaxed);
        table.chunks.fetch_add(1, Ordering::Relaxed);
        table.millis.fetch_max(table.begun.elapsed().as_millis() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// One try at a chunk: its rows and its line in the journal, in one transaction.
    fn attempt(&self, lane: &mut Lane, job: &Job, counted: &mut (u64, u64)) -> Result<(u64, u64)> {
        let (mut destination, is_unsure) = match lane.destination.take() {
            Some(connection) => (connection, job.former),
            // The connection was lost, perhaps after the commit: the journal knows.
            None => (open_loader(&self.plan.destination)?, true),
        };
        destination.execute("START TRANSACTION")?;
        if is_unsure && let Some(journal) = &job.table.journal {
            let done = journal.is_done(&job.table.plan.destination_table, job.number);
            if destination.query_value(&done)?.as_deref() == Some("1") {
                destination.execute("ROLLBACK")?;
                lane.destination = Some(destination);
                return Ok((0, 0));
            }
        }
        let moved = match self.plan.route {
            Route::Server => Self::insert_select(&mut destination, job),
            Route::River => self.flow(lane, &mut destination, job, counted),
        };
        let (rows, bytes) = match moved {
            Ok(moved) => moved,
            Err(error) => {
                // A connection that can still roll back can still be used; any other is left to the next attempt.
                if destination.execute("ROLLBACK").is_ok() {
                    lane.destination = Some(destination);
                }
                return Err(error);
            }
        };
        if let Some(journal) = &job.table.journal {
            destination.execute(&journal.done(&job.table.plan.destination_table, job.number, rows))?;
        }
        destination.execute("COMMIT")?;
        if self.plan.route == Route::Server {
            self.progress.add(rows, bytes);
            // What the server read by itself is counted by its own estimate of a row.
            self.progress.read(bytes)?;
        }
        lane.destination = Some(destination);
        Ok((rows, bytes))
    }

    fn insert_select(destination: &mut Connection, job: &Job) -> Result<(u64, u64)> {
        let plan = &job.table.plan;
        let columns: Vec<_> = plan.columns.iter().map(|column| quote(&column.destination)).collect();
        let sql = format!(
            "INSERT INTO {} ({}) {}",
            qualified(&plan.destination_schema, &plan.destination_table),
            columns.join(", "),
            job.table.select(&job.chunk)?
        );
        let rows = destination.execute(&sql)?.affected_rows;
        Ok((rows, rows * plan.data_bytes / plan.rows.max(1)))
    }

    fn flow(
        &self,
        lane: &mut Lane,
        destination: &mut Connection,
        job: &Job,
        counted: &mut (u64, u64),
    ) -> Result<(u64, u64)> {
        let mut source = match lane.source.take() {
            Some(source) => source,
            None if self.snapshot.is_some() => {
                return Err(Kind::Internal("a lane without its snapshot".into()).into());
            }
            None => open_reader(&self.plan.source)?,
        };
        let Some(mut load) = job.table.load.clone() else {
            return Err(Kind::Internal("a river without a load".into()).into());
        };
        let mut sink_failed = false;
        let scanned = scan(
            &mut source,
            &job.table.select(&job.chunk)?,
            Audience::River,
            self.batch_bytes,
            &mut |batch, read| {
                self.progress.read(read)?;
                let bytes = batch.get_array_memory_size() as u64;
                let batch = job.table.convert(batch)?;
                sink_failed = true;
                load.batch(destination, &batch)?;
                sink_failed = false;
                let rows = load.rows() - counted.0;
                self.progress.add(rows, bytes);
                counted.0 += rows;
                counted.1 += bytes;
                Ok(())
            },
        );
        let is_lost = |error: &crate::error::Error| matches!(error.kind(), Kind::Lost { .. });
        if !scanned.as_ref().is_err_and(|error| is_lost(error) && !sink_failed) {
            lane.source = Some(source);
        }
        match scanned {
            Ok(_) => Ok((load.finish(destination)?, counted.1)),
            Err(error) => {
                if !(sink_failed && is_lost(&error)) {
                    // What the load says is of no interest any more: its rows are rolled back.
                    let _ = load.abandon(destination);
                }
                Err(if self.snapshot.is_some() && !sink_failed { error.with_snapshot() } else { error })
            }
        }
    }
}

impl TableJob {
    fn select(&self, chunk: &Chunk) -> Result<String> {
        let limit = match self.plan.limit {
            Some(limit) if !self.walk.has_key() => format!(" LIMIT {limit}"),
            _ => String::new(),
        };
        Ok(format!(
            "SELECT {} FROM {}{}{}{limit}",
            self.select,
            self.walk.from(),
            self.joins,
            self.walk.condition(chunk)?
        ))
    }

    /// The batch with its pointers as JSON: each that was joined takes `WIDTH` columns of the result and becomes one.
    fn convert(&self, batch: RecordBatch) -> Result<RecordBatch> {
        if self.plan.columns.iter().all(|column| column.kind != ColumnKind::Pointer) {
            return Ok(batch);
        }
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.plan.columns.len());
        let schema = batch.schema();
        let (mut rest, mut fields) = (batch.columns(), schema.fields().iter());
        let mut converted = Vec::with_capacity(self.plan.columns.len());
        for (column, tracked) in self.plan.columns.iter().zip(&self.tracked) {
            let is_pointer = column.kind == ColumnKind::Pointer;
            let width = if is_pointer && tracked.is_none() { WIDTH } else { 1 };
            let (taken, after) = rest.split_at(width);
            rest = after;
            // The first field of a pointer's columns names the column itself.
            let field = fields.next().ok_or_else(|| Kind::Internal("a column is missing".into()))?;
            fields.by_ref().take(width - 1).for_each(drop);
            arrays.push(match (&column.pointer, tracked) {
                (Some(pointer), Some(tracked)) => pointer.look_up(&column.source, &taken[0], tracked)?,
                (Some(pointer), None) if is_pointer => pointer.convert(&column.source, taken)?,
                _ => taken[0].clone(),
            });
            converted.push(if is_pointer {
                Arc::new(Field::new(&column.destination, DataType::LargeBinary, true))
            } else {
                field.clone()
            });
        }
        RecordBatch::try_new(Arc::new(Schema::new(converted)), arrays)
            .map_err(|error| Kind::Internal(error.to_string()).into())
    }

    fn summary(&self) -> TableSummary {
        TableSummary {
            destination_schema: self.plan.destination_schema.clone(),
            destination_table: self.plan.destination_table.clone(),
            rows_copied: self.rows.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            chunks: self.chunks.load(Ordering::Relaxed),
            resumed_chunks: self.resumed.load(Ordering::Relaxed),
            time_taken: self.millis.load(Ordering::Relaxed) as f64 / 1000.0,
        }
    }
}
