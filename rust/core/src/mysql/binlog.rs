//! The binary log, read as a list of changed keys.
//!
//! Rows are never taken out of it: whoever wants them reads them from the table, under a snapshot, so that there is one
//! conversion and not two. What the log cannot say of a table (a statement without rows, a definition that changed, a
//! cascade that is not logged) is said by name, and that table is looked at in another way.

mod columns;
pub mod dump;
mod event;
mod rows;
mod statement;
mod wanted;

use std::collections::{HashMap, HashSet};
use std::io::Read;

use serde::{Deserialize, Serialize};

use super::chunk::Bound;
use crate::error::{At, Error, Kind, Result};
use columns::Column;
use event::{
    CHECKSUM, HEADER, Header, format_is_checksummed, holds, inflated, number, packed, packed_length, take,
};
use statement::Effect;
pub use wanted::{Cascade, Habits, Wanted, WantedColumn};

/// Where reading begins: behind everything that was committed before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The log's file.
    pub file: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// When that file was begun. A log that is begun anew takes the names of its files again.
    pub began: u32,
    /// Whose log it is.
    pub server: String,
}

/// Why the log does not say what changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unknown {
    /// One word, always the same for the same cause.
    pub reason: &'static str,
    /// What was found, for people.
    pub detail: String,
}

impl Unknown {
    /// `reason` is one word.
    pub fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// What may be kept.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Of one table.
    pub keys: usize,
    /// Of all tables.
    pub bytes: usize,
}

/// What the log says of a table.
#[derive(Debug, Clone, Serialize)]
pub struct Changed {
    /// The table's schema.
    pub schema: String,
    /// The table's name.
    pub table: String,
    /// Of all rows that may have changed; those of rows that are gone among them. Empty where `unknown` says why.
    pub keys: Vec<Bound>,
    /// Events that had rows of this table.
    pub events: u64,
    /// Why the keys are not all; nothing if they are.
    pub unknown: Option<Unknown>,
}

struct Table {
    wanted: Wanted,
    key: Vec<usize>,
    /// Columns whose cells are looked at: those of the key, then those that others refer to.
    watched: Vec<usize>,
    /// The key's columns as the log describes them, once it has.
    described: Option<Vec<Column>>,
    keys: HashSet<Box<[u8]>>,
    events: u64,
    unknown: Option<Unknown>,
}

/// A description of a table in the log: its place in the list, if it is wanted, and its columns.
type Described = Option<(usize, Vec<Column>)>;

/// Collects changed keys out of events, one after the other.
pub struct Collector {
    tables: Vec<Table>,
    by_name: HashMap<(String, String), usize>,
    cascades: Vec<Cascade>,
    /// Cascades that rows in the log set off.
    set_off: HashSet<usize>,
    habits: Habits,
    /// What the server says of cascades is true only while it was not started anew.
    restarted: bool,
    maps: HashMap<u64, Described>,
    budget: Budget,
    bytes: usize,
    format: Option<Format>,
    file: String,
    offset: u64,
    unknown: Option<Unknown>,
    events: u64,
    /// A table that the caller writes to in each of its own transactions, whose rows are not wanted.
    own: Option<&'static str>,
    /// Statements that are passed over.
    harmless: HashSet<Vec<u8>>,
    is_own: bool,
    /// Keys that the transaction that is being read named first.
    fresh: Vec<(usize, Box<[u8]>)>,
}

/// What the description of a file says of its events.
#[derive(Debug, Clone)]
struct Format {
    began: u32,
    checksummed: bool,
    post_headers: Vec<u8>,
}

const ARTIFICIAL: u16 = 0x20;
const IGNORABLE: u16 = 0x80;
/// Descriptions of tables between two ends of statements; more were never meant by anybody.
const MAPS: usize = 100_000;
/// An event within a compressed transaction; the servers' own limit.
const LARGEST: u32 = 1 << 30;

