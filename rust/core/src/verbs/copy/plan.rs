//! What is copied and how, and what came of it: the names are those of the Python plan.

use std::sync::Arc;

use arrow_array::ArrayRef;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::convert::back::Back;
use crate::convert::pointer::Pointer;
use crate::convert::pointers::{Column, Made, Make};
use crate::convert::tracking::Tracked;
use crate::error::{Kind, Result};
use crate::mysql::Server;
use crate::mysql::load::Store;
use crate::mysql::names::quote;
use crate::run::throttle::Limits;
use crate::verbs::compare::{CompareSummary, Comparison};
use crate::verbs::promote::{PartPlan, TargetPlan, Writer};

/// What is copied, and how. The names are those of the Python plan.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyPlan {
    /// The server that is read.
    pub source: Server,
    /// The server that is written.
    pub destination: Server,
    /// Within one server, or through us.
    pub route: Route,
    /// How many lanes work at a time, each with sessions of its own.
    #[serde(default = "default_lanes")]
    pub lanes: usize,
    /// About how many bytes a chunk has.
    #[serde(default = "default_chunk_bytes")]
    pub chunk_bytes: u64,
    /// What all lanes together may hold of rows, in bytes.
    #[serde(default = "default_memory_bytes")]
    pub memory_bytes: usize,
    /// How rows are loaded.
    #[serde(default)]
    pub load: LoadBy,
    /// The source is read at one instant.
    #[serde(default)]
    pub snapshot: bool,
    /// A journal in each destination schema, so that a run that was killed is resumed.
    #[serde(default)]
    pub journal: bool,
    /// The journal stays when the copy is done: the caller removes it when its own work is.
    #[serde(default)]
    pub keep_journal: bool,
    /// What is compared when the rows are there, under the snapshot that they were copied from.
    #[serde(default)]
    pub compare: Option<Comparison>,
    /// Who counts the rows.
    #[serde(default)]
    pub counted_by: CountedBy,
    /// What may be taken of production.
    #[serde(default)]
    pub throttle: Limits,
    /// How long a server that went away is waited for.
    #[serde(default)]
    pub patience_seconds: Option<u64>,
    /// What of it this call does.
    #[serde(default)]
    pub part: Part,
    /// The tables, in the order in which they are copied.
    pub tables: Vec<TablePlan>,
}

/// One copy may be the work of several processes: what they share is its journal.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Everything that is not done.
    #[default]
    All,
    /// The chunks are cut and noted, and none is copied.
    Cut,
    /// Only chunks of these numbers, which are noted: each, unless it is done by then.
    Chunks(Vec<u64>),
}

pub(in crate::verbs) fn default_lanes() -> usize {
    4
}

pub(in crate::verbs) fn default_chunk_bytes() -> u64 {
    16 << 20
}

pub(in crate::verbs) fn default_memory_bytes() -> usize {
    256 << 20
}

/// The way that rows take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Route {
    /// `INSERT … SELECT` within one server.
    Server,
    /// Through us, as record batches.
    River,
}

/// How rows are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadBy {
    /// By `LOAD DATA LOCAL` where the server allows it.
    #[default]
    Auto,
    /// By `LOAD DATA LOCAL`.
    Infile,
    /// By `INSERT` of many rows.
    Insert,
}

/// Who proves by counting that every row was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CountedBy {
    /// The copy, unless it compares, too.
    #[default]
    Copy,
    /// The comparison of another run.
    Comparison,
}

/// A table that is copied.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TablePlan {
    /// The source's schema.
    pub source_schema: String,
    /// The source's table.
    pub source_table: String,
    /// The destination's schema.
    pub destination_schema: String,
    /// The destination's table.
    pub destination_table: String,
    /// The columns of a unique index without NULLs in its order; empty if there is none.
    #[serde(default)]
    pub key: Vec<String>,
    /// The name of that index.
    #[serde(default)]
    pub index: Option<String>,
    /// The columns, in the order of the destination.
    #[serde(skip_serializing)]
    pub columns: Vec<ColumnPlan>,
    /// The caller's own condition.
    #[serde(default)]
    pub where_clause: Option<String>,
    /// No more rows than these.
    #[serde(default)]
    pub limit: Option<u64>,
    /// How many rows the server expects in it.
    #[serde(default, skip_serializing)]
    pub rows: u64,
    /// How many bytes the server says they have.
    #[serde(default, skip_serializing)]
    pub data_bytes: u64,
}

