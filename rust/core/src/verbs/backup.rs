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
use super::throttle::spare;
use crate::archive::journal::{Journal, Made};
use crate::archive::manifest::{
    ChunkFile, Column, FORMAT, Manifest, Snapshot as Instance, StoredFile, Table, Totals, VERSION, folder_of,
    hex,
};
use crate::archive::place::{Place, PlaceSpec};
use crate::archive::read::Opened;
use crate::archive::write::ChunkWriter;
use crate::convert::natural::{Described, Natural};
use crate::digest::{Digest, Meaning};
use crate::error::{At, Error, Kind, Result};
use crate::mysql::chunk::{Chunk, Walk, WalkOf};
use crate::mysql::leap::Cuts;
use crate::mysql::names::quote;
use crate::mysql::scan::scan;
use crate::mysql::session::{self, Snapshot};
use crate::mysql::types::Audience;
use crate::mysql::{Connection, Server};
use crate::run::lanes::{Queue, retry, run};
use crate::run::progress::Progress;
use crate::run::throttle::Limits;

#[derive(Debug, Clone, Deserialize)]
pub struct BackupPlan {
    pub source: Server,
    /// A folder is made if it is not there.
    pub archive: PlaceSpec,
    pub tool: String,
    pub schema: String,
    pub charset: String,
    pub collation: String,
    #[serde(default = "default_lanes")]
    pub lanes: usize,
    #[serde(default = "default_chunk_bytes")]
    pub chunk_bytes: u64,
    #[serde(default = "default_memory_bytes")]
    pub memory_bytes: usize,
    #[serde(default)]
    pub throttle: Limits,
    pub tables: Vec<BackupTable>,
    /// Written to the manifest as it is.
    #[serde(default)]
    pub programs: serde_json::Value,
    /// Stores whose objects come along.
    #[serde(default)]
    pub stores: Vec<StorePlan>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct BackupTable {
    pub name: String,
    pub create: String,
    pub columns: Vec<Column>,
    #[serde(default)]
    pub primary_key: Vec<String>,
    #[serde(default)]
    pub key: Vec<String>,
    #[serde(default)]
    pub index: Option<String>,
    #[serde(default)]
    pub rows: u64,
    #[serde(default)]
    pub data_bytes: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct BackupSummary {
    pub rows: u64,
    /// Of the chunk files.
    pub bytes: u64,
    pub chunks: u64,
    /// Objects of external stores.
    pub files: u64,
    pub file_bytes: u64,
    /// Chunks of an earlier run that were still true.
    pub resumed_chunks: u64,
    pub snapshot: Instance,
    pub tables: BTreeMap<String, u64>,
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
    estimate: (u64, u64),
    rows: AtomicU64,
    bytes: AtomicU64,
    resumed: AtomicU64,
    done: Mutex<BTreeMap<u64, ChunkFile>>,
}

struct Job {
    table: Arc<TableJob>,
    number: u64,
    chunk: Chunk,
    /// What an earlier run made of this chunk.
    former: Option<Made>,
}

struct Backup<'a> {
    plan: &'a BackupPlan,
    progress: &'a Progress,
    place: Place,
    journal: Journal<Chunk>,
    batch_bytes: usize,
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
        batch_bytes: plan.throttle.piece(share.clamp(1 << 16, 4 << 20) as u64) as usize,
        group_bytes: share.clamp(1 << 20, 64 << 20),
    };
    let (mut walker, mut lanes, snapshot) = open_lanes(plan)?;
    for table in &plan.tables {
        progress.expect(table.rows);
    }
    let mut jobs: Vec<Arc<TableJob>> = Vec::with_capacity(plan.tables.len());
    let mut taken = BTreeSet::new();
    run(
        &mut lanes,
        |queue| {
            for table in &plan.tables {
                progress.turn()?;
                let place = || format!("{}.{}", plan.schema, table.name);
                let folder = folder_of(&table.name, &mut taken);
                let job = Arc::new(backup.begin(table, folder, &mut walker).at(place)?);
                jobs.push(job.clone());
                backup.walk(&job, &mut walker, queue).at(place)?;
            }
            Ok(())
        },
        |lane, job: Job| backup.work(lane, &job).at(|| format!("{}.{}", plan.schema, job.table.table.name)),
    )?;
    let resumed = jobs.iter().map(|job| job.resumed.load(Ordering::Relaxed)).sum();
    let tables = jobs.iter().map(|job| job.finish()).collect::<Result<Vec<_>>>()?;
    // Any lane is in the snapshot; the walker may not be.
    let files = match lanes.iter_mut().flatten().next() {
        Some(reader) => objects(plan, &backup.place, reader, progress)?,
        None => Vec::new(),
    };
    let manifest = backup.manifest(tables, files, snapshot, &walker);
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

/// The walker and a reader for each lane, all in one snapshot, and where the server's log stood at that moment.
fn open_lanes(plan: &BackupPlan) -> Result<(Connection, Vec<Option<Connection>>, Instance)> {
    let mut walker = session::open_reader(&plan.source)?;
    let mut sources =
        (0..plan.lanes.max(1)).map(|_| session::open_reader(&plan.source)).collect::<Result<Vec<_>>>()?;
    let mut locker = session::open_reader(&plan.source)?;
    let mut instance = Instance::default();
    let tables: Vec<_> =
        plan.tables.iter().map(|table| (plan.schema.as_str(), table.name.as_str())).collect();
    let mut readers: Vec<_> = std::iter::once(&mut walker).chain(&mut sources).collect();
    let opened = session::share_snapshot_and(&mut locker, &mut readers, &tables, &mut |locker| {
        instance = position(locker);
    })?;
    instance.kind = if opened == Snapshot::Single {
        session::begin_single(&mut walker, &mut sources[0])?;
        sources.truncate(1);
        instance.time = clock(&mut sources[0]);
        "single".into()
    } else {
        "shared".into()
    };
    Ok((walker, sources.into_iter().map(Some).collect(), instance))
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
    fn begin(&self, planned: &BackupTable, folder: String, walker: &mut Connection) -> Result<TableJob> {
        let walk = Walk::new(
            walker,
            WalkOf {
                schema: &self.plan.schema,
                table: &planned.name,
                key: &planned.key,
                index: planned.index.as_deref(),
                filter: None,
            },
        )?;
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
            estimate: (planned.rows, planned.data_bytes),
            table,
            walk,
            folder,
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            done: Mutex::default(),
        })
    }

    /// Queues the chunks of a table: those of an earlier run, to be proved or written, then new ones from there on.
    fn walk(&self, table: &Arc<TableJob>, walker: &mut Connection, queue: &Queue<'_, Job>) -> Result<()> {
        let name = &table.table.name;
        let mut rest = Chunk::default();
        let mut number = 0;
        for entry in self.journal.former(name, &table.plan) {
            rest.lower.clone_from(&entry.bounds.upper);
            number = entry.number + 1;
            let (chunk, former) = (entry.bounds, entry.done);
            queue.put(Job { table: table.clone(), number: entry.number, chunk, former })?;
        }
        if number > 0 && rest.lower.is_none() {
            return Ok(());
        }
        let mut cuts = Cuts::default();
        loop {
            self.progress.turn()?;
            let next = cuts.next(&table.walk, walker, &rest, self.chunk_rows(table))?;
            let chunk = Chunk { lower: rest.lower.take(), upper: next.clone() };
            self.journal.planned(name, &table.plan, number, &chunk)?;
            queue.put(Job { table: table.clone(), number, chunk, former: None })?;
            number += 1;
            if next.is_none() {
                return Ok(());
            }
            rest.lower = next;
        }
    }

    fn chunk_rows(&self, table: &TableJob) -> u64 {
        let (rows, bytes) = (table.rows.load(Ordering::Relaxed), table.bytes.load(Ordering::Relaxed));
        let (expected, data_bytes) = table.estimate;
        let row_bytes = if rows > 0 && bytes > 0 { bytes / rows } else { data_bytes / expected.max(1) };
        (self.plan.chunk_bytes / row_bytes.clamp(16, self.plan.chunk_bytes)).clamp(1, 250_000)
    }

    fn work(&self, lane: &mut Option<Connection>, job: &Job) -> Result<()> {
        let table = &job.table;
        self.progress.at(&format!("{}.{}", self.plan.schema, table.table.name));
        self.progress.turn()?;
        if let Some(Made(former)) = &job.former
            && self.is_true(lane, job, former.as_ref())?
        {
            table.resumed.fetch_add(1, Ordering::Relaxed);
            return table.keep(job.number, former.clone());
        }
        let (file, bytes) = retry(self.progress, || {
            let mut counted = (0, 0);
            let written = self.attempt(lane, job, &mut counted);
            if written.is_err() {
                self.progress.take_back(counted.0, counted.1);
            }
            written.map(|file| (file, counted.1))
        })?;
        self.journal.done(&table.table.name, job.number, file.as_ref())?;
        table.rows.fetch_add(file.as_ref().map_or(0, |file| file.rows), Ordering::Relaxed);
        table.bytes.fetch_add(bytes, Ordering::Relaxed);
        table.keep(job.number, file)
    }

    fn source(lane: &mut Option<Connection>) -> Result<&mut Connection> {
        lane.as_mut().ok_or_else(|| Kind::Internal("a lane without its snapshot".into()).into())
    }

    /// Reads the rows of a chunk; a connection that was lost is not used again.
    fn read(
        &self,
        lane: &mut Option<Connection>,
        job: &Job,
        sink: &mut dyn FnMut(arrow_array::RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let table = &job.table;
        let condition = table.walk.condition(&job.chunk)?;
        let sql = format!("SELECT {} FROM {}{condition}", table.select, table.walk.from());
        let scanned =
            scan(Self::source(lane)?, &sql, Audience::River, self.batch_bytes, &mut |batch, read| {
                self.progress.read(read)?;
                sink(batch)
            });
        if scanned.as_ref().is_err_and(|error| matches!(error.kind(), Kind::Lost { .. })) {
            *lane = None;
        }
        scanned.map(drop).map_err(Error::with_snapshot)
    }

    /// Whether a chunk of an earlier run is what the rows are at the instant of this run, and its file is whole.
    fn is_true(&self, lane: &mut Option<Connection>, job: &Job, former: Option<&ChunkFile>) -> Result<bool> {
        let mut digest = Digest::default();
        let mut bytes = 0;
        self.read(lane, job, &mut |batch| {
            bytes += batch.get_array_memory_size() as u64;
            digest.add(&batch, &job.table.meanings)
        })?;
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
            self.progress.add(digest.rows, bytes);
        }
        Ok(holds)
    }

    /// One try at a chunk: its rows into its file.
    fn attempt(
        &self,
        lane: &mut Option<Connection>,
        job: &Job,
        counted: &mut (u64, u64),
    ) -> Result<Option<ChunkFile>> {
        let table = &job.table;
        let path = format!("{}/{:06}.parquet", table.folder, job.number);
        let mut odd = BTreeSet::new();
        loop {
            let mut writer: Option<ChunkWriter> = None;
            let mut digest = Digest::default();
            let mut width = 0;
            let mut again = false;
            let read = self.read(lane, job, &mut |batch| {
                let bytes = batch.get_array_memory_size() as u64;
                let natural = table.natural.natural(&batch, &mut odd)?;
                let open = match &mut writer {
                    // The columns of a file are settled by its first batch: with one more of them it is begun anew.
                    Some(_) if natural.num_columns() != width => {
                        again = true;
                        return Err(Kind::Cancelled.into());
                    }
                    Some(open) => open,
                    None => {
                        width = natural.num_columns();
                        let place = &self.place;
                        writer.insert(ChunkWriter::create(place, &path, &natural, self.group_bytes)?)
                    }
                };
                open.batch(&natural)?;
                digest.add(&batch, &table.meanings)?;
                counted.0 += batch.num_rows() as u64;
                counted.1 += bytes;
                self.progress.add(batch.num_rows() as u64, bytes);
                Ok(())
            });
            if again {
                self.progress.take_back(counted.0, counted.1);
                *counted = (0, 0);
                continue;
            }
            read?;
            let Some(writer) = writer else { return Ok(None) };
            let written = writer.finish()?;
            return Ok(Some(ChunkFile {
                path,
                rows: digest.rows,
                bytes: written.bytes,
                blake3: written.blake3,
                digest: hex(digest.sum),
            }));
        }
    }

    fn manifest(
        &self,
        tables: Vec<Table>,
        files: Vec<StoredFile>,
        snapshot: Instance,
        walker: &Connection,
    ) -> Manifest {
        let totals = Totals {
            tables: tables.len() as u64,
            rows: tables.iter().map(|table| table.rows).sum(),
            chunks: tables.iter().map(|table| table.chunks.len() as u64).sum(),
            bytes: tables.iter().map(|table| table.bytes).sum(),
            files: files.len() as u64,
            file_bytes: files.iter().map(|file| file.bytes).sum(),
        };
        Manifest {
            format: FORMAT.into(),
            version: VERSION,
            tool: self.plan.tool.clone(),
            server: self.plan.source.name(),
            server_version: walker.version.clone(),
            schema: self.plan.schema.clone(),
            charset: self.plan.charset.clone(),
            collation: self.plan.collation.clone(),
            snapshot,
            tables,
            programs: self.plan.programs.clone(),
            files,
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