mod kind {
    pub const QUERY: u8 = 2;
    pub const STOP: u8 = 3;
    pub const ROTATE: u8 = 4;
    pub const INTVAR: u8 = 5;
    pub const RAND: u8 = 13;
    pub const USER_VAR: u8 = 14;
    pub const FORMAT: u8 = 15;
    pub const XID: u8 = 16;
    pub const BEGIN_LOAD: u8 = 17;
    pub const EXECUTE_LOAD: u8 = 18;
    pub const TABLE_MAP: u8 = 19;
    pub const WRITE_V1: u8 = 23;
    pub const UPDATE_V1: u8 = 24;
    pub const DELETE_V1: u8 = 25;
    pub const INCIDENT: u8 = 26;
    pub const HEARTBEAT: u8 = 27;
    pub const IGNORABLE: u8 = 28;
    pub const ROWS_QUERY: u8 = 29;
    pub const WRITE: u8 = 30;
    pub const UPDATE: u8 = 31;
    pub const DELETE: u8 = 32;
    /// GTID, anonymous GTID, previous GTIDs, transaction context, view change, XA PREPARE.
    pub const OF_MYSQL: std::ops::RangeInclusive<u8> = 33..=38;
    pub const PARTIAL_UPDATE: u8 = 39;
    pub const PAYLOAD: u8 = 40;
    pub const HEARTBEAT_V2: u8 = 41;
    pub const GTID_TAGGED: u8 = 42;
    /// Annotation, checkpoint, GTID, list of GTIDs, start of encryption.
    pub const OF_MARIADB: std::ops::RangeInclusive<u8> = 160..=164;
    pub const QUERY_COMPRESSED: u8 = 165;
    pub const WRITE_V1_COMPRESSED: u8 = 166;
    pub const UPDATE_V1_COMPRESSED: u8 = 167;
    pub const DELETE_V1_COMPRESSED: u8 = 168;
    pub const WRITE_COMPRESSED: u8 = 169;
    pub const UPDATE_COMPRESSED: u8 = 170;
    pub const DELETE_COMPRESSED: u8 = 171;
}

/// What a rows event does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Write,
    Update,
    PartialUpdate,
    Delete,
}

fn damaged(what: impl Into<String>) -> Error {
    Kind::Protocol(what.into()).into()
}

impl Collector {
    /// Collects the keys of `tables`.
    pub fn new(tables: Vec<Wanted>, cascades: Vec<Cascade>, habits: Habits, budget: Budget) -> Result<Self> {
        let bad = |message: String| Error::from(Kind::Plan(message));
        let mut by_name = HashMap::new();
        let mut made = Vec::with_capacity(tables.len());
        for (index, wanted) in tables.into_iter().enumerate() {
            let places = |names: &[String]| {
                let place = |name: &String| wanted.columns.iter().position(|column| column.name == *name);
                names
                    .iter()
                    .map(|name| {
                        let table = &wanted.table;
                        place(name).ok_or_else(|| bad(format!("`{table}` has no column `{name}`")))
                    })
                    .collect::<Result<Vec<_>>>()
            };
            let key = places(&wanted.key)?;
            let mut watched = key.clone();
            for cascade in cascades.iter().filter(|cascade| cascade.parent == index && cascade.on_update) {
                for column in places(&cascade.columns)? {
                    if !watched.contains(&column) {
                        watched.push(column);
                    }
                }
            }
            let unknown = key
                .is_empty()
                .then(|| Unknown::new("no_key", "the table has no key by which a row could be named"));
            by_name.insert(habits.name(&wanted.schema, &wanted.table), index);
            made.push(Table {
                wanted,
                key,
                watched,
                described: None,
                keys: HashSet::new(),
                events: 0,
                unknown,
            });
        }
        if cascades.iter().any(|cascade| cascade.parent.max(cascade.child) >= made.len()) {
            return Err(bad("a cascade names a table that is not there".into()));
        }
        Ok(Self {
            tables: made,
            by_name,
            cascades,
            set_off: HashSet::new(),
            habits,
            restarted: false,
            maps: HashMap::new(),
            budget,
            bytes: 0,
            format: None,
            file: String::new(),
            offset: 0,
            unknown: None,
            events: 0,
            own: None,
            harmless: HashSet::new(),
            is_own: false,
            fresh: Vec::new(),
        })
    }

