//! A chunk file as a stranger may have written it, in an archive whose manifest was made to match.
//!
//! `DJM_ARCHIVE` names a true archive; the first byte of the input says whose table's file the rest is.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;
use std::{env, fs, panic};

use datajoint_migrate_core::archive::manifest::{Manifest, Totals};
use datajoint_migrate_core::archive::place::{Place, PlaceSpec};
use datajoint_migrate_core::run::progress::Progress;
use datajoint_migrate_core::verbs::check::{CheckPlan, check};
use libfuzzer_sys::{Corpus, fuzz_target};
use tempfile::TempDir;

static ARCHIVE: LazyLock<Manifest> = LazyLock::new(|| {
    let folder = env::var_os("DJM_ARCHIVE").map(PathBuf::from).expect("DJM_ARCHIVE names an archive");
    Manifest::read(&Place::Folder(folder)).expect("an archive")
});
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| TempDir::new().expect("a folder"));

fn run(input: &[u8]) -> Corpus {
    let Some((number, data)) = input.split_first() else { return Corpus::Reject };
    let Some(table) = ARCHIVE.tables.get(usize::from(*number)) else { return Corpus::Reject };
    let mut table = table.clone();
    let Some(mut chunk) = table.chunks.pop() else { return Corpus::Reject };
    chunk.bytes = data.len() as u64;
    chunk.blake3 = blake3::hash(data).to_hex().to_string();
    (table.rows, table.bytes, table.digest) = (chunk.rows, chunk.bytes, chunk.digest.clone());
    let totals = Totals { tables: 1, rows: chunk.rows, chunks: 1, bytes: chunk.bytes, ..Totals::default() };
    let path = FOLDER.path().join(&chunk.path);
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(path, data).expect("written");
    table.chunks = vec![chunk];
    let manifest =
        Manifest { tables: vec![table], totals, files: Vec::new(), objects: None, ..ARCHIVE.clone() };
    manifest.write(&Place::Folder(FOLDER.path().to_owned())).expect("written");
    let archive = PlaceSpec::Folder(FOLDER.path().to_owned());
    let plan = CheckPlan { archive, subset: "all".into(), lanes: 1, memory_bytes: 64 << 20 };
    check(&plan, &Progress::default()).expect("problems, not errors");
    Corpus::Keep
}

fuzz_target!(
    // The decoder's own panics are caught where it is called; others end this process all the same.
    init: panic::set_hook(Box::new(|_| {})),
    |input: &[u8]| -> Corpus { run(input) }
);
