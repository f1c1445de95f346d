//! Bringing a copy up to date: production is read once, under one snapshot, and the copy where blocks differ.
//!
//! Three sides are looked at: what production has, what the copy has, and the base, which is what the copy held when it
//! was last equal (`state`). Where production differs from the base and the copy does not, the copy takes what production
//! has. Where the copy differs from both, somebody wrote to it: a conflict.
//!
//! First everything is looked at and nothing written; then, per chunk, rows and the chunk's line of the state in one
//! transaction. The state therefore always says what this verb left in the copy, and whatever is killed, the same call
//! goes on. Where other unique keys than the walked one could be in the way, all rows that changed are taken out of a
//! table before the first of their successors is put.

mod apply;
pub(super) mod blocks;
mod foreign;
mod kept;
mod keys;
mod look;
pub(super) mod noting;
mod plan;
mod referred;
mod rows;
mod state;
mod table;
pub mod written;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use self::blocks::{Block, Cut};
pub use self::plan::{Base, OnConflict, Pointed, SyncPlan, SyncSummary, SyncTable, TableSync};
use self::rows::{Counts, Selects};
pub(super) use self::state::TABLE as STATE;
use self::state::{Line, State};
use super::compare::{Comparison, Discrepancy, Lane as Both, TableJob};
use crate::batch::digest::Digest;
use crate::convert::pointers::{Column, written};
use crate::error::{At, Error, Kind, Result};
use crate::mysql::Connection;
use crate::mysql::chunk::{Bound, Chunk};
use crate::mysql::load::Load;
use crate::mysql::session::{Snapshot, open_loader, open_reader};
use crate::mysql::walk::Walk;
use crate::river::cutter::{Cutter, Sizes};
use crate::river::read::Bounds;
use crate::river::sink::Piece;
use crate::river::source::Readers;
use crate::river::spare::spare;
use crate::river::steady::Steady;
use crate::run::lanes::{Queue, run};
use crate::run::memory::LargeRows;
use crate::run::progress::Progress;

/// Changes with the rules by which blocks and hashes are made.
pub(super) const RULES: u32 = 1;

/// A range whose rows differ, and what both sides hold there.
#[derive(Debug, Clone)]
struct Dirty {
    range: Chunk,
    source: Digest,
    copy: Digest,
    /// What the copy holds there once rows have been taken out, if some had to be.
    left: Arc<Mutex<Option<Digest>>>,
}

impl Dirty {
    fn new(range: Chunk, source: Digest, copy: Digest) -> Self {
        Self { range, source, copy, left: Arc::default() }
    }

    fn left(&self) -> Result<MutexGuard<'_, Option<Digest>>> {
        self.left.lock().map_err(|_| Kind::Internal("a lane panicked".into()).into())
    }

    /// Raises when the copy holds something else than what was judged: somebody wrote there meanwhile.
    fn prove(&self, there: Digest) -> Result<()> {
        // A COMMIT whose answer was lost has left what it was to leave.
        if there == self.copy || there == self.source || Some(there) == *self.left()? {
            return Ok(());
        }
        Err(Self::written())
    }

    fn written() -> Error {
        Kind::Mismatch(
            "somebody else wrote to the copy after it was looked at; their rows are as they wrote them, \
             and the same call again tells them apart"
                .into(),
        )
        .into()
    }
}

/// A chunk that has been looked at: what it will be.
#[derive(Debug, Clone)]
struct Looked {
    chunk: Chunk,
    /// Of production.
    blocks: Vec<Block>,
    dirty: Vec<Dirty>,
    /// The ranges around rows that are put one by one, and what they hold then: nobody else's row has come among them.
    around: Vec<(Chunk, Digest)>,
}

/// What has become of one line of the state, or of a chunk that has none: several if it has grown.
struct Found {
    line: Option<u64>,
    parts: Vec<Looked>,
}

