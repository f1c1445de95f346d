//! Cells as the log holds them: how long one is, and what it is as a value of a key.

use std::fmt::Write;

use data_encoding::HEXLOWER;

use super::{WantedColumn, damaged, number, take};
use crate::batch::calendar::{push_datetime, push_time};
use crate::batch::types::push_double;
use crate::error::Result;
use crate::mysql::chunk::{Bound, KeyValue};

/// A column as a description in the log has it, and as it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    code: u8,
    meta: u16,
    unsigned: bool,
    charset: String,
    /// A BINARY of this width: zeros at its end are not logged.
    padded: usize,
}

mod code {
    pub const TINY: u8 = 1;
    pub const SHORT: u8 = 2;
    pub const LONG: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const DOUBLE: u8 = 5;
    pub const NULL: u8 = 6;
    pub const TIMESTAMP: u8 = 7;
    pub const LONGLONG: u8 = 8;
    pub const INT24: u8 = 9;
    pub const DATE: u8 = 10;
    pub const TIME: u8 = 11;
    pub const DATETIME: u8 = 12;
    pub const YEAR: u8 = 13;
    pub const NEWDATE: u8 = 14;
    pub const VARCHAR: u8 = 15;
    pub const BIT: u8 = 16;
    pub const TIMESTAMP2: u8 = 17;
    pub const DATETIME2: u8 = 18;
    pub const TIME2: u8 = 19;
    /// `MariaDB`'s compressed columns.
    pub const BLOB_COMPRESSED: u8 = 140;
    pub const VARCHAR_COMPRESSED: u8 = 141;
    pub const VECTOR: u8 = 242;
    pub const JSON: u8 = 245;
    pub const NEWDECIMAL: u8 = 246;
    pub const ENUM: u8 = 247;
    pub const SET: u8 = 248;
    pub const TINY_BLOB: u8 = 249;
    pub const MEDIUM_BLOB: u8 = 250;
    pub const LONG_BLOB: u8 = 251;
    pub const BLOB: u8 = 252;
    pub const VAR_STRING: u8 = 253;
    pub const STRING: u8 = 254;
    pub const GEOMETRY: u8 = 255;
}

/// Digits of a DECIMAL that stand together in four bytes, and the bytes that fewer take.
const TOGETHER: usize = 9;
const BYTES_OF: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

