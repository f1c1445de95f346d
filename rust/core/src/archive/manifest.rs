//! `manifest.json`: what an archive holds, written last. Without it an archive is unfinished.
//!
//! A manifest is read as if a stranger had written it: every name, number and path is checked before anything is done with it.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::io::{Read, Write};

use serde::{Deserialize, Serialize};

use super::objects::ObjectsFile;
use super::place::{Holds, Place, inside};
use crate::error::{Error, Kind, Result};

/// The file that makes a folder of chunk files an archive.
pub const MANIFEST: &str = "manifest.json";
/// What a manifest begins with.
pub const FORMAT: &str = "datajoint-migrate archive";
/// The version that is written and read.
pub const VERSION: u32 = 1;
/// Ends a manifest, with the BLAKE3 hash of all that is before it: definitions and programs have no other hash.
const SEAL: &str = ",\n  \"blake3\": \"";
const SEAL_END: &str = "\"\n}";
/// A manifest of 100,000 chunk files has about 40 MB; one of ten million objects had 4 GB before they got a file of their
/// own. What is written is held to it as what is read is: an archive that nobody can read is none.
const MAX_MANIFEST: u64 = 8 << 30;

/// What an archive holds: written last, and sealed by its own hash.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// Always `FORMAT`.
    pub format: String,
    /// Always `VERSION`.
    pub version: u32,
    /// The program that wrote it, and its version.
    pub tool: String,
    /// The server it was read from, and its version.
    pub server: String,
    /// The version as the server says it.
    pub server_version: String,
    /// The schema that was backed up.
    pub schema: String,
    /// The schema's default character set.
    pub charset: String,
    /// The schema's default collation.
    pub collation: String,
    /// The instant that the rows are of.
    pub snapshot: Snapshot,
    /// Every table, in the order in which it was read.
    pub tables: Vec<Table>,
    /// Views, triggers, routines and events, as Python describes them.
    #[serde(default)]
    pub programs: serde_json::Value,
    /// External files that came along, as archives had them before they had a file for them.
    #[serde(default)]
    pub files: Vec<StoredFile>,
    /// The file that names those that came along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<ObjectsFile>,
    /// The sums over all tables and objects.
    pub totals: Totals,
}

/// The instant that the rows are of.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// `shared` by all connections, or of a `single` one; both are one instant.
    pub kind: String,
    /// When it was opened, by the server's clock, in UTC.
    pub time: Option<String>,
    /// Where the server's log stood then: the name of its file.
    pub binlog_file: Option<String>,
    /// Where in that file, in bytes.
    pub binlog_position: Option<u64>,
    /// The transactions that the server had executed then.
    pub gtid: Option<String>,
}

/// The sums over an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// How many tables.
    pub tables: u64,
    /// How many rows, of all tables.
    pub rows: u64,
    /// How many chunk files.
    pub chunks: u64,
    /// Bytes of the chunk files.
    pub bytes: u64,
    /// How many objects of external stores.
    pub files: u64,
    /// Bytes of those objects.
    pub file_bytes: u64,
}

/// A table of an archive.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Table {
    /// Its name on the server.
    pub name: String,
    /// What SHOW CREATE TABLE said.
    pub create: String,
    /// All columns in their order, computed ones included.
    pub columns: Vec<Column>,
    /// The primary key's columns in its order; empty if there is none.
    pub primary_key: Vec<String>,
    /// The columns of the unique index along which the table was cut; empty if it has none.
    pub key: Vec<String>,
    /// The name of that index.
    pub index: Option<String>,
    /// How many rows, of all chunks.
    pub rows: u64,
    /// Bytes of its chunk files.
    pub bytes: u64,
    /// The sum of the hashes of all rows, in hexadecimal.
    pub digest: String,
    /// Its chunk files, in the order of the key.
    pub chunks: Vec<ChunkFile>,
}

/// A column, with the names of `information_schema`.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The whole type: `int unsigned`.
    pub column_type: String,
    /// The type's first word: `int`.
    pub data_type: String,
    /// The character set of text.
    pub charset: Option<String>,
    /// The collation of text.
    pub collation: Option<String>,
    /// NULL is allowed.
    pub nullable: bool,
    /// The default as text.
    pub default: Option<String>,
    /// Such as `on update CURRENT_TIMESTAMP`.
    #[serde(default)]
    pub extra: String,
    /// The comment of the column, in which `DataJoint` keeps its own type.
    #[serde(default)]
    pub comment: String,
    /// The server computes it: it is in no chunk file.
    #[serde(default)]
    pub generated: bool,
    /// `SELECT *` leaves it out.
    #[serde(default)]
    pub invisible: bool,
    /// The server numbers its rows.
    #[serde(default)]
    pub auto_increment: bool,
}

