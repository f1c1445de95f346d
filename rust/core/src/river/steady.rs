//! A session that is opened again when it is lost, for what may simply be said twice; or one that holds a snapshot, in whose
//! place no other can come.

use crate::error::{Error, Kind, Result};
use crate::mysql::{Connection, Server};
use crate::run::progress::{Progress, Waiting};
use crate::run::retry::retry;

const DEADLOCK: u16 = 1213;

/// How a session is opened.
pub type Open = fn(&Server) -> Result<Connection>;

/// A session of a run.
pub struct Steady {
    connection: Option<Connection>,
    server: Server,
    /// How it is opened again; nothing if it holds a snapshot.
    again: Option<Open>,
}

impl Steady {
    /// Opens a session, now and whenever it is lost.
    pub fn open(server: &Server, open: Open) -> Result<Self> {
        Ok(Self::over(open(server)?, open))
    }

    /// A session that is open already, and is opened again when it is lost.
    pub fn over(connection: Connection, open: Open) -> Self {
        Self { server: connection.server().clone(), connection: Some(connection), again: Some(open) }
    }

    /// A session that has a snapshot: no other can take its place.
    #[must_use]
    pub fn only(connection: Connection) -> Self {
        Self { server: connection.server().clone(), connection: Some(connection), again: None }
    }

    /// Says something once, over a new session where the last one was lost.
    pub fn once<T>(
        &mut self,
        progress: &Progress,
        say: impl FnOnce(&mut Connection) -> Result<T>,
    ) -> Result<T> {
        let connection = match (self.connection.take(), self.again) {
            (Some(connection), _) => self.connection.insert(connection),
            (None, Some(open)) => self.connection.insert(open(&self.server)?),
            (None, None) => {
                let (server, message) = (self.server.name(), "its session is gone".to_owned());
                return Err(Kind::SnapshotLost { server, message }.into());
            }
        };
        let waiting = waiting(progress, connection);
        let said = say(connection);
        drop(waiting);
        if said.as_ref().is_err_and(|error| matches!(error.kind(), Kind::Lost { .. })) {
            self.connection = None;
        }
        if self.again.is_none() { said.map_err(|error| self.within_snapshot(error)) } else { said }
    }

    /// An error of a session that has a snapshot. A deadlock takes the transaction of its victim, and the snapshot with it: what
    /// was read next would be of another instant.
    fn within_snapshot(&mut self, error: Error) -> Error {
        if error.server_code() != Some(DEADLOCK) {
            return error.with_snapshot();
        }
        self.connection = None;
        Kind::SnapshotLost { server: self.server.name(), message: error.to_string() }.into()
    }

    /// Says what has no effect when it is said a second time, and says it again while its error may go away.
    pub fn ask<T>(
        &mut self,
        progress: &Progress,
        mut ask: impl FnMut(&mut Connection) -> Result<T>,
    ) -> Result<T> {
        if self.again.is_none() {
            return self.once(progress, ask);
        }
        retry(progress, || self.once(progress, &mut ask))
    }

    /// Says a statement that returns no rows, and says it again while its error may go away.
    pub fn execute(&mut self, progress: &Progress, sql: &str) -> Result<()> {
        self.ask(progress, |connection| connection.execute(sql).map(drop))
    }
}

/// Lists what is said on this connection from now on, so that a run that is to stop need not wait for the answer.
pub(crate) fn waiting<'a>(progress: &'a Progress, connection: &mut Connection) -> Option<Waiting<'a>> {
    // Without a line to close there is nothing to wait for.
    let hangup = connection.hangup().ok()?;
    let schemas = progress.schemas();
    Some(progress.waiting(move || hangup.interrupt(&schemas)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::mysql::memory::{Event, error, serve};

    fn connect(server: &Server) -> Result<Connection> {
        server.connect()
    }

    #[test]
    fn a_session_that_is_lost_is_opened_again_and_asked_once_more() {
        let asked = AtomicU32::new(0);
        let (server, log) = serve(move |number, sql| {
            (sql == "it" && number == 1).then(|| {
                asked.fetch_add(1, Ordering::Relaxed);
                vec![Event::End]
            })
        });
        let progress = Progress::default();
        let mut session = Steady::open(&server, connect).expect("opened");
        session.execute(&progress, "it").expect("said");
        session.execute(&progress, "more").expect("said");
        let said = [(1, "it"), (2, "it"), (2, "more")].map(|(number, sql)| (number, sql.to_owned()));
        assert_eq!(*log.lock().expect("no test panicked"), said);
        assert_eq!(progress.seen().retries, 1);
    }

    #[test]
    fn what_is_said_once_is_not_said_again_but_the_next_word_finds_a_session() {
        let (server, _) = serve(|number, sql| (sql == "it" && number == 1).then(|| vec![Event::End]));
        let progress = Progress::default();
        let mut session = Steady::open(&server, connect).expect("opened");
        let lost = session.once(&progress, |connection| connection.execute("it")).expect_err("lost");
        assert!(matches!(lost.kind(), Kind::Lost { .. }));
        session.once(&progress, |connection| connection.execute("it")).expect("said");
    }

    #[test]
    fn with_a_session_that_has_a_snapshot_the_snapshot_is_lost_and_never_another_taken() {
        // A deadlock rolls the transaction back: its session would read on, at another instant.
        for answer in [Event::End, error(1213, "Deadlock found")] {
            let (server, log) = serve(move |_, sql| (sql == "it").then(|| vec![answer.clone()]));
            let progress = Progress::default();
            let mut session = Steady::only(server.connect().expect("connected"));
            for sql in ["it", "more"] {
                let lost = session.execute(&progress, sql).expect_err("its snapshot is gone");
                assert!(matches!(lost.kind(), Kind::SnapshotLost { .. }), "{lost}");
                assert!(!lost.is_transient());
            }
            assert_eq!(log.lock().expect("no test panicked").len(), 1, "nothing more is read");
        }
    }

    #[test]
    fn an_error_that_leaves_the_snapshot_is_returned_and_the_session_goes_on() {
        let (server, _) = serve(|_, sql| (sql == "it").then(|| vec![error(3024, "took too long")]));
        let progress = Progress::default();
        let mut session = Steady::only(server.connect().expect("connected"));
        let failed = session.execute(&progress, "it").expect_err("refused");
        assert_eq!(failed.server_code(), Some(3024));
        session.execute(&progress, "more").expect("said");
    }
}
