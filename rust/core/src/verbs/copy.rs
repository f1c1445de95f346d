//! Copying tables: inside one server by `INSERT … SELECT`, or through us as record batches.

mod plan;
mod shelf;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

pub use self::plan::{
    ColumnKind, ColumnPlan, CopyPlan, CopySummary, CountedBy, LoadBy, Part, Route, TablePlan, TableSummary,
};
pub(super) use self::plan::{default_chunk_bytes, default_lanes, default_memory_bytes};
use self::shelf::Shelf;
use super::compare::{CompareSummary, Comparison, Lane as CompareLane, RowCounts, compare_with};
use super::sync::noting::Noting;
use crate::convert::pointers::{Column, Pointers, written};
use crate::error::{At, Kind, Result};
use crate::mysql::chunk::Chunk;
use crate::mysql::journal::Journal;
use crate::mysql::load::{Load, allows_infile};
use crate::mysql::names::{qualified, quote};
use crate::mysql::session::{Snapshot, open_loader, open_reader};
use crate::mysql::walk::{Walk, WalkOf};
use crate::river::count::Counted;
use crate::river::cutter::{Cutter, FEWEST_ROWS, Sizes};
use crate::river::flow::{Counts, Flow};
use crate::river::read::Bounds;
use crate::river::sink::{Moved, Piece};
use crate::river::sinks::rows::{Rows as Loading, Transaction, Writer};
use crate::river::source::{Readers, Rows};
use crate::river::spare::spare;
use crate::river::steady::Steady;
use crate::run::lanes::{Queue, run};
use crate::run::memory::LargeRows;
use crate::run::progress::Progress;

/// What a pointer takes as JSON.
const JSON_BYTES: u64 = 160;
/// A chunk inside a server is no more than the server does in this time: until it has ended nobody is told of its rows, and
/// whoever stops the run waits for it.
const CHUNK_SECONDS: u64 = 2;

/// A table that is being copied.
struct TableJob {
    plan: TablePlan,
    walk: Walk,
    select: String,
    joins: String,
    columns: Vec<Column>,
    load: Option<Load>,
    journal: Option<Journal>,
    sizes: Sizes,
    chunks: AtomicU64,
    resumed: AtomicU64,
    /// When its first chunk was begun: before that it waits for others.
    begun: OnceLock<Instant>,
    millis: AtomicU64,
    /// What its chunks took, of all lanes together.
    busy_millis: AtomicU64,
}

/// A chunk of it.
type Job = (Arc<TableJob>, Piece);

/// The sessions of one lane.
struct Lane {
    /// Nothing where the server copies by itself.
    source: Option<Steady>,
    destination: Writer,
}

/// Everything the planner and the lanes share.
struct Copy<'a> {
    plan: &'a CopyPlan,
    progress: &'a Progress,
    snapshot: Option<Snapshot>,
    shelf: Mutex<Shelf>,
    infile: bool,
    bounds: Bounds,
    chunk_bytes: u64,
}

