//! A copy of files as batches: independent pieces of work that any machine can do, the same ones every time.
//!
//! A batch ends after an object whose path says so, not after a number of them: an object more or less then changes one
//! batch, and all others are what the journal of an interrupted call knows.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::files::{Counts, FilesSummary, ReadBy, each_tracked, lanes_of, yes};
use crate::convert::pointer::{Pointer, PointerKind, Tracking, base32};
use crate::error::{Error, Kind, Result};
use crate::files::copy::{Copied, Copier, Hand, Object};
use crate::files::journal::Journal;
use crate::files::store::{Meta, Store, StoreSpec, Stores};
use crate::mysql::Server;
use crate::run::lanes::{retry, run};
use crate::run::progress::Progress;

/// On average; the path decides.
const BATCH_OBJECTS: u64 = 512;
const MOST_OBJECTS: usize = 2048;
const MOST_BYTES: u64 = 4 << 30;
/// Batches that wait to be taken.
const WAITING: usize = 2;

#[derive(Debug, Deserialize)]
pub struct BatchesPlan {
    pub source_store: StoreSpec,
    pub destination_store: StoreSpec,
    /// The folder to copy, relative to the stores; empty for all.
    #[serde(default)]
    pub prefix: String,
    /// The objects behind pointers, instead of those below a prefix.
    #[serde(default)]
    pub tracked: Option<Tracked>,
    /// What the journal calls this copy.
    pub journal: String,
}

#[derive(Debug, Deserialize)]
pub struct Tracked {
    pub source: Server,
    pub pointer: Pointer,
    /// The columns whose pointers matter: objects that none of them names are left alone.
    #[serde(rename = "where")]
    pub reads: Vec<ReadBy>,
}

/// One object of a batch.
#[derive(Debug, Serialize, Deserialize)]
struct Planned {
    source: String,
    destination: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    prefix: Vec<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    md5: Option<[u8; 16]>,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    /// Nanoseconds; so that a source that has changed since makes another batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    modified: Option<u64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    hash: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Batch {
    /// Equal for equal batches.
    pub key: String,
    pub count: u64,
    pub bytes: u64,
    pub objects: String,
    /// True if the journal knows it and the destination still has what was written.
    pub done: bool,
    /// True if the destination held nothing when the plan was begun.
    pub fresh: bool,
}

/// The batches of a copy, made while they are taken: no listing is ever held whole.
pub struct Batches {
    made: Option<Receiver<Result<Batch>>>,
    progress: Arc<Progress>,
    worker: Option<JoinHandle<()>>,
}

/// Begins to make the batches of a plan.
#[must_use]
pub fn batches(plan: BatchesPlan) -> Batches {
    let (sender, receiver) = bounded(WAITING);
    let progress = Arc::new(Progress::default());
    let watched = progress.clone();
    let worker = std::thread::spawn(move || {
        let put = |batch| sender.send(Ok(batch)).map_err(|_| Kind::Cancelled.into());
        if let Err(error) = make(&plan, &watched, put) {
            // Nobody listens any more if this fails.
            let _ = sender.send(Err(error));
        }
    });
    Batches { made: Some(receiver), progress, worker: Some(worker) }
}

impl Batches {
    /// Waits that long for the next batch.
    #[must_use]
    pub fn take(&self, wait: Duration) -> Taken {
        let Some(made) = &self.made else { return Taken::End };
        match made.recv_timeout(wait) {
            Ok(Ok(batch)) => Taken::Batch(batch),
            Ok(Err(error)) => Taken::Failed(error),
            Err(RecvTimeoutError::Disconnected) => Taken::End,
            Err(RecvTimeoutError::Timeout) => Taken::NotYet,
        }
    }
}