/// A column that is copied.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnPlan {
    /// Its name in the source.
    pub source: String,
    /// Its name in the destination.
    pub destination: String,
    /// What becomes of its values.
    pub kind: ColumnKind,
    /// The destination's character set, where text is converted.
    #[serde(default)]
    pub charset: Option<String>,
    /// Of a pointer, what it means.
    #[serde(default)]
    pub pointer: Option<Pointer>,
    /// Of a value that is to lie in a store.
    #[serde(default)]
    pub object: Option<ObjectPlan>,
    /// Of a pointer that goes back to 0.14.6.
    #[serde(default)]
    pub back: Option<Back>,
}

/// Where the objects of a column go, and what of the row's key becomes part of their paths.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectPlan {
    pub target: TargetPlan,
    #[serde(default)]
    pub parts: Vec<PartPlan>,
}

/// What becomes of the values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnKind {
    /// As it is; text whose character set is the same on both sides too.
    Value,
    /// Converted by the source server to the destination's character set.
    Text,
    /// JSON, as text.
    Json,
    /// An ENUM with the same members on both sides.
    EnumIndex,
    /// BINARY(16) to JSON metadata.
    Pointer,
    /// A blob to an object of a store and the JSON that names it.
    Object,
    /// JSON metadata to BINARY(16).
    Back,
}

/// What came of a copy.
#[derive(Debug, Clone, Serialize)]
pub struct CopySummary {
    /// Rows that were copied by this call.
    pub rows_copied: u64,
    /// What they took in memory.
    pub bytes: u64,
    /// How long it took, in seconds.
    pub time_taken: f64,
    /// `shared`: all lanes read one instant. `single`: one lane did. `none`: each chunk at its own.
    pub snapshot: &'static str,
    /// `infile` or `insert`; nothing where the server copied by itself.
    pub load: Option<&'static str>,
    /// Each table, in the order of the plan.
    pub tables: Vec<TableSummary>,
    /// What came of the comparison, if one was asked for.
    pub compared: Option<CompareSummary>,
}

/// What came of the copy of a table.
#[derive(Debug, Clone, Serialize)]
pub struct TableSummary {
    /// The destination's schema.
    pub destination_schema: String,
    /// The destination's table.
    pub destination_table: String,
    /// Rows that were copied by this call.
    pub rows_copied: u64,
    /// Rows of the source by its own count, after the copy; where it was read under a snapshot, as many as were copied.
    pub rows_counted: Option<u64>,
    /// What they took in memory.
    pub bytes: u64,
    /// Objects made of values.
    pub files_written: u64,
    /// Chunks that were copied by this call.
    pub chunks: u64,
    /// Chunks that an earlier call had copied.
    pub resumed_chunks: u64,
    /// Until its last chunk, in seconds.
    pub time_taken: f64,
}

impl TablePlan {
    /// Identifies the call in the journal: the same table, key, columns and filter.
    pub(super) fn fingerprint(&self) -> String {
        let columns = format!("{:?}", self.columns);
        let table = serde_json::to_string(self).unwrap_or_default();
        format!("{:032x}", xxh3_128(format!("{table}{columns}").as_bytes()))
    }

    pub(in crate::verbs) fn destination(&self) -> (&str, &str) {
        (&self.destination_schema, &self.destination_table)
    }

    pub(in crate::verbs) fn place(&self) -> String {
        format!("{}.{}", self.source_schema, self.source_table)
    }

