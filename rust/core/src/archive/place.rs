//! Where an archive lies: a folder, or a place in a bucket.
//!
//! A file is made and read as a file of this machine either way: into a bucket it goes when it is whole, out of one it
//! comes before it is read. An archive may be larger than this machine's disk; a chunk file is not.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Seek};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use tempfile::{tempfile, tempfile_in};

use super::journal::{JOURNAL, PIECES};
use super::manifest::{MANIFEST, failed};
use crate::error::{Error, Result};
use crate::stores::bucket::Bucket;
use crate::stores::store::{Opened, Store, StoreSpec};
use crate::stores::temporary::{FILE, FOLDER, Temporary, Wanted, open_plain, prove_plain};

const MAX_PATH: usize = 4096;

/// A place as a plan names it: the path of a folder, or a store in a bucket.
#[derive(Debug, Clone)]
pub enum PlaceSpec {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A folder or a bucket, as stores are named.
    Store(StoreSpec),
}

// Of one that is untagged only that it is no place would be said, and not what is wrong with it.
impl<'de> Deserialize<'de> for PlaceSpec {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = PlaceSpec;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("the path of a folder, or a store")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> std::result::Result<PlaceSpec, E> {
                Ok(PlaceSpec::Folder(path.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<PlaceSpec, A::Error> {
                StoreSpec::deserialize(MapAccessDeserializer::new(map)).map(PlaceSpec::Store)
            }
        }
        from.deserialize_any(Either)
    }
}

/// Where an archive lies.
#[derive(Debug, Clone)]
pub enum Place {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A bucket, and what drives its requests.
    Bucket(Bucket, Arc<Opened>),
}

/// What lies at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// Not even a folder.
    Nothing,
    /// A folder without anything in it.
    Empty,
    /// An archive whose writing was interrupted.
    Unfinished,
    /// An archive that is whole.
    Archive,
    /// A file, or files that are no archive.
    Other,
}

/// A file in the making: it has its name only when it is whole.
pub struct Draft {
    /// Where the contents go.
    pub file: File,
    path: String,
    at: At,
}

enum At {
    Folder(Temporary),
    Bucket(Bucket),
}

impl Place {
    /// Opens a bucket, or takes a folder's path, which need not be there yet.
    pub fn open(spec: &PlaceSpec) -> Result<Self> {
        match spec {
            PlaceSpec::Folder(folder) | PlaceSpec::Store(StoreSpec::File { location: folder, .. }) => {
                Ok(Self::Folder(folder.clone()))
            }
            PlaceSpec::Store(spec) => {
                let opened = Opened::open(spec)?;
                match opened.store.clone() {
                    Store::Bucket(bucket) => Ok(Self::Bucket(bucket, Arc::new(opened))),
                    Store::Folder(folder) => Ok(Self::Folder(folder.root)),
                }
            }
        }
    }

