//! Copying one object: its bytes are hashed while they pass, and it gets its name only when it is whole and proved.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use md5::{Digest, Md5};

use super::folder::{Folder, Pending, Written, occupied, read_piece, unreadable};
use super::store::{Store, Stores};
use super::temporary::{FOLDER, Temporary, open_plain};
use crate::error::{Error, Kind, Result};
use crate::run::memory::Memory;

const PIECE: usize = 1 << 20;
/// What all lanes together hold of objects on their way between services.
const IN_FLIGHT: u64 = 128 << 20;

/// One object to be copied; paths are relative to the stores.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a> {
    /// Where it is.
    pub source: &'a str,
    /// Where it goes.
    pub destination: &'a str,
    /// Written before the contents: the name and NUL of an attachment.
    pub prefix: &'a [u8],
    /// The MD5 of what is written, where it is known.
    pub md5: Option<[u8; 16]>,
    /// The size of the source, where it is known.
    pub size: Option<u64>,
    /// The tag of the source, where a listing told it.
    pub etag: Option<&'a str>,
    /// True if the destination is named by its contents, or is ours alone: then other contents are damage, and replaced.
    pub replaces: bool,
}

/// What has become of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// So many bytes were written.
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
    /// From where to where.
    pub stores: Stores,
    /// What is written is proved by its contents.
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
    /// The hand of one of so many lanes.
    #[must_use]
    pub fn of(lanes: usize) -> Self {
        Self { pending: Pending::of(lanes), buffer: vec![0; PIECE] }
    }
}

