//! The error policy of the engine.
//!
//! * One enum. A variant says what happened in the words of the field, and where: server, table, chunk, column, file.
//! * Every variant has a stable code (`DJM-…`), a kind (the Python exception it becomes) and, where there is a way out, a hint.
//! * Context is added once, where the place is known (`at`), never by wrapping an error in another of the same kind.
//! * Whether an error may go away by itself is a property of the error (`is_transient`), decided here and nowhere else.
//! * Nothing that a server, a file or a user can send makes the engine panic.

use crate::mysql::numbers::{self, DENIED, UNREACHABLE};
use std::fmt;

/// What may fail here fails with `Error`.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong and where.
#[derive(Debug, thiserror::Error)]
#[error("{place}{kind}")]
pub struct Error {
    kind: Box<Kind>,
    place: Place,
}

/// Where it went wrong, outermost first: `lab.session, chunk 3: `.
#[derive(Debug, Default)]
struct Place(Vec<String>);

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.iter().rev().enumerate() {
            if index > 0 {
                out.write_str(", ")?;
            }
            out.write_str(part)?;
        }
        if self.0.is_empty() { Ok(()) } else { out.write_str(": ") }
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each says what it is in its message")]
pub enum Kind {
    #[error("cannot connect to {server}: {message}")]
    Connect { server: String, message: String },
    #[error("no trusted TLS connection to {server}: {message}")]
    Tls { server: String, message: String },
    #[error("no login to {server}: {message}")]
    Unproved { server: String, message: String, hint: &'static str },
    #[error("{server} refused the login: {message}")]
    Login { server: String, message: String },
    #[error("the connection to {server} was lost: {message}")]
    Lost { server: String, message: String },
    #[error("the connection to {server} was lost, and with it the snapshot of this run: {message}")]
    SnapshotLost { server: String, message: String },
    #[error("the server answered error {code} ({state}): {message}")]
    Server { code: u16, state: String, message: String },
    #[error("{0}")]
    Setting(String),
    #[error(
        "the chunks of {table} do not go on: after the key {lower} comes {next}, which does not lie beyond it"
    )]
    Stuck { table: String, lower: String, next: String },
    #[error("the server sent something the protocol does not allow: {0}")]
    Protocol(String),
    #[error("column `{column}` has type {type_name}, which this engine does not read")]
    UnknownType { column: String, type_name: String },
    #[error("{0}")]
    Value(String),
    #[error("the value of `{column}` has no row in the tracking table {table} (hash {hash})")]
    MissingTracking { column: String, table: String, hash: String },
    #[error("{path}: {message}")]
    File { path: String, message: String },
    #[error("the store {store}: {message}")]
    Store { store: String, message: String },
    #[error("{path}: {message}")]
    Archive { path: String, message: String },
    #[error("{0}: the snapshot was given up, so that nobody waits for it")]
    GaveWay(String),
    #[error("{0}")]
    Mismatch(String),
    #[error("the plan is not valid: {0}")]
    Plan(String),
    #[error("stopped on request")]
    Cancelled,
    #[error("an internal error: {0}")]
    Internal(String),
}

