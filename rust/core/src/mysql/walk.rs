//! Walking the key of a table: the statements that read a chunk and find where the next one begins.
//!
//! Bounds are found by walking the index (`LIMIT 1 OFFSET n`). Where keys are numbers, leaps along the index find beginnings of
//! keys (`cut.rs`). Ranges are written as `(a > x) OR (a = x AND b >= y)`, because the range optimiser does not use row
//! constructors with an order.

use std::cmp::Ordering;

use arrow_array::cast::AsArray;
use arrow_array::types as t;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use data_encoding::HEXLOWER;
use mysql_common::constants::{ColumnFlags, ColumnType};

use super::charsets::charsets;
use super::chunk::{Bound, Chunk, KeyValue, order, shown};
use super::decode::Audience;
use super::names::{qualified, quote};
use super::query::Connection;
use super::scan::scan;
use crate::batch::calendar::{push_date, push_datetime, push_time};
use crate::batch::types::push_double;
use crate::error::{Error, Kind, Result};

/// A column of the key and how it is compared.
#[derive(Debug, Clone)]
struct KeyColumn {
    /// The expression whose order is the index's order: the column, or the number behind an ENUM, SET or BIT.
    expression: String,
    by_number: bool,
    charset: String,
    /// Its values are digits, and must stay a number when they become a literal.
    decimal: bool,
    /// Not every number between two of its values can be one: to `MySQL` no year is less than 951, which is none itself.
    sparse: bool,
}

/// Walks a table's key.
#[derive(Debug, Clone)]
pub struct Walk {
    /// `schema.table`, for messages.
    place: String,
    from: String,
    /// The table with the index as a hint only: for what is forced `MySQL` makes no estimate.
    hinted: String,
    key: Vec<KeyColumn>,
    /// The columns of the key as statements name them.
    names: Vec<String>,
    filter: Option<String>,
    /// How many rows the server expects behind the filter, if they are so few that the index that fits the filter finds them.
    few: Option<u64>,
}

/// Fewer rows than these, as the server expects them, are not cut.
const FEW_ROWS: u64 = 20_000;

/// What is walked.
#[derive(Debug, Clone, Copy)]
pub struct WalkOf<'a> {
    /// The table's schema.
    pub schema: &'a str,
    /// The table's name.
    pub table: &'a str,
    /// The columns of a unique index without NULLs, in its order; empty if there is none.
    pub key: &'a [String],
    /// The index to be forced, because a filter or a short range may tempt the optimiser to another.
    pub index: Option<&'a str>,
    /// The user's own condition.
    pub filter: Option<&'a str>,
}

impl Walk {
    /// Looks at the key columns' types. Source rows are named `s` in every statement.
    pub fn new(connection: &mut Connection, of: WalkOf<'_>) -> Result<Self> {
        let [from, hinted] = ["FORCE", "USE"].map(|hint| {
            let index =
                of.index.map_or_else(String::new, |index| format!(" {hint} INDEX ({})", quote(index)));
            format!("{} AS s{index}", qualified(of.schema, of.table))
        });
        let names: Vec<_> = of.key.iter().map(|name| format!("s.{}", quote(name))).collect();
        let mut key = Vec::new();
        if !names.is_empty() {
            let probe =
                format!("SELECT {} FROM {} AS s LIMIT 0", names.join(", "), qualified(of.schema, of.table));
            let columns = connection.open_binary(&probe)?;
            while connection.row()?.is_some() {}
            let charsets = charsets(connection, &columns)?;
            for ((name, column), charset) in names.iter().zip(&columns).zip(charsets) {
                let by_number = column.column_type() == ColumnType::MYSQL_TYPE_BIT
                    || column.flags().intersects(ColumnFlags::ENUM_FLAG | ColumnFlags::SET_FLAG);
                key.push(KeyColumn {
                    expression: if by_number { format!("({name} + 0)") } else { name.clone() },
                    by_number,
                    decimal: matches!(
                        column.column_type(),
                        ColumnType::MYSQL_TYPE_NEWDECIMAL | ColumnType::MYSQL_TYPE_DECIMAL
                    ),
                    charset,
                    sparse: column.column_type() == ColumnType::MYSQL_TYPE_YEAR,
                });
            }
        }
        let place = format!("{}.{}", of.schema, of.table);
        let filter = of.filter.map(str::to_owned);
        let mut walk = Self { place, from, hinted, key, names, filter, few: None };
        if walk.filter.is_some() {
            let plain = format!("{} AS s", qualified(of.schema, of.table));
            let rows = walk.explained(connection, &plain, &Chunk::default())?;
            walk.few = rows.filter(|&rows| rows <= FEW_ROWS);
            if walk.few.is_some() {
                walk.from.clone_from(&plain);
                walk.hinted = plain;
            }
        }
        Ok(walk)
    }

