//! Values of a column become objects of a store: looked at first, all of them, then written chunk by chunk, each object
//! read back before its row names it.
//!
//! The table may be in use. A row is filled only while its new column is as it was made, so a value that was changed
//! meanwhile, which its trigger notes there, is never named by what it was before.

mod writer;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, LargeBinaryArray, RecordBatch, UInt32Array};
use arrow_schema::{Field, Schema};
use arrow_select::take::take_record_batch;
use serde::{Deserialize, Serialize};

use super::copy::default_lanes;
use crate::convert::object::{self, Spelling};
use crate::error::{At, Kind, Result};
use crate::mysql::chunk::Chunk;
use crate::mysql::decode::Audience;
use crate::mysql::load::{Load, Store as Stored, allows_infile};
use crate::mysql::names::{qualified, quote};
use crate::mysql::scan::scan;
use crate::mysql::session;
use crate::mysql::walk::{Walk, WalkOf};
use crate::mysql::{Connection, Server};
use crate::river::cutter::{Cutter, Sizes};
use crate::river::sink::Piece;
use crate::river::spare::spare;
use crate::river::steady::Steady;
use crate::run::lanes::run;
use crate::run::progress::Progress;
use crate::run::throttle::Limits;
use crate::stores::whole::{IN_MEMORY, Making, Whole};

pub(in crate::verbs) use writer::Writer;
pub use writer::{Becomes, TargetPlan};
use writer::{LOST, Made, Seen, Unproved};

/// Rows of a chunk that is filled in one transaction: small, because others use the table.
const MOST_ROWS: u64 = 2_000;
const CHUNK_BYTES: u64 = 16 << 20;
const BATCH_BYTES: usize = 4 << 20;
const EXAMPLES: usize = 20;
const FILLED: &str = "~promoted";
const JSON: &str = "~json";

/// A column of blobs that become objects.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromotePlan {
    /// The server.
    pub server: Server,
    /// The schema of the table.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The columns of a unique index without NULLs, in its order.
    pub key: Vec<String>,
    /// The name of that index.
    #[serde(default)]
    pub index: Option<String>,
    /// The column of blobs.
    pub column: String,
    /// The column that takes what names the objects. Without one nothing is written.
    #[serde(default)]
    pub into: Option<String>,
    /// The column of what names the objects that were made before. Nothing is written: each row's JSON is held against
    /// the value, and refused where it names another one.
    #[serde(default)]
    pub against: Option<String>,
    /// With `against`: the object that each row names is read, and refused where it is missing or not whole.
    #[serde(default)]
    pub objects: bool,
    /// A condition of the only rows `s` whose values are looked at.
    #[serde(default)]
    pub only: Option<String>,
    /// They are so few that they are one chunk.
    #[serde(default)]
    pub few: bool,
    /// Columns that would note the time of a change, and are not to note this one.
    #[serde(default)]
    pub stamps: Vec<String>,
    /// What of the key becomes part of paths, and how.
    #[serde(default)]
    pub parts: Vec<PartPlan>,
    /// Where the objects go.
    pub target: TargetPlan,
    /// How many rows the server expects in it.
    #[serde(default)]
    pub rows: u64,
    /// How many bytes the server says they have.
    #[serde(default)]
    pub data_bytes: u64,
    /// How many lanes work at a time, each with sessions of its own.
    #[serde(default = "default_lanes")]
    pub lanes: usize,
    /// What may be taken of production.
    #[serde(default)]
    pub throttle: Limits,
}

/// A column of the key that becomes part of paths.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartPlan {
    /// Its name.
    pub name: String,
    /// What makes text of it.
    pub read: ReadAs,
    /// How the text is spelled in a path.
    pub spelling: Spelling,
}

impl PartPlan {
    /// What is selected of the row `s`: text in utf8mb4.
    pub(in crate::verbs) fn select(&self) -> String {
        let name = format!("s.{}", quote(&self.name));
        match self.read {
            ReadAs::Text => format!("CONVERT({name} USING utf8mb4)"),
            ReadAs::Number => format!("CAST({name} AS CHAR)"),
            ReadAs::Hex => format!("LOWER(HEX({name}))"),
        }
    }

    /// The part of a path.
    fn spell(&self, text: &str) -> String {
        object::part(&self.name, text, self.spelling)
    }
}

/// What makes text of a value of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadAs {
    /// Text, as utf8mb4.
    Text,
    /// A number or a time, as the server writes it.
    Number,
    /// Bytes, two digits each.
    Hex,
}

