//! Reading a chunk file, which may be anything: what its manifest says of it is proved first.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::RecordBatch;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};

use super::manifest::{ChunkFile, failed};
use super::place::Place;
use crate::error::{Error, Result};

const BUFFER: usize = 1 << 20;

/// A file of the archive, to be proved and read.
pub struct Opened {
    path: String,
    file: File,
}

impl Opened {
    /// Opens the file at `path` below the archive; nothing of it is believed yet.
    pub fn open(place: &Place, path: &str) -> Result<Self> {
        Ok(Self { path: path.to_owned(), file: place.read(path)? })
    }

    /// A file that is open.
    pub(super) fn of(path: &str, file: File) -> Self {
        Self { path: path.to_owned(), file }
    }

    /// Proves its size and its BLAKE3.
    pub fn prove(&self, bytes: u64, blake3: &str) -> Result<()> {
        let found = self.file.metadata().map_err(|error| failed(&self.path, error))?.len();
        size(found, &self.path, bytes)?;
        if hashed(&self.file, &self.path)?.1 == blake3 {
            return Ok(());
        }
        Err(failed(&self.path, "its contents are not what was written: the BLAKE3 hash differs"))
    }

    /// The file from its beginning.
    pub fn file(&self) -> Result<File> {
        let rewound = || {
            let mut file = self.file.try_clone()?;
            file.rewind()?;
            Ok(file)
        };
        rewound().map_err(|error: io::Error| failed(&self.path, error))
    }
}

/// Size and BLAKE3 of a file that was just written; `path` is what it is called in an error.
pub fn blake3_of(file: &File, path: &str) -> Result<(u64, String)> {
    hashed(file, path)
}

fn hashed(mut file: &File, path: &str) -> Result<(u64, String)> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER];
    file.rewind().map_err(|error| failed(path, error))?;
    loop {
        match file.read(&mut buffer).map_err(|error| failed(path, error))? {
            0 => return Ok((hasher.count(), hasher.finalize().to_hex().to_string())),
            read => hasher.update(&buffer[..read]),
        };
    }
}

/// Proves that a file of the archive is there and has its size.
pub fn exists(place: &Place, path: &str, bytes: u64) -> Result<()> {
    size(place.size(path)?, path, bytes)
}

fn size(found: u64, path: &str, bytes: u64) -> Result<()> {
    if found == bytes {
        return Ok(());
    }
    let what = if found < bytes { "it was cut short" } else { "something was added" };
    Err(failed(path, format!("{found} bytes where the manifest says {bytes}: {what}")))
}

/// The batches of a chunk file.
pub struct Chunk {
    path: String,
    file: File,
    metadata: ArrowReaderMetadata,
    batch_bytes: u64,
    /// The group of rows that is read next.
    next: usize,
    reader: Option<ParquetRecordBatchReader>,
    left: u64,
    left_of_group: u64,
    failed: bool,
}

impl Opened {
    /// A chunk file in batches of about `batch_bytes`; it must have as many rows as the manifest says.
    pub fn chunk(&self, file: &ChunkFile, batch_bytes: usize) -> Result<Chunk> {
        let path = &file.path;
        let opened = self.file()?;
        let load = || -> Result<ArrowReaderMetadata> {
            let metadata = ArrowReaderMetadata::load(&opened, ArrowReaderOptions::new());
            let metadata = metadata.map_err(|error| damaged(path, &error))?;
            let groups = metadata.metadata().row_groups();
            let rows = groups.iter().map(|group| i128::from(group.num_rows())).sum::<i128>();
            if rows != i128::from(file.rows) || groups.iter().any(|group| group.num_rows() < 0) {
                return Err(failed(path, format!("{rows} rows where the manifest says {}", file.rows)));
            }
            Ok(metadata)
        };
        let metadata = guarded(path, load)?;
        Ok(Chunk {
            path: path.clone(),
            file: opened,
            metadata,
            batch_bytes: batch_bytes as u64,
            next: 0,
            reader: None,
            left: file.rows,
            left_of_group: 0,
            failed: false,
        })
    }
}

impl Chunk {
    /// What the rows of a group take in memory: all of them, and one on the average.
    fn size(&self, group: usize) -> (u64, u64) {
        let group = &self.metadata.metadata().row_groups()[group];
        let all = group.total_byte_size().max(0) as u64;
        (all, all / (group.num_rows().max(1) as u64) + 1)
    }

