//! The second proof of every table that is read whole: its rows are counted, by a statement of another shape.
//!
//! What cuts a reading short (a limit of the server, a proxy, an index that has lost rows) cuts a second reading short
//! too, so comparing two readings does not show it. `COUNT(*)` is one row, which the server itself adds up.

use crate::error::{Kind, Result};
use crate::mysql::Connection;
use crate::mysql::names::qualified;

/// Fewer rows are counted by one thread of the server: beginning four takes longer (8 ms of processor time for seven rows,
/// by one thread less than 0.2 ms).
const FEW_ROWS: u64 = 200_000;

/// What is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted<'a> {
    pub schema: &'a str,
    pub table: &'a str,
    /// The user's own condition on the rows, named `s`.
    pub filter: Option<&'a str>,
}

impl Counted<'_> {
    pub fn count(&self, connection: &mut Connection) -> Result<u64> {
        self.count_by(connection, true)
    }

    fn count_by(&self, connection: &mut Connection, alone: bool) -> Result<u64> {
        read_alone(connection, alone)?;
        let filter = self.filter.map_or_else(String::new, |filter| format!(" WHERE ({filter})"));
        let sql = format!("SELECT COUNT(*) FROM {} AS s{filter}", qualified(self.schema, self.table));
        let count = connection.query_value(&sql)?.and_then(|count| count.parse().ok());
        count.ok_or_else(|| Kind::Protocol("COUNT(*) without a number".into()).into())
    }

    /// Proves that as many rows were `read` as the table has at the instant that the connection sees.
    pub fn prove(&self, connection: &mut Connection, read: u64) -> Result<()> {
        let count = self.count_by(connection, read < FEW_ROWS)?;
        if count == read || !self.has_instants(connection)? {
            return Ok(());
        }
        Err(self.mismatch(read, count))
    }

    pub fn mismatch(&self, read: u64, count: u64) -> crate::error::Error {
        Kind::Mismatch(format!(
            "{}.{}: reading gave {read} rows, counting {count}: the server, a proxy or a damaged index keeps rows back",
            self.schema, self.table
        ))
        .into()
    }

    /// A snapshot does not hold for tables of other engines: what is written meanwhile is seen.
    fn has_instants(&self, connection: &mut Connection) -> Result<bool> {
        let text = |text: &str| format!("CONVERT(x'{}' USING utf8mb4)", hex(text));
        let sql = format!(
            "SELECT ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
            text(self.schema),
            text(self.table)
        );
        let engine = connection.query_value(&sql)?.unwrap_or_default();
        Ok(["innodb", "rocksdb", "tokudb"].iter().any(|name| engine.eq_ignore_ascii_case(name)))
    }
}

/// How many threads of `MySQL` count a table. A server that knows no such setting counts by one.
fn read_alone(connection: &mut Connection, alone: bool) -> Result<()> {
    if connection.reads_alone == alone || connection.is_mariadb() {
        return Ok(());
    }
    let threads = if alone { "1" } else { "DEFAULT" };
    match connection.execute(&format!("SET SESSION innodb_parallel_read_threads = {threads}")) {
        Err(error) if error.server_code().is_none() => return Err(error),
        _ => connection.reads_alone = alone,
    }
    Ok(())
}

fn hex(text: &str) -> String {
    data_encoding::HEXLOWER.encode(text.as_bytes())
}
