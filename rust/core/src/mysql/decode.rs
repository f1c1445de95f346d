//! The one table of types: how a column of a result becomes an Arrow array, and back again as text for loading.
//!
//! Values travel without loss. Text is carried as the bytes of the column's own character set, DECIMAL as its digits, dates
//! as `batch::calendar` says.

use std::sync::Arc;

use arrow_array::builder::{Decimal128Builder, Decimal256Builder};
use arrow_array::types::{
    Date32Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, FixedSizeBinaryArray, LargeBinaryArray, LargeStringArray, PrimitiveArray,
};
use arrow_buffer::{Buffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer, i256};
use arrow_schema::{DataType, Field, TimeUnit};
use mysql_common::constants::{ColumnFlags, ColumnType};
use mysql_common::packets::Column;

use super::query::Fields;
use crate::batch::calendar::{MICROS_PER_DAY, ODD_DATE, ODD_DATETIME, days_of, is_real_date, packed_date};
use crate::batch::types::{MYSQL_TYPE, YEAR};
use crate::error::{Kind, Result};

const BINARY: u16 = 63;
/// The widest BINARY there is. No room is taken for NULLs of a width that nothing has.
const WIDEST: u32 = 255;

/// Whom the arrays are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Our own stations: the bytes as they are.
    River,
    /// The user: text as Utf8, DECIMAL as Decimal128/256, and an error where Arrow has no such value.
    User,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repr {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F32,
    F64,
    Date,
    DateTime,
    Time,
    Bytes,
    Text,
    Fixed(i32),
    Decimal(u8, i8),
}

/// One growing column of a batch.
pub struct Cells {
    /// Name and Arrow type of the column.
    pub field: Field,
    repr: Repr,
    audience: Audience,
    nulls: NullBufferBuilder,
    values: Values,
    /// The one value, where it is a part of the packet it came in.
    shared: Option<Buffer>,
}

/// Of 838:59:59, the longest TIME.
const MOST_DAYS: i64 = 34;

/// A value from this size on is not copied out of the packet of a large row.
const WORTH_SHARING: usize = 64 * 1024;

