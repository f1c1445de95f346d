//! One instant for several sessions, so that nobody else ever waits for it longer than a moment.
//!
//! The global read lock is not among the ways: `FLUSH TABLES WITH READ LOCK` may be given up, but the server keeps every
//! table marked for flush until the longest running SELECT ends, and everybody who opens one waits for that (measured: 26 s).

use std::collections::BTreeSet;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::names::qualified;
use super::query::{Connection, TextRow};
use super::settings::LOCK_WAIT;
use crate::error::{Error, Kind, Result};
use crate::lines::Lines;

/// How long a lock is waited for before everybody else gets their turn, in seconds: the least that servers know.
const SLICE: u32 = 1;

/// How long locks are waited for together, for how long that is tried, and what pause others have between.
const MOMENT: Duration = Duration::from_millis(100);
const SLICE_OF_TRIES: Duration = Duration::from_secs(1);
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// Sessions that are opened at the same time.
const OPENED_AT_ONCE: usize = 8;

/// How long others have their turn between two slices.
const TURN: Duration = Duration::from_millis(1500);

/// Slices until one session has to do.
const SLICES: u32 = 10;

/// How often the snapshots are opened anew in a row because somebody committed between two of them.
const TRIES: u32 = 10;

/// How the readers of a run came to see the same instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshot {
    /// All sessions see one instant.
    Shared,
    /// That could not be had: only the first session has a snapshot, and it must do all the reading.
    Single,
}

/// What is told and asked while the snapshots are opened.
pub trait Meanwhile {
    /// Called at the instant itself: what `session` says of the server's log is true of the snapshots.
    fn at_the_instant(&mut self, session: &mut Connection) {
        let _ = session;
    }

    /// Others have their turn for so long, because of what `why` says. An error ends the opening.
    fn give_way(&mut self, why: &str, turn: Duration) -> Result<()> {
        let _ = why;
        std::thread::sleep(turn);
        Ok(())
    }
}

struct Nothing;

impl Meanwhile for Nothing {}

enum Tried {
    Opened,
    /// Not now, perhaps later.
    Busy,
    /// Never on this server, or for this user.
    Impossible,
}

/// Opens one snapshot for all `readers`.
pub fn share_snapshot(
    locker: &mut Connection,
    readers: &mut [&mut Connection],
    tables: &[(&str, &str)],
) -> Result<Snapshot> {
    share_snapshot_and(locker, readers, tables, &mut Nothing)
}

/// Opens a snapshot for the only reader that there is.
pub fn open_snapshot(reader: &mut Connection, tables: &[(&str, &str)]) -> Result<()> {
    begin_alone(reader, tables, &mut Nothing)
}

/// Opens one snapshot for all `readers`.
///
/// Without any lock where the server's log proves that nothing was committed between the first and the last of them; else
/// while the `tables` are locked against writers, for a moment; and where neither succeeds, the first reader alone gets
/// one.
pub fn share_snapshot_and(
    locker: &mut Connection,
    readers: &mut [&mut Connection],
    tables: &[(&str, &str)],
    meanwhile: &mut dyn Meanwhile,
) -> Result<Snapshot> {
    if let [only] = readers {
        begin_alone(only, tables, meanwhile)?;
        return Ok(Snapshot::Shared);
    }
    for reader in readers.iter_mut() {
        reader.execute(REPEATABLE)?;
    }
    let (mut may_log, mut may_lock) = (true, true);
    for slice in 0..SLICES {
        if may_log {
            match by_log(locker, readers, tables, meanwhile)? {
                Tried::Opened => return Ok(Snapshot::Shared),
                Tried::Busy => {}
                Tried::Impossible => may_log = false,
            }
        }
        if may_lock {
            match by_lock(locker, readers, tables, meanwhile)? {
                Tried::Opened => return Ok(Snapshot::Shared),
                Tried::Busy => {}
                Tried::Impossible => may_lock = false,
            }
        }
        if !may_log && !may_lock {
            break;
        }
        if slice + 1 < SLICES {
            meanwhile.give_way(OTHERS, TURN)?;
        }
    }
    if let [first, rest @ ..] = readers {
        begin_alone(first, tables, meanwhile)?;
        for reader in rest {
            reader.execute("COMMIT")?;
        }
    }
    Ok(Snapshot::Single)
}

/// Opens a snapshot for each of the `readers`, while the caller keeps everybody from writing to the `tables`.
///
/// Another lock on them would wait: a server lets those who want to write go before it, and they wait for the caller.
pub fn open_held(readers: &mut [&mut Connection], tables: &[(&str, &str)]) -> Result<()> {
    for reader in readers.iter_mut() {
        reader.execute(REPEATABLE)?;
    }
    start_all(readers, tables)
}

