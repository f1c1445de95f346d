//! The first state of a copy, for nothing: the comparison that proves it has read every row anyway.

use std::sync::Mutex;

use super::RULES;
use super::blocks::{Block, Cut};
use super::state::State;
use crate::error::{Kind, Result};
use crate::mysql::chunk::Chunk;
use crate::river::steady::Steady;
use crate::run::progress::Progress;
use crate::verbs::compare::ComparedTable;

/// Writes lines of the state while chunks are found equal.
pub(in crate::verbs) struct Noting {
    loader: Mutex<Steady>,
}

impl Noting {
    pub fn new(loader: Steady) -> Self {
        Self { loader: Mutex::new(loader) }
    }

    fn say(&self, progress: &Progress, sql: &str) -> Result<()> {
        let mut loader = self.loader.lock().map_err(|_| Kind::Internal("a lane panicked".into()))?;
        loader.execute(progress, sql)
    }

    /// Takes what is known of a table out, before it is compared.
    pub fn begin(&self, progress: &Progress, table: &ComparedTable) -> Result<()> {
        let state = State::new(&table.destination_schema);
        self.say(progress, &state.forget(&table.destination_table))
    }

    /// Notes a chunk that is equal on both sides.
    pub fn note(
        &self,
        progress: &Progress,
        table: &ComparedTable,
        number: u64,
        chunk: &Chunk,
        blocks: &[Block],
    ) -> Result<()> {
        let plan = table.fingerprint(RULES);
        let state = State::new(&table.destination_schema);
        self.say(progress, &state.put(&table.destination_table, &plan, number, chunk, blocks)?)
    }
}

impl ComparedTable {
    /// Which rows of this table begin a block, where both sides have one order of all of them.
    pub(in crate::verbs) fn cut(&self, walks_rows: bool) -> Cut {
        if walks_rows { Cut::of(self.data_bytes / self.rows.max(1)) } else { Cut::NEVER }
    }
}
