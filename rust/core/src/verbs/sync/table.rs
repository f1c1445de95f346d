//! A table on its way: what both sides are asked, and where its state is.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard};

use arrow_array::{Array, ArrayRef, RecordBatch};
use xxhash_rust::xxh3::xxh3_128;

use super::blocks::{Block, Blocks, Watch, key_of};
use super::kept::Kept;
use super::look::Read;
use super::plan::{Base, SyncTable};
use super::rows::Selects;
use super::state::State;
use super::{Dirty, Findings, RULES, Run, Table};
use crate::batch::digest::{Digest, Rows};
use crate::error::{Kind, Result};
use crate::mysql::Connection;
use crate::mysql::chunk::{Bound, Chunk};
use crate::mysql::load::{Load, allows_infile};
use crate::mysql::walk::{Walk, WalkOf};
use crate::river::steady::Steady;
use crate::run::progress::Progress;
use crate::verbs::compare::{ComparedTable, Side, prepare};
use crate::verbs::copy::LoadBy;

impl Run<'_> {
    pub(super) fn begin(
        &self,
        plan: &SyncTable,
        walker: &mut Steady,
        probe: &mut Steady,
        control: &mut Steady,
    ) -> Result<Table> {
        let sides = prepare(&plan.compare, &self.bounds, self.progress, walker, probe)?;
        let to = (plan.copy.destination_schema.as_str(), plan.copy.destination_table.as_str());
        let key: Vec<_> =
            sides.key.iter().map(|&index| plan.compare.columns[index].destination.clone()).collect();
        let of = WalkOf { schema: to.0, table: to.1, key: &key, index: None, filter: None };
        let keyed = probe.ask(self.progress, |probe| Walk::new(probe, of))?;
        let (source_select, source_key) = with_key(&sides.source, sides.walks_rows);
        let (copy_select, copy_key) = with_key(&sides.destination, sides.walks_rows);
        let selects = Selects::new(
            &plan.copy,
            (&sides.source.select, &sides.destination.select),
            keyed.expressions().into_iter().map(str::to_owned),
        )?;
        let load = if self.plan.dry_run { None } else { Some(self.load(plan, control)?) };
        let state = State::new(to.0);
        let fingerprint = plan.compare.fingerprint(RULES);
        let lines = match plan.base {
            Base::Lines | Base::Empty => {
                let sql = state.read(to.1);
                let rows = control.ask(self.progress, |control| control.query(&sql))?;
                state.lines(&fingerprint, &rows)?
            }
            Base::None => None,
        };
        for line in lines.iter().flatten() {
            if let (Some(lower), Some(upper)) = (&line.chunk.lower, &line.chunk.upper) {
                let ordered =
                    walker.ask(self.progress, |walker| sides.source.walk.prove_order(walker, lower, upper));
                ordered.map_err(|error| match error.kind() {
                    Kind::Stuck { .. } => state.unreadable(&error.to_string()),
                    _ => error,
                })?;
            }
        }
        let next = lines.iter().flatten().map(|line| line.number).max().unwrap_or(0).saturating_add(1);
        let cut = plan.compare.cut(sides.walks_rows);
        Ok(Table {
            plan: plan.clone(),
            sides,
            keyed,
            selects,
            columns: plan.copy.columns_made(|_| Ok(None))?,
            source_select,
            source_key,
            copy_select,
            copy_key,
            cut,
            bounds: self.bounds.clone(),
            state,
            fingerprint,
            lines,
            next: AtomicU64::new(next),
            load,
            found: Mutex::default(),
        })
    }

    fn load(&self, plan: &SyncTable, control: &mut Steady) -> Result<Load> {
        let stores = plan.copy.stores();
        let target = (plan.copy.destination_schema.as_str(), plan.copy.destination_table.as_str());
        control.ask(self.progress, |control| {
            let infile = match self.plan.load {
                LoadBy::Auto => allows_infile(control)?,
                LoadBy::Infile => true,
                LoadBy::Insert => false,
            };
            Load::new(control, target, &stores, infile)
        })
    }
}

