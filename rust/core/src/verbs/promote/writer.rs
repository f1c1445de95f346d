//! One value at a time: what it is, the object it becomes, and the proof that the object holds it.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{Array, ArrayRef, LargeBinaryArray};
use data_encoding::HEXLOWER;
use serde::Deserialize;
use serde_json::Value as Json;

use super::{PartPlan, text, utf8};
use crate::convert::blob::{self, Fault};
use crate::convert::npy::{self, Converted};
use crate::convert::object::{
    array_json, array_path, hash_json, hash_path, identity_of_array, identity_of_array_json,
};
use crate::convert::pointer::base32;
use crate::error::{Error, Kind, Result};
use crate::stores::folder::Pending;
use crate::stores::store::{Opened, Store, StoreSpec};
use crate::stores::whole::{Making, Whole};

/// How many lanes of a copy share the number of files that a process may hold open.
const LANES: usize = 4;

const MISSING: &str = "missing or damaged object";
const OTHER: &str = "another value";
/// Of an object that a row names, where the old value is about to go.
pub(super) const LOST: &str = "lost object";

/// Of so many values, or a chunk more, it is remembered that their objects are there; some megabytes.
const REMEMBERED: usize = 100_000;

/// What values become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Becomes {
    /// A `.npy` file of each array.
    Array,
    /// An object of the bytes as they are, named by their MD5.
    Bytes,
}

/// Where objects go, and where values that are objects already come from.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetPlan {
    /// What values become.
    pub becomes: Becomes,
    /// The 2.x name of the store, and the store where something is to be written.
    pub store: String,
    /// The store itself, where something is to be written.
    #[serde(default)]
    pub destination: Option<StoreSpec>,
    /// Below which objects lie: `_schema/<schema>/<table>` or `_hash/<schema>`.
    pub folder: String,
    /// The schema's final name.
    pub schema: String,
    /// How files of arrays are called.
    pub attribute: String,
    /// How many characters of its name each folder of a path takes.
    #[serde(default)]
    pub subfolding: Vec<usize>,
    /// Added to the names of objects.
    #[serde(default)]
    pub suffix: String,
    /// The stores that the rows' own JSON names, by their names; none where values are in the rows.
    #[serde(default)]
    pub sources: HashMap<String, StoreSpec>,
    /// The store of a row that does not name one.
    #[serde(default)]
    pub source: Option<String>,
}

impl TargetPlan {
    pub(super) fn is_stored(&self) -> bool {
        self.source.is_some()
    }
}

pub(in crate::verbs) struct Writer {
    plan: TargetPlan,
    destination: Option<Opened>,
    sources: HashMap<String, Opened>,
    written: AtomicU64,
    /// Values whose objects this run has read back: equal ones need not be written and read again.
    proved: Mutex<HashSet<Value>>,
}

/// The MD5 of a value, and its size.
type Value = ([u8; 16], u64);

/// What was written and is not read back yet.
pub(super) struct Unproved {
    pending: Pending,
    values: HashSet<Value>,
}

impl Unproved {
    /// For one of `lanes`.
    pub(super) fn of(lanes: usize) -> Self {
        Self { pending: Pending::of(lanes), values: HashSet::new() }
    }
}

/// An object, and what it has to hold.
pub(super) struct Made {
    pub json: String,
    path: String,
    holds: Holds,
}

enum Holds {
    Array(Box<Converted>),
    Bytes(Value),
    /// What another value holds that is proved, or is read back with these.
    Same,
}

pub(super) enum Seen {
    Refused { kind: String, why: String },
    Good { kind: String, dtype: Option<&'static str>, bytes_in: u64, bytes_out: u64, made: Option<Made> },
}

impl Writer {
    pub fn open(plan: &TargetPlan, writes: bool) -> Result<Self> {
        let destination = plan.destination.as_ref().filter(|_| writes).map(Opened::open).transpose()?;
        if writes && destination.is_none() {
            return Err(Kind::Plan("nothing says where objects go".into()).into());
        }
        let sources = plan.sources.iter().map(|(name, spec)| Ok((name.clone(), Opened::open(spec)?)));
        let sources = sources.collect::<Result<_>>()?;
        let proved = Mutex::default();
        Ok(Self { plan: plan.clone(), destination, sources, written: AtomicU64::new(0), proved })
    }

