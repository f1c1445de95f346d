//! A place in a bucket of a service.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart,
};
use tokio::runtime::Handle;

use super::server_copy::{Answer, From, Within, element};
use super::service::BucketSpec;
use super::store::Meta;
use crate::error::{Error, Kind, Result};
use crate::secret::without_secrets;

/// Reads and writes of more than this are split over requests.
pub const PART: u64 = 8 << 20;
/// Parts of one object under way in each direction.
pub const PARTS_AT_ONCE: usize = 3;
/// S3 allows ten thousand parts.
const MAX_PARTS: u64 = 9_000;
const LIST_ATTEMPTS: u32 = 4;
const LIST_PAUSE: Duration = Duration::from_millis(300);
const TURNS: usize = 64;

/// A store in a bucket.
#[derive(Debug, Clone)]
pub struct Bucket {
    objects: Arc<dyn ObjectStore>,
    within: Option<Arc<Within>>,
    handle: Handle,
    spec: Arc<BucketSpec>,
    turns: Arc<[Mutex<()>; TURNS]>,
}

impl Bucket {
    /// Makes the service's client; nothing is asked yet.
    pub fn open(spec: &BucketSpec, handle: Handle) -> Result<Self> {
        let (objects, within) = spec.connect(&handle)?;
        let turns = Arc::new(std::array::from_fn(|_| Mutex::new(())));
        Ok(Self { objects, within: within.map(Arc::new), handle, spec: Arc::new(spec.clone()), turns })
    }

    /// Of lanes that make one object, whose values are equal, one looks and writes at a time: the next one finds it.
    pub(super) fn turn(&self, path: &str) -> MutexGuard<'_, ()> {
        let mut hash = DefaultHasher::new();
        path.hash(&mut hash);
        let turn = &self.turns[hash.finish() as usize % TURNS];
        turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How errors name an object.
    #[must_use]
    pub fn place(&self, path: &str) -> String {
        let key = if self.spec.location.is_empty() {
            path.to_owned()
        } else {
            format!("{}/{path}", self.spec.location)
        };
        format!("{}://{}/{key}", self.spec.scheme(), self.spec.bucket)
    }

