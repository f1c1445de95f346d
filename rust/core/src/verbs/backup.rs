//! Tables into an archive, all of one instant.

mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use self::objects::{StorePlan, objects};
use super::copy::{default_chunk_bytes, default_lanes, default_memory_bytes};
use crate::archive::journal::{Journal, Made};
use crate::archive::manifest::{
    ChunkFile, Column, FORMAT, Manifest, Snapshot as Instance, Table, Totals, VERSION, failed, folder_of, hex,
};
use crate::archive::objects::ObjectsFile;
use crate::archive::place::{Place, PlaceSpec};
use crate::archive::read::Opened;
use crate::batch::digest::Meaning;
use crate::batch::natural::{Described, Natural};
use crate::convert::AsTheyAre;
use crate::error::{At, Kind, Result};
use crate::mysql::chunk::Chunk;
use crate::mysql::names::quote;
use crate::mysql::session::Snapshot;
use crate::mysql::walk::{Walk, WalkOf};
use crate::mysql::{Connection, Server};
use crate::river::count::Counted;
use crate::river::cutter::{Cutter, Sizes};
use crate::river::flow::{Counts, Flow};
use crate::river::read::{Bounds, COPIES_OF_STORED};
use crate::river::sink::Piece;
use crate::river::sinks::chunk_file::ChunkFile as Writing;
use crate::river::sinks::digest::Summing;
use crate::river::source::{Readers, Rows};
use crate::river::spare::spare;
use crate::river::steady::Steady;
use crate::run::lanes::{Queue, run};
use crate::run::memory::LargeRows;
use crate::run::progress::Progress;
use crate::run::throttle::Limits;

/// What is backed up, and where to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupPlan {
    /// The server that is read.
    pub source: Server,
    /// A folder is made if it is not there.
    pub archive: PlaceSpec,
    /// The program and its version, for the manifest.
    pub tool: String,
    /// The schema that is backed up.
    pub schema: String,
    /// The schema's default character set.
    pub charset: String,
    /// The schema's default collation.
    pub collation: String,
    /// How many lanes work at a time, each with sessions of its own.
    #[serde(default = "default_lanes")]
    pub lanes: usize,
    /// About how many bytes a chunk has.
    #[serde(default = "default_chunk_bytes")]
    pub chunk_bytes: u64,
    /// What all lanes together may hold of rows, in bytes.
    #[serde(default = "default_memory_bytes")]
    pub memory_bytes: usize,
    /// What may be taken of production.
    #[serde(default)]
    pub throttle: Limits,
    /// The tables that are backed up.
    pub tables: Vec<BackupTable>,
    /// Written to the manifest as it is.
    #[serde(default)]
    pub programs: serde_json::Value,
    /// Stores whose objects come along.
    #[serde(default)]
    pub stores: Vec<StorePlan>,
}

/// A table that is backed up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupTable {
    /// Its name.
    pub name: String,
    /// What SHOW CREATE TABLE said.
    pub create: String,
    /// All columns in their order.
    pub columns: Vec<Column>,
    /// The primary key's columns in its order; empty if there is none.
    #[serde(default)]
    pub primary_key: Vec<String>,
    /// The columns of a unique index without NULLs, in its order; empty if there is none.
    #[serde(default)]
    pub key: Vec<String>,
    /// The name of that index.
    #[serde(default)]
    pub index: Option<String>,
    /// How many rows the server expects in it.
    #[serde(default)]
    pub rows: u64,
    /// How many bytes the server says they have.
    #[serde(default)]
    pub data_bytes: u64,
}

/// What came of a backup.
#[derive(Debug, Clone, Serialize)]
pub struct BackupSummary {
    /// How many rows, of all tables.
    pub rows: u64,
    /// Of the chunk files.
    pub bytes: u64,
    /// How many chunk files.
    pub chunks: u64,
    /// Objects of external stores.
    pub files: u64,
    /// Bytes of the objects of external stores.
    pub file_bytes: u64,
    /// Chunks of an earlier run that were still true.
    pub resumed_chunks: u64,
    /// The instant that the rows are of.
    pub snapshot: Instance,
    /// The rows of each table.
    pub tables: BTreeMap<String, u64>,
    /// How long it took, in seconds.
    pub time_taken: f64,
}

struct TableJob {
    table: Table,
    walk: Walk,
    select: String,
    natural: Natural,
    meanings: Vec<Meaning>,
    folder: String,
    plan: String,
    sizes: Sizes,
    resumed: AtomicU64,
    done: Mutex<BTreeMap<u64, ChunkFile>>,
}