enum Values {
    I8(Vec<i8>),
    U8(Vec<u8>),
    I16(Vec<i16>),
    U16(Vec<u16>),
    I32(Vec<i32>),
    U32(Vec<u32>),
    I64(Vec<i64>),
    U64(Vec<u64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bytes { ends: Vec<i64>, bytes: Vec<u8> },
}

fn type_name(column: &Column) -> String {
    format!("{:?}", column.column_type())
}

impl Cells {
    /// An empty column for a column of a result.
    pub fn new(column: &Column, audience: Audience) -> Result<Self> {
        use ColumnType as T;
        let unsigned = column.flags().contains(ColumnFlags::UNSIGNED_FLAG);
        let binary = column.character_set() == BINARY;
        let text = if binary || audience == Audience::River { Repr::Bytes } else { Repr::Text };
        let repr = match column.column_type() {
            T::MYSQL_TYPE_TINY => pick(unsigned, Repr::U8, Repr::I8),
            T::MYSQL_TYPE_SHORT => pick(unsigned, Repr::U16, Repr::I16),
            T::MYSQL_TYPE_INT24 | T::MYSQL_TYPE_LONG => pick(unsigned, Repr::U32, Repr::I32),
            T::MYSQL_TYPE_LONGLONG => pick(unsigned, Repr::U64, Repr::I64),
            T::MYSQL_TYPE_YEAR => Repr::U16,
            T::MYSQL_TYPE_FLOAT => Repr::F32,
            T::MYSQL_TYPE_DOUBLE => Repr::F64,
            T::MYSQL_TYPE_DATE | T::MYSQL_TYPE_NEWDATE => Repr::Date,
            T::MYSQL_TYPE_DATETIME
            | T::MYSQL_TYPE_DATETIME2
            | T::MYSQL_TYPE_TIMESTAMP
            | T::MYSQL_TYPE_TIMESTAMP2 => Repr::DateTime,
            T::MYSQL_TYPE_TIME | T::MYSQL_TYPE_TIME2 => Repr::Time,
            T::MYSQL_TYPE_NEWDECIMAL | T::MYSQL_TYPE_DECIMAL => match audience {
                Audience::River => Repr::Bytes,
                Audience::User => {
                    let scale = column.decimals();
                    // The display width counts the sign and the point.
                    let marks = u32::from(!unsigned) + u32::from(scale > 0);
                    let width = column.column_length().saturating_sub(marks);
                    Repr::Decimal(width.clamp(1, 76) as u8, scale as i8)
                }
            },
            T::MYSQL_TYPE_JSON => pick(audience == Audience::River, Repr::Bytes, Repr::Text),
            T::MYSQL_TYPE_STRING
                if binary
                    && audience == Audience::User
                    && column.column_length() <= WIDEST
                    && !column.flags().intersects(ColumnFlags::ENUM_FLAG | ColumnFlags::SET_FLAG) =>
            {
                Repr::Fixed(column.column_length() as i32)
            }
            T::MYSQL_TYPE_BIT | T::MYSQL_TYPE_GEOMETRY | T::MYSQL_TYPE_VECTOR => Repr::Bytes,
            T::MYSQL_TYPE_STRING
            | T::MYSQL_TYPE_VAR_STRING
            | T::MYSQL_TYPE_VARCHAR
            | T::MYSQL_TYPE_ENUM
            | T::MYSQL_TYPE_SET
            | T::MYSQL_TYPE_TINY_BLOB
            | T::MYSQL_TYPE_MEDIUM_BLOB
            | T::MYSQL_TYPE_LONG_BLOB
            | T::MYSQL_TYPE_BLOB => text,
            _ => {
                return Err(Kind::UnknownType {
                    column: column.name_str().into_owned(),
                    type_name: type_name(column),
                }
                .into());
            }
        };
        let zone = matches!(column.column_type(), T::MYSQL_TYPE_TIMESTAMP | T::MYSQL_TYPE_TIMESTAMP2)
            .then(|| Arc::from("UTC"));
        let data_type = match repr {
            Repr::I8 => DataType::Int8,
            Repr::U8 => DataType::UInt8,
            Repr::I16 => DataType::Int16,
            Repr::U16 => DataType::UInt16,
            Repr::I32 => DataType::Int32,
            Repr::U32 => DataType::UInt32,
            Repr::I64 => DataType::Int64,
            Repr::U64 => DataType::UInt64,
            Repr::F32 => DataType::Float32,
            Repr::F64 => DataType::Float64,
            Repr::Date => DataType::Date32,
            Repr::DateTime => DataType::Timestamp(TimeUnit::Microsecond, zone),
            Repr::Time => DataType::Duration(TimeUnit::Microsecond),
            Repr::Bytes => DataType::LargeBinary,
            Repr::Text => DataType::LargeUtf8,
            Repr::Fixed(width) => DataType::FixedSizeBinary(width),
            Repr::Decimal(precision, scale) if precision <= 38 => DataType::Decimal128(precision, scale),
            Repr::Decimal(precision, scale) => DataType::Decimal256(precision, scale),
        };
        let mut field = Field::new(column.name_str(), data_type, true);
        if column.column_type() == T::MYSQL_TYPE_YEAR {
            field = field.with_metadata([(MYSQL_TYPE.to_owned(), YEAR.to_owned())].into());
        }
        let (nulls, values) = (NullBufferBuilder::new(0), Values::new(repr));
        Ok(Self { field, repr, audience, nulls, values, shared: None })
    }

    /// What a value takes at least, be it NULL.
    pub(super) fn width(&self) -> usize {
        match self.field.data_type() {
            DataType::FixedSizeBinary(width) => *width as usize,
            other => other.primitive_width().unwrap_or(size_of::<i64>()),
        }
    }

    /// Adds SQL NULL.
    pub fn push_null(&mut self) {
        self.nulls.append_null();
        match &mut self.values {
            Values::I8(values) => values.push(0),
            Values::U8(values) => values.push(0),
            Values::I16(values) => values.push(0),
            Values::U16(values) => values.push(0),
            Values::I32(values) => values.push(0),
            Values::U32(values) => values.push(0),
            Values::I64(values) => values.push(0),
            Values::U64(values) => values.push(0),
            Values::F32(values) => values.push(0.0),
            Values::F64(values) => values.push(0.0),
            Values::Bytes { ends, bytes } => ends.push(bytes.len() as i64),
        }
    }

