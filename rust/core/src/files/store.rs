//! A store: a folder, or a place in a bucket of a service.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::Deserialize;
use tokio::runtime::{Builder, Runtime};

use super::bucket::Bucket;
use super::folder::Folder;
use super::service::BucketSpec;
use crate::error::{Kind, Result};

/// A store as a plan names it.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "protocol", rename_all = "lowercase")]
pub enum StoreSpec {
    File { name: String, location: PathBuf },
    Bucket(BucketSpec),
}

/// What a store knows of an object without reading it.
#[derive(Debug, Clone)]
pub struct Meta {
    pub size: u64,
    pub modified: Option<SystemTime>,
    /// The service's tag of the contents; the MD5 of objects that came in one request and are not encrypted.
    pub etag: Option<String>,
}

#[derive(Debug, Clone)]
pub enum Store {
    Folder(Folder),
    Bucket(Bucket),
}

/// The two ends of a copy, and what drives their requests.
#[derive(Debug)]
pub struct Stores {
    pub source: Store,
    pub destination: Store,
    /// True if the destination held nothing at all when it was opened.
    pub empty: bool,
    // Made for this run and gone with it, so that a forked process never meets threads it does not have.
    _runtime: Option<Runtime>,
}

impl Stores {
    /// Opens both and looks whether they are there and let us in. `into` is where in the destination objects will go.
    pub fn open(source: &StoreSpec, destination: &StoreSpec, into: &str) -> Result<Self> {
        let remote = [source, destination].iter().any(|spec| matches!(spec, StoreSpec::Bucket(_)));
        let runtime = remote.then(runtime).transpose()?;
        let open = |spec: &StoreSpec| match (spec, &runtime) {
            (StoreSpec::Bucket(spec), Some(runtime)) => {
                Bucket::open(spec, runtime.handle().clone()).map(Store::Bucket)
            }
            (StoreSpec::File { name, location }, _) => Folder::open(name, location).map(Store::Folder),
            (StoreSpec::Bucket(_), None) => Err(Kind::Internal("a bucket without a runtime".into()).into()),
        };
        let (source, destination) = (open(source)?, open(destination)?);
        if let Store::Bucket(bucket) = &source {
            bucket.is_empty("")?;
        }
        let empty = match &destination {
            Store::Bucket(bucket) => bucket.is_empty(into)?,
            Store::Folder(_) => false,
        };
        Ok(Self { source, destination, empty, _runtime: runtime })
    }

    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!((&self.source, &self.destination), (Store::Bucket(_), _) | (_, Store::Bucket(_)))
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

    pub fn meta(&self, path: &str) -> Result<Option<Meta>> {
        match self {
            Self::Folder(folder) => folder.meta(path),
            Self::Bucket(bucket) => bucket.meta(path),
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
        match self {
            Self::Folder(folder) => folder.list(prefix, each),
            Self::Bucket(bucket) => bucket.list(prefix, each),
        }
    }
}
