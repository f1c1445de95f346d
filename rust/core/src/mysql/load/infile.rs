//! `LOAD DATA LOCAL`: rows as lines, in one stream.

use mysql_common::constants::ColumnFlags;

use super::column::Column;
use super::{Load, PIECE};
use crate::error::Result;
use crate::mysql::Connection;

impl Load {
    pub(super) fn push_line(
        &mut self,
        connection: &mut Connection,
        columns: &[Column<'_>],
        row: usize,
    ) -> Result<()> {
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
                // In pieces: of a large value no second copy is held as text.
                Column::Bytes(values) => {
                    for piece in values.value(row).chunks(PIECE) {
                        push_escaped(&mut self.buffer, piece);
                        self.send_full(connection)?;
                    }
                }
                _ => column.push_number(&mut self.buffer, row),
            }
        }
        self.buffer.push(b'\n');
        self.rows += 1;
        self.send_full(connection)
    }

    fn send_full(&mut self, connection: &mut Connection) -> Result<()> {
        if self.buffer.len() < PIECE { Ok(()) } else { self.send(connection) }
    }

    pub(super) fn send(&mut self, connection: &mut Connection) -> Result<()> {
        // The data is one stream to the server: a row may lie in two packets, and be larger than any.
        let mut pieces = self.buffer.chunks(PIECE.min(self.max_packet));
        let sent = pieces.try_for_each(|piece| connection.send_data(piece));
        self.buffer.clear();
        self.buffer.shrink_to(2 * PIECE);
        sent
    }
}

/// The `AUTO_INCREMENT` column, where the server numbers it anew unless it is assigned: `MariaDB` forgets for a `LOAD DATA` with
/// `SET` that the field had a value, and takes a 0 for "the next number" whatever `sql_mode` says.
pub(super) fn renumbered(connection: &mut Connection, target: &str) -> Result<Option<String>> {
    if !connection.is_mariadb() {
        return Ok(None);
    }
    let columns = connection.open_binary(&format!("SELECT * FROM {target} LIMIT 0"))?;
    while connection.row()?.is_some() {}
    let numbered = columns.iter().find(|column| column.flags().contains(ColumnFlags::AUTO_INCREMENT_FLAG));
    Ok(numbered.map(|column| column.name_str().into_owned()))
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
