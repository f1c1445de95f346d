//! The pointer to an external object: BINARY(16) in 0.14.6, JSON metadata in 2.x.
//!
//! The 16 bytes are the MD5 of the object (blob), of `name NUL contents` (attachment) or of the relative path (filepath).
//! The first two are the 2.x hash as well, written in base32; nothing is read from the store to convert them.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow_array::builder::LargeBinaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMicrosecondType, UInt64Type};
use arrow_array::{Array, ArrayRef};
use data_encoding::{BASE32_NOPAD, HEXLOWER, HEXUPPER};
use md5::{Digest, Md5};
use serde::Deserialize;
use serde_json::Value;

use super::tracking::Tracked;
use crate::batch::calendar::push_datetime;
use crate::error::{Kind, Result};
use crate::mysql::names::{qualified, quote};

/// What an external column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PointerKind {
    /// A packed value.
    Blob,
    /// A file with a name.
    Attach,
    /// A file with a path of its own.
    Filepath,
}

/// Where the objects lie after the migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Where 0.14.6 put them: `<schema>/<folds>/<hex>`.
    InPlace,
    /// Where 2.x puts them: `<prefix>/<schema>/<folds>/<base32>`.
    Hash,
}

/// What is known of an external column beside its values.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pointer {
    /// What the column holds.
    pub kind: PointerKind,
    /// The 2.x name of the store.
    pub store: String,
    /// The schema of the tracking table.
    pub tracking_schema: String,
    /// The tracking table, `~external_<store>`.
    pub tracking_table: String,
    /// The 0.14.6 schema, which begins the path of its objects.
    pub source_schema: String,
    /// The schema's final name, which begins the path of copied objects.
    pub schema: String,
    /// Where the objects lie after the migration.
    pub layout: Layout,
    /// How many characters of its name each folder of an object's path takes in 0.14.6.
    #[serde(default)]
    pub source_subfolding: Vec<usize>,
    /// The same in 2.x.
    #[serde(default)]
    pub destination_subfolding: Vec<usize>,
    /// What the paths of copied objects begin with.
    #[serde(default = "hash_prefix")]
    pub hash_prefix: String,
    /// Added to the names of copied objects, for those that 2.x's collector must not list.
    #[serde(default)]
    pub suffix: String,
}

fn hash_prefix() -> String {
    "_hash".into()
}

/// A row of a tracking table (`~external_<store>`).
#[derive(Debug, Clone)]
pub struct Tracking<'a> {
    /// What pointers hold.
    pub hash: [u8; 16],
    /// Bytes of the object.
    pub size: u64,
    /// The name of an attached file, in utf8mb4.
    pub attachment_name: Option<&'a [u8]>,
    /// The path of a file that has one of its own, in utf8mb4.
    pub filepath: Option<&'a [u8]>,
    /// The MD5 of the contents, where the name is not it.
    pub contents_hash: Option<[u8; 16]>,
    /// When the row was written, in microseconds since 1970.
    pub timestamp_micros: i64,
}

/// How many columns of a result one pointer takes.
pub const WIDTH: usize = 7;

/// The 26 lower-case letters and digits that name an object in 2.x.
#[must_use]
pub fn base32(hash: &[u8; 16]) -> String {
    BASE32_NOPAD.encode(hash).to_ascii_lowercase()
}

pub(super) fn folded(name: &str, folds: &[usize]) -> String {
    let mut path = String::new();
    let mut rest = name;
    for &fold in folds {
        let (head, tail) = rest.split_at(fold.min(rest.len()));
        path.push_str(head);
        path.push('/');
        rest = tail;
    }
    path.push_str(name);
    path
}

impl Pointer {
    /// The columns that `convert` needs, in its order, from the row `s` and its tracking row `e<index>`.
    #[must_use]
    pub fn select(&self, column: &str, index: usize) -> String {
        format!(
            "s.{}, e{index}.`hash`, e{index}.`size`, CONVERT(e{index}.`attachment_name` USING utf8mb4), \
             CONVERT(e{index}.`filepath` USING utf8mb4), e{index}.`contents_hash`, e{index}.`timestamp`",
            quote(column)
        )
    }

