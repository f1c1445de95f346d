//! Whether somebody has written to a copy, told from its state alone: production is not asked.

use serde::{Deserialize, Serialize};

use super::RULES;
use super::blocks::sum;
use super::state::State;
use crate::batch::digest::Digest;
use crate::error::{At, Result};
use crate::mysql::Server;
use crate::mysql::session::open_reader;
use crate::river::read::Bounds;
use crate::river::steady::Steady;
use crate::run::memory::LargeRows;
use crate::run::progress::Progress;
use crate::verbs::compare::{ComparedTable, Side};

const BATCH_BYTES: usize = 4 << 20;
/// One lane, so this is a bound for rows that are larger than a batch.
const MEMORY_BYTES: usize = 256 << 20;

/// A copy that may have been written to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenPlan {
    /// The server of the copy.
    pub destination: Server,
    /// The comparison by which the state was made.
    pub compare: ComparedTable,
}

/// Whether a copy was written to.
#[derive(Debug, Serialize)]
pub struct Written {
    /// True if it was, or if nobody can tell.
    pub written: bool,
}

/// Reads the copy and holds it against its state. Without a state nobody can tell, so it counts as written to.
pub fn written(plan: &WrittenPlan, progress: &Progress) -> Result<Written> {
    let table = &plan.compare;
    let place = format!("{}.{}", table.destination_schema, table.destination_table);
    progress.at(&place);
    let mut reader = Steady::open(&plan.destination, open_reader)?;
    let state = State::new(&table.destination_schema);
    let rows = reader.ask(progress, |reader| reader.query(&state.read(&table.destination_table)))?;
    let Some(lines) = state.lines(&table.fingerprint(RULES), &rows)? else {
        return Ok(Written { written: true });
    };
    let bounds = Bounds { batch_bytes: BATCH_BYTES, large: LargeRows::of(MEMORY_BYTES), copies: 1 };
    let side = reader.ask(progress, |reader| Side::of_copy(table, &bounds, reader))?;
    for line in lines {
        progress.turn()?;
        let sql = state.blocks(&table.destination_table, line.number);
        let blocks = reader.ask(progress, |reader| reader.query(&sql))?;
        let base = sum(&state.decoded(&line, &blocks)?);
        let sql = format!(
            "SELECT {} FROM {}{}",
            side.select.join(", "),
            side.walk.from(),
            side.walk.condition(&line.chunk)?
        );
        let now = reader
            .ask(progress, |reader| {
                let mut digest = Digest::default();
                bounds.read(reader, &sql, progress, &mut |batch, _| {
                    progress.check()?;
                    digest.add(&batch, &side.meanings)
                })?;
                Ok(digest)
            })
            .at(|| place.clone())?;
        progress.add(now.rows, 0);
        if now != base {
            return Ok(Written { written: true });
        }
    }
    Ok(Written { written: false })
}
