//! Copying one object: its bytes are hashed while they pass, and it gets its name only when it is whole and proved.

use std::fs::{self, File};
use std::io;

use data_encoding::HEXLOWER;
use md5::{Digest, Md5};

use super::folder::{Folder, Pending, Temporary, read_piece, unreadable};
use super::memory::Memory;
use super::store::{Store, Stores};
use crate::error::{Error, Kind, Result};

const PIECE: usize = 1 << 20;
/// What all lanes together hold of objects on their way between services.
const IN_FLIGHT: u64 = 128 << 20;

/// One object to be copied; paths are relative to the stores.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a> {
    pub source: &'a str,
    pub destination: &'a str,
    /// Written before the contents: the name and NUL of an attachment.
    pub prefix: &'a [u8],
    /// The MD5 of what is written, where it is known.
    pub md5: Option<[u8; 16]>,
    /// The size of the source, where it is known.
    pub size: Option<u64>,
    /// The tag of the source, where a listing told it.
    pub etag: Option<&'a str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    Written(u64),
    /// It was there already.
    Present,
}

/// How a copy is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// By its size.
    Size,
    /// By the MD5 of what passes, which is known beforehand.
    Known([u8; 16]),
    /// By reading again what was written.
    Reread,
}

/// Copies objects from one store to another.
#[derive(Debug)]
pub struct Copier {
    pub stores: Stores,
    pub verify: bool,
    pub(super) memory: Memory,
}

/// What a lane keeps between objects.
#[derive(Debug)]
pub struct Hand {
    pub(super) pending: Pending,
    pub(super) buffer: Vec<u8>,
}

impl Hand {
    #[must_use]
    pub fn of(lanes: usize) -> Self {
        Self { pending: Pending::of(lanes), buffer: vec![0; PIECE] }
    }
}

impl<'a> Object<'a> {
    /// An object that stays where it is.
    #[must_use]
    pub fn at(path: &'a str, size: u64) -> Self {
        Self { source: path, destination: path, prefix: b"", md5: None, size: Some(size), etag: None }
    }

    pub(super) fn proof(&self, verify: bool) -> Proof {
        match (verify, self.md5) {
            (false, _) => Proof::Size,
            (true, Some(md5)) => Proof::Known(md5),
            (true, None) => Proof::Reread,
        }
    }

    pub(super) fn size_written(&self, source: u64) -> u64 {
        source + self.prefix.len() as u64
    }
}

impl Copier {
    #[must_use]
    pub fn new(stores: Stores, verify: bool) -> Self {
        Self { stores, verify, memory: Memory::new(IN_FLIGHT) }
    }

    /// Copies an object unless the destination has it already (same size; with `verify` also the same contents).
    ///
    /// With `verify` its MD5 is checked while copying, so that damage at the source is found and nothing damaged gets a
    /// name. In a folder it has its name after `settle` only.
    pub fn copy(&self, object: &Object<'_>, hand: &mut Hand) -> Result<Copied> {
        match (&self.stores.source, &self.stores.destination) {
            (Store::Folder(source), Store::Folder(destination)) => {
                copy_file(source, destination, object, object.proof(self.verify), hand)
            }
            _ => self.copy_remote(object, hand),
        }
    }

    /// Proves that an object is where it should be and has its size, without reading it.
    pub fn look(&self, object: &Object<'_>) -> Result<()> {
        let place = || self.stores.source.place(object.source);
        match self.stores.source.meta(object.source)? {
            None => Err(missing(place())),
            Some(meta) => right_size(place, object, meta.size),
        }
    }

    /// Gives their names to what the hand has written.
    pub fn settle(&self, hand: &mut Hand) -> Result<()> {
        match &self.stores.destination {
            Store::Folder(folder) => hand.pending.settle(folder),
            Store::Bucket(_) => Ok(()),
        }
    }

    /// To be called at the end: makes the disk hold everything.
    pub fn finish(&self) -> Result<()> {
        match &self.stores.destination {
            Store::Folder(folder) => folder.settle(),
            Store::Bucket(_) => Ok(()),
        }
    }
}

pub(super) fn missing(path: String) -> Error {
    Kind::File { path, message: "no such file or object".into() }.into()
}

pub(super) fn changed(path: String) -> Error {
    Kind::File { path, message: "changed while it was copied".into() }.into()
}

