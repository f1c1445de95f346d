//! One side of a comparison: what is asked of it, and how its rows are read.

use std::fmt::Write as _;

use arrow_array::RecordBatch;

use super::plan::{ComparedColumn, ComparedKind, ComparedTable};
use crate::batch::digest::Meaning;
use crate::convert::AsTheyAre;
use crate::convert::pointer::PointerKind;
use crate::error::{Kind, Result};
use crate::mysql::Connection;
use crate::mysql::chunk::Chunk;
use crate::mysql::names::{qualified, quote};
use crate::mysql::walk::{Walk, WalkOf};
use crate::river::flow::{Counts, Flow};
use crate::river::read::Bounds;
use crate::river::sink::{Begun, Moved, Piece, Sink};
use crate::river::sinks::digest::{Blocks, Summing};
use crate::river::source::Rows;
use crate::river::steady::Steady;
use crate::run::progress::Progress;
use crate::verbs::promote::Becomes;
use crate::verbs::sync::blocks::{Block, Blocks as Content, Cut};

/// One of the two tables.
pub(in crate::verbs) struct Side {
    pub walk: Walk,
    /// What is selected, an expression a compared column.
    pub select: Vec<String>,
    /// The columns that are read.
    pub columns: Vec<String>,
    pub joins: String,
    pub meanings: Vec<Meaning>,
    is_source: bool,
    pub(super) bounds: Bounds,
}

impl Side {
    /// The copy's, where production is not asked.
    pub(in crate::verbs) fn of_copy(
        plan: &ComparedTable,
        bounds: &Bounds,
        connection: &mut Connection,
    ) -> Result<Self> {
        let ordered = plan.ordered.unwrap_or(plan.key.len()).min(plan.key.len());
        let named = |name: &String| {
            let found = plan.columns.iter().find(|column| column.source == *name);
            let found = found.map(|column| column.destination.clone());
            found.ok_or_else(|| Kind::Plan(format!("key column `{name}` is not among the compared columns")))
        };
        let key = plan.key[..ordered].iter().map(named).collect::<Result<Vec<_>, _>>()?;
        Self::new(plan, bounds, connection, false, &key)
    }

    pub(super) fn new(
        plan: &ComparedTable,
        bounds: &Bounds,
        connection: &mut Connection,
        is_source: bool,
        key: &[String],
    ) -> Result<Self> {
        let (schema, table) = if is_source {
            (&plan.source_schema, &plan.source_table)
        } else {
            (&plan.destination_schema, &plan.destination_table)
        };
        let index = plan.index.as_deref().filter(|_| is_source);
        let walk = Walk::new(
            connection,
            WalkOf { schema, table, key, index, filter: plan.where_clause.as_deref().filter(|_| is_source) },
        )?;
        let mut select = Vec::new();
        let mut joins = String::new();
        let mut meanings = Vec::new();
        for (index, column) in plan.columns.iter().enumerate() {
            let name = format!("s.{}", quote(if is_source { &column.source } else { &column.destination }));
            let (expression, meaning) = match column.kind {
                ComparedKind::Value => (name, Meaning::Value),
                ComparedKind::Decimal => (name, Meaning::Decimal),
                ComparedKind::Json => (name, Meaning::Json),
                ComparedKind::Text => (format!("CONVERT({name} USING utf8mb4)"), Meaning::Value),
                ComparedKind::Enum => (
                    format!("IF({name} + 0 = 0, 'no member, index 0', CONVERT({name} USING utf8mb4))"),
                    Meaning::Value,
                ),
                ComparedKind::Object => {
                    let meaning = match (column.becomes, is_source) {
                        (Some(Becomes::Array), true) => Meaning::Array,
                        (Some(Becomes::Array), false) => Meaning::ArrayFile,
                        (_, true) => Meaning::Md5,
                        (_, false) => Meaning::Pointer(PointerKind::Blob),
                    };
                    (name, meaning)
                }
                ComparedKind::Pointer if is_source => {
                    let expression = match &column.source_content_hash {
                        None => name,
                        Some(tracking) => {
                            let tracking = qualified(&tracking.tracking_schema, &tracking.tracking_table);
                            let _ = write!(
                                joins,
                                " LEFT JOIN {tracking} AS e{index} ON e{index}.`hash` = {name}"
                            );
                            format!(
                                "IF(e{index}.`filepath` IS NULL, {name}, COALESCE(e{index}.`contents_hash`, {name}))"
                            )
                        }
                    };
                    (expression, Meaning::Value)
                }
                ComparedKind::Back if !is_source => {
                    // No join: the copy is read, and locked, without any.
                    let expression = match &column.source_content_hash {
                        None => name,
                        Some(tracking) => {
                            let tracking = qualified(&tracking.tracking_schema, &tracking.tracking_table);
                            format!(
                                "COALESCE((SELECT IF(e.`filepath` IS NULL, NULL, e.`contents_hash`) \
                                 FROM {tracking} AS e WHERE e.`hash` = {name}), {name})"
                            )
                        }
                    };
                    (expression, Meaning::Value)
                }
                ComparedKind::Pointer | ComparedKind::Back => {
                    let kind = column.pointer_kind.ok_or_else(|| {
                        Kind::Plan(format!("column `{}` has no pointer kind", column.source))
                    })?;
                    (name, Meaning::Pointer(kind))
                }
            };
            select.push(expression);
            meanings.push(meaning);
        }
        let named =
            |column: &ComparedColumn| if is_source { &column.source } else { &column.destination }.clone();
        let columns = plan.columns.iter().map(named).collect();
        Ok(Self { walk, select, columns, joins, meanings, is_source, bounds: bounds.clone() })
    }

