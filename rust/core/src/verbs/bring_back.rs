//! Objects that 2.x has stored, put where 0.14.6 looks for them, and their rows in its tracking table.
//!
//! The pointers of one column are walked; what the tracking table knows already is left alone. An object is there before
//! its tracking row is, so that a run that was killed is simply called again.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use arrow_array::cast::AsArray;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::copy::default_lanes;
use crate::batch::calendar::push_datetime;
use crate::convert::back::{Back, Named};
use crate::convert::pointer::{Pointer, PointerKind, Tracking, TrackingColumns};
use crate::convert::tracking::TRACKING;
use crate::error::{At, Error, Kind, Result};
use crate::mysql::chunk::Chunk;
use crate::mysql::decode::Audience;
use crate::mysql::names::{qualified, quote, text_literal};
use crate::mysql::scan::scan;
use crate::mysql::session::{open_loader, open_reader};
use crate::mysql::walk::{Walk, WalkOf};
use crate::mysql::{Connection, Server};
use crate::river::cutter::Cutter;
use crate::river::steady::Steady;
use crate::run::lanes::run;
use crate::run::progress::Progress;
use crate::run::retry::retry;
use crate::stores::copy::{Copied, prove};
use crate::stores::folder::{Pending, occupied};
use crate::stores::store::{Opened, Store, StoreSpec};
use crate::stores::whole::{Making, Whole};

/// Pointers that are read, and whose tracking rows are committed, together.
const CHUNK_ROWS: u64 = 2000;
const BATCH_BYTES: usize = 1 << 20;
/// Hashes that one statement asks for.
const ASKED: usize = 500;
/// Text of a pointer that is none.
const SHOWN: usize = 1000;
/// What the columns of a tracking table hold, in characters.
const NAME_CHARACTERS: usize = 255;
const PATH_CHARACTERS: usize = 1000;

/// Whose objects are brought back, and where to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BringBackPlan {
    /// Where the table of 2.x is.
    pub source: Server,
    /// Where the tracking table of 0.14.6 is.
    pub destination: Server,
    /// The schema of 2.x.
    pub schema: String,
    /// Its table.
    pub table: String,
    /// The columns of a unique index without NULLs in its order; empty if there is none.
    #[serde(default)]
    pub key: Vec<String>,
    /// The name of that index.
    #[serde(default)]
    pub index: Option<String>,
    /// The column that holds JSON.
    pub column: String,
    /// How its pointers go back.
    pub back: Back,
    /// Where the tracking rows go, and where 0.14.6 looks for objects.
    pub pointer: Pointer,
    /// The stores of 2.x, by name.
    pub stores: BTreeMap<String, StoreSpec>,
    /// The store of 0.14.6; none if it is not known.
    #[serde(default)]
    pub store: Option<StoreSpec>,
    /// Objects are looked for and counted, and nothing is written.
    #[serde(default)]
    pub dry_run: bool,
    /// How many chunks are gone through at a time.
    #[serde(default = "default_lanes")]
    pub lanes: usize,
    /// How many faults are listed.
    pub max_faults: usize,
}

/// What was brought back, or would be.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BroughtBack {
    /// Objects that 0.14.6 did not know, or knew with other contents.
    pub objects: u64,
    /// Objects that were written.
    pub files_copied: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Pointers whose objects have no place in 0.14.6.
    pub fault_count: u64,
    /// The first of them.
    pub faults: Vec<Fault>,
    /// In seconds.
    pub time_taken: f64,
}

/// A pointer whose object has no place in 0.14.6.
#[derive(Debug, Clone, Serialize)]
pub struct Fault {
    /// The value of the column.
    pub json: String,
    /// What is wrong.
    pub why: String,
}

struct Lane {
    reader: Steady,
    asker: Steady,
    loader: Steady,
    pending: Pending,
}

/// A row for the tracking table.
struct NewRow {
    hash: [u8; 16],
    size: u64,
    attachment_name: Option<String>,
    filepath: Option<String>,
    contents_hash: Option<[u8; 16]>,
}

struct Run<'a> {
    plan: &'a BringBackPlan,
    progress: &'a Progress,
    tracking: String,
    /// Opened when the first object asks for them: what is not needed need not be configured.
    stores: Mutex<HashMap<Option<String>, Arc<Opened>>>,
    found: Mutex<BroughtBack>,
}

