//! A store that is a folder.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::Access;
use rustix::process::{Resource, getrlimit};

use super::store::Meta;
use super::temporary::{FILE, FOLDER, Named, Temporary, Wanted, Way, is_part, open_plain, prove_plain};
use crate::error::{Error, Kind, Result};

/// Written files wait for one flush of the file system, which costs as much for many as for one. Each is held open, and
/// its folder with it: half of what this process may hold open is left to others.
const OPEN_FILES: (u64, u64) = (64, 2_048);
const FLUSH_BYTES: u64 = 64 << 20;

/// A store in a folder of this machine.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The store's name.
    pub name: String,
    /// Its folder.
    pub root: PathBuf,
}

impl Folder {
    /// The folder has to be there.
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

    /// How errors name an object.
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

    /// What is known of a file; nothing if it is not there. What is no plain file is an error.
    pub fn meta(&self, path: &str) -> Result<Option<Meta>> {
        let file = self.file(path)?;
        match fs::metadata(&file) {
            Ok(found) => {
                prove_plain(&found).map_err(|error| unreadable(&file, &error))?;
                Ok(Some(meta_of(&found)))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(unreadable(&file, &error)),
        }
    }

    /// True if nothing lies in this folder of the store.
    pub fn is_empty(&self, prefix: &str) -> Result<bool> {
        let folder = self.file(prefix)?;
        match fs::read_dir(&folder) {
            Ok(mut entries) => Ok(entries.next().is_none()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(unreadable(&folder, &error)),
        }
    }

    /// An error if this user may not write there.
    pub fn may_write(&self) -> Result<Option<bool>> {
        let asked = Access::WRITE_OK | Access::EXEC_OK;
        match rustix::fs::access(&self.root, asked) {
            Ok(()) => Ok(Some(true)),
            Err(error) => Err(self.unwritable(&self.root, &error.into())),
        }
    }

    /// Hands over the files below a path, which is relative to the store. Links between folders are followed once.
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
                } else if !is_part(path.file_name().unwrap_or_default()) {
                    // What is no plain file is named when it is to be read.
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

    /// Opens a file for reading. What is no plain file is an error.
    pub fn read(&self, path: &str) -> Result<File> {
        let file = self.file(path)?;
        open_plain(&file).map_err(|error| unreadable(&file, &error))
    }

    /// Makes a new file of what `from` holds, its time included; it has its name when the disk has it.
    pub fn add(&self, path: &str, from: &mut File, mode: u32) -> Result<()> {
        let destination = self.file(path)?;
        let unwritable = |error: io::Error| self.unwritable(&destination, &error);
        let found = from.metadata().map_err(unwritable)?;
        let mut pending = Pending::of(1);
        let mut temporary = self.begin(path, mode, &|_| FOLDER, false)?;
        io::copy(from, &mut temporary.file).map_err(unwritable)?;
        temporary.keep_time(found.modified().ok()).map_err(unwritable)?;
        pending.push(self, Written { temporary, destination, source: path.to_owned() }, found.len())?;
        pending.settle(self)
    }

    /// A new file that is to be at `path`.
    pub(super) fn begin(
        &self,
        path: &str,
        mode: u32,
        folders: &dyn Fn(&Path) -> u32,
        replaces: bool,
    ) -> Result<Temporary> {
        let destination = self.file(path)?;
        let wanted = Wanted { root: &self.root, relative: Path::new(path), mode, folders, replaces };
        Temporary::create(&wanted).map_err(|error| self.unwritable(&destination, &error))
    }

    /// The same for one of many that get their names together.
    pub(super) fn begin_beside(&self, path: &str, pending: &mut Pending) -> Result<Temporary> {
        let destination = self.file(path)?;
        let (root, relative) = (self.root.as_path(), Path::new(path));
        let wanted = Wanted { root, relative, mode: FILE, folders: &|_| FOLDER, replaces: false };
        Temporary::create_along(&wanted, &mut pending.way)
            .map_err(|error| self.unwritable(&destination, &error))
    }

    /// The rights of one of the folders in it, for its copy.
    #[must_use]
    pub fn rights(&self, folder: &Path) -> u32 {
        fs::metadata(self.root.join(folder)).map_or(FOLDER, |found| found.mode()) | 0o700
    }

    /// Whom the folders on the way to a file let through to it, as a mask for the rights of a copy that lies elsewhere.
    #[must_use]
    pub fn reached_by(&self, path: &str) -> u32 {
        let folders = Path::new(path).ancestors().skip(1);
        folders.fold(0o777, |all, folder| {
            let rights = if folder.as_os_str().is_empty() { FOLDER } else { self.rights(folder) };
            [0o010, 0o001].iter().fold(all, |all, bit| if rights & bit == 0 { all & !(bit * 7) } else { all })
        })
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

fn meta_of(found: &fs::Metadata) -> Meta {
    Meta { size: found.len(), modified: found.modified().ok(), etag: None }
}

/// A file that is written and has no name yet.
#[derive(Debug)]
pub(super) struct Written {
    pub temporary: Temporary,
    pub destination: PathBuf,
    /// Of what it is a copy, for messages.
    pub source: String,
}

impl Written {
    /// True if it is a new file.
    fn name(self, folder: &Folder) -> Result<bool> {
        match self.temporary.name() {
            Ok(Named::Other) => Err(occupied(&self.destination.display(), &self.source)),
            Ok(named) => Ok(named == Named::New),
            Err(error) => Err(folder.unwritable(&self.destination, &error)),
        }
    }
}

/// The one rule of all copies: what has another name than its contents is never replaced by other contents.
pub fn occupied(there: &impl ToString, source: &str) -> Error {
    let message = format!("is there with other contents than {source}, and stays: move one of the two away");
    Kind::File { path: there.to_string(), message }.into()
}

/// Files that are written and wait until the disk has them; then they get their names.
#[derive(Debug)]
pub struct Pending {
    files: Vec<Written>,
    bytes: u64,
    most: usize,
    unnamed: Vec<Unnamed>,
    made: u64,
    way: Way,
}

fn open_files() -> usize {
    let (least, most) = OPEN_FILES;
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    (allowed / 4).clamp(least, most) as usize
}

/// A file that was written and did not get its name.
#[derive(Debug)]
pub struct Unnamed {
    /// Where it was to be.
    pub destination: PathBuf,
    /// What stood in the way.
    pub error: Error,
}

impl Pending {
    /// For one of `lanes`, which share the number of files that a process may hold open.
    #[must_use]
    pub fn of(lanes: usize) -> Self {
        Self {
            files: Vec::new(),
            bytes: 0,
            most: (open_files() / lanes.max(1)).max(4),
            unnamed: Vec::new(),
            made: 0,
            way: Way::default(),
        }
    }

    pub(super) fn push(&mut self, folder: &Folder, file: Written, bytes: u64) -> Result<()> {
        self.files.push(file);
        self.bytes += bytes;
        if self.files.len() >= self.most || self.bytes >= FLUSH_BYTES { self.name(folder) } else { Ok(()) }
    }

    /// Makes the disk hold every file, then gives each its name. The first error, of one that did not get it.
    pub fn settle(&mut self, folder: &Folder) -> Result<()> {
        self.settle_each(folder)?.into_iter().next().map_or(Ok(()), |unnamed| Err(unnamed.error))
    }

    /// Makes the disk hold every file, then gives each its name, and tells which did not get it since the last time.
    pub fn settle_each(&mut self, folder: &Folder) -> Result<Vec<Unnamed>> {
        self.name(folder)?;
        Ok(std::mem::take(&mut self.unnamed))
    }

    /// How many new files got their names since the last time: of two that are equal one is.
    pub fn take_made(&mut self) -> u64 {
        std::mem::take(&mut self.made)
    }

    /// Beside those of a folder: an object of a service, which has its name at once.
    pub(super) fn is_made(&mut self) {
        self.made += 1;
    }

    /// One that does not get its name takes no other's away.
    fn name(&mut self, folder: &Folder) -> Result<()> {
        match &self.files[..] {
            [] => return Ok(()),
            [one] => {
                let synced = one.temporary.file.sync_all();
                synced.map_err(|error| folder.unwritable(&one.destination, &error))?;
            }
            [first, ..] => flush(folder, &first.temporary.file)?,
        }
        self.bytes = 0;
        // No folder is believed in for longer: somebody may have put another in its place.
        self.way = Way::default();
        for file in self.files.drain(..) {
            let destination = file.destination.clone();
            match file.name(folder) {
                Ok(is_new) => self.made += u64::from(is_new),
                Err(error) => self.unnamed.push(Unnamed { destination, error }),
            }
        }
        Ok(())
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