#[derive(Default)]
struct Findings {
    chunks: Vec<Found>,
    source: Digest,
    rows_read: u64,
    copy_rows_read: u64,
    conflicts: Vec<Discrepancy>,
    truncated: bool,
    referred: BTreeSet<String>,
    counts: Counts,
}

struct Table {
    plan: SyncTable,
    sides: TableJob,
    /// The whole key in the destination.
    keyed: Walk,
    selects: Selects,
    /// What becomes of the columns on their way into the copy.
    columns: Vec<Column>,
    /// Where the key's columns are in what is read of production for blocks.
    source_select: Vec<String>,
    source_key: Vec<usize>,
    /// The same of the copy.
    copy_select: Vec<String>,
    copy_key: Vec<usize>,
    cut: Cut,
    bounds: Bounds,
    state: State,
    fingerprint: String,
    /// None: there is no base, or an empty one.
    lines: Option<Vec<Line>>,
    next: AtomicU64,
    load: Option<Load>,
    found: Mutex<Findings>,
}

/// A chunk to be looked at.
struct Look {
    table: Arc<Table>,
    line: Option<Line>,
    chunk: Chunk,
    /// The rows that a log names, where they are few.
    few: Option<Vec<Bound>>,
}

/// A chunk to be put right, under the number of its line.
struct Apply {
    table: Arc<Table>,
    number: u64,
    looked: Looked,
    /// Rows are only taken out.
    removes: bool,
}

struct Lane {
    both: Both,
    loader: Option<Connection>,
}

struct Run<'a> {
    plan: &'a SyncPlan,
    progress: &'a Progress,
    comparison: Comparison,
    bounds: Bounds,
}

/// Brings the tables of the plan up to date. `files` is called before rows are written, if any are to be, and told what
/// they point to.
pub fn sync(
    plan: &SyncPlan,
    progress: &Progress,
    mut files: impl FnMut(&[Pointed]) -> Result<()>,
) -> Result<SyncSummary> {
    let begun = Instant::now();
    spare(&plan.source, &plan.throttle, progress)?;
    let mut control = Steady::open(&plan.destination, open_loader)?;
    let mut probe = Steady::open(&plan.destination, open_reader)?;
    let wanted = plan.lanes.max(1);
    let mut readers = if plan.held {
        Readers::held(&plan.source, wanted, plan.read(), progress)?
    } else {
        Readers::at_one_instant(&plan.source, wanted, plan.read(), progress, |_| ())?
    };
    let mut lanes = Vec::with_capacity(readers.lanes.len());
    for source in readers.lanes.drain(..) {
        let destination = Steady::open(&plan.destination, open_reader)?;
        lanes.push(Lane { both: Both { source, destination }, loader: None });
    }
    // What was committed before the snapshot is in the logs by now.
    let plan = &plan.asked(progress)?;
    let run = Run {
        plan,
        progress,
        comparison: Comparison {
            chunk_bytes: plan.throttle.piece(plan.chunk_bytes),
            tolerance: 0.0,
            max_discrepancies: plan.max_conflicts,
            note: false,
            memory_bytes: plan.memory_bytes,
            tables: Vec::new(),
        },
        bounds: Bounds {
            batch_bytes: plan
                .throttle
                .piece((plan.memory_bytes / (8 * wanted)).clamp(1 << 16, 4 << 20) as u64)
                as usize,
            large: LargeRows::of(plan.memory_bytes),
            copies: 2,
        },
    };
    let done = run.all(&mut readers.walker, &mut probe, &mut control, &mut lanes, &mut files);
    let tables = readers.judge(done)?;
    Ok(SyncSummary {
        snapshot: if readers.snapshot == Some(Snapshot::Shared) { "shared" } else { "single" },
        time_taken: begun.elapsed().as_secs_f64(),
        tables,
    })
}

