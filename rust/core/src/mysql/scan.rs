//! Rows of a result, decoded from the packets straight into Arrow arrays.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};

use super::query::{Connection, Fields};
use super::types::{Audience, Cells};
use crate::error::{Kind, Result};

const MAX_ROWS: usize = 64 * 1024;

/// What a scan has read.
#[derive(Debug, Default, Clone, Copy)]
pub struct Scanned {
    pub rows: u64,
    pub bytes: u64,
}

/// Runs `sql` and hands its rows to `sink` in batches of about `batch_bytes` (one row at least), with the bytes they took
/// on the wire.
///
/// When `sink` fails the rest of the result is read and dropped, so that the connection, and the snapshot it holds, can
/// still be used.
pub fn scan(
    connection: &mut Connection,
    sql: &str,
    audience: Audience,
    batch_bytes: usize,
    sink: &mut dyn FnMut(RecordBatch, u64) -> Result<()>,
) -> Result<Scanned> {
    let columns = connection.open_binary(sql)?;
    let mut cells = columns.iter().map(|column| Cells::new(column, audience)).collect::<Result<Vec<_>>>();
    let schema: SchemaRef = match &cells {
        Ok(cells) => Arc::new(Schema::new(cells.iter().map(|cells| cells.field.clone()).collect::<Vec<_>>())),
        Err(_) => Arc::new(Schema::empty()),
    };
    let mut scanned = Scanned::default();
    let (mut rows, mut bytes) = (0, 0);
    let mut failure = None;
    while let Some(packet) = connection.row()? {
        if failure.is_some() {
            continue;
        }
        let Ok(cells) = &mut cells else { continue };
        let step = read_row(packet, cells).and_then(|()| {
            rows += 1;
            bytes += packet.len();
            if bytes < batch_bytes && rows < MAX_ROWS {
                return Ok(());
            }
            scanned.rows += rows as u64;
            scanned.bytes += bytes as u64;
            let read = bytes as u64;
            (rows, bytes) = (0, 0);
            sink(finish(cells, &schema)?, read)
        });
        failure = step.err();
    }
    if let Some(error) = failure {
        return Err(error);
    }
    if rows > 0 {
        scanned.rows += rows as u64;
        scanned.bytes += bytes as u64;
        let cells = cells.as_mut().map_err(|_| Kind::Internal("rows without columns".into()))?;
        sink(finish(cells, &schema)?, bytes as u64)?;
    }
    cells.map(|_| scanned)
}

/// The Arrow schema of a statement's result, without reading its rows: `sql` should return none.
pub fn schema_of(connection: &mut Connection, sql: &str, audience: Audience) -> Result<SchemaRef> {
    let columns = connection.open_binary(sql)?;
    while connection.row()?.is_some() {}
    let cells = columns.iter().map(|column| Cells::new(column, audience)).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(Schema::new(cells.into_iter().map(|cells| cells.field).collect::<Vec<_>>())))
}

fn read_row(packet: &[u8], cells: &mut [Cells]) -> Result<()> {
    let mut row = Fields(packet);
    row.take(1)?;
    let nulls = row.take((cells.len() + 9) / 8)?;
    for (index, cells) in cells.iter_mut().enumerate() {
        let bit = index + 2;
        if nulls[bit / 8] >> (bit % 8) & 1 == 1 {
            cells.push_null();
        } else {
            cells.push(&mut row)?;
        }
    }
    Ok(())
}

fn finish(cells: &mut [Cells], schema: &SchemaRef) -> Result<RecordBatch> {
    let arrays = cells.iter_mut().map(Cells::finish).collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(schema.clone(), arrays).map_err(|error| Kind::Internal(error.to_string()).into())
}
