//! An archive into tables that are there and empty.

pub mod objects;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::backup::{natural_of, select_of};
use super::copy::{default_lanes, default_memory_bytes};
use super::steady::Steady;
use crate::archive::manifest::{ChunkFile, Manifest, Table, failed, hex};
use crate::archive::place::{Place, PlaceSpec};
use crate::archive::read::Opened;
use crate::convert::natural::Natural;
use crate::digest::{Digest, Meaning};
use crate::error::{At, Kind, Result};
use crate::mysql::chunk::{Chunk, Walk, WalkOf};
use crate::mysql::leap::Cuts;
use crate::mysql::load::{Load, Store, allows_infile};
use crate::mysql::scan::scan;
use crate::mysql::session;
use crate::mysql::types::Audience;
use crate::mysql::{Connection, Server};
use crate::run::journal::Journal;
use crate::run::lanes::{Queue, retry, run};
use crate::run::progress::Progress;

#[derive(Debug, Clone, Deserialize)]
pub struct RestorePlan {
    pub archive: PlaceSpec,
    pub destination: Server,
    /// The schema that has the tables, under their own names.
    pub schema: String,
    #[serde(default = "default_lanes")]
    pub lanes: usize,
    #[serde(default = "default_memory_bytes")]
    pub memory_bytes: usize,
}

#[derive(Debug, Clone, Serialize)]
pub struct RestoreSummary {
    pub rows: u64,
    pub bytes: u64,
    pub resumed_chunks: u64,
    pub load: &'static str,
    /// Rows that each table has now.
    pub tables: BTreeMap<String, u64>,
    pub time_taken: f64,
}

struct TableJob {
    table: Table,
    natural: Natural,
    meanings: Vec<Meaning>,
    load: Load,
    plan: String,
}

struct Job {
    table: Arc<TableJob>,
    number: u64,
    /// A run that was stopped had begun it.
    former: bool,
}

type Lane = Option<Connection>;

struct Restore<'a> {
    plan: &'a RestorePlan,
    progress: &'a Progress,
    archive: Place,
    journal: Journal,
    infile: bool,
    batch_bytes: usize,
    resumed: AtomicU64,
}

/// Loads the tables of an archive and proves that every row arrived as it was, or goes on where a run was interrupted.
pub fn restore(plan: &RestorePlan, progress: &Progress) -> Result<RestoreSummary> {
    let begun = Instant::now();
    let archive = Place::open(&plan.archive)?;
    let manifest = Manifest::read(&archive)?;
    let tables = &manifest.tables;
    let mut control = Steady::open(&plan.destination, session::open_loader)?;
    let restore = Restore {
        plan,
        progress,
        archive,
        journal: Journal::new(&plan.schema),
        infile: control.ask(progress, allows_infile)?,
        batch_bytes: (plan.memory_bytes / (4 * plan.lanes.max(1))).clamp(1 << 16, 4 << 20),
        resumed: AtomicU64::new(0),
    };
    control.execute(progress, &restore.journal.create())?;
    let mut lanes = (0..plan.lanes.max(1))
        .map(|_| session::open_loader(&plan.destination).map(Some))
        .collect::<Result<Vec<Lane>>>()?;
    for table in tables {
        progress.expect(table.rows);
    }
    let mut jobs = Vec::with_capacity(tables.len());
    run(
        &mut lanes,
        |queue| {
            for table in tables {
                progress.check()?;
                let job = Arc::new(restore.begin(table, &mut control).at(|| restore.place(&table.name))?);
                jobs.push(job.clone());
                restore.queue(&job, &mut control, queue).at(|| restore.place(&table.name))?;
            }
            Ok(())
        },
        |lane, job: Job| restore.work(lane, &job).at(|| restore.place(&job.table.table.name)),
    )?;
    restore.prove(&jobs)?;
    control.execute(progress, &restore.journal.remove())?;
    Ok(RestoreSummary {
        rows: tables.iter().map(|table| table.rows).sum(),
        bytes: tables.iter().map(|table| table.bytes).sum(),
        resumed_chunks: restore.resumed.load(Ordering::Relaxed),
        load: if restore.infile { "infile" } else { "insert" },
        tables: tables.iter().map(|table| (table.name.clone(), table.rows)).collect(),
        time_taken: begun.elapsed().as_secs_f64(),
    })
}

