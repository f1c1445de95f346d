//! Cutting a table along its key.
//!
//! A chunk is a half-open range `[lower, upper)` of the whole key in index order. Bounds are keys that are there, found by
//! walking the index (`LIMIT 1 OFFSET n`): keys are composite, sparse, text, dates. Where they are numbers, leaps along
//! the index find beginnings of keys (`leap.rs`). Ranges are written as `(a > x) OR (a = x AND b >= y)`, because the range
//! optimiser does not use row constructors with an order.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types as t;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use data_encoding::HEXLOWER;
use mysql_common::constants::{ColumnFlags, ColumnType};
use serde::{Deserialize, Serialize};

use super::names::{bytes_literal, qualified, quote};
use super::query::Connection;
use super::scan::scan;
use super::types::{Audience, push_date, push_datetime, push_double, push_time};
use crate::error::{Kind, Result};

/// A value of a key column, in a form that outlives the connection it was read on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyValue {
    /// A number or the index of an ENUM.
    Number(String),
    /// A date, time or decimal: digits and their marks.
    Plain(String),
    /// The bytes of a string in hexadecimal, and its character set.
    Bytes { hex: String, charset: String },
}

/// Values of the key's columns, in index order: of all of them, or of the first ones.
pub type Bound = Vec<KeyValue>;

/// A range of a table: from `lower` on, up to but without `upper`; a missing bound is the table's end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    pub lower: Option<Bound>,
    pub upper: Option<Bound>,
}

impl KeyValue {
    /// The literal. What came out of a journal is not trusted to be what went in.
    fn literal(&self) -> Result<String> {
        let bad = |text: &str| {
            Kind::Plan(format!("`{text}` is no bound of a chunk; the journal was changed")).into()
        };
        match self {
            Self::Number(text)
                if text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e'))
                    && text.bytes().any(|byte| byte.is_ascii_digit()) =>
            {
                Ok(text.clone())
            }
            Self::Plain(text)
                if text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'.' | b':' | b' ')) =>
            {
                Ok(format!("'{text}'"))
            }
            Self::Bytes { hex, charset } if charset.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                let bytes = HEXLOWER.decode(hex.as_bytes()).map_err(|_| bad(hex))?;
                Ok(bytes_literal(&bytes, charset))
            }
            Self::Number(text) | Self::Plain(text) => Err(bad(text)),
            Self::Bytes { charset, .. } => Err(bad(charset)),
        }
    }
}

/// A column of the key and how it is compared.
#[derive(Debug, Clone)]
struct KeyColumn {
    /// The expression whose order is the index's order: the column, or the number behind an ENUM, SET or BIT.
    expression: String,
    by_number: bool,
    charset: String,
    /// Its values are digits, and must stay a number when they become a literal.
    decimal: bool,
}

/// Walks a table's key.
#[derive(Debug, Clone)]
pub struct Walk {
    from: String,
    /// The table with the index as a hint only: for what is forced `MySQL` makes no estimate.
    hinted: String,
    key: Vec<KeyColumn>,
    /// The columns of the key as statements name them.
    names: Vec<String>,
    filter: Option<String>,
}

