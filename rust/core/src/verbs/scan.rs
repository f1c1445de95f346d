//! Reading a table as a stream of record batches, for the user.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use crossbeam_channel::{Receiver, Sender, bounded};
use serde::Deserialize;

use super::copy::{default_chunk_bytes, default_lanes, default_memory_bytes};
use crate::convert::AsTheyAre;
use crate::error::{At, Kind, Result};
use crate::mysql::decode::Audience;
use crate::mysql::hangup::Hangup;
use crate::mysql::names::{qualified, quote};
use crate::mysql::scan::schema_of;
use crate::mysql::session;
use crate::mysql::walk::{Walk, WalkOf};
use crate::mysql::{Connection, Server};
use crate::river::cutter::{Cutter, Sizes};
use crate::river::flow::{Counts, Flow};
use crate::river::read::Bounds;
use crate::river::sink::Piece;
use crate::river::sinks::channel::{Channel, Sent};
use crate::river::source::{Readers, Rows};
use crate::river::steady::Steady;
use crate::run::lanes::run;
use crate::run::memory::LargeRows;
use crate::run::progress::Progress;

/// What is scanned.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanPlan {
    /// The server that is read.
    pub source: Server,
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The columns of a unique index without NULLs, in its order; empty if there is none.
    #[serde(default)]
    pub key: Vec<String>,
    /// The name of that index.
    #[serde(default)]
    pub index: Option<String>,
    /// The columns, in the order of the stream.
    pub columns: Vec<String>,
    /// The caller's own condition.
    #[serde(default)]
    pub where_clause: Option<String>,
    /// How many lanes work at a time, each with sessions of its own.
    #[serde(default = "default_lanes")]
    pub lanes: usize,
    /// About how many bytes a chunk has.
    #[serde(default = "default_chunk_bytes")]
    pub chunk_bytes: u64,
    /// About how many bytes a batch has.
    #[serde(default = "default_batch_bytes")]
    pub batch_bytes: usize,
    /// What all lanes together may hold of rows, in bytes.
    #[serde(default = "default_memory_bytes")]
    pub memory_bytes: usize,
    /// How many rows the server expects in it.
    #[serde(default)]
    pub rows: u64,
    /// How many bytes the server says they have.
    #[serde(default)]
    pub data_bytes: u64,
}

fn default_batch_bytes() -> usize {
    4 << 20
}

/// The batches of a table: in the order of its key with one lane, in any order with more.
///
/// Nothing is read, and no snapshot is open on production, before the first batch is asked for. A snapshot that somebody
/// waits for is given up, however long ago the last batch was taken: the stream then ends with an error. When the stream
/// is dropped its connections are closed, and the statements that they run are ended.
pub struct Stream {
    /// The columns of all batches.
    pub schema: SchemaRef,
    state: State,
}

enum State {
    Waiting(Box<Scan>),
    Reading(Reading),
    Ended,
}

/// What is read.
struct Scan {
    plan: ScanPlan,
    walk: Walk,
    select: String,
}

struct Reading {
    batches: Option<Receiver<Sent>>,
    line: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
    /// The table as statements name it.
    table: String,
}

/// What the worker and whoever drops the stream share.
#[derive(Default)]
struct Shared {
    progress: Progress,
    sessions: Mutex<Vec<Hangup>>,
    done: AtomicBool,
}

/// Looks at the table; what is wrong with the call is said here, before anything is read.
pub fn scan(plan: ScanPlan) -> Result<Stream> {
    let place = || format!("{}.{}", plan.schema, plan.table);
    let mut connection = open(&plan.source)?;
    let of = WalkOf {
        schema: &plan.schema,
        table: &plan.table,
        key: &plan.key,
        index: plan.index.as_deref(),
        filter: plan.where_clause.as_deref(),
    };
    let walk = Walk::new(&mut connection, of).at(place)?;
    let names: Vec<_> = plan.columns.iter().map(|name| format!("s.{}", quote(name))).collect();
    let select = format!("SELECT {} FROM {}", names.join(", "), walk.from());
    let sql = format!("{select} LIMIT 0");
    let schema = schema_of(&mut connection, &sql, Audience::User).at(place)?;
    Ok(Stream { schema, state: State::Waiting(Box::new(Scan { plan, walk, select })) })
}

fn open(server: &Server) -> Result<Connection> {
    let mut connection = session::open_reader(server)?;
    // The user gets text as UTF-8 whatever the column's character set is.
    connection.execute("SET SESSION character_set_results = utf8mb4")?;
    Ok(connection)
}

