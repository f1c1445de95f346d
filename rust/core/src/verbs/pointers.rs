//! Converting the pointers of a table that is there already: a map `(hash, js)` is loaded beside it, and a new column is
//! filled from the map inside the server, chunk by chunk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arrow_array::builder::LargeBinaryBuilder;
use arrow_array::{ArrayRef, RecordBatch};
use serde::{Deserialize, Serialize};

use super::copy::{default_lanes, default_memory_bytes};
use crate::convert::Convert;
use crate::convert::pointer::{Pointer, TrackingColumns};
use crate::convert::tracking::TRACKING;
use crate::error::{At, Kind, Result};
use crate::mysql::chunk::Chunk;
use crate::mysql::load::{Load, Store, allows_infile};
use crate::mysql::names::{qualified, quote};
use crate::mysql::session;
use crate::mysql::walk::{Walk, WalkOf};
use crate::mysql::{Connection, Server};
use crate::river::cutter::Cutter;
use crate::river::flow::{Counts, Flow};
use crate::river::read::Bounds;
use crate::river::sink::Piece;
use crate::river::sinks::rows::{Rows, Writer};
use crate::river::source;
use crate::river::spare::spare;
use crate::river::steady::Steady;
use crate::run::lanes::run;
use crate::run::memory::LargeRows;
use crate::run::progress::Progress;
use crate::run::throttle::Limits;

/// Pointers that become JSON in a table that is there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointersPlan {
    /// The server with the tracking table.
    pub source: Server,
    /// The server with the map and the column.
    pub destination: Server,
    /// What is known of the column.
    pub pointer: Pointer,
    /// The schema of the map from hashes to JSON.
    pub map_schema: String,
    /// The map, made anew.
    pub map_table: String,
    /// The column that is filled once the map is there.
    #[serde(default)]
    pub fill: Option<FillPlan>,
    /// How many lanes work at a time, each with sessions of its own.
    #[serde(default = "default_lanes")]
    pub lanes: usize,
    #[serde(default)]
    /// What spares the server.
    pub throttle: Limits,
}

/// A column that is filled with JSON.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FillPlan {
    /// The schema of its table.
    pub schema: String,
    /// Its table.
    pub table: String,
    /// The columns of a unique index without NULLs, in its order; empty if there is none.
    #[serde(default)]
    pub key: Vec<String>,
    /// The name of that index.
    #[serde(default)]
    pub index: Option<String>,
    /// The column of BINARY(16) pointers.
    pub column: String,
    /// The column that takes the JSON: values that are there already stay, unless outdated ones are asked for.
    pub into: String,
    /// Columns that would note the time of a change, and are not to note this one.
    #[serde(default)]
    pub stamps: Vec<String>,
    /// Rows that have the JSON of another pointer are filled, too.
    #[serde(default)]
    pub renew: bool,
    /// Where the JSON goes, if not into the table itself.
    #[serde(default)]
    pub part: Option<PartPlan>,
}

/// A table with the same key that has a row for every row.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartPlan {
    /// The table.
    pub table: String,
    /// The column that keeps the pointer a row was made of.
    pub of: String,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct PointersSummary {
    /// Rows of the map.
    pub rows: u64,
    /// Pointers converted by this call.
    pub filled: u64,
    /// How long it took, in seconds.
    pub time_taken: f64,
}

/// Rows of a chunk that is filled in one transaction: small, because other sessions may use the table.
const FILLED_ROWS: u64 = 5_000;
/// A row that refers to one that is gone meanwhile.
const NO_PARENT: u16 = 1452;
const TRIES: u32 = 5;
/// Rows of the map that are committed together.
const MAP_ROWS: u64 = 250_000;

