//! Where the rows of a chunk come from: sessions with a server, or a chunk file.

use arrow_array::RecordBatch;

use super::instant::Instant;
use super::read::read_stored;
use super::steady::{Open, Steady};
use crate::archive::manifest::{ChunkFile, failed, hex};
use crate::archive::read::Opened;
use crate::batch::digest::{Digest, Meaning};
use crate::batch::natural::Natural;
use crate::error::{At, Result};
use crate::mysql::decode::Audience;
use crate::mysql::scan::{Take, scan_into};
use crate::mysql::session::{Snapshot, open_reader};
use crate::mysql::snapshot::open_snapshot;
use crate::mysql::{Connection, Server};
use crate::run::progress::Progress;

/// The rows of one chunk, to be read as often as is needed.
pub trait Source {
    /// Hands over all rows from the first on, in batches of about `batch_bytes`. An error of `take` ends the reading and is
    /// returned; whoever reads can read again.
    fn read(&mut self, batch_bytes: usize, take: &mut dyn Take) -> Result<()>;
}

/// The rows of a statement.
pub struct Rows<'a> {
    session: &'a mut Steady,
    progress: &'a Progress,
    sql: String,
    audience: Audience,
}

impl<'a> Rows<'a> {
    /// For our own stations.
    pub fn new(session: &'a mut Steady, sql: String, progress: &'a Progress) -> Self {
        Self { session, progress, sql, audience: Audience::River }
    }

    /// For the user.
    pub fn shown(session: &'a mut Steady, sql: String, progress: &'a Progress) -> Self {
        Self { session, progress, sql, audience: Audience::User }
    }
}

impl Source for Rows<'_> {
    fn read(&mut self, batch_bytes: usize, take: &mut dyn Take) -> Result<()> {
        let (sql, audience) = (&self.sql, self.audience);
        self.session
            .once(self.progress, |session| scan_into(session, sql, audience, batch_bytes, take).map(drop))
    }
}

/// The rows of a chunk file, proved to be those that its manifest tells of.
pub struct Stored<'a> {
    /// What the manifest says.
    pub file: &'a ChunkFile,
    /// The file itself.
    pub opened: &'a Opened,
    /// How its columns are spelled.
    pub natural: &'a Natural,
    /// How its rows were hashed.
    pub meanings: &'a [Meaning],
}

impl Source for Stored<'_> {
    fn read(&mut self, batch_bytes: usize, take: &mut dyn Take) -> Result<()> {
        let mut spelled = Spelled { of: self, take, digest: Digest::default(), told: 0 };
        read_stored(self.opened, self.file, batch_bytes, &mut spelled)?;
        let (digest, file) = (spelled.digest, self.file);
        if (digest.rows, hex(digest.sum)) == (file.rows, file.digest.clone()) {
            return Ok(());
        }
        Err(failed(&file.path, "its rows are not those of the manifest: their digest differs"))
    }
}

/// Spells the rows of a chunk file as the river has them.
struct Spelled<'a> {
    of: &'a Stored<'a>,
    take: &'a mut dyn Take,
    digest: Digest,
    /// Bytes of the file that were told of.
    told: u64,
}

impl Take for Spelled<'_> {
    fn room(&mut self, bytes: u64) -> Result<()> {
        self.take.room(bytes)
    }

    fn batch(&mut self, batch: RecordBatch, _: u64) -> Result<()> {
        let file = self.of.file;
        let batch = self.of.natural.river(&batch).at(|| file.path.clone())?;
        self.digest.add(&batch, self.of.meanings)?;
        // Of the file, as a resumed call counts what it finds: how long rows are in memory it does not know.
        let rows = u128::from(self.digest.rows.min(file.rows));
        let until = (u128::from(file.bytes) * rows / u128::from(file.rows.max(1))) as u64;
        let read = until - self.told;
        self.told = until;
        self.take.batch(batch, read)
    }

    fn done(&mut self) {
        self.take.done();
    }
}

