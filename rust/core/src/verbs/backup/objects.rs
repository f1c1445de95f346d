//! The objects of external stores into an archive, as they lie in the stores: `files/<store>/<the object's own path>`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use arrow_array::RecordBatch;
use md5::{Digest as _, Md5};
use serde::Deserialize;

use super::BackupPlan;
use crate::archive::manifest::{StoredFile, failed};
use crate::archive::objects::{Found, ObjectsFile};
use crate::archive::place::Place;
use crate::archive::read::blake3_of;
use crate::convert::pointer::{Layout, Pointer, PointerKind, Tracking, TrackingColumns};
use crate::convert::tracking::TRACKING;
use crate::error::{At, Error, Kind, Result};
use crate::mysql::decode::Audience;
use crate::mysql::names::{qualified, quote};
use crate::mysql::scan::scan;
use crate::river::steady::Steady;
use crate::run::lanes::run;
use crate::run::progress::Progress;
use crate::stores::copy::{Hand, Object, copy_at_once, prove};
use crate::stores::folder::Folder;
use crate::stores::temporary::open_plain;
use crate::verbs::files::ReadBy;

/// Small batches, so that all lanes have files to copy.
const BATCH_BYTES: usize = 16 << 10;

/// A store whose objects come along.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorePlan {
    pub store: String,
    /// Its folder.
    pub location: PathBuf,
    pub tracking_table: String,
    /// How many characters of its name each folder of an object's path takes.
    pub subfolding: Vec<usize>,
    /// The columns whose pointers matter: objects that none of them names are left out.
    pub reads: Vec<ReadBy>,
}

/// Copies the objects that the rows of the snapshot refer to, which `reader` is in, and writes the file that names them.
pub(super) fn objects(
    plan: &BackupPlan,
    archive: &Place,
    reader: &mut Steady,
    progress: &Progress,
) -> Result<Option<ObjectsFile>> {
    let found = Mutex::new(Found::new(archive));
    for store in plan.stores.iter().filter(|store| !store.reads.is_empty()) {
        let tracking = qualified(&plan.schema, &store.tracking_table);
        let folder = Folder::open(&store.store, &store.location)?;
        let reads = store.reads.iter().map(|read| {
            format!(
                "EXISTS (SELECT 1 FROM {} AS r WHERE r.{} = e.`hash`)",
                qualified(&read.schema, &read.table),
                quote(&read.column)
            )
        });
        let reads = reads.collect::<Vec<_>>().join(" OR ");
        let sql = format!("SELECT {TRACKING} FROM {tracking} AS e WHERE {reads}");
        progress.at(&format!("{}.{}", plan.schema, store.tracking_table));
        let lanes = plan.lanes.max(1);
        let mut hands = (0..lanes).map(|_| Hand::of(lanes)).collect::<Vec<_>>();
        run(
            &mut hands,
            |queue| {
                reader.once(progress, |reader| {
                    scan(reader, &sql, Audience::River, BATCH_BYTES, &mut |batch, _| queue.put(batch))
                        .map(drop)
                })
            },
            |hand, batch: RecordBatch| {
                let rows = TrackingColumns::new(batch.columns())?;
                for index in 0..batch.num_rows() {
                    progress.turn()?;
                    let Some(row) = rows.row(index)? else { continue };
                    let file = keep(plan, store, (&folder, archive), &row, hand)?;
                    progress.add(0, file.bytes);
                    found.lock().map_err(|_| Kind::Internal("a lane panicked".into()))?.add(file)?;
                }
                Ok(())
            },
        )
        .at(|| tracking.clone())?;
    }
    found.into_inner().map_err(|_| Kind::Internal("a lane panicked".into()))?.write()
}

/// Copies one object, proved by the MD5 that its pointer holds, unless an earlier run did.
fn keep(
    plan: &BackupPlan,
    store: &StorePlan,
    (from, archive): (&Folder, &Place),
    row: &Tracking<'_>,
    hand: &mut Hand,
) -> Result<StoredFile> {
    // The row says what it tracks: only attachments have a name, only files of a path one of their own.
    let (kind, md5) = match (row.attachment_name, row.filepath) {
        (Some(_), _) => (PointerKind::Attach, None),
        (None, Some(_)) => (PointerKind::Filepath, row.contents_hash),
        (None, None) => (PointerKind::Blob, Some(row.hash)),
    };
    let pointer = Pointer {
        kind,
        store: store.store.clone(),
        tracking_schema: plan.schema.clone(),
        tracking_table: store.tracking_table.clone(),
        source_schema: plan.schema.clone(),
        schema: plan.schema.clone(),
        layout: Layout::InPlace,
        source_subfolding: store.subfolding.clone(),
        destination_subfolding: Vec::new(),
        hash_prefix: String::new(),
        suffix: String::new(),
    };
    let object = pointer.source_path(row)?;
    let path = format!("files/{}/{}", store.store, tidy(&object));
    let (bytes, blake3) = match archive {
        Place::Folder(root) => {
            let into = Folder::open("archive", root)?;
            // An unfinished archive is ours: of a file that has changed since it gets the new contents.
            let one = Object {
                source: &object,
                destination: &path,
                prefix: &[],
                md5,
                size: None,
                etag: None,
                replaces: true,
            };
            copy_at_once(from, &into, &one, md5.is_some(), hand)?;
            blake3_of(&archive.read(&path)?, &path)?
        }
        Place::Bucket(..) => send(&from.file(&object)?, archive, &path, md5)?,
    };
    Ok(StoredFile { path, store: store.store.clone(), object: tidy(&object), bytes, blake3 })
}

/// Puts a file into an archive in a bucket, unless an earlier run did: size and BLAKE3.
fn send(source: &Path, archive: &Place, path: &str, md5: Option<[u8; 16]>) -> Result<(u64, String)> {
    let unreadable = |error: std::io::Error| -> Error {
        Kind::File { path: source.display().to_string(), message: error.to_string() }.into()
    };
    let mut file = open_plain(source).map_err(unreadable)?;
    let mut draft = archive.draft(path)?;
    let (mut found, mut buffer) = (Md5::new(), vec![0; 1 << 20]);
    loop {
        let count = file.read(&mut buffer).map_err(unreadable)?;
        if count == 0 {
            break;
        }
        found.update(&buffer[..count]);
        draft.file.write_all(&buffer[..count]).map_err(|error| failed(path, error))?;
    }
    let found: [u8; 16] = found.finalize().into();
    if let Some(md5) = md5 {
        prove(|| source.display().to_string(), md5, found)?;
    }
    let (bytes, blake3) = blake3_of(&draft.file, path)?;
    let there = archive.size(path).is_ok_and(|size| size == bytes)
        && blake3_of(&archive.read(path)?, path)?.1 == blake3;
    if !there {
        draft.keep()?;
    }
    Ok((bytes, blake3))
}

/// A path without `.` and doubled separators, which a filepath may have.
fn tidy(object: &str) -> String {
    let parts = Path::new(object).components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    parts.filter(|part| part != ".").collect::<Vec<_>>().join("/")
}
