//! Rows for whoever asks for them on another thread.

use arrow_array::RecordBatch;
use crossbeam_channel::Sender;

use crate::error::{Kind, Result};
use crate::river::sink::{Begun, Moved, Piece, Sink};
use crate::run::memory::Room;

/// A batch on its way; a large row keeps its room until it is taken.
pub struct Sent {
    /// The rows, or why there are no more.
    pub batch: Result<RecordBatch>,
    /// What is given back when this is dropped.
    pub room: Option<Room>,
}

/// The end of a channel into which batches go. What has gone cannot be taken back.
pub struct Channel<'a> {
    sender: &'a Sender<Sent>,
    room: Option<Room>,
}

impl<'a> Channel<'a> {
    /// Into this channel.
    #[must_use]
    pub fn new(sender: &'a Sender<Sent>) -> Self {
        Self { sender, room: None }
    }
}

impl Sink for Channel<'_> {
    fn begin(&mut self, _: &Piece) -> Result<Begun> {
        Ok(Begun::Open)
    }

    fn keep(&mut self, room: &mut Option<Room>) {
        self.room = room.take();
    }

    fn batch(&mut self, batch: RecordBatch) -> Result<()> {
        let sent = Sent { batch: Ok(batch), room: self.room.take() };
        self.sender.send(sent).map_err(|_| Kind::Cancelled.into())
    }

    fn commit(&mut self, _: &Piece, _: Moved) -> Result<()> {
        Ok(())
    }

    fn is_repeatable(&self) -> bool {
        false
    }
}