/// Copies the tables of the plan.
pub fn copy(plan: &CopyPlan, progress: &Progress) -> Result<CopySummary> {
    let begun = Instant::now();
    if let Some(seconds) = plan.patience_seconds {
        progress.wait_for(Duration::from_secs(seconds));
    }
    spare(&plan.source, &plan.throttle, progress)?;
    let mut control = Steady::open(&plan.destination, open_loader)?;
    let infile = match plan.load {
        LoadBy::Auto => plan.route == Route::River && control.ask(progress, allows_infile)?,
        LoadBy::Infile => true,
        LoadBy::Insert => false,
    };
    let wanted = plan.lanes.max(1);
    let mut readers = readers(plan, wanted, progress)?;
    let snapshot = readers.snapshot;
    let mut lanes = lanes(plan, wanted, &mut readers)?;
    let copy = Copy {
        plan,
        progress,
        snapshot,
        shelf: Mutex::new(Shelf::new(plan.memory_bytes / 4)),
        infile,
        bounds: Bounds {
            batch_bytes: plan
                .throttle
                .piece((plan.memory_bytes / (4 * wanted)).clamp(1 << 16, 4 << 20) as u64)
                as usize,
            large: LargeRows::of(plan.memory_bytes),
            copies: 1,
        },
        chunk_bytes: plan.throttle.piece(plan.chunk_bytes),
    };
    for table in &plan.tables {
        progress.expect(table.limit.map_or(table.rows, |limit| limit.min(table.rows)));
    }
    let all: Vec<_> = plan.tables.iter().collect();
    let walker = &mut readers.walker;
    let copied = copy.tables(&all, walker, &mut control, &mut lanes).and_then(|mut tables| {
        let compared = match &plan.compare {
            Some(comparison) => {
                Some(copy.prove(comparison, &mut tables, walker, &mut control, &mut lanes)?)
            }
            None => None,
        };
        Ok((tables, compared))
    });
    let (tables, compared) = readers.judge(copied)?;
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
            // Nobody has looked whether an earlier run's chunks are as they are now.
            Some(_) if compared.is_none() && tables.iter().any(|table| table.resumed_chunks > 0) => "several",
            Some(Snapshot::Shared) => "shared",
            Some(Snapshot::Single) => "single",
            None => "none",
        },
        load: (plan.route == Route::River).then_some(if infile { "infile" } else { "insert" }),
        tables,
        compared,
    })
}

fn readers(plan: &CopyPlan, wanted: usize, progress: &Progress) -> Result<Readers> {
    if plan.route == Route::Server || !plan.snapshot {
        return Readers::steady(&plan.source, if plan.route == Route::Server { 0 } else { wanted });
    }
    let tables = plan.tables.iter().map(|table| (table.source_schema.as_str(), table.source_table.as_str()));
    let pointers =
        plan.tables.iter().flat_map(|table| &table.columns).filter_map(|column| column.pointer.as_ref());
    let tracking =
        pointers.map(|pointer| (pointer.tracking_schema.as_str(), pointer.tracking_table.as_str()));
    Readers::at_one_instant(&plan.source, wanted, tables.chain(tracking), progress, |_| ())
}

