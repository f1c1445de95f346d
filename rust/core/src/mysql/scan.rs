//! Rows of a result, decoded from the packets straight into Arrow arrays.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_schema::{Schema, SchemaRef};

use super::decode::{Audience, Cells};
use super::query::{Connection, Fields};
use crate::error::{Kind, Result};

const MAX_ROWS: usize = 64 * 1024;

/// What a scan has read.
#[derive(Debug, Default, Clone, Copy)]
pub struct Scanned {
    /// How many rows.
    pub rows: u64,
    /// Bytes of their packets.
    pub bytes: u64,
    /// Bytes of the largest row.
    pub largest: usize,
}

/// Where the rows of a scan go.
pub trait Take {
    /// A row of so many bytes, larger than a batch, is about to be read. An error ends the scan, and the row is passed over.
    fn room(&mut self, bytes: u64) -> Result<()>;

    /// Takes the next rows, with the bytes they took on the wire. A large row is alone.
    fn batch(&mut self, batch: RecordBatch, read: u64) -> Result<()>;

    /// The large row is held no longer.
    fn done(&mut self);
}

/// Takes what never has large rows, or is not many lanes.
struct Unbounded<'a>(&'a mut dyn FnMut(RecordBatch, u64) -> Result<()>);

impl Take for Unbounded<'_> {
    fn room(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    fn batch(&mut self, batch: RecordBatch, read: u64) -> Result<()> {
        (self.0)(batch, read)
    }

    fn done(&mut self) {}
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
    scan_into(connection, sql, audience, batch_bytes, &mut Unbounded(sink))
}

/// The same, with room asked for before a row is read that is larger than a batch. Of such a row no copy is made: its long
/// values are parts of the packet it came in.
pub fn scan_into(
    connection: &mut Connection,
    sql: &str,
    audience: Audience,
    batch_bytes: usize,
    take: &mut dyn Take,
) -> Result<Scanned> {
    let columns = connection.open_binary(sql)?;
    let mut pending = match columns.iter().map(|column| Cells::new(column, audience)).collect() {
        Ok(cells) => Pending::new(cells),
        Err(error) => {
            while connection.row_with(&mut |_| false)?.is_some() {}
            return Err(error);
        }
    };
    let mut scanned = Scanned::default();
    let mut failure = None;
    loop {
        let mut large = false;
        let row = connection.row_with(&mut |bytes| {
            large |= bytes > batch_bytes as u64;
            if large && failure.is_none() {
                failure = take.room(bytes).err();
            }
            failure.is_none()
        })?;
        let Some(packet) = row else { break };
        if failure.is_some() {
            continue;
        }
        scanned.rows += 1;
        scanned.bytes += packet.len() as u64;
        scanned.largest = scanned.largest.max(packet.len());
        failure = if large {
            // What came before it is out of the way first.
            let packet = connection.take_large();
            let taken = pending.hand_over(take).and_then(|()| pending.alone(packet, take));
            take.done();
            taken.err()
        } else {
            pending
                .add(packet, batch_bytes)
                .and_then(|full| if full { pending.hand_over(take) } else { Ok(()) })
                .err()
        };
    }
    if let Some(error) = failure {
        return Err(error);
    }
    pending.hand_over(take)?;
    Ok(scanned)
}

/// Rows that are not a batch yet.
struct Pending {
    cells: Vec<Cells>,
    schema: SchemaRef,
    rows: usize,
    bytes: usize,
    /// What a row takes in memory, were all of it NULL, and what the rows take or took on the wire, whichever is more.
    width: usize,
    held: usize,
}

impl Pending {
    fn new(cells: Vec<Cells>) -> Self {
        let schema = Schema::new(cells.iter().map(|cells| cells.field.clone()).collect::<Vec<_>>());
        let width = cells.iter().map(Cells::width).sum();
        Self { cells, schema: Arc::new(schema), rows: 0, bytes: 0, width, held: 0 }
    }

    /// Adds a row; true if it makes a batch of them.
    fn add(&mut self, packet: &[u8], batch_bytes: usize) -> Result<bool> {
        read_row(packet, &mut self.cells, Cells::push)?;
        self.rows += 1;
        self.bytes += packet.len();
        self.held += self.width.max(packet.len());
        Ok(self.held >= batch_bytes || self.rows >= MAX_ROWS)
    }