const OTHERS: &str = "others write to these tables: their turn, then the snapshot";
const REPEATABLE: &str = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ";

/// Tables that one statement pins.
const AT_ONCE: usize = 40;

fn begin_alone(
    reader: &mut Connection,
    tables: &[(&str, &str)],
    meanwhile: &mut dyn Meanwhile,
) -> Result<()> {
    reader.execute(REPEATABLE)?;
    for _ in 1..SLICES {
        start(reader)?;
        match pin(reader, tables) {
            Err(error) if is_wait(&error) => {}
            pinned => return pinned,
        }
        reader.execute("COMMIT")?;
        meanwhile.give_way(OTHERS, TURN)?;
    }
    start(reader)?;
    pin(reader, tables)
}

/// Holds the tables as they are named and declared at the instant: renamed or altered before they are first read, they
/// would be read as something else.
fn pin(reader: &mut Connection, tables: &[(&str, &str)]) -> Result<()> {
    reader.execute(&format!("SET SESSION lock_wait_timeout = {SLICE}"))?;
    let pinned =
        tables.chunks(AT_ONCE).try_for_each(|some| reader.execute(&touch(some.iter().copied())).map(drop));
    reader.execute(&format!("SET SESSION lock_wait_timeout = {LOCK_WAIT}"))?;
    pinned
}

/// A statement that wants a lock on these tables and nothing of them.
pub fn touch<'a>(tables: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let selects =
        tables.map(|(schema, table)| format!("(SELECT 1 FROM {} LIMIT 0)", qualified(schema, table)));
    selects.collect::<Vec<_>>().join(" UNION ALL ")
}

/// Whether others were in the way, which may have ended by itself.
fn is_wait(error: &Error) -> bool {
    matches!(error.server_code(), Some(1205 | 1213 | 1317))
}

fn start(connection: &mut Connection) -> Result<()> {
    connection.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").map(drop)
}

/// All at once: a lock is held for a round trip or two, however many they are.
fn start_all(readers: &mut [&mut Connection], tables: &[(&str, &str)]) -> Result<()> {
    std::thread::scope(|scope| -> Result<()> {
        let starting: Vec<_> = readers.iter_mut().map(|reader| scope.spawn(move || start(reader))).collect();
        starting.into_iter().try_for_each(|started| started.join().map_err(|_| panicked())?)
    })?;
    readers.first_mut().map_or(Ok(()), |first| pin(first, tables))
}

// -- by the server's log ---------------------------------------------------------------------------

