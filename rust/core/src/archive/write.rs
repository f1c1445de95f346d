//! Writing a chunk file.
//!
//! Parquet, not Arrow IPC, by measurement (pyarrow, one thread, zstd 1; chunks of 13.5 and 14.8 MB in memory):
//!
//! | chunk | IPC: bytes, write, read | Parquet: bytes, write, read |
//! | --- | --- | --- |
//! | 250,000 narrow rows | 5.11 MB, 33 ms, 10 ms | 4.88 MB, 72 ms, 13 ms |
//! | 1000 blobs of zlib, zstd | 14.84 MB, 16 ms, 1 ms | 14.84 MB, 30 ms, 3 ms |
//! | the same, not compressed again | 14.84 MB, 10 ms, 0 ms | 14.84 MB, 11 ms, 3 ms |
//!
//! IPC is quicker, but both are several times quicker than a server hands the rows over or takes them; Parquet is no
//! larger, and everything reads it: `DuckDB` reads IPC only with an extension. zstd 3 saves another 4 % of narrow rows.

use std::io::{self, Write};

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::manifest::failed;
use super::place::{Draft, Place};
use crate::batch::bytes_of;
use crate::error::Result;

pub(super) const LEVEL: i32 = 1;
const PAGE: usize = 1 << 20;
/// How much of a column is compressed to see whether it is worth it.
const SAMPLE: usize = 1 << 18;
/// A column that loses less than a twentieth is stored as it is: blobs of `DataJoint` are mostly zlib already.
const WORTH: (usize, usize) = (19, 20);

/// Counts and hashes what is written.
pub(super) struct Hashing {
    draft: Draft,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Hashing {
    pub(super) fn begin(place: &Place, path: &str) -> Result<Self> {
        Ok(Self { draft: place.draft(path)?, hasher: blake3::Hasher::new(), bytes: 0 })
    }

    /// Gives the file its name; its size and its BLAKE3.
    pub(super) fn keep(self) -> Result<(u64, String)> {
        self.draft.keep()?;
        Ok((self.bytes, self.hasher.finalize().to_hex().to_string()))
    }
}

impl Write for Hashing {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.draft.file.write(data)?;
        self.hasher.update(&data[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.draft.file.flush()
    }
}

/// A chunk file in the making: it has its name only when it is whole.
pub struct ChunkWriter {
    path: String,
    writer: ArrowWriter<Hashing>,
    group_bytes: usize,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Of the file.
    pub bytes: u64,
    /// Of the file, in hexadecimal.
    pub blake3: String,
}

impl ChunkWriter {
    /// Begins the file `path`. The `first` batch decides what is worth to be compressed; at `group_bytes` what is held in
    /// memory is written.
    pub fn create(place: &Place, path: &str, first: &RecordBatch, group_bytes: usize) -> Result<Self> {
        let fail = |error: &dyn std::fmt::Display| failed(path, error);
        let hashing = Hashing::begin(place, path)?;
        let properties = properties(first).map_err(|error| fail(&error))?;
        let writer =
            ArrowWriter::try_new(hashing, first.schema(), Some(properties)).map_err(|error| fail(&error))?;
        Ok(Self { path: path.to_owned(), writer, group_bytes })
    }

    /// Adds rows, in columns like those of the first batch. A row of which a group would be full has one of its own, so that
    /// whoever reads knows beforehand what it takes.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<()> {
        let is_large = batch.num_rows() == 1 && bytes_of(batch) > self.group_bytes;
        if is_large && self.writer.in_progress_rows() > 0 {
            self.writer.flush().map_err(|error| failed(&self.path, error))?;
        }
        self.writer.write(batch).map_err(|error| failed(&self.path, error))?;
        if is_large || self.writer.memory_size() > self.group_bytes {
            self.writer.flush().map_err(|error| failed(&self.path, error))?;
        }
        Ok(())
    }