    /// How errors name it.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Folder(root) => root.to_string_lossy().into_owned(),
            Self::Bucket(bucket, _) => bucket.place("").trim_end_matches('/').to_owned(),
        }
    }

    /// Looks what lies there.
    pub fn holds(&self) -> Result<Holds> {
        let fail = |error: io::Error| failed(self.shown(), error);
        match self {
            Self::Folder(root) => match fs::metadata(root) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Holds::Nothing),
                Err(error) => Err(fail(error)),
                Ok(found) if !found.is_dir() => Ok(Holds::Other),
                Ok(_) if root.join(MANIFEST).exists() => Ok(Holds::Archive),
                Ok(_) if root.join(JOURNAL).exists() => Ok(Holds::Unfinished),
                Ok(_) if fs::read_dir(root).map_err(fail)?.next().is_none() => Ok(Holds::Empty),
                Ok(_) => Ok(Holds::Other),
            },
            Self::Bucket(bucket, _) => Ok(if bucket.meta(MANIFEST)?.is_some() {
                Holds::Archive
            } else if bucket.is_empty("")? {
                Holds::Empty
            } else if bucket.is_empty(PIECES)? {
                Holds::Other
            } else {
                Holds::Unfinished
            }),
        }
    }

    /// The size of a file of the archive, which must be there.
    pub fn size(&self, path: &str) -> Result<u64> {
        match self {
            Self::Folder(root) => {
                Ok(plain(root, path)?.metadata().map_err(|error| failed(path, error))?.len())
            }
            Self::Bucket(bucket, _) => {
                let found = bucket.meta(inside(path)?)?;
                found.map(|meta| meta.size).ok_or_else(|| failed(path, "the file is missing"))
            }
        }
    }

    /// A file of the archive, opened.
    pub fn read(&self, path: &str) -> Result<File> {
        match self {
            Self::Folder(root) => plain(root, path),
            Self::Bucket(bucket, _) => {
                self.size(path)?;
                let fail = |error: io::Error| failed(path, error);
                let mut file = tempfile().map_err(fail)?;
                bucket.fetch(path, &mut file)?;
                file.rewind().map_err(fail)?;
                Ok(file)
            }
        }
    }

    /// Begins the file `path`.
    pub fn draft(&self, path: &str) -> Result<Draft> {
        let fail = |error: io::Error| failed(path, error);
        let relative = inside(path)?;
        let (file, at) = match self {
            Self::Folder(root) => {
                fs::create_dir_all(root).map_err(fail)?;
                let relative = Path::new(relative);
                // Among the files of an archive in the making there are none but its own.
                let wanted = Wanted { root, relative, mode: FILE, folders: &|_| FOLDER, replaces: true };
                let temporary = Temporary::create(&wanted).map_err(fail)?;
                (temporary.file.try_clone().map_err(fail)?, At::Folder(temporary))
            }
            Self::Bucket(bucket, _) => (tempfile().map_err(fail)?, At::Bucket(bucket.clone())),
        };
        Ok(Draft { file, path: path.to_owned(), at })
    }

    /// A file without a name that is gone when it is closed, for what `path` is made of: where the archive is to be there
    /// is room.
    pub(super) fn scratch(&self, path: &str) -> Result<File> {
        let made = match self {
            Self::Folder(root) => fs::create_dir_all(root).and_then(|()| tempfile_in(root)),
            Self::Bucket(..) => tempfile(),
        };
        made.map_err(|error| failed(path, error))
    }

    /// Makes the names of new files in a folder of the archive durable, as services do by themselves.
    pub fn settle(&self, folder: &str) -> Result<()> {
        let Self::Folder(root) = self else { return Ok(()) };
        let sync = || File::open(root.join(folder))?.sync_all();
        sync().map_err(|error: io::Error| failed(folder, error))
    }

    /// Takes away chunk files of earlier runs that are not among those `named`.
    pub fn sweep(&self, named: &HashSet<&str>) -> Result<()> {
        match self {
            Self::Folder(root) => {
                let Ok(folders) = fs::read_dir(root.join("tables")) else { return Ok(()) };
                let named: HashSet<PathBuf> = named.iter().map(|path| root.join(path)).collect();
                for folder in folders.flatten() {
                    let Ok(files) = fs::read_dir(folder.path()) else { continue };
                    for file in files.flatten().map(|file| file.path()).filter(|path| !named.contains(path)) {
                        fs::remove_file(&file).map_err(|error| failed(file.to_string_lossy(), error))?;
                    }
                }
                Ok(())
            }
            Self::Bucket(bucket, _) => {
                let mut odd = Vec::new();
                bucket.list("tables", &mut |path, _| {
                    if !named.contains(path.as_str()) {
                        odd.push(path);
                    }
                    Ok(())
                })?;
                odd.iter().try_for_each(|path| bucket.remove(path))
            }
        }
    }
}

impl Draft {
    /// Gives the file its name, when the disk or the service has all of it.
    pub fn keep(mut self) -> Result<()> {
        let fail = |error: io::Error| failed(&self.path, error);
        match self.at {
            At::Folder(temporary) => {
                self.file.sync_data().and_then(|()| temporary.name()).map(drop).map_err(fail)
            }
            At::Bucket(bucket) => {
                self.file.rewind().map_err(fail)?;
                bucket.send(&self.path, &mut self.file)
            }
        }
    }
}

/// A path of a manifest, which must stay below the archive.
pub fn inside(path: &str) -> Result<&str> {
    // Elsewhere these two are characters of names like any other, and stores have such names.
    let strange = path.contains('\0') || (cfg!(windows) && path.contains(['\\', ':']));
    let steps = path.split('/').any(|part| part.is_empty() || part == "." || part == "..");
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    let inside = plain && !strange && !steps && path.len() <= MAX_PATH;
    if inside { Ok(path) } else { Err(failed(path, "this path leads out of the archive")) }
}

/// A file below `root`, opened: a plain file, really below it, as links may lead out.
fn plain(root: &Path, path: &str) -> Result<File> {
    let full = root.join(inside(path)?);
    let metadata = fs::symlink_metadata(&full).map_err(|error| missing(path, &error))?;
    prove_plain(&metadata).map_err(|error| failed(path, error))?;
    let inside = fs::canonicalize(&full)
        .and_then(|real| Ok(real.starts_with(fs::canonicalize(root)?)))
        .map_err(|error| failed(path, error))?;
    if !inside {
        return Err(failed(path, "this path leads out of the archive"));
    }
    open_plain(&full).map_err(|error| missing(path, &error))
}

fn missing(path: &str, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => failed(path, "the file is missing"),
        _ => failed(path, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_link_out_of_the_archive_is_not_followed() {
        let root = std::env::temp_dir().join(format!("djm-linked-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).expect("made");
        std::os::unix::fs::symlink("/etc", root.join("tables")).expect("linked");
        let error = Place::Folder(root.clone()).size("tables/hostname").expect_err("refused");
        assert!(error.to_string().contains("leads out"), "{error}");
        let _ = fs::remove_dir_all(&root);
    }
}
