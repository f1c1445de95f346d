//! A store that is a folder.

use std::collections::HashSet;
use std::fs::{self, File, FileTimes, TryLockError};
use std::hash::Hasher as _;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::Access;
use xxhash_rust::xxh3::Xxh3;

use super::store::Meta;
use crate::error::{Error, Kind, Result};

/// Written files wait for one flush of the file system, which costs as much for many as for one.
const OPEN_FILES: usize = 256;
const FLUSH_BYTES: u64 = 64 << 20;
const PART_SUFFIX: &str = ".part";

#[derive(Debug, Clone)]
pub struct Folder {
    pub name: String,
    pub root: PathBuf,
}

impl Folder {
    pub fn open(name: &str, location: &Path) -> Result<Self> {
        if !location.is_dir() {
            return Err(Kind::File {
                path: location.display().to_string(),
                message: "the location of the store is not a folder".into(),
            }
            .into());
        }
        Ok(Self { name: name.to_owned(), root: location.to_owned() })
    }

    #[must_use]
    pub fn place(&self, path: &str) -> String {
        self.root.join(path).display().to_string()
    }

    /// The file of a relative path, which must not lead out of the store.
    pub fn file(&self, relative: &str) -> Result<PathBuf> {
        let path = Path::new(relative);
        if path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Ok(self.root.join(path));
        }
        Err(Kind::File { path: relative.to_owned(), message: "leads out of its store".into() }.into())
    }

    pub fn meta(&self, path: &str) -> Result<Option<Meta>> {
        let file = self.file(path)?;
        match fs::metadata(&file) {
            Ok(found) if found.is_file() => Ok(Some(meta_of(&found))),
            Ok(_) => Ok(None),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(unreadable(&file, &error)),
        }
    }

    pub fn is_empty(&self, prefix: &str) -> Result<bool> {
        let folder = self.file(prefix)?;
        match fs::read_dir(&folder) {
            Ok(mut entries) => Ok(entries.next().is_none()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(unreadable(&folder, &error)),
        }
    }

    pub fn may_write(&self) -> Result<Option<bool>> {
        let asked = Access::WRITE_OK | Access::EXEC_OK;
        match rustix::fs::access(&self.root, asked) {
            Ok(()) => Ok(Some(true)),
            Err(error) => Err(self.unwritable(&self.root, &error.into())),
        }
    }

    pub fn list(&self, prefix: &str, each: &mut dyn FnMut(String, Meta) -> Result<()>) -> Result<()> {
        // Stores are often spread over disks by links between folders; one that leads back is followed once.
        let mut seen = HashSet::new();
        let mut folders = vec![self.file(prefix)?];
        while let Some(folder) = folders.pop() {
            let metadata = fs::metadata(&folder).map_err(|error| unreadable(&folder, &error))?;
            if !seen.insert((metadata.dev(), metadata.ino())) {
                continue;
            }
            let entries = fs::read_dir(&folder).map_err(|error| unreadable(&folder, &error))?;
            let paths: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.path())).collect();
            let mut paths = paths.map_err(|error| unreadable(&folder, &error))?;
            // The batches of a copy are made of this order, and the file system's own is another one every time.
            paths.sort_unstable();
            for path in paths {
                let found = fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
                if found.is_dir() {
                    folders.push(path);
                } else if found.is_file() && !is_part(&path) {
                    let relative = path.strip_prefix(&self.root).unwrap_or(&path);
                    let Some(relative) = relative.to_str() else {
                        return Err(Kind::File {
                            path: path.display().to_string(),
                            message: "its name is not UTF-8".into(),
                        }
                        .into());
                    };
                    each(relative.to_owned(), meta_of(&found))?;
                }
            }
        }
        Ok(())
    }

    pub fn read(&self, path: &str) -> Result<File> {
        let file = self.file(path)?;
        File::open(&file).map_err(|error| unreadable(&file, &error))
    }

    /// Makes a new file of what `from` holds, its time included; it has its name when the disk has it.
    pub fn add(&self, path: &str, from: &mut File) -> Result<()> {
        let destination = self.file(path)?;
        let unwritable = |error: io::Error| self.unwritable(&destination, &error);
        let mut temporary = Temporary::create(self, &destination)?;
        io::copy(from, &mut temporary.file).map_err(unwritable)?;
        temporary.keep_time(self, from.metadata().and_then(|found| found.modified()).ok())?;
        temporary.file.sync_all().map_err(unwritable)?;
        temporary.rename(self)
    }

    /// An error of writing: what concerns the whole store ends the run, what concerns one file does not.
    #[must_use]
    pub fn unwritable(&self, path: &Path, error: &io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::PermissionDenied => Kind::Store {
                store: format!("'{}'", self.name),
                message: format!("cannot write {}: {error}", path.display()),
            }
            .into(),
            _ => unreadable(path, error),
        }
    }
}

