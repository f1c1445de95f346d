//! What is brought up to date and how, and what came of it: the names are those of the Python plan.

use std::collections::HashSet;

use crate::error::{Kind, Result};
use crate::mysql::binlog::Unknown;
use crate::run::progress::Progress;
use crate::verbs::changed::{ChangedPlan, ChangedSummary, changed_keys};
use serde::{Deserialize, Serialize};

use crate::mysql::Server;
use crate::mysql::chunk::Bound;
use crate::run::throttle::Limits;
use crate::verbs::compare::{ComparedTable, Discrepancy};
use crate::verbs::copy::{LoadBy, TablePlan, default_chunk_bytes, default_lanes, default_memory_bytes};

/// What is brought up to date, and how.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncPlan {
    /// Production.
    pub source: Server,
    /// The server of the copy.
    pub destination: Server,
    /// How many lanes work at a time, each with sessions of its own.
    #[serde(default = "default_lanes")]
    pub lanes: usize,
    /// About how many bytes a chunk has.
    #[serde(default = "default_chunk_bytes")]
    pub chunk_bytes: u64,
    /// What all lanes together may hold of rows, in bytes.
    #[serde(default = "default_memory_bytes")]
    pub memory_bytes: usize,
    /// How rows are loaded.
    #[serde(default)]
    pub load: LoadBy,
    /// What may be taken of production.
    #[serde(default)]
    pub throttle: Limits,
    /// What becomes of rows that somebody else wrote.
    #[serde(default)]
    pub on_conflict: OnConflict,
    /// Everything is looked at and counted, and nothing written.
    #[serde(default)]
    pub dry_run: bool,
    /// The caller keeps everybody from writing to production, so that any snapshots are of one instant.
    #[serde(default)]
    pub held: bool,
    /// So many conflicts are listed, for each table.
    #[serde(default = "default_conflicts")]
    pub max_conflicts: usize,
    /// The tables.
    pub tables: Vec<SyncTable>,
    /// Logs that name what has changed since a position, read while the snapshot is held: production's, and the copy's
    /// for what was written there. The tables of each are those of the plan, in its order, and then others whose
    /// changes cascade into them.
    #[serde(default)]
    pub logs: Vec<ChangedPlan>,
}

fn default_conflicts() -> usize {
    1000
}

/// What becomes of a table that somebody else has written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// It is left alone.
    #[default]
    Stop,
    /// Production's rows take the place of theirs.
    Production,
}

/// A table that is brought up to date.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncTable {
    /// How rows get into the copy.
    pub copy: TablePlan,
    /// What makes rows of both sides equal.
    pub compare: ComparedTable,
    /// What is known of the copy beforehand.
    pub base: Base,
    /// Nobody has written to the copy since its state was noted, so it is read only where production differs.
    #[serde(default)]
    pub trusts_copy: bool,
    /// Rows may stand in each other's way by another unique key than the walked one.
    #[serde(default)]
    pub unique: bool,
    /// Only chunks that may hold one of these keys (whole, or their first columns) are looked at. None: all of them.
    #[serde(default)]
    pub keys: Option<Vec<Bound>>,
    /// Places of the logs of the plan that say which keys those are.
    #[serde(default)]
    pub logs: Vec<usize>,
    /// Those of them that say what was written to the copy.
    #[serde(default)]
    pub copy_logs: Vec<usize>,
    /// Keys of the destination that refer to this table's copy, whichever table has them.
    #[serde(default)]
    pub referring: Vec<Referring>,
    /// What the logs did not say, and why.
    #[serde(skip)]
    pub unknown: Option<Unknown>,
    /// The keys that were written in the copy, by whomever.
    #[serde(skip)]
    pub written: HashSet<Bound>,
}

/// A foreign key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Referring {
    /// The schema of the table that has it.
    pub schema: String,
    /// That table.
    pub table: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// The columns they refer to, in the same order.
    pub references: Vec<String>,
}

