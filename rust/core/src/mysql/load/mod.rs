//! Record batches into a table: `LOAD DATA LOCAL` where the server allows it, multi-row `INSERT` where it does not.
//!
//! Both carry the bytes as they are. `LOAD DATA LOCAL` turns errors into warnings, so a load that warns is an error here,
//! and a load that did not take every row is one too.

mod column;
mod infile;
mod insert;

use arrow_array::RecordBatch;

use self::column::Column;
use self::infile::renumbered;
use self::insert::introducers;
use super::names::{qualified, quote};
use super::query::{Connection, Done, TextRow};
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
    /// Nothing.
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
    /// Rows of statements that were ended before the load was.
    settled: u64,
    zero_enums: u64,
    open: bool,
}

/// True if the server takes `LOAD DATA LOCAL`.
pub fn allows_infile(connection: &mut Connection) -> Result<bool> {
    Ok(connection.query_value("SELECT @@GLOBAL.local_infile")?.as_deref() == Some("1"))
}

impl Load {
    /// Loads the named columns of a table, by `LOAD DATA LOCAL` if `infile`. The server is asked for its limits.
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
            settled: 0,
            zero_enums: 0,
            open: false,
        })
    }

    /// How many rows were taken since the load began.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.settled + self.rows
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
                self.push_line(connection, &columns, row)?;
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
        self.settle(connection)?;
        Ok(std::mem::take(&mut self.settled))
    }

    /// Ends the statement that is open, with the same proof; the next batch begins another.
    pub fn settle(&mut self, connection: &mut Connection) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        if self.infile {
            if !self.open {
                return Ok(());
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
        self.settled += rows;
        Ok(())
    }

    /// Ends a load that failed on the reading side, so that the connection can be used again; the caller rolls back.
    pub fn abandon(&mut self, connection: &mut Connection) -> Result<()> {
        self.buffer.clear();
        (self.rows, self.settled, self.zero_enums) = (0, 0, 0);
        if std::mem::take(&mut self.open) {
            connection.finish_load()?;
        }
        Ok(())
    }
}
