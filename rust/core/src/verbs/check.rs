//! Proving an archive without a server.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::backup::natural_of;
use super::copy::default_lanes;
use crate::archive::manifest::{ChunkFile, MANIFEST, Manifest, StoredFile, Table, failed, hex};
use crate::archive::place::{Holds, Place, PlaceSpec};
use crate::archive::read::{Opened, exists};
use crate::digest::{Digest, Meaning};
use crate::error::{Error, Kind, Result};
use crate::run::lanes::{retry, run};
use crate::run::progress::Progress;

const BATCH_BYTES: usize = 4 << 20;

#[derive(Debug, Clone, Deserialize)]
pub struct CheckPlan {
    pub archive: PlaceSpec,
    /// `all`, `n/m` (the nth of m parts), `x%`, or a size such as `500M`.
    #[serde(default = "all")]
    pub subset: String,
    #[serde(default = "default_lanes")]
    pub lanes: usize,
}

fn all() -> String {
    "all".into()
}

#[derive(Debug, Clone, Deserialize)]
pub struct ManifestPlan {
    pub archive: PlaceSpec,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct CheckSummary {
    pub ok: bool,
    pub schema: String,
    pub tables: u64,
    /// Chunk files and external files that the manifest names.
    pub files: u64,
    /// Those of them that were read in full; of the others, that they are there and have their size.
    pub files_read: u64,
    pub bytes_read: u64,
    pub rows: u64,
    pub problems: Vec<Problem>,
    pub time_taken: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    pub file: String,
    /// The table that it belongs to, if it belongs to one.
    pub table: Option<String>,
    pub problem: String,
}

/// Which files are read in full.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Subset {
    All,
    Part { of: u64, number: u64 },
    Share(f64),
    Bytes(u64),
}