/// A chunk, and what an earlier run made of it.
type Job = (Arc<TableJob>, Piece, Option<Made>);

struct Backup<'a> {
    plan: &'a BackupPlan,
    progress: &'a Progress,
    place: Place,
    journal: Journal<Chunk>,
    bounds: Bounds,
    group_bytes: usize,
}

/// Writes the tables of the plan to an archive, or goes on where a run was interrupted.
pub fn backup(plan: &BackupPlan, progress: &Progress) -> Result<BackupSummary> {
    let begun = Instant::now();
    spare(&plan.source, &plan.throttle, progress)?;
    let place = Place::open(&plan.archive)?;
    let journal = Journal::open(&place, &plan.schema, &plan.source.name())?;
    let share = plan.memory_bytes / (4 * plan.lanes.max(1));
    let backup = Backup {
        plan,
        progress,
        place,
        journal,
        bounds: Bounds {
            batch_bytes: plan.throttle.piece(share.clamp(1 << 16, 4 << 20) as u64) as usize,
            large: LargeRows::of(plan.memory_bytes),
            copies: COPIES_OF_STORED,
        },
        group_bytes: share.clamp(1 << 20, 64 << 20),
    };
    let (mut readers, instant) = readers(plan, progress)?;
    let written = write(backup, &mut readers, instant, begun);
    readers.judge(written)
}

/// Everything that is written, read over sessions that see one instant.
fn write(
    backup: Backup<'_>,
    readers: &mut Readers,
    snapshot: Instance,
    begun: Instant,
) -> Result<BackupSummary> {
    let (plan, progress) = (backup.plan, backup.progress);
    let Readers { walker, lanes, .. } = readers;
    let version = walker.ask(progress, |walker| Ok(walker.version.clone()))?;
    for table in &plan.tables {
        progress.expect(table.rows);
    }
    let mut jobs: Vec<Arc<TableJob>> = Vec::with_capacity(plan.tables.len());
    let mut taken = BTreeSet::new();
    run(
        lanes,
        |queue| {
            for table in &plan.tables {
                progress.turn()?;
                let place = || format!("{}.{}", plan.schema, table.name);
                let folder = folder_of(&table.name, &mut taken);
                let job = Arc::new(backup.begin(table, folder, walker).at(place)?);
                jobs.push(job.clone());
                backup.walk(&job, walker, queue).at(place)?;
            }
            Ok(())
        },
        |lane, (table, piece, former): Job| {
            let place = || format!("{}.{}", plan.schema, table.table.name);
            backup.work(lane, &table, &piece, former).at(place)
        },
    )?;
    let resumed = jobs.iter().map(|job| job.resumed.load(Ordering::Relaxed)).sum();
    let tables = jobs.iter().map(|job| job.finish()).collect::<Result<Vec<_>>>()?;
    for table in &tables {
        // Any lane is in the snapshot; the walker may not be.
        if let Some(reader) = lanes.first_mut() {
            let counted = Counted { schema: &plan.schema, table: &table.name, filter: None };
            reader.once(progress, |reader| counted.prove(reader, table.rows))?;
        }
    }
    let named = match lanes.first_mut() {
        Some(reader) => objects(plan, &backup.place, reader, progress)?,
        None => None,
    };
    let manifest = backup.manifest(tables, named, snapshot, version);
    let chunks = manifest.tables.iter().flat_map(|table| &table.chunks);
    backup.place.sweep(&chunks.map(|chunk| chunk.path.as_str()).collect())?;
    for folder in manifest.tables.iter().zip(&jobs).filter(|(table, _)| !table.chunks.is_empty()) {
        backup.place.settle(&folder.1.folder)?;
    }
    backup.journal.prove_alone()?;
    manifest.write(&backup.place)?;
    backup.journal.remove()?;
    Ok(BackupSummary {
        rows: manifest.totals.rows,
        bytes: manifest.totals.bytes,
        chunks: manifest.totals.chunks,
        files: manifest.totals.files,
        file_bytes: manifest.totals.file_bytes,
        resumed_chunks: resumed,
        snapshot: manifest.snapshot,
        tables: manifest.tables.iter().map(|table| (table.name.clone(), table.rows)).collect(),
        time_taken: begun.elapsed().as_secs_f64(),
    })
}

