//! An object as a whole: in memory while it is small, else in a file without a name.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, Write};

use md5::{Digest, Md5};

use super::copy::{Copied, missing};
use super::folder::{Pending, Written, occupied, unreadable};
use super::store::Store;
use super::temporary::open_plain;
use crate::error::{Error, Kind, Result};

/// What is larger waits on the disk.
pub const IN_MEMORY: usize = 8 << 20;
const PIECE: usize = 256 << 10;

/// The bytes of an object; those that somebody holds already are not held again.
#[derive(Debug)]
pub enum Whole<'a> {
    /// In memory.
    Memory(Cow<'a, [u8]>),
    /// In a file, and how long it is.
    File(File, u64),
}

impl Whole<'_> {
    /// How many bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, size) => *size,
        }
    }

    /// Its bytes from the beginning.
    pub fn read(&mut self) -> io::Result<Box<dyn BufRead + '_>> {
        Ok(match self {
            Self::Memory(bytes) => Box::new(Cursor::new(&**bytes)),
            Self::File(file, _) => {
                file.rewind()?;
                Box::new(BufReader::with_capacity(PIECE, &*file))
            }
        })
    }

    /// The MD5 of its bytes.
    pub fn md5(&mut self) -> io::Result<[u8; 16]> {
        let mut md5 = Md5::new();
        let mut bytes = self.read()?;
        loop {
            let piece = bytes.fill_buf()?;
            if piece.is_empty() {
                return Ok(md5.finalize().into());
            }
            md5.update(piece);
            let count = piece.len();
            bytes.consume(count);
        }
    }
}

/// An object in the making.
#[derive(Debug, Default)]
pub struct Making {
    held: Vec<u8>,
    file: Option<File>,
    size: u64,
    md5: Md5,
}

impl Making {
    /// The object and its MD5.
    #[must_use]
    pub fn finish(self) -> (Whole<'static>, [u8; 16]) {
        let whole = match self.file {
            Some(file) => Whole::File(file, self.size),
            None => Whole::Memory(Cow::Owned(self.held)),
        };
        (whole, self.md5.finalize().into())
    }
}

impl Write for Making {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.md5.update(bytes);
        self.size += bytes.len() as u64;
        if self.file.is_none() && self.held.len() + bytes.len() > IN_MEMORY {
            let mut file = tempfile::tempfile()?;
            file.write_all(&self.held)?;
            self.held = Vec::new();
            self.file = Some(file);
        }
        match &mut self.file {
            Some(file) => file.write_all(bytes)?,
            None => self.held.extend_from_slice(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Store {
    /// Reads an object.
    pub fn whole(&self, path: &str) -> Result<Whole<'static>> {
        let failed =
            |error: io::Error| Error::from(Kind::File { path: self.place(path), message: error.to_string() });
        match self {
            Self::Folder(folder) => {
                let from = folder.file(path)?;
                let mut file = open_plain(&from).map_err(|error| unreadable(&from, &error))?;
                let size = file.metadata().map_err(failed)?.len();
                if size > IN_MEMORY as u64 {
                    return Ok(Whole::File(file, size));
                }
                let mut bytes = Vec::with_capacity(size as usize);
                file.read_to_end(&mut bytes).map_err(failed)?;
                Ok(Whole::Memory(Cow::Owned(bytes)))
            }
            Self::Bucket(bucket) => {
                let size = bucket.meta(path)?.ok_or_else(|| missing(self.place(path)))?.size;
                if size <= IN_MEMORY as u64 {
                    return bucket.get(path).map(|(_, bytes)| Whole::Memory(Cow::Owned(bytes.into())));
                }
                let mut file = tempfile::tempfile().map_err(failed)?;
                bucket.fetch(path, &mut file)?;
                Ok(Whole::File(file, size))
            }
        }
    }

    /// Makes an object, unless it is there with its size; of two that differ the one that is there stays. In a folder it has
    /// its name once `pending` is settled.
    pub fn make(&self, path: &str, whole: &mut Whole<'_>, pending: &mut Pending) -> Result<Copied> {
        let size = whole.size();
        let _turn = match self {
            Self::Bucket(bucket) => Some(bucket.turn(path)),
            // Of two files one gets the name, when they are settled.
            Self::Folder(_) => None,
        };
        match self.meta(path)? {
            Some(there) if there.size == size => return Ok(Copied::Present),
            Some(_) => return Err(occupied(&self.place(path), "this run would write")),
            None => {}
        }
        match self {
            Self::Folder(folder) => {
                let destination = folder.file(path)?;
                let mut temporary = folder.begin_beside(path, pending)?;
                let unwritable = |error: io::Error| folder.unwritable(&destination, &error);
                match whole {
                    Whole::Memory(bytes) => temporary.file.write_all(bytes).map_err(unwritable)?,
                    Whole::File(file, _) => {
                        file.rewind().map_err(unwritable)?;
                        io::copy(file, &mut temporary.file).map_err(unwritable)?;
                    }
                }
                pending.push(folder, Written { temporary, destination, source: path.to_owned() }, size)?;
            }
            Self::Bucket(bucket) => {
                let failed = |error: io::Error| {
                    let path = std::env::temp_dir().display().to_string();
                    Error::from(Kind::File { path, message: error.to_string() })
                };
                match whole {
                    Whole::Memory(bytes) if bytes.len() <= IN_MEMORY => {
                        bucket.put(path, [bytes::Bytes::copy_from_slice(bytes)])?;
                    }
                    Whole::Memory(bytes) => {
                        let mut file = tempfile::tempfile().map_err(failed)?;
                        file.write_all(bytes).map_err(failed)?;
                        file.rewind().map_err(failed)?;
                        bucket.send(path, &mut file)?;
                    }
                    Whole::File(file, _) => {
                        file.rewind().map_err(failed)?;
                        bucket.send(path, file)?;
                    }
                }
                pending.is_made();
            }
        }
        Ok(Copied::Written(size))
    }

    /// Gives their names to the objects of a folder.
    pub fn settle(&self, pending: &mut Pending) -> Result<()> {
        match self {
            Self::Folder(folder) => pending.settle(folder),
            Self::Bucket(_) => Ok(()),
        }
    }
}
