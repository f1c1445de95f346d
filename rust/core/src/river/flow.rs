//! One chunk from its source to its sink.

use arrow_array::RecordBatch;

use super::read::Bounds;
use super::sink::{Begun, Moved, Piece, Sink};
use super::source::Source;
use crate::batch::bytes_of;
use crate::convert::Convert;
use crate::error::{Kind, Result};
use crate::mysql::scan::Take;
use crate::run::memory::Room;
use crate::run::progress::Progress;
use crate::run::retry::retry;

/// What the chunks of a run have in common.
#[derive(Clone, Copy)]
pub struct Flow<'a> {
    /// Where the run is told to stop, and what it may take of its source.
    pub progress: &'a Progress,
    /// How much is held in memory.
    pub bounds: &'a Bounds,
    /// The source is production: what is read is paid for.
    pub pays: bool,
    /// What is counted of rows as they pass.
    pub counts: Counts,
}

/// What is counted while rows pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// Nothing: whoever asked for them counts.
    Nothing,
    /// Rows, and what they take in memory.
    Memory,
    /// Rows, and what they took where they were read.
    Read,
}

impl Flow<'_> {
    /// Moves one chunk. What may go away by itself is tried again, from the chunk's beginning.
    pub fn chunk(
        &self,
        source: &mut dyn Source,
        convert: &mut dyn Convert,
        sink: &mut dyn Sink,
        piece: &Piece,
    ) -> Result<Moved> {
        if sink.is_repeatable() {
            retry(self.progress, || self.attempt(source, convert, sink, piece))
        } else {
            self.attempt(source, convert, sink, piece)
        }
    }

    /// Moves one chunk by a statement of its own, which reads and writes within one server.
    pub fn within<S: Sink>(
        &self,
        sink: &mut S,
        piece: &Piece,
        mut say: impl FnMut(&mut S) -> Result<Moved>,
    ) -> Result<Moved> {
        let moved = retry(self.progress, || {
            self.turn()?;
            if let Begun::Done(moved) = sink.begin(piece)? {
                return Ok(moved);
            }
            let said = say(sink).and_then(|moved| sink.commit(piece, moved).map(|()| moved));
            if said.is_err() {
                sink.abandon();
            }
            said
        })?;
        self.count(moved);
        // What the server read by itself is counted by its own estimate of a row.
        self.pay(moved.read)?;
        Ok(moved)
    }

    fn attempt(
        &self,
        source: &mut dyn Source,
        convert: &mut dyn Convert,
        sink: &mut dyn Sink,
        piece: &Piece,
    ) -> Result<Moved> {
        self.turn()?;
        loop {
            if let Begun::Done(moved) = sink.begin(piece)? {
                self.count(moved);
                return Ok(moved);
            }
            let mut moved = Moved::default();
            let (read, taken) = self.read(source, convert, sink, &mut moved);
            let done = match taken {
                // An error of the sink is not one of the source's connection.
                Err(error) => Err(error),
                Ok(()) => read.and_then(|()| sink.commit(piece, moved)),
            };
            let Err(error) = done else { return Ok(moved) };
            let anew = sink.wants_anew();
            sink.abandon();
            if let Some(bytes) = self.counted(moved) {
                self.progress.take_back(moved.rows, bytes);
            }
            if !anew {
                return Err(error);
            }
        }
    }

    /// Hands the rows over. Says how the reading ended, and how the sink and the conversion did.
    fn read(
        &self,
        source: &mut dyn Source,
        convert: &mut dyn Convert,
        sink: &mut dyn Sink,
        moved: &mut Moved,
    ) -> (Result<()>, Result<()>) {
        let mut passing = Passing { flow: *self, convert, sink, moved, room: None, large: 0, taken: Ok(()) };
        let read = source.read(self.bounds.batch_bytes, &mut passing);
        (read, passing.taken)
    }

    fn count(&self, moved: Moved) {
        if let Some(bytes) = self.counted(moved) {
            self.progress.add(moved.rows, bytes);
        }
    }

    /// The bytes that are counted.
    fn counted(&self, moved: Moved) -> Option<u64> {
        match self.counts {
            Counts::Nothing => None,
            Counts::Memory => Some(moved.bytes),
            Counts::Read => Some(moved.read),
        }
    }

    /// Waits until the source may be asked.
    fn turn(&self) -> Result<()> {
        if self.pays { self.progress.turn() } else { self.progress.check() }
    }

    fn pay(&self, bytes: u64) -> Result<()> {
        if self.pays { self.progress.read(bytes) } else { self.progress.check() }
    }
}

/// Rows on their way from the source to the sink.
struct Passing<'a> {
    flow: Flow<'a>,
    convert: &'a mut dyn Convert,
    sink: &'a mut dyn Sink,
    moved: &'a mut Moved,
    /// For the row that is read next, if it is larger than a batch.
    room: Option<Room>,
    large: u64,
    /// How the sink and the conversion did.
    taken: Result<()>,
}

impl Passing<'_> {
    fn take(&mut self, batch: RecordBatch, large: bool) -> Result<()> {
        if large {
            self.sink.keep(&mut self.room);
        }
        self.sink.batch(self.convert.convert(batch)?)
    }
}

impl Take for Passing<'_> {
    fn room(&mut self, bytes: u64) -> Result<()> {
        let (flow, sink, taken) = (self.flow, &mut *self.sink, &mut self.taken);
        self.large = bytes;
        let room = self.room.get_or_insert_with(|| Room::new(&flow.bounds.large));
        room.make(bytes.saturating_mul(flow.bounds.copies), flow.progress, &mut || {
            *taken = sink.settle();
            if taken.is_ok() { Ok(()) } else { Err(Kind::Cancelled.into()) }
        })
    }

    fn batch(&mut self, batch: RecordBatch, read: u64) -> Result<()> {
        self.flow.pay(read)?;
        let (rows, bytes) = (batch.num_rows() as u64, bytes_of(&batch) as u64);
        // What came before a large row is handed over when there is room for that already.
        let is_large = self.large > 0 && rows == 1 && read > self.flow.bounds.batch_bytes as u64;
        self.taken = self.take(batch, is_large);
        if self.taken.is_err() {
            return Err(Kind::Cancelled.into());
        }
        let moved = Moved { rows, bytes, read, largest: self.large };
        self.flow.count(moved);
        self.moved.rows += rows;
        self.moved.bytes += bytes;
        self.moved.read += read;
        self.moved.largest = self.moved.largest.max(self.large);
        Ok(())
    }

    fn done(&mut self) {
        (self.room, self.large) = (None, 0);
    }
}
