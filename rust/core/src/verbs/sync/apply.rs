//! Doing: rows of a chunk and its line of the state, in one transaction.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use data_encoding::HEXLOWER;

use super::plan::Pointed;
use super::rows::{Counts, Doing};
use super::{Apply, Dirty, Found, Lane, Run, Table};
use crate::batch::digest::Digest;
use crate::error::{At, Kind, Result};
use crate::mysql::Connection;
use crate::mysql::chunk::Chunk;
use crate::mysql::session::open_loader;
use crate::river::steady::Steady;
use crate::run::lanes::{Queue, run};
use crate::run::retry::retry;
use crate::verbs::compare::Lane as Both;
use crate::verbs::copy::ColumnKind;

/// Pointers of a column that are named; of more the whole tracking table is gone through.
const MOST_POINTERS: usize = 200_000;

impl Run<'_> {
    pub(super) fn count(&self, tables: &[Arc<Table>], lanes: &mut [Lane]) -> Result<()> {
        self.each_dirty(tables, lanes, |lane, table, dirty| {
            let both = &mut lane.both;
            let counts = table.reconcile(
                self.progress,
                &mut both.source,
                &mut both.destination,
                dirty,
                &mut Doing::Count,
            )?;
            table.found()?.counts.add(counts);
            Ok(())
        })
    }

    pub(super) fn each_dirty(
        &self,
        tables: &[Arc<Table>],
        lanes: &mut [Lane],
        work: impl Fn(&mut Lane, &Table, &Dirty) -> Result<()> + Sync,
    ) -> Result<()> {
        run(
            lanes,
            |queue: &Queue<'_, (Arc<Table>, Dirty)>| {
                for table in tables {
                    for dirty in table.dirty()? {
                        queue.put((table.clone(), dirty))?;
                    }
                }
                Ok(())
            },
            |lane, (table, dirty)| {
                self.progress.turn()?;
                work(lane, &table, &dirty).at(|| table.plan.copy.place())
            },
        )
    }

    /// Tells what the rows that will be put point to.
    pub(super) fn tell_files(
        &self,
        tables: &[Arc<Table>],
        lanes: &mut [Lane],
        files: &mut dyn FnMut(&[Pointed]) -> Result<()>,
    ) -> Result<()> {
        let mut pointed = Vec::new();
        for table in tables {
            let columns = &table.plan.copy.columns;
            if columns.iter().all(|column| column.kind != ColumnKind::Pointer) {
                continue;
            }
            let all = Mutex::new(vec![HashSet::new(); columns.len()]);
            self.each_dirty(std::slice::from_ref(table), lanes, |lane, table, dirty| {
                let mut found = vec![HashSet::new(); columns.len()];
                let both = &mut lane.both;
                let doing = &mut Doing::Collect(&mut found, MOST_POINTERS);
                table.reconcile(self.progress, &mut both.source, &mut both.destination, dirty, doing)?;
                let mut all = all.lock().map_err(|_| Kind::Internal("a lane panicked".into()))?;
                for (all, found) in all.iter_mut().zip(found) {
                    if all.len() <= MOST_POINTERS {
                        all.extend(found);
                    }
                }
                Ok(())
            })?;
            let all = all.into_inner().map_err(|_| Kind::Internal("a lane panicked".into()))?;
            for (column, hashes) in columns.iter().zip(all).filter(|(_, hashes)| !hashes.is_empty()) {
                let mut named: Vec<_> = hashes.iter().map(|hash| HEXLOWER.encode(hash)).collect();
                named.sort_unstable();
                pointed.push(Pointed {
                    schema: table.plan.copy.source_schema.clone(),
                    table: table.plan.copy.source_table.clone(),
                    column: column.source.clone(),
                    hashes: (named.len() <= MOST_POINTERS).then_some(named),
                });
            }
        }
        let is_quiet = tables.iter().map(|table| table.dirty()).collect::<Result<Vec<_>>>()?;
        if is_quiet.iter().all(Vec::is_empty) { Ok(()) } else { files(&pointed) }
    }

    /// Writes lines for chunks that have none, and splits those that have grown: each says what the copy holds there now.
    pub(super) fn establish(
        &self,
        tables: &[Arc<Table>],
        control: &mut Steady,
        lanes: &mut [Lane],
    ) -> Result<()> {
        for table in tables {
            let copy = &table.plan.copy;
            let mut found = table.found()?;
            if found.chunks.iter().all(|found| found.line.is_some() && found.parts.len() == 1) {
                continue;
            }
            let mut chunks = std::mem::take(&mut found.chunks);
            drop(found);
            let mut statements = Vec::new();
            if table.lines.is_none() {
                statements.push(table.state.forget(&copy.destination_table));
            }
            let mut split = Vec::new();
            for found in chunks.drain(..) {
                if found.line.is_some() && found.parts.len() == 1 {
                    split.push(found);
                    continue;
                }
                statements.extend(found.line.map(|line| table.state.remove(&copy.destination_table, line)));
                for part in found.parts {
                    let number = table.next.fetch_add(1, Ordering::Relaxed);
                    let blocks = match lanes.first_mut() {
                        Some(lane) if !part.dirty.is_empty() => {
                            table.read_copy(self.progress, &mut lane.both.destination, &part.chunk)?
                        }
                        _ => part.blocks.clone(),
                    };
                    statements.push(table.state.put(
                        &copy.destination_table,
                        &table.fingerprint,
                        number,
                        &part.chunk,
                        &blocks,
                    )?);
                    split.push(Found { line: Some(number), parts: vec![part] });
                }
            }
            control.ask(self.progress, |control| {
                control.execute("START TRANSACTION")?;
                for statement in &statements {
                    control.execute(statement)?;
                }
                control.execute("COMMIT").map(drop)
            })?;
            table.found()?.chunks = split;
        }
        Ok(())
    }

    pub(super) fn apply_all(&self, tables: &[Arc<Table>], lanes: &mut [Lane], removes: bool) -> Result<()> {
        run(
            lanes,
            |queue: &Queue<'_, Apply>| {
                for table in tables.iter().filter(|table| !removes || table.plan.unique) {
                    let mut jobs = Vec::new();
                    for found in &table.found()?.chunks {
                        for looked in &found.parts {
                            if removes && looked.dirty.is_empty() {
                                continue;
                            }
                            let number = found.line.unwrap_or_default();
                            let looked = looked.clone();
                            jobs.push(Apply { table: table.clone(), number, looked, removes });
                        }
                    }
                    jobs.into_iter().try_for_each(|job| queue.put(job))?;
                }
                Ok(())
            },
            |lane, job| {
                self.progress.at(&job.table.plan.copy.place());
                self.progress.touches(&job.table.plan.copy.destination_schema);
                let mut done = Counts::default();
                let counts = retry(self.progress, || {
                    self.progress.turn()?;
                    self.apply(lane, &job, &mut done)
                })
                .at(|| job.table.plan.copy.place())?;
                job.table.found()?.counts.add(counts);
                Ok(())
            },
        )
    }

    /// One try at a chunk: its rows and its line in one transaction. `done` holds what a try sent a COMMIT for, whose
    /// answer may be lost: the next finds nothing to do.
    fn apply(&self, lane: &mut Lane, job: &Apply, done: &mut Counts) -> Result<Counts> {
        let mut loader = match lane.loader.take() {
            Some(loader) => loader,
            None => open_loader(&self.plan.destination)?,
        };
        let applied = self.transaction(&mut lane.both, &mut loader, job);
        match applied {
            Ok(counts) => {
                if counts != Counts::default() {
                    *done = counts;
                }
                loader.execute("COMMIT")?;
                lane.loader = Some(loader);
                // Rows that were taken out first are counted then, and those put in their place now.
                Ok(std::mem::take(done))
            }
            Err(error) => {
                if loader.execute("ROLLBACK").is_ok() {
                    lane.loader = Some(loader);
                }
                Err(error)
            }
        }
    }

    /// Raises unless the copy holds in this range, as `loader` sees it, what production has.
    fn prove(&self, table: &Table, loader: &mut Connection, range: &Chunk, source: Digest) -> Result<()> {
        if table.digest_of_copy(self.progress, loader, range, "")? == source {
            return Ok(());
        }
        Err(Kind::Mismatch(format!(
            "{} rows were put right and are not what production has; somebody else may be writing to the copy",
            source.rows
        ))
        .into())
    }

    fn transaction(&self, both: &mut Both, loader: &mut Connection, job: &Apply) -> Result<Counts> {
        let (table, looked) = (&job.table, &job.looked);
        loader.execute("START TRANSACTION")?;
        let mut counts = Counts::default();
        for dirty in &looked.dirty {
            let (source, reader) = (&mut both.source, &mut both.destination);
            if job.removes {
                let doing = &mut Doing::Remove(loader);
                counts.add(table.reconcile(self.progress, source, reader, dirty, doing)?);
                let left = table.digest_of_copy(self.progress, loader, &dirty.range, "")?;
                *dirty.left()? = Some(left);
            } else {
                let load = table.load.clone();
                let load = load.ok_or_else(|| Kind::Internal("a sync without a load".into()))?;
                let doing = &mut Doing::Put(loader, load);
                counts.add(table.reconcile(self.progress, source, reader, dirty, doing)?);
                self.prove(table, loader, &dirty.range, dirty.source)?;
            }
        }
        if !job.removes {
            for (range, source) in &looked.around {
                self.prove(table, loader, range, *source)?;
            }
        }
        let blocks;
        let now = if job.removes {
            blocks = match looked.without_named()? {
                Some(blocks) => blocks,
                None => table.blocks_of_copy(self.progress, loader, &looked.chunk)?,
            };
            // Inserted rows come later; of those that changed this was the first half.
            counts = Counts { inserted: 0, updated: counts.updated, deleted: counts.deleted };
            &blocks
        } else {
            &looked.blocks
        };
        let name = &table.plan.copy.destination_table;
        let put = table.state.put(name, &table.fingerprint, job.number, &looked.chunk, now)?;
        loader.execute(&put)?;
        Ok(counts)
    }
}