    /// What becomes of each column on the way. `tracked` finds the tracking rows of its pointers, where they are in memory.
    pub(in crate::verbs) fn columns_made(
        &self,
        mut tracked: impl FnMut(&Pointer) -> Result<Option<Arc<Tracked>>>,
    ) -> Result<Vec<Column>> {
        let made = |column: &ColumnPlan| {
            let pointer = column.pointer.as_ref().filter(|_| column.kind == ColumnKind::Pointer);
            let object = column.object.as_ref().filter(|_| column.kind == ColumnKind::Object);
            let back = column.back.as_ref().filter(|_| column.kind == ColumnKind::Back);
            let made = match back {
                Some(back) => Some(Made { width: 1, make: Box::new(back.of(&column.source)) }),
                None => object.map(ObjectPlan::made).transpose()?,
            };
            Ok(Column {
                source: column.source.clone(),
                destination: column.destination.clone(),
                tracked: pointer.map(&mut tracked).transpose()?.flatten(),
                pointer: pointer.cloned(),
                made,
            })
        };
        self.columns.iter().map(made).collect()
    }

    /// How the destination takes each column.
    pub(in crate::verbs) fn stores(&self) -> Vec<(&str, Store)> {
        let store = |column: &ColumnPlan| match column.kind {
            ColumnKind::Json | ColumnKind::Pointer | ColumnKind::Object => Store::Json,
            ColumnKind::EnumIndex => Store::EnumIndex,
            ColumnKind::Value | ColumnKind::Text | ColumnKind::Back => Store::Plain,
        };
        self.columns.iter().map(|column| (column.destination.as_str(), store(column))).collect()
    }

    /// What is selected for a column. Pointers whose tracking rows are in memory are selected as they are.
    pub(in crate::verbs) fn expression(
        column: &ColumnPlan,
        route: Route,
        index: usize,
        is_tracked: bool,
    ) -> Result<String> {
        let name = format!("s.{}", quote(&column.source));
        Ok(match (column.kind, route) {
            (ColumnKind::Text, _) => {
                let charset = column
                    .charset
                    .as_deref()
                    .filter(|charset| charset.bytes().all(|byte| byte.is_ascii_alphanumeric()));
                let charset = charset.ok_or_else(|| {
                    Kind::Plan(format!("column `{}` has no charset to become", column.source))
                })?;
                format!("CONVERT({name} USING {charset})")
            }
            (ColumnKind::EnumIndex, Route::River) => format!("CAST({name} AS UNSIGNED)"),
            (ColumnKind::Pointer, Route::River) if !is_tracked => {
                let pointer = column
                    .pointer
                    .as_ref()
                    .ok_or_else(|| Kind::Plan(format!("column `{}` has no pointer", column.source)))?;
                pointer.select(&column.source, index)
            }
            (ColumnKind::Object, Route::River) => {
                let parts = column.object.iter().flat_map(|object| &object.parts);
                std::iter::once(name).chain(parts.map(PartPlan::select)).collect::<Vec<_>>().join(", ")
            }
            (ColumnKind::Pointer | ColumnKind::Object | ColumnKind::Back, Route::Server) => {
                return Err(
                    Kind::Plan("pointers are converted on the way through the river only".into()).into()
                );
            }
            _ => name,
        })
    }
}

impl ObjectPlan {
    /// What makes objects of values, and of the columns that are parts of their paths.
    fn made(&self) -> Result<Made> {
        let (writer, parts) = (Writer::open(&self.target, true)?, self.parts.clone());
        let width = 1 + parts.len();
        Ok(Made { width, make: Box::new(Objects { writer, parts }) })
    }
}

/// Objects, each of a value, and of the columns that are parts of its path.
struct Objects {
    writer: Writer,
    parts: Vec<PartPlan>,
}

impl Make for Objects {
    fn make(&self, columns: &[ArrayRef]) -> Result<ArrayRef> {
        self.writer.objects(&self.parts, columns)
    }

    fn written(&self) -> u64 {
        self.writer.written()
    }
}

impl TableSummary {
    pub(super) fn destination(&self) -> (&str, &str) {
        (&self.destination_schema, &self.destination_table)
    }
}
