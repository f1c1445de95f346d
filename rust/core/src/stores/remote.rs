//! Copies of which one end at least is a bucket.

use std::fs::File;
use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use data_encoding::HEXLOWER_PERMISSIVE;
use md5::{Digest, Md5};

use super::bucket::{Bucket, PART, PARTS_AT_ONCE, Parts, Pieces, part_size};
use super::copy::{
    Copied, Copier, Hand, Object, Proof, changed, file_md5, missing, prove, reread, right_size,
};
use super::folder::{Written, occupied, read_piece, unreadable};
use super::server_copy::Answer;
use super::store::{Meta, Store};
use super::temporary::{FILE, FOLDER, Temporary, open_plain};
use crate::error::{Kind, Result};

/// The contents of a source, in pieces.
enum Contents {
    Whole(Option<Bytes>),
    Pieces(Pieces),
    File { path: std::path::PathBuf, file: File, piece: usize },
}

impl Contents {
    fn next(&mut self) -> Result<Option<Bytes>> {
        match self {
            Self::Whole(bytes) => Ok(bytes.take()),
            Self::Pieces(pieces) => pieces.next().transpose(),
            Self::File { path, file, piece } => {
                let mut bytes = BytesMut::zeroed(*piece);
                let mut filled = 0;
                while filled < bytes.len() {
                    match read_piece(path, file, &mut bytes[filled..])? {
                        0 => break,
                        count => filled += count,
                    }
                }
                bytes.truncate(filled);
                Ok((filled > 0).then(|| bytes.freeze()))
            }
        }
    }
}

/// Where contents go.
enum Sink<'a> {
    Parts(Parts),
    Whole(Vec<Bytes>, &'a Bucket, &'a str),
    File(Temporary),
}

impl Copier {
    pub(super) fn copy_remote(&self, object: &Object<'_>, hand: &mut Hand) -> Result<Copied> {
        let proof = object.proof(self.verify);
        let source = &self.stores.source;
        let place = || source.place(object.source);
        let mut known = None;
        let size = if let Some(size) = object.size {
            size
        } else {
            let meta = source.meta(object.source)?.ok_or_else(|| missing(place()))?;
            let size = meta.size;
            known = Some(meta);
            size
        };
        if self.is_there(object, size, proof, hand)? {
            return Ok(Copied::Present);
        }
        if let Some(copied) = self.copy_within(object, size, proof)? {
            return Ok(copied);
        }
        let large = size > PART;
        // Small objects are held once; of large ones several parts are under way on each side.
        let held = if large { part_size(size) * (2 * PARTS_AT_ONCE as u64 + 2) } else { size };
        let _held = self.memory.take(held);
        let (meta, mut contents) = self.open(object, known, large)?;
        right_size(place, object, meta.size)?;
        let written = object.size_written(meta.size);
        let mut sink = self.sink(object, written)?;
        let mut md5 = Md5::new();
        let mut passed = 0;
        let mut pass = |bytes: Bytes| {
            if proof != Proof::Size {
                md5.update(&bytes);
            }
            passed += bytes.len() as u64;
            self.write(&mut sink, bytes)
        };
        if !object.prefix.is_empty() {
            pass(Bytes::copy_from_slice(object.prefix))?;
        }
        while let Some(bytes) = contents.next()? {
            pass(bytes)?;
        }
        if passed != written {
            return Err(changed(place()));
        }
        let md5: [u8; 16] = md5.finalize().into();
        if let Proof::Known(expected) = proof {
            prove(place, expected, md5)?;
        }
        self.close(object, sink, &meta, written, (proof == Proof::Reread).then_some(md5), hand)?;
        Ok(Copied::Written(written))
    }

