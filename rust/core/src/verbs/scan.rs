//! Reading a table as a stream of record batches, for the user.

use std::sync::Arc;
use std::thread::JoinHandle;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use crossbeam_channel::{Receiver, bounded};
use serde::Deserialize;

use super::copy::{default_chunk_bytes, default_lanes};
use crate::error::{At, Kind, Result};
use crate::mysql::chunk::{Chunk, Walk, WalkOf};
use crate::mysql::leap::Cuts;
use crate::mysql::names::quote;
use crate::mysql::scan::{scan as scan_rows, schema_of};
use crate::mysql::session::{self, Snapshot};
use crate::mysql::types::Audience;
use crate::mysql::{Connection, Server};
use crate::run::lanes::{Queue, run};
use crate::run::progress::Progress;

#[derive(Debug, Clone, Deserialize)]
pub struct ScanPlan {
    pub source: Server,
    pub schema: String,
    pub table: String,
    #[serde(default)]
    pub key: Vec<String>,
    #[serde(default)]
    pub index: Option<String>,
    pub columns: Vec<String>,
    #[serde(default)]
    pub where_clause: Option<String>,
    #[serde(default = "default_lanes")]
    pub lanes: usize,
    #[serde(default = "default_chunk_bytes")]
    pub chunk_bytes: u64,
    #[serde(default = "default_batch_bytes")]
    pub batch_bytes: usize,
    #[serde(default)]
    pub rows: u64,
    #[serde(default)]
    pub data_bytes: u64,
}

fn default_batch_bytes() -> usize {
    4 << 20
}

/// The batches of a table, in the order of its key with one lane, in any order with more.
pub struct Stream {
    pub schema: SchemaRef,
    batches: Option<Receiver<Result<RecordBatch>>>,
    progress: Arc<Progress>,
    worker: Option<JoinHandle<()>>,
}

/// Starts to read. All lanes see one instant.
pub fn scan(plan: ScanPlan) -> Result<Stream> {
    let place = format!("{}.{}", plan.schema, plan.table);
    let mut walker = open(&plan.source)?;
    let of = WalkOf {
        schema: &plan.schema,
        table: &plan.table,
        key: &plan.key,
        index: plan.index.as_deref(),
        filter: plan.where_clause.as_deref(),
    };
    let walk = Walk::new(&mut walker, of).at(|| place.clone())?;
    let names: Vec<_> = plan.columns.iter().map(|name| format!("s.{}", quote(name))).collect();
    let select = format!("SELECT {} FROM {}", names.join(", "), walk.from());
    let schema = schema_of(&mut walker, &format!("{select} LIMIT 0"), Audience::User).at(|| place.clone())?;
    let lanes = if walk.has_key() { plan.lanes.max(1) } else { 1 };
    let mut readers = (0..lanes).map(|_| open(&plan.source)).collect::<Result<Vec<_>>>()?;
    if lanes > 1 {
        let mut locker = open(&plan.source)?;
        let mut all: Vec<_> = readers.iter_mut().chain(std::iter::once(&mut walker)).collect();
        if session::share_snapshot(&mut locker, &mut all, &[(&plan.schema, &plan.table)])? == Snapshot::Single
        {
            readers.truncate(1);
        }
    }
    let (sender, batches) = bounded(2 * readers.len());
    let progress = Arc::new(Progress::default());
    let watched = progress.clone();
    let worker = std::thread::spawn(move || {
        let read = |reader: &mut Connection, chunk: Chunk| {
            let sql = format!("{select}{}{}", walk.condition(&chunk)?, walk.order_by());
            scan_rows(reader, &sql, Audience::User, plan.batch_bytes, &mut |batch, _| {
                watched.check()?;
                sender.send(Ok(batch)).map_err(|_| Kind::Cancelled.into())
            })
            .map(drop)
            .at(|| place.clone())
        };
        let done = if readers.len() == 1 {
            read(&mut readers[0], Chunk::default())
        } else {
            run(&mut readers, |queue| walk_all(&plan, &walk, &mut walker, queue), read)
        };
        if let Err(error) = done {
            // Nobody listens any more if this fails.
            let _ = sender.send(Err(error));
        }
    });
    Ok(Stream { schema, batches: Some(batches), progress, worker: Some(worker) })
}

fn open(server: &Server) -> Result<Connection> {
    let mut connection = session::open_reader(server)?;
    // The user gets text as UTF-8 whatever the column's character set is.
    connection.execute("SET SESSION character_set_results = utf8mb4")?;
    Ok(connection)
}

fn walk_all(plan: &ScanPlan, walk: &Walk, walker: &mut Connection, queue: &Queue<'_, Chunk>) -> Result<()> {
    let row_bytes = plan.data_bytes / plan.rows.max(1);
    let rows = (plan.chunk_bytes / row_bytes.clamp(16, plan.chunk_bytes)).clamp(1, 250_000);
    let mut cuts = Cuts::default();
    let mut rest = Chunk::default();
    loop {
        let next = cuts.next(walk, walker, &rest, rows)?;
        queue.put(Chunk { lower: rest.lower.take(), upper: next.clone() })?;
        if next.is_none() {
            return Ok(());
        }
        rest.lower = next;
    }
}

impl Iterator for Stream {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batches.as_ref()?.recv().ok()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.progress.cancel();
        self.batches = None;
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}
