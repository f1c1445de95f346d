//! Rows into a chunk file of an archive.

use std::collections::BTreeSet;

use arrow_array::RecordBatch;

use crate::archive::manifest::{ChunkFile as Line, hex};
use crate::archive::place::Place;
use crate::archive::write::ChunkWriter;
use crate::batch::digest::{Digest, Meaning};
use crate::batch::natural::Natural;
use crate::error::{Kind, Result};
use crate::river::sink::{Begun, Moved, Piece, Sink};

/// A chunk file in the making, and what the manifest says of it once it is whole.
pub struct ChunkFile<'a> {
    place: &'a Place,
    folder: &'a str,
    natural: &'a Natural,
    meanings: &'a [Meaning],
    group_bytes: usize,
    path: String,
    writer: Option<ChunkWriter>,
    digest: Digest,
    width: usize,
    /// Columns with values that their natural types do not have.
    odd: BTreeSet<usize>,
    anew: bool,
    /// What was written of the chunk that was committed last; nothing if it has no rows.
    pub line: Option<Line>,
}

impl<'a> ChunkFile<'a> {
    /// Files in `folder` of an archive. At `group_bytes` what is held in memory is written.
    #[must_use]
    pub fn new(
        place: &'a Place,
        folder: &'a str,
        natural: &'a Natural,
        meanings: &'a [Meaning],
        group_bytes: usize,
    ) -> Self {
        Self {
            place,
            folder,
            natural,
            meanings,
            group_bytes,
            path: String::new(),
            writer: None,
            digest: Digest::default(),
            width: 0,
            odd: BTreeSet::new(),
            anew: false,
            line: None,
        }
    }
}

impl Sink for ChunkFile<'_> {
    fn begin(&mut self, piece: &Piece) -> Result<Begun> {
        self.path = format!("{}/{:06}.parquet", self.folder, piece.number);
        self.digest = Digest::default();
        (self.writer, self.line) = (None, None);
        Ok(Begun::Open)
    }

    fn batch(&mut self, batch: RecordBatch) -> Result<()> {
        let natural = self.natural.natural(&batch, &mut self.odd)?;
        let open = match &mut self.writer {
            // The columns of a file are settled by its first batch: with one more of them it is begun anew.
            Some(_) if natural.num_columns() != self.width => {
                self.anew = true;
                return Err(Kind::Cancelled.into());
            }
            Some(open) => open,
            None => {
                self.width = natural.num_columns();
                self.writer.insert(ChunkWriter::create(self.place, &self.path, &natural, self.group_bytes)?)
            }
        };
        open.batch(&natural)?;
        self.digest.add(&batch, self.meanings)
    }

    fn commit(&mut self, _: &Piece, _: Moved) -> Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let written = writer.finish()?;
        self.line = Some(Line {
            path: self.path.clone(),
            rows: self.digest.rows,
            bytes: written.bytes,
            blake3: written.blake3,
            digest: hex(self.digest.sum),
        });
        Ok(())
    }

    fn abandon(&mut self) {
        self.writer = None;
    }

    fn wants_anew(&mut self) -> bool {
        std::mem::take(&mut self.anew)
    }
}