    /// True if the destination has the object: by its size, and where contents count by its tag or by reading it.
    fn is_there(&self, object: &Object<'_>, size: u64, proof: Proof, hand: &mut Hand) -> Result<bool> {
        if self.stores.empty {
            return Ok(false);
        }
        let (source, destination) = (&self.stores.source, &self.stores.destination);
        let Some(there) = destination.meta(object.destination)? else { return Ok(false) };
        if there.size != object.size_written(size) {
            return self.replaced(object);
        }
        let expected = match proof {
            Proof::Size => return Ok(true),
            Proof::Known(md5) => md5,
            Proof::Reread => {
                let meta = self.meta(object)?;
                match tag(&meta).filter(|_| object.prefix.is_empty()) {
                    Some(md5) => md5,
                    None => md5_of(source, object.source, object.prefix, &meta, hand)?,
                }
            }
        };
        // Of encrypted objects the tag is another thing than the MD5: then what is there has to be read.
        if tag(&there) == Some(expected)
            || md5_of(destination, object.destination, &[], &there, hand)? == expected
        {
            return Ok(true);
        }
        self.replaced(object)
    }

    /// False if what is there is to be replaced.
    fn replaced(&self, object: &Object<'_>) -> Result<bool> {
        if object.replaces {
            return Ok(false);
        }
        let there = self.stores.destination.place(object.destination);
        Err(occupied(&there, &self.stores.source.place(object.source)))
    }

    /// Lets the service copy where both ends are its own and the bytes, which then do not pass here, are proved by tags.
    fn copy_within(&self, object: &Object<'_>, size: u64, proof: Proof) -> Result<Option<Copied>> {
        let (Store::Bucket(source), Store::Bucket(destination)) =
            (&self.stores.source, &self.stores.destination)
        else {
            return Ok(None);
        };
        let Some(within) = destination.within(source) else { return Ok(None) };
        if !object.prefix.is_empty() {
            return Ok(None);
        }
        let before = match object.etag {
            None if (proof != Proof::Size && size > 0) || within.is_in_parts(size) => {
                source.look(object.source)?
            }
            _ => self.meta(object)?,
        };
        right_size(|| source.place(object.source), object, before.size)?;
        let expected = match proof {
            Proof::Size => None,
            // Without a tag that is the MD5, or with another, the bytes are read: they may still be right.
            Proof::Known(md5) if tag(&before) != Some(md5) => return Ok(None),
            Proof::Known(md5) => Some(md5),
            Proof::Reread => match tag(&before) {
                None => return Ok(None),
                found => found,
            },
        };
        // Nothing but the tag proves that all parts are of one object.
        if before.etag.is_none() && within.is_in_parts(size) {
            return Ok(None);
        }
        let answer = destination.copy_within(within, source, object.source, &before, object.destination)?;
        let Answer::Copied(etag) = answer else {
            within.turn_off();
            return Ok(None);
        };
        let mut after = Meta { size, modified: None, etag };
        if tag(&after).is_none() {
            match destination.meta(object.destination)? {
                Some(found) => after = found,
                None => return Ok(None),
            }
        }
        if after.size == before.size && expected.is_none_or(|md5| tag(&after) == Some(md5)) {
            return Ok(Some(Copied::Written(size)));
        }
        // Tags of encrypted objects are no MD5. Then nothing is won by letting the service copy: all has to be read.
        within.turn_off();
        Ok(None)
    }

    /// What is known of the source, by asking if it was not listed.
    fn meta(&self, object: &Object<'_>) -> Result<Meta> {
        if let (Some(size), Some(etag)) = (object.size, object.etag) {
            return Ok(Meta { size, modified: None, etag: Some(etag.to_owned()) });
        }
        let source = &self.stores.source;
        source.meta(object.source)?.ok_or_else(|| missing(source.place(object.source)))
    }

    fn open(&self, object: &Object<'_>, known: Option<Meta>, large: bool) -> Result<(Meta, Contents)> {
        match &self.stores.source {
            Store::Folder(folder) => {
                let path = folder.file(object.source)?;
                let file = open_plain(&path).map_err(|error| unreadable(&path, &error))?;
                let found = file.metadata().map_err(|error| unreadable(&path, &error))?;
                let meta = Meta { size: found.len(), modified: found.modified().ok(), etag: None };
                // One byte more than there should be tells a file that has grown.
                let piece = if large { PART } else { found.len().min(PART) + 1 };
                Ok((meta, Contents::File { path, file, piece: piece as usize }))
            }
            Store::Bucket(bucket) if large => {
                let meta = match known {
                    Some(meta) => meta,
                    None => bucket
                        .meta(object.source)?
                        .ok_or_else(|| missing(self.stores.source.place(object.source)))?,
                };
                let pieces = bucket.pieces(object.source, &meta)?;
                Ok((meta, Contents::Pieces(pieces)))
            }
            Store::Bucket(bucket) => {
                let (meta, bytes) = bucket.get(object.source)?;
                Ok((meta, Contents::Whole(Some(bytes))))
            }
        }
    }

