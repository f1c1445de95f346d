//! Where the rows of a chunk go.

use arrow_array::RecordBatch;

use crate::error::Result;
use crate::mysql::chunk::Chunk;
use crate::run::memory::Room;

/// A chunk of a table on its way.
#[derive(Debug, Clone, Default)]
pub struct Piece {
    /// Its place among the chunks of its table, by which a journal knows it.
    pub number: u64,
    /// Its range; that of the whole table where the source is no table.
    pub chunk: Chunk,
    /// An earlier run had begun it.
    pub former: bool,
}

/// How much was moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Rows that the sink took.
    pub rows: u64,
    /// What they took in memory.
    pub bytes: u64,
    /// What they took on the wire, or in a file.
    pub read: u64,
    /// The largest of those rows that were larger than a batch.
    pub largest: u64,
}

/// What a sink says when a chunk is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It takes the chunk's rows.
    Open,
    /// It has them already: an earlier attempt was committed, and nobody had heard of it.
    Done(Moved),
}

/// An end of the river: a table, a file, a digest, a channel. One sink works for one lane, and on one chunk at a time.
///
/// `begin`, then any number of `batch`, then `commit` or `abandon`. What is not committed has not happened: the same chunk is
/// then begun again, from its first row.
pub trait Sink {
    /// Begins a chunk.
    fn begin(&mut self, piece: &Piece) -> Result<Begun>;

    /// Takes the next rows of the chunk.
    fn batch(&mut self, batch: RecordBatch) -> Result<()>;

    /// Makes what was taken last, together with what a journal says of it.
    fn commit(&mut self, piece: &Piece, moved: Moved) -> Result<()>;

    /// Gives up what was taken since `begin`, after an error of anybody.
    fn abandon(&mut self) {}

    /// Ends what is open at the other end before this lane waits for memory: a lock may be what others wait for.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// Takes over the room of the large row that comes next, if it will outlive its `batch`.
    fn keep(&mut self, room: &mut Option<Room>) {
        let _ = room;
    }

    /// True if the last batch was refused because the chunk must be taken from its beginning, in another form.
    fn wants_anew(&mut self) -> bool {
        false
    }

    /// False if what was taken is out of our hands: then nothing is tried again.
    fn is_repeatable(&self) -> bool {
        true
    }
}