    /// The join that brings the tracking row of a column's pointer, under the name `e<index>`.
    #[must_use]
    pub fn join(&self, column: &str, index: usize) -> String {
        let tracking = qualified(&self.tracking_schema, &self.tracking_table);
        format!(" LEFT JOIN {tracking} AS e{index} ON e{index}.`hash` = s.{}", quote(column))
    }

    /// True if a blob was carried over from a 0.11 store: it lies under its `filepath`, and only `contents_hash` is its MD5.
    fn is_legacy(&self, row: &Tracking<'_>) -> bool {
        self.kind == PointerKind::Blob && row.filepath.is_some() && row.contents_hash.is_some()
    }

    /// True if a pointer of this kind can refer to the row: one tracking table serves all kinds of a store.
    #[must_use]
    pub fn fits(&self, row: &Tracking<'_>) -> bool {
        match self.kind {
            PointerKind::Blob => row.attachment_name.is_none(),
            PointerKind::Attach => row.attachment_name.is_some(),
            PointerKind::Filepath => row.filepath.is_some(),
        }
    }

    /// The MD5 of the object that 2.x will read.
    #[must_use]
    pub fn object_hash(&self, row: &Tracking<'_>) -> [u8; 16] {
        if self.is_legacy(row) { row.contents_hash.unwrap_or(row.hash) } else { row.hash }
    }

    /// Whether the path of an object says what its contents are: then other contents are damage.
    #[must_use]
    pub fn is_named_by_contents(&self, row: &Tracking<'_>) -> bool {
        self.kind != PointerKind::Filepath && (self.layout == Layout::Hash || !self.is_legacy(row))
    }

    /// Where 0.14.6 keeps the object, relative to its store's location.
    pub fn source_path(&self, row: &Tracking<'_>) -> Result<String> {
        let legacy = self.is_legacy(row);
        if self.kind == PointerKind::Filepath || legacy {
            let path = row.filepath.ok_or_else(|| self.broken(row, "has no filepath"))?;
            return utf8(path);
        }
        let hex = HEXLOWER.encode(&row.hash);
        let path = format!("{}/{}", self.source_schema, folded(&hex, &self.source_subfolding));
        if self.kind == PointerKind::Attach {
            let name = row.attachment_name.ok_or_else(|| self.broken(row, "has no attachment name"))?;
            return Ok(format!("{path}.{}", utf8(name)?));
        }
        Ok(path)
    }

    /// Where 2.x will look for the object, relative to its store's location.
    pub fn path(&self, row: &Tracking<'_>) -> Result<String> {
        if self.kind == PointerKind::Filepath || self.layout == Layout::InPlace {
            return self.source_path(row);
        }
        let name = base32(&self.object_hash(row));
        Ok(format!(
            "{}/{}/{}{}",
            self.hash_prefix,
            self.schema,
            folded(&name, &self.destination_subfolding),
            self.suffix
        ))
    }

    /// The JSON metadata, as 2.x writes it itself.
    pub fn json(&self, row: &Tracking<'_>) -> Result<String> {
        let path = Value::from(self.path(row)?);
        let store = Value::from(self.store.as_str());
        if self.kind == PointerKind::Filepath {
            let mut time = Vec::new();
            push_datetime(&mut time, row.timestamp_micros);
            let time = String::from_utf8_lossy(&time).replace(' ', "T");
            return Ok(format!(
                "{{\"path\": {path}, \"store\": {store}, \"size\": {}, \"is_dir\": false, \"timestamp\": \"{time}+00:00\"}}",
                row.size
            ));
        }
        let name = row.attachment_name.filter(|_| self.kind == PointerKind::Attach);
        let size = row.size + name.map_or(0, |name| name.len() as u64 + 1);
        let mut json = String::with_capacity(160);
        let _ = write!(
            json,
            "{{\"hash\": \"{}\", \"path\": {path}, \"schema\": {}, \"store\": {store}, \"size\": {size}}}",
            base32(&self.object_hash(row)),
            Value::from(self.schema.as_str())
        );
        Ok(json)
    }

