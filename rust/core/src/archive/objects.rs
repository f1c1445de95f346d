//! `objects.parquet`: the objects of external stores that an archive holds, one a row, in the order of their paths.
//!
//! There may be millions of them: they are sorted on disk when they are found, and read as a stream.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};

use super::manifest::{ChunkFile, Manifest, StoredFile, failed, is_hex};
use super::place::{Place, inside};
use super::read::{Chunk, Opened};
use super::write::{Hashing, LEVEL};
use crate::error::{Error, Result};

/// Where the file lies in its archive.
pub const OBJECTS: &str = "objects.parquet";

/// Objects are sorted in memory up to this size, and in files above it.
const SORTED_BYTES: usize = 32 << 20;
/// So many files are open at once.
const RUNS: usize = 64;
const BATCH_BYTES: usize = 256 << 10;
/// What stands in memory of each column of each file that is open.
const PAGE: usize = 64 << 10;
const GROUP_ROWS: usize = 1 << 16;
const GROUP_BYTES: usize = 8 << 20;

/// What the manifest says of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectsFile {
    /// Below the archive.
    pub path: String,
    /// One for each object.
    pub rows: u64,
    /// Of the file.
    pub bytes: u64,
    /// Of the file, in hexadecimal.
    pub blake3: String,
    /// Of the objects.
    pub file_bytes: u64,
    /// The stores that they are of.
    pub stores: Vec<String>,
}

/// Objects while they are found, in any order.
pub struct Found {
    place: Place,
    waiting: Vec<StoredFile>,
    bytes: usize,
    most: usize,
    runs: Vec<Run>,
}

/// Some of them, sorted and laid aside.
struct Run {
    file: File,
    rows: u64,
}

impl Found {
    /// Nothing is found yet. What is too much for memory waits in scratch files of `place`.
    #[must_use]
    pub fn new(place: &Place) -> Self {
        Self::sorting(place, SORTED_BYTES)
    }

    fn sorting(place: &Place, most: usize) -> Self {
        Self { place: place.clone(), waiting: Vec::new(), bytes: 0, most, runs: Vec::new() }
    }

    /// Takes one more.
    pub fn add(&mut self, file: StoredFile) -> Result<()> {
        self.bytes += size_of::<StoredFile>() + text_of(&file);
        self.waiting.push(file);
        if self.bytes < self.most {
            return Ok(());
        }
        if self.runs.len() == RUNS {
            let merged = merge(std::mem::take(&mut self.runs), Vec::new())?;
            let run = self.lay_aside(merged)?;
            self.runs.push(run);
        }
        let waiting = self.take_sorted();
        let run = self.lay_aside(waiting.into_iter().map(Ok))?;
        self.runs.push(run);
        Ok(())
    }

    fn take_sorted(&mut self) -> Vec<StoredFile> {
        self.bytes = 0;
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        waiting
    }

    fn lay_aside(&self, files: impl Iterator<Item = Result<StoredFile>>) -> Result<Run> {
        let mut rows = Rows::new(self.place.scratch(OBJECTS)?)?;
        files.into_iter().try_for_each(|file| rows.add(file?))?;
        let count = rows.count;
        Ok(Run { file: rows.finish()?, rows: count })
    }

    /// Writes the file, if there is anything to be said in it. An object that was found twice is there once.
    pub fn write(mut self) -> Result<Option<ObjectsFile>> {
        let waiting = self.take_sorted();
        if waiting.is_empty() && self.runs.is_empty() {
            return Ok(None);
        }
        let mut rows = Rows::new(Hashing::begin(&self.place, OBJECTS)?)?;
        let (mut file_bytes, mut stores) = (0_u64, Vec::<String>::new());
        let mut last: Option<StoredFile> = None;
        for file in merge(std::mem::take(&mut self.runs), waiting)? {
            let file = file?;
            if let Some(last) = &last
                && last.path == file.path
            {
                if *last == file {
                    continue;
                }
                return Err(failed(
                    &file.path,
                    "was found twice, with other contents: it is being written to",
                ));
            }
            prove(OBJECTS, &file)?;
            file_bytes = file_bytes.saturating_add(file.bytes);
            if !stores.contains(&file.store) {
                stores.push(file.store.clone());
            }
            rows.add(file.clone())?;
            last = Some(file);
        }
        let count = rows.count;
        let (bytes, blake3) = rows.finish()?.keep()?;
        Ok(Some(ObjectsFile { path: OBJECTS.into(), rows: count, bytes, blake3, file_bytes, stores }))
    }
}

