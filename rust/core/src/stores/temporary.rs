//! A new file where others may write, too: made under a name that nobody can foresee, in real folders only, never through
//! a link, and named when it is whole. And old files: nothing but a plain one is opened.
//!
//! Whoever may write into a store could else let this user overwrite a file of its own, or wait for a pipe for ever.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileTimes, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::SystemTime;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

const PART_SUFFIX: &str = ".part";
const ATTEMPTS: usize = 10;
/// The rights of a new file or folder of which nothing else is known; the umask takes from them.
pub const FILE: u32 = 0o666;
/// The rights of a new folder, before the user's mask.
pub const FOLDER: u32 = 0o777;

/// Opens a file for reading, at once: what is no plain file is an error that says what it is.
pub fn open_plain(path: &Path) -> io::Result<File> {
    // Opening a device can do something to it, so it is looked at first.
    prove_plain(&fs::metadata(path)?)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    prove_plain(&file.metadata()?)?;
    Ok(file)
}

/// Fails unless it is a plain file.
pub fn prove_plain(found: &fs::Metadata) -> io::Result<()> {
    if found.is_file() {
        return Ok(());
    }
    let kind = found.file_type();
    let what = if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a named pipe (FIFO)"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_symlink() {
        "a link"
    } else {
        "a device"
    };
    Err(io::Error::other(format!("is {what}, no plain file")))
}

/// A file under another name, beside its final one; vanishes unless it is given its name.
#[derive(Debug)]
pub struct Temporary {
    /// Where the contents go.
    pub file: File,
    folder: Arc<OwnedFd>,
    hidden: OsString,
    name: OsString,
    replaces: bool,
    named: bool,
}

/// Whose file has the name now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// This one.
    New,
    /// One with the same contents, which somebody has made meanwhile.
    Equal,
    /// Something else, which may not be replaced.
    Other,
}

/// What a new file is to be.
pub struct Wanted<'a> {
    /// The folder that others cannot exchange.
    pub root: &'a Path,
    /// The final name, below `root`.
    pub relative: &'a Path,
    /// The file's rights, before the user's mask.
    pub mode: u32,
    /// The rights of folders that have to be made, by their paths.
    pub folders: &'a dyn Fn(&Path) -> u32,
    /// Whether what has this name may be replaced, whatever it is.
    pub replaces: bool,
}

/// The open folders on the way to the file that was made last; the next one often lies in most of them.
#[derive(Debug, Default)]
pub struct Way {
    root: PathBuf,
    folders: Vec<(OsString, Arc<OwnedFd>)>,
}

impl Temporary {
    /// Makes it beside its final name.
    pub fn create(wanted: &Wanted<'_>) -> io::Result<Self> {
        Self::create_on(wanted, &mut Way::default())
    }

    /// The same for one of many.
    pub fn create_along(wanted: &Wanted<'_>, way: &mut Way) -> io::Result<Self> {
        let has_come_along = !way.folders.is_empty();
        match Self::create_on(wanted, way) {
            // Somebody has taken an empty folder away that was open.
            Err(error) if has_come_along && error.kind() == io::ErrorKind::NotFound => {
                *way = Way::default();
                Self::create_on(wanted, way)
            }
            done => done,
        }
    }

    fn create_on(wanted: &Wanted<'_>, way: &mut Way) -> io::Result<Self> {
        let Place { folder, name, is_new } = within(wanted, way)?;
        if !is_new {
            let parent = wanted.relative.parent().unwrap_or(Path::new(""));
            sweep_once(&folder, wanted.root.join(parent));
        }
        // A long name plus a suffix could exceed the file system's 255 bytes.
        let short: String = name.to_string_lossy().chars().take(40).collect();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..ATTEMPTS {
            let chance = RandomState::new().build_hasher().finish();
            let temporary = OsString::from(format!(".{short}.{chance:016x}{PART_SUFFIX}"));
            let file = match rustix::fs::openat(&folder, &temporary, flags, mode_of(wanted.mode)) {
                Ok(file) => File::from(file),
                Err(Errno::EXIST) => continue,
                Err(error) => return Err(error.into()),
            };
            // Tells other runs that this one is alive. File systems without locks: then nothing is ever swept.
            let swept = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
            if !swept && is_named(&folder, &temporary, &file) {
                let (name, replaces) = (name.clone(), wanted.replaces);
                return Ok(Self { file, folder, hidden: temporary, name, replaces, named: false });
            }
        }
        Err(io::Error::other("another run takes its temporary files away"))
    }

    /// Gives it the time of its source, if that is known.
    pub fn keep_time(&self, modified: Option<SystemTime>) -> io::Result<()> {
        let Some(modified) = modified else { return Ok(()) };
        self.file.set_times(FileTimes::new().set_modified(modified))
    }

