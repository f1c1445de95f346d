//! Rows of the copy that production has deleted, and that rows refer to which stay: taking them out would leave orphans.
//!
//! A load checks no keys. What stays are rows of tables that only the copy has, and of those that are left alone because
//! somebody wrote to them; then the table that they refer to is left alone, too, and so may be the one that it refers to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::plan::{OnConflict, Referring};
use super::rows::Doing;
use super::{Lane, Run, Table};
use crate::error::{Kind, Result};
use crate::mysql::chunk::Bound;
use crate::mysql::names::{qualified, quote};
use crate::verbs::compare::Discrepancy;

/// Keys that are asked about in one statement.
const KEYS: usize = 200;

impl Run<'_> {
    pub(super) fn is_free(&self, table: &Table) -> Result<bool> {
        let found = table.found()?;
        let is_ours = found.conflicts.is_empty() || self.plan.on_conflict == OnConflict::Production;
        Ok(is_ours && found.referred.is_empty())
    }

    /// The tables that may be written to.
    pub(super) fn ready(&self, tables: &[Arc<Table>], lanes: &mut [Lane]) -> Result<Vec<Arc<Table>>> {
        loop {
            let mut ready = Vec::new();
            for table in tables {
                if self.is_free(table)? {
                    ready.push(table.clone());
                }
            }
            let free: BTreeSet<_> = ready.iter().map(|table| table.plan.copy.destination()).collect();
            let mut is_settled = true;
            for table in &ready {
                let stays = |key: &&Referring| !free.contains(&(key.schema.as_str(), key.table.as_str()));
                let staying: Vec<_> = table.plan.referring.iter().filter(stays).collect();
                if !staying.is_empty() && !table.dirty()?.is_empty() {
                    is_settled &= !self.is_referred(table, &staying, lanes)?;
                }
            }
            if is_settled {
                return Ok(ready);
            }
        }
    }

    fn is_referred(&self, table: &Arc<Table>, staying: &[&Referring], lanes: &mut [Lane]) -> Result<bool> {
        let gone: Mutex<Vec<Bound>> = Mutex::default();
        self.each_dirty(std::slice::from_ref(table), lanes, |lane, table, dirty| {
            let mut some = Vec::new();
            let both = &mut lane.both;
            let (source, reader) = (&mut both.source, &mut both.destination);
            table.reconcile(self.progress, source, reader, dirty, &mut Doing::Gone(&mut some))?;
            gone.lock().map_err(|_| Kind::Internal("a lane panicked".into()))?.append(&mut some);
            Ok(())
        })?;
        let gone = gone.into_inner().map_err(|_| Kind::Internal("a lane panicked".into()))?;
        let Some(lane) = lanes.first_mut() else { return Ok(false) };
        let mut is_referred = false;
        for key in staying {
            for some in gone.chunks(KEYS) {
                let sql = table.referred(key, some)?;
                let rows = lane.both.destination.ask(self.progress, |reader| reader.query(&sql))?;
                let names = &table.plan.compare.key;
                let mut found = table.found()?;
                for row in rows {
                    is_referred = true;
                    found.referred.insert(format!("{}.{}", key.schema, key.table));
                    if found.conflicts.len() >= self.plan.max_conflicts {
                        found.truncated = true;
                        break;
                    }
                    let text = |value: Option<Vec<u8>>| {
                        String::from_utf8_lossy(&value.unwrap_or_default()).into_owned()
                    };
                    let key: BTreeMap<_, _> = names.iter().cloned().zip(row.into_iter().map(text)).collect();
                    if !found.conflicts.iter().any(|known| known.key == key) {
                        found.conflicts.push(Discrepancy::extra(key));
                    }
                }
            }
        }
        Ok(is_referred)
    }
}

impl Table {
    /// Asks which of the rows with these keys a row refers to by that key.
    fn referred(&self, key: &Referring, gone: &[Bound]) -> Result<String> {
        let here = qualified(&self.plan.copy.destination_schema, &self.plan.copy.destination_table);
        let pairs = key.columns.iter().zip(&key.references);
        let equal: Vec<_> =
            pairs.map(|(mine, theirs)| format!("r.{} = s.{}", quote(mine), quote(theirs))).collect();
        Ok(format!(
            "SELECT {} FROM {here} AS s WHERE ({}) AND EXISTS (SELECT 1 FROM {} AS r WHERE {})",
            self.keyed.expressions().join(", "),
            self.keyed.any_of(gone)?,
            qualified(&key.schema, &key.table),
            equal.join(" AND "),
        ))
    }
}
