//! What is copied and how, and what came of it: the names are those of the Python plan.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::convert::pointer::Pointer;
use crate::error::{Kind, Result};
use crate::mysql::Server;
use crate::mysql::names::quote;
use crate::run::throttle::Limits;
use crate::verbs::compare::{CompareSummary, Comparison};

/// What is copied, and how. The names are those of the Python plan.
#[derive(Debug, Clone, Deserialize)]
pub struct CopyPlan {
    pub source: Server,
    pub destination: Server,
    pub route: Route,
    #[serde(default = "default_lanes")]
    pub lanes: usize,
    #[serde(default = "default_chunk_bytes")]
    pub chunk_bytes: u64,
    #[serde(default = "default_memory_bytes")]
    pub memory_bytes: usize,
    #[serde(default)]
    pub load: LoadBy,
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
    #[serde(default)]
    pub throttle: Limits,
    pub tables: Vec<TablePlan>,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Route {
    /// `INSERT … SELECT` within one server.
    Server,
    /// Through us, as record batches.
    River,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadBy {
    #[default]
    Auto,
    Infile,
    Insert,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct TablePlan {
    pub source_schema: String,
    pub source_table: String,
    pub destination_schema: String,
    pub destination_table: String,
    /// The columns of a unique index without NULLs in its order; empty if there is none.
    #[serde(default)]
    pub key: Vec<String>,
    /// The name of that index.
    #[serde(default)]
    pub index: Option<String>,
    #[serde(skip_serializing)]
    pub columns: Vec<ColumnPlan>,
    #[serde(default)]
    pub where_clause: Option<String>,
    #[serde(default)]
    pub limit: Option<u64>,
    #[serde(default, skip_serializing)]
    pub rows: u64,
    #[serde(default, skip_serializing)]
    pub data_bytes: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct ColumnPlan {
    pub source: String,
    pub destination: String,
    pub kind: ColumnKind,
    /// The destination's character set, where text is converted.
    #[serde(default)]
    pub charset: Option<String>,
    #[serde(default)]
    pub pointer: Option<Pointer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnKind {
    /// As it is; text whose character set is the same on both sides too.
    Value,
    /// Converted by the source server to the destination's character set.
    Text,
    Json,
    /// An ENUM with the same members on both sides.
    EnumIndex,
    /// BINARY(16) to JSON metadata.
    Pointer,
}

#[derive(Debug, Clone, Serialize)]
pub struct CopySummary {
    pub rows_copied: u64,
    pub bytes: u64,
    pub time_taken: f64,
    /// `shared`: all lanes read one instant. `single`: one lane did. `none`: each chunk at its own.
    pub snapshot: &'static str,
    pub load: Option<&'static str>,
    pub tables: Vec<TableSummary>,
    pub compared: Option<CompareSummary>,
}

#[derive(Debug, Clone, Serialize)]
pub struct TableSummary {
    pub destination_schema: String,
    pub destination_table: String,
    pub rows_copied: u64,
    pub bytes: u64,
    pub chunks: u64,
    pub resumed_chunks: u64,
    pub time_taken: f64,
}

impl TablePlan {
    /// Identifies the call in the journal: the same table, key, columns and filter.
    pub(super) fn fingerprint(&self) -> String {
        let columns = format!("{:?}", self.columns);
        let table = serde_json::to_string(self).unwrap_or_default();
        format!("{:032x}", xxh3_128(format!("{table}{columns}").as_bytes()))
    }

    pub(super) fn destination(&self) -> (&str, &str) {
        (&self.destination_schema, &self.destination_table)
    }

    pub(super) fn place(&self) -> String {
        format!("{}.{}", self.source_schema, self.source_table)
    }

    /// What is selected for a column. Pointers whose tracking rows are in memory are selected as they are.
    pub(super) fn expression(
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
            (ColumnKind::Pointer, Route::Server) => {
                return Err(
                    Kind::Plan("pointers are converted on the way through the river only".into()).into()
                );
            }
            _ => name,
        })
    }
}

impl TableSummary {
    pub(super) fn destination(&self) -> (&str, &str) {
        (&self.destination_schema, &self.destination_table)
    }
}
