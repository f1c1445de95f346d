//! Descriptions of tables and events with rows: which keys they name, and which cascades they set off.

use super::{Collector, Column, Deed, MAPS, Unknown, damaged, inflated, number, packed_length, take, weight};
use crate::error::{At, Result};

/// The number of a table that is none: an event that only ends a statement.
const NO_TABLE: u64 = 0xff_ffff;
const ENDS_STATEMENT: u64 = 1;

/// A cell of an image of a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell<'a> {
    /// The image does not have it.
    Absent,
    Null,
    Value(&'a [u8]),
}

fn is_set(bits: &[u8], index: usize) -> bool {
    bits[index / 8] & 1 << (index % 8) != 0
}

impl Collector {
    fn table_id(&self, kind: u8, body: &mut &[u8]) -> Result<u64> {
        if self.post_header(kind) == 6 { number::<4>(body) } else { number::<6>(body) }
    }

    pub(super) fn map(&mut self, body: &[u8]) -> Result<()> {
        let mut rest = body;
        let id = self.table_id(super::kind::TABLE_MAP, &mut rest)?;
        number::<2>(&mut rest)?;
        let mut name = || {
            let length = packed_length(&mut rest)?;
            let name = String::from_utf8_lossy(take(&mut rest, length)?).into_owned();
            take(&mut rest, 1)?;
            Ok::<_, crate::error::Error>(name)
        };
        let name = (name()?, name()?);
        self.is_own |= self.own == Some(name.1.as_str());
        if self.maps.len() >= MAPS {
            return Err(damaged(format!("{MAPS} descriptions of tables in one statement")));
        }
        let Some(&index) = self.by_name.get(&self.habits.name(&name.0, &name.1)) else {
            self.maps.insert(id, None);
            return Ok(());
        };
        let columns = self.columns(index, rest).at(|| format!("{}.{}", name.0, name.1))?;
        self.maps.insert(id, Some((index, columns)));
        Ok(())
    }

    /// The described columns; none, and the table is given up, where they are not those that are declared.
    fn columns(&mut self, index: usize, mut rest: &[u8]) -> Result<Vec<Column>> {
        let table = &self.tables[index];
        if table.unknown.is_some() {
            return Ok(Vec::new());
        }
        let declared = &table.wanted.columns;
        let count = packed_length(&mut rest)?;
        if count != declared.len() {
            let detail = format!("{count} columns in the log, {} now", declared.len());
            self.forget(index, Unknown::new("definition", detail));
            return Ok(Vec::new());
        }
        let codes = take(&mut rest, count)?;
        let length = packed_length(&mut rest)?;
        let mut metadata = take(&mut rest, length)?;
        let mut columns = Vec::with_capacity(count);
        for (&code, declared) in codes.iter().zip(declared) {
            let Some(column) = Column::read(code, &mut metadata, declared)? else {
                let detail = format!("column `{}` has the type {code}, which is not known", declared.name);
                self.forget(index, Unknown::new("type", detail));
                return Ok(Vec::new());
            };
            columns.push(column);
        }
        let unfit = table.key.iter().find(|&&place| !columns[place].fits(&declared[place]));
        if let Some(&place) = unfit {
            let declared = &declared[place];
            let detail = format!("`{}` ({}) is logged as another type", declared.name, declared.column_type);
            self.forget(index, Unknown::new("type", detail));
            return Ok(Vec::new());
        }
        let key: Vec<_> = table.key.iter().map(|&place| columns[place].clone()).collect();
        if table.described.as_ref().is_some_and(|described| *described != key) {
            self.forget(index, Unknown::new("definition", "its key is logged in two ways"));
            return Ok(Vec::new());
        }
        self.tables[index].described = Some(key);
        Ok(columns)
    }

    pub(super) fn rows(&mut self, kind: u8, body: &[u8], deed: Deed, compressed: bool) -> Result<()> {
        let mut rest = body;
        let id = self.table_id(kind, &mut rest)?;
        let flags = number::<2>(&mut rest)?;
        if self.post_header(kind) >= 10 {
            let extra = number::<2>(&mut rest)?;
            let extra = extra.checked_sub(2).ok_or_else(|| damaged("a header of rows that is too short"))?;
            take(&mut rest, extra as usize)?;
        }
        let described = match self.maps.remove(&id) {
            Some(described) => described,
            None if id == NO_TABLE => None,
            None => return Err(damaged(format!("rows of the table {id}, which was not described"))),
        };
        if let Some((index, columns)) = &described
            && self.unknown.is_none()
            && self.tables[*index].unknown.is_none()
        {
            self.tables[*index].events += 1;
            let place = || {
                let wanted = &self.tables[*index].wanted;
                format!("{}.{}", wanted.schema, wanted.table)
            };
            let place = place();
            self.rows_of(*index, columns, rest, deed, compressed).at(|| place)?;
        }
        if flags & ENDS_STATEMENT == 0 {
            self.maps.insert(id, described);
        } else {
            self.maps.clear();
        }
        Ok(())
    }

