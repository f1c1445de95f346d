//! Looking for the objects behind the pointers of one tracking table, where they stay.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arrow_array::RecordBatch;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

pub(super) use super::copy::default_lanes;
use crate::convert::pointer::{Pointer, Tracking, TrackingColumns, base32};
use crate::convert::tracking::TRACKING;
use crate::error::{At, Error, Kind, Result};
use crate::mysql::Server;
use crate::mysql::decode::Audience;
use crate::mysql::names::{qualified, quote};
use crate::mysql::scan::scan;
use crate::mysql::session;
use crate::river::spare::spare;
use crate::river::steady::Steady;
use crate::run::lanes::run;
use crate::run::progress::Progress;
use crate::run::retry::retry;
use crate::run::throttle::Limits;
use crate::stores::copy::{Copied, Copier, Object};
use crate::stores::store::{StoreSpec, Stores};

const MAX_ERRORS: usize = 1000;
/// Of the tracking table, at a time.
const ROW_BYTES: usize = 64 << 10;
/// Rows of the tracking table that one statement reads.
const PAGE: usize = 65_536;
/// Requests that one verb has under way: a lane waits for one object.
pub(super) const REMOTE_LANES: usize = 32;

/// The objects behind the pointers of some columns.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesPlan {
    /// The server that is read.
    pub source: Server,
    /// What is known of the column.
    pub pointer: Pointer,
    /// Where the objects are, under their 2.x name.
    pub store: StoreSpec,
    /// The columns whose pointers matter: objects that none of them names are left alone.
    #[serde(rename = "where")]
    pub reads: Vec<ReadBy>,
    /// The hashes, in hexadecimal, of the only objects that matter.
    #[serde(default)]
    pub only: Option<Vec<String>>,
    /// Whether the objects will be read, so that it counts whether they can be opened.
    #[serde(default)]
    pub opens: bool,
    /// How many objects are copied at a time; where nothing is said, as many as suit the stores.
    pub lanes: Option<usize>,
    /// What may be taken of production.
    #[serde(default)]
    pub throttle: Limits,
}

pub(super) fn yes() -> bool {
    true
}

/// How many objects are copied at a time: with folders the processors are the limit, with services the waiting.
pub(super) fn lanes_of(asked: Option<usize>, stores: &Stores) -> usize {
    asked.unwrap_or_else(|| if stores.is_remote() { REMOTE_LANES } else { default_lanes() }).max(1)
}

/// A column that has pointers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadBy {
    /// Its schema.
    pub schema: String,
    /// Its table.
    pub table: String,
    /// Its name.
    pub column: String,
}

/// What came of copying files.
#[derive(Debug, Clone, Serialize)]
pub struct FilesSummary {
    /// Files that were written.
    pub files_copied: u64,
    /// Files that were there already, or stay where they are.
    pub skipped: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// What could not be copied.
    pub errors: Vec<FileError>,
    /// All errors; `errors` lists the first thousand.
    pub error_count: u64,
    /// How long it took, in seconds.
    pub time_taken: f64,
}

/// A file that could not be copied.
#[derive(Debug, Clone, Serialize)]
pub struct FileError {
    /// Of an object behind a pointer; else empty.
    pub hash: String,
    /// Its path in the store.
    pub path: String,
    /// What went wrong.
    pub error: String,
    /// The code of the error.
    pub code: &'static str,
}

#[derive(Default)]
pub(super) struct Counts {
    copied: AtomicU64,
    skipped: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicU64,
    errors: Mutex<Vec<FileError>>,
}

/// Looks whether every referenced object is there and has its size. One that is not is reported.
pub fn files(plan: &FilesPlan, progress: &Progress) -> Result<FilesSummary> {
    let begun = Instant::now();
    let pointer = &plan.pointer;
    progress.at(&format!("{}.{}", pointer.tracking_schema, pointer.tracking_table));
    spare(&plan.source, &plan.throttle, progress)?;
    let stores = Stores::open(&plan.store, &plan.store, "")?;
    let lanes = lanes_of(plan.lanes, &stores);
    // Small batches, so that all lanes have files to look at; a lane that waits for a service has fewer at a time.
    let most = if stores.is_remote() { 8 } else { 128 };
    let copier = Copier::new(stores, false);
    let counts = Counts::default();
    let mut hands = vec![(); lanes];
    run(
        &mut hands,
        |queue| {
            let mut batch = Vec::new();
            each_tracked(&plan.source, &plan.reads, plan.only.as_deref(), pointer, progress, &mut |row| {
                batch.push((pointer.source_path(row)?, row.size, base32(&row.hash)));
                if batch.len() < most { Ok(()) } else { queue.put(std::mem::take(&mut batch)) }
            })?;
            queue.put(batch)
        },
        |(), batch: Vec<(String, u64, String)>| {
            for (path, size, hash) in batch {
                progress.check()?;
                let object = Object::at(&path, size);
                let done = retry(progress, || copier.look(&object, plan.opens).map(|()| Copied::Present));
                counts.note(hash, path, done)?;
                progress.add(1, size);
            }
            Ok(())
        },
    )?;
    Ok(counts.summary(begun))
}

