//! Converting the pointers of a table that is there already: a map `(hash, js)` is loaded beside it, and a new column is
//! filled from the map inside the server, chunk by chunk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arrow_array::builder::LargeBinaryBuilder;
use arrow_array::{ArrayRef, RecordBatch};
use serde::{Deserialize, Serialize};

use super::copy::default_lanes;
use super::steady::Steady;
use crate::convert::pointer::{Pointer, TrackingColumns};
use crate::error::{At, Kind, Result};
use crate::mysql::Server;
use crate::mysql::chunk::{Chunk, Walk, WalkOf};
use crate::mysql::load::{Load, Store, allows_infile};
use crate::mysql::names::{qualified, quote};
use crate::mysql::scan::scan;
use crate::mysql::session;
use crate::mysql::types::Audience;
use crate::run::lanes::run;
use crate::run::progress::Progress;

/// The columns of a tracking table, in the order of `TrackingColumns`.
pub(super) const TRACKING: &str = "e.`hash`, e.`size`, CONVERT(e.`attachment_name` USING utf8mb4), \
     CONVERT(e.`filepath` USING utf8mb4), e.`contents_hash`, e.`timestamp`";

#[derive(Debug, Clone, Deserialize)]
pub struct PointersPlan {
    pub source: Server,
    pub destination: Server,
    pub pointer: Pointer,
    pub map_schema: String,
    pub map_table: String,
    /// The column that is filled once the map is there.
    #[serde(default)]
    pub fill: Option<FillPlan>,
    #[serde(default = "default_lanes")]
    pub lanes: usize,
}

#[derive(Debug, Clone, Deserialize)]
pub struct FillPlan {
    pub schema: String,
    pub table: String,
    #[serde(default)]
    pub key: Vec<String>,
    #[serde(default)]
    pub index: Option<String>,
    /// The column of BINARY(16) pointers.
    pub column: String,
    /// The column that takes the JSON: values that are there already stay.
    pub into: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct PointersSummary {
    /// Rows of the map.
    pub rows: u64,
    /// Pointers converted by this call.
    pub filled: u64,
    pub time_taken: f64,
}

/// Rows of a chunk that is filled in one transaction: small, because other sessions may use the table.
const FILLED_ROWS: u64 = 20_000;
/// Rows of the map that are committed together.
const MAP_ROWS: u64 = 250_000;

/// Makes the map table anew and fills it with one row for each tracking row.
pub fn pointers(plan: &PointersPlan, progress: &Progress) -> Result<PointersSummary> {
    let begun = Instant::now();
    let pointer = &plan.pointer;
    let tracking = qualified(&pointer.tracking_schema, &pointer.tracking_table);
    progress.at(&format!("{}.{}", pointer.tracking_schema, pointer.tracking_table));
    let mut source = session::open_reader(&plan.source)?;
    let mut destination = session::open_loader(&plan.destination)?;
    let map = qualified(&plan.map_schema, &plan.map_table);
    destination.execute(&format!("DROP TABLE IF EXISTS {map}"))?;
    destination.execute(&format!(
        "CREATE TABLE {map} (`hash` BINARY(16) NOT NULL PRIMARY KEY, `js` LONGTEXT CHARACTER SET utf8mb4 NOT NULL) ENGINE=InnoDB"
    ))?;
    let infile = allows_infile(&mut destination)?;
    let columns = [("hash", Store::Plain), ("js", Store::Plain)];
    let mut load = Load::new(&mut destination, (&plan.map_schema, &plan.map_table), &columns, infile)?;
    destination.execute("START TRANSACTION")?;
    let mut rows = 0;
    scan(
        &mut source,
        &format!("SELECT {TRACKING} FROM {tracking} AS e ORDER BY e.`hash`"),
        Audience::River,
        4 << 20,
        &mut |batch, _| {
            progress.check()?;
            let tracked = TrackingColumns::new(batch.columns())?;
            let (mut hashes, mut json) = (LargeBinaryBuilder::new(), LargeBinaryBuilder::new());
            for index in 0..batch.num_rows() {
                let Some(row) = tracked.row(index)?.filter(|row| pointer.fits(row)) else { continue };
                hashes.append_value(row.hash);
                json.append_value(pointer.json(&row)?);
            }
            let arrays: Vec<ArrayRef> = vec![Arc::new(hashes.finish()), Arc::new(json.finish())];
            let named = ["hash", "js"].into_iter().zip(arrays);
            let batch =
                RecordBatch::try_from_iter(named).map_err(|error| Kind::Internal(error.to_string()))?;
            load.batch(&mut destination, &batch)?;
            if load.rows() >= MAP_ROWS {
                rows += load.finish(&mut destination)?;
                destination.execute("COMMIT")?;
                destination.execute("START TRANSACTION")?;
            }
            Ok(())
        },
    )
    .at(|| tracking.clone())?;
    rows += load.finish(&mut destination)?;
    destination.execute("COMMIT")?;
    let filled = match &plan.fill {
        Some(fill) => {
            fill_column(plan, fill, &map, progress).at(|| format!("{}.{}", fill.schema, fill.table))?
        }
        None => 0,
    };
    Ok(PointersSummary { rows, filled, time_taken: begun.elapsed().as_secs_f64() })
}

/// Fills the new column where it is still NULL, so that a call that was stopped is simply called again.
fn fill_column(plan: &PointersPlan, fill: &FillPlan, map: &str, progress: &Progress) -> Result<u64> {
    progress.at(&format!("{}.{}", fill.schema, fill.table));
    let into = quote(&fill.into);
    let still = format!("s.{into} IS NULL AND s.{} IS NOT NULL", quote(&fill.column));
    let of = WalkOf {
        schema: &fill.schema,
        table: &fill.table,
        key: &fill.key,
        index: fill.index.as_deref(),
        filter: Some(&still),
    };
    let open = || Steady::open(&plan.destination, session::open_loader);
    let mut walker = open()?;
    let walk = walker.ask(progress, |walker| Walk::new(walker, of))?;
    let update = format!(
        "UPDATE {} JOIN {map} AS m ON m.`hash` = s.{} SET s.{into} = m.`js`",
        walk.from(),
        quote(&fill.column)
    );
    let mut lanes = (0..plan.lanes.max(1)).map(|_| open()).collect::<Result<Vec<_>>>()?;
    let filled = AtomicU64::new(0);
    run(
        &mut lanes,
        |queue| {
            let mut rest = Chunk::default();
            loop {
                progress.check()?;
                let next = if walk.has_key() {
                    walker.ask(progress, |walker| walk.key_after(walker, &rest, FILLED_ROWS))?
                } else {
                    None
                };
                queue.put(Chunk { lower: rest.lower.take(), upper: next.clone() })?;
                if next.is_none() {
                    return Ok(());
                }
                rest.lower = next;
            }
        },
        |lane, chunk: Chunk| {
            let sql = format!("{update}{}", walk.condition(&chunk)?);
            let rows = lane.ask(progress, |lane| Ok(lane.execute(&sql)?.affected_rows))?;
            progress.add(rows, rows * 16);
            filled.fetch_add(rows, Ordering::Relaxed);
            Ok(())
        },
    )?;
    Ok(filled.into_inner())
}