    fn broken(&self, row: &Tracking<'_>, what: &str) -> crate::error::Error {
        let table = qualified(&self.tracking_schema, &self.tracking_table);
        Kind::Value(format!("the tracking row {} of {table} {what}", HEXUPPER.encode(&row.hash))).into()
    }

    /// The JSON column for the `WIDTH` columns that `select` asked for. NULL stays NULL.
    pub fn convert(&self, column: &str, arrays: &[ArrayRef]) -> Result<ArrayRef> {
        let rows = TrackingColumns::new(&arrays[1..WIDTH])?;
        self.convert_by(column, &arrays[0], |index, _| rows.row(index))
    }

    /// The JSON column for a column of pointers whose tracking rows are in memory.
    pub fn look_up(&self, column: &str, array: &ArrayRef, tracked: &Tracked) -> Result<ArrayRef> {
        self.convert_by(column, array, |_, pointer| tracked.find(pointer))
    }

    fn convert_by<'a>(
        &self,
        column: &str,
        array: &ArrayRef,
        row: impl Fn(usize, &[u8]) -> Result<Option<Tracking<'a>>>,
    ) -> Result<ArrayRef> {
        let values = array.as_binary::<i64>();
        let mut json = LargeBinaryBuilder::with_capacity(values.len(), values.len() * 160);
        for index in 0..values.len() {
            if values.is_null(index) {
                json.append_null();
                continue;
            }
            let Some(row) = row(index, values.value(index))? else {
                return Err(Kind::MissingTracking {
                    column: column.to_owned(),
                    table: qualified(&self.tracking_schema, &self.tracking_table),
                    hash: HEXLOWER.encode(values.value(index)),
                }
                .into());
            };
            json.append_value(self.json(&row)?);
        }
        Ok(Arc::new(json.finish()))
    }
}

/// The columns `hash, size, attachment_name, filepath, contents_hash, timestamp` of a batch of tracking rows.
pub struct TrackingColumns<'a> {
    columns: &'a [ArrayRef],
}

impl<'a> TrackingColumns<'a> {
    /// The columns of `TRACKING`, in their order.
    pub fn new(columns: &'a [ArrayRef]) -> Result<Self> {
        let sizes = columns.get(1).and_then(|sizes| sizes.as_primitive_opt::<UInt64Type>());
        let times = columns.get(5).and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
        let bytes = [0, 2, 3, 4]
            .into_iter()
            .all(|index| columns.get(index).is_some_and(|c| c.as_binary_opt::<i64>().is_some()));
        if sizes.is_none() || times.is_none() || !bytes {
            return Err(Kind::Value(
                "a tracking table does not have the columns that DataJoint 0.14.6 gives it".into(),
            )
            .into());
        }
        Ok(Self { columns })
    }

    /// The tracking row at `index`, or `None` where the join found none.
    pub fn row(&self, index: usize) -> Result<Option<Tracking<'a>>> {
        let bytes = |column: usize| {
            let values = self.columns[column].as_binary::<i64>();
            (!values.is_null(index)).then(|| values.value(index))
        };
        let Some(hash) = bytes(0) else { return Ok(None) };
        Ok(Some(Tracking {
            hash: hash_of(hash)?,
            size: self.columns[1].as_primitive::<UInt64Type>().value(index),
            attachment_name: bytes(2),
            filepath: bytes(3),
            contents_hash: bytes(4).map(hash_of).transpose()?,
            timestamp_micros: self.columns[5].as_primitive::<TimestampMicrosecondType>().value(index),
        }))
    }
}

fn hash_of(bytes: &[u8]) -> Result<[u8; 16]> {
    bytes
        .try_into()
        .map_err(|_| Kind::Value(format!("a hash of {} bytes where 16 were due", bytes.len())).into())
}

fn utf8(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec())
        .map_err(|error| Kind::Value(format!("a path is not UTF-8: {error}")).into())
}