/// Makes the map table anew and fills it with one row for each tracking row.
pub fn pointers(plan: &PointersPlan, progress: &Progress) -> Result<PointersSummary> {
    let begun = Instant::now();
    spare(&plan.source, &plan.throttle, progress)?;
    let pointer = &plan.pointer;
    let tracking = qualified(&pointer.tracking_schema, &pointer.tracking_table);
    progress.at(&format!("{}.{}", pointer.tracking_schema, pointer.tracking_table));
    let mut control = Steady::open(&plan.destination, session::open_loader)?;
    let map = qualified(&plan.map_schema, &plan.map_table);
    control.execute(progress, &format!("DROP TABLE IF EXISTS {map}"))?;
    control.execute(
        progress,
        &format!(
            "CREATE TABLE IF NOT EXISTS {map} (`hash` BINARY(16) NOT NULL PRIMARY KEY, \
             `js` LONGTEXT CHARACTER SET utf8mb4 NOT NULL) ENGINE=InnoDB"
        ),
    )?;
    let rows = fill_map(plan, &mut control, progress).at(|| tracking)?;
    let filled = match &plan.fill {
        Some(fill) => {
            fill_column(plan, fill, &map, progress).at(|| format!("{}.{}", fill.schema, fill.table))?
        }
        None => 0,
    };
    Ok(PointersSummary { rows, filled, time_taken: begun.elapsed().as_secs_f64() })
}

/// Loads what each tracking row becomes.
fn fill_map(plan: &PointersPlan, control: &mut Steady, progress: &Progress) -> Result<u64> {
    let key = ["hash".to_owned()];
    let of = WalkOf {
        schema: &plan.pointer.tracking_schema,
        table: &plan.pointer.tracking_table,
        key: &key,
        index: None,
        filter: None,
    };
    let mut source = Steady::open(&plan.source, session::open_reader)?;
    let walk = source.ask(progress, |source| Walk::new(source, of))?;
    let target = (plan.map_schema.as_str(), plan.map_table.as_str());
    let stores = [("hash", Store::Plain), ("js", Store::Plain)];
    let load = control.ask(progress, |control| {
        let infile = allows_infile(control)?;
        Load::new(control, target, &stores, infile)
    })?;
    // A table that is walked is named `s`.
    let columns = TRACKING.replace("e.`", "s.`");
    let mut writer = Writer::open(&plan.destination)?;
    let batch_bytes = plan.throttle.piece(4 << 20) as usize;
    let bounds = &Bounds { batch_bytes, large: LargeRows::of(default_memory_bytes()), copies: 1 };
    let flow = Flow { progress, bounds, pays: true, counts: Counts::Nothing };
    let mut rows = 0;
    Cutter::new(&walk).each(
        &mut source,
        progress,
        || MAP_ROWS,
        |source, piece| {
            let within = walk.condition(&piece.chunk)?;
            let sql = format!("SELECT {columns} FROM {}{within}{}", walk.from(), walk.order_by());
            let mut sink = Rows::new(&mut writer, &load, None, progress);
            flow.chunk(
                &mut source::Rows::new(source, sql, progress),
                &mut Mapped(&plan.pointer),
                &mut sink,
                &piece,
            )?;
            rows += sink.rows();
            Ok(())
        },
    )?;
    Ok(rows)
}

/// Makes of each tracking row that the column points to its hash and the JSON it becomes.
struct Mapped<'a>(&'a Pointer);

impl Convert for Mapped<'_> {
    fn convert(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        let tracked = TrackingColumns::new(batch.columns())?;
        let (mut hashes, mut json) = (LargeBinaryBuilder::new(), LargeBinaryBuilder::new());
        for index in 0..batch.num_rows() {
            let Some(row) = tracked.row(index)?.filter(|row| self.0.fits(row)) else { continue };
            hashes.append_value(row.hash);
            json.append_value(self.0.json(&row)?);
        }
        let arrays: Vec<ArrayRef> = vec![Arc::new(hashes.finish()), Arc::new(json.finish())];
        let named = ["hash", "js"].into_iter().zip(arrays);
        RecordBatch::try_from_iter(named).map_err(|error| Kind::Internal(error.to_string()).into())
    }
}

