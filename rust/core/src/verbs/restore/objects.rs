//! The objects of external stores out of an archive, back to where 0.14.6 looks for them.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::archive::manifest::{Manifest, StoredFile};
use crate::archive::objects::Objects;
use crate::archive::place::{Place, PlaceSpec};
use crate::archive::read::{Opened, blake3_of};
use crate::error::Result;
use crate::run::lanes::run;
use crate::run::progress::Progress;
use crate::run::retry::retry;
use crate::stores::folder::{Folder, occupied};
use crate::stores::temporary::FILE;
use crate::verbs::copy::default_lanes;

/// The objects of an archive that go into folders.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectsPlan {
    /// Where the archive lies.
    pub archive: PlaceSpec,
    /// The folder of each store.
    pub stores: BTreeMap<String, PathBuf>,
    /// How many lanes work at a time, each with sessions of its own.
    #[serde(default = "default_lanes")]
    pub lanes: usize,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ObjectsSummary {
    /// Files that were written.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Files that were there already, with the same contents.
    pub present: u64,
}

/// Puts every object of these stores back that is missing. One that is there with other contents is an error, and stays.
pub fn objects(plan: &ObjectsPlan, progress: &Progress) -> Result<ObjectsSummary> {
    let archive = Place::open(&plan.archive)?;
    let manifest = Manifest::read(&archive)?;
    let objects = retry(progress, || Objects::open(&archive, &manifest))?;
    let mut folders = BTreeMap::new();
    for (store, location) in &plan.stores {
        folders.insert(store.as_str(), Folder::open(store, location)?);
    }
    let (files, bytes, present) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    run(
        &mut vec![(); plan.lanes.max(1)],
        |queue| {
            objects.each(&mut |file| match folders.get(file.store.as_str()) {
                Some(folder) => queue.put((folder, file)),
                None => Ok(()),
            })
        },
        |(), (folder, file)| {
            progress.check()?;
            progress.at(&file.path);
            if retry(progress, || put(&archive, folder, &file))? {
                files.fetch_add(1, Ordering::Relaxed);
                bytes.fetch_add(file.bytes, Ordering::Relaxed);
            } else {
                present.fetch_add(1, Ordering::Relaxed);
            }
            progress.add(0, file.bytes);
            Ok(())
        },
    )?;
    Ok(ObjectsSummary { files: files.into_inner(), bytes: bytes.into_inner(), present: present.into_inner() })
}

/// True if the object was not there.
fn put(archive: &Place, folder: &Folder, file: &StoredFile) -> Result<bool> {
    if folder.meta(&file.object)?.is_some() {
        let there = folder.read(&file.object)?;
        if blake3_of(&there, &file.object)? == (file.bytes, file.blake3.clone()) {
            return Ok(false);
        }
        return Err(occupied(&folder.place(&file.object), &format!("{} in the archive", file.path)));
    }
    let opened = Opened::open(archive, &file.path)?;
    opened.prove(file.bytes, &file.blake3)?;
    let mut from = opened.file()?;
    let mode = match archive {
        Place::Folder(_) => from.metadata().map_or(FILE, |found| found.mode()),
        Place::Bucket(..) => FILE,
    };
    folder.add(&file.object, &mut from, mode)?;
    Ok(true)
}
