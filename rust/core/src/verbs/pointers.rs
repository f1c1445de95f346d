//! Loading the map from 0.14.6 pointers to 2.x metadata: `(hash, js)`, for conversions inside the destination.

use std::sync::Arc;
use std::time::Instant;

use arrow_array::builder::LargeBinaryBuilder;
use arrow_array::{ArrayRef, RecordBatch};
use serde::{Deserialize, Serialize};

use crate::convert::pointer::{Pointer, TrackingColumns};
use crate::error::{At, Kind, Result};
use crate::mysql::Server;
use crate::mysql::load::{Load, Store, allows_infile};
use crate::mysql::names::qualified;
use crate::mysql::scan::scan;
use crate::mysql::session;
use crate::mysql::types::Audience;
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
}

#[derive(Debug, Clone, Serialize)]
pub struct PointersSummary {
    pub rows: u64,
    pub time_taken: f64,
}

/// Makes the map table anew and fills it with one row for each tracking row.
pub fn pointers(plan: &PointersPlan, progress: &Progress) -> Result<PointersSummary> {
    let begun = Instant::now();
    let pointer = &plan.pointer;
    let tracking = qualified(&pointer.tracking_schema, &pointer.tracking_table);
    progress.at(&format!("{}.{}", pointer.tracking_schema, pointer.tracking_table));
    let mut source = plan.source.connect()?;
    session::reading(&mut source)?;
    let mut destination = plan.destination.connect()?;
    session::loading(&mut destination)?;
    let map = qualified(&plan.map_schema, &plan.map_table);
    destination.execute(&format!("DROP TABLE IF EXISTS {map}"))?;
    destination.execute(&format!(
        "CREATE TABLE {map} (`hash` BINARY(16) NOT NULL PRIMARY KEY, `js` JSON NOT NULL) ENGINE=InnoDB"
    ))?;
    let infile = allows_infile(&mut destination)?;
    let columns = [("hash", Store::Plain), ("js", Store::Json)];
    let mut load = Load::new(&mut destination, (&plan.map_schema, &plan.map_table), &columns, infile)?;
    destination.execute("START TRANSACTION")?;
    scan(
        &mut source,
        &format!("SELECT {TRACKING} FROM {tracking} AS e ORDER BY e.`hash`"),
        Audience::River,
        4 << 20,
        &mut |batch| {
            progress.check()?;
            let rows = TrackingColumns::new(batch.columns())?;
            let mut json = LargeBinaryBuilder::new();
            for index in 0..batch.num_rows() {
                let row =
                    rows.row(index)?.ok_or_else(|| Kind::Value("a tracking row without a hash".into()))?;
                json.append_value(pointer.json(&row)?);
            }
            let arrays: Vec<ArrayRef> = vec![batch.column(0).clone(), Arc::new(json.finish())];
            let named = ["hash", "js"].into_iter().zip(arrays);
            let batch =
                RecordBatch::try_from_iter(named).map_err(|error| Kind::Internal(error.to_string()))?;
            load.batch(&mut destination, &batch)?;
            progress.add(batch.num_rows() as u64, batch.get_array_memory_size() as u64);
            Ok(())
        },
    )
    .at(|| tracking.clone())?;
    let rows = load.finish(&mut destination)?;
    destination.execute("COMMIT")?;
    Ok(PointersSummary { rows, time_taken: begun.elapsed().as_secs_f64() })
}
