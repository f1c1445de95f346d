//! What the packed values of a table are, by the first bytes of each: nothing is inflated but their headers.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use serde::{Deserialize, Serialize};

use super::copy::default_chunk_bytes;
use crate::convert::blob::{self, Fault};
use crate::convert::npy;
use crate::error::{At, Kind, Result};
use crate::mysql::Server;
use crate::mysql::decode::Audience;
use crate::mysql::names::quote;
use crate::mysql::scan::scan;
use crate::mysql::session::open_reader;
use crate::mysql::walk::{Walk, WalkOf};
use crate::river::cutter::{Cutter, rows_of};
use crate::river::spare::spare;
use crate::river::steady::Steady;
use crate::run::progress::Progress;
use crate::run::throttle::Limits;

const BATCH_BYTES: usize = 4 << 20;
/// Shapes that are told apart, and those that are told.
const MOST_SHAPES: usize = 1000;
const TOLD_SHAPES: usize = 20;

/// Columns whose values are told by their first bytes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadsPlan {
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
    /// Columns of blobs.
    pub columns: Vec<String>,
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

/// Of each column, in the plan's order.
#[derive(Debug, Clone, Serialize)]
pub struct HeadsSummary {
    /// What each column has.
    pub columns: Vec<Told>,
}

/// What the values of a column are.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Told {
    /// Values, without NULLs.
    pub rows: u64,
    /// How many NULLs.
    pub nulls: u64,
    /// What the values take.
    pub bytes: u64,
    /// What the arrays among them take as `.npy` files.
    pub npy_bytes: u64,
    /// What the values are, by number.
    pub kinds: BTreeMap<String, u64>,
    /// Of arrays.
    pub dtypes: BTreeMap<String, u64>,
    /// The commonest first.
    pub shapes: Vec<Shape>,
    /// Arrays of other shapes than those.
    pub other_shapes: u64,
}

/// A type and shape that arrays have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Shape {
    /// The type, in the words of numpy.
    pub dtype: &'static str,
    /// The length of each axis.
    pub shape: Vec<u64>,
    /// How many have it.
    pub rows: u64,
}

/// Counts the values of a column by what their heads say.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    told: Told,
    shapes: BTreeMap<(&'static str, Vec<u64>), u64>,
}

impl Tally {
    /// One value of `length` bytes, of which `head` holds the first `HEAD` or all; NULL has neither.
    pub fn add(&mut self, value: Option<(&[u8], u64)>) {
        let told = &mut self.told;
        let Some((head, length)) = value else {
            told.nulls += 1;
            return;
        };
        told.rows += 1;
        told.bytes += length;
        let kind = match blob::header(head, length) {
            Ok(header) => {
                if let Some(dtype) = header.dtype.filter(|_| header.kind == blob::Kind::Array) {
                    told.npy_bytes += npy::size(dtype, &header.shape);
                    *told.dtypes.entry(dtype.name.to_owned()).or_default() += 1;
                    self.shape(dtype.name, header.shape, 1);
                }
                header.kind
            }
            Err(Fault::Bad(kind, _)) => kind,
            Err(Fault::Io(_)) => blob::Kind::Damaged,
        };
        *self.told.kinds.entry(kind.word().to_owned()).or_default() += 1;
    }

    fn shape(&mut self, dtype: &'static str, shape: Vec<u64>, rows: u64) {
        let room = self.shapes.len() < MOST_SHAPES;
        let known = (dtype, shape);
        match self.shapes.get_mut(&known) {
            Some(count) => *count += rows,
            None if room => drop(self.shapes.insert(known, rows)),
            None => self.told.other_shapes += rows,
        }
    }

    fn merge(&mut self, other: Self) {
        let (all, told) = (&mut self.told, other.told);
        all.rows += told.rows;
        all.nulls += told.nulls;
        all.bytes += told.bytes;
        all.npy_bytes += told.npy_bytes;
        all.other_shapes += told.other_shapes;
        for (into, from) in [(&mut all.kinds, told.kinds), (&mut all.dtypes, told.dtypes)] {
            for (name, count) in from {
                *into.entry(name).or_default() += count;
            }
        }
        for ((dtype, shape), rows) in other.shapes {
            self.shape(dtype, shape, rows);
        }
    }

    /// What was counted.
    #[must_use]
    pub fn told(self) -> Told {
        let mut told = self.told;
        told.shapes =
            self.shapes.into_iter().map(|((dtype, shape), rows)| Shape { dtype, shape, rows }).collect();
        told.shapes.sort_by(|one, other| other.rows.cmp(&one.rows).then_with(|| one.cmp(other)));
        told.other_shapes += told.shapes.iter().skip(TOLD_SHAPES).map(|shape| shape.rows).sum::<u64>();
        told.shapes.truncate(TOLD_SHAPES);
        told
    }
}