impl Reading {
    fn begin(scan: Scan) -> Self {
        let lanes = if scan.walk.has_key() { scan.plan.lanes.max(1) } else { 1 };
        let (sender, batches) = bounded(2 * lanes);
        let line = Arc::new(Shared::default());
        let table = qualified(&scan.plan.schema, &scan.plan.table);
        let shared = line.clone();
        let worker = std::thread::spawn(move || {
            let place = format!("{}.{}", scan.plan.schema, scan.plan.table);
            let read = scan.read(lanes, &shared, &sender).at(|| place);
            shared.done.store(true, Ordering::Relaxed);
            if let Err(error) = read {
                // Nobody listens any more if this fails.
                let _ = sender.send(Sent { batch: Err(error), room: None });
            }
        });
        Self { batches: Some(batches), line, worker: Some(worker), table }
    }

    fn next(&self) -> Option<Result<RecordBatch>> {
        self.batches.as_ref()?.recv().ok().map(|sent| sent.batch)
    }
}

impl Shared {
    fn open(&self, server: &Server) -> Result<Connection> {
        self.progress.check()?;
        let mut connection = open(server)?;
        let hangup = connection.hangup()?;
        self.sessions.lock().map_err(|_| Kind::Internal("a lane panicked".into()))?.push(hangup);
        // Whoever drops the stream asks for this first and looks at the sessions then.
        self.progress.check()?;
        Ok(connection)
    }
}

impl Scan {
    fn read(&self, lanes: usize, shared: &Shared, sender: &Sender<Sent>) -> Result<()> {
        let open = || shared.open(&self.plan.source);
        let tables = [(self.plan.schema.as_str(), self.plan.table.as_str())];
        let mut readers = if lanes == 1 {
            Readers::alone(open()?, &tables, &shared.progress)?
        } else {
            let lanes = (0..lanes).map(|_| open()).collect::<Result<Vec<_>>>()?;
            Readers::over((open()?, self::open), lanes, tables, &shared.progress, |_| ())?
        };
        let sent = self.send(&mut readers, shared, sender);
        readers.judge(sent)
    }

    /// Where there is one session only, it finds the bounds, too.
    fn send(&self, readers: &mut Readers, shared: &Shared, sender: &Sender<Sent>) -> Result<()> {
        let progress = &shared.progress;
        let large = LargeRows::of(self.plan.memory_bytes);
        let bounds = &Bounds { batch_bytes: self.plan.batch_bytes, large, copies: 1 };
        let flow = Flow { progress, bounds, pays: false, counts: Counts::Nothing };
        let put = |reader: &mut Steady, piece: &Piece| {
            let within = self.walk.condition(&piece.chunk)?;
            let sql = format!("{}{within}{}", self.select, self.walk.order_by());
            let (mut source, mut sink) = (Rows::shown(reader, sql, progress), Channel::new(sender));
            flow.chunk(&mut source, &mut AsTheyAre, &mut sink, piece).map(drop)
        };
        let mut cutter = Cutter::new(&self.walk);
        let Readers { walker, lanes, .. } = readers;
        let sizes = Sizes::new(self.plan.chunk_bytes, self.plan.rows, self.plan.data_bytes);
        let sizes = sizes.shared_by(lanes.len());
        if lanes.is_empty() {
            return cutter.each(walker, progress, || sizes.rows(), |reader, piece| put(reader, &piece));
        }
        run(
            lanes,
            |queue| cutter.each(walker, progress, || sizes.rows(), |_, piece| queue.put(piece)),
            |reader, piece: Piece| put(reader, &piece),
        )
    }
}

impl Iterator for Stream {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if let State::Waiting(_) = self.state
            && let State::Waiting(scan) = std::mem::replace(&mut self.state, State::Ended)
        {
            self.state = State::Reading(Reading::begin(*scan));
        }
        let State::Reading(reading) = &self.state else { return None };
        let next = reading.next();
        // After an error, as after the last batch, nothing follows: connections and snapshot are given back.
        if !matches!(next, Some(Ok(_))) {
            self.state = State::Ended;
        }
        next
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.line.progress.cancel();
        self.batches = None;
        let close = || {
            let sessions = self.line.sessions.lock().map(|mut sessions| std::mem::take(&mut *sessions));
            let sessions = sessions.unwrap_or_default();
            sessions.iter().for_each(Hangup::close);
            sessions
        };
        let done = self.line.done.load(Ordering::Relaxed);
        let mut sessions = if done { Vec::new() } else { close() };
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
        if !done {
            sessions.extend(close());
            Hangup::end(&sessions, std::slice::from_ref(&self.table));
        }
    }
}
