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
use crate::archive::manifest::{Manifest, Table, hex};
use crate::archive::place::{Place, PlaceSpec};
use crate::archive::read::Opened;
use crate::batch::digest::{Digest, Meaning};
use crate::batch::natural::Natural;
use crate::convert::AsTheyAre;
use crate::error::{At, Kind, Result};
use crate::mysql::Server;
use crate::mysql::journal::Journal;
use crate::mysql::load::{Load, Store, allows_infile};
use crate::mysql::session;
use crate::mysql::walk::{Walk, WalkOf};
use crate::river::count::Counted;
use crate::river::cutter::Cutter;
use crate::river::flow::{Counts, Flow};
use crate::river::read::{Bounds, COPIES_OF_STORED};
use crate::river::sink::Piece;
use crate::river::sinks::digest::Summing;
use crate::river::sinks::rows::{Rows, Writer};
use crate::river::source::{self, Stored};
use crate::river::steady::Steady;
use crate::run::lanes::{Queue, run};
use crate::run::memory::LargeRows;
use crate::run::progress::Progress;
use crate::run::retry::retry;

/// Which archive is restored, and where to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestorePlan {
    /// Where the archive lies.
    pub archive: PlaceSpec,
    /// The server that is written.
    pub destination: Server,
    /// The schema that has the tables, under their own names.
    pub schema: String,
    /// How many lanes work at a time, each with sessions of its own.
    #[serde(default = "default_lanes")]
    pub lanes: usize,
    /// What all lanes together may hold of rows, in bytes.
    #[serde(default = "default_memory_bytes")]
    pub memory_bytes: usize,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreSummary {
    /// Rows of all tables.
    pub rows: u64,
    /// Bytes of their chunk files.
    pub bytes: u64,
    /// Chunks that an earlier call had loaded.
    pub resumed_chunks: u64,
    /// `infile` or `insert`.
    pub load: &'static str,
    /// Rows that each table has now.
    pub tables: BTreeMap<String, u64>,
    /// How long it took, in seconds.
    pub time_taken: f64,
}

struct TableJob {
    table: Table,
    natural: Natural,
    meanings: Vec<Meaning>,
    load: Load,
    plan: String,
}

type Job = (Arc<TableJob>, Piece);

struct Restore<'a> {
    plan: &'a RestorePlan,
    progress: &'a Progress,
    archive: Place,
    journal: Journal,
    infile: bool,
    bounds: Bounds,
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
        bounds: Bounds {
            batch_bytes: (plan.memory_bytes / (4 * plan.lanes.max(1))).clamp(1 << 16, 4 << 20),
            large: LargeRows::of(plan.memory_bytes),
            copies: COPIES_OF_STORED,
        },
        resumed: AtomicU64::new(0),
    };
    control.execute(progress, &restore.journal.create())?;
    let mut lanes =
        (0..plan.lanes.max(1)).map(|_| Writer::open(&plan.destination)).collect::<Result<Vec<_>>>()?;
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
        |lane, (table, piece): Job| {
            restore.work(lane, &table, &piece).at(|| restore.place(&table.table.name))
        },
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
            queue.put((table.clone(), Piece { number, former, ..Piece::default() }))?;
        }
        Ok(())
    }

    fn work(&self, lane: &mut Writer, table: &TableJob, piece: &Piece) -> Result<()> {
        let name = &table.table.name;
        self.progress.at(&self.place(name));
        let none = || Kind::Internal("a chunk without a file".into());
        let file = table.table.chunks.get(piece.number as usize).ok_or_else(none)?;
        let opened = &retry(self.progress, || {
            let opened = Opened::open(&self.archive, &file.path)?;
            opened.prove(file.bytes, &file.blake3)?;
            Ok(opened)
        })?;
        let mut source = Stored { file, opened, natural: &table.natural, meanings: &table.meanings };
        let mut sink = Rows::new(lane, &table.load, Some((&self.journal, name)), self.progress);
        self.flow(Counts::Read).chunk(&mut source, &mut AsTheyAre, &mut sink, piece).map(drop)
    }

    fn flow(&self, counts: Counts) -> Flow<'_> {
        Flow { progress: self.progress, bounds: &self.bounds, pays: false, counts }
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
            |reader, (proof, piece): (Arc<Proof>, Piece)| proof.read(self, reader, &piece),
        )?;
        for proof in proofs {
            let found = *proof.found.lock().map_err(|_| Kind::Internal("a lane panicked".into()))?;
            let table = &proof.job.table;
            if (found.rows, hex(found.sum)) == (table.rows, table.digest.clone()) {
                let counted = Counted { schema: &self.plan.schema, table: &table.name, filter: None };
                walker.ask(self.progress, |walker| counted.prove(walker, table.rows))?;
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
        queue: &Queue<'_, (Arc<Self>, Piece)>,
    ) -> Result<()> {
        let table = &self.job.table;
        // As many rows as the chunk files have on the average, which were cut by size.
        let rows = (table.rows / (table.chunks.len() as u64).max(1)).max(1);
        let put = |_: &mut Steady, piece| queue.put((self.clone(), piece));
        Cutter::new(&self.walk).each(walker, restore.progress, || rows, put)
    }

    fn read(&self, restore: &Restore<'_>, reader: &mut Steady, piece: &Piece) -> Result<()> {
        let within = self.walk.condition(&piece.chunk)?;
        let sql = format!("SELECT {} FROM {}{within}", self.select, self.walk.from());
        let mut sums = Summing::new(&self.job.meanings);
        let mut source = source::Rows::new(reader, sql, restore.progress);
        let read = restore.flow(Counts::Nothing).chunk(&mut source, &mut AsTheyAre, &mut sums, piece);
        read.at(|| restore.place(&self.job.table.name))?;
        let mut found = self.found.lock().map_err(|_| Kind::Internal("a lane panicked".into()))?;
        found.merge(sums.blocks.whole());
        Ok(())
    }
}
