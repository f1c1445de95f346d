//! Cutting a table by what the server estimates, where its key allows that.
//!
//! Counting rows to the next bound costs a server most of what reading them does (of 2,000,000 narrow rows: 0.43 s of its
//! processor time, reading them 0.56 s). Its estimate for a range (EXPLAIN) reads ten pages. So a range that seems too
//! long is cut where the first column in which its ends differ has the middle of their values. Bounds are keys that are
//! there either way, and a wrong estimate makes a chunk long or short, never wrong.

use super::chunk::{Bound, Chunk, KeyValue};
use super::query::Connection;
use super::walk::Walk;
use crate::error::Result;

/// An estimate is never above half of what the table is thought to have: with fewer chunks it says nothing.
const FEWEST_CHUNKS: u64 = 4;
/// A table of so many rows is rather cut into more chunks than it needs than counted.
const MANY_ROWS: u64 = 100_000;
/// A range is halved that often before its rows are counted after all.
const MOST_CUTS: usize = 64;

/// The bounds of a table, one after the other.
#[derive(Debug, Default)]
pub struct Cuts {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    New,
    /// Rows are counted.
    Counting,
    /// `rows` are estimated in the whole table, `last` is its last key. `ahead` are bounds that were found on the way to
    /// nearer ones, the nearest at the end, each with the last key before it.
    Leaping { rows: u64, last: Bound, ahead: Vec<(Bound, Bound)> },
}

impl Cuts {
    /// Where a chunk of about `rows` rows that begins `rest` ends; nothing if all of `rest` is one.
    pub fn next(
        &mut self,
        walk: &Walk,
        connection: &mut Connection,
        rest: &Chunk,
        rows: u64,
    ) -> Result<Option<Bound>> {
        if !walk.has_key() {
            return Ok(None);
        }
        if matches!(self.state, State::New) {
            self.state = begin(walk, connection, rest, rows)?;
        }
        if let State::Leaping { rows: all, last, ahead } = &mut self.state {
            if let Some(rows) = leapable(*all, rows) {
                return leap(walk, connection, rest, rows, last, ahead);
            }
            ahead.clear();
        }
        walk.key_after(connection, rest, rows)
    }
}

/// How many rows a chunk has by leaps, of a table of `all` where `wanted` are wanted; nothing if they are to be counted.
fn leapable(all: u64, wanted: u64) -> Option<u64> {
    let rows = if all < MANY_ROWS { wanted } else { wanted.min(all / (FEWEST_CHUNKS + 1)) };
    (all > FEWEST_CHUNKS * rows).then_some(rows)
}

fn begin(walk: &Walk, connection: &mut Connection, rest: &Chunk, wanted: u64) -> Result<State> {
    let all = Chunk::default();
    if rest.upper.is_some() || !walk.is_estimable() {
        return Ok(State::Counting);
    }
    let Some(rows) = walk.estimate(connection, &all)? else { return Ok(State::Counting) };
    if leapable(rows, wanted).is_none() {
        return Ok(State::Counting);
    }
    let (first, last) = (walk.edge(connection, &all, false)?, walk.edge(connection, &all, true)?);
    let Some((first, last)) = first.zip(last) else { return Ok(State::Counting) };
    // A server that says little of a range with everything in it makes no estimates.
    let whole = walk.estimate(connection, &Chunk::between(Some(first), None))?;
    Ok(if whole.is_some_and(|whole| whole >= rows / 3) {
        State::Leaping { rows, last, ahead: Vec::new() }
    } else {
        State::Counting
    })
}

fn leap(
    walk: &Walk,
    connection: &mut Connection,
    rest: &Chunk,
    rows: u64,
    last: &Bound,
    ahead: &mut Vec<(Bound, Bound)>,
) -> Result<Option<Bound>> {
    let Some(first) = walk.edge(connection, rest, false)? else { return Ok(None) };
    while ahead.last().is_some_and(|(upper, _)| Some(upper) == rest.lower.as_ref()) {
        ahead.pop();
    }
    let mut range = rest.clone();
    for _ in 0..MOST_CUTS {
        range.upper = ahead.last().map(|(upper, _)| upper.clone());
        let Some(estimate) = walk.estimate(connection, &range)? else { break };
        // InnoDB doubles what it has not counted, and half of what is longer is a chunk of its own.
        if estimate <= 2 * rows {
            return Ok(range.upper);
        }
        let last = ahead.last().map_or(last, |(_, last)| last);
        let Some(upper) = middle(&first, last) else { break };
        let below = Chunk::between(Some(first.clone()), Some(upper.clone()));
        let Some(before) = walk.edge(connection, &below, true)? else { break };
        ahead.push((upper, before));
    }
    Ok(walk.key_after(connection, &range, rows)?.or(range.upper))
}