/// One chunk of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkFile {
    /// Below the archive, its parts separated by `/`.
    pub path: String,
    /// How many rows.
    pub rows: u64,
    /// Of the file.
    pub bytes: u64,
    /// Of the file.
    pub blake3: String,
    /// The sum of the hashes of its rows, in hexadecimal.
    pub digest: String,
}

/// An object of an external store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Below the archive, its parts separated by `/`.
    pub path: String,
    /// The store's name in 0.14.6.
    pub store: String,
    /// The object's own path in its store.
    pub object: String,
    /// Of the object.
    pub bytes: u64,
    /// Of the object, in hexadecimal.
    pub blake3: String,
}

impl Table {
    /// The columns that chunk files have, in their order.
    pub fn stored(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| !column.generated)
    }
}

/// A sum of row hashes as text.
#[must_use]
pub fn hex(sum: u128) -> String {
    format!("{sum:032x}")
}

/// An error about a file of an archive.
pub fn failed(path: impl Into<String>, message: impl std::fmt::Display) -> Error {
    Kind::Archive { path: path.into(), message: message.to_string() }.into()
}

/// The folder of a table's chunk files below the archive. `taken` holds the names given so far, in lower case: some file
/// systems cannot tell `A` from `a`.
pub fn folder_of(table: &str, taken: &mut BTreeSet<String>) -> String {
    let mut name = String::from("tables/");
    for byte in table.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'~' => name.push(char::from(byte)),
            // Nothing is as sure as writing to a string.
            _ => drop(write!(name, "%{byte:02x}")),
        }
    }
    while !taken.insert(name.to_lowercase()) {
        name.push_str("%+");
    }
    name
}

impl Manifest {
    /// Reads and checks the manifest of an archive.
    pub fn read(place: &Place) -> Result<Self> {
        match place.holds()? {
            Holds::Archive => {}
            Holds::Nothing => return Err(failed(place.shown(), "there is no archive: no such folder")),
            _ => {
                let message = "there is no archive, or it is unfinished: it has no manifest.json";
                return Err(failed(place.shown(), message));
            }
        }
        let size = place.size(MANIFEST)?;
        fits(size)?;
        let mut text = Vec::new();
        place.read(MANIFEST)?.read_to_end(&mut text).map_err(|error| failed(MANIFEST, error))?;
        Self::parse(&text)
    }