    fn sink<'a>(&'a self, object: &'a Object<'_>, size: u64) -> Result<Sink<'a>> {
        match &self.stores.destination {
            Store::Folder(folder) => {
                folder.begin(object.destination, FILE, &|_| FOLDER, object.replaces).map(Sink::File)
            }
            Store::Bucket(bucket) if size > PART => Ok(Sink::Parts(bucket.begin(object.destination, size)?)),
            Store::Bucket(bucket) => Ok(Sink::Whole(Vec::new(), bucket, object.destination)),
        }
    }

    fn write(&self, sink: &mut Sink<'_>, bytes: Bytes) -> Result<()> {
        match (sink, &self.stores.destination) {
            (Sink::File(temporary), Store::Folder(folder)) => temporary
                .file
                .write_all(&bytes)
                .map_err(|error: io::Error| folder.unwritable(&folder.root, &error)),
            (Sink::Parts(parts), _) => parts.put(bytes),
            (Sink::Whole(parts, ..), _) => {
                parts.push(bytes);
                Ok(())
            }
            (Sink::File(_), Store::Bucket(_)) => Err(Kind::Internal("a file in a bucket".into()).into()),
        }
    }

    /// Gives the object its name; with `written` it is read again first, or its tag tells.
    fn close(
        &self,
        object: &Object<'_>,
        sink: Sink<'_>,
        meta: &Meta,
        size: u64,
        written: Option<[u8; 16]>,
        hand: &mut Hand,
    ) -> Result<()> {
        let etag = match sink {
            Sink::File(temporary) => {
                let Store::Folder(folder) = &self.stores.destination else { return Ok(()) };
                let destination = folder.file(object.destination)?;
                if let Some(written) = written {
                    reread(&temporary, &destination, written, hand)?;
                }
                let kept = temporary.keep_time(meta.modified);
                kept.map_err(|error| folder.unwritable(&destination, &error))?;
                let source = self.stores.source.place(object.source);
                return hand.pending.push(folder, Written { temporary, destination, source }, size);
            }
            Sink::Parts(parts) => parts.finish()?,
            Sink::Whole(parts, bucket, path) => bucket.put(path, parts)?,
        };
        let Some(written) = written else { return Ok(()) };
        let there = Meta { size, modified: None, etag };
        let destination = &self.stores.destination;
        if tag(&there) == Some(written)
            || md5_of(destination, object.destination, &[], &there, hand)? == written
        {
            return Ok(());
        }
        let path = destination.place(object.destination);
        Err(Kind::File { path, message: "reads differently than it was written".into() }.into())
    }
}

/// The MD5 of `prefix` and an object, by reading it.
pub fn md5_of(store: &Store, path: &str, prefix: &[u8], meta: &Meta, hand: &mut Hand) -> Result<[u8; 16]> {
    match store {
        Store::Folder(folder) => file_md5(&folder.file(path)?, prefix, hand),
        Store::Bucket(bucket) => {
            let mut md5 = Md5::new();
            md5.update(prefix);
            if meta.size <= PART {
                md5.update(bucket.get(path)?.1);
            } else {
                for piece in bucket.pieces(path, meta)? {
                    md5.update(piece?);
                }
            }
            Ok(md5.finalize().into())
        }
    }
}

/// The MD5 that a tag holds, if it looks like one. A match proves the contents; a mismatch proves nothing.
fn tag(meta: &Meta) -> Option<[u8; 16]> {
    let tag = meta.etag.as_deref()?.trim_matches('"');
    HEXLOWER_PERMISSIVE.decode(tag.as_bytes()).ok()?.try_into().ok()
}
