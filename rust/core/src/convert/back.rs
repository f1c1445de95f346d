//! The way back: JSON metadata of 2.x to the BINARY(16) of 0.14.6, and what its tracking row says.
//!
//! The hash that 2.x spells in base32 is the MD5 that 0.14.6 points with; a filepath is pointed to by the MD5 of its path.
//! Blobs carried over from 0.11 are the exception: 0.14.6 knows them by the MD5 of their old path.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::LargeBinaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use data_encoding::HEXLOWER;
use serde::Deserialize;
use serde_json::Value;

use super::pointer::{PointerKind, identity};
use super::pointers::Make;
use crate::error::{Kind, Result};

/// How the pointers of one column go back.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Back {
    /// What they point to.
    pub kind: PointerKind,
    /// Pointers of blobs from 0.11 by the MD5 of their contents, both in hexadecimal.
    #[serde(default)]
    pub legacy: HashMap<String, String>,
}

/// What 2.x says of an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Named {
    /// What 0.14.6 points with.
    pub hash: [u8; 16],
    /// Where it lies, relative to its store.
    pub path: String,
    /// The store's name in 2.x.
    pub store: String,
    /// Its bytes.
    pub size: Option<u64>,
    /// When a filepath was registered.
    pub timestamp: Option<String>,
}

impl Back {
    /// The object behind a pointer of 2.x; `None` if the JSON is no pointer of this kind.
    #[must_use]
    pub fn named(&self, json: &[u8]) -> Option<Named> {
        let hash = self.hash(identity(json, self.kind)?)?;
        let value: Value = serde_json::from_slice(json).ok()?;
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Named {
            hash,
            path: text("path")?,
            store: text("store")?,
            size: value.get("size").and_then(Value::as_u64),
            timestamp: text("timestamp"),
        })
    }

    fn hash(&self, identity: [u8; 16]) -> Option<[u8; 16]> {
        match self.legacy.get(&HEXLOWER.encode(&identity)) {
            Some(hex) => HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok(),
            None => Some(identity),
        }
    }

    /// What makes the values of a column.
    #[must_use]
    pub fn of(&self, column: &str) -> BackColumn {
        BackColumn { column: column.to_owned(), back: self.clone() }
    }

    /// The BINARY(16) column for a column of JSON. NULL stays NULL.
    pub fn convert(&self, column: &str, json: &ArrayRef) -> Result<ArrayRef> {
        let values = json
            .as_binary_opt::<i64>()
            .ok_or_else(|| Kind::Value(format!("column `{column}` does not hold JSON")))?;
        let mut hashes = LargeBinaryBuilder::with_capacity(values.len(), values.len() * 16);
        for value in values {
            let Some(value) = value else {
                hashes.append_null();
                continue;
            };
            let hash = identity(value, self.kind).and_then(|identity| self.hash(identity));
            hashes.append_value(hash.ok_or_else(|| {
                let shown: String = String::from_utf8_lossy(value).chars().take(200).collect();
                Kind::Value(format!("column `{column}` holds {shown}, for which 0.14.6 has no form"))
            })?);
        }
        Ok(Arc::new(hashes.finish()))
    }
}

/// The pointers of one column on their way back.
#[derive(Debug, Clone)]
pub struct BackColumn {
    column: String,
    back: Back,
}

impl Make for BackColumn {
    fn make(&self, columns: &[ArrayRef]) -> Result<ArrayRef> {
        let json = columns.first().ok_or_else(|| Kind::Internal("a pointer without a column".into()))?;
        self.back.convert(&self.column, json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::LargeBinaryArray;

    const HASH: &[u8; 16] = b"\xab\xcd0123456789ABCD";

    fn json() -> Vec<u8> {
        let hash = super::super::pointer::base32(HASH);
        format!(
            "{{\"hash\": \"{hash}\", \"path\": \"_hash/lab/{hash}\", \"store\": \"raw\", \"size\": 7, \"schema\": \"lab\"}}"
        )
        .into_bytes()
    }

    #[test]
    fn the_hash_of_2_x_is_the_pointer_of_0_14_6() {
        let back = Back { kind: PointerKind::Blob, legacy: HashMap::new() };
        let array: ArrayRef = Arc::new(LargeBinaryArray::from(vec![Some(json().as_slice()), None]));
        let hashes = back.convert("signal", &array).expect("pointers");
        assert_eq!(hashes.as_binary::<i64>().iter().collect::<Vec<_>>(), [Some(&HASH[..]), None]);
        let named = back.named(&json()).expect("a pointer");
        assert_eq!((named.store.as_str(), named.size), ("raw", Some(7)));
    }

    #[test]
    fn a_blob_from_an_old_store_goes_back_to_its_path() {
        let legacy = HashMap::from([(HEXLOWER.encode(HASH), "07".repeat(16))]);
        let back = Back { kind: PointerKind::Blob, legacy };
        let named = back.named(&json()).expect("a pointer");
        assert_eq!(named.hash, [7; 16]);
    }

    #[test]
    fn what_is_no_pointer_is_named() {
        let back = Back { kind: PointerKind::Blob, legacy: HashMap::new() };
        let array: ArrayRef =
            Arc::new(LargeBinaryArray::from(vec![&b"{\"path\": \"x.npy\", \"store\": \"raw\"}"[..]]));
        let error = back.convert("signal", &array).expect_err("no pointer").to_string();
        assert!(error.contains("x.npy") && error.contains("signal"), "{error}");
    }
}
