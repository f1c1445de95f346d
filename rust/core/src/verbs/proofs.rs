//! How many rows of a table a condition is true for, asked chunk by chunk: production is spared between two of them.

use serde::{Deserialize, Serialize};

use super::copy::default_chunk_bytes;
use crate::error::{At, Kind, Result};
use crate::mysql::Server;
use crate::mysql::session::open_reader;
use crate::mysql::walk::{Walk, WalkOf};
use crate::river::cutter::{Cutter, Sizes};
use crate::river::sink::Piece;
use crate::river::spare::spare;
use crate::river::steady::Steady;
use crate::run::progress::Progress;
use crate::run::throttle::Limits;

/// Conditions that are counted over a table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofsPlan {
    /// The server that is read.
    pub source: Server,
    /// What may be taken of production.
    #[serde(default)]
    pub throttle: Limits,
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The columns of a unique index without NULLs, in its order; empty if there is none.
    #[serde(default)]
    pub key: Vec<String>,
    /// The name of that index.
    #[serde(default)]
    pub index: Option<String>,
    /// The caller's own condition.
    #[serde(default)]
    pub where_clause: Option<String>,
    /// Conditions over the columns of the table.
    pub conditions: Vec<String>,
    /// How many rows the server expects in it.
    #[serde(default)]
    pub rows: u64,
    /// How many bytes the server says they have.
    #[serde(default)]
    pub data_bytes: u64,
    /// About how many bytes a chunk has.
    #[serde(default = "default_chunk_bytes")]
    pub chunk_bytes: u64,
}

/// For how many rows they are true.
#[derive(Debug, Clone, Serialize)]
pub struct ProofsSummary {
    /// For each condition, the rows it is true for.
    pub counts: Vec<u64>,
    /// Rows of the table.
    pub rows: u64,
}

/// Counts the rows of the whole table, each chunk at its own instant.
pub fn proofs(plan: &ProofsPlan, progress: &Progress) -> Result<ProofsSummary> {
    let place = || format!("{}.{}", plan.schema, plan.table);
    spare(&plan.source, &plan.throttle, progress)?;
    progress.at(&place());
    progress.turn()?;
    let mut walker = Steady::open(&plan.source, open_reader)?;
    let of = WalkOf {
        schema: &plan.schema,
        table: &plan.table,
        key: &plan.key,
        index: plan.index.as_deref(),
        filter: plan.where_clause.as_deref(),
    };
    let walk = walker.ask(progress, |walker| Walk::new(walker, of)).at(place)?;
    let sums: Vec<_> =
        plan.conditions.iter().map(|condition| format!(", COALESCE(SUM({condition}), 0)")).collect();
    let sizes = Sizes::new(plan.throttle.piece(plan.chunk_bytes), plan.rows, plan.data_bytes);
    let mut summary = ProofsSummary { counts: vec![0; plan.conditions.len()], rows: 0 };
    let count = |walker: &mut Steady, piece: Piece| {
        let chunk = piece.chunk;
        let sql = format!("SELECT COUNT(*){} FROM {}{}", sums.concat(), walk.from(), walk.condition(&chunk)?);
        let told = walker.ask(progress, |walker| walker.query(&sql))?;
        let mut numbers = told.first().into_iter().flatten().map(|cell| {
            let text = cell.as_deref().map(String::from_utf8_lossy);
            text.and_then(|text| text.parse::<u64>().ok())
                .ok_or_else(|| Kind::Protocol("a count that is no number".into()))
        });
        let rows = numbers.next().transpose()?.unwrap_or_default();
        for (count, number) in summary.counts.iter_mut().zip(numbers) {
            *count += number?;
        }
        summary.rows += rows;
        // The server read them by itself, so they count by its own estimate.
        progress.read(rows * sizes.expected())
    };
    Cutter::new(&walk).each(&mut walker, progress, || sizes.rows(), count).at(place)?;
    Ok(summary)
}
