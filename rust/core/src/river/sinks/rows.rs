//! Rows into a table, and their line in the journal, in one transaction.

use arrow_array::RecordBatch;

use crate::error::{Kind, Result};
use crate::mysql::journal::Journal;
use crate::mysql::load::Load;
use crate::mysql::session::{open_loader, open_reader, read_only};
use crate::mysql::{Connection, Server};
use crate::river::sink::{Begun, Moved, Piece, Sink};
use crate::river::steady::{Steady, waiting};
use crate::run::progress::{Progress, Waiting};

/// The session of a lane with a destination, opened again when it was lost.
pub struct Writer {
    server: Server,
    connection: Option<Connection>,
}

impl Writer {
    /// Opens the session.
    pub fn open(server: &Server) -> Result<Self> {
        Ok(Self { server: server.clone(), connection: Some(open_loader(server)?) })
    }

    /// Its session, which from now on only reads: what was loaded is to be looked at. Loading opens another one.
    pub fn into_reader(&mut self) -> Result<Steady> {
        let reader = match self.connection.take().map(read_only) {
            Some(Err(error)) if !error.is_transient() => return Err(error),
            Some(Ok(reader)) => reader,
            _ => open_reader(&self.server)?,
        };
        Ok(Steady::over(reader, open_reader))
    }
}

/// The transaction of a chunk: what is written, and the chunk's line in the journal.
pub struct Transaction<'a> {
    writer: &'a mut Writer,
    progress: &'a Progress,
    /// What ends a statement of it that a run which is to stop would wait for.
    waiting: Option<Waiting<'a>>,
    /// The journal, and the table's name in it.
    journal: Option<(&'a Journal, &'a str)>,
    /// What a COMMIT was sent for, whose answer may be lost.
    committing: Option<Moved>,
}

impl<'a> Transaction<'a> {
    /// A transaction that is not begun.
    pub fn new(
        writer: &'a mut Writer,
        journal: Option<(&'a Journal, &'a str)>,
        progress: &'a Progress,
    ) -> Self {
        Self { writer, progress, waiting: None, journal, committing: None }
    }

    /// Says something within the transaction. A session that was lost is not used again.
    pub fn say<T>(&mut self, say: impl FnOnce(&mut Connection) -> Result<T>) -> Result<T> {
        let none = || Kind::Internal("nothing was begun".into());
        let said = say(self.writer.connection.as_mut().ok_or_else(none)?);
        if said.as_ref().is_err_and(|error| matches!(error.kind(), Kind::Lost { .. })) {
            self.writer.connection = None;
        }
        said
    }
}

impl Sink for Transaction<'_> {
    fn begin(&mut self, piece: &Piece) -> Result<Begun> {
        let (mut connection, is_unsure) = match self.writer.connection.take() {
            Some(connection) => (connection, piece.former),
            // The connection was lost, perhaps after the commit: the journal knows.
            None => (open_loader(&self.writer.server)?, true),
        };
        connection.execute("START TRANSACTION")?;
        if self.committing.is_some() && self.journal.is_none() {
            let message = "the connection was lost within a COMMIT, and no journal tells whether it was done: empty \
                           the table, then start the same call again";
            return Err(Kind::Mismatch(message.into()).into());
        }
        if is_unsure && let Some((journal, table)) = self.journal {
            let done = connection.query_value(&journal.is_done(table, piece.number))?;
            if done.as_deref() == Some("1") {
                connection.execute("ROLLBACK")?;
                self.writer.connection = Some(connection);
                return Ok(Begun::Done(self.committing.unwrap_or_default()));
            }
        }
        self.waiting = waiting(self.progress, &mut connection);
        self.writer.connection = Some(connection);
        Ok(Begun::Open)
    }

    fn batch(&mut self, _: RecordBatch) -> Result<()> {
        Err(Kind::Internal("a transaction alone takes no rows".into()).into())
    }

    fn commit(&mut self, piece: &Piece, moved: Moved) -> Result<()> {
        self.waiting = None;
        let none = || Kind::Internal("nothing was begun".into());
        let mut connection = self.writer.connection.take().ok_or_else(none)?;
        if let Some((journal, table)) = self.journal {
            connection.execute(&journal.done(table, piece.number, moved.rows))?;
        }
        self.committing = Some(moved);
        connection.execute("COMMIT")?;
        self.committing = None;
        self.writer.connection = Some(connection);
        Ok(())
    }

    fn abandon(&mut self) {
        self.waiting = None;
        // A connection that can still roll back can still be used; any other is left to the next attempt.
        if let Some(mut connection) = self.writer.connection.take()
            && connection.execute("ROLLBACK").is_ok()
        {
            self.writer.connection = Some(connection);
        }
    }
}

