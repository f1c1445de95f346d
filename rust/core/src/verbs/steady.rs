//! A connection that is opened again when it is lost, for what may simply be said twice.

use crate::error::{Error, Kind, Result};
use crate::mysql::{Connection, Server};
use crate::run::lanes::retry;
use crate::run::progress::Progress;

type Open = fn(&Server) -> Result<Connection>;

pub(super) struct Steady {
    connection: Option<Connection>,
    again: Option<(Server, Open)>,
}

impl Steady {
    pub fn open(server: &Server, open: Open) -> Result<Self> {
        Ok(Self { connection: Some(open(server)?), again: Some((server.clone(), open)) })
    }

    /// A session that has a snapshot: no other can take its place.
    pub fn only(connection: Connection) -> Self {
        Self { connection: Some(connection), again: None }
    }

    /// Says what has no effect when it is said a second time, and says it again while its error may go away.
    pub fn ask<T>(
        &mut self,
        progress: &Progress,
        mut ask: impl FnMut(&mut Connection) -> Result<T>,
    ) -> Result<T> {
        let Some((server, open)) = &self.again else {
            let only =
                self.connection.as_mut().ok_or_else(|| Kind::Internal("a session is missing".into()))?;
            return ask(only).map_err(Error::with_snapshot);
        };
        let connection = &mut self.connection;
        retry(progress, || {
            let mut opened = connection.take().map_or_else(|| open(server), Ok)?;
            let said = ask(&mut opened);
            if !said.as_ref().is_err_and(|error| matches!(error.kind(), Kind::Lost { .. })) {
                *connection = Some(opened);
            }
            said
        })
    }

    pub fn execute(&mut self, progress: &Progress, sql: &str) -> Result<()> {
        self.ask(progress, |connection| connection.execute(sql).map(drop))
    }

    /// The connection, if it is not lost.
    pub fn release(self) -> Option<Connection> {
        self.connection
    }
}
