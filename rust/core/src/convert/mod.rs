//! What changes on the way from 0.14.6 to 2.x, and back.

pub mod back;
pub mod blob;
pub mod npy;
pub mod object;
pub mod pointer;
pub mod pointers;
pub mod tracking;

use arrow_array::RecordBatch;

use crate::error::Result;

/// A conversion of rows on their way to a sink. It may keep what it learns from one batch to the next, and write besides what
/// is no row, such as objects into a store: a chunk that is tried again comes from its beginning, so that must bear being done
/// twice.
pub trait Convert {
    /// The same rows, in the columns that the sink expects.
    fn convert(&mut self, batch: RecordBatch) -> Result<RecordBatch>;
}

/// Rows that stay as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct AsTheyAre;

impl Convert for AsTheyAre {
    fn convert(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        Ok(batch)
    }
}