    /// How many objects were written that were not there.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// The values of a batch as JSON, each object read back: the first column are the values, the others parts of paths.
    pub fn objects(&self, parts: &[PartPlan], columns: &[ArrayRef]) -> Result<ArrayRef> {
        let Some((values, rest)) = columns.split_first() else {
            return Err(Kind::Internal("a column is missing".into()).into());
        };
        let (values, rest) = (text(values)?, rest.iter().map(text).collect::<Result<Vec<_>>>()?);
        let mut unproved = Unproved::of(LANES);
        let mut made = Vec::new();
        for row in 0..values.len() {
            if values.is_null(row) {
                continue;
            }
            let texts = rest.iter().map(|part| utf8(part.value(row)));
            let names: Vec<_> = parts.iter().zip(texts).map(|(part, text)| part.spell(&text)).collect();
            let mut value = Whole::Memory(Cow::Borrowed(values.value(row)));
            match self.write(&mut value, &names, &mut unproved)? {
                Seen::Good { made: Some(one), .. } => made.push(one),
                Seen::Good { .. } => return Err(Kind::Internal("an object that was not made".into()).into()),
                Seen::Refused { kind, why } => {
                    return Err(Kind::Value(format!("the value of {names:?} is {kind}: {why}")).into());
                }
            }
        }
        self.prove(&made, &mut unproved)?;
        let mut made = made.iter();
        let json = (0..values.len())
            .map(|row| if values.is_null(row) { None } else { made.next().map(|one| one.json.as_bytes()) });
        Ok(Arc::new(json.collect::<LargeBinaryArray>()))
    }

    /// Looks at a value, and makes its object where there is a destination.
    pub(super) fn write(
        &self,
        value: &mut Whole<'_>,
        parts: &[String],
        unproved: &mut Unproved,
    ) -> Result<Seen> {
        match self.source(value)? {
            Ok(Some(mut object)) => self.write_bytes(&mut object, parts, unproved),
            Ok(None) => self.write_bytes(value, parts, unproved),
            Err(why) => Ok(Seen::Refused { kind: MISSING.into(), why }),
        }
    }