#[derive(Clone, Copy)]
enum Found<'a> {
    Chunk(&'a Table, &'a ChunkFile),
    File(&'a StoredFile),
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
    let chunks = manifest
        .tables
        .iter()
        .flat_map(|table| table.chunks.iter().map(move |chunk| Found::Chunk(table, chunk)));
    let found: Vec<_> = chunks.chain(manifest.files.iter().map(Found::File)).collect();
    let problems = Mutex::new(Vec::new());
    let (read, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let report = |found: Found<'_>, error: &Error| {
        if let Ok(mut problems) = problems.lock() {
            problems.push(found.problem(error));
        }
    };
    let mut whole = Vec::with_capacity(found.len());
    for found in found.iter().copied() {
        progress.check()?;
        match retry(progress, || exists(&place, found.path(), found.bytes())) {
            Ok(()) => whole.push(found),
            Err(error) if is_away(&error) => return Err(error),
            Err(error) => report(found, &error),
        }
    }
    let chosen = subset.of(whole, Found::path, Found::bytes);
    progress.expect(chosen.iter().map(Found::rows).sum());
    run(
        &mut vec![(); plan.lanes.max(1)],
        |queue| chosen.iter().copied().try_for_each(|found| queue.put(found)),
        |(), found| {
            progress.check()?;
            match retry(progress, || prove(&place, found, progress)) {
                Ok(()) => {}
                Err(error) if error.is_cancelled() || is_away(&error) => return Err(error),
                Err(error) => report(found, &error),
            }
            read.fetch_add(1, Ordering::Relaxed);
            bytes.fetch_add(found.bytes(), Ordering::Relaxed);
            Ok(())
        },
    )?;
    let mut problems = problems.into_inner().unwrap_or_default();
    problems.sort();
    Ok(CheckSummary {
        ok: problems.is_empty(),
        schema: manifest.schema.clone(),
        tables: manifest.totals.tables,
        files: found.len() as u64,
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
fn prove(place: &Place, found: Found<'_>, progress: &Progress) -> Result<()> {
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
    for batch in opened.chunk(file, BATCH_BYTES)? {
        progress.check()?;
        let batch = batch?;
        progress.add(batch.num_rows() as u64, batch.get_array_memory_size() as u64);
        digest.add(&natural.river(&batch)?, &meanings)?;
    }
    if (digest.rows, hex(digest.sum)) == (file.rows, file.digest.clone()) {
        return Ok(());
    }
    Err(failed(&file.path, "its rows are not those of the manifest: their digest differs"))
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
        let problem = match error.kind() {
            Kind::Archive { message, .. } => message.clone(),
            _ => error.to_string(),
        };
        let table = match self {
            Self::Chunk(table, _) => Some(table.name.clone()),
            Self::File(_) => None,
        };
        Problem { file: self.path().to_owned(), table, problem }
    }
}

impl Subset {
    fn parse(text: &str) -> Result<Self> {
        let bad = || {
            let message =
                format!("the subset {text:?} is none of 'all', 'n/m', 'x%' and a size such as '500M'");
            Kind::Plan(message)
        };
        let text = text.trim();
        if text == "all" {
            return Ok(Self::All);
        }
        if let Some((number, of)) = text.split_once('/') {
            let number = number.trim().parse().map_err(|_| bad())?;
            let of = of.trim().parse().map_err(|_| bad())?;
            return if (1..=of).contains(&number) {
                Ok(Self::Part { of, number })
            } else {
                Err(bad().into())
            };
        }
        if let Some(share) = text.strip_suffix('%') {
            let share: f64 = share.trim().parse().map_err(|_| bad())?;
            return if share > 0.0 && share <= 100.0 { Ok(Self::Share(share)) } else { Err(bad().into()) };
        }
        let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
        let unit = text.strip_prefix(digits).unwrap_or_default();
        let shift = match unit {
            "" => 0,
            "K" | "k" => 10,
            "M" | "m" => 20,
            "G" | "g" => 30,
            "T" | "t" => 40,
            _ => return Err(bad().into()),
        };
        let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
        bytes.filter(|&bytes| bytes > 0).map(Self::Bytes).ok_or_else(|| bad().into())
    }

    /// The files of this subset, always the same ones: parts by their place, shares and sizes by the hash of their path.
    fn of<T>(self, mut files: Vec<T>, path: impl Fn(&T) -> &str, bytes: impl Fn(&T) -> u64) -> Vec<T> {
        match self {
            Self::All => return files,
            Self::Part { of, number } => {
                let mut place = 0;
                files.retain(|_| {
                    place += 1;
                    (place - 1) % of == number - 1
                });
                return files;
            }
            Self::Share(_) | Self::Bytes(_) => {}
        }
        files.sort_by_cached_key(|file| xxh3_64(path(file).as_bytes()));
        let count = match self {
            Self::Share(share) => (files.len() as f64 * share / 100.0).ceil() as usize,
            Self::Bytes(wanted) => {
                let mut sum = 0;
                let until = files.iter().position(|file| {
                    sum += bytes(file);
                    sum >= wanted
                });
                until.map_or(files.len(), |last| last + 1)
            }
            Self::All | Self::Part { .. } => files.len(),
        };
        files.truncate(count);
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(subset: &str) -> Vec<String> {
        let files: Vec<_> = (0..100).map(|number| format!("tables/t/{number:06}.parquet")).collect();
        Subset::parse(subset).expect("a subset").of(files, String::as_str, |_| 1 << 20)
    }

    #[test]
    fn all_parts_together_are_the_whole() {
        let mut all: Vec<_> = (1..=7).flat_map(|number| chosen(&format!("{number}/7"))).collect();
        all.sort();
        assert_eq!(all, chosen("all"));
    }

    #[test]
    fn a_share_and_a_size_choose_the_same_files_every_time() {
        assert_eq!(chosen("10%").len(), 10);
        assert_eq!(chosen("0.5%").len(), 1);
        assert_eq!(chosen("10M"), chosen("10%"));
        assert_eq!(chosen("1").len(), 1);
        assert_eq!(chosen("1T").len(), 100);
    }

    #[test]
    fn what_is_no_subset_is_refused() {
        for text in
            ["", "0/2", "3/2", "1/0", "x", "0%", "101%", "nan%", "-5M", "5MB", "99999999999T", "0", "é"]
        {
            assert!(Subset::parse(text).is_err(), "{text}");
        }
    }
}