/// Hands over each row of the pointer's tracking table that one of `reads` refers to, in the order of the hashes.
pub(super) fn each_tracked(
    server: &Server,
    reads: &[ReadBy],
    only: Option<&[String]>,
    pointer: &Pointer,
    progress: &Progress,
    take: &mut dyn FnMut(&Tracking<'_>) -> Result<()>,
) -> Result<()> {
    let mut source = Steady::open(server, session::open_reader)?;
    let Some(only) = only else {
        return each_of(&mut source, &read_by(reads), pointer, progress, take);
    };
    for some in only.chunks(NAMED) {
        if some.iter().any(|hash| HEXLOWER.decode(hash.as_bytes()).map_or(0, |hash| hash.len()) != 16) {
            return Err(Kind::Plan("a hash is not 32 hexadecimal digits".into()).into());
        }
        let named: Vec<_> = some.iter().map(|hash| format!("0x{hash}")).collect();
        let condition = format!("e.`hash` IN ({}) AND ", named.join(", "));
        each_of(&mut source, &condition, pointer, progress, take)?;
    }
    Ok(())
}

/// Hashes that one statement names.
const NAMED: usize = 5_000;

/// The condition that one of the columns refers to a tracking row.
fn read_by(reads: &[ReadBy]) -> String {
    let reads = reads.iter().map(|read| {
        format!(
            "EXISTS (SELECT 1 FROM {} AS r WHERE r.{} = e.`hash`)",
            qualified(&read.schema, &read.table),
            quote(&read.column)
        )
    });
    let reads: Vec<_> = reads.collect();
    if reads.is_empty() { String::new() } else { format!("({}) AND ", reads.join(" OR ")) }
}

fn each_of(
    source: &mut Steady,
    condition: &str,
    pointer: &Pointer,
    progress: &Progress,
    take: &mut dyn FnMut(&Tracking<'_>) -> Result<()>,
) -> Result<()> {
    let tracking = qualified(&pointer.tracking_schema, &pointer.tracking_table);
    let mut after: Option<[u8; 16]> = None;
    loop {
        progress.turn()?;
        let beyond =
            after.map_or_else(|| "TRUE".into(), |hash| format!("e.`hash` > 0x{}", HEXLOWER.encode(&hash)));
        let sql = format!(
            "SELECT {TRACKING} FROM {tracking} AS e WHERE {condition}{beyond} ORDER BY e.`hash` LIMIT {PAGE}"
        );
        // No result stays open while whoever takes the rows copies gigabytes: the server would end the session.
        let page = source.ask(progress, |source| {
            let mut page = Vec::new();
            scan(source, &sql, Audience::River, ROW_BYTES, &mut |batch, read| {
                progress.read(read)?;
                page.push(batch);
                Ok(())
            })?;
            Ok(page)
        });
        let page = page.at(|| tracking.clone())?;
        let before = after;
        for batch in &page {
            let rows = TrackingColumns::new(batch.columns())?;
            for index in 0..batch.num_rows() {
                if let Some(row) = rows.row(index).at(|| tracking.clone())? {
                    after = Some(row.hash);
                    take(&row)?;
                }
            }
        }
        if page.iter().map(RecordBatch::num_rows).sum::<usize>() < PAGE {
            return Ok(());
        }
        if after <= before {
            let shown = |hash: Option<[u8; 16]>| hash.map_or_else(String::new, |hash| base32(&hash));
            return Err(Kind::Stuck { table: tracking, lower: shown(before), next: shown(after) }.into());
        }
    }
}

impl Counts {
    /// Counts what became of an object. What is wrong with one object is reported; what concerns a whole store ends the run.
    pub(super) fn note(&self, hash: String, path: String, done: Result<Copied>) -> Result<()> {
        match done {
            Ok(Copied::Written(bytes)) => {
                self.copied.fetch_add(1, Ordering::Relaxed);
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Ok(Copied::Present) => {
                self.skipped.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if is_of_one_object(&error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                if let Ok(mut errors) = self.errors.lock()
                    && errors.len() < MAX_ERRORS
                {
                    errors.push(FileError { hash, path, error: error.to_string(), code: error.code() });
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    pub(super) fn summary(self, begun: Instant) -> FilesSummary {
        FilesSummary {
            files_copied: self.copied.into_inner(),
            skipped: self.skipped.into_inner(),
            bytes: self.bytes.into_inner(),
            error_count: self.failed.into_inner(),
            errors: self.errors.into_inner().unwrap_or_default(),
            time_taken: begun.elapsed().as_secs_f64(),
        }
    }
}

/// True for what is wrong with one object; what concerns a whole store ends the run.
pub(super) fn is_of_one_object(error: &Error) -> bool {
    matches!(error.kind(), Kind::File { .. } | Kind::Value(_) | Kind::MissingTracking { .. })
}