/// What came of it, or would come.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PromoteSummary {
    /// Values that were looked at.
    pub rows: u64,
    /// Rows without a value.
    pub rows_null: u64,
    /// Rows that name their objects now.
    pub rows_promoted: u64,
    /// Objects that were written.
    pub files_written: u64,
    /// Bytes of the values.
    pub bytes_in: u64,
    /// Of all objects, those that were there already included.
    pub bytes_out: u64,
    /// What the values are, by number.
    pub kinds: BTreeMap<String, u64>,
    /// The types of arrays, by number.
    pub dtypes: BTreeMap<String, u64>,
    /// Why values were refused, by number.
    pub refused: BTreeMap<String, u64>,
    /// Some values that were refused.
    pub examples: Vec<Example>,
    /// How long it took, in seconds.
    pub time_taken: f64,
}

/// A value that cannot become what was asked for.
#[derive(Debug, Clone, Serialize)]
pub struct Example {
    /// The columns of its key, with their values as text.
    pub key: BTreeMap<String, String>,
    /// What it is.
    pub kind: String,
    /// Why it was refused.
    pub why: String,
    #[serde(skip)]
    at: (u64, usize),
}

/// What all lanes add to.
#[derive(Default)]
struct Totals {
    promoted: AtomicU64,
    summary: Mutex<PromoteSummary>,
}

/// Looks at every value, or makes objects of those that are not objects yet.
pub fn promote(plan: &PromotePlan, progress: &Progress) -> Result<PromoteSummary> {
    let begun = Instant::now();
    let place = || format!("{}.{}.{}", plan.schema, plan.table, plan.column);
    progress.at(&format!("{}.{}", plan.schema, plan.table));
    progress.expect(plan.rows);
    spare(&plan.server, &plan.throttle, progress)?;
    let writer = Writer::open(&plan.target, plan.into.is_some())?;
    let open: fn(&Server) -> Result<Connection> =
        if plan.into.is_some() { session::open_loader } else { session::open_reader };
    let mut walker = Steady::open(&plan.server, session::open_reader)?;
    let filter = plan.filter();
    let of = WalkOf {
        schema: &plan.schema,
        table: &plan.table,
        key: &plan.key,
        index: plan.index.as_deref(),
        filter: filter.as_deref(),
    };
    let walk = walker.ask(progress, |walker| Walk::new(walker, of)).at(place)?;
    let lanes = (0..plan.lanes.max(1)).map(|_| Steady::open(&plan.server, open));
    let mut lanes = lanes.collect::<Result<Vec<_>>>()?;
    let rows = Sizes::new(CHUNK_BYTES, plan.rows, plan.data_bytes).rows().min(MOST_ROWS);
    let totals = Totals::default();
    let job = Job { plan, walk: &walk, writer: &writer, progress, lanes: plan.lanes.max(1) };
    run(
        &mut lanes,
        |queue| {
            if plan.few {
                return queue.put((0, Chunk::default()));
            }
            let put = |_: &mut Steady, piece: Piece| queue.put((piece.number, piece.chunk));
            Cutter::new(&walk).each(&mut walker, progress, || rows, put)
        },
        |lane, (number, chunk): (u64, Chunk)| {
            let (seen, promoted) = lane.ask(progress, |lane| job.chunk(lane, &chunk, number))?;
            progress.add(seen.rows + seen.rows_null, seen.bytes_in);
            totals.add(seen, promoted)
        },
    )
    .at(place)?;
    writer.finish()?;
    let mut summary = totals.summary.into_inner().unwrap_or_default();
    summary.rows_promoted = totals.promoted.into_inner();
    summary.files_written = writer.written();
    summary.time_taken = begun.elapsed().as_secs_f64();
    Ok(summary)
}

impl PromotePlan {
    /// The condition of the rows that are looked at.
    fn filter(&self) -> Option<String> {
        if let Some(into) = &self.into {
            return Some(self.untouched(into));
        }
        let (column, against) = (quote(&self.column), quote(self.against.as_ref()?));
        let only = self.only.as_ref().map_or_else(String::new, |only| format!(" AND {only}"));
        Some(format!("(s.{column} IS NOT NULL OR s.{against} IS NOT NULL){only}"))
    }

    /// The key of a row, for people.
    fn shown(&self, at: Spot<'_>) -> BTreeMap<String, String> {
        self.parts.iter().map(|part| part.name.clone()).zip(at.texts.iter().cloned()).collect()
    }

    /// Whether only lengths are asked for: whatever the value is, it is not in the way.
    fn takes_any(&self) -> bool {
        self.into.is_none() && self.against.is_none() && self.target.becomes == Becomes::Bytes
    }