impl<'a> Object<'a> {
    /// An object that stays where it is.
    #[must_use]
    pub fn at(path: &'a str, size: u64) -> Self {
        Self {
            source: path,
            destination: path,
            prefix: b"",
            md5: None,
            size: Some(size),
            etag: None,
            replaces: false,
        }
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
    /// Proves contents if `verify`, else sizes.
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

    /// Proves that an object is where it should be and has its size, without reading it; and that it can be opened, where it
    /// is asked for. Of what a service tells about, it gives the contents too.
    pub fn look(&self, object: &Object<'_>, opens: bool) -> Result<()> {
        let place = || self.stores.source.place(object.source);
        match self.stores.source.meta(object.source)? {
            None => Err(missing(place())),
            Some(meta) => right_size(place, object, meta.size),
        }?;
        match &self.stores.source {
            Store::Folder(folder) if opens => folder.read(object.source).map(drop),
            _ => Ok(()),
        }
    }

    /// Gives their names to what the hand has written, and tells by their paths which did not get them.
    pub fn settle(&self, hand: &mut Hand) -> Result<Vec<(String, Error)>> {
        let Store::Folder(folder) = &self.stores.destination else { return Ok(Vec::new()) };
        let unnamed = hand.pending.settle_each(folder)?.into_iter();
        let path = |file: PathBuf| file.strip_prefix(&folder.root).unwrap_or(&file).display().to_string();
        Ok(unnamed.map(|unnamed| (path(unnamed.destination), unnamed.error)).collect())
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
    let mut source = open_plain(&path).map_err(|error| unreadable(&path, &error))?;
    let metadata = source.metadata().map_err(|error| unreadable(&path, &error))?;
    right_size(place, object, metadata.len())?;
    let size = object.size_written(metadata.len());
    if let Some(there) = folder.meta(object.destination)? {
        let same = there.size == size
            && match proof {
                Proof::Size => true,
                Proof::Known(md5) => file_md5(&destination, &[], hand)? == md5,
                Proof::Reread => file_md5(&destination, &[], hand)? == file_md5(&path, object.prefix, hand)?,
            };
        if same {
            return Ok(Copied::Present);
        }
        if !object.replaces {
            return Err(occupied(&destination.display(), &place()));
        }
    }
    // A copy of the store has its folders; elsewhere they are others' too, and the file keeps to whom they let through.
    let alike = object.source == object.destination;
    let folders = |way: &Path| if alike { source_folder.rights(way) } else { FOLDER };
    let mode = metadata.mode() & if alike { 0o777 } else { source_folder.reached_by(object.source) };
    let mut temporary = folder.begin(object.destination, mode, &folders, object.replaces)?;
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
            Proof::Reread => reread(&temporary, &destination, found, hand)?,
        }
        written
    };
    let now = source.metadata().map_err(|error| unreadable(&path, &error))?;
    let untouched = now.len() == metadata.len() && now.modified().ok() == metadata.modified().ok();
    if written != size || !untouched {
        return Err(changed(place()));
    }
    temporary.keep_time(metadata.modified().ok()).map_err(|error| unwritable(&error))?;
    hand.pending.push(folder, Written { temporary, destination, source: place() }, written)?;
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
pub(super) fn file_md5(path: &Path, prefix: &[u8], hand: &mut Hand) -> Result<[u8; 16]> {
    let file = open_plain(path).map_err(|error| unreadable(path, &error))?;
    opened_md5(file, path, prefix, hand)
}

fn opened_md5(mut file: File, path: &Path, prefix: &[u8], hand: &mut Hand) -> Result<[u8; 16]> {
    let mut md5 = Md5::new();
    md5.update(prefix);
    loop {
        match read_piece(path, &mut file, &mut hand.buffer)? {
            0 => return Ok(md5.finalize().into()),
            count => md5.update(&hand.buffer[..count]),
        }
    }
}

pub(super) fn reread(temporary: &Temporary, path: &Path, written: [u8; 16], hand: &mut Hand) -> Result<()> {
    let file = temporary.reread().map_err(|error| unreadable(path, &error))?;
    if opened_md5(file, path, &[], hand)? == written {
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
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    use super::*;
    use crate::stores::store::StoreSpec;

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
        copier.settle(&mut hand)?.into_iter().next().map_or(Ok(done), |(_, error)| Err(error))
    }

    fn object<'a>(source: &'a str, destination: &'a str, contents: &[u8]) -> Object<'a> {
        let md5 = Some(Md5::digest(contents).into());
        Object {
            source,
            destination,
            prefix: b"",
            md5,
            size: Some(contents.len() as u64),
            etag: None,
            replaces: true,
        }
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
    fn other_contents_are_replaced_where_the_name_tells_what_they_should_be_and_nowhere_else() {
        let folder = folder("replaced");
        fs::write(folder.join("a"), b"contents").expect("written");
        fs::write(folder.join("b"), b"Contents").expect("written");
        for verify in [true, false] {
            for there in [&b"Contents"[..], b"longer contents"] {
                fs::write(folder.join("b"), there).expect("written");
                let other = Object { replaces: false, ..object("a", "b", b"contents") };
                match copy_once(&folder, &other, verify) {
                    Ok(done) => assert!(!verify && there.len() == 8 && done == Copied::Present),
                    Err(error) => {
                        let said = error.to_string();
                        assert!(said.contains("/b: is there with other contents than"), "{said}");
                        assert!(said.contains("/a, and stays"), "{said}");
                    }
                }
                assert_eq!(fs::read(folder.join("b")).expect("read"), there);
            }
        }
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
    fn what_a_killed_run_left_behind_is_taken_away() {
        let folder = folder("killed");
        fs::write(folder.join("a"), b"contents").expect("written");
        let half = folder.join(".b.0123456789abcdef.part");
        fs::write(&half, b"a longer half of something").expect("written");
        let alive = folder.join(".c.0123456789abcdef.part");
        let held = File::create(&alive).expect("made");
        held.lock().expect("locked");
        let spec = StoreSpec::File { name: "raw".into(), location: folder.clone() };
        let Store::Folder(store) = Stores::open(&spec, &spec, "").expect("opened").destination else {
            panic!("a folder");
        };
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
        assert!(alive.exists(), "a run that is alive keeps its own");
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_name_that_somebody_takes_meanwhile_takes_no_other_away() {
        let folder = folder("taken");
        let spec = StoreSpec::File { name: "raw".into(), location: folder.clone() };
        let copier = Copier::new(Stores::open(&spec, &spec, "").expect("opened"), true);
        let mut hand = Hand::of(1);
        fs::write(folder.join("a"), b"contents").expect("written");
        for to in ["to/1", "to/2", "to/3"] {
            let object = Object { replaces: false, ..object("a", to, b"contents") };
            assert_eq!(copier.copy(&object, &mut hand).expect("copied"), Copied::Written(8));
        }
        fs::write(folder.join("to/2"), b"of another").expect("written");
        let unnamed = copier.settle(&mut hand).expect("settled");
        let [(path, error)] = &unnamed[..] else { panic!("{unnamed:?}") };
        assert_eq!(path, "to/2");
        assert!(error.to_string().contains("to/2: is there with other contents than"), "{error}");
        assert_eq!(fs::read(folder.join("to/2")).expect("read"), b"of another");
        for there in ["to/1", "to/3"] {
            assert_eq!(fs::read(folder.join(there)).expect("read"), b"contents");
        }
        assert_eq!(copier.settle(&mut hand).expect("settled").len(), 0);
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn no_link_leads_a_new_file_elsewhere() {
        let folder = folder("links");
        let elsewhere = self::folder("elsewhere");
        fs::write(folder.join("a"), b"contents").expect("written");
        fs::write(elsewhere.join("mine"), b"precious").expect("written");
        symlink(&elsewhere, folder.join("sub")).expect("linked");
        symlink(elsewhere.join("mine"), folder.join("b")).expect("linked");
        symlink(elsewhere.join("new"), folder.join("c")).expect("linked");
        for replaces in [false, true] {
            let into = Object { replaces, ..object("a", "sub/new", b"contents") };
            let error = copy_once(&folder, &into, true).expect_err("through a link").to_string();
            assert!(error.contains("is a link"), "{error}");
            let over = Object { replaces, ..object("a", "b", b"contents") };
            assert_eq!(copy_once(&folder, &over, true).is_ok(), replaces);
            let dangling = Object { replaces, ..object("a", "c", b"contents") };
            assert_eq!(copy_once(&folder, &dangling, true).is_ok(), replaces);
        }
        assert_eq!(fs::read(elsewhere.join("mine")).expect("read"), b"precious");
        assert_eq!(fs::read_dir(&elsewhere).expect("listed").count(), 1);
        fs::remove_dir_all(folder).expect("removed");
        fs::remove_dir_all(elsewhere).expect("removed");
    }

    #[test]
    fn a_copy_allows_no_more_than_its_source() {
        let folder = folder("rights");
        fs::create_dir_all(folder.join("x/y")).expect("made");
        fs::write(folder.join("x/y/a"), b"contents").expect("written");
        let allow = |path: &str, mode| {
            fs::set_permissions(folder.join(path), fs::Permissions::from_mode(mode)).expect("set");
        };
        let copy = |to: &str| {
            copy_once(&folder, &object("x/y/a", to, b"contents"), true).expect("copied");
            fs::metadata(folder.join(to)).expect("there").permissions().mode() & 0o777
        };
        allow("x/y/a", 0o600);
        assert_eq!(copy("n/m/b"), 0o600);
        allow("x/y/a", 0o644);
        assert_eq!(copy("n/m/c") & !0o644, 0);
        // Nobody else could come so far.
        allow("x", 0o700);
        assert_eq!(copy("n/m/d"), 0o600);
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn what_is_no_plain_file_is_named_at_once() {
        let folder = folder("pipes");
        fs::create_dir(folder.join("sub")).expect("made");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            folder.join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .expect("made");
        fs::write(folder.join("a"), b"").expect("written");
        for (name, what) in [("pipe", "a named pipe (FIFO)"), ("sub", "a folder")] {
            for (from, to) in [(name, "b"), ("a", name)] {
                let error = copy_once(&folder, &object(from, to, b""), true).expect_err("no file");
                let said = error.to_string();
                assert!(said.ends_with(&format!("{name}: is {what}, no plain file")), "{said}");
            }
        }
        fs::remove_dir_all(folder).expect("removed");
    }
}