/// What is walked.
#[derive(Debug, Clone, Copy)]
pub struct WalkOf<'a> {
    pub schema: &'a str,
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
            let charsets = charsets(connection)?;
            for (name, column) in names.iter().zip(&columns) {
                let by_number = column.column_type() == ColumnType::MYSQL_TYPE_BIT
                    || column.flags().intersects(ColumnFlags::ENUM_FLAG | ColumnFlags::SET_FLAG);
                key.push(KeyColumn {
                    expression: if by_number { format!("({name} + 0)") } else { name.clone() },
                    by_number,
                    decimal: matches!(
                        column.column_type(),
                        ColumnType::MYSQL_TYPE_NEWDECIMAL | ColumnType::MYSQL_TYPE_DECIMAL
                    ),
                    charset: charsets
                        .get(&column.character_set())
                        .cloned()
                        .unwrap_or_else(|| "binary".into()),
                });
            }
        }
        Ok(Self { from, hinted, key, names, filter: of.filter.map(str::to_owned) })
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

    #[must_use]
    pub fn has_key(&self) -> bool {
        !self.key.is_empty()
    }

    /// The condition of a chunk with its leading `WHERE`, the filter included; empty for the whole table.
    pub fn condition(&self, chunk: &Chunk) -> Result<String> {
        let mut parts = Vec::new();
        parts.extend(self.range(chunk)?);
        parts.extend(self.filter.as_ref().map(|filter| format!("({filter})")));
        Ok(if parts.is_empty() { String::new() } else { format!(" WHERE {}", parts.join(" AND ")) })
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

    /// The key of the row that stands `rows` rows after the beginning of `chunk`, if there is one within it.
    pub fn key_after(&self, connection: &mut Connection, chunk: &Chunk, rows: u64) -> Result<Option<Bound>> {
        let sql = format!(
            "{}{}{} LIMIT 1 OFFSET {rows}",
            self.select(&self.from),
            self.condition(chunk)?,
            self.order_by()
        );
        self.one(connection, &sql)
    }

    fn select(&self, from: &str) -> String {
        let expressions: Vec<_> = self.key.iter().map(|column| column.expression.as_str()).collect();
        format!("SELECT {} FROM {from}", expressions.join(", "))
    }

    fn one(&self, connection: &mut Connection, sql: &str) -> Result<Option<Bound>> {
        let mut found = None;
        scan(connection, sql, Audience::River, 1, &mut |batch, _| {
            found = Some(self.bound(&batch)?);
            Ok(())
        })?;
        Ok(found)
    }

    /// Whether an estimate for a range says how long its chunk is: nothing filters the rows, and the range optimiser
    /// sees the key's own columns.
    pub(super) fn is_estimable(&self) -> bool {
        self.filter.is_none() && self.key.iter().all(|column| !column.by_number)
    }

    /// How many rows of the chunk the server expects, if it says.
    pub(super) fn estimate(&self, connection: &mut Connection, chunk: &Chunk) -> Result<Option<u64>> {
        let (explain, rows) =
            if connection.is_mariadb() { ("EXPLAIN", 8) } else { ("EXPLAIN FORMAT=TRADITIONAL", 9) };
        let sql = format!("{explain} {}{}", self.select(&self.hinted), self.condition(chunk)?);
        let said = connection.query(&sql)?;
        let number = said.first().and_then(|row| row.get(rows)).and_then(Option::as_deref);
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

/// The character set behind each collation number of this server.
pub(super) fn charsets(connection: &mut Connection) -> Result<HashMap<u16, String>> {
    let sql = if connection.is_mariadb() {
        "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY WHERE ID IS NOT NULL"
    } else {
        "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS"
    };
    let sql = if connection.is_mariadb() && connection.query(sql).is_err() {
        "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS"
    } else {
        sql
    };
    let mut found = HashMap::new();
    for row in connection.query(sql)? {
        if let [Some(id), Some(name)] = row.as_slice()
            && let Ok(id) = String::from_utf8_lossy(id).parse()
        {
            found.insert(id, String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(found)
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
        });
        let from = "`x`.`t` AS s".to_owned();
        Walk { hinted: from.clone(), from, key: key.collect(), names: Vec::new(), filter: None }
    }

    fn bound(values: &[i32]) -> Bound {
        values.iter().map(|value| KeyValue::Number(value.to_string())).collect()
    }

    #[test]
    fn a_range_names_the_shared_beginning_of_its_bounds_once() {
        let chunk = Chunk { lower: Some(bound(&[1, 2, 3])), upper: Some(bound(&[1, 4, 5])) };
        let sql = walk(3).condition(&chunk).expect("valid");
        assert_eq!(
            sql,
            " WHERE s.`a` = 1 AND ((s.`b` > 2) OR (s.`b` = 2 AND s.`c` >= 3)) AND ((s.`b` < 4) OR (s.`b` = 4 AND s.`c` < 5))"
        );
    }

    #[test]
    fn an_open_range_has_no_condition() {
        assert_eq!(walk(2).condition(&Chunk::default()).expect("valid"), "");
    }

    #[test]
    fn a_bound_that_is_not_a_value_is_refused() {
        let chunk = Chunk { lower: Some(vec![KeyValue::Number("1 OR 1=1".into())]), upper: None };
        assert!(walk(1).condition(&chunk).is_err());
        let chunk = Chunk { lower: Some(vec![KeyValue::Plain("1' OR '1".into())]), upper: None };
        assert!(walk(1).condition(&chunk).is_err());
    }
}