/// Opens the snapshots without a lock, until the log says that nothing was committed between them.
fn by_log(
    locker: &mut Connection,
    readers: &mut [&mut Connection],
    tables: &[(&str, &str)],
    meanwhile: &mut dyn Meanwhile,
) -> Result<Tried> {
    if !logs_everything(locker)? {
        return Ok(Tried::Impossible);
    }
    for _ in 0..TRIES {
        match at_one_place(locker, readers, tables, meanwhile) {
            Ok(true) => return Ok(Tried::Opened),
            Ok(false) => {}
            Err(error) if is_wait(&error) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(Tried::Busy)
}

/// Opens the snapshots once. True if nothing was committed between the first and the last.
fn at_one_place(
    locker: &mut Connection,
    readers: &mut [&mut Connection],
    tables: &[(&str, &str)],
    meanwhile: &mut dyn Meanwhile,
) -> Result<bool> {
    if !locker.is_mariadb() {
        let before = locker.query_value(EXECUTED)?;
        start_all(readers, tables)?;
        meanwhile.at_the_instant(locker);
        // A commit becomes visible before its number is among the executed ones; until then it is owned. So first the
        // owned ones, or one would be neither.
        let owned = locker.query_value(OWNED)?;
        return Ok(owned.is_some_and(|owned| owned.is_empty())
            && before.is_some()
            && locker.query_value(EXECUTED)? == before);
    }
    start_all(readers, tables)?;
    let mut places = Vec::with_capacity(readers.len());
    for reader in readers.iter_mut() {
        places.push(snapshot_place(reader)?);
    }
    meanwhile.at_the_instant(locker);
    let now = log_place(locker)?;
    Ok(now.is_some() && places.iter().all(|place| *place == now))
}

const EXECUTED: &str = "SELECT @@GLOBAL.gtid_executed";
const OWNED: &str = "SELECT @@GLOBAL.gtid_owned";

/// Whether no commit of anybody escapes the log, as far as this user may know.
fn logs_everything(connection: &mut Connection) -> Result<bool> {
    let rows = connection.query(
        "SHOW GLOBAL VARIABLES WHERE Variable_name IN \
         ('log_bin', 'gtid_mode', 'log_slave_updates', 'log_replica_updates', 'wsrep_on')",
    )?;
    let is_on = |name: &str| named(&rows, name).is_some_and(|value| value == "ON" || value == "1");
    if !is_on("log_bin") {
        return Ok(false);
    }
    let logs_replicated = is_on("log_slave_updates") || is_on("log_replica_updates");
    let replicates = if connection.is_mariadb() {
        let running = connection.query("SHOW GLOBAL STATUS LIKE 'Slaves_running'")?;
        is_on("wsrep_on") || named(&running, "Slaves_running").is_none_or(|running| running != "0")
    } else if is_on("gtid_mode") {
        true
    } else {
        return Ok(false);
    };
    if replicates && !logs_replicated {
        return Ok(false);
    }
    // A log that leaves schemas out says so here only, and only to those with the right.
    let Some(status) = log_status(connection)? else { return Ok(false) };
    Ok(status.len() > 3 && text(&status, 2).is_empty() && text(&status, 3).is_empty())
}

fn log_status(connection: &mut Connection) -> Result<Option<TextRow>> {
    for sql in ["SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"] {
        match connection.query(sql) {
            Ok(rows) => return Ok(rows.into_iter().next()),
            Err(error) if error.server_code().is_some() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// File and position of `MariaDB`'s log now.
fn log_place(connection: &mut Connection) -> Result<Option<(String, String)>> {
    Ok(log_status(connection)?.map(|row| (text(&row, 0), text(&row, 1))))
}

/// File and position of `MariaDB`'s log that a snapshot is of: the server holds commits back while it takes both.
fn snapshot_place(connection: &mut Connection) -> Result<Option<(String, String)>> {
    let rows = connection.query("SHOW STATUS LIKE 'binlog_snapshot_%'")?;
    let file = named(&rows, "Binlog_snapshot_file").filter(|file| !file.is_empty());
    Ok(file.zip(named(&rows, "Binlog_snapshot_position")))
}

fn named(rows: &[TextRow], name: &str) -> Option<String> {
    rows.iter().find(|row| text(row, 0).eq_ignore_ascii_case(name)).map(|row| text(row, 1))
}

fn text(row: &TextRow, index: usize) -> String {
    row.get(index)
        .and_then(Option::as_ref)
        .map_or_else(String::new, |bytes| String::from_utf8_lossy(bytes).into_owned())
}

// -- by a lock -------------------------------------------------------------------------------------

/// Opens the snapshots while the tables are locked against writers, if the lock is to be had at once.
///
/// Whoever waits for one table while it holds another can close a circle with a transaction of production that wrote to
/// the one and goes on to the other. The server then ends that transaction, never `LOCK TABLES` (error 1213, measured on
/// both servers). So nothing is waited for while anything is held: `MariaDB` is told not to wait at all, and on `MySQL`,
/// which waits for a second at least, each table is locked by a session of its own.
fn by_lock(
    locker: &mut Connection,
    readers: &mut [&mut Connection],
    tables: &[(&str, &str)],
    meanwhile: &mut dyn Meanwhile,
) -> Result<Tried> {
    let rows = locker.query("SHOW GLOBAL VARIABLES LIKE 'wsrep_on'")?;
    // What comes from other nodes of a cluster heeds no lock of this one.
    if tables.is_empty() || named(&rows, "wsrep_on").is_some_and(|on| on == "ON") {
        return Ok(Tried::Impossible);
    }
    let locks = tables.iter().map(|(schema, table)| format!("{} READ", qualified(schema, table)));
    let locks: Vec<_> = if locker.is_mariadb() {
        vec![format!("LOCK TABLES {}", locks.collect::<Vec<_>>().join(", "))]
    } else {
        locks.map(|lock| format!("LOCK TABLES {lock}")).collect()
    };
    if !has_room(locker, locks.len())? {
        return Ok(Tried::Impossible);
    }
    let tried = hold(locker, &locks).and_then(|mut guards| {
        let tried = under_lock(locker, readers, tables, meanwhile);
        // Only a session that is still there has held its lock until now.
        unlock(&mut guards).and(tried)
    });
    match tried {
        Err(error) => match error.kind() {
            Kind::Lost { .. } | Kind::Server { code: 1205 | 1213 | 1317 | 1969 | 3024 | 3572, .. } => {
                Ok(Tried::Busy)
            }
            Kind::Server { code: 1040 | 1044 | 1045 | 1142 | 1203 | 1226 | 1227 | 1290, .. } => {
                Ok(Tried::Impossible)
            }
            _ => Err(error),
        },
        tried => tried,
    }
}

/// Whether others still have as many connections left as are taken here.
fn has_room(connection: &mut Connection, wanted: usize) -> Result<bool> {
    let most = connection.query_value("SELECT @@GLOBAL.max_connections")?;
    let rows = connection.query("SHOW GLOBAL STATUS LIKE 'Threads_connected'")?;
    let number = |said: Option<String>| said.and_then(|said| said.parse::<usize>().ok());
    let most = number(most);
    let now = number(named(&rows, "Threads_connected"));
    Ok(most.zip(now).is_some_and(|(most, now)| wanted.saturating_mul(2) <= most.saturating_sub(now)))
}

/// Sessions that hold the locks, one each.
fn hold(locker: &mut Connection, locks: &[String]) -> Result<Vec<Connection>> {
    let server = locker.server().clone();
    let wait = if locker.is_mariadb() { 0 } else { SLICE };
    let mut guards = Vec::with_capacity(locks.len());
    for some in locks.chunks(OPENED_AT_ONCE) {
        let (lines, server) = (Lines::current(), &server);
        std::thread::scope(|scope| -> Result<()> {
            let open = || {
                let lines = lines.clone();
                scope.spawn(move || {
                    lines.inspect(Lines::enter);
                    server.connect()
                })
            };
            let opening: Vec<_> = some.iter().map(|_| open()).collect();
            for opened in opening {
                guards.push(opened.join().map_err(|_| panicked())??);
            }
            Ok(())
        })?;
    }
    // They read nothing, so no default of theirs matters but these. Should this process or its line stop while it holds a
    // lock, the server ends the session and so the lock.
    each(&mut guards, |guard, _| {
        // As every session at production: first of all it may not write.
        guard.execute("SET SESSION TRANSACTION READ ONLY")?;
        let limits = format!("SET SESSION lock_wait_timeout = {wait}, SESSION wait_timeout = {SLICE}");
        guard.execute(&limits).map(drop)
    })?;
    let began = Instant::now();
    loop {
        match lock(locker, &mut guards, locks) {
            Err(error) if is_wait(&error) && began.elapsed() < SLICE_OF_TRIES => {
                unlock(&mut guards)?;
                std::thread::sleep(BETWEEN_TRIES);
            }
            held => return held.map(|()| guards),
        }
    }
}

/// Asks for all locks at once, and gives them up when one of them takes longer than a moment: whoever has that table may
/// want another, which is locked by then.
fn lock(locker: &mut Connection, guards: &mut [Connection], locks: &[String]) -> Result<()> {
    let ids: Vec<_> = guards.iter().map(|guard| guard.id).collect();
    // `MariaDB` waits for nobody, but many tables take their time.
    let moment = if locker.is_mariadb() { SLICE_OF_TRIES } else { MOMENT };
    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        let asking = scope.spawn(move || {
            each(guards, |guard, index| {
                let said = guard.execute(&locks[index]);
                // Nobody may wait for it any more.
                let _ = sender.send(index);
                said.map(drop)
            })
        });
        let until = Instant::now() + moment;
        let mut waiting: BTreeSet<_> = (0..ids.len()).collect();
        while let Ok(index) = receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
            waiting.remove(&index);
        }
        for index in waiting {
            // Where it is not heard, the server's own limit ends the wait.
            let _ = locker.execute(&format!("KILL QUERY {}", ids[index]));
        }
        asking.join().map_err(|_| panicked())?
    })
}

fn unlock(guards: &mut [Connection]) -> Result<()> {
    each(guards, |guard, _| guard.execute("UNLOCK TABLES").map(drop))
}

/// Says something to all sessions at once.
fn each(guards: &mut [Connection], say: impl Fn(&mut Connection, usize) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let say = &say;
        let saying: Vec<_> = guards
            .iter_mut()
            .enumerate()
            .map(|(index, guard)| scope.spawn(move || say(guard, index)))
            .collect();
        let said: Vec<_> = saying.into_iter().map(|said| said.join().map_err(|_| panicked())?).collect();
        said.into_iter().collect()
    })
}

fn panicked() -> Error {
    Kind::Internal("a reader panicked".into()).into()
}

fn under_lock(
    locker: &mut Connection,
    readers: &mut [&mut Connection],
    tables: &[(&str, &str)],
    meanwhile: &mut dyn Meanwhile,
) -> Result<Tried> {
    // A prepared transaction whose session has gone holds no table lock there, and may be committed at any time.
    if locker.is_mariadb() && !locker.query("XA RECOVER")?.is_empty() {
        return Ok(Tried::Busy);
    }
    let began = Instant::now();
    start_all(readers, tables)?;
    meanwhile.at_the_instant(locker);
    Ok(if began.elapsed() < Duration::from_secs(SLICE.into()) { Tried::Opened } else { Tried::Busy })
}