/// Rows that are loaded into a table.
pub struct Rows<'a> {
    transaction: Transaction<'a>,
    /// What a chunk begins with.
    fresh: &'a Load,
    load: Load,
    committed: u64,
}

impl<'a> Rows<'a> {
    /// Loads as `load` says.
    pub fn new(
        writer: &'a mut Writer,
        load: &'a Load,
        journal: Option<(&'a Journal, &'a str)>,
        progress: &'a Progress,
    ) -> Self {
        Self {
            transaction: Transaction::new(writer, journal, progress),
            fresh: load,
            load: load.clone(),
            committed: 0,
        }
    }

    /// How many rows were committed: a conversion may give more or fewer than it takes.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.committed
    }
}

impl Sink for Rows<'_> {
    fn begin(&mut self, piece: &Piece) -> Result<Begun> {
        self.load.clone_from(self.fresh);
        let begun = self.transaction.begin(piece)?;
        if let Begun::Done(moved) = begun {
            self.committed += moved.rows;
        }
        Ok(begun)
    }

    fn batch(&mut self, batch: RecordBatch) -> Result<()> {
        let load = &mut self.load;
        self.transaction.say(|connection| load.batch(connection, &batch))
    }

    fn settle(&mut self) -> Result<()> {
        let load = &mut self.load;
        // An open LOAD DATA has locks that one who goes on may need.
        self.transaction.say(|connection| load.settle(connection))
    }

    fn commit(&mut self, piece: &Piece, moved: Moved) -> Result<()> {
        let load = &mut self.load;
        let rows = self.transaction.say(|connection| load.finish(connection))?;
        self.transaction.commit(piece, Moved { rows, ..moved })?;
        self.committed += rows;
        Ok(())
    }

    fn abandon(&mut self) {
        let load = &mut self.load;
        // What the load says is of no interest any more: its rows are rolled back.
        let _ = self.transaction.say(|connection| load.abandon(connection));
        self.transaction.abandon();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::mysql::memory::{Event, Log, error, rows, serve};
    use crate::river::flow::{Counts, Flow};
    use crate::river::read::Bounds;
    use crate::run::memory::LargeRows;

    /// A server whose journal says `done`, and which answers `COMMIT` for the first time with `first`.
    fn server(done: &'static str, first: Event) -> (Server, Log) {
        let commits = AtomicU32::new(0);
        serve(move |_, sql| match sql {
            "COMMIT" if commits.fetch_add(1, Ordering::Relaxed) == 0 => Some(vec![first.clone()]),
            sql if sql.starts_with("SELECT done") => {
                Some(rows(&["done"], &[vec![Some(done.as_bytes().to_vec())]]))
            }
            _ => None,
        })
    }

    /// Moves one chunk by the statement `it`; what came of it, and what was said, without settings.
    fn moved(server: &(Server, Log), journal: bool, piece: &Piece) -> (Result<Moved>, Vec<(u32, String)>) {
        let progress = Progress::default();
        let bounds = Bounds { batch_bytes: 1 << 16, large: LargeRows::of(1 << 20), copies: 1 };
        let flow = Flow { progress: &progress, bounds: &bounds, pays: false, counts: Counts::Memory };
        let (lines, mut writer) = (Journal::new("s"), Writer::open(&server.0).expect("opened"));
        server.1.lock().expect("no test panicked").clear();
        let journal = journal.then_some((&lines, "t"));
        let mut transaction = Transaction::new(&mut writer, journal, &progress);
        let done = flow.within(&mut transaction, piece, |transaction| {
            transaction.say(|connection| connection.execute("it"))?;
            Ok(Moved { rows: 3, bytes: 30, read: 30, largest: 0 })
        });
        assert_eq!(progress.seen().rows, done.as_ref().map_or(0, |moved| moved.rows));
        let log = server.1.lock().expect("no test panicked").clone();
        let shown = |(number, sql): (u32, String)| {
            let word = sql.split([' ', '`']).take(2).collect::<Vec<_>>().join(" ");
            (number, if sql == "it" { sql } else { word })
        };
        let of_chunk =
            |(_, sql): &(u32, String)| !sql.starts_with("SET") && !sql.starts_with("SELECT CONCAT_WS");
        (done, log.into_iter().filter(of_chunk).map(shown).collect())
    }

    fn said(words: &[(u32, &str)]) -> Vec<(u32, String)> {
        words.iter().map(|(number, word)| (*number, (*word).to_owned())).collect()
    }

    const TAKEN: [(u32, &str); 4] = [(1, "START TRANSACTION"), (1, "it"), (1, "UPDATE "), (1, "COMMIT")];

    fn ok() -> Event {
        crate::mysql::memory::ok(0, 0)
    }

    #[test]
    fn rows_and_their_line_in_the_journal_are_one_transaction() {
        let (done, log) = moved(&server("0", ok()), true, &Piece::default());
        assert_eq!((done.expect("moved").rows, log), (3, said(&TAKEN)));
    }

    #[test]
    fn after_a_commit_without_an_answer_the_journal_says_whether_it_was_done() {
        let (done, log) = moved(&server("1", Event::End), true, &Piece::default());
        assert_eq!(done.expect("it was done").rows, 3);
        let asked = [(2, "START TRANSACTION"), (2, "SELECT done"), (2, "ROLLBACK")];
        assert_eq!(log, said(&[&TAKEN[..], &asked].concat()));
        let (done, log) = moved(&server("0", Event::End), true, &Piece::default());
        assert_eq!(done.expect("done again").rows, 3);
        let again = [(2, "START TRANSACTION"), (2, "SELECT done"), (2, "it"), (2, "UPDATE "), (2, "COMMIT")];
        assert_eq!(log, said(&[&TAKEN[..], &again].concat()));
    }

    #[test]
    fn without_a_journal_nobody_knows_and_nothing_is_done_twice() {
        let (done, log) = moved(&server("0", Event::End), false, &Piece::default());
        let error = done.expect_err("unknown");
        assert!(error.to_string().contains("no journal tells whether it was done"), "{error}");
        assert!(!error.is_transient());
        assert_eq!(log.iter().filter(|(_, sql)| sql == "it").count(), 1);
    }

    #[test]
    fn a_chunk_that_an_earlier_run_had_begun_is_looked_up_before_anything_is_written() {
        let former = Piece { former: true, ..Piece::default() };
        let (done, log) = moved(&server("1", ok()), true, &former);
        assert_eq!(done.expect("it was done").rows, 0);
        assert_eq!(log, said(&[(1, "START TRANSACTION"), (1, "SELECT done"), (1, "ROLLBACK")]));
        let (_, log) = moved(&server("0", ok()), true, &former);
        assert_eq!(log[1..3], said(&[(1, "SELECT done"), (1, "it")]));
    }

    #[test]
    fn what_failed_is_rolled_back_before_it_is_tried_again() {
        let (done, log) = moved(&server("0", error(1213, "Deadlock found")), true, &Piece::default());
        assert_eq!(done.expect("done again").rows, 3);
        // The line on which a COMMIT failed is not used again: whether it was done is asked over another.
        assert_eq!(log[4..6], said(&[(2, "START TRANSACTION"), (2, "SELECT done")]));
        let fails = AtomicU32::new(0);
        let once = serve(move |_, sql| {
            (sql == "it" && fails.fetch_add(1, Ordering::Relaxed) == 0)
                .then(|| vec![error(1205, "Lock wait timeout")])
        });
        let (done, log) = moved(&once, true, &Piece::default());
        assert_eq!(done.expect("done again").rows, 3);
        let again = [(1, "START TRANSACTION"), (1, "it"), (1, "ROLLBACK")];
        assert_eq!(log, said(&[&again[..], &TAKEN].concat()));
    }
}
