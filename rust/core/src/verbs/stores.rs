//! Copying a store, or what lies below a prefix of it, to another.

use std::time::Instant;

use serde::Deserialize;

use super::files::{Counts, FilesSummary, lanes_of, yes};
use crate::error::Result;
use crate::files::copy::{Copier, Hand, Object};
use crate::files::store::{Meta, StoreSpec, Stores};
use crate::run::lanes::{retry, run};
use crate::run::progress::Progress;

/// A batch of a listing ends with either; small ones keep all lanes busy.
const BATCH_OBJECTS: usize = 64;
const BATCH_BYTES: u64 = 16 << 20;

#[derive(Debug, Clone, Deserialize)]
pub struct StoresPlan {
    pub source_store: StoreSpec,
    pub destination_store: StoreSpec,
    /// The folder to copy, relative to the stores; empty for all.
    #[serde(default)]
    pub prefix: String,
    #[serde(default = "yes")]
    pub verify: bool,
    pub lanes: Option<usize>,
}

/// Copies every object below the prefix that the destination does not have, under the same relative path. An object that
/// cannot be copied is reported and does not keep the others from being copied.
pub fn stores(plan: &StoresPlan, progress: &Progress) -> Result<FilesSummary> {
    let begun = Instant::now();
    let stores = Stores::open(&plan.source_store, &plan.destination_store, &plan.prefix)?;
    let lanes = lanes_of(plan.lanes, &stores);
    let most = if stores.is_remote() { 8 } else { BATCH_OBJECTS };
    let copier = Copier::new(stores, plan.verify);
    let counts = Counts::default();
    let mut hands = (0..lanes).map(|_| Hand::of(lanes)).collect::<Vec<_>>();
    run(
        &mut hands,
        |queue| {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            copier.stores.source.list(&plan.prefix, &mut |path, meta| {
                progress.check()?;
                bytes += meta.size;
                batch.push((path, meta));
                if batch.len() < most && bytes < BATCH_BYTES {
                    return Ok(());
                }
                bytes = 0;
                queue.put(std::mem::take(&mut batch))
            })?;
            queue.put(batch)
        },
        |hand, batch: Vec<(String, Meta)>| {
            for (path, meta) in batch {
                progress.check()?;
                let object = Object {
                    source: &path,
                    destination: &path,
                    prefix: b"",
                    md5: None,
                    size: Some(meta.size),
                    etag: meta.etag.as_deref(),
                };
                let done = retry(progress, || copier.copy(&object, hand));
                counts.note(String::new(), path, done)?;
                progress.add(1, meta.size);
            }
            copier.settle(hand)
        },
    )?;
    copier.finish()?;
    Ok(counts.summary(begun))
}