    fn sql(&self, chunk: &Chunk) -> Result<String> {
        let columns: Vec<_> = self.columns.iter().map(String::as_str).collect();
        Ok(format!(
            "SELECT {} FROM {}",
            self.select.join(", "),
            self.walk.joined(chunk, &self.joins, &columns)?
        ))
    }

    /// Hands the rows of a range to `sink`, from the beginning again after a lost connection.
    pub(super) fn read(
        &self,
        session: &mut Steady,
        chunk: &Chunk,
        progress: &Progress,
        sink: &mut dyn Sink,
    ) -> Result<Moved> {
        self.run(session, self.sql(chunk)?, progress, sink)
    }

    /// Only what is read from production is limited.
    fn run(
        &self,
        session: &mut Steady,
        sql: String,
        progress: &Progress,
        sink: &mut dyn Sink,
    ) -> Result<Moved> {
        let (bounds, pays) = (&self.bounds, self.is_source);
        let flow = Flow { progress, bounds, pays, counts: Counts::Nothing };
        flow.chunk(&mut Rows::new(session, sql, progress), &mut AsTheyAre, sink, &Piece::default())
    }

    /// The sums of a chunk, what was read, and, where it is to be `noted`, its content-defined blocks.
    pub(super) fn digest(
        &self,
        session: &mut Steady,
        chunk: &Chunk,
        progress: &Progress,
        noted: Option<(Cut, &[usize])>,
    ) -> Result<(Blocks, Moved, Vec<Block>)> {
        let order = if noted.is_some() { self.walk.order_by() } else { String::new() };
        let sql = format!("{}{order}", self.sql(chunk)?);
        let mut sums =
            Sums { meanings: &self.meanings, plain: Summing::new(&self.meanings), noted, content: None };
        let moved = self.run(session, sql, progress, &mut sums)?;
        let content = sums.content.map(|content| content.list).unwrap_or_default();
        Ok((sums.plain.blocks, moved, content))
    }
}

/// The sums of a chunk by number of rows and, where it is to be noted, by content.
struct Sums<'a> {
    meanings: &'a [Meaning],
    plain: Summing<'a>,
    noted: Option<(Cut, &'a [usize])>,
    content: Option<Content>,
}

impl Sink for Sums<'_> {
    fn begin(&mut self, piece: &Piece) -> Result<Begun> {
        self.content = self.noted.map(|(cut, _)| Content::new(cut));
        self.plain.begin(piece)
    }

    fn batch(&mut self, batch: RecordBatch) -> Result<()> {
        if let (Some(content), Some((_, key))) = (&mut self.content, self.noted) {
            content.add(&batch, self.meanings, key, &mut ())?;
        }
        self.plain.batch(batch)
    }

    fn commit(&mut self, piece: &Piece, moved: Moved) -> Result<()> {
        self.plain.commit(piece, moved)
    }
}
