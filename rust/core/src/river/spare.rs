//! Watching the load of a source for the throttle of a run.

use crate::error::{Kind, Result};
use crate::mysql::names::text_literal;
use crate::mysql::session::open_reader;
use crate::mysql::{Connection, Server};
use crate::run::progress::Progress;
use crate::run::throttle::{AskLoad, Limits, Throttle};

/// Makes the run keep the limits. Asks for the load once, so that a variable the server lacks is told at once.
pub(crate) fn spare(source: &Server, limits: &Limits, progress: &Progress) -> Result<()> {
    if limits.is_unlimited() {
        return Ok(());
    }
    let names: Vec<_> = limits.max_load.iter().map(|(name, _)| name.clone()).collect();
    let mut ask: AskLoad = Box::new(|| Ok(Vec::new()));
    if !names.is_empty() {
        let server = source.clone();
        let mut connection = Some(open_reader(source)?);
        ask = Box::new(move || {
            if let Some(open) = &mut connection {
                match load(open, &names) {
                    Err(error) if error.is_transient() => {}
                    told => return told,
                }
            }
            // The connection idles for as long as the run is paused, and a server may have closed it.
            load(connection.insert(open_reader(&server)?), &names)
        });
        ask()?;
    }
    progress.spare(Throttle::new(limits.clone(), ask));
    // A snapshot, too, is opened when the source may be read.
    progress.turn()
}

fn load(connection: &mut Connection, names: &[String]) -> Result<Vec<f64>> {
    let wanted: Vec<_> = names.iter().map(|name| text_literal(name)).collect();
    let rows =
        connection.query(&format!("SHOW GLOBAL STATUS WHERE Variable_name IN ({})", wanted.join(", ")))?;
    let text = |cell: Option<&Option<Vec<u8>>>| {
        cell.and_then(Option::as_ref).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let value = |name: &String| {
        let row =
            rows.iter().find(|row| text(row.first()).is_some_and(|found| found.eq_ignore_ascii_case(name)));
        let told = row.ok_or_else(|| {
            Kind::Plan(format!("max_load names {name}, which is no status variable of the server"))
        })?;
        text(told.get(1))
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| Kind::Plan(format!("max_load names {name}, whose value is no number")).into())
    };
    names.iter().map(value).collect()
}
