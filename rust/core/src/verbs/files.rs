//! Copying the objects behind the pointers of one tracking table.

use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arrow_array::RecordBatch;
use serde::{Deserialize, Serialize};

use super::copy::default_lanes;
use super::pointers::TRACKING;
use crate::convert::pointer::{Pointer, PointerKind, Tracking, TrackingColumns, base32};
use crate::error::{At, Kind, Result};
use crate::files::copy::{Copied, Object, copy};
use crate::mysql::Server;
use crate::mysql::names::{qualified, quote};
use crate::mysql::scan::scan;
use crate::mysql::session;
use crate::mysql::types::Audience;
use crate::run::lanes::run;
use crate::run::progress::Progress;

const MAX_ERRORS: usize = 1000;
/// Small batches, so that all lanes have files to copy.
const BATCH_BYTES: usize = 16 << 10;

#[derive(Debug, Clone, Deserialize)]
pub struct FilesPlan {
    pub source: Server,
    pub pointer: Pointer,
    /// The folder of the 0.14.6 store.
    pub source_location: PathBuf,
    /// The folder of the 2.x store.
    pub destination_location: PathBuf,
    #[serde(default = "yes")]
    pub verify: bool,
    /// The columns whose pointers matter: objects that none of them names are left alone.
    #[serde(alias = "where")]
    pub reads: Vec<ReadBy>,
    #[serde(default = "default_lanes")]
    pub lanes: usize,
}

fn yes() -> bool {
    true
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
    pub hash: String,
    pub path: String,
    pub error: String,
    pub code: &'static str,
}

#[derive(Default)]
struct Counts {
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
    for location in [&plan.source_location, &plan.destination_location] {
        if !location.is_dir() {
            return Err(Kind::File {
                path: location.display().to_string(),
                message: "the location of the store is not a folder".into(),
            }
            .into());
        }
    }
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
    run(
        &mut vec![(); plan.lanes.max(1)],
        |queue| {
            scan(&mut source, &sql, Audience::River, BATCH_BYTES, &mut |batch| queue.put(batch))
                .map(drop)
                .at(|| tracking.clone())
        },
        |(), batch: RecordBatch| {
            let rows = TrackingColumns::new(batch.columns())?;
            for index in 0..batch.num_rows() {
                progress.check()?;
                let Some(row) = rows.row(index)? else { continue };
                counts.note(&row, copy_one(plan, &row));
                progress.add(1, row.size);
            }
            Ok(())
        },
    )?;
    Ok(FilesSummary {
        files_copied: counts.copied.into_inner(),
        skipped: counts.skipped.into_inner(),
        bytes: counts.bytes.into_inner(),
        error_count: counts.failed.into_inner(),
        errors: counts.errors.into_inner().unwrap_or_default(),
        time_taken: begun.elapsed().as_secs_f64(),
    })
}

impl Counts {
    fn note(&self, row: &Tracking<'_>, done: (String, Result<Copied>)) {
        match done.1 {
            Ok(Copied::Written(bytes)) => {
                self.copied.fetch_add(1, Ordering::Relaxed);
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Ok(Copied::Present) => {
                self.skipped.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                if let Ok(mut errors) = self.errors.lock()
                    && errors.len() < MAX_ERRORS
                {
                    errors.push(FileError {
                        hash: base32(&row.hash),
                        path: done.0,
                        error: error.to_string(),
                        code: error.code(),
                    });
                }
            }
        }
    }
}

fn copy_one(plan: &FilesPlan, row: &Tracking<'_>) -> (String, Result<Copied>) {
    let pointer = &plan.pointer;
    let paths = pointer.source_path(row).and_then(|source| Ok((source, pointer.path(row)?)));
    let (from, to) = match paths {
        Ok(paths) => paths,
        Err(error) => return (String::new(), Err(error)),
    };
    let copied = place(&plan.source_location, &from).and_then(|source| {
        let destination = place(&plan.destination_location, &to)?;
        if source == destination {
            return if source.is_file() {
                Ok(Copied::Present)
            } else {
                Err(Kind::File { path: source.display().to_string(), message: "no such file".into() }.into())
            };
        }
        let name = row.attachment_name.filter(|_| pointer.kind == PointerKind::Attach);
        let prefix = name.map_or_else(Vec::new, |name| [name, b"\0"].concat());
        let md5 = match pointer.kind {
            PointerKind::Filepath => row.contents_hash,
            PointerKind::Blob | PointerKind::Attach => Some(pointer.object_hash(row)),
        };
        copy(&Object { source: &source, destination: &destination, prefix: &prefix, md5 }, plan.verify)
    });
    (from, copied)
}

/// The file of a relative path, which must not lead out of its store.
pub(super) fn place(location: &Path, relative: &str) -> Result<PathBuf> {
    let path = Path::new(relative);
    if path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Ok(location.join(path));
    }
    Err(Kind::File { path: relative.to_owned(), message: "leads out of its store".into() }.into())
}