impl Restore<'_> {
    fn place(&self, table: &str) -> String {
        format!("{}.{table}", self.plan.schema)
    }

    fn begin(&self, table: &Table, control: &mut Steady) -> Result<TableJob> {
        let stores: Vec<_> = table
            .stored()
            .map(|column| {
                let store = match column.data_type.as_str() {
                    "json" => Store::Json,
                    "enum" => Store::EnumIndex,
                    _ => Store::Plain,
                };
                (column.name.as_str(), store)
            })
            .collect();
        let target = (self.plan.schema.as_str(), table.name.as_str());
        let load = control.ask(self.progress, |control| Load::new(control, target, &stores, self.infile))?;
        Ok(TableJob {
            natural: natural_of(table)?,
            meanings: vec![Meaning::Value; stores.len()],
            load,
            plan: format!("{:032x}", xxh3_128(format!("{:?}", table.chunks).as_bytes())),
            table: table.clone(),
        })
    }

    /// Queues the chunk files of a table that are not in it yet.
    fn queue(&self, table: &Arc<TableJob>, control: &mut Steady, queue: &Queue<'_, Job>) -> Result<()> {
        let name = &table.table.name;
        let rows = control.ask(self.progress, |control| control.query(&self.journal.read(name)))?;
        let former = self.journal.entries::<String>(&table.plan, &rows)?;
        let former: BTreeMap<_, _> = former.iter().map(|entry| (entry.number, entry.done)).collect();
        for (number, file) in (0_u64..).zip(&table.table.chunks) {
            match former.get(&number) {
                Some(true) => {
                    self.resumed.fetch_add(1, Ordering::Relaxed);
                    self.progress.add(file.rows, file.bytes);
                    continue;
                }
                Some(false) => {}
                None => {
                    let planned = self.journal.planned(name, &table.plan, number, &file.path)?;
                    control.execute(self.progress, &planned)?;
                }
            }
            let former = former.contains_key(&number);
            queue.put(Job { table: table.clone(), number, former })?;
        }
        Ok(())
    }

    fn work(&self, lane: &mut Lane, job: &Job) -> Result<()> {
        let name = &job.table.table.name;
        self.progress.at(&self.place(name));
        let file = job
            .table
            .table
            .chunks
            .get(job.number as usize)
            .ok_or_else(|| Kind::Internal("a chunk without a file".into()))?;
        let opened = retry(self.progress, || {
            let opened = Opened::open(&self.archive, &file.path)?;
            opened.prove(file.bytes, &file.blake3)?;
            Ok(opened)
        })?;
        retry(self.progress, || {
            let mut counted = (0, 0);
            let loaded = self.attempt(lane, job, (file, &opened), &mut counted);
            if loaded.is_err() {
                self.progress.take_back(counted.0, counted.1);
            }
            loaded
        })
    }

    /// One try at a chunk: its rows and its line in the journal, in one transaction.
    fn attempt(
        &self,
        lane: &mut Lane,
        job: &Job,
        (file, opened): (&ChunkFile, &Opened),
        counted: &mut (u64, u64),
    ) -> Result<()> {
        let name = &job.table.table.name;
        let (mut destination, is_unsure) = match lane.take() {
            Some(connection) => (connection, job.former),
            // The connection was lost, perhaps after the commit: the journal knows.
            None => (session::open_loader(&self.plan.destination)?, true),
        };
        destination.execute("START TRANSACTION")?;
        if is_unsure {
            let done = destination.query_value(&self.journal.is_done(name, job.number))?;
            if done.as_deref() == Some("1") {
                destination.execute("ROLLBACK")?;
                *lane = Some(destination);
                return Ok(());
            }
        }
        let mut load = job.table.load.clone();
        if let Err(error) = self.fill(&mut destination, job, (file, opened), &mut load, counted) {
            // A connection that can still roll back can still be used; any other is left to the next attempt.
            if !matches!(error.kind(), Kind::Lost { .. })
                && load.abandon(&mut destination).is_ok()
                && destination.execute("ROLLBACK").is_ok()
            {
                *lane = Some(destination);
            }
            return Err(error);
        }
        destination.execute(&self.journal.done(name, job.number, file.rows))?;
        destination.execute("COMMIT")?;
        *lane = Some(destination);
        Ok(())
    }

    fn fill(
        &self,
        destination: &mut Connection,
        job: &Job,
        (file, opened): (&ChunkFile, &Opened),
        load: &mut Load,
        counted: &mut (u64, u64),
    ) -> Result<()> {
        let table = &job.table;
        let mut digest = Digest::default();
        for batch in opened.chunk(file, self.batch_bytes)? {
            self.progress.check()?;
            let batch = table.natural.river(&batch?).at(|| file.path.clone())?;
            digest.add(&batch, &table.meanings)?;
            load.batch(destination, &batch)?;
            let (rows, bytes) = (batch.num_rows() as u64, batch.get_array_memory_size() as u64);
            self.progress.add(rows, bytes);
            counted.0 += rows;
            counted.1 += bytes;
        }
        if (digest.rows, hex(digest.sum)) != (file.rows, file.digest.clone()) {
            return Err(failed(&file.path, "its rows are not those of the manifest: their digest differs"));
        }
        load.finish(destination).map(drop)
    }

    /// Reads every table back and compares it with the manifest.
    fn prove(&self, jobs: &[Arc<TableJob>]) -> Result<()> {
        let server = &self.plan.destination;
        let open = || Steady::open(server, session::open_reader);
        let mut walker = open()?;
        let mut readers = (0..self.plan.lanes.max(1)).map(|_| open()).collect::<Result<Vec<_>>>()?;
        let mut proofs = Vec::with_capacity(jobs.len());
        run(
            &mut readers,
            |queue| {
                for job in jobs {
                    self.progress.check()?;
                    let proof = Arc::new(self.proof(job, &mut walker).at(|| self.place(&job.table.name))?);
                    proofs.push(proof.clone());
                    proof.walk(self, &mut walker, queue).at(|| self.place(&job.table.name))?;
                }
                Ok(())
            },
            |reader, (proof, chunk): (Arc<Proof>, Chunk)| proof.read(self, reader, &chunk),
        )?;
        for proof in proofs {
            let found = *proof.found.lock().map_err(|_| Kind::Internal("a lane panicked".into()))?;
            let table = &proof.job.table;
            if (found.rows, hex(found.sum)) == (table.rows, table.digest.clone()) {
                continue;
            }
            let message = if found.rows == table.rows {
                "its rows are not those of the archive: their digests differ".to_owned()
            } else {
                format!("it has {} rows, the archive {}", found.rows, table.rows)
            };
            return Err(Kind::Mismatch(message).into()).at(|| self.place(&table.name));
        }
        Ok(())
    }

    fn proof(&self, job: &Arc<TableJob>, walker: &mut Steady) -> Result<Proof> {
        let table = &job.table;
        let of = WalkOf {
            schema: &self.plan.schema,
            table: &table.name,
            key: &table.key,
            index: table.index.as_deref(),
            filter: None,
        };
        let walk = walker.ask(self.progress, |walker| Walk::new(walker, of))?;
        let select = select_of(table);
        Ok(Proof { job: job.clone(), walk, select, found: Mutex::default() })
    }
}

