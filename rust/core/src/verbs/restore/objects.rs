//! The objects of external stores out of an archive, back to where 0.14.6 looks for them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::archive::manifest::{Manifest, StoredFile};
use crate::archive::place::{Place, PlaceSpec};
use crate::archive::read::{Opened, blake3_of};
use crate::error::{Kind, Result};
use crate::files::folder::Folder;
use crate::run::lanes::{retry, run};
use crate::run::progress::Progress;
use crate::verbs::copy::default_lanes;

#[derive(Debug, Clone, Deserialize)]
pub struct ObjectsPlan {
    pub archive: PlaceSpec,
    /// The folder of each store.
    pub stores: BTreeMap<String, PathBuf>,
    #[serde(default = "default_lanes")]
    pub lanes: usize,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct ObjectsSummary {
    pub files: u64,
    pub bytes: u64,
    /// Files that were there already, with the same contents.
    pub present: u64,
}

/// Puts every object of these stores back that is missing. One that is there with other contents is an error, and stays.
pub fn objects(plan: &ObjectsPlan, progress: &Progress) -> Result<ObjectsSummary> {
    let archive = Place::open(&plan.archive)?;
    let manifest = Manifest::read(&archive)?;
    let mut folders = BTreeMap::new();
    for (store, location) in &plan.stores {
        folders.insert(store.as_str(), Folder::open(store, location)?);
    }
    let (files, bytes, present) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    run(
        &mut vec![(); plan.lanes.max(1)],
        |queue| {
            let wanted = manifest.files.iter().filter_map(|file| {
                let folder = folders.get(file.store.as_str())?;
                Some((folder, file))
            });
            wanted.into_iter().try_for_each(|one| queue.put(one))
        },
        |(), (folder, file)| {
            progress.check()?;
            progress.at(&file.path);
            if retry(progress, || put(&archive, folder, file))? {
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
        let message = "is there with other contents than in the archive".into();
        return Err(Kind::File { path: folder.place(&file.object), message }.into());
    }
    let opened = Opened::open(archive, &file.path)?;
    opened.prove(file.bytes, &file.blake3)?;
    folder.add(&file.object, &mut opened.file()?)?;
    Ok(true)
}
