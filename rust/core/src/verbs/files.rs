//! Copying the objects behind the pointers of one tracking table.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arrow_array::RecordBatch;
use serde::{Deserialize, Serialize};

pub(super) use super::copy::default_lanes;
use super::pointers::TRACKING;
use crate::convert::pointer::{Layout, Pointer, PointerKind, Tracking, TrackingColumns, base32};
use crate::error::{At, Error, Kind, Result};
use crate::files::copy::{Copied, Copier, Hand, Object};
use crate::files::store::{StoreSpec, Stores};
use crate::mysql::Server;
use crate::mysql::names::{qualified, quote};
use crate::mysql::scan::scan;
use crate::mysql::session;
use crate::mysql::types::Audience;
use crate::run::lanes::{retry, run};
use crate::run::progress::Progress;

const MAX_ERRORS: usize = 1000;
/// Small batches, so that all lanes have files to copy; a lane that waits for a service has fewer at a time.
const BATCH_BYTES: usize = 16 << 10;
const REMOTE_BATCH_BYTES: usize = 1 << 10;
/// Requests that one verb has under way: a lane waits for one object.
pub(super) const REMOTE_LANES: usize = 32;

#[derive(Debug, Clone, Deserialize)]
pub struct FilesPlan {
    pub source: Server,
    pub pointer: Pointer,
    /// The 0.14.6 store.
    pub source_store: StoreSpec,
    /// The 2.x store.
    pub destination_store: StoreSpec,
    #[serde(default = "yes")]
    pub verify: bool,
    /// The columns whose pointers matter: objects that none of them names are left alone.
    #[serde(alias = "where")]
    pub reads: Vec<ReadBy>,
    pub lanes: Option<usize>,
}

pub(super) fn yes() -> bool {
    true
}

/// How many objects are copied at a time: with folders the processors are the limit, with services the waiting.
pub(super) fn lanes_of(asked: Option<usize>, stores: &Stores) -> usize {
    asked.unwrap_or_else(|| if stores.is_remote() { REMOTE_LANES } else { default_lanes() }).max(1)
}

#[derive(Debug, Clone, Deserialize)]
pub struct ReadBy {
    pub schema: String,
    pub table: String,
    pub column: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct FilesSummary {
    pub files_copied: u64,
    /// Files that were there already, or stay where they are.
    pub skipped: u64,
    pub bytes: u64,
    pub errors: Vec<FileError>,
    /// All errors; `errors` lists the first thousand.
    pub error_count: u64,
    pub time_taken: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct FileError {
    /// Of an object behind a pointer; else empty.
    pub hash: String,
    pub path: String,
    pub error: String,
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

/// Copies every referenced object that is not where 2.x will look for it. A file that cannot be copied is reported and
/// does not keep the others from being copied.
pub fn files(plan: &FilesPlan, progress: &Progress) -> Result<FilesSummary> {
    let begun = Instant::now();
    let pointer = &plan.pointer;
    let tracking = qualified(&pointer.tracking_schema, &pointer.tracking_table);
    progress.at(&format!("{}.{}", pointer.tracking_schema, pointer.tracking_table));
    let into = match pointer.layout {
        Layout::Hash => format!("{}/{}", pointer.hash_prefix, pointer.schema),
        Layout::InPlace => String::new(),
    };
    let stores = Stores::open(&plan.source_store, &plan.destination_store, &into)?;
    let lanes = lanes_of(plan.lanes, &stores);
    let batch_bytes = if stores.is_remote() { REMOTE_BATCH_BYTES } else { BATCH_BYTES };
    let copier = Copier::new(stores, plan.verify);
    let mut source = plan.source.connect()?;
    session::reading(&mut source)?;
    let reads = plan.reads.iter().map(|read| {
        format!(
            "EXISTS (SELECT 1 FROM {} AS r WHERE r.{} = e.`hash`)",
            qualified(&read.schema, &read.table),
            quote(&read.column)
        )
    });
    let reads: Vec<_> = reads.collect();
    let condition = if reads.is_empty() { String::new() } else { format!(" WHERE {}", reads.join(" OR ")) };
    let sql = format!("SELECT {TRACKING} FROM {tracking} AS e{condition}");
    let counts = Counts::default();
    let mut hands = (0..lanes).map(|_| Hand::of(lanes)).collect::<Vec<_>>();
    run(
        &mut hands,
        |queue| {
            scan(&mut source, &sql, Audience::River, batch_bytes, &mut |batch, _| queue.put(batch))
                .map(drop)
                .at(|| tracking.clone())
        },
        |hand, batch: RecordBatch| {
            let rows = TrackingColumns::new(batch.columns())?;
            for index in 0..batch.num_rows() {
                progress.check()?;
                let Some(row) = rows.row(index)? else { continue };
                let (path, done) = copy_one(&copier, pointer, &row, hand, progress);
                counts.note(base32(&row.hash), path, done)?;
                progress.add(1, row.size);
            }
            copier.settle(hand)
        },
    )?;
    copier.finish()?;
    Ok(counts.summary(begun))
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

fn is_of_one_object(error: &Error) -> bool {
    matches!(error.kind(), Kind::File { .. } | Kind::Value(_) | Kind::MissingTracking { .. })
}

fn copy_one(
    copier: &Copier,
    pointer: &Pointer,
    row: &Tracking<'_>,
    hand: &mut Hand,
    progress: &Progress,
) -> (String, Result<Copied>) {
    let paths = pointer.source_path(row).and_then(|source| Ok((source, pointer.path(row)?)));
    let (source, destination) = match paths {
        Ok(paths) => paths,
        Err(error) => return (String::new(), Err(error)),
    };
    let name = row.attachment_name.filter(|_| pointer.kind == PointerKind::Attach);
    let prefix = name.map_or_else(Vec::new, |name| [name, b"\0"].concat());
    let md5 = match pointer.kind {
        PointerKind::Filepath => row.contents_hash,
        PointerKind::Blob | PointerKind::Attach => Some(pointer.object_hash(row)),
    };
    let size = Some(row.size);
    let object =
        Object { source: &source, destination: &destination, prefix: &prefix, md5, size, etag: None };
    let in_place = source == destination && copier.stores.source.is_same_place(&copier.stores.destination);
    let done = retry(progress, || {
        if in_place { copier.look(&object).map(|()| Copied::Present) } else { copier.copy(&object, hand) }
    });
    (source, done)
}