    /// Leaves out what was changed in transactions that write to a table of this name.
    #[must_use]
    pub fn but_with(mut self, own: &'static str) -> Self {
        self.own = Some(own);
        self
    }

    /// Leaves out statements that are these, word for word.
    #[must_use]
    pub fn but_for(mut self, harmless: &[String]) -> Self {
        self.harmless = harmless.iter().map(|text| text.clone().into_bytes()).collect();
        self
    }

    /// When the file that is read was begun, once its description has come.
    #[must_use]
    pub fn began(&self) -> Option<u32> {
        self.format.as_ref().map(|format| format.began)
    }

    /// How many events were read.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Nothing that is still to come could say more.
    #[must_use]
    pub fn knows_nothing(&self) -> bool {
        self.unknown.is_some() || self.tables.iter().all(|table| table.unknown.is_some())
    }

    /// Takes the next event as the server sends it.
    pub fn event(&mut self, bytes: &[u8]) -> Result<()> {
        self.events += 1;
        let place = |file: &str, offset: u64| {
            if file.is_empty() { "binary log".into() } else { format!("binary log {file} behind {offset}") }
        };
        let (file, offset) = (self.file.clone(), self.offset);
        self.checked(bytes).at(|| place(&file, offset))
    }

    fn checked(&mut self, bytes: &[u8]) -> Result<()> {
        let event = Header::read(bytes)?;
        // A server that makes an event up for us, or that has not said yet how it writes them, may leave the sum out.
        let may_lack = self.format.is_none() || event.flags & ARTIFICIAL != 0;
        let checksummed = match (&self.format, event.kind) {
            (_, kind::FORMAT) => format_is_checksummed(bytes)?,
            _ if may_lack => holds(bytes),
            (Some(format), _) => format.checksummed,
            (None, _) => false,
        };
        if checksummed && !holds(bytes) {
            return Err(damaged("the checksum of an event is not that of its bytes"));
        }
        // The description of a file keeps room for a sum, whether there is one or not.
        let summed = checksummed || event.kind == kind::FORMAT;
        let end = if summed { bytes.len().saturating_sub(CHECKSUM) } else { bytes.len() };
        let body = bytes.get(HEADER..end).ok_or_else(|| damaged("an event without a body"))?;
        self.whole(&event, body, false)?;
        if event.position != 0 && event.flags & ARTIFICIAL == 0 && event.kind != kind::ROTATE {
            self.offset = u64::from(event.position);
        }
        Ok(())
    }

    fn whole(&mut self, event: &Header, body: &[u8], within: bool) -> Result<()> {
        match event.kind {
            kind::ROTATE => {
                let mut body = body;
                self.offset = number::<8>(&mut body)?;
                self.file = String::from_utf8_lossy(body).into_owned();
            }
            kind::FORMAT => self.described(event, body)?,
            kind::QUERY => self.query(body, false)?,
            kind::QUERY_COMPRESSED => self.query(body, true)?,
            kind::XID => self.transaction_ends(),
            kind::TABLE_MAP => self.map(body)?,
            kind::WRITE_V1 | kind::WRITE => self.rows(event.kind, body, Deed::Write, false)?,
            kind::UPDATE_V1 | kind::UPDATE => self.rows(event.kind, body, Deed::Update, false)?,
            kind::DELETE_V1 | kind::DELETE => self.rows(event.kind, body, Deed::Delete, false)?,
            kind::PARTIAL_UPDATE => self.rows(event.kind, body, Deed::PartialUpdate, false)?,
            kind::WRITE_V1_COMPRESSED | kind::WRITE_COMPRESSED => {
                self.rows(event.kind, body, Deed::Write, true)?;
            }
            kind::UPDATE_V1_COMPRESSED | kind::UPDATE_COMPRESSED => {
                self.rows(event.kind, body, Deed::Update, true)?;
            }
            kind::DELETE_V1_COMPRESSED | kind::DELETE_COMPRESSED => {
                self.rows(event.kind, body, Deed::Delete, true)?;
            }
            kind::PAYLOAD if !within => self.payload(body)?,
            kind::BEGIN_LOAD | kind::EXECUTE_LOAD => {
                self.forget_all("statement", "LOAD DATA is logged as a statement, without its rows");
            }
            kind::INCIDENT => {
                self.forget_all("incident", "the server says that it lost events before they were logged");
            }
            kind::STOP
            | kind::INTVAR
            | kind::RAND
            | kind::USER_VAR
            | kind::HEARTBEAT
            | kind::HEARTBEAT_V2
            | kind::IGNORABLE
            | kind::ROWS_QUERY
            | kind::GTID_TAGGED => {}
            known if kind::OF_MYSQL.contains(&known) || kind::OF_MARIADB.contains(&known) => {}
            _ if event.flags & IGNORABLE != 0 => {}
            other => {
                let detail = format!("an event of type {other}, which is not known, stands in {}", self.file);
                self.forget_all("unknown_event", &detail);
            }
        }
        Ok(())
    }