/// Looks at the head of every value of some columns, chunk by chunk.
pub fn heads(plan: &HeadsPlan, progress: &Progress) -> Result<HeadsSummary> {
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
        filter: None,
    };
    let walk = walker.ask(progress, |walker| Walk::new(walker, of)).at(place)?;
    let row_bytes = plan.data_bytes / plan.rows.max(1);
    let most = rows_of(plan.throttle.piece(plan.chunk_bytes), row_bytes);
    let list: Vec<_> = plan
        .columns
        .iter()
        .map(|name| format!("s.{}", quote(name)))
        .map(|name| format!("LEFT({name}, {}), CAST(LENGTH({name}) AS CHAR)", blob::HEAD))
        .collect();
    let list = list.join(", ");
    let mut tallies = vec![Tally::default(); plan.columns.len()];
    let mut cutter = Cutter::new(&walk);
    loop {
        progress.turn()?;
        let Some(chunk) = walker.ask(progress, |walker| cutter.next(walker, most)).at(place)? else {
            let columns = tallies.into_iter().map(Tally::told).collect();
            return Ok(HeadsSummary { columns });
        };
        let sql = format!("SELECT {list} FROM {}{}", walk.from(), walk.condition(&chunk)?);
        let (seen, rows) = walker
            .ask(progress, |walker| {
                let mut seen = vec![Tally::default(); plan.columns.len()];
                let mut rows = 0;
                scan(walker, &sql, Audience::River, BATCH_BYTES, &mut |batch, read| {
                    progress.read(read)?;
                    progress.check()?;
                    rows += batch.num_rows() as u64;
                    count(&mut seen, &batch)
                })?;
                Ok((seen, rows))
            })
            .at(place)?;
        progress.add(rows, 0);
        for (tally, seen) in tallies.iter_mut().zip(seen) {
            tally.merge(seen);
        }
    }
}

fn count(tallies: &mut [Tally], batch: &RecordBatch) -> Result<()> {
    for (tally, columns) in tallies.iter_mut().zip(batch.columns().chunks(2)) {
        let mut arrays = columns.iter().map(|column| column.as_binary_opt::<i64>());
        let (Some(Some(heads)), Some(Some(lengths))) = (arrays.next(), arrays.next()) else {
            return Err(Kind::Internal("heads that are no bytes".into()).into());
        };
        for row in 0..batch.num_rows() {
            if heads.is_null(row) || lengths.is_null(row) {
                tally.add(None);
                continue;
            }
            let length = std::str::from_utf8(lengths.value(row)).ok().and_then(|text| text.parse().ok());
            let length = length.ok_or_else(|| Kind::Protocol("a length is no number".into()))?;
            tally.add(Some((heads.value(row), length)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(values: u64) -> Vec<u8> {
        let mut blob = b"mYm\0A\x01\0\0\0\0\0\0\0".to_vec();
        blob.extend(values.to_le_bytes());
        blob.extend([6, 0, 0, 0, 0, 0, 0, 0]);
        blob.extend(vec![0; 8 * values as usize]);
        blob
    }

    #[test]
    fn values_are_counted_by_kind_type_and_shape_and_rare_shapes_together() {
        let mut tally = Tally::default();
        for many in 0..1200_u64 {
            let blob = packed(many);
            tally.add(Some((&blob[..blob.len().min(blob::HEAD)], blob.len() as u64)));
        }
        let mut other = Tally::default();
        for _ in 0..3 {
            other.add(Some((&packed(7), 85)));
        }
        other.add(None);
        other.add(Some((b"[0 1]", 5)));
        other.add(Some((&packed(2), 36)));
        tally.merge(other);
        let told = tally.told();
        assert_eq!((told.rows, told.nulls), (1205, 1));
        let kinds: Vec<_> = told.kinds.iter().map(|(kind, rows)| (kind.as_str(), *rows)).collect();
        assert_eq!(kinds, [("array", 1203), ("damaged", 1), ("text", 1)]);
        assert_eq!(told.shapes[0], Shape { dtype: "float64", shape: vec![7], rows: 4 });
        assert_eq!(told.shapes.len(), TOLD_SHAPES);
        let counted: u64 = told.shapes.iter().map(|shape| shape.rows).sum();
        assert_eq!(counted + told.other_shapes, 1203);
    }
}
