//! Reading rows within the memory of a run.

use std::sync::Arc;

use arrow_array::RecordBatch;

use crate::archive::manifest::ChunkFile;
use crate::archive::read::Opened;
use crate::error::Result;
use crate::mysql::Connection;
use crate::mysql::decode::Audience;
use crate::mysql::scan::{Scanned, Take, scan_into};
use crate::run::memory::{LargeRows, Room};
use crate::run::progress::Progress;

/// A large row of a chunk file stands in memory as an array, as the page of it, and packed.
pub const COPIES_OF_STORED: u64 = 3;

/// What the lanes of a run share when they read.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// About how many bytes a batch has.
    pub batch_bytes: usize,
    /// The budget of rows that are larger.
    pub large: Arc<LargeRows>,
    /// How often a large row stands in memory at a time: once as it came, and as whatever is made of it.
    pub copies: u64,
}

impl Bounds {
    /// Runs `sql` and hands its rows to `sink` in batches; a row larger than a batch waits for room before it is read.
    pub fn read(
        &self,
        connection: &mut Connection,
        sql: &str,
        progress: &Progress,
        sink: &mut dyn FnMut(RecordBatch, u64) -> Result<()>,
    ) -> Result<Scanned> {
        let mut taking = Taking { room: Room::new(&self.large), copies: self.copies, progress, sink };
        scan_into(connection, sql, Audience::River, self.batch_bytes, &mut taking)
    }

    /// The same for a chunk file.
    pub fn read_stored(
        &self,
        opened: &Opened,
        file: &ChunkFile,
        progress: &Progress,
        sink: &mut dyn FnMut(RecordBatch, u64) -> Result<()>,
    ) -> Result<()> {
        let mut taking = Taking { room: Room::new(&self.large), copies: self.copies, progress, sink };
        read_stored(opened, file, self.batch_bytes, &mut taking)
    }
}

/// Reads a chunk file in batches, with room for each row that is larger than one.
pub fn read_stored(opened: &Opened, file: &ChunkFile, batch_bytes: usize, take: &mut dyn Take) -> Result<()> {
    let mut chunk = opened.chunk(file, batch_bytes)?;
    loop {
        if let Some(bytes) = chunk.ahead() {
            take.room(bytes)?;
        }
        let Some(batch) = chunk.next() else { return Ok(()) };
        take.batch(batch?, 0)?;
        take.done();
    }
}

struct Taking<'a> {
    room: Room,
    copies: u64,
    progress: &'a Progress,
    sink: &'a mut dyn FnMut(RecordBatch, u64) -> Result<()>,
}

impl Take for Taking<'_> {
    fn room(&mut self, bytes: u64) -> Result<()> {
        self.room.make(bytes.saturating_mul(self.copies), self.progress, &mut || Ok(()))
    }

    fn batch(&mut self, batch: RecordBatch, read: u64) -> Result<()> {
        (self.sink)(batch, read)
    }

    fn done(&mut self) {
        self.room.give_back();
    }
}
