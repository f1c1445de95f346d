//! Hashes of rows by meaning, and sums of them.
//!
//! A row's hash is XXH3-128 over its columns in the plan's order, each written in a canonical form: INT UNSIGNED 7 and
//! BIGINT 7 are the same bytes, a FLOAT is the DOUBLE it widens to, DECIMAL 1.50 is 1.5. The hash of many rows is the sum
//! mod 2^128: independent of order, and unlike an XOR of CRCs it sees two values swapped between rows and rows doubled.

use arrow_array::cast::AsArray;
use arrow_array::types as t;
use arrow_array::{Array, LargeBinaryArray, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use md5::{Digest as _, Md5};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::json::canonical;
use crate::convert::object::{identity_of_array, identity_of_array_json};
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
    /// The MD5 of the value, which names its object.
    Md5,
    /// A blob: the array that it holds.
    Array,
    /// 2.x JSON metadata: the array whose file it names.
    ArrayFile,
}

/// Writes one cell of a column in canonical form.
type Write<'a> = Box<dyn Fn(&mut Vec<u8>, usize) + 'a>;

fn integer(out: &mut Vec<u8>, value: i128) {
    out.push(if value < 0 { b'-' } else { b'+' });
    out.extend_from_slice(&(value as u64).to_le_bytes());
}

fn head(out: &mut Vec<u8>, length: usize) {
    out.push(b's');
    out.extend_from_slice(&(length as u64).to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    head(out, value.len());
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
                Meaning::Json => Box::new(move |out, row| bytes(out, &canonical(values.value(row)))),
                Meaning::Md5 => Box::new(move |out, row| bytes(out, &Md5::digest(values.value(row)))),
                Meaning::Array => Box::new(move |out, row| {
                    let value = values.value(row);
                    match identity_of_array(value, value.len() as u64) {
                        Ok(Some(array)) => bytes(out, array.as_bytes()),
                        _ => bytes(out, value),
                    }
                }),
                Meaning::ArrayFile => Box::new(move |out, row| {
                    let json = values.value(row);
                    match identity_of_array_json(json) {
                        Some(array) => bytes(out, array.as_bytes()),
                        None => bytes(out, json),
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

/// A value from this size on is hashed where it lies: its canonical form, which has it whole, is not made.
const LONG: usize = 64 * 1024;

/// The canonical bytes of single cells of a batch, and the hashes of its rows.
pub struct Rows<'a> {
    columns: Vec<(&'a dyn Array, Write<'a>)>,
    /// The columns that are hashed byte by byte.
    plain: Vec<Option<&'a LargeBinaryArray>>,
    length: usize,
}

impl<'a> Rows<'a> {
    /// `meanings` has one entry a column.
    pub fn new(batch: &'a RecordBatch, meanings: &[Meaning]) -> Result<Self> {
        let columns = batch.columns().iter().zip(meanings);
        let plain = columns.clone().map(|(array, meaning)| match meaning {
            Meaning::Value => array.as_binary_opt::<i64>(),
            _ => None,
        });
        let plain = plain.collect();
        let columns = columns.map(|(array, meaning)| Ok((array.as_ref(), writer(array.as_ref(), *meaning)?)));
        Ok(Self { columns: columns.collect::<Result<_>>()?, plain, length: batch.num_rows() })
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
        for row in 0..self.length {
            out.clear();
            let mut hasher = None;
            for column in 0..self.columns.len() {
                let Some(value) = self.long(column, row) else {
                    self.cell(&mut out, column, row);
                    continue;
                };
                head(&mut out, value.len());
                let hasher = hasher.get_or_insert_with(|| Box::new(Xxh3::new()));
                hasher.update(&out);
                hasher.update(value);
                out.clear();
            }
            each(
                row,
                hasher.map_or_else(
                    || xxh3_128(&out),
                    |mut hasher| {
                        hasher.update(&out);
                        hasher.digest128()
                    },
                ),
            );
        }
    }

    /// A value that is too long to be copied.
    fn long(&self, column: usize, row: usize) -> Option<&'a [u8]> {
        let values = self.plain[column].filter(|values| values.is_valid(row))?;
        Some(values.value(row)).filter(|value| value.len() >= LONG)
    }

    /// True if a cell has the same meaning as one of other rows.
    #[must_use]
    pub fn same(&self, row: usize, other: &Self, other_row: usize, column: usize) -> bool {
        if let (Some(one), Some(two)) = (self.long(column, row), other.long(column, other_row)) {
            return one == two;
        }
        let (mut one, mut two) = (Vec::new(), Vec::new());
        self.cell(&mut one, column, row);
        other.cell(&mut two, column, other_row);
        one == two
    }
}

/// The number of rows and the sum of their hashes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// How many rows.
    pub rows: u64,
    /// The sum of their hashes, modulo 2^128.
    pub sum: u128,
}

impl Digest {
    /// Adds the rows of a batch; `meanings` has one for each column.
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

    /// What is left when the rows of `part` are taken out; nothing where it cannot have held so many.
    #[must_use]
    pub fn without(self, part: Self) -> Option<Self> {
        let rows = self.rows.checked_sub(part.rows)?;
        Some(Self { rows, sum: self.sum.wrapping_sub(part.sum) })
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
    fn a_long_value_is_hashed_as_if_its_canonical_form_were_made() {
        let long: Vec<u8> = (0..LONG + 5).map(|at| (at % 251) as u8).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![7])),
            Arc::new(LargeBinaryArray::from(vec![long.as_slice()])),
            Arc::new(LargeBinaryArray::from(vec![&b"short"[..]])),
            Arc::new(LargeBinaryArray::from(vec![&long[1..]])),
        ];
        let mut form = Vec::new();
        integer(&mut form, 7);
        bytes(&mut form, &long);
        bytes(&mut form, b"short");
        bytes(&mut form, &long[1..]);
        assert_eq!(digest(columns, &[Meaning::Value; 4]), xxh3_128(&form));
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
