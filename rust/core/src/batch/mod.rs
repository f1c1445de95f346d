//! What flows between stations: record batches, how their values are written in `MySQL` and in other programs, and their digests.

pub mod calendar;
pub mod digest;
mod json;
pub mod natural;
mod spelling;
pub mod types;

use arrow_array::{Array, ArrayRef, RecordBatch};

/// What a batch takes, of what it may share with others only its own part.
#[must_use]
pub fn bytes_of(batch: &RecordBatch) -> usize {
    let own = |array: &ArrayRef| {
        array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size())
    };
    batch.columns().iter().map(own).sum()
}
