//! The pointers of a batch into the JSON that 2.x has in their place.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};

use super::Convert;
use super::pointer::{Pointer, WIDTH};
use super::tracking::Tracked;
use crate::error::{At, Kind, Result};

/// A column of the sink.
pub struct Column {
    /// What it is called in the source.
    pub source: String,
    /// What it is called in the sink.
    pub destination: String,
    /// What its pointers mean, if it has any.
    pub pointer: Option<Pointer>,
    /// The tracking rows of its pointers, if they are in memory; else they were joined, and each pointer takes `WIDTH` columns
    /// of the result.
    pub tracked: Option<Arc<Tracked>>,
    /// What is made of its values and of the columns that follow them.
    pub made: Option<Made>,
}

/// A column that is made of several.
pub struct Made {
    /// How many.
    pub width: usize,
    /// What makes it.
    pub make: Box<dyn Make>,
}

/// What makes one column of several. It may write objects besides.
pub trait Make: Send + Sync {
    /// The column, of as many rows.
    fn make(&self, columns: &[ArrayRef]) -> Result<ArrayRef>;

    /// How many objects were written so far that were not there.
    fn written(&self) -> u64 {
        0
    }
}

/// How many objects were written for these columns that were not there.
#[must_use]
pub fn written(columns: &[Column]) -> u64 {
    columns.iter().filter_map(|column| column.made.as_ref()).map(|made| made.make.written()).sum()
}

/// Makes one column of JSON of each column of pointers.
#[derive(Clone, Copy)]
pub struct Pointers<'a>(pub &'a [Column]);

impl Convert for Pointers<'_> {
    fn convert(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        if self.0.iter().all(|column| column.pointer.is_none() && column.made.is_none()) {
            return Ok(batch);
        }
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.0.len());
        let schema = batch.schema();
        let (mut rest, mut fields) = (batch.columns(), schema.fields().iter());
        let mut converted = Vec::with_capacity(self.0.len());
        for column in self.0 {
            let width = match &column.made {
                Some(made) => made.width,
                None if column.pointer.is_some() && column.tracked.is_none() => WIDTH,
                None => 1,
            };
            let short = || Kind::Internal("a column is missing".into());
            let (taken, after) = rest.split_at_checked(width).ok_or_else(short)?;
            rest = after;
            // The first field of a pointer's columns names the column itself.
            let field = fields.next().ok_or_else(short)?;
            fields.by_ref().take(width - 1).for_each(drop);
            arrays.push(match (&column.made, &column.pointer, &column.tracked) {
                (Some(made), ..) => made.make.make(taken).at(|| format!("column `{}`", column.source))?,
                (None, Some(pointer), Some(tracked)) => {
                    pointer.look_up(&column.source, &taken[0], tracked)?
                }
                (None, Some(pointer), None) => pointer.convert(&column.source, taken)?,
                (None, None, _) => taken[0].clone(),
            });
            converted.push(if column.pointer.is_some() || column.made.is_some() {
                Arc::new(Field::new(&column.destination, DataType::LargeBinary, true))
            } else {
                field.clone()
            });
        }
        RecordBatch::try_new(Arc::new(Schema::new(converted)), arrays)
            .map_err(|error| Kind::Internal(error.to_string()).into())
    }
}
