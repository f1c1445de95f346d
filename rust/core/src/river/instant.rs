//! One instant for a run, given up as soon as anybody waits for it.
//!
//! A transaction with a snapshot holds a metadata lock on every table that it has read. A statement of production that
//! changes such a table (or makes another that refers to it) waits for it, and everybody who wants that table then waits
//! behind the statement. So a session of its own asks about every second for a lock that anybody would get: what it has to
//! wait for, others wait for too.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Kind, Result};
use crate::lines::Lines;
use crate::mysql::session::open_reader;
use crate::mysql::snapshot::{Meanwhile, Snapshot, open_held, share_snapshot_and, touch};
use crate::mysql::{Connection, Server};
use crate::run::progress::Progress;

/// How long nobody looks. With the second that the look itself takes when somebody waits, no wait reaches three.
const INTERVAL: Duration = Duration::from_millis(700);

/// Tables that one statement asks for.
const AT_ONCE: usize = 40;

const SHOWN: usize = 200;
/// What the server says instead of its sessions if one of them is just ending, and how often it is asked again.
const HALF_ENDED: u16 = 3854;
const LOOKS: u32 = 10;

/// The snapshot of a run, watched until it is dropped.
pub(crate) struct Instant {
    watched: Arc<Watched>,
    watcher: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Watched {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    ended: bool,
    gave_way: Option<String>,
}

impl Watched {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the run that a snapshot waits for its turn.
struct Telling<'a, F> {
    progress: &'a Progress,
    at_the_instant: F,
}

impl<F: FnMut(&mut Connection)> Meanwhile for Telling<'_, F> {
    fn at_the_instant(&mut self, session: &mut Connection) {
        (self.at_the_instant)(session);
    }

    fn give_way(&mut self, why: &str, turn: Duration) -> Result<()> {
        self.progress.pause(why, turn)
    }
}

impl Instant {
    /// Opens one snapshot for all `sources` and the walker, and watches it. Where only one session can have it, one
    /// source is left; the walker then reads outside the snapshot: a bound that has moved since only makes chunks
    /// unequal in size.
    pub fn open(
        walker: &mut Connection,
        sources: &mut Vec<Connection>,
        tables: &[(&str, &str)],
        progress: &Progress,
        at_the_instant: impl FnMut(&mut Connection),
    ) -> Result<(Snapshot, Self)> {
        let mut asking = open_reader(walker.server())?;
        let mut telling = Telling { progress, at_the_instant };
        let mut readers: Vec<_> = sources.iter_mut().chain(std::iter::once(&mut *walker)).collect();
        let snapshot = share_snapshot_and(&mut asking, &mut readers, tables, &mut telling)?;
        let ids: Vec<_> = readers.iter().map(|reader| reader.id).collect();
        if snapshot == Snapshot::Single {
            sources.truncate(1);
        }
        Ok((snapshot, Self::watch(walker.server(), Some(asking), ids, tables)))
    }

    /// Opens snapshots while the caller keeps everybody from writing, and watches them.
    pub fn held(
        walker: &mut Connection,
        sources: &mut [Connection],
        tables: &[(&str, &str)],
    ) -> Result<Self> {
        let asking = open_reader(walker.server())?;
        let mut readers: Vec<_> = sources.iter_mut().chain(std::iter::once(&mut *walker)).collect();
        open_held(&mut readers, tables)?;
        let ids: Vec<_> = readers.iter().map(|reader| reader.id).collect();
        Ok(Self::watch(walker.server(), Some(asking), ids, tables))
    }

    /// Watches one session that reads `tables` by a statement, which most often is over before anybody looks.
    pub fn over(reader: &Connection, tables: &[(&str, &str)]) -> Self {
        Self::watch(reader.server(), None, vec![reader.id], tables)
    }

    /// Without a session that is `asking` one is opened when it is time to look.
    fn watch(server: &Server, asking: Option<Connection>, ids: Vec<u32>, tables: &[(&str, &str)]) -> Self {
        let server = server.clone();
        let watched = Arc::<Watched>::default();
        let shared = watched.clone();
        let read: Vec<_> =
            tables.iter().map(|(schema, table)| ((*schema).to_owned(), (*table).to_owned())).collect();
        let lines = Lines::current();
        let thread = std::thread::spawn(move || {
            lines.inspect(Lines::enter);
            look(&server, asking, &ids, &read, &shared);
        });
        Self { watched, watcher: Some(thread) }
    }

    /// What a run came to, which failed if its snapshot was given up.
    pub fn judge<T>(&self, done: Result<T>) -> Result<T> {
        done.map_err(|error| match &self.watched.state().gave_way {
            Some(why) if !error.is_cancelled() => Kind::GaveWay(why.clone()).into(),
            // A table that was made or emptied anew after the snapshot was opened is not in it.
            None if error.server_code() == Some(1412) => Kind::GaveWay(error.to_string()).into(),
            _ => error,
        })
    }
}

impl Drop for Instant {
    fn drop(&mut self) {
        self.watched.state().ended = true;
        self.watched.wake.notify_all();
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
    }
}

