//! Looking at a store: whether it lets us in, and whether objects are there and whole.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::{Deserialize, Serialize};

use super::files::{REMOTE_LANES, default_lanes};
use crate::error::{Error, Kind, Result};
use crate::run::lanes::run;
use crate::run::memory::Memory;
use crate::run::progress::Progress;
use crate::run::retry::retry;
use crate::stores::bucket::{PART, PARTS_AT_ONCE, part_size};
use crate::stores::copy::Hand;
use crate::stores::remote::md5_of;
use crate::stores::store::{Opened, Store, StoreSpec};

/// What all lanes together hold of objects that they read.
const IN_FLIGHT: u64 = 64 << 20;
const AT_ONCE: usize = 8;

/// How exactly objects are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// They are there.
    Exists,
    /// They have the right size.
    Size,
    /// They have the right contents.
    Hash,
}

/// Objects that should be in a store.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookPlan {
    /// The store.
    pub store: StoreSpec,
    /// How exactly they are looked at.
    pub level: Level,
    /// The objects.
    pub objects: Vec<Sought>,
}

/// An object that should be there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sought {
    /// Where it may be; the first that is there counts.
    pub paths: Vec<String>,
    /// Its bytes, where they are known.
    pub size: Option<u64>,
    /// In hexadecimal digits.
    pub md5: Option<String>,
    /// What was hashed before the contents: the name and NUL of an attachment of 0.14.6.
    #[serde(default)]
    pub prefix: String,
}

/// What came of looking.
#[derive(Debug, Clone, Serialize)]
pub struct LookSummary {
    /// Objects that are not as they should be.
    pub problems: Vec<Problem>,
    /// Bytes of the objects that were read.
    pub bytes_read: u64,
}

/// An object that is not as it should be.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// The place in the plan's list.
    pub index: usize,
    /// One word for what is wrong.
    pub problem: &'static str,
    /// What was said when it could not be looked at or read.
    pub error: Option<String>,
}

/// Looks for every object of the plan. What is wrong with one is reported; what concerns the whole store ends the run.
pub fn look(plan: &LookPlan, progress: &Progress) -> Result<LookSummary> {
    let opened = Opened::open(&plan.store)?;
    let store = &opened.store;
    // A service answers that an object is missing, too, when its bucket is.
    store.is_empty("")?;
    let lanes = if matches!(store, Store::Bucket(_)) { REMOTE_LANES } else { default_lanes() };
    let memory = Memory::new(IN_FLIGHT);
    let problems = Mutex::new(Vec::new());
    let bytes = AtomicU64::new(0);
    progress.expect(plan.objects.len() as u64);
    let mut hands = (0..lanes).map(|_| Hand::of(lanes)).collect::<Vec<_>>();
    run(
        &mut hands,
        |queue| (0..plan.objects.len()).step_by(AT_ONCE).try_for_each(|from| queue.put(from)),
        |hand, from| {
            for (index, sought) in plan.objects.iter().enumerate().skip(from).take(AT_ONCE) {
                progress.check()?;
                let found = retry(progress, || look_at(store, sought, plan.level, &memory, hand, &bytes));
                progress.add(1, if plan.level == Level::Hash { sought.size.unwrap_or(0) } else { 0 });
                let (problem, error) = match found {
                    Ok(None) => continue,
                    Ok(Some(problem)) => (problem, None),
                    Err(error) if matches!(error.kind(), Kind::File { .. }) => {
                        ("missing", Some(error.to_string()))
                    }
                    Err(error) => return Err(error),
                };
                if let Ok(mut problems) = problems.lock() {
                    problems.push(Problem { index, problem, error });
                }
            }
            Ok(())
        },
    )?;
    let mut problems = problems.into_inner().unwrap_or_default();
    problems.sort_by_key(|problem| problem.index);
    Ok(LookSummary { problems, bytes_read: bytes.into_inner() })
}

fn look_at(
    store: &Store,
    sought: &Sought,
    level: Level,
    memory: &Memory,
    hand: &mut Hand,
    bytes: &AtomicU64,
) -> Result<Option<&'static str>> {
    for path in &sought.paths {
        let Some(meta) = store.meta(path)? else { continue };
        if level >= Level::Size && sought.size.is_some_and(|size| size != meta.size) {
            return Ok(Some("size"));
        }
        let Some(md5) = sought.md5.as_ref().filter(|_| level == Level::Hash) else { return Ok(None) };
        let held =
            if meta.size > PART { part_size(meta.size) * (PARTS_AT_ONCE as u64 + 1) } else { meta.size };
        let _held = memory.take(held);
        let found = md5_of(store, path, sought.prefix.as_bytes(), &meta, hand)?;
        bytes.fetch_add(meta.size, Ordering::Relaxed);
        let expected = HEXLOWER_PERMISSIVE.decode(md5.as_bytes());
        return Ok((expected.ok().as_deref() != Some(&found[..])).then_some("hash"));
    }
    Ok(Some("missing"))
}

/// A store of which is asked whether it is there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbePlan {
    /// The store.
    pub store: StoreSpec,
    /// Where a client would write: asked for, never written.
    pub write: Option<String>,
}

/// What a store says.
#[derive(Debug, Clone, Serialize)]
pub struct ProbeSummary {
    /// None where nobody asked, or the service cannot tell without writing.
    pub writable: Option<bool>,
    /// Why it cannot be used, if it cannot.
    pub error: Option<String>,
}

/// Opens a store, reads the beginning of its listing and asks whether it may be written to. Leaves nothing behind.
pub fn probe(plan: &ProbePlan, _: &Progress) -> Result<ProbeSummary> {
    let opened = Opened::open(&plan.store)?;
    opened.store.is_empty("")?;
    let Some(path) = &plan.write else { return Ok(ProbeSummary { writable: None, error: None }) };
    match opened.store.may_write(path) {
        Ok(writable) => Ok(ProbeSummary { writable, error: None }),
        Err(error) if is_refusal(&error) => {
            Ok(ProbeSummary { writable: Some(false), error: Some(error.to_string()) })
        }
        Err(error) => Err(error),
    }
}

fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), Kind::Store { .. } | Kind::File { .. })
}
