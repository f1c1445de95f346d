//! Silence on a connection: a server that is busy, or a line that lost something.
//!
//! A statement may take hours without a byte, so a silence alone proves nothing, and a plain time-out would end what is only
//! slow. Over a second connection the server is asked what the session is doing. It is lost if the server cannot be
//! reached, knows no such session, is done with it, or waits for us while we wait for it; and only if that is still so a
//! while later, because an answer may arrive just while we ask.

use std::time::Duration;

use super::connect::Server;
use super::query::{Connection, TextRow};
use crate::error::{Kind, Result};

/// What this side of the connection is trying to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    ToReceive,
    ToSend,
}

/// Judges the silences of one connection.
pub struct Silence {
    server: Server,
    /// The session, by the number the server gave it.
    id: u32,
    suspected: bool,
}

impl Silence {
    pub fn new(server: Server, id: u32) -> Self {
        Self { server, id, suspected: false }
    }

    /// How long a silence lasts before it is judged.
    pub fn patience(&self) -> Duration {
        let whole = self.server.patience();
        if self.suspected { whole / 4 } else { whole }
    }

    /// Forgets a suspicion; true if there was one.
    pub fn forget(&mut self) -> bool {
        std::mem::take(&mut self.suspected)
    }

    /// Judges a silence that has lasted for `patience`: `Lost` if it will never end.
    pub fn last(&mut self, waiting: Waiting) -> Result<()> {
        let Some(why) = self.broken(waiting) else {
            self.suspected = false;
            return Ok(());
        };
        if !std::mem::replace(&mut self.suspected, true) {
            return Ok(());
        }
        let message = format!("no byte for {} seconds; {why}", self.server.patience().as_secs());
        Err(Kind::Lost { server: self.server.name(), message }.into())
    }

    fn broken(&self, waiting: Waiting) -> Option<String> {
        let asked = self.server.connect_briefly().and_then(|mut connection| {
            let rows = connection.query("SHOW PROCESSLIST")?;
            Ok((connection, rows))
        });
        match asked {
            Ok((connection, rows)) => self.verdict(&connection, &rows, waiting).map(str::to_owned),
            // A server that answers is there, whatever it answers.
            Err(error) if error.server_code().is_some() => None,
            Err(error) => Some(error.to_string()),
        }
    }

    fn verdict(&self, asking: &Connection, rows: &[TextRow], waiting: Waiting) -> Option<&'static str> {
        let session = |id: u32| rows.iter().find(|row| text(row, 0) == id.to_string());
        // Behind a proxy that numbers its sessions itself the list tells nothing.
        session(asking.id)?;
        let Some(row) = session(self.id) else { return Some("the server has ended the session") };
        if text(row, 4) == "Sleep" {
            return Some(match waiting {
                Waiting::ToReceive => "the server is done, but its answer did not arrive",
                Waiting::ToSend => "the server does not receive what is sent",
            });
        }
        match (text(row, 6).as_str(), waiting) {
            ("Sending to client" | "Writing to net", _) => Some("the server is sending, but nothing arrives"),
            ("Receiving from client" | "Reading from net", _) => {
                Some("the server is waiting for data, but nothing arrives there")
            }
            _ => None,
        }
    }
}

fn text(row: &TextRow, index: usize) -> String {
    row.get(index)
        .and_then(Option::as_ref)
        .map_or_else(String::new, |bytes| String::from_utf8_lossy(bytes).into_owned())
}
