//! Reading a chunk file, which may be anything: what its manifest says of it is proved first.

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use arrow_array::RecordBatch;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::manifest::{ChunkFile, failed, open};
use crate::error::{Error, Result};

const BUFFER: usize = 1 << 20;

/// Proves size and BLAKE3 of a file of the archive.
pub fn hash(root: &Path, path: &str, bytes: u64, blake3: &str) -> Result<()> {
    let mut file = open(root, path)?;
    size(&file, path, bytes)?;
    if hashed(&mut file, path)?.1 == blake3 {
        return Ok(());
    }
    Err(failed(path, "its contents are not what was written: the BLAKE3 hash differs"))
}

/// Size and BLAKE3 of a file that was just written; `path` is what it is called in an error.
pub fn blake3_of(place: &Path, path: &str) -> Result<(u64, String)> {
    let mut file = File::open(place).map_err(|error| failed(path, error))?;
    hashed(&mut file, path)
}

fn hashed(file: &mut File, path: &str) -> Result<(u64, String)> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer).map_err(|error| failed(path, error))? {
            0 => return Ok((hasher.count(), hasher.finalize().to_hex().to_string())),
            read => hasher.update(&buffer[..read]),
        };
    }
}

/// Proves that a file of the archive is there and has its size.
pub fn exists(root: &Path, path: &str, bytes: u64) -> Result<()> {
    size(&open(root, path)?, path, bytes)
}

fn size(file: &File, path: &str, bytes: u64) -> Result<()> {
    let found = file.metadata().map_err(|error| failed(path, error))?.len();
    if found == bytes {
        return Ok(());
    }
    let what = if found < bytes { "it was cut short" } else { "something was added" };
    Err(failed(path, format!("{found} bytes where the manifest says {bytes}: {what}")))
}

/// The batches of a chunk file.
pub struct Chunk {
    path: String,
    reader: Option<ParquetRecordBatchReader>,
    left: u64,
}

impl Chunk {
    /// Opens a file for batches of about `batch_bytes`; it must have as many rows as the manifest says.
    pub fn open(root: &Path, file: &ChunkFile, batch_bytes: usize) -> Result<Self> {
        let path = &file.path;
        let opened = open(root, path)?;
        let build = || -> Result<ParquetRecordBatchReader> {
            let fail = |error: &dyn std::fmt::Display| damaged(path, error);
            let builder = ParquetRecordBatchReaderBuilder::try_new(opened).map_err(|error| fail(&error))?;
            let groups = builder.metadata().row_groups();
            let rows = groups.iter().map(|group| i128::from(group.num_rows())).sum::<i128>();
            if rows != i128::from(file.rows) {
                return Err(failed(path, format!("{rows} rows where the manifest says {}", file.rows)));
            }
            let raw = groups.iter().map(|group| group.total_byte_size().max(0) as u64).sum::<u64>();
            let row_bytes = raw / file.rows.max(1) + 1;
            let rows = (batch_bytes as u64 / row_bytes).clamp(1, 1 << 16) as usize;
            builder.with_batch_size(rows).build().map_err(|error| fail(&error))
        };
        Ok(Self { path: path.clone(), reader: Some(guarded(path, build)?), left: file.rows })
    }

    fn step(&mut self) -> Result<Option<RecordBatch>> {
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let path = self.path.as_str();
        let batch = guarded(path, || reader.next().transpose().map_err(|error| damaged(path, &error)))?;
        let rows = batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
        let expected = if batch.is_some() { rows <= self.left } else { self.left == 0 };
        if !expected {
            return Err(failed(path, "it has another number of rows than it says"));
        }
        self.left -= rows;
        Ok(batch)
    }
}

impl Iterator for Chunk {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.reader = None;
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
        let columns: [(&str, ArrayRef); 3] = [
            ("id", Arc::new(Int32Array::from_iter_values(0..50))),
            ("name", Arc::new(LargeStringArray::from_iter_values((0..50).map(|row| format!("é{row}"))))),
            ("blob", Arc::new(LargeBinaryArray::from_iter_values((0..50).map(|row: u8| [row; 3])))),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("valid");
        let mut writer = ChunkWriter::create(&root, "a.parquet", &batch, 1 << 20).expect("created");
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
            assert!(hash(&root, &file.path, file.bytes, &file.blake3).is_err(), "byte {at}");
            // As if the manifest had been made to match.
            if let Ok(chunk) = Chunk::open(&root, &file, 1 << 20) {
                let _ = chunk.collect::<Vec<_>>();
            }
        }
        for end in 0..whole.len() {
            fs::write(root.join("a.parquet"), &whole[..end]).expect("written");
            assert!(exists(&root, &file.path, file.bytes).is_err());
            assert!(Chunk::open(&root, &file, 1 << 20).is_err(), "{end} bytes");
        }
        let _ = fs::remove_dir_all(&root);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_out_of_the_archive_is_not_followed() {
        let root = std::env::temp_dir().join(format!("djm-linked-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).expect("made");
        std::os::unix::fs::symlink("/etc", root.join("tables")).expect("linked");
        let error = exists(&root, "tables/hostname", 1).expect_err("refused");
        assert!(error.to_string().contains("leads out"), "{error}");
        let _ = fs::remove_dir_all(&root);
    }
}