/// The 16 bytes that name the object behind a 2.x pointer: what a 0.14.6 pointer to the same object holds (for blobs from
/// 0.11, its `contents_hash`). `None` if the JSON is no pointer of this kind.
#[must_use]
pub fn identity(json: &[u8], kind: PointerKind) -> Option<[u8; 16]> {
    let value: Value = serde_json::from_slice(json).ok()?;
    let path = value.get("path")?.as_str()?;
    value.get("store")?.as_str()?;
    if kind == PointerKind::Filepath {
        value.get("size")?.as_u64()?;
        return Some(Md5::digest(path.as_bytes()).into());
    }
    let hash = value.get("hash")?.as_str()?;
    let bytes = BASE32_NOPAD.decode(hash.to_ascii_uppercase().as_bytes()).ok()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(kind: PointerKind, layout: Layout) -> Pointer {
        Pointer {
            kind,
            store: "raw".into(),
            tracking_schema: "lab".into(),
            tracking_table: "~external_raw".into(),
            source_schema: "lab".into(),
            schema: "lab".into(),
            layout,
            source_subfolding: vec![2, 2],
            destination_subfolding: vec![],
            hash_prefix: hash_prefix(),
            suffix: String::new(),
        }
    }

    fn row() -> Tracking<'static> {
        Tracking {
            hash: *b"\xab\xcd0123456789ABCD",
            size: 7,
            attachment_name: None,
            filepath: None,
            contents_hash: None,
            timestamp_micros: 1_700_000_000_000_000,
        }
    }

    #[test]
    fn a_blob_in_place_is_found_under_its_folded_uuid() {
        let json = pointer(PointerKind::Blob, Layout::InPlace).json(&row()).expect("valid");
        let value: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(value["path"], "lab/ab/cd/abcd30313233343536373839414243 44".replace(' ', ""));
        assert_eq!(identity(json.as_bytes(), PointerKind::Blob), Some(row().hash));
    }

    #[test]
    fn an_attachment_counts_its_name_and_keeps_its_suffix_only_in_place() {
        let row = Tracking { attachment_name: Some("ünï.tar.gz".as_bytes()), ..row() };
        let attach = pointer(PointerKind::Attach, Layout::Hash);
        let value: Value = serde_json::from_str(&attach.json(&row).expect("valid")).expect("JSON");
        assert_eq!(value["size"], 7 + 12 + 1);
        assert_eq!(value["path"], format!("_hash/lab/{}", base32(&row.hash)));
        assert!(attach.source_path(&row).expect("valid").ends_with("44.ünï.tar.gz"));
    }

    #[test]
    fn a_blob_from_an_old_store_is_named_by_its_contents() {
        let row = Tracking { filepath: Some(b"old/place"), contents_hash: Some([7; 16]), ..row() };
        let json = pointer(PointerKind::Blob, Layout::InPlace).json(&row).expect("valid");
        assert!(json.contains("\"path\": \"old/place\""));
        assert_eq!(identity(json.as_bytes(), PointerKind::Blob), Some([7; 16]));
    }

    #[test]
    fn a_filepath_is_known_by_its_path() {
        let row =
            Tracking { filepath: Some("a/\"b\" 1.bin".as_bytes()), contents_hash: Some([7; 16]), ..row() };
        let json = pointer(PointerKind::Filepath, Layout::Hash).json(&row).expect("valid");
        assert!(json.contains("\"timestamp\": \"2023-11-14T22:13:20+00:00\""));
        let expected: [u8; 16] = Md5::digest("a/\"b\" 1.bin".as_bytes()).into();
        assert_eq!(identity(json.as_bytes(), PointerKind::Filepath), Some(expected));
    }

    #[test]
    fn what_is_no_pointer_has_no_identity() {
        for json in
            ["{}", "[1]", "{\"path\": null}", "{\"path\": \"x\", \"store\": \"raw\", \"hash\": \"01D4\"}"]
        {
            assert_eq!(identity(json.as_bytes(), PointerKind::Blob), None, "{json}");
        }
    }
}
