//! Proving an archive without a server.

mod subset;

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use self::subset::Subset;
use super::backup::natural_of;
use super::copy::{default_lanes, default_memory_bytes};
use crate::archive::manifest::{ChunkFile, MANIFEST, Manifest, StoredFile, Table, failed, hex};
use crate::archive::objects::Objects;
use crate::archive::place::{Holds, Place, PlaceSpec};
use crate::archive::read::{Opened, exists};
use crate::batch::bytes_of;
use crate::batch::digest::{Digest, Meaning};
use crate::error::{Error, Kind, Result};
use crate::river::read::{Bounds, COPIES_OF_STORED};
use crate::run::lanes::run;
use crate::run::memory::LargeRows;
use crate::run::progress::Progress;
use crate::run::retry::retry;

const BATCH_BYTES: usize = 4 << 20;
/// Files that a bucket is asked for at once.
const ASKING: usize = 32;

/// Which archive is checked, and how much of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckPlan {
    /// Where the archive lies.
    pub archive: PlaceSpec,
    /// `all`, `n/m` (the nth of m parts), `x%`, or a size such as `500M`.
    #[serde(default = "all")]
    pub subset: String,
    /// How many lanes work at a time, each with sessions of its own.
    #[serde(default = "default_lanes")]
    pub lanes: usize,
    /// What all lanes together may hold of rows, in bytes.
    #[serde(default = "default_memory_bytes")]
    pub memory_bytes: usize,
}

fn all() -> String {
    "all".into()
}

/// An archive whose manifest is read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestPlan {
    /// Where the archive lies.
    pub archive: PlaceSpec,
}

/// What came of a check.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CheckSummary {
    /// There are no problems.
    pub ok: bool,
    /// The schema that was backed up.
    pub schema: String,
    /// How many tables.
    pub tables: u64,
    /// Chunk files and external files that the archive names.
    pub files: u64,
    /// Those of them that were read in full; of the others, that they are there and have their size.
    pub files_read: u64,
    /// Bytes of what was read.
    pub bytes_read: u64,
    /// Rows of all tables, as the manifest counts them.
    pub rows: u64,
    /// What is wrong, by file.
    pub problems: Vec<Problem>,
    /// How long it took, in seconds.
    pub time_taken: f64,
}

/// Something wrong with an archive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file, below the archive.
    pub file: String,
    /// The table that it belongs to, if it belongs to one.
    pub table: Option<String>,
    /// What is wrong with it.
    pub problem: String,
}

enum Found<'a> {
    Chunk(&'a Table, &'a ChunkFile),
    File(StoredFile),
}

/// All files of an archive: chunk files, and the objects, which are a stream.
struct Files<'a> {
    manifest: &'a Manifest,
    objects: Objects<'a>,
}

/// Reads and checks the manifest.
pub fn read_manifest(plan: &ManifestPlan, _: &Progress) -> Result<Manifest> {
    Manifest::read(&Place::open(&plan.archive)?)
}

/// What lies where an archive is or is to be.
pub fn state(plan: &ManifestPlan, _: &Progress) -> Result<Holds> {
    Place::open(&plan.archive)?.holds()
}

