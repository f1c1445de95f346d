//! What is compared and how exactly, and what came of it: the names are those of the Python plan.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::convert::pointer::PointerKind;
use crate::mysql::Server;
use crate::river::count::Counted;
use crate::run::throttle::Limits;
use crate::verbs::copy::{default_chunk_bytes, default_lanes, default_memory_bytes};
use crate::verbs::promote::Becomes;

/// What is compared, and over which servers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComparePlan {
    /// The server that is read.
    pub source: Server,
    /// The server of the copy.
    pub destination: Server,
    /// How many lanes work at a time, each with sessions of its own.
    #[serde(default = "default_lanes")]
    pub lanes: usize,
    /// The source is read at one instant.
    #[serde(default)]
    pub snapshot: bool,
    /// What may be taken of production.
    #[serde(default)]
    pub throttle: Limits,
    /// Which tables, and how exactly.
    #[serde(flatten)]
    pub comparison: Comparison,
}

/// Which tables are compared, and how exactly.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// About how many bytes a chunk has.
    #[serde(default = "default_chunk_bytes")]
    pub chunk_bytes: u64,
    /// Floats that differ by no more than this, absolutely or relatively, are equal.
    #[serde(default)]
    pub tolerance: f64,
    /// So many rows that differ are listed, for each table.
    #[serde(default = "default_discrepancies")]
    pub max_discrepancies: usize,
    /// What all lanes together may hold of rows, in bytes.
    #[serde(default = "default_memory_bytes")]
    pub memory_bytes: usize,
    /// What is found equal is noted in the destination, for a later sync.
    #[serde(default)]
    pub note: bool,
    /// The pairs of tables.
    pub tables: Vec<ComparedTable>,
}

fn default_discrepancies() -> usize {
    1000
}

/// A pair of tables.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComparedTable {
    /// The source's schema.
    pub source_schema: String,
    /// The source's table.
    pub source_table: String,
    /// The destination's schema.
    pub destination_schema: String,
    /// The destination's table.
    pub destination_table: String,
    /// Source names of the key's columns.
    #[serde(default)]
    pub key: Vec<String>,
    /// How many of the key's leading columns both sides put into the same order, which chunks need. None: all.
    #[serde(default)]
    pub ordered: Option<usize>,
    /// The name of that index.
    #[serde(default)]
    pub index: Option<String>,
    /// The columns that are compared.
    pub columns: Vec<ComparedColumn>,
    /// The caller's own condition.
    #[serde(default)]
    pub where_clause: Option<String>,
    /// How many rows the server expects in it.
    #[serde(default)]
    pub rows: u64,
    /// How many bytes the server says they have.
    #[serde(default)]
    pub data_bytes: u64,
}

/// A pair of columns.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComparedColumn {
    /// Its name in the source.
    pub source: String,
    /// Its name in the destination.
    pub destination: String,
    /// What makes two values equal.
    pub kind: ComparedKind,
    /// What a pointer points to.
    #[serde(default)]
    pub pointer_kind: Option<PointerKind>,
    /// What the values on the left became on the right.
    #[serde(default)]
    pub becomes: Option<Becomes>,
    /// The tracking table that knows the contents' MD5 of blobs carried over from 0.11, on the side of 0.14.6.
    #[serde(default)]
    pub source_content_hash: Option<TrackingName>,
}

/// A tracking table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrackingName {
    /// The schema of the tracking table.
    pub tracking_schema: String,
    /// The tracking table, `~external_<store>`.
    pub tracking_table: String,
}

/// What makes two values equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComparedKind {
    /// Every bit, or the same number in another type.
    Value,
    /// Text in different character sets: both sides as utf8mb4.
    Text,
    /// The same number, whatever its scale.
    Decimal,
    /// An ENUM with a member '', which the value that is none of its members looks like.
    Enum,
    /// The same JSON, however it is spelled.
    Json,
    /// BINARY(16) on the left, JSON metadata on the right.
    Pointer,
    /// A blob on the left, the JSON that names its object on the right.
    Object,
    /// JSON metadata on the left, BINARY(16) on the right.
    Back,
}

/// What came of a comparison.
#[derive(Debug, Clone, Serialize)]
pub struct CompareSummary {
    /// All tables are equal.
    #[serde(rename = "match")]
    pub matches: bool,
    /// How long it took, in seconds.
    pub time_taken: f64,
    /// Each pair of tables.
    pub tables: Vec<TableComparison>,
}

/// What came of the comparison of two tables.
#[derive(Debug, Clone, Serialize)]
pub struct TableComparison {
    /// The source's schema.
    pub source_schema: String,
    /// The source's table.
    pub source_table: String,
    /// The destination's schema.
    pub destination_schema: String,
    /// The destination's table.
    pub destination_table: String,
    /// They are equal.
    #[serde(rename = "match")]
    pub matches: bool,
    /// Rows of the source.
    pub row_count: u64,
    /// Rows of the destination.
    pub destination_row_count: u64,
    /// Rows that differ, by key.
    pub discrepancies: Vec<Discrepancy>,
    /// More rows differ than are listed.
    pub truncated: bool,
    /// The sum of the source's row hashes, in hexadecimal.
    pub digest: String,
    /// From the first chunk to the last, in seconds.
    pub time_taken: f64,
}

/// A row that differs.
#[derive(Debug, Clone, Serialize)]
pub struct Discrepancy {
    /// The columns of the key, with their values as text.
    pub key: BTreeMap<String, String>,
    /// `missing` in the destination, `extra` in it, or `differs`.
    pub kind: &'static str,
    /// For `differs`: source and destination text of each column that does. NULL is `None`.
    pub columns: BTreeMap<String, (Option<String>, Option<String>)>,
    #[serde(skip)]
    pub(super) hash: u128,
    /// For `differs`: of the destination's row.
    #[serde(skip)]
    pub(super) other: u128,
}

impl CompareSummary {
    pub(in crate::verbs) fn proves(&self, destination: &(&str, &str)) -> bool {
        self.tables.iter().any(|table| table.matches && table.destination() == *destination)
    }

    /// Takes the results of a later comparison of some of the tables.
    pub(in crate::verbs) fn replace(&mut self, later: Self) {
        self.time_taken += later.time_taken;
        for table in later.tables {
            if let Some(old) = self.tables.iter_mut().find(|old| old.destination() == table.destination()) {
                *old = table;
            }
        }
        self.matches = self.tables.iter().all(|table| table.matches);
    }
}

impl Comparison {
    pub(in crate::verbs) fn has(&self, destination: (&str, &str)) -> bool {
        self.tables.iter().any(|table| table.destination() == destination)
    }
}

impl TableComparison {
    fn destination(&self) -> (&str, &str) {
        (&self.destination_schema, &self.destination_table)
    }
}

impl ComparedTable {
    pub(super) fn counted(&self, is_source: bool) -> Counted<'_> {
        let (schema, table) = if is_source {
            (&self.source_schema, &self.source_table)
        } else {
            (&self.destination_schema, &self.destination_table)
        };
        Counted { schema, table, filter: self.where_clause.as_deref().filter(|_| is_source) }
    }

    pub(in crate::verbs) fn destination(&self) -> (&str, &str) {
        (&self.destination_schema, &self.destination_table)
    }
}
