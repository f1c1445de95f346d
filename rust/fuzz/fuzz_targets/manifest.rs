//! A manifest as a stranger may have written it, first as it is, then with the hash of itself that it should end with.

#![no_main]

use std::sync::LazyLock;

use datajoint_migrate_core::archive::manifest::Manifest;
use datajoint_migrate_core::archive::place::{Place, PlaceSpec};
use datajoint_migrate_core::run::progress::Progress;
use datajoint_migrate_core::verbs::check::{CheckPlan, check};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| TempDir::new().expect("a folder"));

fuzz_target!(|text: &[u8]| {
    let _ = Manifest::parse(text);
    let Ok(manifest) = serde_json::from_slice::<Manifest>(text) else { return };
    let place = Place::Folder(FOLDER.path().to_owned());
    manifest.write(&place).expect("written");
    let Ok(read) = Manifest::read(&place) else { return };
    assert_eq!(serde_json::to_string(&manifest).ok(), serde_json::to_string(&read).ok());
    // None of the files that it names is there.
    let files = read.files.len()
        + usize::from(read.objects.is_some())
        + read.tables.iter().map(|table| table.chunks.len()).sum::<usize>();
    let archive = PlaceSpec::Folder(FOLDER.path().to_owned());
    let plan = CheckPlan { archive, subset: "all".into(), lanes: 1, memory_bytes: 64 << 20 };
    let found = check(&plan, &Progress::default()).expect("problems, not errors");
    assert_eq!(found.problems.len(), files);
});