    /// Adds the next value of a row of the binary protocol.
    #[inline]
    pub(super) fn push(&mut self, row: &mut Fields<'_>) -> Result<()> {
        self.nulls.append_non_null();
        match &mut self.values {
            Values::I8(values) => values.push(i8::from_le_bytes(row.array()?)),
            Values::U8(values) => values.push(u8::from_le_bytes(row.array()?)),
            Values::I16(values) => values.push(i16::from_le_bytes(row.array()?)),
            Values::U16(values) => values.push(u16::from_le_bytes(row.array()?)),
            Values::U32(values) => values.push(u32::from_le_bytes(row.array()?)),
            Values::U64(values) => values.push(u64::from_le_bytes(row.array()?)),
            Values::F32(values) => values.push(f32::from_le_bytes(row.array()?)),
            Values::F64(values) => values.push(f64::from_le_bytes(row.array()?)),
            Values::I32(values) => values.push(match self.repr {
                Repr::Date => read_date(row)?,
                _ => i32::from_le_bytes(row.array()?),
            }),
            Values::I64(values) => values.push(match self.repr {
                Repr::DateTime => read_datetime(row)?,
                Repr::Time => read_time(row)?,
                _ => i64::from_le_bytes(row.array()?),
            }),
            Values::Bytes { ends, bytes } => {
                bytes.extend_from_slice(row.bytes()?);
                ends.push(bytes.len() as i64);
            }
        }
        Ok(())
    }

    /// Adds the next value of a row that is alone in its batch; a long one remains a part of `packet`, where `row` ends.
    pub(super) fn push_part(&mut self, row: &mut Fields<'_>, packet: &Buffer) -> Result<()> {
        let Values::Bytes { ends, .. } = &mut self.values else { return self.push(row) };
        let before = Fields(row.0);
        let value = row.bytes()?;
        if value.len() < WORTH_SHARING {
            *row = before;
            return self.push(row);
        }
        self.nulls.append_non_null();
        ends.push(value.len() as i64);
        let end = packet.len() - row.0.len();
        self.shared = Some(packet.slice_with_length(end - value.len(), value.len()));
        Ok(())
    }

    /// The array of what was added since the last call.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        let nulls = self.nulls.finish();
        self.nulls = NullBufferBuilder::new(0);
        let values = std::mem::replace(&mut self.values, Values::new(self.repr));
        if self.audience == Audience::User {
            self.refuse_odd_dates(&values)?;
        }
        Ok(match values {
            Values::I8(values) => Arc::new(PrimitiveArray::<Int8Type>::new(values.into(), nulls)),
            Values::U8(values) => Arc::new(PrimitiveArray::<UInt8Type>::new(values.into(), nulls)),
            Values::I16(values) => Arc::new(PrimitiveArray::<Int16Type>::new(values.into(), nulls)),
            Values::U16(values) => Arc::new(PrimitiveArray::<UInt16Type>::new(values.into(), nulls)),
            Values::U32(values) => Arc::new(PrimitiveArray::<UInt32Type>::new(values.into(), nulls)),
            Values::U64(values) => Arc::new(PrimitiveArray::<UInt64Type>::new(values.into(), nulls)),
            Values::F32(values) => Arc::new(PrimitiveArray::<Float32Type>::new(values.into(), nulls)),
            Values::F64(values) => Arc::new(PrimitiveArray::<Float64Type>::new(values.into(), nulls)),
            Values::I32(values) if self.repr == Repr::Date => {
                Arc::new(PrimitiveArray::<Date32Type>::new(values.into(), nulls))
            }
            Values::I32(values) => Arc::new(PrimitiveArray::<Int32Type>::new(values.into(), nulls)),
            Values::I64(values) => match self.field.data_type() {
                DataType::Timestamp(_, zone) => Arc::new(
                    PrimitiveArray::<TimestampMicrosecondType>::new(values.into(), nulls)
                        .with_timezone_opt(zone.clone()),
                ),
                DataType::Duration(_) => {
                    Arc::new(PrimitiveArray::<DurationMicrosecondType>::new(values.into(), nulls))
                }
                _ => Arc::new(PrimitiveArray::<Int64Type>::new(values.into(), nulls)),
            },
            Values::Bytes { ends, bytes } => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
                let bytes = self.shared.take().unwrap_or_else(|| Buffer::from_vec(bytes));
                let binary = LargeBinaryArray::new(offsets, bytes, nulls);
                self.finish_bytes(binary)?
            }
        })
    }

    fn refuse_odd_dates(&self, values: &Values) -> Result<()> {
        let odd = match values {
            Values::I32(days) if self.repr == Repr::Date => days.iter().any(|&day| day < ODD_DATE),
            Values::I64(micros) if self.repr == Repr::DateTime => {
                micros.iter().any(|&micro| micro < ODD_DATETIME)
            }
            _ => false,
        };
        if odd {
            let message = format!(
                "column `{}` holds a date that no calendar has (such as 0000-00-00), which Arrow cannot hold; \
                 leave the column or those rows out",
                self.field.name()
            );
            return Err(Kind::Value(message).into());
        }
        Ok(())
    }

    fn finish_bytes(&self, binary: LargeBinaryArray) -> Result<ArrayRef> {
        let fail =
            |error: &dyn std::fmt::Display| Kind::Value(format!("column `{}`: {error}", self.field.name()));
        Ok(match self.repr {
            Repr::Text => Arc::new(LargeStringArray::try_from_binary(binary).map_err(|error| fail(&error))?),
            Repr::Fixed(width) => {
                let values = binary.iter();
                Arc::new(
                    FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, width)
                        .map_err(|error| fail(&error))?,
                )
            }
            Repr::Decimal(precision, scale) if precision <= 38 => {
                let mut builder = Decimal128Builder::with_capacity(binary.len());
                for value in &binary {
                    let value = value.map(|digits| unscaled(digits, scale)).transpose()?;
                    let narrow = |value: i256| value.to_i128().ok_or_else(|| fail(&"it does not fit"));
                    builder.append_option(value.map(narrow).transpose()?);
                }
                let array = builder.finish().with_precision_and_scale(precision, scale);
                let array = array.map_err(|error| fail(&error))?;
                array.validate_decimal_precision(precision).map_err(|error| fail(&error))?;
                Arc::new(array)
            }
            Repr::Decimal(precision, scale) => {
                let mut builder = Decimal256Builder::with_capacity(binary.len());
                for value in &binary {
                    builder.append_option(value.map(|digits| unscaled(digits, scale)).transpose()?);
                }
                let array = builder.finish().with_precision_and_scale(precision, scale);
                let array = array.map_err(|error| fail(&error))?;
                array.validate_decimal_precision(precision).map_err(|error| fail(&error))?;
                Arc::new(array)
            }
            _ => Arc::new(binary),
        })
    }
}

