//! What a session is set to before it touches a row.

use super::connect::Server;
use super::names::qualified;
use super::query::Connection;
use crate::error::{Error, Result};

/// Zero dates, invalid dates and key 0 of an `AUTO_INCREMENT` column pass; everything else that does not fit is an error.
const SQL_MODE: &str = "STRICT_ALL_TABLES,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION";

/// How long a session may idle, because a pause may last: a week.
const IDLE_SECONDS: u32 = 7 * 24 * 3600;

/// How long a statement that would hold up writers waits for its lock, in seconds, before it gives up.
const SNAPSHOT_WAIT: u32 = 3;

/// How long any other statement waits for a table that another session has locked, in seconds; the server's own default is a year.
const LOCK_WAIT: u32 = 60;

/// Settings of every session: text as stored bytes, one time zone on all sides.
fn settle(connection: &mut Connection) -> Result<()> {
    // A recursive query loses rows when its table outgrows memory in the middle: measured on MariaDB 10.11 with any such
    // query, on MySQL 9.7 where a row leads to several. On disk from the start it loses none. And MariaDB ends one in
    // silence after 1000 rounds.
    connection.execute(&format!(
        "SET NAMES utf8mb4, SESSION sql_mode = '{SQL_MODE}', SESSION time_zone = '+00:00', \
         SESSION character_set_results = NULL, SESSION lock_wait_timeout = {LOCK_WAIT}, \
         SESSION net_read_timeout = 600, SESSION net_write_timeout = 600, \
         SESSION wait_timeout = {IDLE_SECONDS}, \
         SESSION big_tables = 1 /*!80003 , SESSION cte_max_recursion_depth = 4294967295 */ \
         /*M! , SESSION max_recursive_iterations = 4294967295 */"
    ))?;
    Ok(())
}

/// A session that can only read: the server itself refuses anything else.
pub fn open_reader(server: &Server) -> Result<Connection> {
    let mut connection = server.connect()?;
    reading(&mut connection)?;
    Ok(connection)
}

/// A session that loads: foreign keys are proved afterwards, row locks are kept off the tables it reads.
pub fn open_loader(server: &Server) -> Result<Connection> {
    let mut connection = server.connect()?;
    loading(&mut connection)?;
    Ok(connection)
}

fn reading(connection: &mut Connection) -> Result<()> {
    // First of all, so that nothing whatever is said to production by a session that could write.
    connection.execute("SET SESSION TRANSACTION READ ONLY")?;
    connection.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")?;
    settle(connection)
}

fn loading(connection: &mut Connection) -> Result<()> {
    settle(connection)?;
    // READ COMMITTED: at REPEATABLE READ an INSERT … SELECT locks every source row it reads.
    connection.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")?;
    connection.execute("SET SESSION foreign_key_checks = 0, SESSION autocommit = 1")?;
    Ok(())
}

/// How the readers of a run came to see the same instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshot {
    /// All sessions opened their snapshot while a lock kept writers out for that moment.
    Shared,
    /// The user may not take such a lock: only the first session has a snapshot, and it must do all the reading.
    Single,
}

fn begin_snapshot(connection: &mut Connection) -> Result<()> {
    connection.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")?;
    connection.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")?;
    Ok(())
}

fn is_refused(error: &Error) -> bool {
    matches!(error.server_code(), Some(1044 | 1045 | 1142 | 1205 | 1227 | 1290 | 3572))
}

/// Opens one snapshot for all `readers`: writers wait for as long as this takes, and never longer than `SNAPSHOT_WAIT`.
///
/// The lock is the global read lock where the user may take it (it waits for running statements only), else a read lock
/// on the `tables` of the run; without either privilege the first reader alone gets a snapshot.
pub fn share_snapshot(
    locker: &mut Connection,
    readers: &mut [&mut Connection],
    tables: &[(&str, &str)],
) -> Result<Snapshot> {
    share_snapshot_and(locker, readers, tables, &mut |_| ())
}

/// Opens one snapshot for all `readers` and calls `meanwhile` with the locker while writers wait.
pub fn share_snapshot_and(
    locker: &mut Connection,
    readers: &mut [&mut Connection],
    tables: &[(&str, &str)],
    meanwhile: &mut dyn FnMut(&mut Connection),
) -> Result<Snapshot> {
    let [first, rest @ ..] = readers else { return Ok(Snapshot::Shared) };
    if rest.is_empty() {
        begin_snapshot(first)?;
        return Ok(Snapshot::Shared);
    }
    locker.execute(&format!("SET SESSION lock_wait_timeout = {SNAPSHOT_WAIT}"))?;
    let locks = tables.iter().map(|(schema, table)| format!("{} READ", qualified(schema, table)));
    let locks = format!("LOCK TABLES {}", locks.collect::<Vec<_>>().join(", "));
    for lock in ["FLUSH TABLES WITH READ LOCK", &locks] {
        match locker.execute(lock) {
            Ok(_) => {}
            Err(error) if is_refused(&error) => continue,
            Err(error) => return Err(error),
        }
        let opened = begin_snapshot(first)
            .and_then(|()| rest.iter_mut().try_for_each(|reader| begin_snapshot(reader)));
        meanwhile(locker);
        locker.execute("UNLOCK TABLES")?;
        return opened.map(|()| Snapshot::Shared);
    }
    begin_snapshot(first)?;
    Ok(Snapshot::Single)
}

/// Gives up the snapshot of `walker` for `reader`: where only one session may have one, it is the reader.
pub fn begin_single(walker: &mut Connection, reader: &mut Connection) -> Result<()> {
    walker.execute("COMMIT")?;
    begin_snapshot(reader)
}
