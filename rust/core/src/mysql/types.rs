//! The one table of types: how a column of a result becomes an Arrow array, and back again as text for loading.
//!
//! Values travel without loss. Text is carried as the bytes of the column's own character set; DECIMAL as its digits;
//! dates that no calendar has (`0000-00-00`, `2020-02-31`, accepted by `MySQL` and found in old pipelines) are carried in
//! Arrow's date types far below the year 0, where no real date is (`ODD_DATE`, `ODD_DATETIME`).

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
use crate::error::{Kind, Result};

const BINARY: u16 = 63;
/// Day numbers below this one are packed dates that no calendar has.
pub const ODD_DATE: i32 = i32::MIN + (1 << 24);
/// Microseconds below this one are packed date-times that no calendar has.
pub const ODD_DATETIME: i64 = i64::MIN + (1 << 61);
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The key under which a field says what its Arrow type does not, and what it says there.
pub const MYSQL_TYPE: &str = "mysql.type";
pub const YEAR: &str = "year";

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
    pub field: Field,
    repr: Repr,
    audience: Audience,
    nulls: NullBufferBuilder,
    values: Values,
}

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
                    let width = column.column_length() - u32::from(!unsigned) - u32::from(scale > 0);
                    Repr::Decimal(width.clamp(1, 76) as u8, scale as i8)
                }
            },
            T::MYSQL_TYPE_JSON => pick(audience == Audience::River, Repr::Bytes, Repr::Text),
            T::MYSQL_TYPE_STRING
                if binary
                    && audience == Audience::User
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
        Ok(Self { field, repr, audience, nulls: NullBufferBuilder::new(0), values: Values::new(repr) })
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
                let binary = LargeBinaryArray::new(offsets, Buffer::from_vec(bytes), nulls);
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
                    builder.append_option(value.map(unscaled).transpose()?.and_then(i256::to_i128));
                }
                Arc::new(
                    builder
                        .finish()
                        .with_precision_and_scale(precision, scale)
                        .map_err(|error| fail(&error))?,
                )
            }
            Repr::Decimal(precision, scale) => {
                let mut builder = Decimal256Builder::with_capacity(binary.len());
                for value in &binary {
                    builder.append_option(value.map(unscaled).transpose()?);
                }
                Arc::new(
                    builder
                        .finish()
                        .with_precision_and_scale(precision, scale)
                        .map_err(|error| fail(&error))?,
                )
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
fn unscaled(digits: &[u8]) -> Result<i256> {
    let text: String = digits.iter().filter(|&&byte| byte != b'.').map(|&byte| char::from(byte)).collect();
    i256::from_string(&text).ok_or_else(|| Kind::Protocol(format!("`{text}` where a DECIMAL was due")).into())
}

fn is_real_date(year: i32, month: u32, day: u32) -> bool {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        _ => 0,
    };
    (1..=days).contains(&day)
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar (the usual shift of the year to March).
fn days_of(year: i32, month: u32, day: u32) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year as i32 - 719_468
}

/// Year, month and day of a day number.
fn date_of(days: i32) -> (i32, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = (day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100)) as u32;
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i32::from(month <= 2), month, day)
}

fn packed_date(year: i32, month: u32, day: u32) -> i32 {
    year << 9 | (month as i32) << 5 | day as i32
}

fn unpacked_date(packed: i32) -> (i32, u32, u32) {
    (packed >> 9, (packed >> 5 & 15) as u32, (packed & 31) as u32)
}

fn read_calendar(row: &mut Fields<'_>) -> Result<(i32, u32, u32, i64)> {
    let mut fields = Fields(row.bytes()?);
    if fields.0.is_empty() {
        return Ok((0, 0, 0, 0));
    }
    let year = i32::from(u16::from_le_bytes(fields.array()?));
    let [month, day] = fields.array()?;
    let mut micros = 0;
    if !fields.0.is_empty() {
        let [hour, minute, second] = fields.array()?;
        micros = (i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second)) * 1_000_000;
        if !fields.0.is_empty() {
            micros += i64::from(u32::from_le_bytes(fields.array()?));
        }
    }
    Ok((year, u32::from(month), u32::from(day), micros))
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
    let [hour, minute, second] = fields.array()?;
    let mut micros =
        ((days * 24 + i64::from(hour)) * 3600 + i64::from(minute) * 60 + i64::from(second)) * 1_000_000;
    if !fields.0.is_empty() {
        micros += i64::from(u32::from_le_bytes(fields.array()?));
    }
    Ok(if negative == 0 { micros } else { -micros })
}

/// A YEAR as `MySQL` writes it: `0` as text would become 2000.
pub fn push_year(out: &mut Vec<u8>, year: u16) {
    push_padded(out, u32::from(year), 4);
}

fn push_padded(out: &mut Vec<u8>, value: u32, width: usize) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value).as_bytes();
    out.extend(std::iter::repeat_n(b'0', width.saturating_sub(digits.len())));
    out.extend_from_slice(digits);
}

fn push_clock(out: &mut Vec<u8>, micros: i64, hour_width: usize) {
    let seconds = micros / 1_000_000;
    push_padded(out, (seconds / 3600) as u32, hour_width);
    out.push(b':');
    push_padded(out, (seconds / 60 % 60) as u32, 2);
    out.push(b':');
    push_padded(out, (seconds % 60) as u32, 2);
    let fraction = (micros % 1_000_000) as u32;
    if fraction > 0 {
        out.push(b'.');
        push_padded(out, fraction, 6);
    }
}