/// Proves that every file of the archive is there, and that those of the subset hold what the manifest says.
pub fn check(plan: &CheckPlan, progress: &Progress) -> Result<CheckSummary> {
    let begun = Instant::now();
    let subset = Subset::parse(&plan.subset)?;
    let place = Place::open(&plan.archive)?;
    let manifest = match Manifest::read(&place) {
        Ok(manifest) => manifest,
        Err(error) if is_away(&error) => return Err(error),
        Err(error) => return Ok(unreadable(&error)),
    };
    let problems = Mutex::new(Vec::new());
    let report = |problem: Problem| {
        if let Ok(mut problems) = problems.lock() {
            problems.push(problem);
        }
    };
    let objects = match retry(progress, || Objects::open(&place, &manifest)) {
        Err(error) if error.is_cancelled() || is_away(&error) => return Err(error),
        Err(error) => {
            let file = manifest.objects.as_ref().map(|file| file.path.clone()).unwrap_or_default();
            report(Problem { file, table: None, problem: said(&error) });
            // What it names is not to be known; the chunk files are.
            Objects::listed(&manifest)
        }
        Ok(objects) => objects,
    };
    let files = Files { manifest: &manifest, objects };
    let chosen = subset.of(&|take| files.each(&mut |_, file| take(file.path(), file.bytes())))?;
    let unwhole = Mutex::new(HashSet::new());
    // A service takes its time for each question, and many at once.
    let asking = if matches!(place, Place::Bucket(..)) { ASKING } else { 1 };
    run(
        &mut vec![(); asking.max(plan.lanes)],
        |queue| files.each(&mut |_, file| queue.put(file)),
        |(), file| {
            progress.check()?;
            match retry(progress, || exists(&place, file.path(), file.bytes())) {
                Err(error) if error.is_cancelled() || is_away(&error) => return Err(error),
                Err(error) => {
                    report(file.problem(&error));
                    if let Ok(mut unwhole) = unwhole.lock() {
                        unwhole.insert(file.path().to_owned());
                    }
                }
                Ok(()) => {}
            }
            Ok(())
        },
    )?;
    let unwhole = unwhole.into_inner().unwrap_or_default();
    let is_read =
        |number, file: &Found<'_>| chosen.has(number, file.path()) && !unwhole.contains(file.path());
    progress.expect(
        files.chunks().filter(|(number, file)| is_read(*number, file)).map(|(_, file)| file.rows()).sum(),
    );
    let bounds = Bounds {
        batch_bytes: BATCH_BYTES,
        large: LargeRows::of(plan.memory_bytes),
        copies: COPIES_OF_STORED,
    };
    let (read, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    run(
        &mut vec![(); plan.lanes.max(1)],
        |queue| files.each(&mut |number, file| if is_read(number, &file) { queue.put(file) } else { Ok(()) }),
        |(), file| {
            progress.check()?;
            match retry(progress, || prove(&place, &file, &bounds, progress)) {
                Ok(()) => {}
                Err(error) if error.is_cancelled() || is_away(&error) => return Err(error),
                Err(error) => report(file.problem(&error)),
            }
            read.fetch_add(1, Ordering::Relaxed);
            bytes.fetch_add(file.bytes(), Ordering::Relaxed);
            Ok(())
        },
    )?;
    let mut problems = problems.into_inner().unwrap_or_default();
    problems.sort();
    Ok(CheckSummary {
        ok: problems.is_empty(),
        schema: manifest.schema.clone(),
        tables: manifest.totals.tables,
        files: manifest.totals.chunks + manifest.totals.files,
        files_read: read.into_inner(),
        bytes_read: bytes.into_inner(),
        rows: manifest.totals.rows,
        problems,
        time_taken: begun.elapsed().as_secs_f64(),
    })
}

/// True if the place cannot be reached, which says nothing about the archive.
fn is_away(error: &Error) -> bool {
    matches!(error.kind(), Kind::Lost { .. } | Kind::Store { .. })
}

fn unreadable(error: &Error) -> CheckSummary {
    let problem = Problem { file: MANIFEST.into(), table: None, problem: error.to_string() };
    CheckSummary { problems: vec![problem], ..CheckSummary::default() }
}

/// Size, hash, and for a chunk that its rows decode to what was hashed when they were read from the server.
fn prove(place: &Place, found: &Found<'_>, bounds: &Bounds, progress: &Progress) -> Result<()> {
    let (table, file) = match found {
        Found::File(file) => {
            return Opened::open(place, &file.path)?.prove(file.bytes, &file.blake3);
        }
        Found::Chunk(table, file) => (table, file),
    };
    progress.at(&table.name);
    let opened = Opened::open(place, &file.path)?;
    opened.prove(file.bytes, &file.blake3)?;
    let natural = natural_of(table)?;
    let meanings = vec![Meaning::Value; table.stored().count()];
    let mut digest = Digest::default();
    bounds.read_stored(&opened, file, progress, &mut |batch, _| {
        progress.check()?;
        progress.add(batch.num_rows() as u64, bytes_of(&batch) as u64);
        digest.add(&natural.river(&batch)?, &meanings)
    })?;
    if (digest.rows, hex(digest.sum)) == (file.rows, file.digest.clone()) {
        return Ok(());
    }
    Err(failed(&file.path, "its rows are not those of the manifest: their digest differs"))
}

impl Files<'_> {
    fn chunks(&self) -> impl Iterator<Item = (u64, Found<'_>)> {
        let chunks = self
            .manifest
            .tables
            .iter()
            .flat_map(|table| table.chunks.iter().map(move |chunk| Found::Chunk(table, chunk)));
        (0..).zip(chunks)
    }

    /// Each file, and its place among all.
    fn each<'s>(&'s self, take: &mut dyn FnMut(u64, Found<'s>) -> Result<()>) -> Result<()> {
        let mut number = 0;
        for (_, chunk) in self.chunks() {
            take(number, chunk)?;
            number += 1;
        }
        self.objects.each(&mut |file| {
            number += 1;
            take(number - 1, Found::File(file))
        })
    }
}

impl Found<'_> {
    fn path(&self) -> &str {
        match self {
            Self::Chunk(_, chunk) => &chunk.path,
            Self::File(file) => &file.path,
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Chunk(_, chunk) => chunk.bytes,
            Self::File(file) => file.bytes,
        }
    }

    fn rows(&self) -> u64 {
        match self {
            Self::Chunk(_, chunk) => chunk.rows,
            Self::File(_) => 0,
        }
    }

    fn problem(&self, error: &Error) -> Problem {
        let table = match self {
            Self::Chunk(table, _) => Some(table.name.clone()),
            Self::File(_) => None,
        };
        Problem { file: self.path().to_owned(), table, problem: said(error) }
    }
}

/// An error about a file whose name stands beside it.
fn said(error: &Error) -> String {
    match error.kind() {
        Kind::Archive { message, .. } => message.clone(),
        _ => error.to_string(),
    }
}