/// What came of waiting for a batch.
#[derive(Debug)]
pub enum Taken {
    Batch(Batch),
    Failed(Error),
    NotYet,
    End,
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.progress.cancel();
        self.made = None;
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

fn make(plan: &BatchesPlan, progress: &Progress, put: impl Fn(Batch) -> Result<()>) -> Result<()> {
    let stores = Stores::open(&plan.source_store, &plan.destination_store, &plan.prefix)?;
    let done = Journal::new(&stores.destination, &plan.journal).done()?;
    let fresh = stores.empty && done.is_empty();
    let (mut objects, mut bytes) = (Vec::<Planned>::new(), 0);
    let finish = |objects: &mut Vec<Planned>, bytes: &mut u64| {
        if objects.is_empty() {
            return Ok(());
        }
        let text = serde_json::to_string(&objects)
            .map_err(|error| Error::from(Kind::Internal(format!("a batch: {error}"))))?;
        let key = format!("{:032x}", xxh3_128(text.as_bytes()));
        // Somebody may have been at the destination since. In a folder a look at every file costs little; of a batch in a
        // bucket one object is looked at, which tells whether it was emptied.
        let looked = if matches!(stores.destination, Store::Bucket(_)) { 1 } else { objects.len() };
        let mut is_done = done.contains(&key);
        for object in objects.iter().take(if is_done { looked } else { 0 }) {
            let there = stores.destination.meta(&object.destination)?;
            is_done &= there.is_some_and(|there| there.size == object.size + object.prefix.len() as u64);
        }
        let count = objects.len() as u64;
        put(Batch { key, count, bytes: *bytes, objects: text, done: is_done, fresh })?;
        objects.clear();
        *bytes = 0;
        Ok(())
    };
    each(plan, &stores, &mut |object: Planned| {
        progress.check()?;
        bytes += object.size;
        let cut = xxh3_64(object.source.as_bytes()).is_multiple_of(BATCH_OBJECTS);
        objects.push(object);
        if cut || objects.len() == MOST_OBJECTS || bytes >= MOST_BYTES {
            finish(&mut objects, &mut bytes)?;
        }
        Ok(())
    })?;
    finish(&mut objects, &mut bytes)
}

fn each(plan: &BatchesPlan, stores: &Stores, take: &mut dyn FnMut(Planned) -> Result<()>) -> Result<()> {
    let Some(tracked) = &plan.tracked else {
        return stores.source.list(&plan.prefix, &mut |path, meta| take(listed(path, &meta)));
    };
    each_tracked(&tracked.source, &tracked.reads, &tracked.pointer, &mut |row| {
        take(pointed(&tracked.pointer, row)?)
    })
}

fn listed(path: String, meta: &Meta) -> Planned {
    let since = meta.modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    Planned {
        destination: path.clone(),
        source: path,
        prefix: Vec::new(),
        md5: None,
        size: meta.size,
        etag: meta.etag.clone(),
        modified: since.and_then(|since| u64::try_from(since.as_nanos()).ok()),
        hash: String::new(),
    }
}

fn pointed(pointer: &Pointer, row: &Tracking<'_>) -> Result<Planned> {
    let name = row.attachment_name.filter(|_| pointer.kind == PointerKind::Attach);
    Ok(Planned {
        source: pointer.source_path(row)?,
        destination: pointer.path(row)?,
        prefix: name.map_or_else(Vec::new, |name| [name, b"\0"].concat()),
        md5: match pointer.kind {
            PointerKind::Filepath => row.contents_hash,
            PointerKind::Blob | PointerKind::Attach => Some(pointer.object_hash(row)),
        },
        size: row.size,
        etag: None,
        modified: None,
        hash: base32(&row.hash),
    })
}

#[derive(Debug, Deserialize)]
pub struct CopyPlan {
    pub source_store: StoreSpec,
    pub destination_store: StoreSpec,
    #[serde(default = "yes")]
    pub verify: bool,
    pub fresh: bool,
    pub batches: Vec<Part>,
    pub journal: String,
    pub lanes: Option<usize>,
}

/// One batch of several that are copied together.
#[derive(Debug, Deserialize)]
pub struct Part {
    pub key: String,
    pub objects: String,
}

/// Copies every object of the batches that the destination does not have, and tells the journal if none failed.
pub fn copy_batches(plan: &CopyPlan, progress: &Progress) -> Result<FilesSummary> {
    let begun = Instant::now();
    let mut objects = Vec::<Planned>::new();
    for batch in &plan.batches {
        let more: Vec<_> = serde_json::from_str(&batch.objects)
            .map_err(|error| Error::from(Kind::Plan(format!("the objects of a batch: {error}"))))?;
        objects.extend(more);
    }
    let mut stores = Stores::open(&plan.source_store, &plan.destination_store, "")?;
    stores.empty = plan.fresh;
    let lanes = lanes_of(plan.lanes, &stores);
    let most = if stores.is_remote() { 8 } else { 64 };
    let same_place = stores.source.is_same_place(&stores.destination);
    let copier = Copier::new(stores, plan.verify);
    let counts = Counts::default();
    let mut hands = (0..lanes).map(|_| Hand::of(lanes)).collect::<Vec<_>>();
    run(
        &mut hands,
        |queue| objects.chunks(most).try_for_each(|piece| queue.put(piece)),
        |hand, piece: &[Planned]| {
            for planned in piece {
                progress.check()?;
                let object = Object {
                    source: &planned.source,
                    destination: &planned.destination,
                    prefix: &planned.prefix,
                    md5: planned.md5,
                    size: Some(planned.size),
                    etag: planned.etag.as_deref(),
                };
                let in_place = same_place && planned.source == planned.destination;
                let done = retry(progress, || {
                    if in_place {
                        copier.look(&object).map(|()| Copied::Present)
                    } else {
                        copier.copy(&object, hand)
                    }
                });
                counts.note(planned.hash.clone(), planned.source.clone(), done)?;
                progress.add(1, planned.size);
            }
            copier.settle(hand)
        },
    )?;
    copier.finish()?;
    let summary = counts.summary(begun);
    if summary.error_count == 0 {
        let journal = Journal::new(&copier.stores.destination, &plan.journal);
        plan.batches.iter().try_for_each(|batch| journal.mark(&batch.key))?;
    }
    Ok(summary)
}

#[derive(Debug, Deserialize)]
pub struct ForgetPlan {
    pub destination_store: StoreSpec,
    pub journal: String,
}

/// Removes the journal of a copy that is finished.
pub fn forget(plan: &ForgetPlan, _progress: &Progress) -> Result<()> {
    let stores = Stores::open(&plan.destination_store, &plan.destination_store, "")?;
    Journal::new(&stores.destination, &plan.journal).remove()
}
