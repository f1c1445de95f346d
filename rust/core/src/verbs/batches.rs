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

use super::files::{Counts, FilesSummary, ReadBy, each_tracked, is_of_one_object, lanes_of, yes};
use crate::convert::pointer::{Pointer, PointerKind, Tracking, base32};
use crate::error::{Error, Kind, Result};
use crate::mysql::Server;
use crate::river::spare::spare;
use crate::run::lanes::run;
use crate::run::progress::Progress;
use crate::run::retry::retry;
use crate::run::throttle::Limits;
use crate::stores::batches_done::Journal;
use crate::stores::copy::{Copied, Copier, Hand, Object};
use crate::stores::store::{Meta, Store, StoreSpec, Stores};

/// On average; the path decides.
const BATCH_OBJECTS: u64 = 512;
const MOST_OBJECTS: usize = 2048;
const MOST_BYTES: u64 = 4 << 30;
/// Batches that wait to be taken.
const WAITING: usize = 2;

/// Which objects are to be copied in batches.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchesPlan {
    /// Where objects come from.
    pub source_store: StoreSpec,
    /// Where objects go.
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

/// The objects behind pointers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tracked {
    /// The server that is read.
    pub source: Server,
    /// What is known of the column.
    pub pointer: Pointer,
    /// The columns whose pointers matter: objects that none of them names are left alone.
    #[serde(rename = "where")]
    pub reads: Vec<ReadBy>,
    /// The hashes, in hexadecimal, of the only objects that matter.
    #[serde(default)]
    pub only: Option<Vec<String>>,
    /// What may be taken of production.
    #[serde(default)]
    pub throttle: Limits,
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
    /// Named by its contents.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    replaces: bool,
}

/// Some objects that are copied together.
#[derive(Debug, Clone, Serialize)]
pub struct Batch {
    /// Equal for equal batches.
    pub key: String,
    /// How many objects.
    pub count: u64,
    /// Their bytes, as far as they are known.
    pub bytes: u64,
    /// The objects, as `copy` takes them.
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
    /// The next one.
    Batch(Batch),
    /// There are no more, because of this.
    Failed(Error),
    /// None was made in that time.
    NotYet,
    /// There are no more.
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
            let there = match stores.destination.meta(&object.destination) {
                // What is no plain file is named when it is to be written.
                Err(error) if matches!(error.kind(), Kind::File { .. }) => None,
                there => there?,
            };
            is_done &= there.is_some_and(|there| there.size == object.size + object.prefix.len() as u64);
        }
        let count = objects.len() as u64;
        put(Batch { key, count, bytes: *bytes, objects: text, done: is_done, fresh })?;
        objects.clear();
        *bytes = 0;
        Ok(())
    };
    each(plan, &stores, progress, &mut |object: Planned| {
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

fn each(
    plan: &BatchesPlan,
    stores: &Stores,
    progress: &Progress,
    take: &mut dyn FnMut(Planned) -> Result<()>,
) -> Result<()> {
    let Some(tracked) = &plan.tracked else {
        return stores.source.list(&plan.prefix, &mut |path, meta| take(listed(path, &meta)));
    };
    spare(&tracked.source, &tracked.throttle, progress)?;
    each_tracked(
        &tracked.source,
        &tracked.reads,
        tracked.only.as_deref(),
        &tracked.pointer,
        progress,
        &mut |row| take(pointed(&tracked.pointer, row)?),
    )
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
        replaces: false,
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
        replaces: pointer.is_named_by_contents(row),
    })
}

/// Batches that are to be copied.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyPlan {
    /// Where objects come from.
    pub source_store: StoreSpec,
    /// Where objects go.
    pub destination_store: StoreSpec,
    /// What is written is proved by its contents.
    #[serde(default = "yes")]
    pub verify: bool,
    /// The destination held nothing before: it is not looked at first.
    pub fresh: bool,
    /// The batches.
    pub batches: Vec<Part>,
    /// What the journal calls this copy.
    pub journal: String,
    /// How many objects are copied at a time; where nothing is said, as many as suit the stores.
    pub lanes: Option<usize>,
    /// How long a service that went away is waited for.
    #[serde(default)]
    pub patience_seconds: Option<u64>,
}