    fn described(&mut self, event: &Header, body: &[u8]) -> Result<()> {
        let mut rest = body;
        let version = number::<2>(&mut rest)?;
        take(&mut rest, 50)?;
        let started = number::<4>(&mut rest)?;
        let header = number::<1>(&mut rest)?;
        if version != 4 || header != HEADER as u64 {
            return Err(damaged(format!("a log of version {version} with headers of {header} bytes")));
        }
        // A file that was begun by a start of the server says when; the first one of ours is told without.
        if self.format.is_some() && started != 0 {
            self.restarted = true;
        }
        let (&algorithm, post_headers) = rest.split_last().ok_or_else(|| damaged("no lengths of headers"))?;
        self.maps.clear();
        self.format = Some(Format {
            began: event.timestamp,
            checksummed: algorithm == 1,
            post_headers: post_headers.to_vec(),
        });
        Ok(())
    }

    /// How long the header of its own is that an event of this type has.
    fn post_header(&self, kind: u8) -> usize {
        let format = self.format.as_ref();
        let said = format.and_then(|format| format.post_headers.get(usize::from(kind).wrapping_sub(1)));
        said.map_or(0, |&length| usize::from(length))
    }

    fn query(&mut self, body: &[u8], compressed: bool) -> Result<()> {
        // BEGIN and COMMIT are statements, too.
        self.transaction_ends();
        let mut rest = body;
        take(&mut rest, 8)?;
        let database = number::<1>(&mut rest)? as usize;
        take(&mut rest, 2)?;
        let status = number::<2>(&mut rest)? as usize;
        take(&mut rest, status)?;
        let database = String::from_utf8_lossy(take(&mut rest, database)?).into_owned();
        take(&mut rest, 1)?;
        let unpacked = if compressed { inflated(rest)? } else { Vec::new() };
        let text = if compressed { unpacked.as_slice() } else { rest };
        if self.harmless.contains(text) {
            return Ok(());
        }
        match statement::effect(text) {
            Effect::None => {}
            Effect::Anything(reason) => {
                let shown: String = String::from_utf8_lossy(&text[..text.len().min(80)]).into_owned();
                self.forget_all(reason, &format!("logged as a statement: {shown}"));
            }
            Effect::Named(words) => {
                let database = database.to_lowercase();
                let of_schemas = words.is_of_schemas;
                for index in 0..self.tables.len() {
                    let wanted = &self.tables[index].wanted;
                    let schema = wanted.schema.to_lowercase();
                    let in_schema = words.has(&schema) || (database == schema && !of_schemas);
                    if in_schema && (of_schemas || words.has(&wanted.table.to_lowercase())) {
                        let verb = words.first().to_uppercase();
                        self.forget(
                            index,
                            Unknown::new("definition", format!("{verb} names the table in the log")),
                        );
                    }
                }
            }
        }
        Ok(())
    }

