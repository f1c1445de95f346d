//! `INSERT` of many rows, where the server takes no `LOAD DATA LOCAL`.

use mysql_common::constants::ColumnType;

use super::column::Column;
use super::{Load, MAX_STATEMENT, PIECE, Store};
use crate::error::{Kind, Result};
use crate::mysql::Connection;
use crate::mysql::charsets::charsets;
use crate::mysql::query::Done;

/// What is done with a statement of which a piece is written: whoever sends it takes it out of the buffer.
type Piece<'a> = &'a mut dyn FnMut(&mut Vec<u8>) -> Result<()>;

impl Load {
    pub(super) fn push_tuple(
        &mut self,
        connection: &mut Connection,
        columns: &[Column<'_>],
        row: usize,
    ) -> Result<()> {
        let bytes_of = |column: &Column<'_>| match column {
            Column::Bytes(values) if !column.is_null(row) => values.value(row).len(),
            _ => 0,
        };
        if columns.iter().map(bytes_of).sum::<usize>() > self.max_statement {
            return self.insert_large(connection, columns, row);
        }
        let begun = if self.buffer.is_empty() { self.head.as_bytes() } else { b"," };
        self.buffer.extend_from_slice(begun);
        let start = self.buffer.len();
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = self.write_tuple(columns, row, &mut buffer, &mut |_| Ok(()));
        self.buffer = buffer;
        written?;
        self.fits(self.buffer.len() - start)?;
        if self.buffer.len() > self.max_statement && start > self.head.len() {
            // The statement is full without this row, which begins the next one.
            let tuple = self.buffer.split_off(start);
            self.buffer.pop();
            self.insert(connection)?;
            self.buffer.extend_from_slice(self.head.as_bytes());
            self.buffer.extend_from_slice(&tuple);
        }
        self.zero_enums += self.zeros(columns, row);
        self.rows += 1;
        Ok(())
    }

    /// A row as a statement of its own, which is sent as it is written: no copy of the row is held as text.
    fn insert_large(
        &mut self,
        connection: &mut Connection,
        columns: &[Column<'_>],
        row: usize,
    ) -> Result<()> {
        self.insert(connection)?;
        let (mut text, mut length) = (Vec::new(), 0);
        self.write_tuple(columns, row, &mut text, &mut |text| {
            length += text.len();
            text.clear();
            Ok(())
        })?;
        length += text.len();
        text.clear();
        self.fits(length)?;
        self.zero_enums = self.zeros(columns, row);
        self.run(connection, |load, connection| {
            connection.announce(load.head.len() + length)?;
            connection.part(load.head.as_bytes())?;
            load.write_tuple(columns, row, &mut text, &mut |text| {
                connection.part(text)?;
                text.clear();
                Ok(())
            })?;
            connection.part(&text)?;
            connection.answer()
        })?;
        self.rows += 1;
        Ok(())
    }

    /// Adds the values of a row to `text`, which is given to `piece` whenever a piece of a long value is in it.
    fn write_tuple(
        &self,
        columns: &[Column<'_>],
        row: usize,
        text: &mut Vec<u8>,
        piece: Piece<'_>,
    ) -> Result<()> {
        text.push(b'(');
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                text.push(b',');
            }
            if column.is_null(row) {
                text.extend_from_slice(b"NULL");
                continue;
            }
            match column {
                Column::Bytes(values) => {
                    let introducer =
                        if self.stores[index] == Store::Json { "_utf8mb4" } else { &self.introducers[index] };
                    text.extend_from_slice(introducer.as_bytes());
                    text.push(b'\'');
                    for part in values.value(row).chunks(PIECE) {
                        push_escaped(text, part);
                        if text.len() >= PIECE {
                            piece(text)?;
                        }
                    }
                    text.push(b'\'');
                }
                Column::Date(_) | Column::DateTime(_) | Column::Time(_) => {
                    text.push(b'\'');
                    column.push_number(text, row);
                    text.push(b'\'');
                }
                _ => column.push_number(text, row),
            }
        }
        text.push(b')');
        Ok(())
    }

    /// How many columns of a row hold index 0 of an ENUM.
    fn zeros(&self, columns: &[Column<'_>], row: usize) -> u64 {
        if self.enums.is_empty() {
            return 0;
        }
        let is_zero = |(store, column): &(&Store, &Column<'_>)| {
            **store == Store::EnumIndex && !column.is_null(row) && column.is_zero(row)
        };
        self.stores.iter().zip(columns).filter(is_zero).count() as u64
    }

    fn fits(&self, row_size: usize) -> Result<()> {
        if row_size + self.head.len() + 1024 <= self.max_packet {
            return Ok(());
        }
        let message = format!(
            "a row of {row_size} bytes does not fit max_allowed_packet of the destination, {} bytes",
            self.max_packet
        );
        Err(Kind::Server { code: 1153, state: "08S01".into(), message }.into())
    }

    pub(super) fn insert(&mut self, connection: &mut Connection) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.run(connection, |load, connection| connection.execute_bytes(&load.buffer))?;
        self.buffer.clear();
        self.buffer.shrink_to(MAX_STATEMENT);
        Ok(())
    }

    /// Runs a statement with rows, and looks at what the server says of them.
    fn run(
        &mut self,
        connection: &mut Connection,
        statement: impl FnOnce(&Self, &mut Connection) -> Result<Done>,
    ) -> Result<()> {
        let relaxed = self.zero_enums > 0;
        if relaxed {
            connection.execute("SET @djm_mode = @@SESSION.sql_mode, SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'")?;
        }
        let done = statement(self, connection)?;
        let checked = self.check_warnings(connection, done);
        if relaxed {
            connection.execute("SET SESSION sql_mode = @djm_mode")?;
        }
        self.zero_enums = 0;
        checked
    }
}

/// `_latin1` or the like for each string column, so that literals are taken as bytes of the column's own set.
pub(super) fn introducers(
    connection: &mut Connection,
    target: &str,
    names: &[String],
) -> Result<Vec<String>> {
    let columns = connection.open_binary(&format!("SELECT {} FROM {target} LIMIT 0", names.join(", ")))?;
    while connection.row()?.is_some() {}
    let charsets = charsets(connection, &columns)?;
    let each = columns.iter().zip(charsets).map(|(column, charset)| match column.column_type() {
        ColumnType::MYSQL_TYPE_NEWDECIMAL | ColumnType::MYSQL_TYPE_DECIMAL => String::new(),
        _ => format!("_{charset}"),
    });
    Ok(each.collect())
}

fn push_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    while let Some(position) = memchr::memchr2(b'\\', b'\'', rest) {
        out.extend_from_slice(&rest[..position]);
        out.extend_from_slice(&[b'\\', rest[position]]);
        rest = &rest[position + 1..];
    }
    out.extend_from_slice(rest);
}