    fn hand_over(&mut self, take: &mut dyn Take) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let arrays = self.cells.iter_mut().map(Cells::finish).collect::<Result<Vec<_>>>()?;
        let batch = RecordBatch::try_new(self.schema.clone(), arrays);
        let batch = batch.map_err(|error| Kind::Internal(error.to_string()))?;
        (self.rows, self.held) = (0, 0);
        take.batch(batch, std::mem::take(&mut self.bytes) as u64)
    }

    /// Hands over a row that is a batch by itself.
    fn alone(&mut self, packet: Vec<u8>, take: &mut dyn Take) -> Result<()> {
        let packet = Buffer::from_vec(packet);
        read_row(&packet, &mut self.cells, |cells, row| cells.push_part(row, &packet))?;
        (self.rows, self.bytes) = (1, packet.len());
        drop(packet);
        self.hand_over(take)
    }
}

/// The Arrow schema of a statement's result, without reading its rows: `sql` should return none.
pub fn schema_of(connection: &mut Connection, sql: &str, audience: Audience) -> Result<SchemaRef> {
    let columns = connection.open_binary(sql)?;
    while connection.row()?.is_some() {}
    let cells = columns.iter().map(|column| Cells::new(column, audience)).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(Schema::new(cells.into_iter().map(|cells| cells.field).collect::<Vec<_>>())))
}