/// One batch of several that are copied together.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Equal for equal batches.
    pub key: String,
    /// The objects, as the batch has them.
    pub objects: String,
}

/// Copies every object of the batches that the destination does not have, and tells the journal if none failed.
pub fn copy_batches(plan: &CopyPlan, progress: &Progress) -> Result<FilesSummary> {
    let begun = Instant::now();
    if let Some(seconds) = plan.patience_seconds {
        progress.wait_for(Duration::from_secs(seconds));
    }
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
            let mut ends = Vec::with_capacity(piece.len());
            for planned in piece {
                progress.check()?;
                let object = Object {
                    source: &planned.source,
                    destination: &planned.destination,
                    prefix: &planned.prefix,
                    md5: planned.md5,
                    size: Some(planned.size),
                    etag: planned.etag.as_deref(),
                    replaces: planned.replaces,
                };
                let in_place = same_place && planned.source == planned.destination;
                let done = retry(progress, || {
                    if in_place {
                        copier.look(&object, false).map(|()| Copied::Present)
                    } else {
                        copier.copy(&object, hand)
                    }
                });
                let ends_the_run = done.as_ref().is_err_and(|error| !is_of_one_object(error));
                ends.push((planned, done));
                progress.add(1, planned.size);
                if ends_the_run {
                    break;
                }
            }
            for (path, error) in copier.settle(hand)? {
                let written = |(planned, done): &&mut (&Planned, Result<Copied>)| {
                    planned.destination == path && matches!(done, Ok(Copied::Written(_)))
                };
                match ends.iter_mut().rev().find(written) {
                    Some((_, done)) => *done = Err(error),
                    None => return Err(error),
                }
            }
            ends.into_iter().try_for_each(|(planned, done)| {
                counts.note(planned.hash.clone(), planned.source.clone(), done)
            })
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

/// A copy whose journal is to go.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetPlan {
    /// Where the journal lies.
    pub destination_store: StoreSpec,
    /// What the journal calls this copy.
    pub journal: String,
}

/// Removes the journal of a copy that is finished.
pub fn forget(plan: &ForgetPlan, _progress: &Progress) -> Result<()> {
    let stores = Stores::open(&plan.destination_store, &plan.destination_store, "")?;
    Journal::new(&stores.destination, &plan.journal).remove()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_object_whose_name_is_taken_is_the_one_that_is_counted_and_told() {
        let root = tempfile::tempdir().expect("a folder");
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        for folder in [&from, &to] {
            fs::create_dir(folder).expect("made");
        }
        for name in ["a", "b", "c"] {
            fs::write(from.join(name), name).expect("written");
        }
        let object = |source: &str, destination: &str| serde_json::json!({"source": source, "destination": destination, "size": 1});
        // Two that go to one place, as where a file system folds names.
        let objects = serde_json::json!([object("a", "x"), object("b", "x"), object("c", "c")]);
        let store = |location| serde_json::json!({"protocol": "file", "name": "raw", "location": location});
        let plan = serde_json::json!({
            "source_store": store(&from),
            "destination_store": store(&to),
            "fresh": false,
            "lanes": 1,
            "journal": "j",
            "batches": [{"key": "k", "objects": objects.to_string()}],
        });
        let plan = serde_json::from_value(plan).expect("a plan");
        let done = copy_batches(&plan, &Progress::default()).expect("copied");
        assert_eq!((done.files_copied, done.bytes, done.error_count), (2, 2, 1));
        assert_eq!(done.errors[0].path, "b");
        assert!(done.errors[0].error.contains("x: is there with other contents than"), "{:?}", done.errors);
        assert_eq!(fs::read(to.join("x")).expect("read"), b"a");
        assert_eq!(fs::read(to.join("c")).expect("read"), b"c");
    }
}
