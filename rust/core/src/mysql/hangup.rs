//! Ending the statement of a session that nobody listens to any more.
//!
//! A closed socket ends what this side waits for, but a server looks at a socket only when it writes to it: a statement that
//! finds no row would go on for hours.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;

use super::connect::Server;
use super::names::quote;
use super::query::TextRow;

/// The other end of a connection's line.
pub(super) enum Line {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Line {
    pub(super) fn close(&self) {
        // A line that is closed already is what is wanted.
        let _: io::Result<()> = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

/// What hangs up on a server from another thread.
pub struct Hangup {
    pub(super) server: Server,
    pub(super) id: u32,
    pub(super) line: Line,
}

impl Hangup {
    /// Ends the statement of this session, if it reads or writes one of these schemas, and closes the line: whoever waits for
    /// an answer fails at once.
    pub fn interrupt(self, schemas: &[String]) {
        // Closed first: whoever waits need not wait for the login of the session that ends the statement.
        self.close();
        let texts: Vec<String> = schemas.iter().map(|schema| format!("{}.", quote(schema))).collect();
        Self::end(std::slice::from_ref(&self), &texts);
    }

    /// Closes the line: whoever reads from it or writes to it fails at once.
    pub fn close(&self) {
        self.line.close();
    }

    /// Ends those of the sessions that still run a statement with one of `texts` in it. What cannot be told is left to the server:
    /// behind a proxy the number may be another's.
    pub fn end(sessions: &[Self], texts: &[String]) {
        let (Some(first), false) = (sessions.first(), texts.is_empty()) else { return };
        let Ok(mut connection) = first.server.connect_briefly() else { return };
        let Ok(rows) = connection.query("SHOW FULL PROCESSLIST") else { return };
        for session in sessions {
            let runs = |row: &TextRow| {
                let field = |index: usize| {
                    let bytes = row.get(index).and_then(Option::as_deref).unwrap_or_default();
                    String::from_utf8_lossy(bytes).into_owned()
                };
                field(0) == session.id.to_string() && texts.iter().any(|text| field(7).contains(text))
            };
            if rows.iter().any(runs) {
                // It may have ended by itself meanwhile.
                let _ = connection.execute(&format!("KILL {}", session.id));
            }
        }
    }
}
