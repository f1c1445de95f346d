//! Copying tables: inside one server by `INSERT … SELECT`, or through us as record batches.

mod plan;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};

pub use self::plan::{ColumnKind, ColumnPlan, CopyPlan, CopySummary, LoadBy, Route, TablePlan, TableSummary};
pub(super) use self::plan::{default_chunk_bytes, default_lanes, default_memory_bytes};
use super::compare::{CompareSummary, Comparison, Lane as CompareLane, compare_with};
use super::throttle::spare;
use crate::convert::pointer::WIDTH;
use crate::error::{At, Kind, Result};
use crate::mysql::chunk::{Chunk, Walk, WalkOf};
use crate::mysql::leap::Cuts;
use crate::mysql::load::{Load, Store, allows_infile};
use crate::mysql::names::{qualified, quote};
use crate::mysql::scan::scan;
use crate::mysql::session::{self, Snapshot};
use crate::mysql::types::Audience;
use crate::mysql::{Connection, Server};
use crate::run::journal::Journal;
use crate::run::lanes::{Queue, retry, run};
use crate::run::progress::Progress;

/// A table that is being copied.
struct TableJob {
    plan: TablePlan,
    walk: Walk,
    select: String,
    joins: String,
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
    infile: bool,
    batch_bytes: usize,
    chunk_bytes: u64,
}