impl Error {
    /// Adds the place, once it is known, in front of the places within it.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place.0.push(place.into());
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The stable code, for documents and for searching.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match *self.kind {
            Kind::Connect { .. } => "DJM-1101",
            Kind::Login { .. } => "DJM-1102",
            Kind::Lost { .. } | Kind::SnapshotLost { .. } => "DJM-1103",
            Kind::Tls { .. } | Kind::Unproved { .. } => "DJM-1104",
            Kind::GaveWay(_) => "DJM-1105",
            Kind::Server { code, .. } if UNREACHABLE.contains(&code) => "DJM-1101",
            Kind::Server { code, .. } if DENIED.contains(&code) => "DJM-1201",
            Kind::Server { code: 1049 | 1051 | 1054 | 1146, .. } => "DJM-1202",
            Kind::Server { .. } => "DJM-1203",
            Kind::Setting(_) => "DJM-1205",
            Kind::Protocol(_) => "DJM-1204",
            Kind::Stuck { .. } => "DJM-1207",
            Kind::UnknownType { .. } => "DJM-1301",
            Kind::Value(_) => "DJM-1302",
            Kind::MissingTracking { .. } => "DJM-1401",
            Kind::File { .. } => "DJM-1402",
            Kind::Store { .. } => "DJM-1405",
            Kind::Archive { .. } => "DJM-1406",
            Kind::Plan(_) => "DJM-1501",
            Kind::Cancelled => "DJM-1601",
            Kind::Mismatch(_) => "DJM-1701",
            Kind::Internal(_) => "DJM-1901",
        }
    }

    /// The name of the Python exception this becomes (`datajoint_migrate.errors`).
    #[must_use]
    pub fn class(&self) -> &'static str {
        match *self.kind {
            Kind::Connect { .. }
            | Kind::Tls { .. }
            | Kind::Unproved { .. }
            | Kind::Login { .. }
            | Kind::Lost { .. }
            | Kind::SnapshotLost { .. } => "ConnectionFailed",
            Kind::Server { code, .. } if UNREACHABLE.contains(&code) => "ConnectionFailed",
            Kind::Server { code, .. } if DENIED.contains(&code) => "PermissionMissing",
            Kind::Server { code: 1049 | 1051 | 1054 | 1146, .. } => "NotFound",
            Kind::Server { .. } | Kind::Setting(_) | Kind::Stuck { .. } => "ServerError",
            Kind::UnknownType { .. } | Kind::Value(_) => "Unconvertible",
            Kind::MissingTracking { .. } | Kind::File { .. } => "ExternalMissing",
            Kind::Store { .. } => "StoreFailed",
            Kind::Archive { .. } => "ArchiveFailed",
            Kind::Mismatch(_) => "Mismatch",
            Kind::GaveWay(_) => "GaveWay",
            Kind::Plan(_) => "InvalidArgument",
            Kind::Cancelled => "Interrupted",
            Kind::Protocol(_) | Kind::Internal(_) => "InternalError",
        }
    }

    /// What the operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match *self.kind {
            Kind::Connect { .. } => "check host, port and that the server is running",
            Kind::Tls { .. } => {
                "check ssl_mode, and that ssl_ca is the authority of the server's certificate"
            }
            Kind::Unproved { hint, .. } => hint,
            Kind::Login { .. } => "check user, password and ssl_mode",
            Kind::Lost { .. } | Kind::SnapshotLost { .. } => {
                "start the same call again when the server is back: finished chunks are not repeated"
            }
            Kind::Server { code, ref message, .. } => return numbers::hint(code, message),
            Kind::Setting(_) => crate::mysql::settings::REFUSAL_HINT,
            Kind::Stuck { .. } => {
                "nothing was read twice; look at the table with CHECK TABLE, and if a call is resumed, at whether its journal was changed"
            }
            Kind::MissingTracking { .. } => {
                "0.14.6 cannot fetch this value either; set it to NULL or restore the row, or leave it out with a where_clause"
            }
            Kind::Store { .. } => {
                "when that is mended, start the same call again: what is copied already is not copied again"
            }
            Kind::GaveWay(_) => {
                "start the same call again when that statement is done: finished chunks are not repeated"
            }
            Kind::Cancelled => "start the same call again to go on: finished chunks are not repeated",
            _ => return None,
        })
    }

    /// The error of a connection whose snapshot no other connection can have again.
    #[must_use]
    pub fn with_snapshot(self) -> Self {
        match *self.kind {
            Kind::Lost { server, message } => {
                Self { kind: Box::new(Kind::SnapshotLost { server, message }), place: self.place }
            }
            kind => Self { kind: Box::new(kind), place: self.place },
        }
    }

    /// True if the same statement may succeed when it is tried again: lost connections, deadlocks, lock time-outs, a server
    /// or a user with no connection left.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match &*self.kind {
            Kind::Lost { .. } | Kind::Connect { .. } => true,
            Kind::Server { code, message, .. } => {
                matches!(code, 1205 | 1213 | 1040 | 1203 | 1226 | 1053 | 1077 | 1927 | 3024)
                    && !numbers::is_hourly(*code, message)
            }
            _ => false,
        }
    }

    /// The number of the server's error, where a server said it.
    #[must_use]
    pub fn server_code(&self) -> Option<u16> {
        match *self.kind {
            Kind::Server { code, .. } => Some(code),
            _ => None,
        }
    }

    /// True if the server asked for the password itself and may not have it.
    #[must_use]
    pub fn is_unproved(&self) -> bool {
        matches!(*self.kind, Kind::Unproved { .. })
    }

    /// True if the run was told to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(*self.kind, Kind::Cancelled)
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Self { kind: Box::new(kind), place: Place::default() }
    }
}

/// Adds a place to the error of a result.
pub trait At<T> {
    /// Names the place where an error happened: `lab.session`. The outermost comes first.
    fn at(self, place: impl FnOnce() -> String) -> Result<T>;
}

impl<T> At<T> for Result<T> {
    fn at(self, place: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| error.at(place()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_places_from_the_outside_in() {
        let error = Error::from(Kind::Value("too long".into())).at("column `b`").at("lab.session");
        assert_eq!(error.to_string(), "lab.session, column `b`: too long");
    }
}