/// A table that is read back.
struct Proof {
    job: Arc<TableJob>,
    walk: Walk,
    select: String,
    found: Mutex<Digest>,
}

impl Proof {
    fn walk(
        self: &Arc<Self>,
        restore: &Restore<'_>,
        walker: &mut Steady,
        queue: &Queue<'_, (Arc<Self>, Chunk)>,
    ) -> Result<()> {
        let table = &self.job.table;
        // As many rows as the chunk files have on the average, which were cut by size.
        let rows = (table.rows / (table.chunks.len() as u64).max(1)).max(1);
        let mut rest = Chunk::default();
        let mut cuts = Cuts::default();
        loop {
            restore.progress.check()?;
            let next = walker.ask(restore.progress, |walker| cuts.next(&self.walk, walker, &rest, rows))?;
            queue.put((self.clone(), Chunk { lower: rest.lower.take(), upper: next.clone() }))?;
            if next.is_none() {
                return Ok(());
            }
            rest.lower = next;
        }
    }

    fn read(&self, restore: &Restore<'_>, reader: &mut Steady, chunk: &Chunk) -> Result<()> {
        let sql = format!("SELECT {} FROM {}{}", self.select, self.walk.from(), self.walk.condition(chunk)?);
        let read = reader.ask(restore.progress, |reader| {
            let mut digest = Digest::default();
            scan(reader, &sql, Audience::River, restore.batch_bytes, &mut |batch, _| {
                restore.progress.check()?;
                digest.add(&batch, &self.job.meanings)
            })?;
            Ok(digest)
        });
        let digest = read.at(|| restore.place(&self.job.table.name))?;
        let mut found = self.found.lock().map_err(|_| Kind::Internal("a lane panicked".into()))?;
        found.rows += digest.rows;
        found.sum = found.sum.wrapping_add(digest.sum);
        Ok(())
    }
}