    /// True if both are the same keys of the same bucket of the same service.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        let (one, other) = (&self.spec, &other.spec);
        (one.scheme(), one.host(), &one.bucket, &one.location)
            == (other.scheme(), other.host(), &other.bucket, &other.location)
    }

    pub(super) fn key(&self, path: &str) -> Result<Path> {
        let full = match (self.spec.location.is_empty(), path.is_empty()) {
            (true, _) => path.to_owned(),
            (_, true) => self.spec.location.clone(),
            _ => format!("{}/{path}", self.spec.location),
        };
        // The keys of the library have no slash at either end and none beside another.
        Path::parse(&full).map_err(|error| {
            Kind::File { path: self.place(path), message: format!("is no name of an object: {error}") }.into()
        })
    }

    /// True if nothing lies below `prefix`; fails if the service does not let us look.
    pub fn is_empty(&self, prefix: &str) -> Result<bool> {
        let key = self.key(prefix)?;
        let mut attempts = LIST_ATTEMPTS;
        loop {
            attempts -= 1;
            let first = self.handle.block_on(async { self.objects.list(Some(&key)).next().await });
            match first {
                None => return Ok(true),
                Some(Ok(_)) => return Ok(false),
                Some(Err(object_store::Error::NotFound { source, .. })) => {
                    return Err(self.spec.refused(&words(&source.to_string())));
                }
                Some(Err(error)) => self.again(prefix, &error, attempts)?,
            }
        }
    }

    /// Hands over the objects below a path, which is relative to the store, in the service's order.
    pub fn list(&self, prefix: &str, each: &mut dyn FnMut(String, Meta) -> Result<()>) -> Result<()> {
        let (key, root) = (self.key(prefix)?, self.key("")?);
        let mut objects = self.objects.list(Some(&key));
        let (mut last, mut attempts): (Option<Path>, u32) = (None, LIST_ATTEMPTS);
        let mut fresh = false;
        loop {
            let Some(found) = self.handle.block_on(objects.next()) else {
                // A service that cuts a listing without a word on how to go on must not hide the rest: it is asked for
                // what comes after the last, until nothing does. Only S3 is spoken by others than those who made it.
                match &last {
                    Some(last) if fresh && self.within.is_some() => {
                        objects = self.objects.list_with_offset(Some(&key), last);
                    }
                    _ => return Ok(()),
                }
                fresh = false;
                continue;
            };
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    attempts -= 1;
                    self.again(prefix, &error, attempts)?;
                    objects = match &last {
                        Some(last) => self.objects.list_with_offset(Some(&key), last),
                        None => self.objects.list(Some(&key)),
                    };
                    continue;
                }
            };
            attempts = LIST_ATTEMPTS;
            if last.as_ref().is_some_and(|last| !fresh && found.location <= *last) {
                let message = "the service lists the same objects again and again";
                return Err(Kind::File { path: self.place(prefix), message: message.into() }.into());
            }
            fresh = true;
            let path = found.location.as_ref().strip_prefix(root.as_ref()).unwrap_or_default();
            let path = path.strip_prefix('/').unwrap_or(path);
            if !path.is_empty() {
                each(path.to_owned(), known(&found))?;
            }
            last = Some(found.location);
        }
    }

    /// The library asks again when a request fails, but not when the line is cut in the middle of a listing.
    fn again(&self, prefix: &str, error: &object_store::Error, attempts: u32) -> Result<()> {
        let error = self.failed(prefix, error);
        if attempts == 0 || !error.is_transient() {
            return Err(error);
        }
        std::thread::sleep(LIST_PAUSE);
        Ok(())
    }

    /// What the service knows of an object; nothing if it is not there.
    pub fn meta(&self, path: &str) -> Result<Option<Meta>> {
        let key = self.key(path)?;
        match self.handle.block_on(self.objects.head(&key)) {
            Ok(meta) => Ok(Some(known(&meta))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(path, &error)),
        }
    }

    /// What is known of an object, by reading its first byte: some services tell the tag only then. Not for empty ones.
    pub(super) fn look(&self, path: &str) -> Result<Meta> {
        let key = self.key(path)?;
        let options = GetOptions { range: Some(GetRange::Bounded(0..1)), ..GetOptions::default() };
        let read = self.handle.block_on(self.objects.get_opts(&key, options));
        read.map(|found| known(&found.meta)).map_err(|error| self.failed(path, &error))
    }

    /// The whole of an object, which must be small.
    pub fn get(&self, path: &str) -> Result<(Meta, Bytes)> {
        let key = self.key(path)?;
        let read = async {
            let result = self.objects.get(&key).await?;
            let meta = known(&result.meta);
            Ok((meta, result.bytes().await?))
        };
        self.handle.block_on(read).map_err(|error| self.failed(path, &error))
    }

    /// An object in pieces, several of them under way at a time. One that is replaced meanwhile is an error.
    pub(super) fn pieces(&self, path: &str, meta: &Meta) -> Result<Pieces> {
        let key = self.key(path)?;
        let (size, etag) = (meta.size, meta.etag.clone());
        let step = part_size(size);
        let ranges = (0..size.div_ceil(step)).map(move |part| part * step..size.min((part + 1) * step));
        let (objects, handle) = (Arc::clone(&self.objects), self.handle.clone());
        let reads = stream::iter(ranges).map(move |range: Range<u64>| {
            let (objects, key, etag) = (Arc::clone(&objects), key.clone(), etag.clone());
            handle.spawn(async move {
                let options = GetOptions {
                    if_match: etag,
                    range: Some(GetRange::Bounded(range)),
                    ..GetOptions::default()
                };
                objects.get_opts(&key, options).await?.bytes().await
            })
        });
        let bytes = reads
            .buffered(PARTS_AT_ONCE)
            .map(|read| read.map_err(|source| object_store::Error::JoinError { source })?);
        Ok(Pieces { bytes: Box::pin(bytes), bucket: self.clone(), path: path.to_owned() })
    }

    /// Writes a small object; it is there when the service has all of it, and never in parts. Returns its tag.
    pub fn put(&self, path: &str, parts: impl IntoIterator<Item = Bytes>) -> Result<Option<String>> {
        let key = self.key(path)?;
        let payload: PutPayload = parts.into_iter().collect();
        let done = self.handle.block_on(self.objects.put(&key, payload));
        done.map(|put| put.e_tag).map_err(|error| self.failed(path, &error))
    }

    /// Begins an object that is written in parts; it appears when it is finished.
    pub(super) fn begin(&self, path: &str, size: u64) -> Result<Parts> {
        let key = self.key(path)?;
        let upload = self
            .handle
            .block_on(self.objects.put_multipart(&key))
            .map_err(|error| self.failed(path, &error))?;
        let write = {
            let _inside = self.handle.enter();
            WriteMultipart::new_with_chunk_size(upload, part_size(size) as usize)
        };
        Ok(Parts { write: Some(write), bucket: self.clone(), path: path.to_owned() })
    }

    /// True if the service begins to write an object, which is given up at once: nothing of it is ever seen. `None` where
    /// beginning is no request.
    pub fn may_write(&self, path: &str) -> Result<Option<bool>> {
        if self.spec.scheme() == "az" {
            return Ok(None);
        }
        self.begin(path, 0).map(|_given_up| Some(true))
    }

    /// What copies objects of `source` into this bucket without their bytes passing here, if anything does.
    pub(super) fn within(&self, source: &Self) -> Option<&Within> {
        let within = self.within.as_deref()?;
        let same = source.within.is_some() && self.spec.host() == source.spec.host();
        (same && !within.is_off()).then_some(within)
    }

    /// Lets the service copy an object of `source`; its answer is that it did, or that it does not.
    pub(super) fn copy_within(
        &self,
        within: &Within,
        source: &Self,
        from: &str,
        meta: &Meta,
        to: &str,
    ) -> Result<Answer> {
        let (key, to) = (source.key(from)?, self.key(to)?);
        let from_bucket = From { bucket: &source.spec.bucket, key: &key, etag: meta.etag.as_deref() };
        let file = |message: &str| Kind::File { path: source.place(from), message: message.into() };
        match self.handle.block_on(within.copy(from_bucket, meta.size, &to)) {
            answer @ (Answer::Copied(_) | Answer::Refused) => Ok(answer),
            Answer::NotFound => Err(file("no such object").into()),
            Answer::Changed => Err(file("changed while it was copied").into()),
            Answer::Failed(message) => Err(self.lost(format!("{}: {}", source.place(from), words(&message)))),
        }
    }

    /// Writes an object into `file`, however large it is.
    pub fn fetch(&self, path: &str, file: &mut File) -> Result<()> {
        let unwritable = |error: io::Error| -> Error {
            Kind::File { path: self.place(path), message: format!("cannot be fetched: {error}") }.into()
        };
        let (meta, first) = match self.meta(path)? {
            Some(meta) if meta.size > PART => (meta, None),
            _ => self.get(path).map(|(meta, bytes)| (meta, Some(bytes)))?,
        };
        match first {
            Some(bytes) => file.write_all(&bytes).map_err(unwritable),
            None => {
                self.pieces(path, &meta)?.try_for_each(|piece| file.write_all(&piece?).map_err(unwritable))
            }
        }
    }

    /// Makes an object of what `file` holds from where it stands.
    pub fn send(&self, path: &str, file: &mut File) -> Result<()> {
        let unreadable = |error: io::Error| -> Error {
            Kind::File { path: self.place(path), message: format!("cannot be sent: {error}") }.into()
        };
        let size = file.metadata().map_err(unreadable)?.len();
        let mut read = |most: u64| {
            let mut piece = Vec::new();
            file.take(most).read_to_end(&mut piece).map(|_| Bytes::from(piece)).map_err(unreadable)
        };
        if size <= PART {
            return self.put(path, [read(size)?]).map(drop);
        }
        let mut parts = self.begin(path, size)?;
        loop {
            let piece = read(PART)?;
            if piece.is_empty() {
                return parts.finish().map(drop);
            }
            parts.put(piece)?;
        }
    }

    /// Removes an object; one that is not there is no error.
    pub fn remove(&self, path: &str) -> Result<()> {
        let key = self.key(path)?;
        match self.handle.block_on(self.objects.delete(&key)) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(path, &error)),
        }
    }

    fn failed(&self, path: &str, error: &object_store::Error) -> Error {
        use object_store::Error as E;
        let place = self.place(path);
        let message = words(&error.to_string());
        match error {
            E::NotFound { .. } => Kind::File { path: place, message: "no such object".into() }.into(),
            E::Precondition { .. } => {
                Kind::File { path: place, message: "changed while it was copied".into() }.into()
            }
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
                self.spec.refused(&format!("refuses access to {place}: {message}"))
            }
            E::Generic { .. } if is_final(&message) => self.spec.refused(&format!("{place}: {message}")),
            E::Generic { .. } | E::JoinError { .. } => self.lost(format!("{place}: {message}")),
            _ => self.spec.refused(&format!("{place}: {message}")),
        }
    }

    fn lost(&self, message: String) -> Error {
        Kind::Lost { server: format!("the store {}", self.spec.label()), message }.into()
    }
}

