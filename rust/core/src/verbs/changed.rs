//! Which keys changed since a position in the binary log, and where the log ends.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::mysql::Server;
use crate::mysql::binlog::dump::{self, Log};
use crate::mysql::binlog::{Budget, Cascade, Changed, Collector, Position, Unknown, Wanted};
use crate::mysql::session::open_reader;
use crate::run::progress::Progress;

/// Whose log's position is asked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PositionPlan {
    /// The server.
    pub server: Server,
}

/// One of the two is there.
#[derive(Debug, Clone, Serialize)]
pub struct PositionSummary {
    /// The position; nothing where `unknown` says why.
    pub position: Option<Position>,
    /// Why there is none.
    pub unknown: Option<Unknown>,
}

/// Where the log of a server ends now: behind everything that whoever looks from now on sees.
pub fn log_position(plan: &PositionPlan, _: &Progress) -> Result<PositionSummary> {
    let mut connection = open_reader(&plan.server)?;
    Ok(match dump::position(&mut connection)? {
        Ok(position) => PositionSummary { position: Some(position), unknown: None },
        Err(unknown) => PositionSummary { position: None, unknown: Some(unknown) },
    })
}

/// Which changes are asked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangedPlan {
    /// The server.
    pub server: Server,
    /// Where reading begins.
    pub since: Position,
    /// The tables of which changes are wanted.
    pub tables: Vec<Wanted>,
    /// Foreign keys by which the server changes rows itself.
    #[serde(default)]
    pub cascades: Vec<Cascade>,
    /// Statements, word for word, of which the caller knows that they change no row and no column's type.
    #[serde(default)]
    pub harmless: Vec<String>,
    /// Keys that are kept of one table; what changed more is looked at in another way.
    #[serde(default = "default_max_keys")]
    pub max_keys: usize,
    /// Bytes that the keys of all tables may take.
    #[serde(default = "default_max_bytes")]
    pub max_bytes: usize,
}

fn default_max_keys() -> usize {
    1_000_000
}

fn default_max_bytes() -> usize {
    64 << 20
}

/// What a log says of changes.
#[derive(Debug, Clone, Serialize)]
pub struct ChangedSummary {
    /// In the order of the plan.
    pub tables: Vec<Changed>,
    /// Why the log says nothing of any table.
    pub unknown: Option<Unknown>,
    /// How many events were read.
    pub events: u64,
    /// Bytes of the log that were read.
    pub bytes: u64,
}

impl ChangedSummary {
    /// What a log says that could not be understood.
    pub(super) fn nothing(error: &Error) -> Self {
        let unknown = Some(Unknown::new("damaged", error.to_string()));
        Self { tables: Vec::new(), unknown, events: 0, bytes: 0 }
    }
}

/// Reads the log from a position to its end. Everything that was committed before the call and not before the position is in
/// what it says.
pub fn changed_keys(plan: &ChangedPlan, progress: &Progress) -> Result<ChangedSummary> {
    let mut connection = open_reader(&plan.server)?;
    let habits = dump::habits(&mut connection)?;
    let budget = Budget { keys: plan.max_keys, bytes: plan.max_bytes };
    let collector = Collector::new(plan.tables.clone(), plan.cascades.clone(), habits, budget)?;
    // A sync changes rows and what is noted of them at once: those are no news.
    let mut collector = collector.but_with(super::sync::STATE).but_for(&plan.harmless);
    let mut bytes = 0;
    let mut unknown = dump::unusable(&mut connection)?;
    if unknown.is_none() && dump::identity(&mut connection)? != plan.since.server {
        unknown = Some(Unknown::new("other_server", "the position is one in the log of another server"));
    }
    if unknown.is_none() {
        unknown = read(plan, &mut collector, &mut bytes, progress)?;
    }
    let events = collector.events();
    let (tables, found) = collector.finish()?;
    Ok(ChangedSummary { tables, unknown: unknown.or(found), events, bytes })
}

fn read(
    plan: &ChangedPlan,
    collector: &mut Collector,
    bytes: &mut u64,
    progress: &Progress,
) -> Result<Option<Unknown>> {
    let mut log = match Log::open(&plan.server, &plan.since.file, plan.since.offset) {
        Ok(log) => log,
        Err(error) => return dump::refused(error).map(Some),
    };
    let mut proved = false;
    loop {
        progress.check()?;
        let event = match log.event() {
            Ok(Some(event)) => event,
            Ok(None) => break,
            Err(error) => return dump::refused(error).map(Some),
        };
        *bytes += event.len() as u64;
        collector.event(event)?;
        if let (false, Some(began)) = (proved, collector.began()) {
            if began != plan.since.began {
                let detail = format!("{} was begun anew since then", plan.since.file);
                return Ok(Some(Unknown::new("reset", detail)));
            }
            proved = true;
        }
        if collector.knows_nothing() {
            return Ok(None);
        }
    }
    if proved { Ok(None) } else { Err(Kind::Protocol("a log without its description".into()).into()) }
}
