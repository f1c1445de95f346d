//! Silence on a connection: a server that is busy, or a line that lost something.
//!
//! A statement may take hours without a byte, so a silence alone proves nothing, and a plain time-out would end what is only
//! slow. Over a second connection the server is asked what the session is doing. It is lost if the server cannot be
//! reached, knows no such session, is done with it, or waits for us while we wait for it; and only if that is still so a
//! while later, because an answer may arrive just while we ask.

use std::time::Duration;

use super::connect::Server;
use super::query::{Connection, TextRow};
use super::settings::FREE;
use super::wire::{Judge, Waiting};
use crate::error::{Kind, Result};

/// Judges the silences of one connection.
pub struct Silence {
    server: Server,
    /// The session, by the number the server gave it.
    id: u32,
    suspected: bool,
}

impl Silence {
    #[must_use]
    pub fn new(server: Server, id: u32) -> Self {
        Self { server, id, suspected: false }
    }

    fn broken(&self, waiting: Waiting) -> Option<String> {
        let asked = self.server.connect_briefly().and_then(|mut connection| {
            connection.execute(FREE)?;
            let rows = connection.query("SHOW PROCESSLIST")?;
            Ok((connection, rows))
        });
        match asked {
            Ok((connection, rows)) => self.verdict(&connection, &rows, waiting).map(str::to_owned),
            Err(error) if matches!(error.kind(), Kind::Connect { .. } | Kind::Lost { .. }) => {
                Some(error.to_string())
            }
            // A server that answers is there, whatever it answers: no free connection, another password, no TLS.
            Err(_) => None,
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

impl Judge for Silence {
    fn patience(&self) -> Duration {
        let whole = self.server.patience();
        if self.suspected { whole / 4 } else { whole }
    }

    fn last(&mut self, waiting: Waiting) -> Result<()> {
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

    fn forget(&mut self) -> bool {
        std::mem::take(&mut self.suspected)
    }
}

/// Why a session of this server will not answer any more; None if it may. For sessions that others have opened.
#[must_use]
pub fn why_broken(server: &Server, id: u32) -> Option<String> {
    Silence::new(server.clone(), id).broken(Waiting::ToReceive)
}

fn text(row: &TextRow, index: usize) -> String {
    row.get(index)
        .and_then(Option::as_ref)
        .map_or_else(String::new, |bytes| String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::mysql::memory::{Event, Memory, error, listen, rows, serve};

    const WATCHED: u32 = 77;

    type Listed = Option<(&'static str, &'static str)>;

    /// A server whose list of sessions has whoever asks, and the watched one as `listed` says at that time.
    fn listing(listed: Arc<Mutex<Listed>>) -> Server {
        let line = |id: u32, (command, state): (&str, &str)| -> TextRow {
            let cells = [&id.to_string(), "u", "here", "", command, "9", state, ""];
            cells.iter().map(|cell| Some(cell.as_bytes().to_vec())).collect()
        };
        let names = ["Id", "User", "Host", "db", "Command", "Time", "State", "Info"];
        let say = move |number, sql: &str| {
            (sql == "SHOW PROCESSLIST").then(|| {
                let watched = *listed.lock().expect("no test panicked");
                let mut lines = vec![line(number, ("Query", "starting"))];
                lines.extend(watched.map(|said| line(WATCHED, said)));
                rows(&names, &lines)
            })
        };
        serve(say).0
    }

    #[test]
    fn a_session_that_works_is_waited_for_and_one_that_is_over_or_idle_is_not() {
        for (listed, receiving, sending) in [
            (None, Some("ended the session"), Some("ended the session")),
            (Some(("Sleep", "")), Some("its answer did not arrive"), Some("does not receive")),
            (Some(("Query", "Sending to client")), Some("nothing arrives"), Some("nothing arrives")),
            (Some(("Query", "Reading from net")), Some("nothing arrives there"), Some("nothing arrives")),
            (Some(("Query", "Sending data")), None, None),
            (Some(("Execute", "Waiting for table metadata lock")), None, None),
        ] {
            let silence = Silence::new(listing(Arc::new(Mutex::new(listed))), WATCHED);
            for (waiting, wanted) in [(Waiting::ToReceive, receiving), (Waiting::ToSend, sending)] {
                let why = silence.broken(waiting);
                match (&why, wanted) {
                    (None, None) => {}
                    (Some(why), Some(wanted)) => assert!(why.contains(wanted), "{listed:?}: {why}"),
                    _ => panic!("{listed:?} {waiting:?}: {why:?}"),
                }
            }
        }
    }

    #[test]
    fn a_session_is_lost_only_if_it_is_still_silent_a_while_later() {
        let listed = Arc::new(Mutex::new(Some(("Sleep", ""))));
        let mut silence = Silence::new(listing(listed.clone()), WATCHED);
        assert_eq!(silence.patience(), Duration::from_secs(60));
        silence.last(Waiting::ToReceive).expect("suspected");
        assert_eq!(silence.patience(), Duration::from_secs(15));
        // Bytes moved.
        assert!(silence.forget() && !silence.forget());
        silence.last(Waiting::ToReceive).expect("suspected anew");
        // It works after all.
        *listed.lock().expect("no test panicked") = Some(("Query", "Sending data"));
        silence.last(Waiting::ToReceive).expect("not suspected");
        assert_eq!(silence.patience(), Duration::from_secs(60));
        *listed.lock().expect("no test panicked") = None;
        silence.last(Waiting::ToReceive).expect("suspected again");
        let lost = silence.last(Waiting::ToReceive).expect_err("lost");
        assert!(matches!(lost.kind(), Kind::Lost { .. }), "{lost}");
        assert!(lost.to_string().contains("no byte for 60 seconds; the server has ended the session"));
    }

    #[test]
    fn a_server_that_cannot_be_reached_is_gone_and_one_that_takes_nobody_else_is_there() {
        let gone = listen(|_| Err(std::io::ErrorKind::ConnectionRefused.into()));
        assert!(why_broken(&gone, WATCHED).is_some());
        let hangs_up = listen(|_| Ok(Memory::new(vec![Event::End], |_| Vec::new())));
        assert!(why_broken(&hangs_up, WATCHED).is_some());
        for code in [1040, 1203, 1130] {
            let full = listen(move |_| Ok(Memory::new(vec![error(code, "full")], |_| Vec::new())));
            assert_eq!(why_broken(&full, WATCHED), None, "{code}");
        }
        let refuses = serve(|_, sql| (sql == "SHOW PROCESSLIST").then(|| vec![error(1226, "no more")])).0;
        assert_eq!(why_broken(&refuses, WATCHED), None);
    }

    #[test]
    fn behind_a_proxy_that_numbers_sessions_itself_the_list_says_nothing() {
        let others = rows(&["Id"], &[vec![Some(b"5".to_vec())]]);
        let (server, _) = serve(move |_, sql| (sql == "SHOW PROCESSLIST").then(|| others.clone()));
        assert_eq!(why_broken(&server, WATCHED), None);
    }
}