impl Column {
    /// Reads what the log says more of a column of type `code`; `None` for a type that is not known.
    pub fn read(code: u8, metadata: &mut &[u8], declared: &WantedColumn) -> Result<Option<Self>> {
        let (code, meta) = match code {
            code::TINY
            | code::SHORT
            | code::LONG
            | code::NULL
            | code::TIMESTAMP
            | code::LONGLONG
            | code::INT24
            | code::DATE
            | code::TIME
            | code::DATETIME
            | code::YEAR
            | code::NEWDATE => (code, 0),
            code::FLOAT
            | code::DOUBLE
            | code::TIMESTAMP2
            | code::DATETIME2
            | code::TIME2
            | code::BLOB_COMPRESSED
            | code::VECTOR
            | code::JSON
            | code::TINY_BLOB
            | code::MEDIUM_BLOB
            | code::LONG_BLOB
            | code::BLOB
            | code::GEOMETRY => (code, number::<1>(metadata)? as u16),
            code::VARCHAR | code::VARCHAR_COMPRESSED | code::VAR_STRING | code::BIT => {
                (code, number::<2>(metadata)? as u16)
            }
            code::NEWDECIMAL => {
                let precision = number::<1>(metadata)? as u16;
                (code, precision << 8 | number::<1>(metadata)? as u16)
            }
            code::STRING | code::ENUM | code::SET => {
                let real = number::<1>(metadata)? as u8;
                let length = number::<1>(metadata)? as u16;
                match real {
                    code::ENUM | code::SET => (real, length),
                    // Two bits of a length above 255 are hidden in the type, the wrong way round.
                    real => (real | 0x30, u16::from((real & 0x30) ^ 0x30) << 4 | length),
                }
            }
            _ => return Ok(None),
        };
        let declared_type = declared.column_type.to_ascii_lowercase();
        let padded = declared_type
            .strip_prefix("binary(")
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|width| width.parse().ok())
            .unwrap_or(0);
        Ok(Some(Self {
            code,
            meta,
            unsigned: declared_type.contains("unsigned") || declared_type.contains("zerofill"),
            charset: declared.charset.clone().unwrap_or_else(|| "binary".into()),
            padded,
        }))
    }

    pub fn is_json(&self) -> bool {
        self.code == code::JSON
    }

    /// Whether a key may have this column, declared as it is, and its values are understood.
    pub fn fits(&self, declared: &WantedColumn) -> bool {
        let declared = declared.column_type.to_ascii_lowercase();
        let name: String = declared.chars().take_while(char::is_ascii_alphanumeric).collect();
        match name.as_str() {
            "tinyint" => self.code == code::TINY,
            "smallint" => self.code == code::SHORT,
            "mediumint" => self.code == code::INT24,
            "int" => self.code == code::LONG,
            "bigint" => self.code == code::LONGLONG,
            "float" => self.code == code::FLOAT && self.meta == 4,
            "double" => self.code == code::DOUBLE && self.meta == 8,
            "decimal" => {
                let (precision, scale) = (self.meta >> 8, self.meta & 0xff);
                self.code == code::NEWDECIMAL && (1..=65).contains(&precision) && scale <= precision
            }
            "date" => matches!(self.code, code::DATE | code::NEWDATE),
            "time" => self.code == code::TIME2 && self.meta <= 6,
            "datetime" => self.code == code::DATETIME2 && self.meta <= 6,
            "timestamp" => self.code == code::TIMESTAMP2 && self.meta <= 6,
            "year" => self.code == code::YEAR,
            "char" | "binary" => self.code == code::STRING,
            "varchar" | "varbinary" => matches!(self.code, code::VARCHAR | code::VAR_STRING),
            "enum" => self.code == code::ENUM,
            "set" => self.code == code::SET,
            "bit" => self.code == code::BIT,
            _ => false,
        }
    }

    /// How many bytes the cell at the beginning of `rest` takes.
    pub fn size(&self, rest: &[u8]) -> Result<usize> {
        let meta = usize::from(self.meta);
        let prefixed = |bytes: usize| {
            let mut rest = rest;
            let length = take(&mut rest, bytes)?;
            Ok(bytes + length.iter().rev().fold(0_usize, |value, &byte| value << 8 | usize::from(byte)))
        };
        let fraction = meta.div_ceil(2);
        match self.code {
            code::NULL => Ok(0),
            code::TINY | code::YEAR => Ok(1),
            code::SHORT => Ok(2),
            code::INT24 | code::DATE | code::NEWDATE | code::TIME => Ok(3),
            code::LONG | code::TIMESTAMP => Ok(4),
            code::LONGLONG | code::DATETIME => Ok(8),
            code::FLOAT | code::DOUBLE | code::ENUM | code::SET => Ok(meta),
            code::TIMESTAMP2 => Ok(4 + fraction),
            code::DATETIME2 => Ok(5 + fraction),
            code::TIME2 => Ok(3 + fraction),
            code::BIT => Ok((meta >> 8) + usize::from(meta & 0xff > 0)),
            code::NEWDECIMAL => {
                let (precision, scale) = (meta >> 8, meta & 0xff);
                let whole = precision.checked_sub(scale).ok_or_else(|| damaged("a DECIMAL of no width"))?;
                Ok(digits_size(whole) + digits_size(scale))
            }
            code::STRING | code::VARCHAR | code::VAR_STRING | code::VARCHAR_COMPRESSED => {
                prefixed(if meta > 255 { 2 } else { 1 })
            }
            _ if (1..=4).contains(&meta) => prefixed(meta),
            _ => Err(damaged(format!("a cell whose length has {meta} bytes"))),
        }
    }

    /// The value, written as keys are written everywhere.
    fn value(&self, cell: &[u8]) -> Result<KeyValue> {
        let mut rest = cell;
        let text = |push: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            push(&mut out);
            String::from_utf8_lossy(&out).into_owned()
        };
        let whole = |bits: u32, value: u64| {
            let signed = (value << (64 - bits)) as i64 >> (64 - bits);
            KeyValue::Number(if self.unsigned { value.to_string() } else { signed.to_string() })
        };
        Ok(match self.code {
            code::TINY => whole(8, number::<1>(&mut rest)?),
            code::SHORT => whole(16, number::<2>(&mut rest)?),
            code::INT24 => whole(24, number::<3>(&mut rest)?),
            code::LONG => whole(32, number::<4>(&mut rest)?),
            code::LONGLONG => whole(64, number::<8>(&mut rest)?),
            code::YEAR => {
                let year = number::<1>(&mut rest)?;
                KeyValue::Number(if year == 0 { 0 } else { 1900 + year }.to_string())
            }
            code::FLOAT => {
                let value = f32::from_bits(number::<4>(&mut rest)? as u32);
                KeyValue::Number(text(&|out| push_double(out, f64::from(value))))
            }
            code::DOUBLE => {
                let value = f64::from_bits(number::<8>(&mut rest)?);
                KeyValue::Number(text(&|out| push_double(out, value)))
            }
            code::ENUM | code::SET => {
                KeyValue::Number(rest.iter().rev().fold(0_u64, |all, &b| all << 8 | u64::from(b)).to_string())
            }
            code::BIT => KeyValue::Number(big(rest).to_string()),
            code::NEWDECIMAL => {
                KeyValue::Number(decimal(usize::from(self.meta >> 8), usize::from(self.meta & 0xff), rest)?)
            }
            code::DATE | code::NEWDATE => {
                let packed = number::<3>(&mut rest)?;
                let (year, month, day) = (packed >> 9, packed >> 5 & 15, packed & 31);
                KeyValue::Plain(format!("{year:04}-{month:02}-{day:02}"))
            }
            code::TIME2 => {
                let micros = time_of(rest, self.meta)?;
                KeyValue::Plain(text(&|out| push_time(out, micros)))
            }
            code::DATETIME2 => KeyValue::Plain(datetime(rest)?),
            code::TIMESTAMP2 => {
                let seconds = big(take(&mut rest, 4)?);
                let micros = fraction(rest);
                KeyValue::Plain(if seconds == 0 && micros == 0 {
                    "0000-00-00 00:00:00".into()
                } else {
                    text(&|out| push_datetime(out, seconds as i64 * 1_000_000 + micros as i64))
                })
            }
            code::STRING | code::VARCHAR | code::VAR_STRING => {
                take(&mut rest, if self.meta > 255 { 2 } else { 1 })?;
                let mut bytes = rest.to_vec();
                bytes.resize(bytes.len().max(self.padded), 0);
                KeyValue::Bytes { hex: HEXLOWER.encode(&bytes), charset: self.charset.clone() }
            }
            other => return Err(damaged(format!("a key with a column of type {other}"))),
        })
    }
}

