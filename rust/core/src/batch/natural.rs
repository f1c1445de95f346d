//! Rows as people and their tools read them, and back to the last bit.
//!
//! In the river text is bytes, DECIMAL is digits and an ENUM is its index. In an archive they are Arrow's own types. A value
//! for which that type has no exact form (a date that no calendar has, text that is not valid in its character set, index
//! 0 of an ENUM) is NULL there, and stands as `MySQL` has it in a companion column, `name@mysql`, which a file has only if it
//! needs it. So the types of columns never depend on the values, and nothing is lost.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow_array::builder::{
    Date32Builder, Decimal128Builder, Decimal256Builder, LargeBinaryBuilder, LargeStringBuilder,
    TimestampMicrosecondBuilder, UInt64Builder,
};
use arrow_array::cast::AsArray;
use arrow_array::types as t;
use arrow_array::{Array, ArrayRef, LargeBinaryArray, RecordBatch};
use arrow_buffer::i256;
use arrow_schema::{DataType, Field, Schema, TimeUnit};

use super::calendar::{parse_date, parse_datetime, push_date, push_datetime};
use super::spelling::{digits_of, exact_digits, from_latin1, members_of, numbers_of, pointed, to_latin1};
use super::types::{MYSQL_TYPE, YEAR};
use crate::error::{Error, Kind, Result};

/// In the metadata of a companion column: the column it completes.
const COMPLETES: &str = "mysql.completes";
/// In the metadata of a column: the character set of its bytes on the server.
const CHARSET: &str = "mysql.charset";
/// Days from 0001-01-01 to 1970-01-01: earlier dates are none to Python either.
const FIRST_DAY: i32 = -719_162;
const FIRST_MICROSECOND: i64 = FIRST_DAY as i64 * 86_400_000_000;
/// How a column of the river becomes natural.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// It is natural as it is.
    Same,
    Date,
    DateTime,
    Utf8,
    Latin1,
    /// Precision and scale.
    Decimal(u8, i8),
    /// So many bytes.
    Bit(usize),
    /// The members, in order of their indexes.
    Enum(Vec<String>),
}

/// What a column is in `MySQL`.
#[derive(Debug, Clone, Copy)]
pub struct Described<'a> {
    /// Its name.
    pub name: &'a str,
    /// As in `information_schema`: `decimal(65,30) unsigned`.
    pub column_type: &'a str,
    /// The type's first word: `decimal`.
    pub data_type: &'a str,
    /// The character set of text.
    pub charset: Option<&'a str>,
}

#[derive(Debug, Clone)]
struct Column {
    field: Field,
    form: Form,
    is_year: bool,
}

/// The columns of a table, ready to be turned.
#[derive(Debug, Clone)]
pub struct Natural {
    columns: Vec<Column>,
}