fn text_of(file: &StoredFile) -> usize {
    file.path.len() + file.store.len() + file.object.len() + file.blake3.len()
}

/// Whether what the file of this path says of an object can be.
fn prove(said_in: &str, file: &StoredFile) -> Result<()> {
    if let Some(path) = [&file.path, &file.object].into_iter().find(|path| inside(path).is_err()) {
        return Err(failed(said_in, format!("{path:?} leads out of the archive")));
    }
    let named = file.path.strip_prefix("files/").and_then(|path| path.strip_prefix(file.store.as_str()));
    if named.and_then(|path| path.strip_prefix('/')) == Some(&file.object) && is_hex(&file.blake3, 64) {
        return Ok(());
    }
    Err(failed(said_in, format!("what it says of {} cannot be", file.path)))
}

/// The rows of a file that is written.
struct Rows<W: Write + Send> {
    writer: ArrowWriter<W>,
    waiting: Vec<StoredFile>,
    bytes: usize,
    count: u64,
}

impl<W: Write + Send> Rows<W> {
    fn new(out: W) -> Result<Self> {
        let begin = || {
            let zstd = Compression::ZSTD(ZstdLevel::try_new(LEVEL)?);
            let properties = WriterProperties::builder()
                .set_compression(zstd)
                .set_data_page_size_limit(PAGE)
                .set_max_row_group_row_count(Some(GROUP_ROWS))
                .set_statistics_enabled(EnabledStatistics::Chunk)
                // Nothing is there twice but the names of stores.
                .set_dictionary_enabled(false)
                .set_column_dictionary_enabled(ColumnPath::from("store"), true)
                .build();
            ArrowWriter::try_new(out, batch_of(&[])?.schema(), Some(properties))
        };
        let writer = begin().map_err(|error| unwritten(&error))?;
        Ok(Self { writer, waiting: Vec::new(), bytes: 0, count: 0 })
    }

    fn add(&mut self, file: StoredFile) -> Result<()> {
        self.bytes += text_of(&file);
        self.waiting.push(file);
        self.count += 1;
        if self.bytes < BATCH_BYTES { Ok(()) } else { self.settle() }
    }

    fn settle(&mut self) -> Result<()> {
        let batch = batch_of(&self.waiting).map_err(|error| unwritten(&error))?;
        self.writer.write(&batch).map_err(|error| unwritten(&error))?;
        if self.writer.memory_size() > GROUP_BYTES {
            self.writer.flush().map_err(|error| unwritten(&error))?;
        }
        (self.waiting, self.bytes) = (Vec::new(), 0);
        Ok(())
    }

    fn finish(mut self) -> Result<W> {
        self.settle()?;
        self.writer.into_inner().map_err(|error| unwritten(&error))
    }
}

fn unwritten(error: &dyn std::fmt::Display) -> Error {
    failed(OBJECTS, error)
}

fn batch_of(files: &[StoredFile]) -> parquet::errors::Result<RecordBatch> {
    fn column(files: &[StoredFile], of: impl Fn(&StoredFile) -> &str) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(files.iter().map(of)))
    }
    let columns: [(&str, ArrayRef); 5] = [
        ("path", column(files, |file| &file.path)),
        ("store", column(files, |file| &file.store)),
        ("object", column(files, |file| &file.object)),
        ("bytes", Arc::new(UInt64Array::from_iter_values(files.iter().map(|file| file.bytes)))),
        ("blake3", column(files, |file| &file.blake3)),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// Runs and what is still in memory, in the order of their paths.
fn merge(runs: Vec<Run>, waiting: Vec<StoredFile>) -> Result<Merged> {
    let mut streams: Vec<Stream> = Vec::with_capacity(runs.len() + 1);
    for run in runs {
        streams.push(Box::new(Stored::open(&Opened::of(OBJECTS, run.file), OBJECTS, run.rows)?));
    }
    streams.push(Box::new(waiting.into_iter().map(Ok)));
    let mut merged = Merged { streams, heap: BinaryHeap::new() };
    for number in 0..merged.streams.len() {
        merged.advance(number)?;
    }
    Ok(merged)
}

type Stream = Box<dyn Iterator<Item = Result<StoredFile>> + Send>;

struct Merged {
    streams: Vec<Stream>,
    heap: BinaryHeap<Reverse<Next>>,
}

/// The next of a stream, which has a number.
#[derive(PartialEq, Eq)]
struct Next(StoredFile, usize);

impl Ord for Next {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.path.cmp(&other.0.path).then(self.1.cmp(&other.1))
    }
}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Merged {
    fn advance(&mut self, number: usize) -> Result<()> {
        if let Some(file) = self.streams[number].next().transpose()? {
            self.heap.push(Reverse(Next(file, number)));
        }
        Ok(())
    }
}