pub(super) fn unreadable(path: &Path, error: &io::Error) -> Error {
    Kind::File { path: path.display().to_string(), message: error.to_string() }.into()
}

pub(super) fn read_piece(path: &Path, file: &mut File, piece: &mut [u8]) -> Result<usize> {
    loop {
        match file.read(piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done.map_err(|error| unreadable(path, &error)),
        }
    }
}

/// A file under another name, beside its final one; vanishes unless it is renamed.
#[derive(Debug)]
pub(super) struct Temporary {
    pub file: File,
    pub path: PathBuf,
    destination: PathBuf,
    renamed: bool,
}

impl Temporary {
    /// The name is always the same, so that a run that was killed leaves nothing behind which the next does not take
    /// over; a lock keeps two runs that write the same object apart.
    pub fn create(folder: &Folder, destination: &Path) -> Result<Self> {
        if let Some(parent) = destination.parent() {
            fs::create_dir_all(parent).map_err(|error| folder.unwritable(parent, &error))?;
        }
        let name = destination.file_name().unwrap_or_default();
        let mut hash = Xxh3::new();
        hash.write(name.as_encoded_bytes());
        // A long name plus a suffix could exceed the file system's 255 bytes.
        let short: String = name.to_string_lossy().chars().take(40).collect();
        let path = destination.with_file_name(format!(".{short}.{:016x}{PART_SUFFIX}", hash.finish()));
        for _ in 0..10 {
            let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
            let file = opened.map_err(|error| folder.unwritable(&path, &error))?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    return Err(Kind::File {
                        path: destination.display().to_string(),
                        message: "is being written by another run".into(),
                    }
                    .into());
                }
                // File systems without locks: then there is nothing that could keep two runs apart.
                Ok(()) | Err(TryLockError::Error(_)) => {}
            }
            let held = file.metadata().map_err(|error| folder.unwritable(&path, &error))?;
            // Another run may have renamed it between the opening and the lock.
            if fs::metadata(&path).is_ok_and(|named| named.ino() == held.ino() && named.dev() == held.dev()) {
                if held.len() > 0 {
                    file.set_len(0).map_err(|error| folder.unwritable(&path, &error))?;
                }
                return Ok(Self { file, path, destination: destination.to_owned(), renamed: false });
            }
        }
        Err(Kind::File {
            path: destination.display().to_string(),
            message: "is being written by another run".into(),
        }
        .into())
    }

    pub fn keep_time(&self, folder: &Folder, modified: Option<SystemTime>) -> Result<()> {
        let Some(modified) = modified else { return Ok(()) };
        self.file
            .set_times(FileTimes::new().set_modified(modified))
            .map_err(|error| folder.unwritable(&self.path, &error))
    }

    fn rename(mut self, folder: &Folder) -> Result<()> {
        fs::rename(&self.path, &self.destination)
            .map_err(|error| folder.unwritable(&self.destination, &error))?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn meta_of(found: &fs::Metadata) -> Meta {
    Meta { size: found.len(), modified: found.modified().ok(), etag: None }
}

fn is_part(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.')
        && name.strip_suffix(PART_SUFFIX).is_some_and(|rest| {
            rest.rsplit('.').next().is_some_and(|hash| hash.len() == 16 && hash.bytes().all(is_hex))
        })
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// Files that are written and wait until the disk has them; then they get their names.
#[derive(Debug)]
pub struct Pending {
    files: Vec<Temporary>,
    bytes: u64,
    most: usize,
}

impl Pending {
    /// For one of `lanes`, which share the number of files that a process may hold open.
    #[must_use]
    pub fn of(lanes: usize) -> Self {
        Self { files: Vec::new(), bytes: 0, most: (OPEN_FILES / lanes.max(1)).max(4) }
    }

    pub(super) fn push(&mut self, folder: &Folder, file: Temporary, bytes: u64) -> Result<()> {
        self.files.push(file);
        self.bytes += bytes;
        if self.files.len() >= self.most || self.bytes >= FLUSH_BYTES { self.settle(folder) } else { Ok(()) }
    }

    /// Makes the disk hold every file, then gives each its name.
    pub fn settle(&mut self, folder: &Folder) -> Result<()> {
        match &self.files[..] {
            [] => return Ok(()),
            [one] => one.file.sync_all().map_err(|error| folder.unwritable(&one.path, &error))?,
            [first, ..] => flush(folder, &first.file)?,
        }
        self.bytes = 0;
        self.files.drain(..).try_for_each(|file| file.rename(folder))
    }
}

fn flush(folder: &Folder, file: &File) -> Result<()> {
    rustix::fs::syncfs(file).map_err(|error| folder.unwritable(&folder.root, &error.into()))
}

impl Folder {
    /// Makes the disk hold the names, too.
    pub fn settle(&self) -> Result<()> {
        let root = File::open(&self.root).map_err(|error| unreadable(&self.root, &error))?;
        flush(self, &root)
    }
}