    fn rows_of(
        &mut self,
        index: usize,
        columns: &[Column],
        rest: &[u8],
        deed: Deed,
        compressed: bool,
    ) -> Result<()> {
        let mut rest = rest;
        let unpacked;
        let count = packed_length(&mut rest)?;
        if count != columns.len() {
            return Err(damaged(format!("rows of {count} columns in a table of {}", columns.len())));
        }
        let updates = matches!(deed, Deed::Update | Deed::PartialUpdate);
        let before = take(&mut rest, count.div_ceil(8))?;
        let after = if updates { take(&mut rest, count.div_ceil(8))? } else { before };
        if compressed {
            unpacked = inflated(rest)?;
            rest = &unpacked;
        }
        let watched = self.tables[index].watched.clone();
        let key = self.tables[index].key.len();
        let (mut old, mut new) = (vec![Cell::Absent; watched.len()], vec![Cell::Absent; watched.len()]);
        if deed == Deed::Delete {
            self.set_off(index, |cascade| cascade.on_delete);
        }
        while !rest.is_empty() {
            image(columns, before, &watched, &mut rest, false, &mut old)?;
            self.keep(index, &old[..key], &old[..key]);
            if updates {
                image(columns, after, &watched, &mut rest, deed == Deed::PartialUpdate, &mut new)?;
                // What the second image does not have is as it was.
                self.keep(index, &new[..key], &old[..key]);
                self.referred(index, &watched, &old, &new);
            }
            if self.tables[index].unknown.is_some() {
                break;
            }
        }
        Ok(())
    }

    fn set_off(&mut self, parent: usize, by: impl Fn(&super::Cascade) -> bool) {
        let hit = |(_, cascade): &(usize, &super::Cascade)| cascade.parent == parent && by(cascade);
        self.set_off.extend(self.cascades.iter().enumerate().filter(hit).map(|(index, _)| index));
    }

    /// Notes the cascades whose columns a row changed.
    fn referred(&mut self, index: usize, watched: &[usize], old: &[Cell<'_>], new: &[Cell<'_>]) {
        let wanted = &self.tables[index].wanted;
        let changed: Vec<_> = (0..watched.len())
            .filter(|&place| new[place] != Cell::Absent && new[place] != old[place])
            .map(|place| wanted.columns[watched[place]].name.clone())
            .collect();
        if !changed.is_empty() {
            self.set_off(index, |cascade| {
                cascade.on_update && cascade.columns.iter().any(|column| changed.contains(column))
            });
        }
    }

    /// Keeps a key, made of `cells` and, where they are absent, of those in `else_`.
    fn keep(&mut self, index: usize, cells: &[Cell<'_>], else_: &[Cell<'_>]) {
        let mut key = Vec::new();
        for (cell, other) in cells.iter().zip(else_) {
            match if *cell == Cell::Absent { other } else { cell } {
                Cell::Value(bytes) => key.extend_from_slice(bytes),
                Cell::Null | Cell::Absent => {
                    self.forget(index, Unknown::new("image", "rows are logged without their whole key"));
                    return;
                }
            }
        }
        let table = &mut self.tables[index];
        if table.unknown.is_some() || table.keys.contains(key.as_slice()) {
            return;
        }
        if table.keys.len() >= self.budget.keys || self.bytes + weight(&key) > self.budget.bytes {
            let detail = format!("more than {} of its rows changed", table.keys.len());
            self.forget(index, Unknown::new("too_many", detail));
            return;
        }
        self.bytes += weight(&key);
        let key = key.into_boxed_slice();
        if self.own.is_some() {
            self.fresh.push((index, key.clone()));
        }
        table.keys.insert(key);
    }
}

/// Reads one image of a row and keeps the cells that are watched.
fn image<'a>(
    columns: &[Column],
    present: &[u8],
    watched: &[usize],
    rest: &mut &'a [u8],
    partial: bool,
    cells: &mut [Cell<'a>],
) -> Result<()> {
    if partial && super::packed(rest)? & 1 != 0 {
        // A JSON column may hold changes instead of a value, as long as it says either way.
        let json = columns.iter().filter(|column| column.is_json()).count();
        take(rest, json.div_ceil(8))?;
    }
    cells.fill(Cell::Absent);
    let held = (0..columns.len()).filter(|&index| is_set(present, index)).count();
    if held == 0 {
        return Err(damaged("a row without columns"));
    }
    let nulls = take(rest, held.div_ceil(8))?;
    let mut nth = 0;
    for (index, column) in columns.iter().enumerate() {
        if !is_set(present, index) {
            continue;
        }
        let cell = if is_set(nulls, nth) {
            Cell::Null
        } else {
            let size = column.size(rest)?;
            Cell::Value(take(rest, size)?)
        };
        nth += 1;
        if let Some(place) = watched.iter().position(|&watched| watched == index) {
            cells[place] = cell;
        }
    }
    Ok(())
}