    /// What is cut: all rows, whether the filter takes them or not. A filter that costs time is evaluated by reading alone,
    /// and a chunk of which it takes nothing costs little.
    #[must_use]
    pub fn unfiltered(&self) -> Self {
        Self { filter: None, ..self.clone() }
    }

    /// Whether all of it is one chunk of about `rows` rows.
    #[must_use]
    pub fn is_one_chunk(&self, rows: u64) -> bool {
        self.few.is_some_and(|few| few <= rows)
    }

    /// The table with its index hint, for a `FROM`.
    #[must_use]
    pub fn from(&self) -> &str {
        &self.from
    }

    /// `ORDER BY` the key, or nothing where there is no key.
    #[must_use]
    pub fn order_by(&self) -> String {
        if self.names.is_empty() { String::new() } else { format!(" ORDER BY {}", self.names.join(", ")) }
    }

    /// The key of one row, of the values of `expressions`.
    pub fn bound_of(&self, columns: &[&dyn Array], row: usize) -> Result<Bound> {
        let one =
            |(column, values): (&KeyColumn, &&dyn Array)| key_value(values.slice(row, 1).as_ref(), column);
        self.key.iter().zip(columns).map(one).collect()
    }

    /// The condition that a row has one of these whole keys, for a statement in which the table has no other name.
    pub fn any_of(&self, keys: &[Bound]) -> Result<String> {
        let names: Vec<_> = self
            .names
            .iter()
            .zip(&self.key)
            .map(|(name, column)| {
                let name = name.strip_prefix("s.").unwrap_or(name);
                if column.by_number { format!("({name} + 0)") } else { name.to_owned() }
            })
            .collect();
        self.one_of(names.iter().map(String::as_str), keys)
    }