    /// Understands and checks the text of a manifest.
    pub fn parse(text: &[u8]) -> Result<Self> {
        // The version comes first: what a later one means is not guessed.
        let unreadable = |error: serde_json::Error| failed(MANIFEST, format!("cannot be read: {error}"));
        let head: Head = serde_json::from_slice(text).map_err(unreadable)?;
        if head.format != FORMAT {
            return Err(failed(MANIFEST, "is no manifest of an archive"));
        }
        if head.version != VERSION {
            let message = format!(
                "has version {}; this program reads version {VERSION}: use a newer one",
                head.version
            );
            return Err(failed(MANIFEST, message));
        }
        let seal = text.len().saturating_sub(SEAL.len() + 64 + SEAL_END.len());
        let (body, seal) = text.split_at(seal);
        if seal != seal_of(body).as_bytes() {
            return Err(failed(MANIFEST, "has been changed or damaged: its BLAKE3 hash differs"));
        }
        let manifest: Self = serde_json::from_slice(text).map_err(unreadable)?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<()> {
        let bad = |message: String| Err(failed(MANIFEST, message));
        if !is_name(&self.schema) {
            return bad(format!("`{}` is no name of a schema", self.schema));
        }
        let mut tables = HashSet::new();
        let mut paths = HashSet::new();
        let mut totals = Totals { tables: self.tables.len() as u64, ..Totals::default() };
        let sum = |total: u64, part: u64| total.checked_add(part);
        for table in &self.tables {
            let name = &table.name;
            if !is_name(name) || !tables.insert(name.as_str()) {
                return bad(format!("`{name}` is no name of a table, or there twice"));
            }
            let columns: HashSet<_> = table.columns.iter().map(|column| column.name.as_str()).collect();
            if columns.len() != table.columns.len() || columns.iter().any(|column| !is_name(column)) {
                return bad(format!("the columns of `{name}` have impossible names"));
            }
            if table.key.iter().chain(&table.primary_key).any(|column| !columns.contains(column.as_str())) {
                return bad(format!("the key of `{name}` has a column that the table has not"));
            }
            if !is_hex(&table.digest, 32) {
                return bad(format!("the digest of `{name}` is none"));
            }
            let (mut rows, mut bytes, mut digest) = (Some(0), Some(0), 0_u128);
            for chunk in &table.chunks {
                inside(&chunk.path)?;
                if !paths.insert(chunk.path.as_str()) {
                    return bad(format!("{} is there twice", chunk.path));
                }
                if !is_hex(&chunk.blake3, 64) || !is_hex(&chunk.digest, 32) || chunk.rows == 0 {
                    return bad(format!("what is said of {} cannot be", chunk.path));
                }
                rows = rows.and_then(|total| sum(total, chunk.rows));
                bytes = bytes.and_then(|total| sum(total, chunk.bytes));
                digest = digest.wrapping_add(u128::from_str_radix(&chunk.digest, 16).unwrap_or_default());
            }
            if (rows, bytes) != (Some(table.rows), Some(table.bytes)) || hex(digest) != table.digest {
                return bad(format!("the chunk files of `{name}` do not add up to the table"));
            }
            totals.chunks += table.chunks.len() as u64;
            let (Some(rows), Some(bytes)) = (sum(totals.rows, table.rows), sum(totals.bytes, table.bytes))
            else {
                return bad("its numbers cannot be".into());
            };
            (totals.rows, totals.bytes) = (rows, bytes);
        }
        for file in &self.files {
            inside(&file.path)?;
            inside(&file.object)?;
            if !paths.insert(file.path.as_str()) || !is_hex(&file.blake3, 64) {
                return bad(format!("what is said of {} cannot be", file.path));
            }
            totals.files += 1;
            totals.file_bytes = totals.file_bytes.saturating_add(file.bytes);
        }
        if let Some(file) = &self.objects {
            inside(&file.path)?;
            let stores: HashSet<_> = file.stores.iter().collect();
            let is_true = file.rows > 0 && !stores.is_empty() && stores.len() == file.stores.len();
            if !paths.insert(file.path.as_str()) || !is_hex(&file.blake3, 64) || !is_true {
                return bad(format!("what is said of {} cannot be", file.path));
            }
            totals.files = totals.files.saturating_add(file.rows);
            totals.file_bytes = totals.file_bytes.saturating_add(file.file_bytes);
        }
        if totals != self.totals {
            return bad("its parts do not add up to its totals".into());
        }
        Ok(())
    }

    /// Writes the manifest, which makes the archive a finished one.
    pub fn write(&self, place: &Place) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| Kind::Internal(error.to_string()))?;
        seal(&mut text);
        fits(text.len() as u64)?;
        let mut draft = place.draft(MANIFEST)?;
        draft.file.write_all(&text).map_err(|error| failed(MANIFEST, error))?;
        draft.keep()?;
        place.settle("")
    }
}

#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

/// An error for a manifest that would be longer than one may be, when it is written and when it is read.
fn fits(size: u64) -> Result<()> {
    if size <= MAX_MANIFEST {
        return Ok(());
    }
    let message = format!(
        "has {size} bytes, of {MAX_MANIFEST} that a manifest may have: make archives of fewer schemas or without files"
    );
    Err(failed(MANIFEST, message))
}

/// Makes the hash of the object `text` its last member.
fn seal(text: &mut Vec<u8>) {
    text.truncate(text.len().saturating_sub("\n}".len()));
    let seal = seal_of(text);
    text.extend_from_slice(seal.as_bytes());
}

fn seal_of(body: &[u8]) -> String {
    format!("{SEAL}{}{SEAL_END}", blake3::hash(body).to_hex())
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().count() <= 64 && !name.contains('\0')
}