fn look(
    server: &Server,
    mut asking: Option<Connection>,
    ids: &[u32],
    tables: &[(String, String)],
    watched: &Watched,
) {
    let mut is_set = false;
    loop {
        let state = watched.state();
        let (state, _) = watched
            .wake
            .wait_timeout_while(state, INTERVAL, |state| !state.ended)
            .unwrap_or_else(PoisonError::into_inner);
        if state.ended {
            return;
        }
        drop(state);
        // A server that cannot be asked now may be asked in a moment; the run itself notices one that is gone.
        let Some(session) = asking.take().map_or_else(|| open_reader(server).ok(), Some) else { continue };
        let session = asking.insert(session);
        let asked = if is_set { Ok(()) } else { settle(session) };
        match asked.and_then(|()| waiting(session, tables)) {
            Ok(None) => is_set = true,
            Ok(Some(why)) => {
                watched.state().gave_way = Some(why);
                for id in ids {
                    // One that has ended already holds nothing.
                    let _ = session.execute(&format!("KILL {id}"));
                }
                return;
            }
            // The next look opens another.
            Err(_) => {
                asking = None;
                is_set = false;
            }
        }
    }
}

fn settle(asking: &mut Connection) -> Result<()> {
    asking.execute("SET SESSION lock_wait_timeout = 1").map(drop)
}

/// What somebody waits for that one of `tables` is locked, if anybody does.
fn waiting(asking: &mut Connection, tables: &[(String, String)]) -> Result<Option<String>> {
    for some in tables.chunks(AT_ONCE) {
        match ask_for(asking, some) {
            Ok(()) => {}
            Err(error) if is_wait(&error) => return blocking(asking, some).map(Some),
            // One of them is gone, so nobody holds it: each by itself.
            Err(error) if error.server_code().is_some() => {
                for one in some {
                    match ask_for(asking, std::slice::from_ref(one)) {
                        Err(error) if is_wait(&error) => return blocking(asking, some).map(Some),
                        Err(error) if error.server_code().is_none() => return Err(error),
                        _ => {}
                    }
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn is_wait(error: &crate::error::Error) -> bool {
    error.server_code() == Some(1205)
}

fn ask_for(asking: &mut Connection, tables: &[(String, String)]) -> Result<()> {
    asking.execute(&touch(tables.iter().map(|(schema, table)| (schema.as_str(), table.as_str())))).map(drop)
}

const WAITING: &str = "SELECT ID, INFO FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for %' \
     AND ID <> CONNECTION_ID() AND INFO IS NOT NULL ORDER BY TIME DESC, ID";

/// The statement behind which all others wait, as far as this user is shown it.
fn blocking(asking: &mut Connection, tables: &[(String, String)]) -> Result<String> {
    let mut rows = Vec::new();
    for _ in 0..LOOKS {
        match asking.query(WAITING) {
            Err(error) if error.server_code() == Some(HALF_ENDED) => {}
            said => {
                rows = said?;
                break;
            }
        }
    }
    let text = |cell: Option<&Option<Vec<u8>>>| {
        cell.and_then(Option::as_ref)
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .unwrap_or_default()
    };
    let said: Vec<_> = rows.iter().map(|row| (text(row.first()), text(row.get(1)))).collect();
    let names = |info: &str| tables.iter().any(|(_, table)| info.contains(table.as_str()));
    // Who only reads or writes rows waits behind another, not for us.
    let changes = |info: &str| {
        let word = info.trim_start().split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        !["SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE"]
            .iter()
            .any(|verb| word.eq_ignore_ascii_case(verb))
    };
    let first = said
        .iter()
        .find(|(_, info)| changes(info) && names(info))
        .or_else(|| said.iter().find(|(_, info)| changes(info)));
    Ok(match first {
        Some((id, info)) => {
            let shown: String = info.chars().take(SHOWN).collect();
            let more = if shown.len() < info.len() { "…" } else { "" };
            format!("connection {id} of production waited for tables that were being read: {shown}{more}")
        }
        None => "a statement of production waited for tables that were being read (whoever has the right PROCESS is \
                 told which)"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::mysql::memory::{error, rows, serve};

    fn told(failures: u32) -> String {
        let asked = AtomicU32::new(0);
        let (server, _) = serve(move |_, sql| {
            (sql == WAITING).then(|| {
                if asked.fetch_add(1, Ordering::Relaxed) < failures {
                    return vec![error(HALF_ENDED, "Cannot convert string")];
                }
                let cells = ["5", "DROP TABLE lab.mouse"].map(|cell| Some(cell.as_bytes().to_vec()));
                rows(&["ID", "INFO"], &[cells.to_vec()])
            })
        });
        let mut asking = server.connect().expect("a server in memory");
        blocking(&mut asking, &[("lab".into(), "mouse".into())]).expect("told")
    }

    #[test]
    fn the_statement_that_waits_is_named_although_a_session_is_just_ending() {
        for failures in [0, 1, LOOKS - 1] {
            assert!(told(failures).ends_with(": DROP TABLE lab.mouse"));
        }
        // A server that never tells is no reason to hold anybody up.
        assert!(told(LOOKS).contains("PROCESS"));
    }
}