    /// An OR of equalities: for row constructors behind IN, `MariaDB` makes a temporary table.
    fn one_of<'a>(&self, names: impl Iterator<Item = &'a str> + Clone, keys: &[Bound]) -> Result<String> {
        let one = |bound: &Bound| -> Result<String> {
            let literals = self.literals(bound)?;
            let equal = names.clone().zip(&literals).map(|(name, literal)| format!("{name} = {literal}"));
            Ok(format!("({})", equal.collect::<Vec<_>>().join(" AND ")))
        };
        Ok(keys.iter().map(one).collect::<Result<Vec<_>>>()?.join(" OR "))
    }

    /// False if the key lies outside of the chunk, as far as that can be told without the server.
    #[must_use]
    pub fn may_hold(chunk: &Chunk, key: &Bound) -> bool {
        let before =
            |one: &Bound, other: &Bound| order(one, other).is_none_or(|order| order == Ordering::Less);
        let equal = |one: &Bound| order(one, key) == Some(Ordering::Equal);
        chunk.lower.as_ref().is_none_or(|lower| before(lower, key) || equal(lower))
            && chunk.upper.as_ref().is_none_or(|upper| before(key, upper))
    }

    /// How many columns the key has.
    #[must_use]
    pub fn width(&self) -> usize {
        self.key.len()
    }

    /// True if there is a key to walk along; else all of it is one chunk.
    #[must_use]
    pub fn has_key(&self) -> bool {
        !self.key.is_empty()
    }

    /// The condition of a chunk with its leading `WHERE`, the filter included; empty for the whole table.
    pub fn condition(&self, chunk: &Chunk) -> Result<String> {
        let mut parts = Vec::new();
        parts.extend(self.range(chunk)?);
        if let Some(keys) = &chunk.only {
            let names = self.key.iter().map(|column| column.expression.as_str());
            parts.push(format!("({})", self.one_of(names, keys)?));
        }
        parts.extend(self.filter.as_ref().map(|filter| format!("({filter})")));
        Ok(if parts.is_empty() { String::new() } else { format!(" WHERE {}", parts.join(" AND ")) })
    }

    /// The condition of what lies behind the rows whose key is the lower bound of `chunk`.
    fn behind(&self, chunk: &Chunk, lower: &str) -> Result<String> {
        let rest = Chunk { lower: None, ..chunk.clone() };
        let condition = self.condition(&rest)?;
        Ok(if condition.is_empty() { format!(" WHERE {lower}") } else { format!("{condition} AND {lower}") })
    }

    /// What stands after `FROM` for a chunk, with what is joined to it. The caller's condition sees the table's own `columns`
    /// alone, whatever the others call theirs; the server merges that back, so that it costs nothing.
    pub fn joined(&self, chunk: &Chunk, joins: &str, columns: &[&str]) -> Result<String> {
        let condition = self.condition(chunk)?;
        if joins.is_empty() || self.filter.is_none() {
            return Ok(format!("{}{joins}{condition}", self.from));
        }
        let mut names: Vec<_> = columns.iter().map(|name| format!("s.{}", quote(name))).collect();
        names.extend(self.names.iter().cloned());
        names.sort_unstable();
        names.dedup();
        Ok(format!("(SELECT {} FROM {}{condition}) AS s{joins}", names.join(", "), self.from))
    }

    fn range(&self, chunk: &Chunk) -> Result<Option<String>> {
        let lower = chunk.lower.as_ref().map(|bound| self.literals(bound)).transpose()?;
        let upper = chunk.upper.as_ref().map(|bound| self.literals(bound)).transpose()?;
        // What both bounds share is said once: the rest stays small enough for the range optimiser.
        let shared = match (&lower, &upper) {
            (Some(lower), Some(upper)) => {
                lower.iter().zip(upper).take_while(|(low, high)| low == high).count()
            }
            _ => 0,
        };
        let mut parts: Vec<_> = lower
            .iter()
            .flat_map(|lower| {
                (0..shared).map(|index| format!("{} = {}", self.key[index].expression, lower[index]))
            })
            .collect();
        if let Some(lower) = &lower {
            parts.push(self.beyond(lower, shared, '>', true));
        }
        if let Some(upper) = &upper {
            parts.push(self.beyond(upper, shared, '<', false));
        }
        Ok(if parts.is_empty() { None } else { Some(parts.join(" AND ")) })
    }

    fn literals(&self, bound: &Bound) -> Result<Vec<String>> {
        if bound.is_empty() || bound.len() > self.key.len() {
            return Err(Kind::Plan(format!(
                "a bound of {} values for a key of {}",
                bound.len(),
                self.key.len()
            ))
            .into());
        }
        bound.iter().map(KeyValue::literal).collect()
    }

    fn beyond(&self, bound: &[String], from: usize, side: char, inclusive: bool) -> String {
        let last = bound.len();
        if from == last {
            return if inclusive { "TRUE".into() } else { "FALSE".into() };
        }
        let terms = (from..last).map(|depth| {
            let equal =
                (from..depth).map(|index| format!("{} = {} AND ", self.key[index].expression, bound[index]));
            let side = if inclusive && depth + 1 == last { format!("{side}=") } else { side.to_string() };
            format!("({}{} {side} {})", equal.collect::<String>(), self.key[depth].expression, bound[depth])
        });
        format!("({})", terms.collect::<Vec<_>>().join(" OR "))
    }

    /// The key of the row that stands `rows` rows after the beginning of `chunk`, if there is one within it. It always
    /// lies beyond the lower bound: where more rows than `rows` have the lower bound's values, it is the next key.
    pub fn key_after(&self, connection: &mut Connection, chunk: &Chunk, rows: u64) -> Result<Option<Bound>> {
        let offset = format!("{} LIMIT 1 OFFSET {rows}", self.order_by());
        let condition = self.condition(chunk)?;
        let Some(lower) = &chunk.lower else {
            return self.one(connection, &format!("{}{condition}{offset}", self.select(&self.from)));
        };
        // The server says so itself, because only it knows the order of its collations.
        // A bound of the first columns only stands before every key that begins with it.
        let beyond = self.beyond(&self.literals(lower)?, 0, '>', lower.len() < self.key.len());
        let select = self.select_and(&self.from, &format!(", {beyond}"));
        match self.one_and(connection, &format!("{select}{condition}{offset}"))? {
            Some((next, true)) => return Ok(Some(next)),
            Some((_, false)) => {}
            None => return Ok(None),
        }
        let condition = self.behind(chunk, &beyond)?;
        let next = format!("{select}{condition}{} LIMIT 1", self.order_by());
        match self.one_and(connection, &next)? {
            Some((next, false)) => Err(self.stuck(lower, &next)),
            next => Ok(next.map(|(next, _)| next)),
        }
    }

    /// An error unless `next` lies strictly beyond `lower`, as far as that can be told without the server.
    pub fn prove_progress(&self, lower: &Bound, next: &Bound) -> Result<()> {
        let order = order(lower, next);
        if order.is_none_or(|order| order == Ordering::Less) { Ok(()) } else { Err(self.stuck(lower, next)) }
    }

    /// An error unless `upper` lies strictly beyond `lower`; the server is asked where only it knows.
    pub fn prove_order(&self, connection: &mut Connection, lower: &Bound, upper: &Bound) -> Result<()> {
        let (mut lows, highs) = (self.literals(lower)?, self.literals(upper)?);
        if let Some(order) = order(lower, upper) {
            return if order == Ordering::Less { Ok(()) } else { Err(self.stuck(lower, upper)) };
        }
        lows.truncate(highs.len());
        // Beside a column, a literal takes the column's collation. As a WHERE, MariaDB would ask it of the literal alone.
        let columns: Vec<_> = self.names.iter().take(highs.len()).map(String::as_str).collect();
        let sql = format!(
            "SELECT {} FROM (SELECT {} FROM {} WHERE FALSE UNION ALL SELECT {}) AS s",
            self.beyond(&lows, 0, '>', lows.len() < highs.len()),
            columns.join(", "),
            self.from,
            highs.join(", "),
        );
        if connection.query_value(&sql)?.as_deref() == Some("1") {
            Ok(())
        } else {
            Err(self.stuck(lower, upper))
        }
    }

    fn stuck(&self, lower: &Bound, next: &Bound) -> Error {
        let (table, lower, next) = (self.place.clone(), shown(lower), shown(next));
        Kind::Stuck { table, lower, next }.into()
    }

    /// What is to be selected of a row, so that `equals` can name it.
    #[must_use]
    pub fn expressions(&self) -> Vec<&str> {
        self.key.iter().map(|column| column.expression.as_str()).collect()
    }

    /// The condition that picks one row, of which `expressions` were read.
    pub fn equals(&self, read: &[ArrayRef], row: usize) -> Result<String> {
        let key = self.key.iter().zip(read);
        let bound = key.map(|(column, values)| key_value(values.slice(row, 1).as_ref(), column));
        let literals = self.literals(&bound.collect::<Result<_>>()?)?;
        let same =
            self.key.iter().zip(literals).map(|(column, value)| format!("{} = {value}", column.expression));
        Ok(same.collect::<Vec<_>>().join(" AND "))
    }

    fn select(&self, from: &str) -> String {
        self.select_and(from, "")
    }

    fn select_and(&self, from: &str, more: &str) -> String {
        let expressions: Vec<_> = self.key.iter().map(|column| column.expression.as_str()).collect();
        format!("SELECT {}{more} FROM {from}", expressions.join(", "))
    }

    fn one(&self, connection: &mut Connection, sql: &str) -> Result<Option<Bound>> {
        let mut found = None;
        scan(connection, sql, Audience::River, 1, &mut |batch, _| {
            found = Some(self.bound(&batch)?);
            Ok(())
        })?;
        Ok(found)
    }

    /// A key, and whether the expression that was selected behind it is true.
    fn one_and(&self, connection: &mut Connection, sql: &str) -> Result<Option<(Bound, bool)>> {
        let mut found = None;
        scan(connection, sql, Audience::River, 1, &mut |batch, _| {
            let said =
                batch.columns().last().and_then(|said| said.as_primitive_opt::<t::Int64Type>().cloned());
            let said = said.or_else(|| {
                let said = batch.columns().last()?.as_primitive_opt::<t::Int32Type>()?;
                Some(said.iter().map(|value| value.map(i64::from)).collect())
            });
            let said = said.ok_or_else(|| Kind::Internal("a comparison is no number".into()))?;
            found = Some((self.bound(&batch)?, said.value(0) == 1));
            Ok(())
        })?;
        Ok(found)
    }

    /// Whether an estimate for a range says how long its chunk is: nothing filters the rows, and the range optimiser
    /// sees the key's own columns, whose values can be halved.
    pub(super) fn is_estimable(&self) -> bool {
        self.filter.is_none() && self.key.iter().all(|column| !column.by_number && !column.sparse)
    }

    /// How many rows of the chunk the server expects, if it says.
    pub(super) fn estimate(&self, connection: &mut Connection, chunk: &Chunk) -> Result<Option<u64>> {
        self.explained(connection, &self.hinted, chunk)
    }

    fn explained(&self, connection: &mut Connection, from: &str, chunk: &Chunk) -> Result<Option<u64>> {
        let (explain, rows) =
            if connection.is_mariadb() { ("EXPLAIN", 8) } else { ("EXPLAIN FORMAT=TRADITIONAL", 9) };
        let sql = if self.key.is_empty() { format!("SELECT 1 FROM {from}") } else { self.select(from) };
        let said = connection.query(&format!("{explain} {sql}{}", self.condition(chunk)?))?;
        // A filter with tables of its own has a line for each, in the order in which they are read.
        let [said] = said.as_slice() else { return Ok(None) };
        let number = Some(said).and_then(|row| row.get(rows)).and_then(Option::as_deref);
        Ok(number.and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| text.parse().ok()))
    }

    /// The first key of a chunk, or the last.
    pub(super) fn edge(
        &self,
        connection: &mut Connection,
        chunk: &Chunk,
        last: bool,
    ) -> Result<Option<Bound>> {
        let side = if last { " DESC" } else { "" };
        let order: Vec<_> = self.names.iter().map(|name| format!("{name}{side}")).collect();
        let (select, condition) = (self.select(&self.from), self.condition(chunk)?);
        self.one(connection, &format!("{select}{condition} ORDER BY {} LIMIT 1", order.join(", ")))
    }

    fn bound(&self, batch: &RecordBatch) -> Result<Bound> {
        self.key
            .iter()
            .zip(batch.columns())
            .map(|(column, values)| key_value(values.as_ref(), column))
            .collect()
    }
}