    /// The object that holds a value, none where the row itself does, or what is wrong with it.
    fn source(&self, value: &mut Whole<'_>) -> Result<std::result::Result<Option<Whole<'static>>, String>> {
        if self.plan.is_stored() { Ok(self.stored(value)?.map(Some)) } else { Ok(Ok(None)) }
    }

    fn write_bytes(&self, value: &mut Whole<'_>, parts: &[String], unproved: &mut Unproved) -> Result<Seen> {
        let bytes_in = value.size();
        if self.plan.becomes == Becomes::Bytes {
            let mut made = None;
            if let Some(destination) = &self.destination {
                let md5 = value.md5().map_err(unreadable)?;
                let plan = &self.plan;
                let path = hash_path(&plan.folder, &md5, &plan.subfolding, &plan.suffix);
                let holds = if self.is_proved((md5, bytes_in)) || !unproved.values.insert((md5, bytes_in)) {
                    Holds::Same
                } else {
                    destination.store.make(&path, value, &mut unproved.pending)?;
                    self.count(unproved);
                    Holds::Bytes((md5, bytes_in))
                };
                let json = hash_json(&path, &plan.store, &plan.schema, bytes_in, &md5).to_string();
                made = Some(Made { json, path, holds });
            }
            let kind = "bytes".to_owned();
            return Ok(Seen::Good { kind, dtype: None, bytes_in, bytes_out: bytes_in, made });
        }
        let Some(destination) = &self.destination else {
            return look(value);
        };
        let mut making = Making::default();
        let converted = match npy::convert(value.read().map_err(unreadable)?, bytes_in, &mut making) {
            Ok(converted) => converted,
            Err(fault) => return refused(fault),
        };
        let Some(dtype) = converted.header.dtype.filter(|_| converted.elements.is_some()) else {
            return Ok(no_array(converted.header.kind));
        };
        let (mut file, md5) = making.finish();
        let path = array_path(&self.plan.folder, parts, &self.plan.attribute, &md5);
        destination.store.make(&path, &mut file, &mut unproved.pending)?;
        self.count(unproved);
        let json = array_json(&path, &self.plan.store, dtype, &converted.header.shape, file.size(), &md5)
            .to_string();
        Ok(Seen::Good {
            kind: converted.header.kind.word().to_owned(),
            dtype: Some(dtype.name),
            bytes_in,
            bytes_out: file.size(),
            made: Some(Made { json, path, holds: Holds::Array(Box::new(converted)) }),
        })
    }

    /// What is wrong with a row's JSON, held against the value that its object was made of; first, if `objects` are
    /// asked for, with that object itself.
    pub(super) fn differs(
        &self,
        value: Option<&mut Whole<'_>>,
        json: Option<&[u8]>,
        objects: bool,
    ) -> Result<Option<(String, String)>> {
        let found = |kind: &str, why: String| Ok(Some((kind.to_owned(), why)));
        if objects {
            if let Some(why) = json.map(|json| self.lacks(json)).transpose()?.flatten() {
                return found(LOST, why);
            }
            // Values that lay in a store stay there, whatever becomes of the column.
            if self.plan.is_stored() {
                return Ok(None);
            }
        }
        let Some(json) = json else { return found(OTHER, "it has no object any more".into()) };
        let Some(value) = value else { return found(OTHER, "it has an object, and had no value".into()) };
        let same = match self.source(value)? {
            Ok(Some(mut object)) => self.is_named(&mut object, json)?,
            Ok(None) => self.is_named(value, json)?,
            Err(why) => return found(MISSING, why),
        };
        if same { Ok(None) } else { found(OTHER, "its object was not made of the value that it had".into()) }
    }

    /// Whether a row's JSON names what is made of a value.
    fn is_named(&self, value: &mut Whole<'_>, json: &[u8]) -> Result<bool> {
        if self.plan.becomes == Becomes::Array {
            let size = value.size();
            return match identity_of_array(value.read().map_err(unreadable)?, size) {
                Ok(made) => Ok(made.is_some() && made == identity_of_array_json(json)),
                Err(Fault::Bad(..)) => Ok(false),
                Err(Fault::Io(error)) => Err(unreadable(error)),
            };
        }
        let hash = base32(&value.md5().map_err(unreadable)?);
        let Ok(said) = serde_json::from_slice::<Json>(json) else { return Ok(false) };
        let word = |name: &str| said.get(name).and_then(Json::as_str);
        let file = word("path").and_then(|path| path.rsplit('/').next());
        Ok(word("hash") == Some(&hash) && file.is_some_and(|file| file.starts_with(&hash)))
    }

    fn count(&self, unproved: &mut Unproved) {
        self.written.fetch_add(unproved.pending.take_made(), Ordering::Relaxed);
    }

    fn is_proved(&self, value: Value) -> bool {
        self.proved.lock().unwrap_or_else(PoisonError::into_inner).contains(&value)
    }

    /// The object that a row's JSON names, proved by its hash; else what is wrong with it.
    fn stored(&self, json: &mut Whole<'_>) -> Result<std::result::Result<Whole<'static>, String>> {
        let store = self.plan.source.as_deref().unwrap_or_default();
        Ok(match self.named(json.read().map_err(unreadable)?, store)? {
            Ok((_, false)) => Err("its JSON names no hash".into()),
            Ok((object, true)) => Ok(object),
            Err(why) => Err(why),
        })
    }

    /// What is wrong with the object that a row names, if anything is. Of an array that 2.x has written nothing says the
    /// hash: that it can be read is all that can be told.
    fn lacks(&self, json: &[u8]) -> Result<Option<String>> {
        Ok(self.named(json, &self.plan.store)?.err())
    }

    /// The object that a row's JSON names, and whether a hash proves it; else what is wrong with it.
    fn named(
        &self,
        json: impl io::Read,
        store: &str,
    ) -> Result<std::result::Result<(Whole<'static>, bool), String>> {
        let said: Json = match serde_json::from_reader(json) {
            Ok(said) => said,
            Err(error) => return Ok(Err(format!("its JSON cannot be read: {error}"))),
        };
        let word = |name: &str| said.get(name).and_then(Json::as_str);
        let Some(path) = word("path") else { return Ok(Err("its JSON names no path".into())) };
        let name = word("store").unwrap_or(store);
        let Some(opened) = self.sources.get(name) else {
            return Err(Kind::Plan(format!("the store {name:?} of {path} is not configured")).into());
        };
        let mut object = match opened.store.whole(path) {
            Ok(object) => object,
            Err(error) if matches!(error.kind(), Kind::File { .. }) => return Ok(Err(error.to_string())),
            Err(error) => return Err(error),
        };
        let (hash, md5) = (word("hash"), word("md5"));
        let found = object.md5().map_err(unreadable)?;
        let (said, found) = match hash {
            Some(_) => (hash, base32(&found)),
            None => (md5, HEXLOWER.encode(&found)),
        };
        Ok(match said {
            Some(said) if said != found => Err(format!("{path} has the hash {found}, its row says {said}")),
            said => Ok((object, said.is_some())),
        })
    }

    /// Gives all objects their names and reads each one back.
    pub(super) fn prove(&self, made: &[Made], unproved: &mut Unproved) -> Result<()> {
        let Some(destination) = &self.destination else { return Ok(()) };
        let store = &destination.store;
        store.settle(&mut unproved.pending)?;
        self.count(unproved);
        for made in made {
            let same = match &made.holds {
                Holds::Bytes((md5, _)) => store.whole(&made.path)?.md5().map_err(unreadable)? == *md5,
                Holds::Array(array) => {
                    let mut there = store.whole(&made.path)?;
                    let read = npy::read(there.read().map_err(unreadable)?).map_err(unreadable)?;
                    read.is_some_and(|read| array.is(&read))
                }
                Holds::Same => true,
            };
            if !same {
                return Err(differs(store, &made.path));
            }
        }
        let mut proved = self.proved.lock().unwrap_or_else(PoisonError::into_inner);
        if proved.len() >= REMEMBERED {
            proved.clear();
        }
        proved.extend(unproved.values.drain());
        Ok(())
    }

    /// To be called at the end: makes the disk hold everything.
    pub fn finish(&self) -> Result<()> {
        match self.destination.as_ref().map(|opened| &opened.store) {
            Some(Store::Folder(folder)) => folder.settle(),
            _ => Ok(()),
        }
    }
}

/// Looks at a value that is to become an array, and says how large its file will be.
fn look(value: &mut Whole<'_>) -> Result<Seen> {
    let bytes_in = value.size();
    let header = match blob::walk(value.read().map_err(unreadable)?, bytes_in) {
        Ok(header) => header,
        Err(fault) => return refused(fault),
    };
    match header.dtype.filter(|_| header.kind == blob::Kind::Array) {
        None => Ok(no_array(header.kind)),
        Some(dtype) => {
            let bytes_out = npy::size(dtype, &header.shape);
            let kind = header.kind.word().to_owned();
            Ok(Seen::Good { kind, dtype: Some(dtype.name), bytes_in, bytes_out, made: None })
        }
    }
}

fn no_array(kind: blob::Kind) -> Seen {
    let kind = kind.word().to_owned();
    Seen::Refused { why: format!("a value of the kind {kind} is no array of numbers"), kind }
}

fn refused(fault: Fault) -> Result<Seen> {
    match fault {
        Fault::Bad(kind, why) => Ok(Seen::Refused { kind: kind.word().to_owned(), why }),
        Fault::Io(error) => Err(unreadable(error)),
    }
}

fn differs(store: &Store, path: &str) -> Error {
    Kind::Mismatch(format!("{} does not hold what was to be written", store.place(path))).into()
}

/// Of what waits on the disk, or has been opened already.
fn unreadable(error: io::Error) -> Error {
    Kind::File { path: std::env::temp_dir().display().to_string(), message: error.to_string() }.into()
}