/// An object that arrives in pieces.
pub(super) struct Pieces {
    bytes: std::pin::Pin<Box<dyn Stream<Item = object_store::Result<Bytes>> + Send>>,
    bucket: Bucket,
    path: String,
}

impl Iterator for Pieces {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.bucket.handle.block_on(self.bytes.next())?;
        Some(next.map_err(|error| self.bucket.failed(&self.path, &error)))
    }
}

/// An object that is being written in parts; the service forgets them unless it is finished.
pub(super) struct Parts {
    write: Option<WriteMultipart>,
    bucket: Bucket,
    path: String,
}

impl Parts {
    pub fn put(&mut self, bytes: Bytes) -> Result<()> {
        let Some(write) = &mut self.write else { return Ok(()) };
        let done = self.bucket.handle.block_on(async {
            write.wait_for_capacity(PARTS_AT_ONCE).await?;
            write.put(bytes);
            Ok(())
        });
        done.map_err(|error| self.bucket.failed(&self.path, &error))
    }

    pub fn finish(mut self) -> Result<Option<String>> {
        let Some(write) = self.write.take() else { return Ok(None) };
        let done = self.bucket.handle.block_on(write.finish());
        done.map(|put| put.e_tag).map_err(|error| self.bucket.failed(&self.path, &error))
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if let Some(write) = self.write.take() {
            let _ = self.bucket.handle.block_on(write.abort());
        }
    }
}