pub(super) fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> serde_json::Value {
        serde_json::json!({
            "format": FORMAT, "version": VERSION, "tool": "t", "server": "s", "server_version": "9",
            "schema": "lab", "charset": "utf8mb4", "collation": "utf8mb4_bin",
            "snapshot": {"kind": "shared", "time": null, "binlog_file": null, "binlog_position": null, "gtid": null},
            "tables": [{
                "name": "mouse", "create": "CREATE TABLE …", "primary_key": ["id"], "key": ["id"],
                "index": "PRIMARY", "rows": 2, "bytes": 10, "digest": hex(7),
                "columns": [{"name": "id", "column_type": "int", "data_type": "int", "charset": null,
                             "collation": null, "nullable": false, "default": null}],
                "chunks": [{"path": "tables/mouse/0.parquet", "rows": 2, "bytes": 10,
                            "blake3": "0".repeat(64), "digest": hex(7)}],
            }],
            "totals": {"tables": 1, "rows": 2, "chunks": 1, "bytes": 10, "files": 0, "file_bytes": 0},
        })
    }

    fn text_of(manifest: &serde_json::Value) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(manifest).expect("JSON");
        seal(&mut text);
        text
    }

    fn refused(pointer: &str, value: serde_json::Value) -> String {
        let mut manifest = valid();
        *manifest.pointer_mut(pointer).expect("it is there") = value;
        Manifest::parse(&text_of(&manifest)).expect_err("refused").to_string()
    }

    #[test]
    fn a_valid_manifest_is_read() {
        let manifest = Manifest::parse(&text_of(&valid())).expect("valid");
        assert_eq!(manifest.tables[0].chunks[0].rows, 2);
    }

    #[test]
    fn a_path_that_leads_out_of_the_archive_is_refused() {
        for path in ["../x", "/etc/passwd", "a/../../x", "", "a//b", "./a", "a\u{0}b", "tables/.."] {
            let said = refused("/tables/0/chunks/0/path", path.into());
            assert!(said.contains("leads out"), "{path}: {said}");
        }
    }

    #[test]
    fn numbers_and_hashes_that_cannot_be_are_refused() {
        refused("/tables/0/chunks/0/rows", 0.into());
        refused("/tables/0/chunks/0/rows", u64::MAX.into());
        refused("/tables/0/chunks/0/rows", (-1).into());
        refused("/tables/0/chunks/0/rows", "2".into());
        refused("/tables/0/chunks/0/bytes", u64::MAX.into());
        refused("/tables/0/chunks/0/blake3", "xyz".into());
        refused("/tables/0/chunks/0/digest", "+0000000000000000000000000000007".into());
        refused("/tables/0/rows", 3.into());
        refused("/totals/rows", 3.into());
        refused("/tables/0/name", "".into());
        refused("/tables/0/key/0", "other".into());
        refused("/tables", serde_json::Value::Null);
    }

    #[test]
    fn what_may_be_written_is_what_may_be_read() {
        assert!(fits(MAX_MANIFEST).is_ok());
        let said = fits(MAX_MANIFEST + 1).expect_err("refused").to_string();
        assert!(said.contains("make archives of fewer"), "{said}");
    }

    #[test]
    fn a_version_of_later_days_is_refused_by_its_number() {
        assert!(refused("/version", 2.into()).contains("version 2"));
        assert!(refused("/format", "other".into()).contains("no manifest"));
    }

    #[test]
    fn a_manifest_cut_or_changed_anywhere_is_refused() {
        let text = text_of(&valid());
        for end in 0..text.len() {
            assert!(Manifest::parse(&text[..end]).is_err());
        }
        for at in 0..text.len() {
            for bit in [1, 0x20, 0x80] {
                let mut flipped = text.clone();
                flipped[at] ^= bit;
                assert!(Manifest::parse(&flipped).is_err(), "byte {at}");
            }
        }
        assert!(Manifest::parse(&[text.as_slice(), b"\n"].concat()).is_err());
    }

    #[test]
    fn whatever_somebody_sealed_never_panics() {
        let text = serde_json::to_vec_pretty(&valid()).expect("JSON");
        for at in 0..text.len() - 2 {
            for byte in [text[at] ^ 1, text[at] ^ 0x80, b'"', b'9', b'-', b'[', b'}'] {
                let mut changed = text.clone();
                changed[at] = byte;
                seal(&mut changed);
                drop(Manifest::parse(&changed));
            }
        }
    }

    #[test]
    fn a_manifest_of_a_million_levels_is_refused() {
        let deep = "[".repeat(1_000_000);
        let mut text = serde_json::to_vec_pretty(&valid()).expect("JSON");
        text.truncate(text.len() - 2);
        for end in [String::new(), "]".repeat(1_000_000)] {
            let mut text =
                [text.as_slice(), format!(",\n  \"programs\": {deep}{end}\n}}").as_bytes()].concat();
            seal(&mut text);
            assert!(Manifest::parse(&text).is_err());
        }
    }

    #[test]
    fn folders_of_tables_are_told_apart_and_stay_below() {
        let mut taken = BTreeSet::new();
        assert_eq!(folder_of("mouse", &mut taken), "tables/mouse");
        assert_eq!(folder_of("Mouse", &mut taken), "tables/Mouse%+");
        assert_eq!(folder_of("#lookup", &mut taken), "tables/%23lookup");
        assert_eq!(folder_of("../é", &mut taken), "tables/%2e%2e%2f%c3%a9");
    }
}
