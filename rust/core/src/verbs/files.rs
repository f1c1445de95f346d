//! Looking for the objects behind the pointers of one tracking table, where they stay.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};

pub(super) use super::copy::default_lanes;
use super::pointers::TRACKING;
use crate::convert::pointer::{Pointer, Tracking, TrackingColumns, base32};
use crate::error::{At, Error, Kind, Result};
use crate::files::copy::{Copied, Copier, Object};
use crate::files::store::{StoreSpec, Stores};
use crate::mysql::Server;
use crate::mysql::names::{qualified, quote};
use crate::mysql::scan::scan;
use crate::mysql::session;
use crate::mysql::types::Audience;
use crate::run::lanes::{retry, run};
use crate::run::progress::Progress;

const MAX_ERRORS: usize = 1000;
/// Of the tracking table, at a time.
const ROW_BYTES: usize = 64 << 10;
/// Requests that one verb has under way: a lane waits for one object.
pub(super) const REMOTE_LANES: usize = 32;

#[derive(Debug, Clone, Deserialize)]
pub struct FilesPlan {
    pub source: Server,
    pub pointer: Pointer,
    pub store: StoreSpec,
    /// The columns whose pointers matter: objects that none of them names are left alone.
    #[serde(rename = "where")]
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

/// Looks whether every referenced object is there and has its size. One that is not is reported.
pub fn files(plan: &FilesPlan, progress: &Progress) -> Result<FilesSummary> {
    let begun = Instant::now();
    let pointer = &plan.pointer;
    progress.at(&format!("{}.{}", pointer.tracking_schema, pointer.tracking_table));
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
            each_tracked(&plan.source, &plan.reads, pointer, &mut |row| {
                batch.push((pointer.source_path(row)?, row.size, base32(&row.hash)));
                if batch.len() < most { Ok(()) } else { queue.put(std::mem::take(&mut batch)) }
            })?;
            queue.put(batch)
        },
        |(), batch: Vec<(String, u64, String)>| {
            for (path, size, hash) in batch {
                progress.check()?;
                let object = Object::at(&path, size);
                let done = retry(progress, || copier.look(&object).map(|()| Copied::Present));
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
    pointer: &Pointer,
    take: &mut dyn FnMut(&Tracking<'_>) -> Result<()>,
) -> Result<()> {
    let tracking = qualified(&pointer.tracking_schema, &pointer.tracking_table);
    let reads = reads.iter().map(|read| {
        format!(
            "EXISTS (SELECT 1 FROM {} AS r WHERE r.{} = e.`hash`)",
            qualified(&read.schema, &read.table),
            quote(&read.column)
        )
    });
    let reads: Vec<_> = reads.collect();
    let condition = if reads.is_empty() { String::new() } else { format!(" WHERE {}", reads.join(" OR ")) };
    let sql = format!("SELECT {TRACKING} FROM {tracking} AS e{condition} ORDER BY e.`hash`");
    let mut source = session::open_reader(server)?;
    scan(&mut source, &sql, Audience::River, ROW_BYTES, &mut |batch, _| {
        let rows = TrackingColumns::new(batch.columns())?;
        for index in 0..batch.num_rows() {
            if let Some(row) = rows.row(index)? {
                take(&row)?;
            }
        }
        Ok(())
    })
    .map(drop)
    .at(|| tracking.clone())
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