pub(super) fn right_size(place: impl Fn() -> String, object: &Object<'_>, found: u64) -> Result<()> {
    match object.size {
        Some(size) if size != found => Err(Kind::File {
            path: place(),
            message: format!("has {found} bytes where {size} were expected: it is damaged"),
        }
        .into()),
        _ => Ok(()),
    }
}

/// Checks the MD5 of what passed against the one that is known.
pub fn prove(place: impl Fn() -> String, expected: [u8; 16], found: [u8; 16]) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let message = format!(
        "is damaged: its MD5 is {}, its pointer says {}",
        HEXLOWER.encode(&found),
        HEXLOWER.encode(&expected)
    );
    Err(Kind::File { path: place(), message }.into())
}

/// Copies one file between folders; it has its name when this returns.
pub fn copy_at_once(
    source: &Folder,
    destination: &Folder,
    object: &Object<'_>,
    verify: bool,
    hand: &mut Hand,
) -> Result<Copied> {
    let done = copy_file(source, destination, object, object.proof(verify), hand)?;
    hand.pending.settle(destination)?;
    Ok(done)
}

fn copy_file(
    source_folder: &Folder,
    folder: &Folder,
    object: &Object<'_>,
    proof: Proof,
    hand: &mut Hand,
) -> Result<Copied> {
    let (path, destination) = (source_folder.file(object.source)?, folder.file(object.destination)?);
    let place = || path.display().to_string();
    let mut source = File::open(&path).map_err(|error| unreadable(&path, &error))?;
    let metadata = source.metadata().map_err(|error| unreadable(&path, &error))?;
    right_size(place, object, metadata.len())?;
    let size = object.size_written(metadata.len());
    if fs::metadata(&destination).is_ok_and(|there| there.len() == size) {
        let same = match proof {
            Proof::Size => true,
            Proof::Known(md5) => file_md5(&destination, &[], hand)? == md5,
            Proof::Reread => file_md5(&destination, &[], hand)? == file_md5(&path, object.prefix, hand)?,
        };
        if same {
            return Ok(Copied::Present);
        }
    }
    let mut temporary = Temporary::create(folder, &destination)?;
    let unwritable = |error: &io::Error| folder.unwritable(&destination, error);
    let written = if proof == Proof::Size && object.prefix.is_empty() {
        clone(&source, &mut temporary.file, metadata.len()).map_err(|error| unwritable(&error))?
    } else {
        let mut md5 = Md5::new();
        let mut written = 0;
        let mut write = |bytes: &[u8]| {
            if proof != Proof::Size {
                md5.update(bytes);
            }
            written += bytes.len() as u64;
            io::Write::write_all(&mut temporary.file, bytes).map_err(|error| unwritable(&error))
        };
        write(object.prefix)?;
        loop {
            let count = read_piece(&path, &mut source, &mut hand.buffer)?;
            if count == 0 {
                break;
            }
            write(&hand.buffer[..count])?;
        }
        let found: [u8; 16] = md5.finalize().into();
        match proof {
            Proof::Size => {}
            Proof::Known(expected) => prove(place, expected, found)?,
            Proof::Reread => reread(&temporary.path, found, hand)?,
        }
        written
    };
    let now = source.metadata().map_err(|error| unreadable(&path, &error))?;
    let untouched = now.len() == metadata.len() && now.modified().ok() == metadata.modified().ok();
    if written != size || !untouched {
        return Err(changed(place()));
    }
    temporary.keep_time(folder, metadata.modified().ok())?;
    hand.pending.push(folder, temporary, written)?;
    Ok(Copied::Written(written))
}

/// Shares the blocks where the file system can, else copies inside the kernel. Never a hard link: the copy must stay as it
/// is whatever becomes of the original.
fn clone(source: &File, file: &mut File, size: u64) -> io::Result<u64> {
    if size > 0 && rustix::fs::ioctl_ficlone(&*file, source).is_ok() {
        return file.metadata().map(|metadata| metadata.len());
    }
    io::copy(&mut &*source, file)
}

/// The MD5 of `prefix` and a file.
pub(super) fn file_md5(path: &std::path::Path, prefix: &[u8], hand: &mut Hand) -> Result<[u8; 16]> {
    let mut file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let mut md5 = Md5::new();
    md5.update(prefix);
    loop {
        match read_piece(path, &mut file, &mut hand.buffer)? {
            0 => return Ok(md5.finalize().into()),
            count => md5.update(&hand.buffer[..count]),
        }
    }
}