impl Values {
    fn new(repr: Repr) -> Self {
        match repr {
            Repr::I8 => Self::I8(Vec::new()),
            Repr::U8 => Self::U8(Vec::new()),
            Repr::I16 => Self::I16(Vec::new()),
            Repr::U16 => Self::U16(Vec::new()),
            Repr::I32 | Repr::Date => Self::I32(Vec::new()),
            Repr::U32 => Self::U32(Vec::new()),
            Repr::I64 | Repr::DateTime | Repr::Time => Self::I64(Vec::new()),
            Repr::U64 => Self::U64(Vec::new()),
            Repr::F32 => Self::F32(Vec::new()),
            Repr::F64 => Self::F64(Vec::new()),
            Repr::Bytes | Repr::Text | Repr::Fixed(_) | Repr::Decimal(..) => {
                Self::Bytes { ends: vec![0], bytes: Vec::new() }
            }
        }
    }
}

fn pick(condition: bool, yes: Repr, no: Repr) -> Repr {
    if condition { yes } else { no }
}

/// The digits of a DECIMAL without its point, as a number.
fn unscaled(digits: &[u8], scale: i8) -> Result<i256> {
    let fraction = memchr::memchr(b'.', digits).map_or(0, |point| digits.len() - point - 1);
    if i8::try_from(fraction) != Ok(scale) || !digits.is_ascii() {
        let text = String::from_utf8_lossy(digits);
        return Err(Kind::Protocol(format!("`{text}` where a DECIMAL of the scale {scale} was due")).into());
    }
    let text: String = digits.iter().filter(|&&byte| byte != b'.').map(|&byte| char::from(byte)).collect();
    i256::from_string(&text).ok_or_else(|| Kind::Protocol(format!("`{text}` where a DECIMAL was due")).into())
}

/// A time of day in microseconds; no server has another.
fn read_clock(fields: &mut Fields<'_>) -> Result<i64> {
    let [hour, minute, second] = fields.array()?;
    let fraction = if fields.0.is_empty() { 0 } else { u32::from_le_bytes(fields.array()?) };
    if hour > 23 || minute > 59 || second > 59 || fraction > 999_999 {
        return Err(Kind::Protocol(format!("a time of {hour}:{minute}:{second} and {fraction} µs")).into());
    }
    Ok((i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second)) * 1_000_000
        + i64::from(fraction))
}

