use std::fs;
use std::path::PathBuf;

use super::*;
use crate::archive::manifest::{FORMAT, Snapshot, Totals, VERSION};

fn folder(name: &str) -> (PathBuf, Place) {
    let root = std::env::temp_dir().join(format!("djm-objects-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&root).expect("a temporary folder");
    (root.clone(), Place::Folder(root))
}

fn file(number: u64) -> StoredFile {
    // As hashes come: in no order of their paths.
    let hash = blake3::hash(&number.to_le_bytes()).to_hex();
    let object = format!("lab/{}/{}/{}", &hash[..2], &hash[2..4], &hash[..32]);
    StoredFile {
        path: format!("files/raw/{object}"),
        store: "raw".into(),
        object,
        bytes: number,
        blake3: hash.to_string(),
    }
}

fn manifest(objects: Option<ObjectsFile>) -> Manifest {
    let totals = Totals {
        files: objects.as_ref().map_or(0, |file| file.rows),
        file_bytes: objects.as_ref().map_or(0, |file| file.file_bytes),
        ..Totals::default()
    };
    Manifest {
        format: FORMAT.into(),
        version: VERSION,
        tool: String::new(),
        server: String::new(),
        server_version: String::new(),
        schema: "lab".into(),
        charset: String::new(),
        collation: String::new(),
        snapshot: Snapshot::default(),
        tables: Vec::new(),
        programs: serde_json::Value::Null,
        files: Vec::new(),
        objects,
        totals,
    }
}

/// The objects of an archive, after its manifest was written and read.
fn read(place: &Place, objects: Option<ObjectsFile>) -> Result<Vec<StoredFile>> {
    manifest(objects).write(place)?;
    let manifest = Manifest::read(place)?;
    let mut found = Vec::new();
    Objects::open(place, &manifest)?.each(&mut |file| {
        found.push(file);
        Ok(())
    })?;
    Ok(found)
}

fn written(place: &Place, files: impl IntoIterator<Item = StoredFile>, most: usize) -> Option<ObjectsFile> {
    let mut found = Found::sorting(place, most);
    files.into_iter().try_for_each(|file| found.add(file)).expect("added");
    found.write().expect("written")
}

#[test]
fn objects_come_back_in_the_order_of_their_paths_however_many_files_they_were_sorted_in() {
    let mut expected: Vec<_> = (0..5000).map(file).collect();
    expected.sort_by(|one, other| one.path.cmp(&other.path));
    let mut hashes = Vec::new();
    // In memory, in some files, in more than may be open at once.
    for most in [SORTED_BYTES, 200 << 10, 4 << 10] {
        let (root, place) = folder(&format!("order-{most}"));
        let objects = written(&place, (0..5000).map(file), most).expect("there are some");
        assert_eq!((objects.rows, objects.file_bytes), (5000, (0..5000).sum()));
        hashes.push(objects.blake3.clone());
        assert_eq!(read(&place, Some(objects)).expect("read"), expected);
        let names: Vec<_> =
            fs::read_dir(&root).expect("there").flatten().map(|one| one.file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        let _ = fs::remove_dir_all(&root);
    }
    hashes.dedup();
    assert_eq!(hashes.len(), 1, "the same objects are the same file");
}

#[test]
fn an_archive_without_objects_has_no_file_for_them() {
    let (root, place) = folder("none");
    assert_eq!(written(&place, [], SORTED_BYTES), None);
    assert_eq!(read(&place, None).expect("read"), []);
    assert!(!root.join(OBJECTS).exists());
    let _ = fs::remove_dir_all(&root);
}

#[test]
fn an_object_found_twice_is_named_once_and_never_with_two_contents() {
    let (root, place) = folder("twice");
    let objects = written(&place, [file(2), file(1), file(2)], SORTED_BYTES).expect("some");
    assert_eq!(read(&place, Some(objects)).expect("read").len(), 2);
    let mut found = Found::new(&place);
    found.add(file(1)).expect("added");
    found.add(StoredFile { bytes: 7, ..file(1) }).expect("added");
    let said = found.write().expect_err("refused").to_string();
    assert!(said.contains(&file(1).path), "{said}");
    let _ = fs::remove_dir_all(&root);
}

/// A file of these rows as somebody who knows how would make it, and what a manifest would say of it.
fn forged(place: &Place, files: &[StoredFile]) -> ObjectsFile {
    let mut rows = Rows::new(Hashing::begin(place, OBJECTS).expect("begun")).expect("begun");
    files.iter().try_for_each(|file| rows.add(file.clone())).expect("written");
    let (bytes, blake3) = rows.finish().expect("written").keep().expect("kept");
    ObjectsFile {
        path: OBJECTS.into(),
        rows: files.len() as u64,
        bytes,
        blake3,
        file_bytes: files.iter().map(|file| file.bytes).sum(),
        stores: vec!["raw".into()],
    }
}

#[test]
fn objects_that_cannot_be_are_refused_by_name() {
    let (root, place) = folder("forged");
    let mut sorted = [file(1), file(2)];
    sorted.sort_by(|one, other| one.path.cmp(&other.path));
    let [one, two] = [sorted[0].clone(), sorted[1].clone()];
    let outside = |path: &str| StoredFile { path: path.into(), object: path.into(), ..one.clone() };
    let wrong: [&[StoredFile]; 8] = [
        &[two.clone(), one.clone()],
        &[one.clone(), one.clone()],
        &[outside("../../etc/passwd")],
        &[outside("/etc/passwd")],
        &[StoredFile { object: "lab/other".into(), ..one.clone() }],
        &[StoredFile { path: "files/raw/../x".into(), object: "../x".into(), ..one.clone() }],
        &[StoredFile { blake3: "no hash".into(), ..one.clone() }],
        &[StoredFile { path: format!("files/other/{}", one.object), store: "other".into(), ..one.clone() }],
    ];
    for files in wrong {
        let objects = forged(&place, files);
        let said = read(&place, Some(objects)).expect_err("refused").to_string();
        assert!(said.contains(OBJECTS), "{said}");
    }
    let whole = forged(&place, &[one.clone(), two.clone()]);
    let lies = [
        ObjectsFile { rows: 1, ..whole.clone() },
        ObjectsFile { rows: 3, ..whole.clone() },
        ObjectsFile { rows: u64::MAX, ..whole.clone() },
        ObjectsFile { rows: 0, ..whole.clone() },
        ObjectsFile { bytes: whole.bytes - 1, ..whole.clone() },
        ObjectsFile { blake3: "0".repeat(64), ..whole.clone() },
        ObjectsFile { file_bytes: whole.file_bytes + 1, ..whole.clone() },
        ObjectsFile { stores: Vec::new(), ..whole.clone() },
        ObjectsFile { stores: vec!["raw".into(), "raw".into()], ..whole.clone() },
        ObjectsFile { path: "../objects.parquet".into(), ..whole.clone() },
        ObjectsFile { path: "elsewhere.parquet".into(), ..whole.clone() },
    ];
    for lie in lies {
        let said = read(&place, Some(lie.clone())).expect_err("refused").to_string();
        assert!(said.contains(".parquet"), "{lie:?}: {said}");
    }
    assert_eq!(read(&place, Some(whole.clone())).expect("true"), [one, two.clone()]);
    // Another file that is as good in itself.
    forged(&place, &[two]);
    let said = read(&place, Some(whole)).expect_err("exchanged").to_string();
    assert!(said.contains(OBJECTS), "{said}");
    let _ = fs::remove_dir_all(&root);
}

#[test]
fn columns_of_other_types_and_rows_without_values_are_refused() {
    let (root, place) = folder("columns");
    let whole = batch_of(&[file(1)]).expect("valid");
    let schema = whole.schema();
    for (number, field) in schema.fields().iter().enumerate() {
        let mut left_out = whole.clone();
        left_out.remove_column(number);
        let nothing = arrow_array::new_null_array(field.data_type(), 1);
        let other: ArrayRef = Arc::new(arrow_array::Int32Array::from(vec![1]));
        let replaced = |array: ArrayRef| {
            let columns = schema.fields().iter().zip(whole.columns()).enumerate();
            let columns = columns.map(|(at, (field, column))| {
                (field.name().clone(), if at == number { array.clone() } else { column.clone() })
            });
            RecordBatch::try_from_iter(columns).expect("valid")
        };
        for batch in [left_out, replaced(nothing), replaced(other)] {
            let said = rows_of(OBJECTS, &batch).expect_err("refused").to_string();
            assert!(said.contains(field.name()), "{said}");
        }
    }
    let _ = fs::remove_dir_all(&root);
    drop(place);
}

#[test]
fn a_byte_flipped_anywhere_is_an_error_of_the_hash_and_never_a_panic_of_the_decoder() {
    let (root, place) = folder("flipped");
    let objects = written(&place, (0..40).map(file), SORTED_BYTES).expect("some");
    let whole = fs::read(root.join(OBJECTS)).expect("there");
    let manifest = manifest(Some(objects.clone()));
    for at in 0..whole.len() {
        let mut data = whole.clone();
        data[at] ^= 1 << (at % 8);
        fs::write(root.join(OBJECTS), &data).expect("written");
        let Err(error) = Objects::open(&place, &manifest) else { panic!("byte {at}") };
        assert!(error.to_string().contains(OBJECTS), "{error}");
        // As if the manifest had been made to match.
        let blake3 = blake3::hash(&data).to_hex().to_string();
        let manifest = super::tests::manifest(Some(ObjectsFile { blake3, ..objects.clone() }));
        drop(Objects::open(&place, &manifest));
    }
    for end in 0..whole.len() {
        fs::write(root.join(OBJECTS), &whole[..end]).expect("written");
        let (bytes, blake3) = (end as u64, blake3::hash(&whole[..end]).to_hex().to_string());
        let manifest = super::tests::manifest(Some(ObjectsFile { bytes, blake3, ..objects.clone() }));
        assert!(Objects::open(&place, &manifest).is_err(), "{end} bytes");
    }
    fs::remove_file(root.join(OBJECTS)).expect("removed");
    let Err(error) = Objects::open(&place, &manifest) else { panic!("it is missing") };
    assert!(error.to_string().contains("missing"), "{error}");
    let _ = fs::remove_dir_all(&root);
}

#[test]
fn millions_of_objects_can_be_written_and_read_back() {
    let count = std::env::var("DJM_OBJECTS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let (root, place) = folder("millions");
    let objects = written(&place, (0..count).map(file), SORTED_BYTES.min(count as usize * 40));
    manifest(objects).write(&place).expect("written");
    assert!(fs::metadata(root.join("manifest.json")).expect("there").len() < 2000);
    let manifest = Manifest::read(&place).expect("read");
    let (mut read, mut bytes) = (0, 0);
    let objects = Objects::open(&place, &manifest).expect("proved");
    objects
        .each(&mut |found| {
            assert_eq!(found, file(found.bytes));
            (read, bytes) = (read + 1, bytes + found.bytes);
            Ok(())
        })
        .expect("read");
    assert_eq!((read, bytes), (count, (0..count).sum()));
    // What the suite runs beside this takes memory too.
    if count >= 5_000_000
        && let Ok(status) = fs::read_to_string("/proc/self/status")
    {
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        let kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
        assert!(kib < 256 << 10, "{kib} KiB");
    }
    let _ = fs::remove_dir_all(&root);
}
