//! Record batches into a table: `LOAD DATA LOCAL` where the server allows it, multi-row `INSERT` where it does not.
//!
//! Both carry the bytes as they are. `LOAD DATA LOCAL` turns errors into warnings, so a load that warns is an error here,
//! and a load that did not take every row is one too.

use arrow_array::cast::AsArray;
use arrow_array::types as t;
use arrow_array::{Array, LargeBinaryArray, PrimitiveArray, RecordBatch};
use arrow_schema::{DataType, Field, TimeUnit};
use mysql_common::constants::{ColumnFlags, ColumnType};

use super::chunk::charsets;
use super::names::{qualified, quote};
use super::query::{Connection, Done, TextRow};
use super::types::{MYSQL_TYPE, YEAR, push_date, push_datetime, push_double, push_time, push_year};
use crate::error::{Error, Kind, Result};

/// Data is sent in pieces of this size: a system call for each is little, and no server waits long for the next.
const PIECE: usize = 256 * 1024;
const MAX_STATEMENT: usize = 4 * 1024 * 1024;
/// "Data truncated for column": what the server says when it stores index 0 of an ENUM, the invalid value.
const TRUNCATED: &str = "1265";
/// Warnings about words that the statement uses, such as the name of utf8mb3, and not about its data.
const DEPRECATIONS: [&str; 4] = ["1287", "1681", "3719", "3778"];

/// What a destination column asks for beyond its plain bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    Plain,
    /// Bytes that are JSON text in utf8mb4.
    Json,
    /// The index of an ENUM.
    EnumIndex,
}

/// Loads batches into one table.
#[derive(Clone)]
pub struct Load {
    infile: bool,
    head: String,
    stores: Vec<Store>,
    /// Names of the columns that are loaded by the index of an ENUM.
    enums: Vec<String>,
    introducers: Vec<String>,
    max_statement: usize,
    max_packet: usize,
    buffer: Vec<u8>,
    rows: u64,
    zero_enums: u64,
    open: bool,
}

/// True if the server takes `LOAD DATA LOCAL`.
pub fn allows_infile(connection: &mut Connection) -> Result<bool> {
    Ok(connection.query_value("SELECT @@GLOBAL.local_infile")?.as_deref() == Some("1"))
}

impl Load {
    pub fn new(
        connection: &mut Connection,
        (schema, table): (&str, &str),
        columns: &[(&str, Store)],
        infile: bool,
    ) -> Result<Self> {
        let target = qualified(schema, table);
        let names: Vec<_> = columns.iter().map(|(name, _)| quote(name)).collect();
        let max_packet = connection
            .query_value("SELECT @@SESSION.max_allowed_packet")?
            .and_then(|text| text.parse::<usize>().ok())
            .unwrap_or(MAX_STATEMENT);
        let (head, introducers) = if infile {
            let mut fields = Vec::new();
            let mut sets = Vec::new();
            let numbered = if columns.iter().any(|(_, store)| *store != Store::Plain) {
                renumbered(connection, &target)?
            } else {
                None
            };
            for (index, (name, (plain, store))) in names.iter().zip(columns).enumerate() {
                let set = match store {
                    Store::Plain if numbered.as_deref() == Some(*plain) => {
                        Some(format!("{name} = @c{index}"))
                    }
                    Store::Plain => None,
                    Store::Json => Some(format!("{name} = CONVERT(@c{index} USING utf8mb4)")),
                    Store::EnumIndex => Some(format!("{name} = CAST(@c{index} AS UNSIGNED)")),
                };
                fields.push(if set.is_some() { format!("@c{index}") } else { name.clone() });
                sets.extend(set);
            }
            let set = if sets.is_empty() { String::new() } else { format!(" SET {}", sets.join(", ")) };
            let head = format!(
                "LOAD DATA LOCAL INFILE 'rows' INTO TABLE {target} CHARACTER SET binary \
                 FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ({}){set}",
                fields.join(", ")
            );
            (head, Vec::new())
        } else {
            let head = format!("INSERT INTO {target} ({}) VALUES ", names.join(", "));
            (head, introducers(connection, &target, &names)?)
        };
        Ok(Self {
            infile,
            head,
            stores: columns.iter().map(|(_, store)| *store).collect(),
            enums: columns
                .iter()
                .filter(|(_, store)| *store == Store::EnumIndex)
                .map(|(name, _)| (*name).to_owned())
                .collect(),
            introducers,
            max_statement: MAX_STATEMENT.min(max_packet.saturating_sub(1024)),
            max_packet,
            buffer: Vec::new(),
            rows: 0,
            zero_enums: 0,
            open: false,
        })
    }