impl Run<'_> {
    fn all(
        &self,
        walker: &mut Steady,
        probe: &mut Steady,
        control: &mut Steady,
        lanes: &mut [Lane],
        files: &mut dyn FnMut(&[Pointed]) -> Result<()>,
    ) -> Result<Vec<TableSync>> {
        let mut tables = Vec::with_capacity(self.plan.tables.len());
        for table in &self.plan.tables {
            self.progress.expect(table.copy.rows);
        }
        run(
            lanes,
            |queue| {
                for plan in &self.plan.tables {
                    self.progress.turn()?;
                    let place = || plan.copy.place();
                    let table = Arc::new(self.begin(plan, walker, probe, control).at(place)?);
                    tables.push(table.clone());
                    self.queue_looks(&table, walker, queue).at(place)?;
                }
                Ok(())
            },
            |lane, look: Look| {
                self.progress.at(&look.table.plan.copy.place());
                self.progress.touches(&look.table.plan.copy.destination_schema);
                self.look(lane, &look).at(|| look.table.plan.copy.place())
            },
        )?;
        for table in &tables {
            self.prove_count(table, lanes).at(|| table.plan.copy.place())?;
        }
        let ready = self.ready(&tables, lanes)?;
        if self.plan.dry_run {
            self.count(&ready, lanes)?;
        } else {
            self.tell_files(&ready, lanes, files)?;
            self.establish(&ready, control, lanes)?;
            self.apply_all(&ready, lanes, true)?;
            self.apply_all(&ready, lanes, false)?;
        }
        tables.iter().map(|table| self.summary(table)).collect()
    }

    fn queue_looks(&self, table: &Arc<Table>, walker: &mut Steady, queue: &Queue<'_, Look>) -> Result<()> {
        if let Some(lines) = &table.lines {
            for line in lines {
                let Some(few) = table.named(line, self.comparison.chunk_bytes) else {
                    table.found()?.source.rows += line.rows;
                    continue;
                };
                let chunk = line.chunk.clone();
                queue.put(Look { table: table.clone(), line: Some(line.clone()), chunk, few })?;
            }
            return Ok(());
        }
        let plan = &table.plan.compare;
        let sizes = Sizes::new(self.comparison.chunk_bytes, plan.rows, plan.data_bytes);
        let put = |_: &mut Steady, piece: Piece| {
            queue.put(Look { table: table.clone(), line: None, chunk: piece.chunk, few: None })
        };
        Cutter::new(&table.sides.source.walk).each(walker, self.progress, || sizes.rows(), put)
    }

    fn summary(&self, table: &Table) -> Result<TableSync> {
        let is_free = self.is_free(table)?;
        let mut found = table.found()?;
        let mut conflicts = std::mem::take(&mut found.conflicts);
        conflicts.sort_by(|one, other| one.key.cmp(&other.key));
        let is_clean = found.chunks.iter().all(|found| found.parts.iter().all(|part| part.dirty.is_empty()));
        Ok(TableSync {
            source_schema: table.plan.copy.source_schema.clone(),
            source_table: table.plan.copy.source_table.clone(),
            rows: found.source.rows,
            rows_read: found.rows_read,
            copy_rows_read: found.copy_rows_read,
            // Rows that were taken out before their successors were put.
            inserted: found.counts.inserted.saturating_sub(if self.plan.dry_run || !table.plan.unique {
                0
            } else {
                found.counts.updated
            }),
            updated: found.counts.updated,
            deleted: found.counts.deleted,
            files_written: written(&table.columns),
            conflicts,
            truncated: found.truncated,
            referred: found.referred.iter().cloned().collect(),
            matches: if self.plan.dry_run { is_clean } else { is_free },
            is_whole: table.lines.is_none() && table.plan.base != Base::Empty,
            by: match (&table.plan.keys, &table.lines) {
                (Some(_), Some(_)) if !table.plan.logs.is_empty() => "log",
                _ => "digest",
            },
            unknown: table.plan.unknown.clone(),
        })
    }
}