/// Brings the objects of one column back.
pub fn bring_back(plan: &BringBackPlan, progress: &Progress) -> Result<BroughtBack> {
    let begun = Instant::now();
    let place = format!("{}.{}", plan.schema, plan.table);
    progress.at(&place);
    let lanes = plan.lanes.max(1);
    let of = WalkOf {
        schema: &plan.schema,
        table: &plan.table,
        key: &plan.key,
        index: plan.index.as_deref(),
        filter: None,
    };
    let mut walker = Steady::open(&plan.source, open_reader)?;
    let walk = walker.ask(progress, |walker| Walk::new(walker, of)).at(|| place.clone())?;
    let open: fn(&Server) -> Result<Connection> = if plan.dry_run { open_reader } else { open_loader };
    let opened = (0..lanes).map(|_| {
        Ok(Lane {
            reader: Steady::open(&plan.source, open_reader)?,
            asker: Steady::open(&plan.destination, open_reader)?,
            loader: Steady::open(&plan.destination, open)?,
            pending: Pending::of(lanes),
        })
    });
    let mut opened = opened.collect::<Result<Vec<_>>>()?;
    let work = Run {
        plan,
        progress,
        tracking: qualified(&plan.pointer.tracking_schema, &plan.pointer.tracking_table),
        stores: Mutex::default(),
        found: Mutex::default(),
    };
    run(
        &mut opened,
        |queue| {
            let mut cutter = Cutter::new(&walk);
            loop {
                progress.check()?;
                let next = walker.ask(progress, |walker| cutter.next(walker, CHUNK_ROWS))?;
                let Some(chunk) = next else { return Ok(()) };
                queue.put(chunk)?;
            }
        },
        |lane, chunk: Chunk| work.chunk(lane, &walk, &chunk).at(|| place.clone()),
    )?;
    let mut found = work.found.into_inner().map_err(|_| panicked())?;
    found.time_taken = begun.elapsed().as_secs_f64();
    Ok(found)
}

fn panicked() -> Error {
    Kind::Internal("a lane panicked".into()).into()
}

