//! Which tracking tables are read into memory, once for all tables that point into them.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Copy, TablePlan};
use crate::convert::pointer::Pointer;
use crate::convert::tracking::TRACKING;
use crate::convert::tracking::Tracked;
use crate::error::{At, Kind, Result};
use crate::mysql::decode::Audience;
use crate::mysql::names::qualified;
use crate::mysql::scan::scan;
use crate::mysql::session::Snapshot;
use crate::river::steady::Steady;

/// Memory of a tracking row without its texts, with room for what the builders of a batch keep free.
const ROW_BYTES: usize = 120;
/// Reading a tracking row costs the server a fraction of joining it.
const WORTH: u64 = 4;
const FEW: u64 = 1000;

/// Tracking tables in memory, by schema and table.
pub(super) struct Shelf {
    tables: HashMap<(String, String), Arc<Tracked>>,
    /// Bytes that are still free.
    room: usize,
}

impl Shelf {
    pub fn new(room: usize) -> Self {
        Self { tables: HashMap::new(), room }
    }
}

impl Copy<'_> {
    /// The tracking rows for a column of `plan`, or nothing if they are to be joined: where they do not fit into memory
    /// or are many more than the rows that point to them, and where the walker does not see the instant that is copied.
    pub(super) fn tracked(
        &self,
        plan: &TablePlan,
        pointer: &Pointer,
        walker: &mut Steady,
    ) -> Result<Option<Arc<Tracked>>> {
        let name = (pointer.tracking_schema.clone(), pointer.tracking_table.clone());
        let mut kept = self.shelf.lock().map_err(|_| Kind::Internal("a lane panicked".into()))?;
        if let Some(tracked) = kept.tables.get(&name) {
            return Ok(Some(tracked.clone()));
        }
        if self.snapshot != Some(Snapshot::Shared) || plan.limit.is_some() || plan.where_clause.is_some() {
            return Ok(None);
        }
        let most = (kept.room / ROW_BYTES).min(plan.rows.saturating_mul(WORTH).saturating_add(FEW) as usize);
        let table = qualified(&name.0, &name.1);
        let sql = format!("SELECT {TRACKING} FROM {table} AS e ORDER BY e.`hash` LIMIT {}", most + 1);
        let room = kept.room;
        let read = walker.ask(self.progress, |walker| {
            let mut tracked = Some(Tracked::default());
            scan(walker, &sql, Audience::River, self.bounds.batch_bytes, &mut |batch, read| {
                self.progress.read(read)?;
                if let Some(rows) = &mut tracked {
                    rows.add(batch)?;
                    if rows.rows() > most || rows.bytes() > room {
                        tracked = None;
                    }
                }
                Ok(())
            })?;
            Ok(tracked)
        });
        let Some(tracked) = read.at(|| format!("{}.{}", name.0, name.1))?.map(Arc::new) else {
            return Ok(None);
        };
        kept.room -= tracked.bytes();
        kept.tables.insert(name, tracked.clone());
        Ok(Some(tracked))
    }
}