/// What is known of the copy beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// What the lines of the state say.
    Lines,
    /// Nothing: every row that differs may be anybody's.
    None,
    /// It was made without rows; the state has lines as soon as it has rows.
    Empty,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct SyncSummary {
    /// `shared` by all lanes, or of a `single` one.
    pub snapshot: &'static str,
    /// How long it took, in seconds.
    pub time_taken: f64,
    /// Each table, in the order of the plan.
    pub tables: Vec<TableSync>,
}

/// What came of a table.
#[derive(Debug, Clone, Serialize)]
pub struct TableSync {
    /// Production's schema.
    pub source_schema: String,
    /// Production's table.
    pub source_table: String,
    /// Rows that production has.
    pub rows: u64,
    /// Rows read, of production and of the copy.
    pub rows_read: u64,
    /// Rows that were read of the copy.
    pub copy_rows_read: u64,
    /// Rows that the copy did not have.
    pub inserted: u64,
    /// Rows that were otherwise in the copy.
    pub updated: u64,
    /// Rows that production does not have any more.
    pub deleted: u64,
    /// Objects made of values.
    pub files_written: u64,
    /// Rows that somebody else wrote.
    pub conflicts: Vec<Discrepancy>,
    /// There are more conflicts than are listed.
    pub truncated: bool,
    /// Tables whose rows stay and refer to rows that production has deleted.
    pub referred: Vec<String>,
    /// The copy holds what production held at the instant of this run.
    #[serde(rename = "match")]
    pub matches: bool,
    /// The base was of no use, so the whole copy was read.
    pub is_whole: bool,
    /// `log` if a log named the keys to be looked at, else `digest`.
    pub by: &'static str,
    /// Why none did, where one was asked.
    pub unknown: Option<Unknown>,
}

/// Pointers of rows that are about to be put: their files have to be there before.
#[derive(Debug, Clone, Serialize)]
pub struct Pointed {
    /// Its schema in production.
    pub schema: String,
    /// Its table.
    pub table: String,
    /// Its name.
    pub column: String,
    /// In hexadecimal; none if there are too many to be named.
    pub hashes: Option<Vec<String>>,
}

impl SyncPlan {
    /// The plan with the keys that the logs name.
    pub(super) fn asked(&self, progress: &Progress) -> Result<Self> {
        let mut plan = self.clone();
        for (number, log) in self.logs.iter().enumerate() {
            if log.tables.len() < plan.tables.len() {
                return Err(Kind::Plan("a log is not about the tables of the plan".into()).into());
            }
            let said = match changed_keys(log, progress) {
                Ok(said) => said,
                // What cannot be understood says nothing, and there is another way.
                Err(error) if matches!(error.kind(), Kind::Protocol(_)) => ChangedSummary::nothing(&error),
                Err(error) => return Err(error),
            };
            let mut changed = said.tables.into_iter();
            for table in &mut plan.tables {
                let (keys, unknown) =
                    changed.next().map_or((Vec::new(), None), |one| (one.keys, one.unknown));
                if table.logs.contains(&number) {
                    table.unknown = table.unknown.take().or(said.unknown.clone()).or(unknown);
                    if table.copy_logs.contains(&number) {
                        table.written.extend(keys.iter().cloned());
                    }
                    table.keys.get_or_insert_default().extend(keys);
                }
            }
        }
        for table in plan.tables.iter_mut().filter(|table| table.unknown.is_some()) {
            table.keys = None;
        }
        Ok(plan)
    }

    /// The tables that the snapshot is of.
    pub(super) fn read(&self) -> Vec<(&str, &str)> {
        let mut read = Vec::new();
        for table in &self.tables {
            read.push((table.copy.source_schema.as_str(), table.copy.source_table.as_str()));
            for pointer in table.copy.columns.iter().filter_map(|column| column.pointer.as_ref()) {
                read.push((&pointer.tracking_schema, &pointer.tracking_table));
            }
        }
        read
    }
}