    /// How many rows were taken since the load began.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Sends the rows of one batch.
    pub fn batch(&mut self, connection: &mut Connection, batch: &RecordBatch) -> Result<()> {
        if self.infile && !self.open {
            connection.open_load(&self.head)?;
            self.open = true;
        }
        let schema = batch.schema();
        let columns = batch.columns().iter().zip(schema.fields());
        let columns =
            columns.map(|(array, field)| Column::new(array.as_ref(), field)).collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            if self.infile {
                self.push_line(&columns, row);
                if self.buffer.len() >= PIECE {
                    self.send(connection)?;
                }
            } else {
                self.push_tuple(connection, &columns, row)?;
            }
        }
        Ok(())
    }

    fn count_zero(&mut self, store: Store, column: &Column<'_>, row: usize) {
        if store == Store::EnumIndex && column.is_zero(row) {
            self.zero_enums += 1;
        }
    }

    fn push_line(&mut self, columns: &[Column<'_>], row: usize) {
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                self.buffer.push(b'\t');
            }
            if column.is_null(row) {
                self.buffer.extend_from_slice(b"\\N");
                continue;
            }
            self.count_zero(self.stores[index], column, row);
            match column {
                Column::Bytes(values) => push_escaped(&mut self.buffer, values.value(row)),
                _ => column.push_number(&mut self.buffer, row),
            }
        }
        self.buffer.push(b'\n');
        self.rows += 1;
    }

    fn send(&mut self, connection: &mut Connection) -> Result<()> {
        // The data is one stream to the server: a row may lie in two packets, and be larger than any.
        let mut pieces = self.buffer.chunks(PIECE.min(self.max_packet));
        let sent = pieces.try_for_each(|piece| connection.send_data(piece));
        self.buffer.clear();
        self.buffer.shrink_to(2 * PIECE);
        sent
    }

    fn push_tuple(&mut self, connection: &mut Connection, columns: &[Column<'_>], row: usize) -> Result<()> {
        if self.buffer.is_empty() {
            self.buffer.extend_from_slice(self.head.as_bytes());
        } else {
            self.buffer.push(b',');
        }
        let start = self.buffer.len();
        let zero_enums = self.zero_enums;
        self.buffer.push(b'(');
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                self.buffer.push(b',');
            }
            if column.is_null(row) {
                self.buffer.extend_from_slice(b"NULL");
                continue;
            }
            self.count_zero(self.stores[index], column, row);
            match column {
                Column::Bytes(values) => {
                    let introducer =
                        if self.stores[index] == Store::Json { "_utf8mb4" } else { &self.introducers[index] };
                    self.buffer.extend_from_slice(introducer.as_bytes());
                    push_quoted(&mut self.buffer, values.value(row));
                }
                Column::Date(_) | Column::DateTime(_) | Column::Time(_) => {
                    self.buffer.push(b'\'');
                    column.push_number(&mut self.buffer, row);
                    self.buffer.push(b'\'');
                }
                _ => column.push_number(&mut self.buffer, row),
            }
        }
        self.buffer.push(b')');
        let row_size = self.buffer.len() - start;
        if row_size + self.head.len() + 1024 > self.max_packet {
            let message = format!(
                "a row of {row_size} bytes does not fit max_allowed_packet of the destination, {} bytes",
                self.max_packet
            );
            return Err(Kind::Server { code: 1153, state: "08S01".into(), message }.into());
        }
        if self.buffer.len() > self.max_statement && start > self.head.len() {
            // The statement is full without this row, which begins the next one.
            let tuple = self.buffer.split_off(start);
            self.buffer.pop();
            let of_this_row = self.zero_enums - zero_enums;
            self.zero_enums = zero_enums;
            self.insert(connection)?;
            self.zero_enums = of_this_row;
            self.buffer.extend_from_slice(self.head.as_bytes());
            self.buffer.extend_from_slice(&tuple);
        }
        self.rows += 1;
        Ok(())
    }

    fn insert(&mut self, connection: &mut Connection) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let relaxed = self.zero_enums > 0;
        if relaxed {
            connection.execute("SET @djm_mode = @@SESSION.sql_mode, SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'")?;
        }
        let done = connection.execute_bytes(&self.buffer)?;
        let checked = self.check_warnings(connection, done);
        if relaxed {
            connection.execute("SET SESSION sql_mode = @djm_mode")?;
        }
        self.buffer.clear();
        self.buffer.shrink_to(MAX_STATEMENT);
        self.zero_enums = 0;
        checked
    }

    fn check_warnings(&self, connection: &mut Connection, done: Done) -> Result<()> {
        if done.warnings == 0 {
            return Ok(());
        }
        let told = connection.query("SHOW WARNINGS")?;
        let field = |row: &TextRow, index: usize| {
            row.get(index)
                .and_then(Option::as_ref)
                .map_or_else(String::new, |bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        let deprecated = told.iter().filter(|row| DEPRECATIONS.contains(&field(row, 1).as_str())).count();
        let harmful = told.iter().find(|row| {
            let (code, message) = (field(row, 1), field(row, 2));
            let of_enum = || self.enums.iter().any(|name| message.contains(&format!("column '{name}'")));
            let invalid_enum = code == TRUNCATED && self.zero_enums > 0 && of_enum();
            !(invalid_enum || DEPRECATIONS.contains(&code.as_str()))
        });
        // The server keeps the first max_error_count warnings only, but counts all up to 65,535.
        let expected = (self.zero_enums + deprecated as u64).min(u64::from(u16::MAX));
        if harmful.is_none() && u64::from(done.warnings) <= expected {
            return Ok(());
        }
        let row = harmful.or(told.first());
        let text = |index: usize| row.map_or_else(String::new, |row| field(row, index));
        Err(Error::from(Kind::Server {
            code: text(1).parse().unwrap_or(0),
            state: "01000".into(),
            message: text(2),
        }))
    }

    /// Ends the load and proves that every row was taken. Returns how many.
    pub fn finish(&mut self, connection: &mut Connection) -> Result<u64> {
        let rows = std::mem::take(&mut self.rows);
        if self.infile {
            if !self.open {
                return Ok(0);
            }
            self.send(connection)?;
            self.open = false;
            let done = connection.finish_load()?;
            self.check_warnings(connection, done)?;
            self.zero_enums = 0;
            if done.affected_rows != rows {
                let message = format!("{rows} rows were sent, the destination took {}", done.affected_rows);
                return Err(Kind::Value(message).into());
            }
        } else {
            self.insert(connection)?;
        }
        Ok(rows)
    }

    /// Ends a load that failed on the reading side, so that the connection can be used again; the caller rolls back.
    pub fn abandon(&mut self, connection: &mut Connection) -> Result<()> {
        self.buffer.clear();
        (self.rows, self.zero_enums) = (0, 0);
        if std::mem::take(&mut self.open) {
            connection.finish_load()?;
        }
        Ok(())
    }
}

/// The `AUTO_INCREMENT` column, where the server numbers it anew unless it is assigned: `MariaDB` forgets for a `LOAD DATA` with
/// `SET` that the field had a value, and takes a 0 for "the next number" whatever `sql_mode` says.
fn renumbered(connection: &mut Connection, target: &str) -> Result<Option<String>> {
    if !connection.is_mariadb() {
        return Ok(None);
    }
    let columns = connection.open_binary(&format!("SELECT * FROM {target} LIMIT 0"))?;
    while connection.row()?.is_some() {}
    let numbered = columns.iter().find(|column| column.flags().contains(ColumnFlags::AUTO_INCREMENT_FLAG));
    Ok(numbered.map(|column| column.name_str().into_owned()))
}

/// `_latin1` or the like for each string column, so that literals are taken as bytes of the column's own set.
fn introducers(connection: &mut Connection, target: &str, names: &[String]) -> Result<Vec<String>> {
    let columns = connection.open_binary(&format!("SELECT {} FROM {target} LIMIT 0", names.join(", ")))?;
    while connection.row()?.is_some() {}
    let charsets = charsets(connection)?;
    Ok(columns
        .iter()
        .map(|column| match column.column_type() {
            ColumnType::MYSQL_TYPE_NEWDECIMAL | ColumnType::MYSQL_TYPE_DECIMAL => String::new(),
            _ => format!("_{}", charsets.get(&column.character_set()).map_or("binary", String::as_str)),
        })
        .collect())
}

/// Bytes with a meaning to `LOAD DATA` get a backslash; everything else, NUL included, stands for itself.
fn push_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    while let Some(position) = memchr::memchr3(b'\\', b'\t', b'\n', rest) {
        out.extend_from_slice(&rest[..position]);
        out.extend_from_slice(match rest[position] {
            b'\t' => b"\\t",
            b'\n' => b"\\n",
            _ => b"\\\\",
        });
        rest = &rest[position + 1..];
    }
    out.extend_from_slice(rest);
}

