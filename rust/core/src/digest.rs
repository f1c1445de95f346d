//! Hashes of rows by meaning, and sums of them.
//!
//! A row's hash is XXH3-128 over its columns in the plan's order, each written in a canonical form: INT UNSIGNED 7 and
//! BIGINT 7 are the same bytes, a FLOAT is the DOUBLE it widens to, DECIMAL 1.50 is 1.5. The hash of many rows is the sum
//! mod 2^128: independent of order, and unlike an XOR of CRCs it sees two values swapped between rows and rows doubled.

use arrow_array::cast::AsArray;
use arrow_array::types as t;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use xxhash_rust::xxh3::xxh3_128;

use crate::convert::pointer::{PointerKind, identity};
use crate::error::{Kind, Result};

/// How a column is read for its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The value itself.
    Value,
    /// Digits of a DECIMAL: zeros at the end of the fraction do not count.
    Decimal,
    /// JSON text: order of keys and spaces do not count.
    Json,
    /// 2.x JSON metadata: the object it names.
    Pointer(PointerKind),
}

/// Writes one cell of a column in canonical form.
type Write<'a> = Box<dyn Fn(&mut Vec<u8>, usize) + 'a>;

fn integer(out: &mut Vec<u8>, value: i128) {
    out.push(if value < 0 { b'-' } else { b'+' });
    out.extend_from_slice(&(value as u64).to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b's');
    out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    out.extend_from_slice(value);
}

fn time(out: &mut Vec<u8>, kind: u8, value: i64) {
    out.push(kind);
    out.extend_from_slice(&value.to_le_bytes());
}

fn trimmed(digits: &[u8]) -> &[u8] {
    if !digits.contains(&b'.') {
        return digits;
    }
    let end = digits.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1);
    let digits = &digits[..end];
    digits.strip_suffix(b".").unwrap_or(digits)
}

fn writer(array: &dyn Array, meaning: Meaning) -> Result<Write<'_>> {
    macro_rules! integers {
        ($kind:ty) => {{
            let values = array.as_primitive::<$kind>();
            Box::new(move |out: &mut Vec<u8>, row| integer(out, i128::from(values.value(row))))
        }};
    }
    macro_rules! doubles {
        ($kind:ty) => {{
            let values = array.as_primitive::<$kind>();
            Box::new(move |out: &mut Vec<u8>, row| {
                out.push(b'f');
                out.extend_from_slice(&f64::from(values.value(row)).to_bits().to_le_bytes());
            })
        }};
    }
    Ok(match array.data_type() {
        DataType::Int8 => integers!(t::Int8Type),
        DataType::UInt8 => integers!(t::UInt8Type),
        DataType::Int16 => integers!(t::Int16Type),
        DataType::UInt16 => integers!(t::UInt16Type),
        DataType::Int32 => integers!(t::Int32Type),
        DataType::UInt32 => integers!(t::UInt32Type),
        DataType::Int64 => integers!(t::Int64Type),
        DataType::UInt64 => integers!(t::UInt64Type),
        DataType::Float32 => doubles!(t::Float32Type),
        DataType::Float64 => doubles!(t::Float64Type),
        DataType::Date32 => {
            let values = array.as_primitive::<t::Date32Type>();
            Box::new(move |out, row| time(out, b'd', i64::from(values.value(row))))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let values = array.as_primitive::<t::TimestampMicrosecondType>();
            Box::new(move |out, row| time(out, b't', values.value(row)))
        }
        DataType::Duration(_) => {
            let values = array.as_primitive::<t::DurationMicrosecondType>();
            Box::new(move |out, row| time(out, b'h', values.value(row)))
        }
        DataType::LargeBinary => {
            let values = array.as_binary::<i64>();
            match meaning {
                Meaning::Value => Box::new(move |out, row| bytes(out, values.value(row))),
                Meaning::Decimal => Box::new(move |out, row| bytes(out, trimmed(values.value(row)))),
                Meaning::Json => Box::new(move |out, row| {
                    let text = values.value(row);
                    // serde_json keeps the keys of an object sorted.
                    match serde_json::from_slice::<serde_json::Value>(text) {
                        Ok(value) => bytes(out, value.to_string().as_bytes()),
                        Err(_) => bytes(out, text),
                    }
                }),
                Meaning::Pointer(kind) => Box::new(move |out, row| {
                    let json = values.value(row);
                    match identity(json, kind) {
                        Some(hash) => bytes(out, &hash),
                        None => bytes(out, json),
                    }
                }),
            }
        }
        other => return Err(Kind::Internal(format!("{other} cannot be hashed")).into()),
    })
}