/// The sessions that a run reads by: one for each lane, and a walker that finds where chunks end.
pub struct Readers {
    /// Finds bounds. Where only one session could have the snapshot it reads outside of it: a bound that has moved since
    /// only makes chunks unequal in size.
    pub walker: Steady,
    /// The readers of the lanes: one where only one could have the snapshot.
    pub lanes: Vec<Steady>,
    /// How they came to see one instant; nothing where each statement sees its own.
    pub snapshot: Option<Snapshot>,
    watched: Option<Instant>,
}

impl Readers {
    /// Sessions of which each statement sees its own instant, opened again when they are lost.
    pub fn steady(server: &Server, lanes: usize) -> Result<Self> {
        let open = || Steady::open(server, open_reader);
        let lanes = (0..lanes).map(|_| open()).collect::<Result<_>>()?;
        Ok(Self { walker: open()?, lanes, snapshot: None, watched: None })
    }

    /// Sessions in one snapshot of `tables`, given up as soon as anybody waits for it. `at` is told of the instant.
    pub fn at_one_instant<'a>(
        server: &Server,
        lanes: usize,
        tables: impl IntoIterator<Item = (&'a str, &'a str)>,
        progress: &Progress,
        at: impl FnMut(&mut Connection),
    ) -> Result<Self> {
        let open = || open_reader(server);
        let walker = open()?;
        let lanes = (0..lanes).map(|_| open()).collect::<Result<_>>()?;
        Self::over((walker, open_reader), lanes, tables, progress, at)
    }

    /// The same while the caller keeps everybody from writing to the tables.
    pub fn held<'a>(
        server: &Server,
        lanes: usize,
        tables: impl IntoIterator<Item = (&'a str, &'a str)>,
        progress: &Progress,
    ) -> Result<Self> {
        let mut walker = open_reader(server)?;
        let mut lanes = (0..lanes).map(|_| open_reader(server)).collect::<Result<Vec<_>>>()?;
        let tables: Vec<_> = tables.into_iter().collect();
        let watched = Instant::held(&mut walker, &mut lanes, &tables)?;
        progress.hold_snapshot();
        let lanes = lanes.into_iter().map(Steady::only).collect();
        let (walker, snapshot) = (Steady::only(walker), Some(Snapshot::Shared));
        Ok(Self { walker, lanes, snapshot, watched: Some(watched) })
    }

    /// The same over sessions that are open. The walker is opened again where it has no snapshot to lose.
    pub fn over<'a>(
        (mut walker, again): (Connection, Open),
        mut lanes: Vec<Connection>,
        tables: impl IntoIterator<Item = (&'a str, &'a str)>,
        progress: &Progress,
        at: impl FnMut(&mut Connection),
    ) -> Result<Self> {
        let mut tables: Vec<_> = tables.into_iter().collect();
        tables.sort_unstable();
        tables.dedup();
        let (snapshot, watched) = Instant::open(&mut walker, &mut lanes, &tables, progress, at)?;
        progress.hold_snapshot();
        let walker = match snapshot {
            Snapshot::Shared => Steady::only(walker),
            Snapshot::Single => Steady::over(walker, again),
        };
        let lanes = lanes.into_iter().map(Steady::only).collect();
        Ok(Self { walker, lanes, snapshot: Some(snapshot), watched: Some(watched) })
    }

    /// One session that reads and walks, in a snapshot of `tables`.
    pub fn alone(mut session: Connection, tables: &[(&str, &str)], progress: &Progress) -> Result<Self> {
        open_snapshot(&mut session, tables)?;
        let watched = Instant::over(&session, tables);
        progress.hold_snapshot();
        let (walker, snapshot) = (Steady::only(session), Some(Snapshot::Shared));
        Ok(Self { walker, lanes: Vec::new(), snapshot, watched: Some(watched) })
    }

    /// What a run came to, which failed if its snapshot was given up.
    pub fn judge<T>(&self, done: Result<T>) -> Result<T> {
        match &self.watched {
            Some(watched) => watched.judge(done),
            None => done,
        }
    }
}
