//! Objects of 0.14.6 that no row of a tracking table knows: the store is listed, and the table is asked for each batch.

use std::collections::HashSet;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE, HEXUPPER};
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use crate::convert::pointer::{Pointer, PointerKind, Tracking, TrackingColumns};
use crate::convert::tracking::TRACKING;
use crate::error::{At, Result};
use crate::mysql::decode::Audience;
use crate::mysql::names::qualified;
use crate::mysql::scan::scan;
use crate::mysql::{Connection, Server, session};
use crate::run::progress::Progress;
use crate::stores::store::{Opened, StoreSpec};

const BATCH: usize = 1000;
const MAX_LISTED: usize = 10_000;
const BATCH_BYTES: usize = 1 << 20;

/// A store in which objects may lie that no row names.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrphansPlan {
    /// The server that is read.
    pub source: Server,
    /// Whose tracking table it is, and how it folds; its kind is not looked at.
    pub pointer: Pointer,
    /// The store.
    pub store: StoreSpec,
}

/// Objects that no row names.
#[derive(Debug, Clone, Default, Serialize)]
pub struct OrphansSummary {
    /// Objects below the schema's own folder.
    pub objects: u64,
    /// How many.
    pub orphaned_count: u64,
    /// Their bytes.
    pub orphaned_bytes: u64,
    /// The first ten thousand.
    pub orphaned: Vec<Orphan>,
}

/// An object that no row names.
#[derive(Debug, Clone, Serialize)]
pub struct Orphan {
    /// Its path in the store.
    pub path: String,
    /// Its bytes.
    pub size: u64,
}

/// Lists what lies in the folder that 0.14.6 names after the schema, and finds what the tracking table does not know.
pub fn orphans(plan: &OrphansPlan, progress: &Progress) -> Result<OrphansSummary> {
    let opened = Opened::open(&plan.store)?;
    let mut summary = OrphansSummary::default();
    if opened.store.is_empty(&plan.pointer.source_schema)? {
        return Ok(summary);
    }
    let mut connection = session::open_reader(&plan.source)?;
    let mut batch = Vec::with_capacity(BATCH);
    opened.store.list(&plan.pointer.source_schema, &mut |path, meta| {
        progress.check()?;
        progress.add(1, 0);
        batch.push(Orphan { path, size: meta.size });
        if batch.len() == BATCH { summary.sift(plan, &mut connection, &mut batch) } else { Ok(()) }
    })?;
    summary.sift(plan, &mut connection, &mut batch)?;
    Ok(summary)
}

impl OrphansSummary {
    fn sift(
        &mut self,
        plan: &OrphansPlan,
        connection: &mut Connection,
        batch: &mut Vec<Orphan>,
    ) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let known = known(plan, connection, batch)?;
        for object in batch.drain(..) {
            self.objects += 1;
            if known.contains(&object.path) {
                continue;
            }
            self.orphaned_count += 1;
            self.orphaned_bytes += object.size;
            if self.orphaned.len() < MAX_LISTED {
                self.orphaned.push(object);
            }
        }
        Ok(())
    }
}

/// The paths at which 0.14.6 looks for what the tracking table knows of these objects.
fn known(plan: &OrphansPlan, connection: &mut Connection, batch: &[Orphan]) -> Result<HashSet<String>> {
    let mut hashes = Vec::with_capacity(batch.len() * 2);
    for object in batch {
        // A file of a filepath, and a blob from 0.11, are known by their path; all others by their name.
        hashes.push(HEXLOWER.encode(&Md5::digest(object.path.as_bytes())));
        let name = object.path.rsplit('/').next().unwrap_or_default();
        if let Some(hex) = name.get(..32)
            && HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).is_ok()
        {
            hashes.push(hex.to_owned());
        }
    }
    let table = qualified(&plan.pointer.tracking_schema, &plan.pointer.tracking_table);
    let list = hashes.iter().map(|hash| format!("x'{hash}'")).collect::<Vec<_>>().join(",");
    let sql = format!("SELECT {TRACKING} FROM {table} AS e WHERE e.`hash` IN ({list})");
    let mut paths = HashSet::new();
    scan(connection, &sql, Audience::River, BATCH_BYTES, &mut |rows, _| {
        let rows_of = TrackingColumns::new(rows.columns())?;
        for index in 0..rows.num_rows() {
            let Some(row) = rows_of.row(index)? else { continue };
            for (kind, row) in readings(&row) {
                let pointer = Pointer { kind, ..plan.pointer.clone() };
                paths.insert(pointer.source_path(&row).at(|| HEXUPPER.encode(&row.hash))?);
            }
        }
        Ok(())
    })
    .map(drop)
    .at(|| table.clone())?;
    Ok(paths)
}

/// A row tells by its shape what it is, but for blobs from 0.11, which have a path and may have been written anew.
fn readings<'a>(row: &Tracking<'a>) -> Vec<(PointerKind, Tracking<'a>)> {
    let plain = Tracking { filepath: None, ..row.clone() };
    match (row.attachment_name, row.filepath) {
        (Some(_), _) => vec![(PointerKind::Attach, row.clone())],
        (None, Some(_)) => vec![(PointerKind::Filepath, row.clone()), (PointerKind::Blob, plain)],
        (None, None) => vec![(PointerKind::Blob, plain)],
    }
}
