//! Copying one object: its bytes are hashed while they pass, and it gets its name only when it is whole and proved.

use std::fs::{self, File, FileTimes};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use data_encoding::HEXLOWER;
use md5::{Digest, Md5};

use crate::error::{Error, Kind, Result};

const PIECE: usize = 1 << 20;

/// One object to be copied.
#[derive(Debug)]
pub struct Object<'a> {
    pub source: &'a Path,
    pub destination: &'a Path,
    /// Written before the contents: the name and NUL of an attachment.
    pub prefix: &'a [u8],
    /// The MD5 of what is written, where it is known.
    pub md5: Option<[u8; 16]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    Written(u64),
    /// It was there already.
    Present,
}

fn failed(path: &Path, message: &impl ToString) -> Error {
    Kind::File { path: path.display().to_string(), message: message.to_string() }.into()
}

/// Copies an object unless the destination has it already (same size; with `verify` also the same MD5).
///
/// With `verify` the MD5 is checked while copying, so that damage at the source is found and nothing damaged gets a name.
pub fn copy(object: &Object<'_>, verify: bool) -> Result<Copied> {
    let mut source = File::open(object.source).map_err(|error| failed(object.source, &error))?;
    let metadata = source.metadata().map_err(|error| failed(object.source, &error))?;
    let expected = object.md5.filter(|_| verify);
    if is_present(object, metadata.len(), expected)? {
        return Ok(Copied::Present);
    }
    let folder =
        object.destination.parent().ok_or_else(|| failed(object.destination, &"is no path of a file"))?;
    fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    let temporary = Temporary::beside(object.destination);
    let mut file = File::create_new(&temporary.0).map_err(|error| failed(&temporary.0, &error))?;
    let (size, md5) = stream(object, &mut source, &mut file, expected.is_some())?;
    if size != metadata.len() + object.prefix.len() as u64 {
        return Err(failed(object.source, &"changed while it was copied"));
    }
    if let (Some(expected), Some(md5)) = (expected, md5)
        && expected != md5
    {
        let message = format!(
            "is damaged: its MD5 is {}, its pointer says {}",
            HEXLOWER.encode(&md5),
            HEXLOWER.encode(&expected)
        );
        return Err(failed(object.source, &message));
    }
    if let Ok(modified) = metadata.modified() {
        file.set_times(FileTimes::new().set_modified(modified))
            .map_err(|error| failed(&temporary.0, &error))?;
    }
    file.sync_all().map_err(|error| failed(&temporary.0, &error))?;
    fs::rename(&temporary.0, object.destination).map_err(|error| failed(object.destination, &error))?;
    Ok(Copied::Written(size))
}

fn is_present(object: &Object<'_>, source_size: u64, expected: Option<[u8; 16]>) -> Result<bool> {
    let Ok(metadata) = fs::metadata(object.destination) else { return Ok(false) };
    if metadata.len() != source_size + object.prefix.len() as u64 {
        return Ok(false);
    }
    let Some(expected) = expected else { return Ok(true) };
    let mut file = File::open(object.destination).map_err(|error| failed(object.destination, &error))?;
    let mut md5 = Md5::new();
    read_pieces(object.destination, &mut file, &mut |bytes| {
        md5.update(bytes);
        Ok(())
    })?;
    Ok(<[u8; 16]>::from(md5.finalize()) == expected)
}

fn stream(
    object: &Object<'_>,
    source: &mut File,
    file: &mut File,
    hash: bool,
) -> Result<(u64, Option<[u8; 16]>)> {
    let mut md5 = hash.then(Md5::new);
    let mut size = 0;
    let mut write = |bytes: &[u8]| {
        if let Some(md5) = &mut md5 {
            md5.update(bytes);
        }
        size += bytes.len() as u64;
        file.write_all(bytes).map_err(|error| failed(object.destination, &error))
    };
    write(object.prefix)?;
    read_pieces(object.source, source, &mut write)?;
    Ok((size, md5.map(|md5| md5.finalize().into())))
}

fn read_pieces(path: &Path, file: &mut File, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => each(&piece[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(path, &error)),
        }
    }
}

/// A name beside the final one that vanishes unless it was renamed.
struct Temporary(PathBuf);

impl Temporary {
    fn beside(path: &Path) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // A long name plus a suffix could exceed the file system's 255 bytes.
        let name: String = name.chars().take(40).collect();
        Self(path.with_file_name(format!(".{name}.{}-{number}.part", std::process::id())))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("djm-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    #[test]
    fn an_attachment_is_written_with_its_name_and_proved() {
        let folder = folder("attach");
        let (source, destination) = (folder.join("a"), folder.join("x/y/b"));
        fs::write(&source, b"contents").expect("written");
        let md5: [u8; 16] = Md5::digest(b"name\0contents").into();
        let object = Object { source: &source, destination: &destination, prefix: b"name\0", md5: Some(md5) };
        assert_eq!(copy(&object, true).expect("copied"), Copied::Written(13));
        assert_eq!(fs::read(&destination).expect("read"), b"name\0contents");
        assert_eq!(copy(&object, true).expect("copied"), Copied::Present);
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_damaged_object_gets_no_name_and_leaves_nothing_behind() {
        let folder = folder("damaged");
        let (source, destination) = (folder.join("a"), folder.join("b"));
        fs::write(&source, b"contentS").expect("written");
        let md5: [u8; 16] = Md5::digest(b"contents").into();
        let object = Object { source: &source, destination: &destination, prefix: b"", md5: Some(md5) };
        let error = copy(&object, true).expect_err("damaged");
        assert!(error.to_string().contains("is damaged"), "{error}");
        assert_eq!(fs::read_dir(&folder).expect("listed").count(), 1);
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn another_file_under_the_final_name_is_replaced_by_the_right_one() {
        let folder = folder("replaced");
        let (source, destination) = (folder.join("a"), folder.join("b"));
        fs::write(&source, b"contents").expect("written");
        fs::write(&destination, b"Contents").expect("written");
        let md5: [u8; 16] = Md5::digest(b"contents").into();
        let object = Object { source: &source, destination: &destination, prefix: b"", md5: Some(md5) };
        assert_eq!(copy(&object, true).expect("copied"), Copied::Written(8));
        assert_eq!(fs::read(&destination).expect("read"), b"contents");
        fs::remove_dir_all(folder).expect("removed");
    }
}