fn push_calendar(out: &mut Vec<u8>, (year, month, day): (i32, u32, u32)) {
    push_padded(out, year as u32, 4);
    out.push(b'-');
    push_padded(out, month, 2);
    out.push(b'-');
    push_padded(out, day, 2);
}

/// A DATE as `MySQL` writes it.
pub fn push_date(out: &mut Vec<u8>, days: i32) {
    push_calendar(
        out,
        if days < ODD_DATE { unpacked_date(days.wrapping_sub(i32::MIN)) } else { date_of(days) },
    );
}

/// A DATETIME or TIMESTAMP as `MySQL` writes it.
pub fn push_datetime(out: &mut Vec<u8>, micros: i64) {
    let (date, clock) = if micros < ODD_DATETIME {
        let packed = micros.wrapping_sub(i64::MIN);
        (unpacked_date((packed >> 37) as i32), packed & ((1 << 37) - 1))
    } else {
        (date_of(micros.div_euclid(MICROS_PER_DAY) as i32), micros.rem_euclid(MICROS_PER_DAY))
    };
    push_calendar(out, date);
    out.push(b' ');
    push_clock(out, clock, 2);
}

/// What a DATE written as `push_date` writes it is in the river; `None` for anything else.
#[must_use]
pub fn parse_date(text: &[u8]) -> Option<i32> {
    let (year, month, day) = parse_calendar(text)?;
    Some(if is_real_date(year, month, day) {
        days_of(year, month, day)
    } else {
        i32::MIN + packed_date(year, month, day)
    })
}

/// What a DATETIME written as `push_datetime` writes it is in the river; `None` for anything else.
#[must_use]
pub fn parse_datetime(text: &[u8]) -> Option<i64> {
    let (date, clock) = text.split_at_checked(10)?;
    let (year, month, day) = parse_calendar(date)?;
    let (clock, fraction) = clock.split_at_checked(9)?;
    let [b' ', clock @ ..] = clock else { return None };
    let mut parts = clock.split(|&byte| byte == b':').map(|part| parse_digits(part, 2));
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let micros = match fraction {
        [] => 0,
        [b'.', digits @ ..] => parse_digits(digits, 6)?,
        _ => return None,
    };
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let micros = i64::from(hour * 3600 + minute * 60 + second) * 1_000_000 + i64::from(micros);
    Some(if is_real_date(year, month, day) {
        i64::from(days_of(year, month, day)) * MICROS_PER_DAY + micros
    } else {
        i64::MIN + (i64::from(packed_date(year, month, day)) << 37 | micros)
    })
}

fn parse_calendar(text: &[u8]) -> Option<(i32, u32, u32)> {
    let mut parts = text.split(|&byte| byte == b'-');
    let year = parse_digits(parts.next()?, 4)?;
    let (month, day) = (parse_digits(parts.next()?, 2)?, parse_digits(parts.next()?, 2)?);
    (parts.next().is_none() && month <= 12 && day <= 31).then_some((year as i32, month, day))
}

fn parse_digits(text: &[u8], width: usize) -> Option<u32> {
    (text.len() == width).then_some(())?;
    text.iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0')))
}

/// A TIME as `MySQL` writes it, up to 838 hours either way.
pub fn push_time(out: &mut Vec<u8>, micros: i64) {
    if micros < 0 {
        out.push(b'-');
    }
    push_clock(out, micros.abs(), 2);
}

/// A number that reads back as exactly this double. An exponent marks it as one: `0.1e0` is a DOUBLE, `0.1` a DECIMAL.
pub fn push_double(out: &mut Vec<u8>, value: f64) {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format(value);
    out.extend_from_slice(text.as_bytes());
    if !text.contains('e') {
        out.extend_from_slice(b"e0");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_the_calendar_reads_back_and_no_other_is_one() {
        let mut expected = days_of(0, 1, 1);
        for year in 0..10_000 {
            for month in 1..=12 {
                for day in 1..=31 {
                    if is_real_date(year, month, day) {
                        let days = days_of(year, month, day);
                        assert_eq!(days, expected);
                        assert_eq!(date_of(days), (year, month, day));
                        expected += 1;
                    }
                }
            }
        }
        assert_eq!(days_of(1970, 1, 1), 0);
    }

    #[test]
    fn dates_that_no_calendar_has_are_written_as_they_were() {
        for (year, month, day) in [(0, 0, 0), (2020, 2, 31), (2020, 0, 0), (9999, 12, 0)] {
            let days = i32::MIN + packed_date(year, month, day);
            assert!(days < ODD_DATE);
            let mut out = Vec::new();
            push_date(&mut out, days);
            assert_eq!(parse_date(&out), Some(days));
            assert_eq!(String::from_utf8_lossy(&out), format!("{year:04}-{month:02}-{day:02}"));
            let micros = i64::MIN + (i64::from(packed_date(year, month, day)) << 37 | (MICROS_PER_DAY - 1));
            assert!(micros < ODD_DATETIME);
            out.clear();
            push_datetime(&mut out, micros);
            assert_eq!(parse_datetime(&out), Some(micros));
            assert_eq!(
                String::from_utf8_lossy(&out),
                format!("{year:04}-{month:02}-{day:02} 23:59:59.999999")
            );
        }
    }

    #[test]
    fn times_beyond_a_day_and_below_zero_are_written_as_mysql_writes_them() {
        let mut out = Vec::new();
        push_time(&mut out, -(838 * 3600 + 59 * 60 + 59) * 1_000_000);
        assert_eq!(out, b"-838:59:59");
        out.clear();
        push_time(&mut out, 25 * 3_600_000_000 + 500_000);
        assert_eq!(out, b"25:00:00.500000");
    }
}