fn push_quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'\'');
    let mut rest = bytes;
    while let Some(position) = memchr::memchr2(b'\\', b'\'', rest) {
        out.extend_from_slice(&rest[..position]);
        out.extend_from_slice(&[b'\\', rest[position]]);
        rest = &rest[position + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'\'');
}

/// A column of a batch, its type decided once.
enum Column<'a> {
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
    fn new(array: &'a dyn Array, field: &Field) -> Result<Self> {
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
    fn is_null(&self, row: usize) -> bool {
        each!(self, values => values.is_null(row))
    }

    fn is_zero(&self, row: usize) -> bool {
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
    fn push_number(&self, out: &mut Vec<u8>, row: usize) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_three_bytes_with_a_meaning_are_escaped() {
        let all: Vec<u8> = (0..=255).collect();
        let mut out = Vec::new();
        push_escaped(&mut out, &all);
        assert_eq!(out.len(), 256 + 3);
        let mut back = Vec::new();
        let mut bytes = out.iter();
        while let Some(&byte) = bytes.next() {
            back.push(match byte {
                b'\\' => match bytes.next() {
                    Some(b't') => b'\t',
                    Some(b'n') => b'\n',
                    Some(&other) => other,
                    None => b'!',
                },
                byte => byte,
            });
        }
        assert_eq!(back, all);
    }
}
