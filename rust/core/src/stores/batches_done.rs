//! Which batches of a copy are done: an empty object for each, in a hidden folder of the destination store.
//!
//! It lies beside the files it speaks of, so it needs no database, is gone when they are, and any machine that may write
//! them may write it; an object a batch needs no lock between machines. Names with an extension outside of `DataJoint`'s
//! own folders are listed by no release's garbage collector, and `Store::list` passes them over.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::folder::unreadable;
use super::store::Store;
use super::temporary::touch;
use crate::error::Result;

pub(super) const FOLDER: &str = ".datajoint-migrate";
const SUFFIX: &str = ".done";

/// The journal of one copy, which `copy` names.
#[derive(Debug)]
pub struct Journal<'a> {
    store: &'a Store,
    below: String,
}

impl<'a> Journal<'a> {
    /// The journal in this store.
    #[must_use]
    pub fn new(store: &'a Store, copy: &str) -> Self {
        Self { store, below: format!("{FOLDER}/{copy}") }
    }

    /// The keys of the batches that are done.
    pub fn done(&self) -> Result<HashSet<String>> {
        let mut keys = HashSet::new();
        let mut note = |name: &str| {
            keys.extend(
                name.rsplit('/').next().and_then(|name| name.strip_suffix(SUFFIX)).map(str::to_owned),
            );
        };
        match self.store {
            Store::Bucket(bucket) => bucket.list(&self.below, &mut |path, _| {
                note(&path);
                Ok(())
            })?,
            Store::Folder(folder) => {
                let path = folder.file(&self.below)?;
                match fs::read_dir(&path) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(unreadable(&path, &error)),
                    Ok(entries) => {
                        for entry in entries {
                            let entry = entry.map_err(|error| unreadable(&path, &error))?;
                            note(&entry.file_name().to_string_lossy());
                        }
                    }
                }
            }
        }
        Ok(keys)
    }

    /// To be called when everything of the batch is on the disk of the store.
    pub fn mark(&self, key: &str) -> Result<()> {
        let name = format!("{}/{key}{SUFFIX}", self.below);
        match self.store {
            Store::Bucket(bucket) => bucket.put(&name, []).map(drop),
            Store::Folder(folder) => {
                let path = folder.file(&name)?;
                touch(&folder.root, Path::new(&name)).map_err(|error| folder.unwritable(&path, &error))
            }
        }
    }

    /// Removes it, at the end of the copy.
    pub fn remove(&self) -> Result<()> {
        match self.store {
            Store::Bucket(bucket) => {
                for key in self.done()? {
                    bucket.remove(&format!("{}/{key}{SUFFIX}", self.below))?;
                }
                Ok(())
            }
            Store::Folder(folder) => {
                let below = folder.file(&self.below)?;
                match fs::remove_dir_all(&below) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        Err(folder.unwritable(&below, &error))
                    }
                    _ => {
                        // The journal of another copy may be beside it.
                        let _ = fs::remove_dir(folder.file(FOLDER)?);
                        Ok(())
                    }
                }
            }
        }
    }
}