/// The values of a key's cells, one behind the other.
pub fn key(columns: &[Column], mut cells: &[u8]) -> Result<Bound> {
    let mut values = Vec::with_capacity(columns.len());
    for column in columns {
        let size = column.size(cells)?;
        values.push(column.value(take(&mut cells, size)?)?);
    }
    Ok(values)
}

fn digits_size(digits: usize) -> usize {
    digits / TOGETHER * 4 + BYTES_OF[digits % TOGETHER]
}

/// The highest byte first.
fn big(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// Microseconds out of the bytes that a fraction takes.
fn fraction(bytes: &[u8]) -> u64 {
    big(bytes)
        * match bytes.len() {
            1 => 10_000,
            2 => 100,
            _ => 1,
        }
}

fn datetime(mut bytes: &[u8]) -> Result<String> {
    let packed = big(take(&mut bytes, 5)?) ^ 1 << 39;
    let (months, day) = (packed >> 22, packed >> 17 & 31);
    let (hour, minute, second) = (packed >> 12 & 31, packed >> 6 & 63, packed & 63);
    let mut text =
        format!("{:04}-{:02}-{day:02} {hour:02}:{minute:02}:{second:02}", months / 13, months % 13);
    let micros = fraction(bytes);
    if micros > 0 {
        // Writing to a String does not fail.
        let _ = write!(text, ".{micros:06}");
    }
    Ok(text)
}

/// A TIME in microseconds. Its fraction counts upwards from the whole second below, before zero as well.
fn time_of(mut bytes: &[u8], digits: u16) -> Result<i64> {
    let whole = big(take(&mut bytes, 3)?) as i64 - (1 << 23);
    let bits = 8 * bytes.len() as u32;
    let packed = (whole << bits) + big(bytes) as i64;
    let (negative, packed) = (packed < 0, packed.unsigned_abs());
    let (clock, part) = (packed >> bits, packed & ((1 << bits) - 1));
    let scale = match digits {
        1 | 2 => 10_000,
        3 | 4 => 100,
        _ => 1,
    };
    let seconds = (clock >> 12 & 0x3ff) * 3600 + (clock >> 6 & 63) * 60 + (clock & 63);
    let micros = (seconds * 1_000_000 + part * scale) as i64;
    Ok(if negative { -micros } else { micros })
}

fn decimal(precision: usize, scale: usize, bytes: &[u8]) -> Result<String> {
    let mut bytes = bytes.to_vec();
    let first = bytes.first_mut().ok_or_else(|| damaged("a DECIMAL without digits"))?;
    // The sign is the first bit, turned round; below zero all others are as well.
    let negative = *first & 0x80 == 0;
    *first ^= 0x80;
    if negative {
        for byte in &mut bytes {
            *byte = !*byte;
        }
    }
    let mut rest = bytes.as_slice();
    let whole = precision.checked_sub(scale).ok_or_else(|| damaged("a DECIMAL of no width"))?;
    let mut digits = String::new();
    let mut group = |count: usize, digits: &mut String| -> Result<()> {
        if count > 0 {
            let value = big(take(&mut rest, BYTES_OF[count])?);
            let _ = write!(digits, "{value:0count$}");
        }
        Ok(())
    };
    group(whole % TOGETHER, &mut digits)?;
    for _ in 0..whole / TOGETHER {
        group(TOGETHER, &mut digits)?;
    }
    let leading = digits.trim_start_matches('0');
    let mut text = String::from(if negative { "-" } else { "" });
    text.push_str(if leading.is_empty() { "0" } else { leading });
    if scale > 0 {
        let mut digits = String::new();
        for _ in 0..scale / TOGETHER {
            group(TOGETHER, &mut digits)?;
        }
        group(scale % TOGETHER, &mut digits)?;
        text.push('.');
        text.push_str(&digits);
    }
    Ok(text)
}