fn read_row(
    packet: &[u8],
    cells: &mut [Cells],
    push: impl Fn(&mut Cells, &mut Fields<'_>) -> Result<()>,
) -> Result<()> {
    let mut row = Fields(packet);
    row.take(1)?;
    let nulls = row.take((cells.len() + 9) / 8)?;
    for (index, cells) in cells.iter_mut().enumerate() {
        let bit = index + 2;
        if nulls[bit / 8] >> (bit % 8) & 1 == 1 {
            cells.push_null();
        } else {
            push(cells, &mut row)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;

    use super::*;
    use mysql_common::constants::ColumnType;

    use crate::mysql::memory::{Event, binary_rows, column, end, error, serve};

    /// What reached the taker.
    #[derive(Default)]
    struct Kept {
        rows: Vec<(Option<i64>, usize)>,
        batches: Vec<(usize, u64)>,
        rooms: Vec<u64>,
        done: usize,
        /// Fails at this batch, or has no room at all.
        fails_at: Option<usize>,
        is_full: bool,
    }

    impl Take for Kept {
        fn room(&mut self, bytes: u64) -> Result<()> {
            self.rooms.push(bytes);
            if self.is_full { Err(Kind::Value("no room".into()).into()) } else { Ok(()) }
        }

        fn batch(&mut self, batch: RecordBatch, read: u64) -> Result<()> {
            if self.fails_at == Some(self.batches.len()) {
                return Err(Kind::Value("not this one".into()).into());
            }
            let numbers = batch.column(0).as_primitive::<Int64Type>();
            let bytes = batch.column(1).as_binary::<i64>();
            self.rows.extend(
                (0..batch.num_rows())
                    .map(|row| (numbers.is_valid(row).then(|| numbers.value(row)), bytes.value(row).len())),
            );
            self.batches.push((batch.num_rows(), read));
            Ok(())
        }

        fn done(&mut self) {
            self.done += 1;
        }
    }

    fn over(events: Vec<Event>) -> Connection {
        let (server, _) = serve(move |_, sql| (sql == "it").then(|| events.clone()));
        server.connect().expect("connected")
    }

    fn scanned(connection: &mut Connection, kept: &mut Kept) -> Result<Scanned> {
        scan_into(connection, "it", Audience::River, 1000, kept)
    }

    fn rows(lengths: &[usize]) -> Vec<(Option<i64>, Vec<u8>)> {
        (0_i64..).zip(lengths).map(|(n, &length)| ((n != 1).then_some(n), vec![b'x'; length])).collect()
    }

    #[test]
    fn rows_come_in_batches_of_about_the_bytes_that_are_asked_for() {
        let mut kept = Kept::default();
        let scan = scanned(&mut over(binary_rows(&rows(&[300; 10]))), &mut kept).expect("scanned");
        let wanted: Vec<_> = (0..10).map(|n| ((n != 1).then_some(n), 300)).collect();
        assert_eq!(kept.rows, wanted);
        // Each takes 313 bytes on the wire, the one with a NULL 305.
        assert_eq!(kept.batches, [(4, 1244), (4, 1252), (2, 626)]);
        assert_eq!((scan.rows, scan.bytes, scan.largest, kept.done), (10, 3122, 313, 0));
        let mut kept = Kept::default();
        let scan = scanned(&mut over(binary_rows(&[])), &mut kept).expect("scanned");
        assert_eq!((scan.rows, kept.batches.len()), (0, 0));
    }

    #[test]
    fn a_row_larger_than_a_batch_waits_for_room_and_is_alone() {
        // More than the line's own buffer, and more than a frame.
        for (large, head) in [(400_000, 14), (0xff_ffff + 7, 19)] {
            let mut kept = Kept::default();
            let scan =
                scanned(&mut over(binary_rows(&rows(&[10, 10, large, 10]))), &mut kept).expect("scanned");
            assert_eq!(kept.rows.iter().map(|row| row.1).collect::<Vec<_>>(), [10, 10, large, 10]);
            assert_eq!(kept.batches.iter().map(|batch| batch.0).collect::<Vec<_>>(), [2, 1, 1]);
            assert_eq!((scan.largest, kept.done), (large + head, 1));
            // Told as often as a frame of it comes, the last time of all of it.
            assert_eq!(kept.rooms.last(), Some(&((large + head) as u64)));
        }
    }

    #[test]
    fn what_finds_no_room_is_passed_over_and_the_connection_stays_in_step() {
        let mut connection = over(binary_rows(&rows(&[10, 400_000, 10])));
        let mut kept = Kept { is_full: true, ..Kept::default() };
        let error = scanned(&mut connection, &mut kept).expect_err("no room");
        assert_eq!((error.to_string().as_str(), kept.rows.len()), ("no room", 0));
        connection.execute("another").expect("in step");
    }

    #[test]
    fn an_error_of_the_taker_is_returned_after_the_rest_was_read() {
        let mut connection = over(binary_rows(&rows(&[300; 20])));
        let mut kept = Kept { fails_at: Some(1), ..Kept::default() };
        let error = scanned(&mut connection, &mut kept).expect_err("refused");
        assert_eq!((error.to_string().as_str(), kept.batches.len()), ("not this one", 1));
        connection.execute("another").expect("in step");
        // It is asked once, and not for what comes later.
        let mut kept = Kept::default();
        assert_eq!(scanned(&mut connection, &mut kept).expect("scanned").rows, 20);
    }

    #[test]
    fn a_reading_that_ends_early_is_an_error_and_no_shorter_table() {
        for (last, code) in [(error(3024, "took too long"), Some(3024)), (Event::End, None)] {
            let mut events = binary_rows(&rows(&[300; 3]));
            events.pop();
            events.push(last);
            let mut kept = Kept::default();
            let error = scanned(&mut over(events), &mut kept).expect_err("cut");
            assert_eq!(error.server_code(), code);
            assert_eq!(matches!(error.kind(), Kind::Lost { .. }), code.is_none());
            assert!(kept.batches.is_empty(), "what was not handed over stays here");
        }
    }

    #[test]
    fn a_row_that_is_not_what_its_columns_say_is_an_error() {
        for row in [vec![0], vec![0, 0, 1, 2, 3], vec![0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 200, b'x']] {
            let mut events = binary_rows(&[]);
            events.insert(3, Event::Packet(row));
            let error = scanned(&mut over(events), &mut Kept::default()).expect_err("short");
            assert!(matches!(error.kind(), Kind::Protocol(_)), "{error}");
        }
    }

    #[test]
    fn a_batch_takes_no_more_memory_for_nulls_than_for_values() {
        let mut events = vec![Event::Packet(vec![100])];
        events.extend((0..100).map(|_| column("n", ColumnType::MYSQL_TYPE_LONGLONG)));
        // 14 bytes on the wire, 800 in memory.
        let nulls = Event::Packet([&[0][..], &[0xff; 13]].concat());
        events.extend([nulls.clone(), nulls.clone(), nulls, end()]);
        let mut rows = Vec::new();
        scan(&mut over(events), "it", Audience::River, 1000, &mut |batch, read| {
            rows.push((batch.num_rows(), read));
            Ok(())
        })
        .expect("scanned");
        assert_eq!(rows, [(2, 28), (1, 14)]);
    }

    #[test]
    fn the_schema_of_a_statement_is_known_without_a_row() {
        let events =
            [vec![Event::Packet(vec![1]), column("when", ColumnType::MYSQL_TYPE_DOUBLE)], vec![end()]];
        let schema = schema_of(&mut over(events.concat()), "it", Audience::River).expect("a schema");
        assert_eq!(schema.field(0).name(), "when");
        assert_eq!(*schema.field(0).data_type(), arrow_schema::DataType::Float64);
    }
}