impl Natural {
    /// The natural types of these columns; an error where a type is not known.
    pub fn new<'a>(columns: impl IntoIterator<Item = Described<'a>>) -> Result<Self> {
        Ok(Self { columns: columns.into_iter().map(Column::new).collect::<Result<_>>()? })
    }

    /// A batch of the river in natural form. Columns that turn out to need a companion are added to `odd`; the batch has
    /// companions for all of `odd`.
    pub fn natural(&self, river: &RecordBatch, odd: &mut BTreeSet<usize>) -> Result<RecordBatch> {
        if river.num_columns() != self.columns.len() {
            return Err(Kind::Internal("a batch with other columns than its table".into()).into());
        }
        let mut fields = Vec::with_capacity(self.columns.len());
        let mut arrays = Vec::with_capacity(self.columns.len());
        let mut completing = Vec::with_capacity(self.columns.len());
        for (index, (column, array)) in self.columns.iter().zip(river.columns()).enumerate() {
            let (array, rest) = column.natural(array)?;
            if rest.is_some() {
                odd.insert(index);
            }
            fields.push(column.field.clone());
            arrays.push(array);
            completing.push(rest);
        }
        for &index in &*odd {
            fields.push(self.companion(index));
            arrays.push(match completing.get_mut(index).and_then(Option::take) {
                Some(rest) => Arc::new(rest),
                None => Arc::new(LargeBinaryArray::new_null(river.num_rows())),
            });
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
            .map_err(|error| Kind::Internal(error.to_string()).into())
    }

    fn companion(&self, index: usize) -> Field {
        let of = self.columns[index].field.name();
        let mut name = format!("{of}@mysql");
        while self.columns.iter().any(|column| *column.field.name() == name) {
            name.push('@');
        }
        let metadata = HashMap::from([(COMPLETES.to_owned(), of.clone())]);
        Field::new(name, DataType::LargeBinary, true).with_metadata(metadata)
    }

    /// A natural batch as it was in the river. What comes from a file is not trusted to be what was written.
    pub fn river(&self, natural: &RecordBatch) -> Result<RecordBatch> {
        let schema = natural.schema();
        let mut completing: HashMap<&str, &LargeBinaryArray> = HashMap::new();
        for (field, array) in schema.fields().iter().zip(natural.columns()).skip(self.columns.len()) {
            let of = field.metadata().get(COMPLETES);
            match (of, array.as_binary_opt::<i64>()) {
                (Some(of), Some(array)) => completing.insert(of, array),
                _ => return Err(wrong(field.name(), "is no column of the table")),
            };
        }
        let mut fields = Vec::with_capacity(self.columns.len());
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (index, column) in self.columns.iter().enumerate() {
            let name = column.field.name();
            let (Some(field), Some(array)) = (schema.fields().get(index), natural.columns().get(index))
            else {
                return Err(wrong(name, "is missing"));
            };
            if field.name() != name {
                return Err(wrong(name, &format!("was due where `{}` is", field.name())));
            }
            if array.data_type() != column.field.data_type() {
                let message = format!("is {} where {} was due", array.data_type(), column.field.data_type());
                return Err(wrong(name, &message));
            }
            let array = column.river(array, completing.remove(name.as_str()))?;
            let mut field = Field::new(name, array.data_type().clone(), true);
            if column.is_year {
                field = field.with_metadata([(MYSQL_TYPE.to_owned(), YEAR.to_owned())].into());
            }
            fields.push(field);
            arrays.push(array);
        }
        if let Some(name) = completing.keys().next() {
            return Err(wrong(name, "is completed but is no column of the table"));
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
            .map_err(|error| Kind::Value(error.to_string()).into())
    }
}

fn wrong(column: &str, message: &str) -> Error {
    Kind::Value(format!("column `{column}` {message}")).into()
}

impl Column {
    fn new(described: Described<'_>) -> Result<Self> {
        let Described { name, column_type, data_type, charset } = described;
        let unsigned = column_type.contains("unsigned");
        let pick = |yes, no| (Form::Same, if unsigned { yes } else { no });
        let text = || match charset {
            Some("utf8" | "utf8mb3" | "utf8mb4" | "ascii") => (Form::Utf8, DataType::LargeUtf8),
            Some("latin1") => (Form::Latin1, DataType::LargeUtf8),
            _ => (Form::Same, DataType::LargeBinary),
        };
        let (form, kind) = match data_type {
            "tinyint" => pick(DataType::UInt8, DataType::Int8),
            "smallint" => pick(DataType::UInt16, DataType::Int16),
            "mediumint" | "int" => pick(DataType::UInt32, DataType::Int32),
            "bigint" => pick(DataType::UInt64, DataType::Int64),
            "float" => (Form::Same, DataType::Float32),
            "double" => (Form::Same, DataType::Float64),
            "year" => (Form::Same, DataType::UInt16),
            "date" => (Form::Date, DataType::Date32),
            "datetime" => (Form::DateTime, DataType::Timestamp(TimeUnit::Microsecond, None)),
            "timestamp" => {
                (Form::DateTime, DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))))
            }
            "time" => (Form::Same, DataType::Duration(TimeUnit::Microsecond)),
            "decimal" => {
                let (precision, scale) = digits_of(column_type)
                    .ok_or_else(|| wrong(name, &format!("has the type {column_type}")))?;
                let kind = if precision <= 38 {
                    DataType::Decimal128(precision, scale)
                } else {
                    DataType::Decimal256(precision, scale)
                };
                (Form::Decimal(precision, scale), kind)
            }
            "bit" => {
                let bits = numbers_of(column_type).first().copied().unwrap_or(1).clamp(1, 64);
                (Form::Bit(bits.div_ceil(8) as usize), DataType::UInt64)
            }
            "enum" => (Form::Enum(members_of(column_type)), DataType::LargeUtf8),
            "json" | "uuid" | "inet4" | "inet6" => (Form::Utf8, DataType::LargeUtf8),
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "set" => text(),
            _ => (Form::Same, DataType::LargeBinary),
        };
        let mut metadata = HashMap::from([(MYSQL_TYPE.to_owned(), column_type.to_owned())]);
        metadata.extend(charset.map(|charset| (CHARSET.to_owned(), charset.to_owned())));
        let field = Field::new(name, kind, true).with_metadata(metadata);
        Ok(Self { field, form, is_year: data_type == "year" })
    }

    /// The natural array, and what it could not hold.
    fn natural(&self, array: &ArrayRef) -> Result<(ArrayRef, Option<LargeBinaryArray>)> {
        let unlike = || {
            let due = self.field.data_type();
            wrong(self.field.name(), &format!("came as {} where {due} was due", array.data_type()))
        };
        let bytes = || array.as_binary_opt::<i64>().ok_or_else(unlike);
        let mut rest = Rest::default();
        let natural: ArrayRef = match &self.form {
            Form::Same if array.data_type() == self.field.data_type() => array.clone(),
            Form::Same => return Err(unlike()),
            Form::Date => {
                let days = array.as_primitive_opt::<t::Date32Type>().ok_or_else(unlike)?;
                if days.values().iter().all(|&day| day >= FIRST_DAY) {
                    return Ok((array.clone(), None));
                }
                let mut builder = Date32Builder::with_capacity(days.len());
                for (row, day) in days.iter().enumerate() {
                    builder.append_option(day.filter(|&day| day >= FIRST_DAY));
                    if let Some(day) = day.filter(|&day| day < FIRST_DAY) {
                        rest.put(row, |out| push_date(out, day));
                    }
                }
                Arc::new(builder.finish())
            }
            Form::DateTime => {
                let micros = array.as_primitive_opt::<t::TimestampMicrosecondType>().ok_or_else(unlike)?;
                if micros.values().iter().all(|&micro| micro >= FIRST_MICROSECOND) {
                    return Ok((array.clone(), None));
                }
                let mut builder = TimestampMicrosecondBuilder::with_capacity(micros.len())
                    .with_data_type(self.field.data_type().clone());
                for (row, micro) in micros.iter().enumerate() {
                    builder.append_option(micro.filter(|&micro| micro >= FIRST_MICROSECOND));
                    if let Some(micro) = micro.filter(|&micro| micro < FIRST_MICROSECOND) {
                        rest.put(row, |out| push_datetime(out, micro));
                    }
                }
                Arc::new(builder.finish())
            }
            Form::Utf8 => {
                let values = bytes()?;
                let mut builder = LargeStringBuilder::with_capacity(values.len(), values.value_data().len());
                for (row, value) in values.iter().enumerate() {
                    let text = value.map(std::str::from_utf8);
                    builder.append_option(text.and_then(std::result::Result::ok));
                    if let (Some(value), Some(Err(_))) = (value, text) {
                        rest.put(row, |out| out.extend_from_slice(value));
                    }
                }
                Arc::new(builder.finish())
            }
            Form::Latin1 => {
                let values = bytes()?;
                let mut builder = LargeStringBuilder::with_capacity(values.len(), values.value_data().len());
                for value in values {
                    builder.append_option(value.map(from_latin1));
                }
                Arc::new(builder.finish())
            }
            Form::Decimal(precision, scale) => decimals(bytes()?, *precision, *scale, &mut rest)?,
            Form::Bit(_) => {
                let mut builder = UInt64Builder::with_capacity(array.len());
                for value in bytes()? {
                    let number =
                        value.map(|bytes| bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)));
                    builder.append_option(number);
                }
                Arc::new(builder.finish())
            }
            Form::Enum(members) => {
                let mut builder = LargeStringBuilder::new();
                for row in 0..array.len() {
                    let index =
                        if array.is_null(row) { None } else { Some(whole(array, row).ok_or_else(unlike)?) };
                    let label = index.and_then(|index| members.get((index as usize).wrapping_sub(1)));
                    let first = |label: &&String| {
                        members.iter().position(|member| member == *label).map(|at| at as u64 + 1) == index
                    };
                    let label = label.filter(first);
                    builder.append_option(label);
                    if let (Some(index), None) = (index, label) {
                        rest.put(row, |out| out.extend_from_slice(index.to_string().as_bytes()));
                    }
                }
                Arc::new(builder.finish())
            }
        };
        Ok((natural, rest.finish(array.len())))
    }

    fn river(&self, array: &ArrayRef, rest: Option<&LargeBinaryArray>) -> Result<ArrayRef> {
        let bad = |row: usize| wrong(self.field.name(), &format!("has no such value: row {row} of a batch"));
        let spare = |row: usize| rest.filter(|rest| rest.is_valid(row)).map(|rest| rest.value(row));
        if rest.is_some() && matches!(self.form, Form::Same | Form::Latin1 | Form::Bit(_)) {
            return Err(wrong(self.field.name(), "has nothing that needs to be completed"));
        }
        let rows = array.len();
        Ok(match &self.form {
            Form::Same => array.clone(),
            Form::Date | Form::DateTime if rest.is_none() => array.clone(),
            Form::Date => {
                let days = array.as_primitive::<t::Date32Type>();
                let mut builder = Date32Builder::with_capacity(rows);
                for (row, day) in days.iter().enumerate() {
                    let odd = spare(row).map(|text| parse_date(text).ok_or_else(|| bad(row))).transpose()?;
                    builder.append_option(day.or(odd));
                }
                Arc::new(builder.finish())
            }
            Form::DateTime => {
                let micros = array.as_primitive::<t::TimestampMicrosecondType>();
                let mut builder = TimestampMicrosecondBuilder::with_capacity(rows)
                    .with_data_type(self.field.data_type().clone());
                for (row, micro) in micros.iter().enumerate() {
                    let odd =
                        spare(row).map(|text| parse_datetime(text).ok_or_else(|| bad(row))).transpose()?;
                    builder.append_option(micro.or(odd));
                }
                Arc::new(builder.finish())
            }
            Form::Utf8 => {
                let values = array.as_string::<i64>();
                let mut builder = LargeBinaryBuilder::with_capacity(rows, values.value_data().len());
                for (row, value) in values.iter().enumerate() {
                    builder.append_option(value.map(str::as_bytes).or_else(|| spare(row)));
                }
                Arc::new(builder.finish())
            }
            Form::Latin1 => {
                let values = array.as_string::<i64>();
                let mut builder = LargeBinaryBuilder::with_capacity(rows, values.value_data().len());
                for (row, value) in values.iter().enumerate() {
                    let bytes = value.map(|text| to_latin1(text).ok_or_else(|| bad(row))).transpose()?;
                    builder.append_option(bytes);
                }
                Arc::new(builder.finish())
            }
            Form::Decimal(precision, scale) => {
                let mut builder = LargeBinaryBuilder::new();
                for row in 0..rows {
                    if array.is_null(row) {
                        builder.append_option(spare(row));
                    } else if *precision <= 38 {
                        let number = array.as_primitive::<t::Decimal128Type>().value(row);
                        builder.append_value(pointed(number.to_string(), *scale));
                    } else {
                        let number = array.as_primitive::<t::Decimal256Type>().value(row);
                        builder.append_value(pointed(number.to_string(), *scale));
                    }
                }
                Arc::new(builder.finish())
            }
            Form::Bit(width) => {
                let mut builder = LargeBinaryBuilder::new();
                for number in array.as_primitive::<t::UInt64Type>() {
                    builder.append_option(number.map(|number| number.to_be_bytes()[8 - width..].to_vec()));
                }
                Arc::new(builder.finish())
            }
            Form::Enum(members) => {
                let mut builder = UInt64Builder::with_capacity(rows);
                for (row, label) in array.as_string::<i64>().iter().enumerate() {
                    let index = match (label, spare(row)) {
                        (Some(label), _) => {
                            let at = members.iter().position(|member| member == label);
                            Some(at.ok_or_else(|| bad(row))? as u64 + 1)
                        }
                        (None, Some(text)) => {
                            let text = std::str::from_utf8(text).ok();
                            Some(text.and_then(|text| text.parse().ok()).ok_or_else(|| bad(row))?)
                        }
                        (None, None) => None,
                    };
                    builder.append_option(index);
                }
                Arc::new(builder.finish())
            }
        })
    }
}