/// The beginning of a key half-way between two keys: above the lower one, not above the upper one.
fn middle(lower: &Bound, upper: &Bound) -> Option<Bound> {
    let depth = lower.iter().zip(upper).take_while(|(low, high)| low == high).count();
    let value = match (lower.get(depth)?, upper.get(depth)?) {
        (KeyValue::Number(low), KeyValue::Number(high)) => {
            let (low, high) = (low.parse::<i128>().ok()?, high.parse::<i128>().ok()?);
            (low < high).then(|| KeyValue::Number((low + (high - low + 1) / 2).to_string()))?
        }
        (KeyValue::Bytes { hex: low, charset }, KeyValue::Bytes { hex: high, .. }) if charset == "binary" => {
            let (low, high) = (leading(low)?, leading(high)?);
            let half = low + high.checked_sub(low)?.div_ceil(2);
            (low < half).then(|| KeyValue::Bytes { hex: format!("{half:016x}"), charset: charset.clone() })?
        }
        _ => return None,
    };
    Some(lower[..depth].iter().cloned().chain([value]).collect())
}

/// The first eight bytes as a number.
fn leading(hex: &str) -> Option<u128> {
    u128::from_str_radix(hex.get(..16)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: &str) -> KeyValue {
        KeyValue::Number(value.into())
    }

    fn bytes(hex: &str, charset: &str) -> KeyValue {
        KeyValue::Bytes { hex: hex.into(), charset: charset.into() }
    }

    #[test]
    fn the_middle_is_above_the_lower_key_and_not_above_the_upper_one() {
        let cases = [("1", "9", "5"), ("1", "2", "2"), ("-5", "-4", "-4"), ("-9", "9", "0")];
        for (low, high, half) in cases {
            assert_eq!(middle(&vec![number(low)], &vec![number(high)]), Some(vec![number(half)]));
        }
        let most = vec![number("0"), number("18446744073709551614")];
        let all = vec![number("0"), number("18446744073709551615")];
        assert_eq!(middle(&most, &all), Some(all));
    }

    #[test]
    fn a_table_of_many_rows_is_never_counted() {
        let cases = [
            (99_999, 20_000, Some(20_000)),
            (99_999, 25_000, None),
            (100_000, 250_000, Some(20_000)),
            (1_000_000, 250_000, Some(200_000)),
            (2_000_000, 250_000, Some(250_000)),
        ];
        for (all, wanted, rows) in cases {
            assert_eq!(leapable(all, wanted), rows, "{all} rows, {wanted} wanted");
        }
    }

    #[test]
    fn binary_values_are_halved_by_their_first_bytes() {
        let low = vec![bytes("00000000000000000000000000000000", "binary")];
        let high = vec![bytes("ffffffffffffffff0000000000000000", "binary")];
        assert_eq!(middle(&low, &high), Some(vec![bytes("8000000000000000", "binary")]));
    }

    #[test]
    fn values_of_another_order_are_not_halved() {
        for (low, high) in [
            (bytes("61616161616161616161", "utf8mb4"), bytes("7a7a7a7a7a7a7a7a7a7a", "utf8mb4")),
            (number("1.5"), number("9.5")),
            (number("9"), number("1")),
            (bytes("61", "binary"), bytes("62", "binary")),
            (KeyValue::Plain("2024-01-01".into()), KeyValue::Plain("2025-01-01".into())),
        ] {
            assert_eq!(middle(&vec![low], &vec![high]), None);
        }
        assert_eq!(middle(&vec![number("1")], &vec![number("1")]), None);
    }
}