    /// Its contents from the beginning.
    pub fn reread(&self) -> io::Result<File> {
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        Ok(file)
    }

    /// Gives the file its name.
    pub fn name(mut self) -> io::Result<Named> {
        let (folder, from, to) = (&self.folder, &self.hidden, &self.name);
        if self.replaces {
            rustix::fs::renameat(folder, from, folder, to)?;
            self.named = true;
            return Ok(Named::New);
        }
        let done = match rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
            // File systems that cannot, NFS among them.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => link_or_rename(folder, from, to),
            done => done.map(|()| Moved::Renamed),
        };
        match done {
            Ok(moved) => {
                // A second name that was linked leaves the first one to `drop`.
                self.named = moved == Moved::Renamed;
                Ok(Named::New)
            }
            Err(Errno::EXIST) if self.is_there_already()? => Ok(Named::Equal),
            Err(Errno::EXIST) => Ok(Named::Other),
            Err(error) => Err(error.into()),
        }
    }

    /// True if somebody has made the same file meanwhile.
    fn is_there_already(&self) -> io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let there = match rustix::fs::openat(&self.folder, &self.name, flags, Mode::empty()) {
            Ok(there) => File::from(there),
            Err(_) => return Ok(false),
        };
        if !there.metadata()?.is_file() {
            return Ok(false);
        }
        let (mut one, mut other) = (io::BufReader::new(self.reread()?), io::BufReader::new(there));
        let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        loop {
            let count = one.read(&mut left)?;
            if count == 0 {
                return Ok(other.read(&mut right)? == 0);
            }
            match other.read_exact(&mut right[..count]) {
                Ok(()) if left[..count] == right[..count] => {}
                Ok(()) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.named {
            let _ = rustix::fs::unlinkat(&self.folder, &self.hidden, AtFlags::empty());
        }
    }
}

/// What became of the name that a file had.
#[derive(PartialEq, Eq)]
enum Moved {
    Renamed,
    /// It has both.
    Linked,
}

fn link_or_rename(folder: &OwnedFd, from: &OsStr, to: &OsStr) -> Result<Moved, Errno> {
    match rustix::fs::linkat(folder, from, folder, to, AtFlags::empty()) {
        Err(Errno::PERM | Errno::NOTSUP | Errno::NOSYS) => {
            match rustix::fs::statat(folder, to, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => rustix::fs::renameat(folder, from, folder, to).map(|()| Moved::Renamed),
                Ok(_) => Err(Errno::EXIST),
                Err(error) => Err(error),
            }
        }
        done => done.map(|()| Moved::Linked),
    }
}

/// Makes an empty file unless there is one.
pub fn touch(root: &Path, relative: &Path) -> io::Result<()> {
    let Place { folder, name, .. } = within(
        &Wanted { root, relative, mode: FILE, folders: &|_| FOLDER, replaces: false },
        &mut Way::default(),
    )?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(&folder, &name, flags, mode_of(FILE)).map(drop).map_err(io::Error::from)
}

/// Where a new file is to be.
struct Place {
    folder: Arc<OwnedFd>,
    name: OsString,
    /// The folder was made for it, so nobody has left anything there.
    is_new: bool,
}

/// The folder of a new file, made if need be, and its name. No link below the root is followed.
fn within(wanted: &Wanted<'_>, way: &mut Way) -> io::Result<Place> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if way.folders.is_empty() || way.root != wanted.root {
        let root = rustix::fs::open(wanted.root, flags, Mode::empty())?;
        *way = Way { root: wanted.root.to_owned(), folders: vec![(OsString::new(), Arc::new(root))] };
    }
    let parts: Vec<&OsStr> = wanted
        .relative
        .components()
        .filter_map(|part| if let Component::Normal(part) = part { Some(part) } else { None })
        .collect();
    let Some((name, parents)) = parts.split_last() else {
        return Err(io::Error::other("is no name of a file"));
    };
    let known = way.folders[1..].iter().zip(parents).take_while(|((name, _), part)| name == *part).count();
    way.folders.truncate(known + 1);
    let mut is_new = false;
    for (depth, part) in parents.iter().enumerate().skip(known) {
        let folder = way.folders[depth].1.clone();
        is_new = false;
        let open = || rustix::fs::openat(&folder, *part, flags | OFlags::NOFOLLOW, Mode::empty());
        let make = || {
            let path: PathBuf = parents[..=depth].iter().collect();
            rustix::fs::mkdirat(&folder, *part, mode_of((wanted.folders)(&path)))
        };
        let opened = match open() {
            Err(Errno::NOENT) => match make() {
                Ok(()) => {
                    is_new = true;
                    open()
                }
                Err(Errno::EXIST) => open(),
                Err(error) => Err(error),
            },
            opened => opened,
        };
        match opened {
            Ok(opened) => way.folders.push(((*part).to_owned(), Arc::new(opened))),
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(no_folder(&folder, part)),
            Err(error) => return Err(error.into()),
        }
    }
    let folder = way.folders[parents.len()].1.clone();
    Ok(Place { folder, name: (*name).to_owned(), is_new })
}