fn key_value(values: &dyn Array, column: &KeyColumn) -> Result<KeyValue> {
    let text = |push: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    };
    let number = |push: &dyn Fn(&mut Vec<u8>)| KeyValue::Number(text(push));
    let plain = |push: &dyn Fn(&mut Vec<u8>)| KeyValue::Plain(text(push));
    Ok(match values.data_type() {
        DataType::Int8 => KeyValue::Number(values.as_primitive::<t::Int8Type>().value(0).to_string()),
        DataType::UInt8 => KeyValue::Number(values.as_primitive::<t::UInt8Type>().value(0).to_string()),
        DataType::Int16 => KeyValue::Number(values.as_primitive::<t::Int16Type>().value(0).to_string()),
        DataType::UInt16 => KeyValue::Number(values.as_primitive::<t::UInt16Type>().value(0).to_string()),
        DataType::Int32 => KeyValue::Number(values.as_primitive::<t::Int32Type>().value(0).to_string()),
        DataType::UInt32 => KeyValue::Number(values.as_primitive::<t::UInt32Type>().value(0).to_string()),
        DataType::Int64 => KeyValue::Number(values.as_primitive::<t::Int64Type>().value(0).to_string()),
        DataType::UInt64 => KeyValue::Number(values.as_primitive::<t::UInt64Type>().value(0).to_string()),
        // A FLOAT is compared as the DOUBLE it widens to.
        DataType::Float32 => {
            number(&|out| push_double(out, f64::from(values.as_primitive::<t::Float32Type>().value(0))))
        }
        DataType::Float64 => {
            number(&|out| push_double(out, values.as_primitive::<t::Float64Type>().value(0)))
        }
        DataType::Date32 => plain(&|out| push_date(out, values.as_primitive::<t::Date32Type>().value(0))),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            plain(&|out| push_datetime(out, values.as_primitive::<t::TimestampMicrosecondType>().value(0)))
        }
        DataType::Duration(_) => {
            plain(&|out| push_time(out, values.as_primitive::<t::DurationMicrosecondType>().value(0)))
        }
        DataType::LargeBinary if column.decimal => {
            number(&|out| out.extend_from_slice(values.as_binary::<i64>().value(0)))
        }
        DataType::LargeBinary => KeyValue::Bytes {
            hex: HEXLOWER.encode(values.as_binary::<i64>().value(0)),
            charset: column.charset.clone(),
        },
        other => return Err(Kind::Internal(format!("{other} in a key")).into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(columns: usize) -> Walk {
        let key = ["a", "b", "c"][..columns].iter().map(|name| KeyColumn {
            expression: format!("s.`{name}`"),
            by_number: false,
            charset: "binary".into(),
            decimal: false,
            sparse: false,
        });
        let from = "`x`.`t` AS s".to_owned();
        let place = "x.t".to_owned();
        let key = key.collect();
        Walk { place, hinted: from.clone(), from, key, names: Vec::new(), filter: None, few: None }
    }

    fn bound(values: &[i32]) -> Bound {
        values.iter().map(|value| KeyValue::Number(value.to_string())).collect()
    }

    #[test]
    fn a_range_names_the_shared_beginning_of_its_bounds_once() {
        let chunk = Chunk::between(Some(bound(&[1, 2, 3])), Some(bound(&[1, 4, 5])));
        let sql = walk(3).condition(&chunk).expect("valid");
        assert_eq!(
            sql,
            " WHERE s.`a` = 1 AND ((s.`b` > 2) OR (s.`b` = 2 AND s.`c` >= 3)) AND ((s.`b` < 4) OR (s.`b` = 4 AND s.`c` < 5))"
        );
    }

    #[test]
    fn rows_that_are_named_are_picked_by_their_whole_keys() {
        let chunk = Chunk::between(None, Some(bound(&[9]))).with(vec![bound(&[1, 2]), bound(&[3, 4])]);
        assert_eq!(
            walk(2).condition(&chunk).expect("valid"),
            " WHERE ((s.`a` < 9)) AND ((s.`a` = 1 AND s.`b` = 2) OR (s.`a` = 3 AND s.`b` = 4))"
        );
    }

    #[test]
    fn an_open_range_has_no_condition() {
        assert_eq!(walk(2).condition(&Chunk::default()).expect("valid"), "");
    }

    #[test]
    fn a_bound_that_is_not_a_value_is_refused() {
        let chunk = Chunk::between(Some(vec![KeyValue::Number("1 OR 1=1".into())]), None);
        assert!(walk(1).condition(&chunk).is_err());
        let chunk = Chunk::between(Some(vec![KeyValue::Plain("1' OR '1".into())]), None);
        assert!(walk(1).condition(&chunk).is_err());
    }

    #[test]
    fn a_bound_that_does_not_lie_beyond_the_last_is_an_error_that_names_table_and_bound() {
        let walk = walk(2);
        assert!(walk.prove_progress(&bound(&[1, 2]), &bound(&[1, 3])).is_ok());
        assert!(walk.prove_progress(&bound(&[1]), &bound(&[1, 3])).is_ok());
        for (lower, next) in [(vec![1, 2], vec![1, 2]), (vec![1, 2], vec![1, 1]), (vec![2, 1], vec![1, 9])] {
            let error = walk.prove_progress(&bound(&lower), &bound(&next)).expect_err("no progress");
            assert_eq!(error.code(), "DJM-1207");
            let text = error.to_string();
            assert!(text.contains("x.t") && text.contains(&shown(&bound(&next))), "{text}");
        }
    }
}