impl Run<'_> {
    fn chunk(&self, lane: &mut Lane, walk: &Walk, chunk: &Chunk) -> Result<()> {
        self.progress.turn()?;
        let pointers = self.read(&mut lane.reader, walk, chunk)?;
        let mut asked: Vec<_> = pointers.into_values().collect();
        asked.sort_unstable_by_key(|(named, _)| named.hash);
        for some in asked.chunks(ASKED) {
            let needed = self.needed(&mut lane.asker, some)?;
            let mut rows = Vec::with_capacity(needed.len());
            for (named, json) in needed {
                self.progress.check()?;
                self.found()?.objects += 1;
                let done = retry(self.progress, || self.object(named, &mut lane.pending));
                match done {
                    Ok(row) => rows.extend(row),
                    Err(error) if matches!(error.kind(), Kind::File { .. } | Kind::Value(_)) => {
                        self.fault(json, &error.to_string())?;
                    }
                    Err(error) => return Err(error),
                }
            }
            if !rows.is_empty() {
                self.settle(&mut lane.pending)?;
                self.track(&mut lane.loader, &rows)?;
            }
        }
        Ok(())
    }

    fn found(&self) -> Result<std::sync::MutexGuard<'_, BroughtBack>> {
        self.found.lock().map_err(|_| panicked())
    }

    fn fault(&self, json: &str, why: &str) -> Result<()> {
        let mut found = self.found()?;
        found.fault_count += 1;
        if found.faults.len() < self.plan.max_faults {
            found.faults.push(Fault { json: json.to_owned(), why: why.to_owned() });
        }
        Ok(())
    }

    /// The pointers of a chunk, each once.
    fn read(
        &self,
        reader: &mut Steady,
        walk: &Walk,
        chunk: &Chunk,
    ) -> Result<HashMap<[u8; 16], (Named, String)>> {
        let sql =
            format!("SELECT s.{} FROM {}{}", quote(&self.plan.column), walk.from(), walk.condition(chunk)?);
        let mut pointers = HashMap::new();
        let mut strange = Vec::new();
        reader.ask(self.progress, |reader| {
            pointers.clear();
            strange.clear();
            let read = scan(reader, &sql, Audience::River, BATCH_BYTES, &mut |batch, read| {
                self.progress.add(batch.num_rows() as u64, read);
                let values = batch
                    .column(0)
                    .as_binary_opt::<i64>()
                    .ok_or_else(|| Kind::Value(format!("`{}` does not hold JSON", self.plan.column)))?;
                for json in values.iter().flatten() {
                    let text = || String::from_utf8_lossy(json).into_owned();
                    match self.plan.back.named(json) {
                        // Of two that differ the one that was registered last tells.
                        Some(named) => match pointers.entry(named.hash) {
                            std::collections::hash_map::Entry::Vacant(free) => {
                                free.insert((named, text()));
                            }
                            std::collections::hash_map::Entry::Occupied(mut taken) => {
                                let (before, _): &(Named, String) = taken.get();
                                if before.timestamp < named.timestamp {
                                    taken.insert((named, text()));
                                }
                            }
                        },
                        None => strange.push(text().chars().take(SHOWN).collect::<String>()),
                    }
                }
                Ok(())
            });
            read.map(drop)
        })?;
        for json in strange {
            self.fault(&json, "0.14.6 has no form for this value")?;
        }
        Ok(pointers)
    }

    /// Those that the tracking table does not know, or knows as another file.
    fn needed<'a>(
        &self,
        asker: &mut Steady,
        pointers: &'a [(Named, String)],
    ) -> Result<Vec<(&'a Named, &'a str)>> {
        let list: Vec<_> =
            pointers.iter().map(|(named, _)| format!("x'{}'", HEXLOWER.encode(&named.hash))).collect();
        if list.is_empty() {
            return Ok(Vec::new());
        }
        let sql =
            format!("SELECT {TRACKING} FROM {} AS e WHERE e.`hash` IN ({})", self.tracking, list.join(","));
        let mut known = HashMap::new();
        asker.ask(self.progress, |asker| {
            known.clear();
            scan(asker, &sql, Audience::River, BATCH_BYTES, &mut |batch, _| {
                let rows = TrackingColumns::new(batch.columns())?;
                for index in 0..batch.num_rows() {
                    if let Some(row) = rows.row(index)? {
                        known.insert(row.hash, (row.size, timestamp(&row)));
                    }
                }
                Ok(())
            })
            .map(drop)
        })?;
        let is_new = |named: &Named| match known.get(&named.hash) {
            None => true,
            Some(_) if self.plan.back.kind != PointerKind::Filepath => false,
            Some((size, time)) => {
                named.size != Some(*size) || named.timestamp.as_deref() != Some(time.as_str())
            }
        };
        Ok(pointers
            .iter()
            .filter(|(named, _)| is_new(named))
            .map(|(named, json)| (named, json.as_str()))
            .collect())
    }

    /// A store of 2.x, or, without a name, that of 0.14.6.
    fn store(&self, name: Option<&str>) -> Result<Arc<Opened>> {
        let mut stores = self.stores.lock().map_err(|_| panicked())?;
        let key = name.map(str::to_owned);
        if let Some(opened) = stores.get(&key) {
            return Ok(opened.clone());
        }
        let spec = match name {
            Some(name) => self.plan.stores.get(name),
            None => self.plan.store.as_ref(),
        };
        let spec = spec.ok_or_else(|| {
            let which = name.map_or("the store of 0.14.6".to_owned(), |name| format!("the store {name:?}"));
            Kind::Value(format!("{which} is not configured"))
        })?;
        let opened = Arc::new(Opened::open(spec)?);
        stores.insert(key, opened.clone());
        Ok(opened)
    }

    fn settle(&self, pending: &mut Pending) -> Result<()> {
        let store = self.store(None)?;
        store.store.settle(pending)?;
        match &store.store {
            Store::Folder(folder) => folder.settle(),
            Store::Bucket(_) => Ok(()),
        }
    }

    /// Puts one object where 0.14.6 looks for it; its tracking row, none if it was only looked for.
    fn object(&self, named: &Named, pending: &mut Pending) -> Result<Option<NewRow>> {
        let from = self.store(Some(&named.store))?;
        let kind = self.plan.back.kind;
        if self.plan.dry_run {
            self.store(None)?;
            let meta = from.store.meta(&named.path)?;
            let place = || from.store.place(&named.path);
            let Some(meta) = meta else {
                return Err(Kind::File { path: place(), message: "no such file or object".into() }.into());
            };
            if let Some(size) = named.size.filter(|size| *size != meta.size && kind != PointerKind::Filepath)
            {
                let message = format!("has {} bytes where its pointer says {size}: it is damaged", meta.size);
                return Err(Kind::File { path: place(), message }.into());
            }
            return Ok(None);
        }
        let mut whole = from.store.whole(&named.path)?;
        match kind {
            PointerKind::Blob => self.blob(named, &from, &mut whole, pending),
            PointerKind::Attach => self.attachment(named, &from, &mut whole, pending),
            PointerKind::Filepath => self.filepath(named, &from, &mut whole, pending),
        }
        .map(Some)
    }

    fn blob(&self, named: &Named, from: &Opened, whole: &mut Whole, pending: &mut Pending) -> Result<NewRow> {
        let md5 = md5_of(whole, from, &named.path)?;
        prove(|| from.store.place(&named.path), named.hash, md5)?;
        let row = NewRow {
            hash: named.hash,
            size: whole.size(),
            attachment_name: None,
            filepath: None,
            contents_hash: None,
        };
        self.put(&row, from, &named.path, whole, md5, pending)?;
        Ok(row)
    }

    /// 2.x keeps the name inside the object, 0.14.6 beside it.
    fn attachment(
        &self,
        named: &Named,
        from: &Opened,
        whole: &mut Whole,
        pending: &mut Pending,
    ) -> Result<NewRow> {
        let place = || from.store.place(&named.path);
        prove(place, named.hash, md5_of(whole, from, &named.path)?)?;
        let failed = |error: io::Error| Error::from(Kind::File { path: place(), message: error.to_string() });
        let mut bytes = whole.read().map_err(failed)?;
        let mut name = Vec::new();
        bytes.read_until(0, &mut name).map_err(failed)?;
        let name = name.strip_suffix(b"\0").and_then(|name| std::str::from_utf8(name).ok());
        let name = name.filter(|name| {
            !name.is_empty() && !name.contains('/') && name.chars().count() <= NAME_CHARACTERS
        });
        let Some(name) = name.map(str::to_owned) else {
            let message = "is an attachment whose name 0.14.6 cannot keep".into();
            return Err(Kind::File { path: place(), message }.into());
        };
        let mut making = Making::default();
        io::copy(&mut bytes, &mut making).map_err(failed)?;
        drop(bytes);
        let (mut contents, md5) = making.finish();
        let row = NewRow {
            hash: named.hash,
            size: contents.size(),
            attachment_name: Some(name),
            filepath: None,
            contents_hash: None,
        };
        self.put(&row, from, &named.path, &mut contents, md5, pending)?;
        Ok(row)
    }

    fn filepath(
        &self,
        named: &Named,
        from: &Opened,
        whole: &mut Whole,
        pending: &mut Pending,
    ) -> Result<NewRow> {
        if named.path.chars().count() > PATH_CHARACTERS {
            let message = "has a path that 0.14.6 cannot keep".into();
            return Err(Kind::File { path: from.store.place(&named.path), message }.into());
        }
        let md5 = md5_of(whole, from, &named.path)?;
        let row = NewRow {
            hash: named.hash,
            size: whole.size(),
            attachment_name: None,
            filepath: Some(named.path.clone()),
            contents_hash: Some(md5),
        };
        self.put(&row, from, &named.path, whole, md5, pending)?;
        Ok(row)
    }

    fn put(
        &self,
        row: &NewRow,
        from: &Opened,
        source: &str,
        contents: &mut Whole,
        md5: [u8; 16],
        pending: &mut Pending,
    ) -> Result<()> {
        let to = self.store(None)?;
        let path =
            Pointer { kind: self.plan.back.kind, ..self.plan.pointer.clone() }.source_path(&Tracking {
                hash: row.hash,
                size: row.size,
                attachment_name: row.attachment_name.as_deref().map(str::as_bytes),
                filepath: row.filepath.as_deref().map(str::as_bytes),
                contents_hash: row.contents_hash,
                timestamp_micros: 0,
            })?;
        if path == source && from.store.is_same_place(&to.store) {
            return Ok(());
        }
        match to.store.make(&path, contents, pending)? {
            Copied::Written(bytes) => {
                let mut found = self.found()?;
                found.files_copied += 1;
                found.bytes += bytes;
            }
            Copied::Present => {
                if md5_of(&mut to.store.whole(&path)?, &to, &path)? != md5 {
                    return Err(occupied(&to.store.place(&path), &from.store.place(source)));
                }
            }
        }
        Ok(())
    }

    /// Writes tracking rows in one transaction, and proves that the table holds what was said.
    fn track(&self, loader: &mut Steady, rows: &[NewRow]) -> Result<()> {
        let hex = |hash: &[u8; 16]| format!("x'{}'", HEXLOWER.encode(hash));
        let text = |text: Option<&String>| text.map_or("NULL".to_owned(), |text| text_literal(text));
        let values: Vec<_> = rows
            .iter()
            .map(|row| {
                format!(
                    "({}, {}, {}, {}, {})",
                    hex(&row.hash),
                    row.size,
                    text(row.attachment_name.as_ref()),
                    text(row.filepath.as_ref()),
                    row.contents_hash.as_ref().map_or("NULL".to_owned(), hex)
                )
            })
            .collect();
        let put = format!(
            "INSERT INTO {} (`hash`, `size`, `attachment_name`, `filepath`, `contents_hash`) VALUES {} \
             ON DUPLICATE KEY UPDATE `size` = VALUES(`size`), `contents_hash` = VALUES(`contents_hash`)",
            self.tracking,
            values.join(", ")
        );
        let list: Vec<_> = rows.iter().map(|row| hex(&row.hash)).collect();
        let asked =
            format!("SELECT {TRACKING} FROM {} AS e WHERE e.`hash` IN ({})", self.tracking, list.join(","));
        loader
            .ask(self.progress, |loader| {
                loader.execute("START TRANSACTION")?;
                let done = loader.execute(&put).and_then(|_| prove_tracked(loader, &asked, rows));
                match done {
                    Ok(()) => loader.execute("COMMIT").map(drop),
                    Err(error) => {
                        if !matches!(error.kind(), Kind::Lost { .. }) {
                            loader.execute("ROLLBACK")?;
                        }
                        Err(error)
                    }
                }
            })
            .at(|| self.tracking.clone())
    }
}