/// A writer for each reader; the server alone needs none of these.
fn lanes(plan: &CopyPlan, wanted: usize, readers: &mut Readers) -> Result<Vec<Lane>> {
    let sources: Vec<_> = match plan.route {
        Route::Server => (0..wanted).map(|_| None).collect(),
        Route::River => readers.lanes.drain(..).map(Some).collect(),
    };
    let lane = |source| Ok(Lane { source, destination: Writer::open(&plan.destination)? });
    sources.into_iter().map(lane).collect()
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
            |lane, (table, piece): Job| self.work(lane, &table, &piece).at(|| table.plan.place()),
        )?;
        let mut tables: Vec<_> = jobs.iter().map(|job| job.summary()).collect();
        for (job, table) in jobs.iter().zip(&mut tables) {
            table.rows_counted =
                self.count(&job.plan, table, walker, control, lanes).at(|| job.plan.place())?;
        }
        Ok(tables)
    }

    /// Counts the rows of a table that this run copied from its beginning; under the snapshot, and in a destination that
    /// has all of them, they must be as many as were copied.
    fn count(
        &self,
        plan: &TablePlan,
        copied: &TableSummary,
        walker: &mut Steady,
        control: &mut Steady,
        lanes: &mut [Lane],
    ) -> Result<Option<u64>> {
        let is_part = copied.resumed_chunks > 0 || plan.limit.is_some() || self.plan.part != Part::All;
        if is_part || self.plan.counted_by == CountedBy::Comparison {
            return Ok(None);
        }
        let rows = copied.rows_copied;
        let filter = plan.where_clause.as_deref();
        let source = Counted { schema: &plan.source_schema, table: &plan.source_table, filter };
        let counted = match (self.snapshot, lanes.iter_mut().find_map(|lane| lane.source.as_mut())) {
            (Some(_), Some(reader)) => {
                reader.once(self.progress, |reader| source.prove(reader, rows))?;
                rows
            }
            _ => walker.ask(self.progress, |walker| source.count(walker))?,
        };
        // A comparison counts it, too.
        let is_compared = self.plan.compare.as_ref().is_some_and(|one| one.has(plan.destination()));
        if filter.is_none() && self.plan.journal && !is_compared {
            let (schema, table) = plan.destination();
            let destination = Counted { schema, table, filter: None };
            control.ask(self.progress, |control| destination.prove(control, rows))?;
        }
        Ok(Some(counted))
    }

    /// Compares what was copied with the instant it was copied from.
    ///
    /// Chunks that an earlier run had copied, or one inside the server, are of an earlier instant: tables that are not
    /// proved to be as they are at this one are copied once more, so that all of the copy is of this instant.
    fn prove(
        &self,
        comparison: &Comparison,
        tables: &mut [TableSummary],
        walker: &mut Steady,
        control: &mut Steady,
        lanes: &mut [Lane],
    ) -> Result<CompareSummary> {
        self.progress.begin_stage("compare");
        let mut compared = self.compare(comparison, tables, walker, lanes)?;
        let stale: Vec<usize> = (0..tables.len())
            .filter(|&index| {
                tables[index].resumed_chunks > 0 && !compared.proves(&tables[index].destination())
            })
            .collect();
        if stale.is_empty() {
            return Ok(compared);
        }
        let plans: Vec<_> = stale.iter().map(|&index| &self.plan.tables[index]).collect();
        for plan in &plans {
            let journal = self.plan.journal.then(|| Journal::new(&plan.destination_schema));
            self.empty(plan, journal.as_ref(), control)?;
        }
        self.progress.begin_stage("copy");
        for plan in &plans {
            self.progress.expect(plan.rows);
        }
        for (mut summary, index) in self.tables(&plans, walker, control, lanes)?.into_iter().zip(stale) {
            summary.files_written += tables[index].files_written;
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
        self.progress.begin_stage("compare");
        compared.replace(self.compare(&again, tables, walker, lanes)?);
        Ok(compared)
    }

    /// Takes the rows out of a destination, and the table out of the journal; killed in between, it is done again.
    fn empty(&self, plan: &TablePlan, journal: Option<&Journal>, control: &mut Steady) -> Result<()> {
        if let Some(journal) = journal {
            control.execute(self.progress, &journal.emptying(&plan.destination_table))?;
        }
        let table = qualified(&plan.destination_schema, &plan.destination_table);
        control.execute(self.progress, &format!("TRUNCATE TABLE {table}"))?;
        if let Some(journal) = journal {
            control.execute(self.progress, &journal.forget(&plan.destination_table))?;
        }
        Ok(())
    }

    fn compare(
        &self,
        comparison: &Comparison,
        copied: &[TableSummary],
        walker: &mut Steady,
        lanes: &mut [Lane],
    ) -> Result<CompareSummary> {
        let mut probe = Steady::open(&self.plan.destination, open_reader)?;
        let mut both = Vec::with_capacity(lanes.len());
        for lane in lanes.iter_mut() {
            let source = lane.source.take().ok_or_else(|| {
                Kind::Plan("only what came through the river is compared by its copy".into())
            })?;
            both.push(CompareLane { source, destination: lane.destination.into_reader()? });
        }
        let comparison = &Comparison {
            chunk_bytes: self.plan.throttle.piece(comparison.chunk_bytes),
            memory_bytes: self.plan.memory_bytes,
            ..comparison.clone()
        };
        let counted = copied.iter().filter_map(|table| Some((table.destination(), table.rows_counted?)));
        let held = self.snapshot.map(|_| counted.collect::<RowCounts<'_>>());
        let noting = if comparison.note {
            Some(Noting::new(Steady::open(&self.plan.destination, open_loader)?))
        } else {
            None
        };
        let compared = compare_with(
            comparison,
            self.progress,
            walker,
            &mut probe,
            &mut both,
            held.as_ref(),
            noting.as_ref(),
        );
        for (lane, both) in lanes.iter_mut().zip(both) {
            lane.source = Some(both.source);
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
        let columns = plan.columns_made(|pointer| self.tracked(plan, pointer, walker))?;
        let mut select = Vec::with_capacity(columns.len());
        let mut joins = String::new();
        for (index, (planned, column)) in plan.columns.iter().zip(&columns).enumerate() {
            if let (Some(pointer), None) = (&column.pointer, &column.tracked) {
                joins.push_str(&pointer.join(&column.source, index));
            }
            select.push(TablePlan::expression(planned, self.plan.route, index, column.tracked.is_some())?);
        }
        let stores = plan.stores();
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
            columns,
            load,
            journal,
            sizes: Sizes::new(self.chunk_bytes, plan.rows, plan.data_bytes).shared_by(self.plan.lanes),
            chunks: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            begun: OnceLock::new(),
            millis: AtomicU64::new(0),
            busy_millis: AtomicU64::new(0),
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
        if let Part::Chunks(numbers) = &self.plan.part {
            return self.queue_part(table, &fingerprint, numbers, walker, control, queue);
        }
        let copies = self.plan.part != Part::Cut;
        let mut cutter = Cutter::new(&table.walk);
        if let Some(journal) = &table.journal {
            let read = journal.read(&table.plan.destination_table);
            let mut rows = control.ask(self.progress, |control| control.query(&read))?;
            if Journal::is_emptying(&rows) {
                self.empty(&table.plan, Some(journal), control)?;
                rows.clear();
            }
            for entry in journal.entries::<Chunk>(&fingerprint, &rows)? {
                let unreadable = |why: &str| journal.unreadable(why);
                let piece = cutter.resume(entry.number, entry.chunk, walker, self.progress, unreadable)?;
                if entry.done {
                    table.resumed.fetch_add(1, Ordering::Relaxed);
                } else if copies {
                    queue.put((table.clone(), piece))?;
                }
            }
            if cutter.is_done() {
                return Ok(());
            }
        }
        if let Some(limit) = table.plan.limit {
            if limit == 0 {
                return Ok(());
            }
            if table.walk.has_key() {
                cutter.end_before(
                    walker.ask(self.progress, |walker| {
                        table.walk.key_after(walker, &Chunk::default(), limit)
                    })?,
                );
            }
        }
        cutter.each(
            walker,
            self.progress,
            || self.chunk_rows(table),
            |_, piece| {
                if let Some(journal) = &table.journal {
                    let name = &table.plan.destination_table;
                    let planned = journal.planned(name, &fingerprint, piece.number, &piece.chunk)?;
                    control.execute(self.progress, &planned)?;
                }
                if copies { queue.put((table.clone(), piece)) } else { Ok(()) }
            },
        )
    }

    /// Queues chunks that somebody else has cut, and that others may be at.
    fn queue_part(
        &self,
        table: &Arc<TableJob>,
        fingerprint: &str,
        numbers: &[u64],
        walker: &mut Steady,
        control: &mut Steady,
        queue: &Queue<'_, Job>,
    ) -> Result<()> {
        let Some(journal) = &table.journal else {
            return Err(Kind::Plan("a part of a copy needs its journal".into()).into());
        };
        let read = journal.read_some(&table.plan.destination_table, numbers);
        let rows = control.ask(self.progress, |control| control.query(&read))?;
        for entry in journal.some::<Chunk>(fingerprint, &rows)? {
            if entry.done {
                continue;
            }
            if let (Some(lower), Some(upper)) = (&entry.chunk.lower, &entry.chunk.upper) {
                let proved = walker.ask(self.progress, |walker| table.walk.prove_order(walker, lower, upper));
                proved.map_err(|error| match error.kind() {
                    Kind::Stuck { .. } => journal.unreadable(&error.to_string()),
                    _ => error,
                })?;
            }
            let piece = Piece { number: entry.number, chunk: entry.chunk, former: true };
            queue.put((table.clone(), piece))?;
        }
        Ok(())
    }

    /// How many rows fill a chunk: by what was read so far, else by the server's statistics.
    fn chunk_rows(&self, table: &TableJob) -> u64 {
        let pointers = table.columns.iter().filter(|column| column.pointer.is_some()).count() as u64;
        let (rows, _) = table.sizes.noted();
        let most = match (self.plan.route, table.busy_millis.load(Ordering::Relaxed)) {
            (Route::River, _) => u64::MAX,
            (Route::Server, 0) => FEWEST_ROWS,
            (Route::Server, millis) => (rows * CHUNK_SECONDS * 1000 / millis).max(FEWEST_ROWS / 10),
        };
        table.sizes.rows_with(pointers * JSON_BYTES).min(most)
    }

    fn work(&self, lane: &mut Lane, table: &TableJob, piece: &Piece) -> Result<()> {
        self.progress.at(&table.plan.place());
        self.progress.touches(&table.plan.destination_schema);
        let journal = table.journal.as_ref().map(|journal| (journal, table.plan.destination_table.as_str()));
        let flow = Flow { progress: self.progress, bounds: &self.bounds, pays: true, counts: Counts::Memory };
        let begun = Instant::now();
        let first = *table.begun.get_or_init(|| begun);
        let moved = match (&table.load, &mut lane.source) {
            (None, _) => {
                let insert = table.insert_select(&piece.chunk)?;
                let row_bytes = table.sizes.expected();
                let mut transaction = Transaction::new(&mut lane.destination, journal, self.progress);
                flow.within(&mut transaction, piece, |transaction| {
                    let rows = transaction.say(|connection| connection.execute(&insert))?.affected_rows;
                    Ok(Moved { rows, bytes: rows * row_bytes, read: rows * row_bytes, largest: 0 })
                })?
            }
            (Some(load), Some(source)) => {
                let mut source = Rows::new(source, table.select(&piece.chunk)?, self.progress);
                let mut sink = Loading::new(&mut lane.destination, load, journal, self.progress);
                flow.chunk(&mut source, &mut Pointers(&table.columns), &mut sink, piece)?
            }
            (Some(_), None) => return Err(Kind::Internal("a river without a source".into()).into()),
        };
        table.sizes.note(moved);
        table.chunks.fetch_add(1, Ordering::Relaxed);
        table.busy_millis.fetch_add(begun.elapsed().as_millis() as u64, Ordering::Relaxed);
        table.millis.fetch_max(first.elapsed().as_millis() as u64, Ordering::Relaxed);
        Ok(())
    }
}

impl TableJob {
    fn select(&self, chunk: &Chunk) -> Result<String> {
        let limit = match self.plan.limit {
            Some(limit) if !self.walk.has_key() => format!(" LIMIT {limit}"),
            _ => String::new(),
        };
        let columns: Vec<_> = self.plan.columns.iter().map(|column| column.source.as_str()).collect();
        let from = self.walk.joined(chunk, &self.joins, &columns)?;
        Ok(format!("SELECT {} FROM {from}{limit}", self.select))
    }

    fn insert_select(&self, chunk: &Chunk) -> Result<String> {
        let columns: Vec<_> = self.plan.columns.iter().map(|column| quote(&column.destination)).collect();
        let table = qualified(&self.plan.destination_schema, &self.plan.destination_table);
        Ok(format!("INSERT INTO {table} ({}) {}", columns.join(", "), self.select(chunk)?))
    }

    fn summary(&self) -> TableSummary {
        let (rows_copied, bytes) = self.sizes.noted();
        TableSummary {
            destination_schema: self.plan.destination_schema.clone(),
            destination_table: self.plan.destination_table.clone(),
            rows_copied,
            rows_counted: None,
            bytes,
            files_written: written(&self.columns),
            chunks: self.chunks.load(Ordering::Relaxed),
            resumed_chunks: self.resumed.load(Ordering::Relaxed),
            time_taken: self.millis.load(Ordering::Relaxed) as f64 / 1000.0,
        }
    }
}
