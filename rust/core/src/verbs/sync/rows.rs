//! The rows of a range: read from both sides, told apart, and put right in the copy.

use std::collections::{HashMap, HashSet};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;

use super::blocks::key_of;
use super::{Dirty, Table};
use crate::batch::digest::{Digest, Rows};
use crate::convert::Convert;
use crate::convert::pointer::WIDTH;
use crate::convert::pointers::Pointers;
use crate::error::{Error, Kind, Result};
use crate::mysql::Connection;
use crate::mysql::chunk::{Bound, Chunk};
use crate::mysql::load::Load;
use crate::mysql::names::{qualified, quote};
use crate::river::steady::Steady;
use crate::run::progress::Progress;
use crate::verbs::copy::{ColumnKind, Route, TablePlan};
use crate::verbs::promote::PartPlan;

/// Rows of the copy whose hashes are held at once; a larger range is read in several parts.
const HELD_ROWS: u64 = 500_000;
/// Rows that one statement deletes.
const DELETED_ROWS: usize = 500;
/// Between the look at rows and the end of the transaction nobody else can change them.
const LOCKS: &str = " FOR UPDATE";

/// What is done with rows that differ.
pub(super) enum Doing<'a> {
    /// They are counted.
    Count,
    /// The pointers of those that production has are kept, by column of the copy's plan.
    Collect(&'a mut Vec<HashSet<[u8; 16]>>, usize),
    /// The keys of those that only the copy has are kept.
    Gone(&'a mut Vec<Bound>),
    /// Those that the copy has are taken out.
    Remove(&'a mut Connection),
    /// The copy gets what production has.
    Put(&'a mut Connection, Load),
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
}

impl Counts {
    pub fn add(&mut self, more: Self) {
        self.inserted += more.inserted;
        self.updated += more.updated;
        self.deleted += more.deleted;
    }
}

/// What is selected on both sides for rows that may have to be put.
pub(super) struct Selects {
    source: String,
    joins: String,
    /// For each column of the copy, its columns in the result.
    copied: Vec<Vec<usize>>,
    destination: String,
    /// The key's columns in the destination's result.
    key: Vec<usize>,
}

fn place_of(list: &mut Vec<String>, expression: String) -> usize {
    list.iter().position(|known| *known == expression).unwrap_or_else(|| {
        list.push(expression);
        list.len() - 1
    })
}

impl Selects {
    /// Compared and copied columns in one statement, what is both only once.
    pub fn new(
        copy: &TablePlan,
        compared: (&[String], &[String]),
        key: impl Iterator<Item = String>,
    ) -> Result<Self> {
        let (mut source, mut joins, mut copied) = (compared.0.to_vec(), String::new(), Vec::new());
        // A pointer's expressions are one text, and stand behind all others.
        let mut pointers = Vec::new();
        for (index, column) in copy.columns.iter().enumerate() {
            let expression = TablePlan::expression(column, Route::River, index, false)?;
            match (column.kind, &column.pointer) {
                (ColumnKind::Pointer, Some(pointer)) => {
                    joins.push_str(&pointer.join(&column.source, index));
                    pointers.push((index, expression));
                    copied.push(Vec::new());
                }
                (ColumnKind::Object, _) => {
                    let parts = column.object.iter().flat_map(|object| &object.parts).map(PartPlan::select);
                    let all = std::iter::once(format!("s.{}", quote(&column.source))).chain(parts);
                    copied.push(all.map(|expression| place_of(&mut source, expression)).collect());
                }
                _ => copied.push(vec![place_of(&mut source, expression)]),
            }
        }
        let mut next = source.len();
        for (index, expression) in pointers {
            source.push(expression);
            copied[index] = (next..next + WIDTH).collect();
            next += WIDTH;
        }
        let mut destination = compared.1.to_vec();
        let key = key.map(|expression| place_of(&mut destination, expression)).collect();
        Ok(Self { source: source.join(", "), joins, copied, destination: destination.join(", "), key })
    }
}

/// The copy's rows of a range, by their keys.
#[derive(Default)]
pub(super) struct Held {
    rows: HashMap<u128, (u128, usize, usize)>,
    keys: Vec<Vec<ArrayRef>>,
    /// Of all rows of the range, chosen or not.
    pub all: Digest,
}

impl Held {
    /// The keys of the rows.
    pub fn bounds(&self, table: &Table) -> impl Iterator<Item = Result<Bound>> {
        self.rows.values().map(|&(_, batch, row)| self.bound(table, batch, row))
    }

    fn bound(&self, table: &Table, batch: usize, row: usize) -> Result<Bound> {
        let columns: Vec<&dyn Array> = self.keys[batch].iter().map(AsRef::as_ref).collect();
        table.keyed.bound_of(&columns, row)
    }
}

impl Table {
    fn destination(&self) -> String {
        qualified(&self.plan.copy.destination_schema, &self.plan.copy.destination_table)
    }

    fn source_sql(&self, chunk: &Chunk) -> Result<String> {
        let columns: Vec<_> = self.plan.copy.columns.iter().map(|column| column.source.as_str()).collect();
        let from = self.sides.source.walk.joined(chunk, &self.selects.joins, &columns)?;
        Ok(format!("SELECT {} FROM {from}", self.selects.source))
    }

    pub(super) fn held(
        &self,
        progress: &Progress,
        connection: &mut Connection,
        chunk: &Chunk,
        is_chosen: &dyn Fn(u128) -> bool,
        locks: &str,
    ) -> Result<Held> {
        let condition = self.sides.destination.walk.condition(chunk)?;
        let from = self.sides.destination.walk.from();
        let sql = format!("SELECT {} FROM {from}{condition}{locks}", self.selects.destination);
        let mut held = Held::default();
        self.bounds.read(connection, &sql, progress, &mut |batch, _| {
            let rows = Rows::new(&batch, &self.sides.destination.meanings)?;
            let (mut buffer, number) = (Vec::new(), held.keys.len());
            rows.hashes(|row, hash| {
                held.all.count(hash);
                let key = key_of(&rows, &self.sides.key, row, &mut buffer);
                if is_chosen(key) {
                    held.rows.insert(key, (hash, number, row));
                }
            });
            held.keys.push(self.selects.key.iter().map(|&column| batch.column(column).clone()).collect());
            Ok(())
        })?;
        Ok(held)
    }

    /// Looks at both sides of a range and does what is to be done with the rows that differ.
    ///
    /// What is deleted of rows that changed is deleted before their successors are put.
    pub(super) fn reconcile(
        &self,
        progress: &Progress,
        source: &mut Steady,
        reader: &mut Steady,
        dirty: &Dirty,
        doing: &mut Doing<'_>,
    ) -> Result<Counts> {
        if self.sides.key.is_empty() {
            return self.replace(progress, source, dirty, doing);
        }
        let parts = u128::from(1 + dirty.source.rows.max(dirty.copy.rows) / HELD_ROWS);
        let mut counts = Counts::default();
        for part in 0..parts {
            let is_chosen = move |key: u128| key % parts == part;
            let mut held = match doing {
                Doing::Remove(loader) | Doing::Put(loader, _) => {
                    let held = self.held(progress, loader, &dirty.range, &is_chosen, LOCKS)?;
                    // Part by part the rows become what they shall be.
                    if part == 0 {
                        dirty.prove(held.all)?;
                    }
                    held
                }
                _ => reader
                    .ask(progress, |reader| self.held(progress, reader, &dirty.range, &is_chosen, ""))?,
            };
            counts.add(self.pass(progress, source, &dirty.range, &mut held, doing, &is_chosen)?);
        }
        Ok(counts)
    }

    fn pass(
        &self,
        progress: &Progress,
        source: &mut Steady,
        range: &Chunk,
        held: &mut Held,
        doing: &mut Doing<'_>,
        is_chosen: &dyn Fn(u128) -> bool,
    ) -> Result<Counts> {
        let sql = self.source_sql(range)?;
        let mut counts = Counts::default();
        let mut waiting = Waiting::default();
        source.ask(progress, |source| {
            self.bounds
                .read(source, &sql, progress, &mut |batch, read| {
                    progress.read(read)?;
                    let rows = Rows::new(&batch, &self.sides.source.meanings)?;
                    let mut buffer = Vec::new();
                    let mut failed = Ok(());
                    let mut chosen = vec![false; batch.num_rows()];
                    rows.hashes(|row, hash| {
                        let key = key_of(&rows, &self.sides.key, row, &mut buffer);
                        if !is_chosen(key) {
                            return;
                        }
                        match held.rows.remove(&key) {
                            None => counts.inserted += 1,
                            Some((other, ..)) if other == hash => return,
                            Some((_, batch, row)) => {
                                counts.updated += 1;
                                match held.bound(self, batch, row) {
                                    Ok(bound) => waiting.gone.push(bound),
                                    Err(error) => failed = Err(error),
                                }
                            }
                        }
                        chosen[row] = true;
                    });
                    failed?;
                    if chosen.contains(&true) {
                        let chosen = filter_record_batch(&batch, &BooleanArray::from(chosen))
                            .map_err(|error| Error::from(Kind::Internal(error.to_string())))?;
                        self.take(&chosen, &mut waiting, doing)?;
                    }
                    if waiting.bytes > self.bounds.batch_bytes {
                        self.flush(&mut waiting, doing)
                    } else {
                        Ok(())
                    }
                })
                .map(drop)
        })?;
        // Those of the copy that nobody met.
        for &(_, batch, row) in held.rows.values() {
            counts.deleted += 1;
            let bound = held.bound(self, batch, row)?;
            if let Doing::Gone(gone) = doing { gone.push(bound) } else { waiting.gone.push(bound) }
        }
        self.flush(&mut waiting, doing)?;
        Ok(counts)
    }

    /// Rows that production has and the copy does not.
    fn take(&self, rows: &RecordBatch, waiting: &mut Waiting, doing: &mut Doing<'_>) -> Result<()> {
        match doing {
            Doing::Count | Doing::Gone(_) | Doing::Remove(_) => {}
            Doing::Collect(pointers, most) => {
                let columns = self.plan.copy.columns.iter().zip(&self.selects.copied);
                for ((column, places), found) in columns.zip(pointers.iter_mut()) {
                    if column.kind != ColumnKind::Pointer {
                        continue;
                    }
                    let values = rows.column(places[0]).as_binary_opt::<i64>();
                    let values = values.ok_or_else(|| Kind::Value("a pointer is no BINARY(16)".into()))?;
                    for hash in values.iter().flatten().filter_map(|hash| hash.try_into().ok()) {
                        // One more than may be told says that there are too many.
                        if found.len() <= *most {
                            found.insert(hash);
                        }
                    }
                }
            }
            Doing::Put(..) => {
                let rows = self.converted(rows)?;
                waiting.bytes += rows.get_array_memory_size();
                waiting.rows.push(rows);
            }
        }
        Ok(())
    }

    fn flush(&self, waiting: &mut Waiting, doing: &mut Doing<'_>) -> Result<()> {
        let Waiting { gone, rows, .. } = std::mem::take(waiting);
        let loader = match doing {
            Doing::Count | Doing::Gone(_) | Doing::Collect(..) => return Ok(()),
            Doing::Remove(loader) | Doing::Put(loader, _) => loader,
        };
        for some in gone.chunks(DELETED_ROWS) {
            let condition = self.keyed.any_of(some)?;
            loader.execute(&format!("DELETE FROM {} WHERE {condition}", self.destination()))?;
        }
        if let Doing::Put(loader, load) = doing {
            put(loader, load, &rows)?;
        }
        Ok(())
    }

    /// Without a key a row cannot be told to be another's successor: all of them are replaced.
    fn replace(
        &self,
        progress: &Progress,
        source: &mut Steady,
        dirty: &Dirty,
        doing: &mut Doing<'_>,
    ) -> Result<Counts> {
        let counts = Counts { inserted: dirty.source.rows, updated: 0, deleted: dirty.copy.rows };
        match doing {
            // What has no key is referred to by none.
            Doing::Count | Doing::Gone(_) => return Ok(counts),
            Doing::Collect(..) => {}
            Doing::Remove(loader) | Doing::Put(loader, _) => {
                let there = self.digest_of_copy(progress, loader, &dirty.range, LOCKS)?;
                dirty.prove(there)?;
                let done = loader.execute(&format!("DELETE FROM {}", self.destination()))?;
                // A row that came after the look.
                if done.affected_rows != there.rows {
                    return Err(Dirty::written());
                }
            }
        }
        if matches!(doing, Doing::Remove(_)) {
            return Ok(counts);
        }
        let sql = self.source_sql(&dirty.range)?;
        source.ask(progress, |source| {
            self.bounds
                .read(source, &sql, progress, &mut |batch, read| {
                    progress.read(read)?;
                    let mut waiting = Waiting::default();
                    self.take(&batch, &mut waiting, doing)?;
                    self.flush(&mut waiting, doing)
                })
                .map(drop)
        })?;
        Ok(counts)
    }

    /// The batch as the copy takes it: each of its columns from where it stands in the result.
    fn converted(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let laid = batch.project(&self.selects.copied.concat());
        Pointers(&self.columns).convert(laid.map_err(|error| Kind::Internal(error.to_string()))?)
    }

    /// The sum of a range of the copy, as `connection` sees it.
    pub(super) fn digest_of_copy(
        &self,
        progress: &Progress,
        connection: &mut Connection,
        chunk: &Chunk,
        locks: &str,
    ) -> Result<Digest> {
        let side = &self.sides.destination;
        let sql = format!(
            "SELECT {} FROM {}{}{locks}",
            side.select.join(", "),
            side.walk.from(),
            side.walk.condition(chunk)?
        );
        let mut digest = Digest::default();
        self.bounds.read(connection, &sql, progress, &mut |batch, _| digest.add(&batch, &side.meanings))?;
        Ok(digest)
    }
}

/// What is to be written together.
#[derive(Default)]
struct Waiting {
    gone: Vec<Bound>,
    rows: Vec<RecordBatch>,
    bytes: usize,
}

fn put(loader: &mut Connection, load: &mut Load, rows: &[RecordBatch]) -> Result<()> {
    let sent = rows.iter().try_for_each(|batch| load.batch(loader, batch));
    match sent {
        Ok(()) => load.finish(loader).map(drop),
        Err(error) => {
            if !matches!(error.kind(), Kind::Lost { .. }) {
                // What the load says is of no interest any more: its rows are rolled back.
                let _ = load.abandon(loader);
            }
            Err(error)
        }
    }
}
