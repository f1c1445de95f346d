//! A store: a folder, or a place in a bucket of a service.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::Deserialize;
use tokio::runtime::{Builder, Runtime};

use super::batches_done::FOLDER;
use super::bucket::Bucket;
use super::folder::Folder;
use super::service::BucketSpec;
use crate::error::{Kind, Result};

/// A store as a plan names it.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "protocol", rename_all = "lowercase", deny_unknown_fields)]
pub enum StoreSpec {
    /// A folder of this machine.
    File {
        /// The store's name.
        name: String,
        /// Its folder.
        location: PathBuf,
    },
    /// A bucket.
    Bucket(BucketSpec),
}

/// What a store knows of an object without reading it.
#[derive(Debug, Clone)]
pub struct Meta {
    /// Bytes of the object.
    pub size: u64,
    /// When it was written, where that is known.
    pub modified: Option<SystemTime>,
    /// The service's tag of the contents; the MD5 of objects that came in one request and are not encrypted.
    pub etag: Option<String>,
}

/// A store that is open.
#[derive(Debug, Clone)]
pub enum Store {
    /// In a folder of this machine.
    Folder(Folder),
    /// In a bucket.
    Bucket(Bucket),
}

/// The two ends of a copy, and what drives their requests.
#[derive(Debug)]
pub struct Stores {
    /// Where objects come from.
    pub source: Store,
    /// Where they go.
    pub destination: Store,
    /// True if the destination held nothing at all when it was opened.
    pub empty: bool,
    // Made for this run and gone with it, so that a forked process never meets threads it does not have.
    _runtime: Option<Runtime>,
}

impl Stores {
    /// Opens both and looks whether they are there and let us in. `into` is where in the destination objects will go.
    pub fn open(source: &StoreSpec, destination: &StoreSpec, into: &str) -> Result<Self> {
        let runtime = [source, destination].iter().any(|spec| spec.is_remote()).then(runtime).transpose()?;
        let (source, destination) = (source.open(runtime.as_ref())?, destination.open(runtime.as_ref())?);
        if let Store::Bucket(bucket) = &source {
            bucket.is_empty("")?;
        }
        let empty = match &destination {
            Store::Bucket(bucket) => bucket.is_empty(into)?,
            Store::Folder(_) => false,
        };
        Ok(Self { source, destination, empty, _runtime: runtime })
    }

    /// True if one of them is a bucket.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!((&self.source, &self.destination), (Store::Bucket(_), _) | (_, Store::Bucket(_)))
    }
}

/// One store, and what drives its requests.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    _runtime: Option<Runtime>,
}

impl Opened {
    /// A folder has to be there; of a bucket nothing is asked yet.
    pub fn open(spec: &StoreSpec) -> Result<Self> {
        let runtime = spec.is_remote().then(runtime).transpose()?;
        Ok(Self { store: spec.open(runtime.as_ref())?, _runtime: runtime })
    }
}

impl StoreSpec {
    fn is_remote(&self) -> bool {
        matches!(self, Self::Bucket(_))
    }

    fn open(&self, runtime: Option<&Runtime>) -> Result<Store> {
        match (self, runtime) {
            (Self::Bucket(spec), Some(runtime)) => {
                Bucket::open(spec, runtime.handle().clone()).map(Store::Bucket)
            }
            (Self::File { name, location }, _) => Folder::open(name, location).map(Store::Folder),
            (Self::Bucket(_), None) => Err(Kind::Internal("a bucket without a runtime".into()).into()),
        }
    }
}

fn runtime() -> Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("datajoint-migrate-io")
        .enable_all()
        .build()
        .map_err(|error| Kind::Internal(format!("no threads for requests: {error}")).into())
}

impl Store {
    /// How errors name an object.
    #[must_use]
    pub fn place(&self, path: &str) -> String {
        match self {
            Self::Folder(folder) => folder.place(path),
            Self::Bucket(bucket) => bucket.place(path),
        }
    }

    /// What the store knows of an object; nothing if it is not there.
    pub fn meta(&self, path: &str) -> Result<Option<Meta>> {
        match self {
            Self::Folder(folder) => folder.meta(path),
            Self::Bucket(bucket) => bucket.meta(path),
        }
    }

    /// True if nothing lies below `prefix`; fails if we may not look.
    pub fn is_empty(&self, prefix: &str) -> Result<bool> {
        match self {
            Self::Folder(folder) => folder.is_empty(prefix),
            Self::Bucket(bucket) => bucket.is_empty(prefix),
        }
    }

    /// Whether an object can be written at `path`, without writing one. `None` if that cannot be told.
    pub fn may_write(&self, path: &str) -> Result<Option<bool>> {
        match self {
            Self::Folder(folder) => folder.may_write(),
            Self::Bucket(bucket) => bucket.may_write(path),
        }
    }

    /// True if both lead to the same object for every path.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Folder(one), Self::Folder(other)) => one.root == other.root,
            (Self::Bucket(one), Self::Bucket(other)) => one.is_same_place(other),
            _ => false,
        }
    }

    /// Calls `each` with the path and size of every object below `prefix`.
    pub fn list(&self, prefix: &str, each: &mut dyn FnMut(String, Meta) -> Result<()>) -> Result<()> {
        let each = &mut |path: String, meta| {
            // What journals of copies lie here is nobody's object.
            if path.split('/').next() == Some(FOLDER) { Ok(()) } else { each(path, meta) }
        };
        match self {
            Self::Folder(folder) => folder.list(prefix, each),
            Self::Bucket(bucket) => bucket.list(prefix, each),
        }
    }
}