impl Iterator for Merged {
    type Item = Result<StoredFile>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse(Next(file, number)) = self.heap.pop()?;
        Some(self.advance(number).map(|()| file))
    }
}

/// The rows of a file that is read.
struct Stored {
    path: String,
    batches: Chunk,
    rows: std::vec::IntoIter<StoredFile>,
}

impl Stored {
    fn open(opened: &Opened, path: &str, rows: u64) -> Result<Self> {
        let nothing = String::new;
        let file = ChunkFile { path: path.to_owned(), rows, bytes: 0, blake3: nothing(), digest: nothing() };
        let batches = opened.chunk(&file, BATCH_BYTES)?;
        Ok(Self { path: path.to_owned(), batches, rows: Vec::new().into_iter() })
    }
}

impl Iterator for Stored {
    type Item = Result<StoredFile>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(file) = self.rows.next() {
                return Some(Ok(file));
            }
            match self.batches.next()?.and_then(|batch| rows_of(&self.path, &batch)) {
                Ok(rows) => self.rows = rows.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

fn rows_of(path: &str, batch: &RecordBatch) -> Result<Vec<StoredFile>> {
    let odd = |name: &str| failed(path, format!("it has no column `{name}` of the type that it should have"));
    let column = |name: &str| {
        let found = batch.column_by_name(name).filter(|column| column.null_count() == 0);
        found.ok_or_else(|| odd(name))
    };
    let text = |name: &str| column(name)?.as_string_opt::<i32>().ok_or_else(|| odd(name));
    let (paths, stores, objects, hashes) = (text("path")?, text("store")?, text("object")?, text("blake3")?);
    let bytes = column("bytes")?.as_primitive_opt::<UInt64Type>().ok_or_else(|| odd("bytes"))?;
    let rows = (0..batch.num_rows()).map(|row| StoredFile {
        path: paths.value(row).to_owned(),
        store: stores.value(row).to_owned(),
        object: objects.value(row).to_owned(),
        bytes: bytes.value(row),
        blake3: hashes.value(row).to_owned(),
    });
    Ok(rows.collect())
}

/// The objects of an archive, wherever it names them: manifests of earlier versions held them all.
pub struct Objects<'a> {
    listed: &'a [StoredFile],
    file: Option<(&'a ObjectsFile, Opened)>,
}

impl<'a> Objects<'a> {
    /// Opens the file and proves all of it before anything is done with a part.
    pub fn open(place: &Place, manifest: &'a Manifest) -> Result<Self> {
        let mut found = Self { listed: &manifest.files, file: None };
        if let Some(file) = &manifest.objects {
            let opened = Opened::open(place, &file.path)?;
            opened.prove(file.bytes, &file.blake3)?;
            found.file = Some((file, opened));
            found.each(&mut |_| Ok(()))?;
        }
        Ok(found)
    }

    /// Those that a manifest lists only.
    #[must_use]
    pub fn listed(manifest: &'a Manifest) -> Self {
        Self { listed: &manifest.files, file: None }
    }

    /// Hands them over one by one, in the order of their paths. A file that is not what the manifest says is an error.
    pub fn each(&self, take: &mut dyn FnMut(StoredFile) -> Result<()>) -> Result<()> {
        self.listed.iter().try_for_each(|file| take(file.clone()))?;
        let Some((said, opened)) = &self.file else { return Ok(()) };
        let bad = |message: String| Err(failed(&said.path, message));
        let (mut bytes, mut last) = (0_u64, String::new());
        for file in Stored::open(opened, &said.path, said.rows)? {
            let file = file?;
            prove(&said.path, &file)?;
            if file.path <= last {
                return bad(format!("{} is there twice, or not in its place", file.path));
            }
            if !said.stores.contains(&file.store) {
                return bad(format!("{} is of a store that the manifest does not name", file.path));
            }
            last.clone_from(&file.path);
            bytes = bytes.saturating_add(file.bytes);
            take(file)?;
        }
        if bytes != said.file_bytes {
            return bad(format!("{bytes} bytes of objects where the manifest says {}", said.file_bytes));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