fn no_folder(folder: &OwnedFd, part: &OsStr) -> io::Error {
    let part_shown = part.to_string_lossy();
    let found = rustix::fs::statat(folder, part, AtFlags::SYMLINK_NOFOLLOW);
    match found.map(|found| FileType::from_raw_mode(found.st_mode)) {
        Ok(FileType::Symlink) => io::Error::other(format!(
            "{part_shown:?} on its way is a link, and new files are made in real folders only: mount there what it leads to"
        )),
        _ => io::Error::other(format!("{part_shown:?} on its way is no folder")),
    }
}

fn mode_of(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o777)
}

fn is_named(folder: &OwnedFd, name: &OsStr, file: &File) -> bool {
    let there = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
    match (there, rustix::fs::fstat(file)) {
        (Ok(there), Ok(held)) => (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino),
        _ => false,
    }
}

/// The folders that this process has looked through already; their numbers are used again when they are gone.
static SWEPT: LazyLock<Mutex<HashSet<(PathBuf, u64, u64)>>> = LazyLock::new(Mutex::default);

/// Takes away, once for each folder, what runs that were killed have left there.
fn sweep_once(folder: &OwnedFd, path: PathBuf) {
    let Ok(found) = rustix::fs::fstat(folder) else { return };
    if !SWEPT.lock().is_ok_and(|mut swept| swept.insert((path, found.st_dev, found.st_ino))) {
        return;
    }
    sweep(folder);
}

/// Takes away what runs that were killed have left there: ours, and locked by nobody.
fn sweep(folder: &OwnedFd) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(listed) = rustix::fs::openat(folder, ".", flags, Mode::empty()) else { return };
    let Ok(entries) = rustix::fs::Dir::new(listed) else { return };
    let me = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if !is_part(name) {
            continue;
        }
        let mine = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|found| {
            found.st_uid == me && FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
        });
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if mine
            && let Ok(file) = rustix::fs::openat(folder, name, flags, Mode::empty()).map(File::from)
            && file.try_lock().is_ok()
        {
            // The lock is held until the name is gone: whoever has just made the file, and not locked it yet, sees one of both.
            let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
        }
    }
}

/// True for names of files that are not whole yet.
#[must_use]
pub fn is_part(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with('.')
        && name.strip_suffix(PART_SUFFIX).is_some_and(|rest| {
            rest.rsplit('.').next().is_some_and(|hash| hash.len() == 16 && hash.bytes().all(is_hex))
        })
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn folders_on_the_way_are_kept_and_one_that_was_taken_away_is_made_again() {
        let root = tempfile::tempdir().expect("a folder");
        let mut way = Way::default();
        let mut make = |relative: &str| {
            let relative = Path::new(relative);
            let wanted =
                Wanted { root: root.path(), relative, mode: FILE, folders: &|_| FOLDER, replaces: false };
            Temporary::create_along(&wanted, &mut way).and_then(Temporary::name)
        };
        for path in ["a/b/1/x", "a/b/2/x", "a/c", "d", "a/b/2/y"] {
            assert_eq!(make(path).expect("made"), Named::New, "{path}");
        }
        fs::remove_dir_all(root.path().join("a")).expect("taken away");
        for path in ["a/b/3/x", "a/b/4/x"] {
            assert_eq!(make(path).expect("made anew"), Named::New, "{path}");
        }
        assert!(root.path().join("a/b/4/x").is_file() && root.path().join("d").is_file());
    }

    #[test]
    fn what_is_taken_away_is_nothing_that_a_run_holds() {
        let root = tempfile::tempdir().expect("a folder");
        let opened = || OwnedFd::from(File::open(root.path()).expect("opened"));
        let ended = AtomicBool::new(false);
        let made = std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        sweep(&opened());
                    }
                });
            }
            let create = |number: usize| {
                let relative = PathBuf::from(number.to_string());
                let wanted = Wanted {
                    root: root.path(),
                    relative: &relative,
                    mode: FILE,
                    folders: &|_| FOLDER,
                    replaces: false,
                };
                Temporary::create(&wanted)
            };
            let kept = |number| {
                // One that the others found first each time was told so, and is no file that was lost.
                let Ok(temporary) = create(number) else { return true };
                std::thread::yield_now();
                temporary.name().is_ok_and(|named| named == Named::New)
            };
            let made = (0..1_000).filter(|number| kept(*number)).count();
            ended.store(true, Ordering::Relaxed);
            made
        });
        assert_eq!(made, 1_000);
    }
}