    /// The condition of rows whose value has no object yet, and was not changed.
    fn untouched(&self, into: &str) -> String {
        let (column, into) = (quote(&self.column), quote(into));
        let only = self.only.as_ref().map_or_else(String::new, |only| format!(" AND {only}"));
        format!("s.{column} IS NOT NULL AND (s.{into} IS NULL OR LEFT(s.{into}, 1) = 'n'){only}")
    }

    /// What is read of each row: what names it, its key, its parts of paths, its value if that is short, its length.
    fn select(&self, walk: &Walk) -> String {
        let column = format!("s.{}", quote(&self.column));
        let mut list: Vec<_> = walk.expressions().into_iter().map(str::to_owned).collect();
        list.extend(self.key.iter().map(|name| format!("s.{}", quote(name))));
        list.extend(self.parts.iter().map(PartPlan::select));
        if self.target.is_stored() {
            list.push(format!("CONVERT({column} USING utf8mb4)"));
        } else if self.takes_any() {
            list.push("CAST(NULL AS BINARY)".into());
        } else {
            list.push(format!("IF(LENGTH({column}) <= {IN_MEMORY}, {column}, NULL)"));
        }
        list.push(format!("CAST(LENGTH({column}) AS CHAR)"));
        // Always one column, so that all rows are read alike.
        list.push(self.against.as_ref().map_or_else(
            || "CAST(NULL AS CHAR)".into(),
            |against| format!("CONVERT(s.{} USING utf8mb4)", quote(against)),
        ));
        list.join(", ")
    }
}

impl PromoteSummary {
    fn refuse(&mut self, kind: String, why: String, plan: &PromotePlan, at: Spot<'_>) {
        *self.refused.entry(kind.clone()).or_default() += 1;
        if self.examples.len() < EXAMPLES || kind == LOST {
            self.examples.push(Example { key: plan.shown(at), kind, why, at: (at.chunk, at.row) });
            self.keep_examples();
        }
    }

    /// The first ones, and of those before all others whose objects are lost.
    fn keep_examples(&mut self) {
        self.examples.sort_by_key(|example| (example.kind != LOST, example.at));
        self.examples.truncate(EXAMPLES);
    }
}

impl Totals {
    fn add(&self, seen: PromoteSummary, promoted: u64) -> Result<()> {
        self.promoted.fetch_add(promoted, Ordering::Relaxed);
        let mut all = self.summary.lock().map_err(|_| Kind::Internal("a lane panicked".into()))?;
        all.rows += seen.rows;
        all.rows_null += seen.rows_null;
        all.bytes_in += seen.bytes_in;
        all.bytes_out += seen.bytes_out;
        let all = &mut *all;
        for (into, from) in
            [(&mut all.kinds, seen.kinds), (&mut all.dtypes, seen.dtypes), (&mut all.refused, seen.refused)]
        {
            for (name, count) in from {
                *into.entry(name).or_default() += count;
            }
        }
        all.examples.extend(seen.examples);
        all.keep_examples();
        Ok(())
    }
}

struct Job<'a> {
    plan: &'a PromotePlan,
    walk: &'a Walk,
    writer: &'a Writer,
    progress: &'a Progress,
    lanes: usize,
}

/// What one chunk is doing.
struct Doing {
    seen: PromoteSummary,
    /// The keys of rows, and in the same order what names their objects.
    keys: Vec<RecordBatch>,
    made: Vec<Made>,
    unproved: Unproved,
    /// Rows whose values are too long to be read with the others.
    long: Vec<Long>,
    row: usize,
}

struct Long {
    equals: String,
    key: RecordBatch,
    texts: Vec<String>,
    json: Option<Vec<u8>>,
    row: usize,
}

/// Which row: its key as text, and its place among all.
#[derive(Clone, Copy)]
struct Spot<'a> {
    texts: &'a [String],
    chunk: u64,
    row: usize,
}