    /// Writes the rest and gives the file its name.
    pub fn finish(self) -> Result<Written> {
        let path = self.path;
        let hashing = self.writer.into_inner().map_err(|error| failed(&path, error))?;
        let (bytes, blake3) = hashing.keep()?;
        Ok(Written { bytes, blake3 })
    }
}

fn properties(first: &RecordBatch) -> parquet::errors::Result<WriterProperties> {
    let zstd = Compression::ZSTD(ZstdLevel::try_new(LEVEL)?);
    let row_bytes = bytes_of(first) / first.num_rows().max(1);
    let mut builder = WriterProperties::builder()
        .set_compression(zstd)
        .set_data_page_size_limit(PAGE)
        // Pages are measured between such batches: rows of a megabyte must not wait for a thousand others.
        .set_write_batch_size((PAGE / row_bytes.max(1)).clamp(1, 1024))
        .set_max_row_group_row_count(Some(1 << 20))
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for (field, array) in first.schema().fields().iter().zip(first.columns()) {
        let column = ColumnPath::new(vec![field.name().clone()]);
        builder = match field.data_type() {
            // A dictionary may take -0.0 for 0.0.
            DataType::Float32 | DataType::Float64 => builder.set_column_dictionary_enabled(column, false),
            DataType::LargeBinary => {
                let builder = builder
                    .set_column_dictionary_enabled(column.clone(), false)
                    .set_column_statistics_enabled(column.clone(), EnabledStatistics::None);
                if is_worth_compressing(array.as_ref()) {
                    builder
                } else {
                    builder.set_column_compression(column, Compression::UNCOMPRESSED)
                }
            }
            _ => builder,
        };
    }
    Ok(builder.build())
}

fn is_worth_compressing(array: &dyn Array) -> bool {
    let Some(values) = array.as_binary_opt::<i64>() else { return true };
    let mut sample = Vec::new();
    for value in values.iter().flatten() {
        let room = SAMPLE.saturating_sub(sample.len());
        if room == 0 {
            break;
        }
        sample.extend_from_slice(&value[..value.len().min(room)]);
    }
    match zstd::bulk::compress(&sample, LEVEL) {
        Ok(packed) => packed.len() * WORTH.1 < sample.len() * WORTH.0,
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Float64Array, LargeBinaryArray};

    use super::*;
    use crate::archive::manifest::ChunkFile;
    use crate::archive::read::Opened;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("djm-archive-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a temporary folder");
        folder
    }

    #[test]
    fn minus_zero_survives_and_so_does_every_row() {
        let root = folder("zero");
        let place = Place::Folder(root.clone());
        let values: Vec<f64> = (0..5000).map(|row| if row % 3 == 0 { -0.0 } else { 0.0 }).collect();
        let array: ArrayRef = Arc::new(Float64Array::from(values.clone()));
        let batch = RecordBatch::try_from_iter([("x", array)]).expect("valid");
        let mut writer = ChunkWriter::create(&place, "tables/t/0.parquet", &batch, 1 << 20).expect("created");
        writer.batch(&batch).expect("written");
        let written = writer.finish().expect("finished");
        assert!(!root.join("tables/t/0.parquet.tmp").exists());
        let file = ChunkFile {
            path: "tables/t/0.parquet".into(),
            rows: 5000,
            bytes: written.bytes,
            blake3: written.blake3,
            digest: String::new(),
        };
        let opened = Opened::open(&place, &file.path).expect("there");
        opened.prove(file.bytes, &file.blake3).expect("equal");
        let mut back = Vec::new();
        for batch in opened.chunk(&file, 1000).expect("readable") {
            let batch = batch.expect("whole");
            let column = batch.column(0).as_primitive::<arrow_array::types::Float64Type>().clone();
            back.extend(column.values().iter().map(|value| value.to_bits()));
        }
        assert_eq!(back, values.iter().map(|value| value.to_bits()).collect::<Vec<_>>());
        let _ = fs::remove_dir_all(&root);
    }

    #[test]
    fn bytes_that_are_compressed_already_are_not_compressed_again() {
        let mut noise = Vec::new();
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"noise");
        noise.resize(100_000, 0);
        hasher.finalize_xof().fill(&mut noise);
        assert!(!is_worth_compressing(&LargeBinaryArray::from(vec![noise.as_slice()])));
        assert!(is_worth_compressing(&LargeBinaryArray::from(vec![[0; 100_000].as_slice()])));
    }
}