/// How long the parts are in which an object of `size` bytes is sent.
#[must_use]
pub fn part_size(size: u64) -> u64 {
    PART.max(size.div_ceil(MAX_PARTS))
}

fn known(meta: &ObjectMeta) -> Meta {
    let etag = meta.e_tag.clone();
    Meta { size: meta.size, modified: Some(meta.last_modified.into()), etag }
}

/// True if the service understood the request and will answer the same again.
fn is_final(message: &str) -> bool {
    [" 400 ", " 401 ", " 403 ", " 404 ", " 405 ", " 411 ", " 501 "]
        .iter()
        .any(|status| message.contains(&format!("status code:{status}")))
}

/// The words of an error without the service's XML, which may repeat whole requests, keys included.
fn words(text: &str) -> String {
    let text = &without_secrets(text);
    let Some(begin) = text.find('<') else { return text.to_owned() };
    let said = [element(text, "Code"), element(text, "Message")]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(": ");
    format!("{}{said}", &text[..begin])
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use object_store::memory::InMemory;
    use object_store::throttle::{ThrottleConfig, ThrottledStore};

    use super::*;
    use crate::stores::folder::Pending;
    use crate::stores::store::Store;
    use crate::stores::whole::Whole;

    #[test]
    fn the_answers_xml_is_not_repeated_whole() {
        let text = "status code: 403 Forbidden: <?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code>\
                    <Message>no</Message><AWSAccessKeyId>AKIA</AWSAccessKeyId></Error>";
        assert_eq!(words(text), "status code: 403 Forbidden: SignatureDoesNotMatch: no");
    }

    #[test]
    fn of_lanes_that_make_one_object_at_a_time_one_writes_it() {
        let slow =
            ThrottleConfig { wait_get_per_call: Duration::from_millis(20), ..ThrottleConfig::default() };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().expect("threads");
        let service = serde_json::json!({"kind": "gcs"});
        let spec = serde_json::json!({"name": "raw", "bucket": "b", "service": service});
        let bucket = Bucket {
            objects: Arc::new(ThrottledStore::new(InMemory::new(), slow)),
            within: None,
            handle: runtime.handle().clone(),
            spec: Arc::new(serde_json::from_value(spec).expect("a bucket")),
            turns: Arc::new(std::array::from_fn(|_| Mutex::new(()))),
        };
        let store = Store::Bucket(bucket);
        let made = || {
            let mut pending = Pending::of(1);
            let mut whole = Whole::Memory(Cow::Borrowed(b"equal"));
            store.make("ab/cd", &mut whole, &mut pending).expect("made");
            pending.take_made()
        };
        let made: u64 = std::thread::scope(|scope| {
            let lanes: Vec<_> = (0..4).map(|_| scope.spawn(made)).collect();
            lanes.into_iter().map(|lane| lane.join().expect("a lane")).sum()
        });
        assert_eq!(made, 1);
    }

    #[test]
    fn no_object_needs_more_parts_than_s3_allows() {
        assert_eq!(part_size(1), PART);
        assert!((5_u64 << 40).div_ceil(part_size(5 << 40)) <= 10_000);
    }
}