impl Job<'_> {
    /// One chunk, from the beginning: an attempt that failed leaves whole objects behind, which the next one finds.
    fn chunk(&self, lane: &mut Connection, chunk: &Chunk, number: u64) -> Result<(PromoteSummary, u64)> {
        let mut doing = Doing {
            seen: PromoteSummary::default(),
            keys: Vec::new(),
            made: Vec::new(),
            unproved: Unproved::of(self.lanes),
            long: Vec::new(),
            row: 0,
        };
        let (plan, within) = (self.plan, self.walk.condition(chunk)?);
        let sql = format!(
            "SELECT {} FROM {}{within}{}",
            plan.select(self.walk),
            self.walk.from(),
            self.walk.order_by()
        );
        scan(lane, &sql, Audience::River, BATCH_BYTES, &mut |batch, read| {
            self.progress.read(read)?;
            self.batch(&mut doing, &batch, number)
        })?;
        for long in std::mem::take(&mut doing.long) {
            // A row that is gone, or has no value any more, is left to whoever changed it.
            let Some(mut value) = self.fetch(lane, &long)? else { continue };
            let at = Spot { texts: &long.texts, chunk: number, row: long.row };
            if plan.against.is_some() {
                self.hold(&mut doing, Some(&mut value), long.json.as_deref(), at)?;
            } else if let Some(made) = self.value(&mut doing, &mut value, at)? {
                doing.made.push(made);
                doing.keys.push(long.key);
            }
        }
        let Some(into) = &plan.into else { return Ok((doing.seen, 0)) };
        self.writer.prove(&doing.made, &mut doing.unproved)?;
        let promoted = if doing.made.is_empty() { 0 } else { self.fill(lane, &doing, into, &within)? };
        Ok((doing.seen, promoted))
    }

    fn batch(&self, doing: &mut Doing, batch: &RecordBatch, number: u64) -> Result<()> {
        let columns = batch.columns();
        let (known, rest) = columns.split_at(self.walk.expressions().len());
        let (key, rest) = rest.split_at(self.plan.key.len());
        let (parts, value) = rest.split_at(self.plan.parts.len());
        let [value, length, json] = value else {
            return Err(Kind::Internal("a column is missing".into()).into());
        };
        let (value, length, json) =
            (value.as_binary_opt::<i64>(), text(length)?, json.as_binary_opt::<i64>());
        let parts = parts.iter().map(text).collect::<Result<Vec<_>>>()?;
        let schema = batch.schema();
        let fields = &schema.fields()[known.len()..known.len() + key.len()];
        let fields: Vec<_> = fields
            .iter()
            .zip(&self.plan.key)
            .map(|(field, name)| field.as_ref().clone().with_name(name))
            .collect();
        let keys = record(fields, key.to_vec())?;
        let mut kept = Vec::new();
        for row in 0..batch.num_rows() {
            self.progress.check()?;
            doing.row += 1;
            let json = json.filter(|json| json.is_valid(row)).map(|json| json.value(row));
            let texts: Vec<_> = parts.iter().map(|part| utf8(part.value(row))).collect();
            let at = Spot { texts: &texts, chunk: number, row: doing.row };
            if length.is_null(row) {
                doing.seen.rows_null += 1;
                if self.plan.against.is_some() {
                    self.hold(doing, None, json, at)?;
                }
                continue;
            }
            let length: u64 = utf8(length.value(row))
                .parse()
                .map_err(|_| Kind::Protocol("a length is no number".into()))?;
            doing.seen.rows += 1;
            match value.filter(|value| value.is_valid(row)) {
                Some(value) => {
                    let mut whole = Whole::Memory(Cow::Borrowed(value.value(row)));
                    if self.plan.against.is_some() {
                        self.hold(doing, Some(&mut whole), json, at)?;
                    } else if let Some(made) = self.value(doing, &mut whole, at)? {
                        doing.made.push(made);
                        kept.push(row as u32);
                    }
                }
                None if self.plan.takes_any() => {
                    doing.seen.bytes_in += length;
                    doing.seen.bytes_out += length;
                }
                None => {
                    let (equals, key) = (self.walk.equals(known, row)?, keys.slice(row, 1));
                    let json = json.map(<[u8]>::to_vec);
                    doing.long.push(Long { equals, key, texts, json, row: doing.row });
                }
            }
        }
        if !kept.is_empty() {
            let kept = take_record_batch(&keys, &UInt32Array::from(kept));
            doing.keys.push(kept.map_err(|error| Kind::Internal(error.to_string()))?);
        }
        Ok(())
    }

    /// Reads a long value as it comes over the line, so that it is never in memory as a whole.
    fn fetch(&self, lane: &mut Connection, long: &Long) -> Result<Option<Whole<'static>>> {
        let (column, from) = (quote(&self.plan.column), self.walk.from());
        let sql = format!("SELECT s.{column} FROM {from} WHERE {}", long.equals);
        let mut making = Making::default();
        let there = lane.value_through(&sql, &mut |piece| {
            self.progress.check()?;
            self.progress.read(piece.len() as u64)?;
            let unwritable = |error: std::io::Error| Kind::File {
                path: std::env::temp_dir().display().to_string(),
                message: error.to_string(),
            };
            Ok(making.write_all(piece).map_err(unwritable)?)
        })?;
        Ok(there.then(|| making.finish().0))
    }

    fn value(&self, doing: &mut Doing, value: &mut Whole<'_>, at: Spot<'_>) -> Result<Option<Made>> {
        let parts = self.plan.parts.iter().zip(at.texts).map(|(part, text)| part.spell(text));
        let seen = self.writer.write(value, &parts.collect::<Vec<_>>(), &mut doing.unproved)?;
        let all = &mut doing.seen;
        match seen {
            Seen::Refused { kind, why } => {
                if self.plan.into.is_some() {
                    let message = format!("the value of {:?} is {kind} now: {why}", self.plan.shown(at));
                    return Err(Kind::Value(message).into());
                }
                *all.kinds.entry(kind.clone()).or_default() += 1;
                all.bytes_in += value.size();
                all.refuse(kind, why, self.plan, at);
                Ok(None)
            }
            Seen::Good { kind, dtype, bytes_in, bytes_out, made } => {
                *all.kinds.entry(kind).or_default() += 1;
                if let Some(dtype) = dtype {
                    *all.dtypes.entry(dtype.to_owned()).or_default() += 1;
                }
                all.bytes_in += bytes_in;
                all.bytes_out += bytes_out;
                Ok(made)
            }
        }
    }

    /// Holds what a row says against the value that it had.
    fn hold(
        &self,
        doing: &mut Doing,
        value: Option<&mut Whole<'_>>,
        json: Option<&[u8]>,
        at: Spot<'_>,
    ) -> Result<()> {
        if let Some((kind, why)) = self.writer.differs(value, json, self.plan.objects)? {
            doing.seen.refuse(kind, why, self.plan, at);
        }
        Ok(())
    }

    /// Lets the rows name their objects, in one transaction.
    fn fill(&self, lane: &mut Connection, doing: &Doing, into: &str, within: &str) -> Result<u64> {
        let plan = self.plan;
        let filled = qualified(&plan.schema, FILLED);
        let names: Vec<_> = plan.key.iter().map(|name| quote(name)).collect();
        lane.execute(&format!("DROP TEMPORARY TABLE IF EXISTS {filled}"))?;
        lane.execute(&format!(
            "CREATE TEMPORARY TABLE {filled} ({} LONGTEXT CHARACTER SET utf8mb4 NULL) ENGINE=InnoDB \
             SELECT {} FROM {} LIMIT 0",
            quote(JSON),
            names.join(", "),
            qualified(&plan.schema, &plan.table),
        ))?;
        let infile = allows_infile(lane)?;
        let mut columns: Vec<_> = plan.key.iter().map(|name| (name.as_str(), Stored::Plain)).collect();
        columns.push((JSON, Stored::Plain));
        let mut load = Load::new(lane, (&plan.schema, FILLED), &columns, infile)?;
        let mut made = doing.made.iter();
        for keys in &doing.keys {
            let schema = keys.schema();
            let mut fields: Vec<_> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
            let mut arrays = keys.columns().to_vec();
            let json = made.by_ref().take(keys.num_rows()).map(|one| Some(one.json.as_bytes()));
            let json: LargeBinaryArray = json.collect();
            fields.push(Field::new(JSON, json.data_type().clone(), false));
            arrays.push(std::sync::Arc::new(json));
            load.batch(lane, &record(fields, arrays)?)?;
        }
        load.finish(lane)?;
        let same: Vec<_> = names.iter().map(|name| format!("m.{name} = s.{name}")).collect();
        let kept: String = plan
            .stamps
            .iter()
            .map(|name| quote(name))
            .fold(String::new(), |kept, name| kept + &format!(", s.{name} = s.{name}"));
        let done = lane.execute(&format!(
            "UPDATE {} JOIN {filled} AS m ON {} SET s.{} = m.{}{kept}{within}",
            self.walk.from(),
            same.join(" AND "),
            quote(into),
            quote(JSON),
        ))?;
        lane.execute(&format!("DROP TEMPORARY TABLE {filled}"))?;
        Ok(done.affected_rows)
    }
}

fn record(fields: Vec<Field>, arrays: Vec<ArrayRef>) -> Result<RecordBatch> {
    let schema = std::sync::Arc::new(Schema::new(fields));
    RecordBatch::try_new(schema, arrays).map_err(|error| Kind::Internal(error.to_string()).into())
}

fn text(array: &ArrayRef) -> Result<&LargeBinaryArray> {
    array.as_binary_opt::<i64>().ok_or_else(|| Kind::Internal("text that is no text".into()).into())
}

fn utf8(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