/// The canonical bytes of single cells of a batch, and the hashes of its rows.
pub struct Rows<'a> {
    columns: Vec<(&'a dyn Array, Write<'a>)>,
    rows: usize,
}

impl<'a> Rows<'a> {
    /// `meanings` has one entry a column.
    pub fn new(batch: &'a RecordBatch, meanings: &[Meaning]) -> Result<Self> {
        let columns = batch.columns().iter().zip(meanings);
        let columns = columns.map(|(array, meaning)| Ok((array.as_ref(), writer(array.as_ref(), *meaning)?)));
        Ok(Self { columns: columns.collect::<Result<_>>()?, rows: batch.num_rows() })
    }

    /// Appends the canonical form of one cell; NULL differs from every value.
    #[inline]
    pub fn cell(&self, out: &mut Vec<u8>, column: usize, row: usize) {
        let (array, write) = &self.columns[column];
        if array.is_null(row) {
            out.push(b'N');
        } else {
            write(out, row);
        }
    }

    /// Calls `each` with the hash of every row.
    pub fn hashes(&self, mut each: impl FnMut(usize, u128)) {
        let mut out = Vec::with_capacity(256);
        for row in 0..self.rows {
            out.clear();
            for column in 0..self.columns.len() {
                self.cell(&mut out, column, row);
            }
            each(row, xxh3_128(&out));
        }
    }
}

/// The number of rows and the sum of their hashes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    pub rows: u64,
    pub sum: u128,
}

impl Digest {
    pub fn add(&mut self, batch: &RecordBatch, meanings: &[Meaning]) -> Result<()> {
        Rows::new(batch, meanings)?.hashes(|_, hash| self.count(hash));
        Ok(())
    }

    /// Takes one more row, by its hash.
    pub fn count(&mut self, hash: u128) {
        self.merge(Self { rows: 1, sum: hash });
    }

    /// Takes all rows of `part`.
    pub fn merge(&mut self, part: Self) {
        self.rows += part.rows;
        self.sum = self.sum.wrapping_add(part.sum);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, LargeBinaryArray, UInt32Array};

    use super::*;

    fn digest(columns: Vec<ArrayRef>, meanings: &[Meaning]) -> u128 {
        let named = columns.into_iter().enumerate().map(|(index, array)| (index.to_string(), array, true));
        let batch = RecordBatch::try_from_iter_with_nullable(named).expect("valid");
        let mut digest = Digest::default();
        digest.add(&batch, meanings).expect("hashable");
        digest.sum
    }

    #[test]
    fn an_integer_means_the_same_in_every_width() {
        let narrow = digest(vec![Arc::new(UInt32Array::from(vec![7, u32::MAX]))], &[Meaning::Value]);
        let wide = digest(vec![Arc::new(Int64Array::from(vec![7, i64::from(u32::MAX)]))], &[Meaning::Value]);
        assert_eq!(narrow, wide);
    }

    #[test]
    fn two_values_swapped_between_rows_are_seen() {
        let keys: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let one: ArrayRef = Arc::new(LargeBinaryArray::from(vec![&[1u8; 16][..], &[2u8; 16][..]]));
        let other: ArrayRef = Arc::new(LargeBinaryArray::from(vec![&[2u8; 16][..], &[1u8; 16][..]]));
        let meanings = [Meaning::Value, Meaning::Value];
        assert_ne!(digest(vec![keys.clone(), one], &meanings), digest(vec![keys, other], &meanings));
    }

    #[test]
    fn null_differs_from_empty_and_neighbours_do_not_run_together() {
        let of = |left: Option<&[u8]>, right: Option<&[u8]>| {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(LargeBinaryArray::from(vec![left])),
                Arc::new(LargeBinaryArray::from(vec![right])),
            ];
            digest(columns, &[Meaning::Value, Meaning::Value])
        };
        assert_ne!(of(None, Some(b"")), of(Some(b""), Some(b"")));
        assert_ne!(of(Some(b"ab"), Some(b"c")), of(Some(b"a"), Some(b"bc")));
    }

    #[test]
    fn decimals_and_json_are_read_for_their_meaning() {
        assert_eq!(trimmed(b"1.500"), b"1.5");
        assert_eq!(trimmed(b"100"), b"100");
        assert_eq!(trimmed(b"2.000"), b"2");
        let of = |text: &[u8]| digest(vec![Arc::new(LargeBinaryArray::from(vec![text]))], &[Meaning::Json]);
        assert_eq!(of(br#"{"a": 1, "b": [2]}"#), of(br#"{"b":[2],"a":1}"#));
        assert_ne!(of(br#"{"a": 1}"#), of(br#"{"a": 2}"#));
    }
}