    /// Events of a transaction that the server compressed as one.
    fn payload(&mut self, body: &[u8]) -> Result<()> {
        let mut rest = body;
        let mut algorithm = 0;
        loop {
            let field = packed(&mut rest)?;
            if field == 0 {
                break;
            }
            let length = packed_length(&mut rest)?;
            let mut value = take(&mut rest, length)?;
            if field == 2 {
                algorithm = packed(&mut value)?;
            }
        }
        let mut stream: Box<dyn Read + '_> = match algorithm {
            0 => Box::new(
                zstd::stream::read::Decoder::new(rest)
                    .map_err(|error| damaged(format!("a compressed transaction: {error}")))?,
            ),
            255 => Box::new(rest),
            other => {
                let detail = format!("a transaction compressed by algorithm {other}, which is not known");
                self.forget_all("unknown_event", &detail);
                return Ok(());
            }
        };
        let broken = |error: std::io::Error| damaged(format!("a compressed transaction: {error}"));
        let mut event = Vec::new();
        loop {
            event.clear();
            stream.by_ref().take(HEADER as u64).read_to_end(&mut event).map_err(broken)?;
            if event.is_empty() {
                return Ok(());
            }
            if event.len() < HEADER {
                return Err(damaged("a compressed transaction ends within an event"));
            }
            let mut size = &event[9..13];
            let size = number::<4>(&mut size)?;
            if size < HEADER as u64 || size > u64::from(LARGEST) {
                return Err(damaged(format!("an event of {size} bytes in a compressed transaction")));
            }
            stream.by_ref().take(size - HEADER as u64).read_to_end(&mut event).map_err(broken)?;
            let header = Header::read(&event)?;
            self.whole(&header, &event[HEADER..], true)?;
        }
    }

    fn transaction_ends(&mut self) {
        let is_own = std::mem::take(&mut self.is_own);
        for (index, key) in self.fresh.drain(..) {
            if is_own && self.tables[index].keys.remove(&key) {
                self.bytes -= weight(&key);
            }
        }
    }

    fn forget(&mut self, index: usize, why: Unknown) {
        let table = &mut self.tables[index];
        if table.unknown.is_none() {
            self.bytes -= table.keys.iter().map(|key| weight(key)).sum::<usize>();
            table.keys = HashSet::new();
            table.unknown = Some(why);
        }
    }

    fn forget_all(&mut self, reason: &'static str, detail: &str) {
        self.unknown.get_or_insert_with(|| Unknown::new(reason, detail));
    }

    /// What was collected. `unknown` is about every table.
    pub fn finish(mut self) -> Result<(Vec<Changed>, Option<Unknown>)> {
        self.transaction_ends();
        if !self.habits.logs_cascades || self.restarted {
            let mut hit: Vec<usize> = self.set_off.iter().copied().collect();
            let mut seen = HashSet::new();
            while let Some(index) = hit.pop() {
                if !seen.insert(index) {
                    continue;
                }
                let Cascade { parent, child, .. } = self.cascades[index];
                let parent =
                    format!("{}.{}", self.tables[parent].wanted.schema, self.tables[parent].wanted.table);
                self.forget(
                    child,
                    Unknown::new("cascade", format!("keys of {parent} changed, and cascades are not logged")),
                );
                let below = |(_, cascade): &(usize, &Cascade)| cascade.parent == child;
                hit.extend(self.cascades.iter().enumerate().filter(below).map(|(index, _)| index));
            }
        }
        let tables = self.tables.into_iter().map(|table| {
            let described = table.described.unwrap_or_default();
            let keys = table.keys.iter().map(|key| columns::key(&described, key)).collect::<Result<_>>();
            Ok(Changed {
                keys: keys.at(|| format!("{}.{}", table.wanted.schema, table.wanted.table))?,
                schema: table.wanted.schema,
                table: table.wanted.table,
                events: table.events,
                unknown: table.unknown,
            })
        });
        Ok((tables.collect::<Result<_>>()?, self.unknown))
    }
}

/// What a key costs in memory.
fn weight(key: &[u8]) -> usize {
    key.len() + 48
}

#[cfg(test)]
mod tests;