fn prove_tracked(loader: &mut Connection, asked: &str, rows: &[NewRow]) -> Result<()> {
    let mut there = HashMap::new();
    scan(loader, asked, Audience::River, BATCH_BYTES, &mut |batch, _| {
        let columns = TrackingColumns::new(batch.columns())?;
        for index in 0..batch.num_rows() {
            let Some(row) = columns.row(index)? else { continue };
            let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
            there.insert(
                row.hash,
                (row.size, owned(row.attachment_name), owned(row.filepath), row.contents_hash),
            );
        }
        Ok(())
    })?;
    for row in rows {
        let bytes = |text: &Option<String>| text.as_ref().map(|text| text.clone().into_bytes());
        let said = (row.size, bytes(&row.attachment_name), bytes(&row.filepath), row.contents_hash);
        if there.get(&row.hash) != Some(&said) {
            let name = row.attachment_name.as_ref().or(row.filepath.as_ref()).cloned().unwrap_or_default();
            return Err(Kind::Mismatch(format!(
                "the tracking row {} {name:?} reads otherwise than it was written",
                HEXLOWER.encode(&row.hash)
            ))
            .into());
        }
    }
    Ok(())
}

fn md5_of(whole: &mut Whole, opened: &Opened, path: &str) -> Result<[u8; 16]> {
    whole
        .md5()
        .map_err(|error| Kind::File { path: opened.store.place(path), message: error.to_string() }.into())
}

/// The time of a tracking row as the migration told 2.x.
fn timestamp(row: &Tracking<'_>) -> String {
    let mut time = Vec::new();
    push_datetime(&mut time, row.timestamp_micros);
    format!("{}+00:00", String::from_utf8_lossy(&time).replace(' ', "T"))
}