fn read_calendar(row: &mut Fields<'_>) -> Result<(i32, u32, u32, i64)> {
    let mut fields = Fields(row.bytes()?);
    if fields.0.is_empty() {
        return Ok((0, 0, 0, 0));
    }
    let year = u16::from_le_bytes(fields.array()?);
    let [month, day] = fields.array()?;
    if year > 9999 || month > 12 || day > 31 {
        return Err(Kind::Protocol(format!("a date of {year}-{month}-{day}")).into());
    }
    let micros = if fields.0.is_empty() { 0 } else { read_clock(&mut fields)? };
    Ok((i32::from(year), u32::from(month), u32::from(day), micros))
}

fn read_date(row: &mut Fields<'_>) -> Result<i32> {
    let (year, month, day, _) = read_calendar(row)?;
    Ok(if is_real_date(year, month, day) {
        days_of(year, month, day)
    } else {
        i32::MIN + packed_date(year, month, day)
    })
}

fn read_datetime(row: &mut Fields<'_>) -> Result<i64> {
    let (year, month, day, micros) = read_calendar(row)?;
    Ok(if is_real_date(year, month, day) {
        i64::from(days_of(year, month, day)) * MICROS_PER_DAY + micros
    } else {
        i64::MIN + (i64::from(packed_date(year, month, day)) << 37 | micros)
    })
}

fn read_time(row: &mut Fields<'_>) -> Result<i64> {
    let mut fields = Fields(row.bytes()?);
    if fields.0.is_empty() {
        return Ok(0);
    }
    let [negative] = fields.array()?;
    let days = i64::from(u32::from_le_bytes(fields.array()?));
    if days > MOST_DAYS {
        return Err(Kind::Protocol(format!("a TIME of {days} days")).into());
    }
    let micros = days * MICROS_PER_DAY + read_clock(&mut fields)?;
    Ok(if negative == 0 { micros } else { -micros })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_no_server_has_is_an_error() {
        let time = |days: u32| {
            let [a, b, c, d] = days.to_le_bytes();
            read_time(&mut Fields(&[8, 1, a, b, c, d, 22, 59, 59]))
        };
        assert_eq!(time(34).expect("838:59:59"), -(838 * 3600 + 59 * 60 + 59) * 1_000_000);
        for days in [35, 1_000_000, u32::MAX] {
            assert_eq!(time(days).expect_err("none").code(), "DJM-1204", "{days}");
        }
    }

    #[test]
    fn a_date_that_no_server_has_is_an_error_and_no_other_date() {
        let micros = |year: u16, rest: [u8; 9]| {
            read_datetime(&mut Fields(&[&[11][..], &year.to_le_bytes(), &rest].concat()))
        };
        let last = [12, 31, 23, 59, 59, 0x3f, 0x42, 0x0f, 0];
        assert_eq!(micros(9999, last).expect("the last"), 253_402_300_799_999_999);
        micros(0, [0; 9]).expect("none at all, which pipelines have");
        for (at, value) in [(0, 13), (1, 32), (2, 24), (3, 60), (4, 60), (5, 0x40), (8, 1)] {
            let mut rest = last;
            rest[at] = value;
            assert_eq!(micros(9999, rest).expect_err("none").code(), "DJM-1204", "{rest:?}");
        }
        assert!(micros(10_000, last).is_err());
    }

    fn decimals(precision: u8, scale: i8, digits: &str) -> Result<ArrayRef> {
        let repr = Repr::Decimal(precision, scale);
        let cells = Cells {
            field: Field::new("price", DataType::Decimal256(precision, scale), true),
            repr,
            audience: Audience::User,
            nulls: NullBufferBuilder::new(0),
            values: Values::new(repr),
            shared: None,
        };
        cells.finish_bytes(LargeBinaryArray::from_opt_vec(vec![Some(digits.as_bytes()), None]))
    }

    #[test]
    fn a_decimal_that_does_not_fit_is_an_error_and_never_null() {
        for (precision, scale, digits) in [(4, 2, "-99.99"), (38, 0, "7"), (39, 1, "0.5")] {
            let array = decimals(precision, scale, digits).expect("it fits");
            assert!(array.is_valid(0) && array.is_null(1));
        }
        let long = "9".repeat(76);
        for (precision, scale, digits) in [(4, 2, "100.00"), (38, 0, long.as_str()), (40, 0, long.as_str())] {
            let error = decimals(precision, scale, digits).expect_err("it does not fit");
            assert_eq!(error.code(), "DJM-1302");
            assert!(error.to_string().contains("price"), "{error}");
        }
        assert!(decimals(76, 0, &"9".repeat(90)).is_err());
        // Of two bytes each, so that a number is never cut within one.
        assert!(decimals(76, 0, &format!("é{}", "9".repeat(39))).is_err());
    }
}