/// Values that the natural array cannot hold, by row.
#[derive(Default)]
struct Rest(Vec<(usize, Vec<u8>)>);

impl Rest {
    fn put(&mut self, row: usize, push: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        push(&mut out);
        self.0.push((row, out));
    }

    fn finish(self, rows: usize) -> Option<LargeBinaryArray> {
        if self.0.is_empty() {
            return None;
        }
        let mut builder = LargeBinaryBuilder::new();
        let mut next = 0;
        for (row, value) in self.0 {
            builder.append_nulls(row - next);
            builder.append_value(value);
            next = row + 1;
        }
        builder.append_nulls(rows - next);
        Some(builder.finish())
    }
}

fn decimals(values: &LargeBinaryArray, precision: u8, scale: i8, rest: &mut Rest) -> Result<ArrayRef> {
    let fail = |error: arrow_schema::ArrowError| Kind::Internal(error.to_string());
    let mut put = |row, value: &[u8]| rest.put(row, |out| out.extend_from_slice(value));
    if precision <= 38 {
        let mut builder = Decimal128Builder::with_capacity(values.len())
            .with_precision_and_scale(precision, scale)
            .map_err(fail)?;
        for (row, value) in values.iter().enumerate() {
            let number = value.and_then(|text| exact_digits(text, precision, scale)?.parse().ok());
            builder.append_option(number);
            if let (Some(value), None) = (value, number) {
                put(row, value);
            }
        }
        return Ok(Arc::new(builder.finish()));
    }
    let mut builder = Decimal256Builder::with_capacity(values.len())
        .with_precision_and_scale(precision, scale)
        .map_err(fail)?;
    for (row, value) in values.iter().enumerate() {
        let number = value.and_then(|text| i256::from_string(&exact_digits(text, precision, scale)?));
        builder.append_option(number);
        if let (Some(value), None) = (value, number) {
            put(row, value);
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// The value of a whole number of any width: `MariaDB` gives CAST … AS UNSIGNED the narrowest type that holds it.
fn whole(array: &ArrayRef, row: usize) -> Option<u64> {
    Some(match array.data_type() {
        DataType::UInt8 => array.as_primitive::<t::UInt8Type>().value(row).into(),
        DataType::UInt16 => array.as_primitive::<t::UInt16Type>().value(row).into(),
        DataType::UInt32 => array.as_primitive::<t::UInt32Type>().value(row).into(),
        DataType::UInt64 => array.as_primitive::<t::UInt64Type>().value(row),
        DataType::Int8 => array.as_primitive::<t::Int8Type>().value(row) as u64,
        DataType::Int16 => array.as_primitive::<t::Int16Type>().value(row) as u64,
        DataType::Int32 => array.as_primitive::<t::Int32Type>().value(row) as u64,
        DataType::Int64 => array.as_primitive::<t::Int64Type>().value(row) as u64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use arrow_array::{Date32Array, Float32Array, TimestampMicrosecondArray, UInt16Array};

    use super::*;

    fn turned(column_type: &str, charset: Option<&str>, array: ArrayRef) -> (RecordBatch, RecordBatch) {
        let data_type = column_type.split(['(', ' ']).next().expect("a type");
        let described = Described { name: "c", column_type, data_type, charset };
        let natural = Natural::new([described]).expect("a known type");
        let river = RecordBatch::try_from_iter_with_nullable([("c", array, true)]).expect("valid");
        let turned = natural.natural(&river, &mut BTreeSet::new()).expect("natural");
        let back = natural.river(&turned).expect("back");
        assert_eq!(back.column(0).len(), river.num_rows());
        (turned, back)
    }

    fn exact(column_type: &str, charset: Option<&str>, array: ArrayRef) -> RecordBatch {
        let (turned, back) = turned(column_type, charset, array.clone());
        assert_eq!(&array, back.column(0), "{column_type}");
        turned
    }

    fn bytes(values: Vec<Option<&[u8]>>) -> ArrayRef {
        Arc::new(LargeBinaryArray::from(values))
    }

    #[test]
    fn dates_that_no_calendar_has_are_named_beside_the_column() {
        let zero = parse_date(b"0000-00-00").expect("a date");
        let turned = exact("date", None, Arc::new(Date32Array::from(vec![Some(0), Some(zero), None])));
        assert_eq!(turned.schema().field(1).name(), "c@mysql");
        assert!(turned.column(0).is_null(1));
        assert_eq!(turned.column(1).as_binary::<i64>().value(1), b"0000-00-00");
        let zero = parse_datetime(b"0000-00-00 00:00:00").expect("a moment");
        let last = parse_datetime(b"2020-02-31 23:59:59.999999").expect("a moment");
        let moments = TimestampMicrosecondArray::from(vec![Some(zero), Some(0), None, Some(last)]);
        assert_eq!(exact("datetime(6)", None, Arc::new(moments)).num_columns(), 2);
    }

    #[test]
    fn an_ordinary_column_has_no_companion() {
        let turned = exact("date", None, Arc::new(Date32Array::from(vec![Some(-700_000), None])));
        assert_eq!(turned.num_columns(), 1);
    }

    #[test]
    fn text_is_text_and_what_is_not_utf8_stands_beside_it() {
        let turned =
            exact("varchar(9)", Some("utf8mb4"), bytes(vec![Some("é".as_bytes()), Some(b"\xff"), None]));
        assert_eq!(turned.column(0).as_string::<i64>().value(0), "é");
        assert_eq!(turned.num_columns(), 2);
        let all: Vec<u8> = (0..=255).collect();
        let turned = exact("text", Some("latin1"), bytes(vec![Some(&all), None]));
        assert!(turned.column(0).as_string::<i64>().value(0).contains('€'));
        let turned = exact("text", Some("ucs2"), bytes(vec![Some(b"\0a")]));
        assert_eq!(turned.column(0).data_type(), &DataType::LargeBinary);
    }

    #[test]
    fn decimals_keep_every_digit() {
        let long = format!("-{}.{}", "9".repeat(35), "9".repeat(30));
        let turned = exact("decimal(65,30)", None, bytes(vec![Some(long.as_bytes()), None]));
        assert_eq!(turned.num_columns(), 1);
        let short: Vec<Option<&[u8]>> = vec![Some(b"-0.05"), Some(b"0.00"), Some(b"999.99"), None];
        assert_eq!(exact("decimal(5,2)", None, bytes(short)).num_columns(), 1);
        assert_eq!(exact("decimal(5,0)", None, bytes(vec![Some(b"-7")])).num_columns(), 1);
        let filled = exact("decimal(5,2) unsigned zerofill", None, bytes(vec![Some(b"001.50")]));
        assert_eq!(filled.num_columns(), 2);
    }

    #[test]
    fn an_enum_is_its_label_and_its_invalid_value_stands_beside_it() {
        let kind = "enum('a','it''s','','back\\\\slash')";
        let (turned, back) = turned(
            kind,
            Some("utf8mb4"),
            Arc::new(UInt16Array::from(vec![Some(2), Some(0), None, Some(3), Some(4)])),
        );
        assert_eq!(turned.column(0).as_string::<i64>().value(0), "it's");
        assert_eq!(turned.column(0).as_string::<i64>().value(4), "back\\slash");
        let indexes = back.column(0).as_primitive::<t::UInt64Type>();
        assert_eq!(indexes.iter().collect::<Vec<_>>(), [Some(2), Some(0), None, Some(3), Some(4)]);
    }

    #[test]
    fn bits_keep_their_width_and_floats_their_sign() {
        let turned = exact("bit(10)", None, bytes(vec![Some(b"\x03\xff"), Some(b"\0\0"), None]));
        assert_eq!(turned.column(0).as_primitive::<t::UInt64Type>().value(0), 1023);
        let (_, back) = turned_float();
        assert!(back.column(0).as_primitive::<t::Float32Type>().value(0).is_sign_negative());
    }

    fn turned_float() -> (RecordBatch, RecordBatch) {
        turned("float", None, Arc::new(Float32Array::from(vec![-0.0, 0.0])))
    }

    #[test]
    fn a_file_with_other_columns_or_types_is_refused_by_name() {
        let described = Described { name: "c", column_type: "int", data_type: "int", charset: None };
        let natural = Natural::new([described]).expect("a known type");
        let of = |name: &str, array: ArrayRef| RecordBatch::try_from_iter([(name, array)]).expect("valid");
        let wrong_type = natural.river(&of("c", Arc::new(UInt16Array::from(vec![1])))).expect_err("refused");
        assert!(wrong_type.to_string().contains("UInt16"));
        let other = natural.river(&of("d", Arc::new(UInt16Array::from(vec![1])))).expect_err("refused");
        assert!(other.to_string().contains("`c`"));
    }
}