/// Copies the tables of the plan.
pub fn copy(plan: &CopyPlan, progress: &Progress) -> Result<CopySummary> {
    let begun = Instant::now();
    spare(&plan.source, &plan.throttle, progress)?;
    let mut control = open_destination(&plan.destination)?;
    let infile = match plan.load {
        LoadBy::Auto => plan.route == Route::River && allows_infile(&mut control)?,
        LoadBy::Infile => true,
        LoadBy::Insert => false,
    };
    let wanted = plan.lanes.max(1);
    let (mut walker, mut lanes, snapshot) = open_lanes(plan, wanted)?;
    let copy = Copy {
        plan,
        progress,
        snapshot,
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
            control.execute(&Journal::new(schema).remove())?;
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

fn open_destination(server: &Server) -> Result<Connection> {
    let mut connection = server.connect()?;
    session::loading(&mut connection)?;
    Ok(connection)
}

pub(super) fn open_source(server: &Server) -> Result<Connection> {
    let mut connection = server.connect()?;
    session::reading(&mut connection)?;
    Ok(connection)
}

fn open_lanes(plan: &CopyPlan, wanted: usize) -> Result<(Connection, Vec<Lane>, Option<Snapshot>)> {
    let mut walker = open_source(&plan.source)?;
    if plan.route == Route::Server {
        let lanes = (0..wanted)
            .map(|_| Ok(Lane { source: None, destination: Some(open_destination(&plan.destination)?) }));
        return Ok((walker, lanes.collect::<Result<_>>()?, None));
    }
    let mut sources = (0..wanted).map(|_| open_source(&plan.source)).collect::<Result<Vec<_>>>()?;
    let mut snapshot = None;
    if plan.snapshot {
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
        let mut locker = open_source(&plan.source)?;
        let mut readers: Vec<_> = std::iter::once(&mut walker).chain(&mut sources).collect();
        let opened = session::share_snapshot(&mut locker, &mut readers, &read)?;
        if opened == Snapshot::Single {
            // The walker reads outside the one snapshot; a bound that has moved since only makes chunks unequal in size.
            session::begin_single(&mut walker, &mut sources[0])?;
            sources.truncate(1);
        }
        snapshot = Some(opened);
    }
    let lanes = sources.into_iter().map(|source| {
        Ok(Lane { source: Some(source), destination: Some(open_destination(&plan.destination)?) })
    });
    Ok((walker, lanes.collect::<Result<_>>()?, snapshot))
}

impl Copy<'_> {
    fn tables(
        &self,
        plans: &[&TablePlan],
        walker: &mut Connection,
        control: &mut Connection,
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
        walker: &mut Connection,
        control: &mut Connection,
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
            control.execute(&format!(
                "TRUNCATE TABLE {}",
                qualified(&plan.destination_schema, &plan.destination_table)
            ))?;
            if self.plan.journal {
                control.execute(&Journal::new(&plan.destination_schema).forget(&plan.destination_table))?;
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
        walker: &mut Connection,
        lanes: &mut [Lane],
    ) -> Result<CompareSummary> {
        let mut probe = open_source(&self.plan.destination)?;
        let mut both = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let Some(source) = lane.source.as_mut() else {
                return Err(
                    Kind::Plan("only what came through the river is compared by its copy".into()).into()
                );
            };
            both.push(CompareLane { source, destination: open_source(&self.plan.destination)? });
        }
        let comparison = &Comparison {
            chunk_bytes: self.plan.throttle.piece(comparison.chunk_bytes),
            ..comparison.clone()
        };
        compare_with(comparison, self.progress, walker, &mut probe, &mut both)
    }

    fn begin_table(
        &self,
        plan: &TablePlan,
        walker: &mut Connection,
        control: &mut Connection,
    ) -> Result<Arc<TableJob>> {
        let walk = Walk::new(
            walker,
            WalkOf {
                schema: &plan.source_schema,
                table: &plan.source_table,
                key: &plan.key,
                index: plan.index.as_deref(),
                filter: plan.where_clause.as_deref(),
            },
        )?;
        let mut select = Vec::new();
        let mut joins = String::new();
        let mut stores = Vec::new();
        for (index, column) in plan.columns.iter().enumerate() {
            select.push(TablePlan::expression(column, self.plan.route, index)?);
            if let (ColumnKind::Pointer, Some(pointer)) = (column.kind, &column.pointer) {
                joins.push_str(&pointer.join(&column.source, index));
            }
            let store = match column.kind {
                ColumnKind::Json | ColumnKind::Pointer => Store::Json,
                ColumnKind::EnumIndex => Store::EnumIndex,
                ColumnKind::Value | ColumnKind::Text => Store::Plain,
            };
            stores.push((column.destination.as_str(), store));
        }
        let target = (plan.destination_schema.as_str(), plan.destination_table.as_str());
        let load = match self.plan.route {
            Route::River => Some(Load::new(control, target, &stores, self.infile)?),
            Route::Server => None,
        };
        let journal = self.plan.journal.then(|| Journal::new(&plan.destination_schema));
        if let Some(journal) = &journal {
            control.execute(&journal.create())?;
        }
        Ok(Arc::new(TableJob {
            plan: plan.clone(),
            walk,
            select: select.join(", "),
            joins,
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
        walker: &mut Connection,
        control: &mut Connection,
        queue: &Queue<'_, Job>,
    ) -> Result<()> {
        let fingerprint = table.plan.fingerprint();
        let mut number = 0;
        let mut rest = Chunk::default();
        if let Some(journal) = &table.journal {
            let rows = control.query(&journal.read(&table.plan.destination_table))?;
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
                rest.upper = table.walk.key_after(walker, &Chunk::default(), limit)?;
            }
        }
        let mut cuts = Cuts::default();
        loop {
            self.progress.turn()?;
            let next = cuts.next(&table.walk, walker, &rest, self.chunk_rows(table))?;
            let chunk =
                Chunk { lower: rest.lower.take(), upper: next.clone().or_else(|| rest.upper.clone()) };
            if let Some(journal) = &table.journal {
                control.execute(&journal.planned(
                    &table.plan.destination_table,
                    &fingerprint,
                    number,
                    &chunk,
                )?)?;
            }
            queue.put(Job { table: table.clone(), number, chunk, former: false })?;
            number += 1;
            if next.is_none() {
                return Ok(());
            }
            rest.lower = next;
        }
    }

    /// How many rows fill a chunk: by what was read so far, else by the server's statistics.
    fn chunk_rows(&self, table: &TableJob) -> u64 {
        let (rows, bytes) = (table.rows.load(Ordering::Relaxed), table.bytes.load(Ordering::Relaxed));
        let row_bytes =
            if rows > 0 && bytes > 0 { bytes / rows } else { table.plan.data_bytes / table.plan.rows.max(1) };
        (self.chunk_bytes / row_bytes.clamp(16, self.chunk_bytes)).clamp(1, 250_000)
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
            None => (open_destination(&self.plan.destination)?, true),
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
            None => open_source(&self.plan.source)?,
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

    /// The batch with its pointers as JSON: each takes `WIDTH` columns of the result and becomes one.
    fn convert(&self, batch: RecordBatch) -> Result<RecordBatch> {
        if self.joins.is_empty() {
            return Ok(batch);
        }
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.plan.columns.len());
        let schema = batch.schema();
        let (mut rest, mut fields) = (batch.columns(), schema.fields().iter());
        let mut converted = Vec::with_capacity(self.plan.columns.len());
        for column in &self.plan.columns {
            let width = if column.kind == ColumnKind::Pointer { WIDTH } else { 1 };
            let (taken, after) = rest.split_at(width);
            rest = after;
            // The first field of a pointer's columns names the column itself.
            let field = fields.next().ok_or_else(|| Kind::Internal("a column is missing".into()))?;
            fields.by_ref().take(width - 1).for_each(drop);
            arrays.push(match (&column.pointer, column.kind) {
                (Some(pointer), ColumnKind::Pointer) => pointer.convert(&column.source, taken)?,
                _ => taken[0].clone(),
            });
            converted.push(if width == 1 {
                field.clone()
            } else {
                Arc::new(Field::new(&column.destination, DataType::LargeBinary, true))
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
