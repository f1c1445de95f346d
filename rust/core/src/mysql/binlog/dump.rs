//! The log over the wire: asked for from a position, sent to its end.

use super::{Budget, Collector, Habits, Position, Unknown, damaged};
use crate::error::{Error, Kind, Result};
use crate::mysql::Connection;
use crate::mysql::connect::Server;
use crate::mysql::session::open_reader;

/// A log that is being sent.
pub struct Log {
    connection: Connection,
}

/// Ends where the log ends instead of waiting for more.
const NON_BLOCK: u16 = 1;

impl Log {
    /// Asks for everything from `offset` in `file` on.
    pub fn open(server: &Server, file: &str, offset: u64) -> Result<Self> {
        let offset = u32::try_from(offset)
            .map_err(|_| Error::from(Kind::Plan(format!("the position {offset} is none"))))?;
        let mut connection = open_reader(server)?;
        let sums = "@master_binlog_checksum = @@GLOBAL.binlog_checksum, @source_binlog_checksum = @@GLOBAL.binlog_checksum";
        // 4: knows GTIDs of MariaDB, whose events are then sent as they are.
        connection.execute(&format!("SET {sums}, @mariadb_slave_capability = 4"))?;
        let mut request = offset.to_le_bytes().to_vec();
        request.extend_from_slice(&NON_BLOCK.to_le_bytes());
        // No number: one that a replica has would end that replica's connection.
        request.extend_from_slice(&0_u32.to_le_bytes());
        request.extend_from_slice(file.as_bytes());
        connection.open_log(&request)?;
        Ok(Self { connection })
    }

    /// The next event, or `None` at the end of the log.
    pub fn event(&mut self) -> Result<Option<&[u8]>> {
        let Some(packet) = self.connection.row()? else { return Ok(None) };
        match packet {
            [0, event @ ..] => Ok(Some(event)),
            _ => Err(damaged("something that is no event came out of the log")),
        }
    }
}

/// What an error of the server says about the log itself; any other is an error.
pub fn refused(error: Error) -> Result<Unknown> {
    let text = error.to_string();
    match error.server_code() {
        Some(1045 | 1227 | 1044 | 1142) => Ok(Unknown::new("no_right", text)),
        Some(1236) if text.to_lowercase().contains("find first log") => Ok(Unknown::new("purged", text)),
        Some(1236 | 1220 | 1373) => Ok(Unknown::new("unreadable", text)),
        _ => Err(error),
    }
}

/// Where the log ends now, or why it is of no use.
pub fn position(connection: &mut Connection) -> Result<std::result::Result<Position, Unknown>> {
    if let Some(unknown) = unusable(connection)? {
        return Ok(Err(unknown));
    }
    let server = identity(connection)?;
    let rows = match connection.query("SHOW BINARY LOG STATUS") {
        // Servers before 8.2, and MariaDB, know the old name only.
        Err(error) if error.server_code() == Some(1064) => connection.query("SHOW MASTER STATUS"),
        rows => rows,
    };
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) => return refused(error).map(Err),
    };
    let text = |cell: Option<&Option<Vec<u8>>>| {
        cell.and_then(Option::as_deref).map(|cell| String::from_utf8_lossy(cell).into_owned())
    };
    let Some(row) = rows.first() else {
        return Ok(Err(Unknown::new("no_log", "the server keeps no binary log")));
    };
    let filters: Vec<_> = [text(row.get(2)), text(row.get(3))]
        .into_iter()
        .flatten()
        .filter(|filter| !filter.is_empty())
        .collect();
    if !filters.is_empty() {
        let detail = format!("the server logs some schemas only (its filter names {})", filters.join(", "));
        return Ok(Err(Unknown::new("filtered", detail)));
    }
    let (Some(file), Some(offset)) = (text(row.first()), text(row.get(1))) else {
        return Err(damaged("the server does not say where its log ends"));
    };
    let offset = offset.parse().map_err(|_| damaged(format!("the log ends at `{offset}`")))?;
    let asked = connection.server().clone();
    let mut collector =
        Collector::new(Vec::new(), Vec::new(), Habits::default(), Budget { keys: 0, bytes: 0 })?;
    let mut look = || -> Result<()> {
        let mut log = Log::open(&asked, &file, offset)?;
        while let Some(event) = log.event()? {
            collector.event(event)?;
            if collector.began().is_some() {
                break;
            }
        }
        Ok(())
    };
    if let Err(error) = look() {
        return refused(error).map(Err);
    }
    match collector.began() {
        Some(began) => Ok(Ok(Position { file, offset, began, server })),
        None => Err(damaged("the log did not begin with its description")),
    }
}

/// Why a log of this server is of no use, if it is of none.
pub fn unusable(connection: &mut Connection) -> Result<Option<Unknown>> {
    if connection.query_value("SELECT @@GLOBAL.log_bin")?.as_deref() != Some("1") {
        return Ok(Some(Unknown::new("no_log", "the server keeps no binary log")));
    }
    let format = connection.query_value("SELECT @@GLOBAL.binlog_format")?.unwrap_or_default();
    if format != "ROW" {
        let detail = format!("the server logs statements (binlog_format is {format})");
        return Ok(Some(Unknown::new("statement", detail)));
    }
    if connection.is_mariadb()
        && connection.query_value("SELECT @@GLOBAL.log_slave_updates")?.as_deref() == Some("0")
        && connection.query_value("SELECT @@GLOBAL.gtid_slave_pos")?.is_some_and(|set| !set.is_empty())
    {
        let detail = "the server is a replica that does not log what it replicates";
        return Ok(Some(Unknown::new("filtered", detail)));
    }
    Ok(None)
}

/// Who a server is, for as long as its data is the same.
pub fn identity(connection: &mut Connection) -> Result<String> {
    let sql =
        if connection.is_mariadb() { "SELECT @@GLOBAL.server_id" } else { "SELECT @@GLOBAL.server_uuid" };
    Ok(connection.query_value(sql)?.unwrap_or_default())
}

/// How this server logs.
pub fn habits(connection: &mut Connection) -> Result<Habits> {
    let folds = connection.query_value("SELECT @@GLOBAL.lower_case_table_names")?;
    Ok(Habits { logs_cascades: logs_cascades(connection)?, folds: folds.as_deref() != Some("0") })
}

fn logs_cascades(connection: &mut Connection) -> Result<bool> {
    let sql = "SHOW GLOBAL VARIABLES LIKE 'innodb_native_foreign_keys'";
    let rows = connection.query(sql)?;
    let value = rows.first().and_then(|row| row.get(1)).and_then(Option::as_deref);
    Ok(value.is_some_and(|value| value.eq_ignore_ascii_case(b"OFF")))
}
