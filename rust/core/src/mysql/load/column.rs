//! A column of a batch as text for the server.

use arrow_array::cast::AsArray;
use arrow_array::types as t;
use arrow_array::{Array, LargeBinaryArray, PrimitiveArray};
use arrow_schema::{DataType, Field, TimeUnit};

use crate::batch::calendar::{push_date, push_datetime, push_time, push_year};
use crate::batch::types::{MYSQL_TYPE, YEAR, push_double};
use crate::error::{Kind, Result};

/// A column of a batch, its type decided once.
pub(super) enum Column<'a> {
    I8(&'a PrimitiveArray<t::Int8Type>),
    U8(&'a PrimitiveArray<t::UInt8Type>),
    I16(&'a PrimitiveArray<t::Int16Type>),
    U16(&'a PrimitiveArray<t::UInt16Type>),
    Year(&'a PrimitiveArray<t::UInt16Type>),
    I32(&'a PrimitiveArray<t::Int32Type>),
    U32(&'a PrimitiveArray<t::UInt32Type>),
    I64(&'a PrimitiveArray<t::Int64Type>),
    U64(&'a PrimitiveArray<t::UInt64Type>),
    F32(&'a PrimitiveArray<t::Float32Type>),
    F64(&'a PrimitiveArray<t::Float64Type>),
    Date(&'a PrimitiveArray<t::Date32Type>),
    DateTime(&'a PrimitiveArray<t::TimestampMicrosecondType>),
    Time(&'a PrimitiveArray<t::DurationMicrosecondType>),
    Bytes(&'a LargeBinaryArray),
}

macro_rules! each {
    ($self:expr, $values:ident => $body:expr) => {
        match $self {
            Column::I8($values) => $body,
            Column::U8($values) => $body,
            Column::I16($values) => $body,
            Column::U16($values) => $body,
            Column::Year($values) => $body,
            Column::I32($values) => $body,
            Column::U32($values) => $body,
            Column::I64($values) => $body,
            Column::U64($values) => $body,
            Column::F32($values) => $body,
            Column::F64($values) => $body,
            Column::Date($values) => $body,
            Column::DateTime($values) => $body,
            Column::Time($values) => $body,
            Column::Bytes($values) => $body,
        }
    };
}

impl<'a> Column<'a> {
    pub(super) fn new(array: &'a dyn Array, field: &Field) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Int8 => Self::I8(array.as_primitive()),
            DataType::UInt8 => Self::U8(array.as_primitive()),
            DataType::Int16 => Self::I16(array.as_primitive()),
            DataType::UInt16 if field.metadata().get(MYSQL_TYPE).is_some_and(|name| name == YEAR) => {
                Self::Year(array.as_primitive())
            }
            DataType::UInt16 => Self::U16(array.as_primitive()),
            DataType::Int32 => Self::I32(array.as_primitive()),
            DataType::UInt32 => Self::U32(array.as_primitive()),
            DataType::Int64 => Self::I64(array.as_primitive()),
            DataType::UInt64 => Self::U64(array.as_primitive()),
            DataType::Float32 => Self::F32(array.as_primitive()),
            DataType::Float64 => Self::F64(array.as_primitive()),
            DataType::Date32 => Self::Date(array.as_primitive()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Self::DateTime(array.as_primitive()),
            DataType::Duration(TimeUnit::Microsecond) => Self::Time(array.as_primitive()),
            DataType::LargeBinary => Self::Bytes(array.as_binary()),
            other => return Err(Kind::Internal(format!("{other} cannot be loaded")).into()),
        })
    }

    #[inline]
    pub(super) fn is_null(&self, row: usize) -> bool {
        each!(self, values => values.is_null(row))
    }

    pub(super) fn is_zero(&self, row: usize) -> bool {
        match self {
            // MariaDB gives CAST … AS UNSIGNED the narrowest type that holds it.
            Self::U8(values) => values.value(row) == 0,
            Self::U16(values) => values.value(row) == 0,
            Self::U32(values) => values.value(row) == 0,
            Self::U64(values) => values.value(row) == 0,
            Self::I8(values) => values.value(row) == 0,
            Self::I16(values) => values.value(row) == 0,
            Self::I32(values) => values.value(row) == 0,
            Self::I64(values) => values.value(row) == 0,
            _ => false,
        }
    }

    #[inline]
    pub(super) fn push_number(&self, out: &mut Vec<u8>, row: usize) {
        let mut buffer = itoa::Buffer::new();
        let text = match self {
            Self::I8(values) => buffer.format(values.value(row)),
            Self::U8(values) => buffer.format(values.value(row)),
            Self::I16(values) => buffer.format(values.value(row)),
            Self::U16(values) => buffer.format(values.value(row)),
            Self::I32(values) => buffer.format(values.value(row)),
            Self::U32(values) => buffer.format(values.value(row)),
            Self::I64(values) => buffer.format(values.value(row)),
            Self::U64(values) => buffer.format(values.value(row)),
            // The server rounds a DOUBLE to FLOAT; the widened value is the one that rounds back to the same bits.
            Self::F32(values) => return push_double(out, f64::from(values.value(row))),
            Self::F64(values) => return push_double(out, values.value(row)),
            Self::Date(values) => return push_date(out, values.value(row)),
            Self::DateTime(values) => return push_datetime(out, values.value(row)),
            Self::Time(values) => return push_time(out, values.value(row)),
            Self::Year(values) => return push_year(out, values.value(row)),
            Self::Bytes(_) => return,
        };
        out.extend_from_slice(text.as_bytes());
    }
}