    /// What the next batch takes, if that is a row larger than a batch: those have a group of their own.
    #[must_use]
    pub fn ahead(&self) -> Option<u64> {
        let group = if self.left_of_group > 0 { self.next.checked_sub(1)? } else { self.next };
        if group >= self.metadata.metadata().num_row_groups() {
            return None;
        }
        let (_, row) = self.size(group);
        (row > self.batch_bytes).then_some(row)
    }

    fn open(&mut self) -> Result<bool> {
        while self.left_of_group == 0 {
            let Some(group) = self.metadata.metadata().row_groups().get(self.next) else { return Ok(false) };
            self.left_of_group = group.num_rows().max(0) as u64;
            let rows = (self.batch_bytes / self.size(self.next).1).clamp(1, 1 << 16) as usize;
            let path = self.path.as_str();
            let (file, metadata, next) = (&self.file, &self.metadata, self.next);
            let build = || {
                let file = file.try_clone().map_err(|error| failed(path, error))?;
                let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone());
                builder
                    .with_row_groups(vec![next])
                    .with_batch_size(rows)
                    .build()
                    .map_err(|error| damaged(path, &error))
            };
            self.reader = Some(guarded(path, build)?);
            self.next += 1;
        }
        Ok(true)
    }

    fn step(&mut self) -> Result<Option<RecordBatch>> {
        if self.failed || !self.open()? {
            return Ok(None);
        }
        let path = self.path.as_str();
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let batch = guarded(path, || reader.next().transpose().map_err(|error| damaged(path, &error)))?;
        let rows = batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
        if rows == 0 || rows > self.left_of_group || rows > self.left {
            return Err(failed(path, "it has another number of rows than it says"));
        }
        self.left -= rows;
        self.left_of_group -= rows;
        if self.left_of_group == 0 {
            // What it holds of the group is given back before anybody works on the rows.
            self.reader = None;
        }
        Ok(batch)
    }
}

impl Iterator for Chunk {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            (self.reader, self.failed) = (None, true);
        }
        step.transpose()
    }
}

fn damaged(path: &str, error: &dyn std::fmt::Display) -> Error {
    failed(path, format!("it cannot be decoded: {error}"))
}

/// Parquet's decoder panics on some damaged files; here that is an error like the others.
fn guarded<T>(path: &str, decode: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| Err(damaged(path, &"its bytes make no sense")))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int32Array, LargeBinaryArray, LargeStringArray};

    use super::*;
    use crate::archive::write::ChunkWriter;

    #[test]
    fn a_byte_flipped_anywhere_is_an_error_of_the_hash_and_never_a_panic_of_the_decoder() {
        let root = std::env::temp_dir().join(format!("djm-flipped-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let place = Place::Folder(root.clone());
        let columns: [(&str, ArrayRef); 3] = [
            ("id", Arc::new(Int32Array::from_iter_values(0..50))),
            ("name", Arc::new(LargeStringArray::from_iter_values((0..50).map(|row| format!("é{row}"))))),
            ("blob", Arc::new(LargeBinaryArray::from_iter_values((0..50).map(|row: u8| [row; 3])))),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("valid");
        let mut writer = ChunkWriter::create(&place, "a.parquet", &batch, 1 << 20).expect("created");
        writer.batch(&batch).expect("written");
        let written = writer.finish().expect("finished");
        let file = ChunkFile {
            path: "a.parquet".into(),
            rows: 50,
            bytes: written.bytes,
            blake3: written.blake3,
            digest: String::new(),
        };
        let whole = fs::read(root.join("a.parquet")).expect("there");
        for at in 0..whole.len() {
            let mut data = whole.clone();
            data[at] ^= 1 << (at % 8);
            fs::write(root.join("a.parquet"), &data).expect("written");
            let opened = Opened::open(&place, &file.path).expect("there");
            assert!(opened.prove(file.bytes, &file.blake3).is_err(), "byte {at}");
            // As if the manifest had been made to match.
            if let Ok(chunk) = opened.chunk(&file, 1 << 20) {
                let _ = chunk.collect::<Vec<_>>();
            }
        }
        for end in 0..whole.len() {
            fs::write(root.join("a.parquet"), &whole[..end]).expect("written");
            assert!(exists(&place, &file.path, file.bytes).is_err());
            let opened = Opened::open(&place, &file.path).expect("there");
            assert!(opened.chunk(&file, 1 << 20).is_err(), "{end} bytes");
        }
        let _ = fs::remove_dir_all(&root);
    }
}