/// The readers, all in one snapshot, and where the server's log stood at that moment.
fn readers(plan: &BackupPlan, progress: &Progress) -> Result<(Readers, Instance)> {
    let mut instance = Instance::default();
    let tables = plan.tables.iter().map(|table| (plan.schema.as_str(), table.name.as_str()));
    let lanes = plan.lanes.max(1);
    let at = |asking: &mut Connection| instance = position(asking);
    let mut readers = Readers::at_one_instant(&plan.source, lanes, tables, progress, at)?;
    if readers.snapshot == Some(Snapshot::Single) {
        // What was told at an attempt that failed is of another instant.
        let time = readers
            .lanes
            .first_mut()
            .and_then(|reader| reader.once(progress, |reader| Ok(clock(reader))).ok());
        instance = Instance { time: time.flatten(), ..Instance::default() };
        instance.kind = "single".into();
    } else {
        instance.kind = "shared".into();
    }
    Ok((readers, instance))
}

fn clock(connection: &mut Connection) -> Option<String> {
    let sql = "SELECT DATE_FORMAT(UTC_TIMESTAMP(6), '%Y-%m-%dT%H:%i:%s.%fZ')";
    connection.query_value(sql).ok().flatten()
}

/// Where the binary log stands: what of it this user may see, if the server keeps one.
fn position(connection: &mut Connection) -> Instance {
    let mut instance = Instance { time: clock(connection), ..Instance::default() };
    let asked = ["SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"];
    let told = asked.into_iter().find_map(|sql| connection.query(sql).ok());
    let row = told.and_then(|rows| rows.into_iter().next()).unwrap_or_default();
    let text = |index: usize| {
        row.get(index).and_then(Option::as_ref).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    instance.binlog_file = text(0);
    instance.binlog_position = text(1).and_then(|text| text.parse().ok());
    let gtid =
        if connection.is_mariadb() { "SELECT @@gtid_binlog_pos" } else { "SELECT @@GLOBAL.gtid_executed" };
    let gtid = connection.query_value(gtid).ok().flatten();
    instance.gtid = gtid.filter(|gtid| !gtid.is_empty());
    instance
}

/// What the chunk files of a table are read by, and in which columns.
pub(super) fn natural_of(table: &Table) -> Result<Natural> {
    Natural::new(table.stored().map(|column| Described {
        name: &column.name,
        column_type: &column.column_type,
        data_type: &column.data_type,
        charset: column.charset.as_deref(),
    }))
}

/// The columns as the river has them: an ENUM as its index.
pub(super) fn select_of(table: &Table) -> String {
    let columns = table.stored().map(|column| {
        let name = quote(&column.name);
        if column.data_type == "enum" {
            format!("CAST(s.{name} AS UNSIGNED) AS {name}")
        } else {
            format!("s.{name}")
        }
    });
    columns.collect::<Vec<_>>().join(", ")
}

impl Backup<'_> {
    fn begin(&self, planned: &BackupTable, folder: String, walker: &mut Steady) -> Result<TableJob> {
        let of = WalkOf {
            schema: &self.plan.schema,
            table: &planned.name,
            key: &planned.key,
            index: planned.index.as_deref(),
            filter: None,
        };
        let walk = walker.ask(self.progress, |walker| Walk::new(walker, of))?;
        let table = Table {
            name: planned.name.clone(),
            create: planned.create.clone(),
            columns: planned.columns.clone(),
            primary_key: planned.primary_key.clone(),
            key: planned.key.clone(),
            index: planned.index.clone(),
            rows: 0,
            bytes: 0,
            digest: String::new(),
            chunks: Vec::new(),
        };
        let definition = format!("{:?}{:?}", table.columns, table.key);
        Ok(TableJob {
            select: select_of(&table),
            natural: natural_of(&table)?,
            meanings: vec![Meaning::Value; table.stored().count()],
            plan: format!("{:032x}", xxh3_128(definition.as_bytes())),
            sizes: Sizes::new(self.plan.chunk_bytes, planned.rows, planned.data_bytes),
            table,
            walk,
            folder,
            resumed: AtomicU64::new(0),
            done: Mutex::default(),
        })
    }

    /// Queues the chunks of a table: those of an earlier run, to be proved or written, then new ones from there on.
    fn walk(&self, table: &Arc<TableJob>, walker: &mut Steady, queue: &Queue<'_, Job>) -> Result<()> {
        let name = &table.table.name;
        let mut cutter = Cutter::new(&table.walk);
        let unreadable = |why: &str| failed(self.place.shown(), format!("its journal is no good: {why}"));
        for entry in self.journal.former(name, &table.plan) {
            let piece = cutter.resume(entry.number, entry.bounds, walker, self.progress, unreadable)?;
            queue.put((table.clone(), piece, entry.done))?;
        }
        cutter.each(
            walker,
            self.progress,
            || table.sizes.rows(),
            |_, piece| {
                self.journal.planned(name, &table.plan, piece.number, &piece.chunk)?;
                queue.put((table.clone(), piece, None))
            },
        )
    }

    fn work(
        &self,
        session: &mut Steady,
        table: &TableJob,
        piece: &Piece,
        former: Option<Made>,
    ) -> Result<()> {
        self.progress.at(&format!("{}.{}", self.plan.schema, table.table.name));
        let condition = table.walk.condition(&piece.chunk)?;
        let sql = format!("SELECT {} FROM {}{condition}", table.select, table.walk.from());
        let mut source = Rows::new(session, sql, self.progress);
        if let Some(Made(former)) = former
            && self.is_true(&mut source, table, piece, former.as_ref())?
        {
            table.resumed.fetch_add(1, Ordering::Relaxed);
            return table.keep(piece.number, former);
        }
        let mut sink =
            Writing::new(&self.place, &table.folder, &table.natural, &table.meanings, self.group_bytes);
        let moved = self.flow(Counts::Memory).chunk(&mut source, &mut AsTheyAre, &mut sink, piece)?;
        self.journal.done(&table.table.name, piece.number, sink.line.as_ref())?;
        table.sizes.note(moved);
        table.keep(piece.number, sink.line)
    }

    fn flow(&self, counts: Counts) -> Flow<'_> {
        Flow { progress: self.progress, bounds: &self.bounds, pays: true, counts }
    }

    /// Whether a chunk of an earlier run is what the rows are at the instant of this run, and its file is whole.
    fn is_true(
        &self,
        source: &mut Rows<'_>,
        table: &TableJob,
        piece: &Piece,
        former: Option<&ChunkFile>,
    ) -> Result<bool> {
        let mut sums = Summing::new(&table.meanings);
        let moved = self.flow(Counts::Nothing).chunk(source, &mut AsTheyAre, &mut sums, piece)?;
        let digest = sums.blocks.whole();
        let holds = match former {
            None => digest.rows == 0,
            Some(file) => {
                (file.rows, file.digest.as_str()) == (digest.rows, hex(digest.sum).as_str())
                    && Opened::open(&self.place, &file.path)
                        .and_then(|opened| opened.prove(file.bytes, &file.blake3))
                        .is_ok()
            }
        };
        if holds {
            self.progress.add(moved.rows, moved.bytes);
        }
        Ok(holds)
    }

    fn manifest(
        &self,
        tables: Vec<Table>,
        objects: Option<ObjectsFile>,
        snapshot: Instance,
        server_version: String,
    ) -> Manifest {
        let totals = Totals {
            tables: tables.len() as u64,
            rows: tables.iter().map(|table| table.rows).sum(),
            chunks: tables.iter().map(|table| table.chunks.len() as u64).sum(),
            bytes: tables.iter().map(|table| table.bytes).sum(),
            files: objects.as_ref().map_or(0, |objects| objects.rows),
            file_bytes: objects.as_ref().map_or(0, |objects| objects.file_bytes),
        };
        Manifest {
            format: FORMAT.into(),
            version: VERSION,
            tool: self.plan.tool.clone(),
            server: self.plan.source.name(),
            server_version,
            schema: self.plan.schema.clone(),
            charset: self.plan.charset.clone(),
            collation: self.plan.collation.clone(),
            snapshot,
            tables,
            programs: self.plan.programs.clone(),
            files: Vec::new(),
            objects,
            totals,
        }
    }
}

impl TableJob {
    fn keep(&self, number: u64, file: Option<ChunkFile>) -> Result<()> {
        if let Some(file) = file {
            self.done.lock().map_err(|_| Kind::Internal("a lane panicked".into()))?.insert(number, file);
        }
        Ok(())
    }

    /// The table as the manifest names it.
    fn finish(&self) -> Result<Table> {
        let done = self.done.lock().map_err(|_| Kind::Internal("a lane panicked".into()))?;
        let mut table = self.table.clone();
        table.chunks = done.values().cloned().collect();
        table.rows = table.chunks.iter().map(|chunk| chunk.rows).sum();
        table.bytes = table.chunks.iter().map(|chunk| chunk.bytes).sum();
        let digests = table.chunks.iter().map(|chunk| u128::from_str_radix(&chunk.digest, 16));
        table.digest = hex(digests.flatten().fold(0, u128::wrapping_add));
        Ok(table)
    }
}