impl Table {
    pub(super) fn found(&self) -> Result<MutexGuard<'_, Findings>> {
        self.found.lock().map_err(|_| Kind::Internal("a lane panicked".into()).into())
    }

    pub(super) fn dirty(&self) -> Result<Vec<Dirty>> {
        let found = self.found()?;
        let parts = found.chunks.iter().flat_map(|found| &found.parts);
        Ok(parts.flat_map(|part| part.dirty.iter().cloned()).collect())
    }

    pub(super) fn read_source(
        &self,
        progress: &Progress,
        source: &mut Steady,
        chunk: &Chunk,
        base: Option<&[Block]>,
    ) -> Result<Read> {
        let side = &self.sides.source;
        let columns: Vec<_> = side.columns.iter().map(String::as_str).collect();
        let from = side.walk.joined(chunk, &side.joins, &columns)?;
        let sql = format!("SELECT {} FROM {from}{}", self.source_select.join(", "), side.walk.order_by());
        source.ask(progress, |source| {
            let mut blocks = Blocks::new(self.cut);
            let mut bounds = Vec::new();
            let mut kept = self.keep(base);
            let scanned = self.bounds.read(source, &sql, progress, &mut |batch, read| {
                progress.read(read)?;
                let key = columns_of(&batch, &self.source_key);
                kept.batch(key.clone());
                let watch = &mut Reading { key, walk: &side.walk, bounds: &mut bounds, kept: &mut kept };
                blocks.add(&batch, &side.meanings, &self.sides.key, watch)
            })?;
            blocks.list.last().into_iter().for_each(|last| kept.end(last));
            Ok(Read { blocks: blocks.list, bounds, bytes: scanned.bytes, kept })
        })
    }

    /// What keeps rows beside these blocks of the other side, where there is a key by which rows can be asked for.
    fn keep(&self, known: Option<&[Block]>) -> Kept {
        match known {
            Some(known) if self.sides.walks_rows => Kept::new(known),
            _ => Kept::nothing(),
        }
    }

    /// The blocks of a chunk of the copy, and its rows in those that production does not have.
    pub(super) fn read_beside(
        &self,
        progress: &Progress,
        reader: &mut Steady,
        chunk: &Chunk,
        known: Option<&[Block]>,
    ) -> Result<(Vec<Block>, Kept)> {
        let side = &self.sides.destination;
        let sql = self.copy_sql(chunk, &side.walk.order_by())?;
        reader.ask(progress, |reader| {
            let mut blocks = Blocks::new(self.cut);
            let mut kept = self.keep(known);
            self.bounds.read(reader, &sql, progress, &mut |batch, _| {
                kept.batch(columns_of(&batch, &self.copy_key));
                blocks.add(&batch, &side.meanings, &self.sides.key, &mut kept)
            })?;
            blocks.list.last().into_iter().for_each(|last| kept.end(last));
            Ok((blocks.list, kept))
        })
    }

    /// The sum of a range of the copy, whose rows are kept.
    pub(super) fn keep_range(
        &self,
        progress: &Progress,
        reader: &mut Steady,
        range: &Chunk,
        kept: &mut Kept,
    ) -> Result<Digest> {
        let side = &self.sides.destination;
        let sql = self.copy_sql(range, "")?;
        reader.ask(progress, |reader| {
            let mut digest = Digest::default();
            self.bounds.read(reader, &sql, progress, &mut |batch, _| {
                kept.batch(columns_of(&batch, &self.copy_key));
                let rows = Rows::new(&batch, &side.meanings)?;
                let mut buffer = Vec::new();
                rows.hashes(|row, hash| {
                    digest.count(hash);
                    kept.add(row, key_of(&rows, &self.sides.key, row, &mut buffer), hash);
                });
                Ok(())
            })?;
            Ok(digest)
        })
    }

    fn copy_sql(&self, chunk: &Chunk, order: &str) -> Result<String> {
        let walk = &self.sides.destination.walk;
        Ok(format!(
            "SELECT {} FROM {}{}{order}",
            self.copy_select.join(", "),
            walk.from(),
            walk.condition(chunk)?
        ))
    }

    pub(super) fn read_copy(
        &self,
        progress: &Progress,
        reader: &mut Steady,
        chunk: &Chunk,
    ) -> Result<Vec<Block>> {
        reader.ask(progress, |reader| self.blocks_of_copy(progress, reader, chunk))
    }

    pub(super) fn blocks_of_copy(
        &self,
        progress: &Progress,
        connection: &mut Connection,
        chunk: &Chunk,
    ) -> Result<Vec<Block>> {
        let side: &Side = &self.sides.destination;
        let sql = format!(
            "SELECT {} FROM {}{}{}",
            side.select.join(", "),
            side.walk.from(),
            side.walk.condition(chunk)?,
            side.walk.order_by()
        );
        let mut blocks = Blocks::new(self.cut);
        let add = &mut |batch: RecordBatch, _| blocks.add(&batch, &side.meanings, &self.sides.key, &mut ());
        self.bounds.read(connection, &sql, progress, add)?;
        Ok(blocks.list)
    }
}

/// What is selected of a side, the columns of its key among it, and where these are.
fn with_key(side: &Side, is_walked: bool) -> (Vec<String>, Vec<usize>) {
    let (mut select, mut key) = (side.select.clone(), Vec::new());
    if is_walked {
        for expression in side.walk.expressions() {
            let known = select.iter().position(|known| known == expression);
            key.push(known.unwrap_or(select.len()));
            if known.is_none() {
                select.push(expression.to_owned());
            }
        }
    }
    (select, key)
}

fn columns_of(batch: &RecordBatch, places: &[usize]) -> Vec<ArrayRef> {
    places.iter().map(|&column| batch.column(column).clone()).collect()
}

/// Notes the key of each row of production that begins a block, and keeps rows.
struct Reading<'a> {
    key: Vec<ArrayRef>,
    walk: &'a Walk,
    bounds: &'a mut Vec<Bound>,
    kept: &'a mut Kept,
}

impl Watch for Reading<'_> {
    fn begins(&mut self, row: usize, ended: &Block) -> Result<()> {
        self.kept.end(ended);
        let key: Vec<&dyn Array> = self.key.iter().map(AsRef::as_ref).collect();
        self.bounds.push(self.walk.bound_of(&key, row)?);
        Ok(())
    }

    fn row(&mut self, row: usize, key: u128, hash: u128) {
        self.kept.add(row, key, hash);
    }
}

impl ComparedTable {
    /// Identifies the rules by which rows of this table were hashed.
    pub(super) fn fingerprint(&self, rules: u32) -> String {
        let said = format!("{rules} {:?} {:?} {:?}", self.key, self.ordered, self.columns);
        format!("{:032x}", xxh3_128(said.as_bytes()))
    }
}