/// Fills the new column, so that a call that was stopped is simply called again.
fn fill_column(plan: &PointersPlan, fill: &FillPlan, map: &str, progress: &Progress) -> Result<u64> {
    progress.at(&format!("{}.{}", fill.schema, fill.table));
    let still = format!("s.{} IS NULL AND s.{} IS NOT NULL", quote(&fill.into), quote(&fill.column));
    let of = WalkOf {
        schema: &fill.schema,
        table: &fill.table,
        key: &fill.key,
        index: fill.index.as_deref(),
        filter: (!fill.renew && fill.part.is_none()).then_some(still.as_str()),
    };
    let open: fn(&Server) -> Result<Connection> =
        if fill.part.is_some() { open_checking } else { session::open_loader };
    let open = || Steady::open(&plan.destination, open);
    let mut walker = open()?;
    let walk = walker.ask(progress, |walker| Walk::new(walker, of))?;
    let mut lanes = (0..plan.lanes.max(1)).map(|_| open()).collect::<Result<Vec<_>>>()?;
    let filled = AtomicU64::new(0);
    run(
        &mut lanes,
        |queue| {
            let put = |_: &mut Steady, piece: Piece| queue.put(piece.chunk);
            Cutter::new(&walk).each(&mut walker, progress, || FILLED_ROWS, put)
        },
        |lane, chunk: Chunk| {
            let within = walk.condition(&chunk)?;
            let rows = lane.ask(progress, |lane| {
                let sql = fill.statement(map, walk.from(), &within, lane.is_mariadb());
                let mut tries = 1;
                loop {
                    match lane.execute(&sql) {
                        // Deleted between being read and being referred to: the next look does not see it.
                        Err(error) if error.server_code() == Some(NO_PARENT) && tries < TRIES => tries += 1,
                        done => return Ok(done?.affected_rows),
                    }
                }
            })?;
            progress.add(rows, rows * 16);
            filled.fetch_add(rows, Ordering::Relaxed);
            Ok(())
        },
    )?;
    Ok(filled.into_inner())
}

/// A session whose rows must have their parents.
fn open_checking(server: &Server) -> Result<Connection> {
    let mut connection = session::open_loader(server)?;
    connection.execute("SET SESSION foreign_key_checks = 1")?;
    Ok(connection)
}

impl FillPlan {
    /// What fills the rows of one chunk, `within` being its condition with its leading `WHERE`.
    fn statement(&self, map: &str, from: &str, within: &str, is_mariadb: bool) -> String {
        let (into, column) = (quote(&self.into), quote(&self.column));
        let and = if within.is_empty() { " WHERE" } else { " AND" };
        let mapped = format!("JOIN {map} AS m ON m.`hash` = s.{column}");
        if let Some(part) = &self.part {
            return self.insert(part, from, &mapped, &format!("{within}{and}"));
        }
        let kept: String = self
            .stamps
            .iter()
            .map(|name| quote(name))
            .fold(String::new(), |kept, name| kept + &format!(", s.{name} = s.{name}"));
        if !self.renew {
            return format!("UPDATE {from} {mapped} SET s.{into} = m.`js`{kept}{within}");
        }
        // MySQL stores JSON in its own order of keys, MariaDB the text as it came.
        let made = if is_mariadb { "m.`js`" } else { "CAST(m.`js` AS JSON)" };
        format!(
            "UPDATE {from} LEFT {mapped} SET s.{into} = m.`js`{kept}{within}{and} NOT (s.{into} <=> {made})"
        )
    }

    fn insert(&self, part: &PartPlan, from: &str, mapped: &str, within: &str) -> String {
        let keys: Vec<_> = self.key.iter().map(|name| quote(name)).collect();
        let list = |prefix: &str| keys.iter().map(|name| format!("{prefix}{name}")).collect::<Vec<_>>();
        let same: Vec<_> = keys.iter().map(|name| format!("p.{name} = s.{name}")).collect();
        let (into, column, of) = (quote(&self.into), quote(&self.column), quote(&part.of));
        let table = qualified(&self.schema, &part.table);
        let (own, chosen, same) = (list("").join(", "), list("s.").join(", "), same.join(" AND "));
        let first = keys.first().map_or_else(String::new, |name| format!("p.{name} IS NULL OR "));
        format!(
            "INSERT INTO {table} ({own}, {into}, {of}) SELECT {chosen}, m.`js`, s.{column} FROM {from} \
             LEFT JOIN {table} AS p ON {same} LEFT {mapped}{within} ({first}NOT (p.{of} <=> s.{column})) \
             ON DUPLICATE KEY UPDATE {into} = VALUES({into}), {of} = VALUES({of})"
        )
    }
}