pub(super) fn reread(path: &std::path::Path, written: [u8; 16], hand: &mut Hand) -> Result<()> {
    if file_md5(path, &[], hand)? == written {
        return Ok(());
    }
    Err(Kind::File {
        path: path.display().to_string(),
        message: "reads differently than it was written".into(),
    }
    .into())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::files::store::StoreSpec;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("djm-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    fn copy_once(folder: &Path, object: &Object<'_>, verify: bool) -> Result<Copied> {
        let spec = StoreSpec::File { name: "raw".into(), location: folder.to_owned() };
        let copier = Copier::new(Stores::open(&spec, &spec, "").expect("opened"), verify);
        let mut hand = Hand::of(1);
        let done = copier.copy(object, &mut hand)?;
        copier.settle(&mut hand)?;
        Ok(done)
    }

    fn object<'a>(source: &'a str, destination: &'a str, contents: &[u8]) -> Object<'a> {
        let md5 = Some(Md5::digest(contents).into());
        Object { source, destination, prefix: b"", md5, size: Some(contents.len() as u64), etag: None }
    }

    #[test]
    fn an_attachment_is_written_with_its_name_and_proved() {
        let folder = folder("attach");
        fs::write(folder.join("a"), b"contents").expect("written");
        let md5 = Some(Md5::digest(b"name\0contents").into());
        let object = Object { prefix: b"name\0", md5, ..object("a", "x/y/b", b"contents") };
        assert_eq!(copy_once(&folder, &object, true).expect("copied"), Copied::Written(13));
        assert_eq!(fs::read(folder.join("x/y/b")).expect("read"), b"name\0contents");
        assert_eq!(copy_once(&folder, &object, true).expect("copied"), Copied::Present);
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_damaged_object_gets_no_name_and_leaves_nothing_behind() {
        let folder = folder("damaged");
        fs::write(folder.join("a"), b"contentS").expect("written");
        let error = copy_once(&folder, &object("a", "b", b"contents"), true).expect_err("damaged");
        assert!(error.to_string().contains("is damaged"), "{error}");
        assert_eq!(fs::read_dir(&folder).expect("listed").count(), 1);
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn another_file_under_the_final_name_is_replaced_by_the_right_one() {
        let folder = folder("replaced");
        fs::write(folder.join("a"), b"contents").expect("written");
        fs::write(folder.join("b"), b"Contents").expect("written");
        let object = object("a", "b", b"contents");
        assert_eq!(copy_once(&folder, &object, true).expect("copied"), Copied::Written(8));
        assert_eq!(fs::read(folder.join("b")).expect("read"), b"contents");
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_copy_is_no_link_and_keeps_its_time() {
        let folder = folder("clone");
        fs::write(folder.join("a"), b"contents").expect("written");
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        let file = File::options().write(true).open(folder.join("a")).expect("opened");
        file.set_modified(time).expect("set");
        assert_eq!(
            copy_once(&folder, &object("a", "b", b"contents"), false).expect("copied"),
            Copied::Written(8)
        );
        fs::write(folder.join("a"), b"CONTENTS").expect("written");
        assert_eq!(fs::read(folder.join("b")).expect("read"), b"contents");
        let kept = fs::metadata(folder.join("b")).and_then(|found| found.modified()).expect("a time");
        assert_eq!(kept, time);
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn what_a_killed_run_left_behind_is_taken_over() {
        let folder = folder("killed");
        fs::write(folder.join("a"), b"contents").expect("written");
        let spec = StoreSpec::File { name: "raw".into(), location: folder.clone() };
        let Store::Folder(store) = Stores::open(&spec, &spec, "").expect("opened").destination else {
            panic!("a folder");
        };
        let mut left = Temporary::create(&store, &folder.join("b")).expect("created");
        io::Write::write_all(&mut left.file, b"a longer half of something").expect("written");
        let half = left.path.clone();
        assert!(Temporary::create(&store, &folder.join("b")).is_err(), "another run is writing it");
        drop(left);
        fs::write(&half, b"a longer half of something").expect("written");
        let mut listed = Vec::new();
        store
            .list("", &mut |path, _| {
                listed.push(path);
                Ok(())
            })
            .expect("listed");
        assert_eq!(listed, ["a"]);
        copy_once(&folder, &object("a", "b", b"contents"), true).expect("copied");
        assert_eq!(fs::read(folder.join("b")).expect("read"), b"contents");
        assert!(!half.exists());
        fs::remove_dir_all(folder).expect("removed");
    }
}
