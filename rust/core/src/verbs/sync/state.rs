//! The state of a copy: what each chunk of it held when it was last proved equal to production, in a hidden table of the
//! destination (which Python makes).
//!
//! Lines are changed in the transaction that changes their rows, so they say what the copy holds by our hands, whatever is
//! killed: a row that differs from them was written by somebody else. This module knows the words (SQL) and what they
//! mean; verbs say them. Line 0 of a table is Python's.

use std::collections::HashMap;

use super::blocks::{Block, decode, encode, sum};
use crate::error::{Error, Kind, Result};
use crate::mysql::chunk::Chunk;
use crate::mysql::names::{bytes_literal, qualified, text_literal};

pub(in crate::verbs) const TABLE: &str = "~migrate_sync";
/// More lines than these are no state of ours: at sixteen megabytes a chunk they are a petabyte.
const MOST_LINES: usize = 1 << 26;

#[derive(Debug, Clone)]
pub(in crate::verbs) struct State {
    name: String,
}

/// A chunk as the state knows it, but for its blocks.
#[derive(Debug, Clone)]
pub(in crate::verbs) struct Line {
    pub number: u64,
    pub chunk: Chunk,
    pub rows: u64,
}

type Row = Vec<Option<Vec<u8>>>;

fn text(row: &Row, index: usize) -> Option<&str> {
    row.get(index)?.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok())
}

impl State {
    pub fn new(schema: &str) -> Self {
        Self { name: qualified(schema, TABLE) }
    }

    pub fn read(&self, table: &str) -> String {
        format!(
            "SELECT chunk, plan, bounds, row_count FROM {} WHERE table_name = {} AND chunk > 0 ORDER BY chunk LIMIT {}",
            self.name,
            text_literal(table),
            MOST_LINES + 1
        )
    }

    pub fn blocks(&self, table: &str, number: u64) -> String {
        format!(
            "SELECT blocks FROM {} WHERE table_name = {} AND chunk = {number}",
            self.name,
            text_literal(table)
        )
    }

    /// Writes a line, over one of the same number.
    pub fn put(
        &self,
        table: &str,
        plan: &str,
        number: u64,
        chunk: &Chunk,
        blocks: &[Block],
    ) -> Result<String> {
        let bounds = serde_json::to_string(chunk).map_err(|error| Kind::Internal(error.to_string()))?;
        Ok(format!(
            "REPLACE INTO {} (table_name, chunk, plan, bounds, row_count, blocks) VALUES ({}, {number}, {}, {}, {}, {})",
            self.name,
            text_literal(table),
            text_literal(plan),
            text_literal(&bounds),
            sum(blocks).rows,
            bytes_literal(&encode(blocks), "binary"),
        ))
    }

    pub fn remove(&self, table: &str, number: u64) -> String {
        format!("DELETE FROM {} WHERE table_name = {} AND chunk = {number}", self.name, text_literal(table))
    }

    /// Takes all chunks of a table out.
    pub fn forget(&self, table: &str) -> String {
        format!("DELETE FROM {} WHERE table_name = {} AND chunk > 0", self.name, text_literal(table))
    }

    /// Understands what `read` asked for: lines in the order of the key, that together are the whole table. Nothing where
    /// there are none, or where they were made by other rules.
    pub fn lines(&self, plan: &str, rows: &[Row]) -> Result<Option<Vec<Line>>> {
        if rows.is_empty() || rows.iter().any(|row| text(row, 1) != Some(plan)) {
            return Ok(None);
        }
        if rows.len() > MOST_LINES {
            return Err(self.unreadable("it has too many chunks"));
        }
        let mut by_lower = HashMap::with_capacity(rows.len());
        for row in rows {
            let number = text(row, 0).and_then(|text| text.parse().ok());
            let count = text(row, 3).and_then(|text| text.parse().ok());
            let chunk: Option<Chunk> = text(row, 2).and_then(|text| serde_json::from_str(text).ok());
            let (Some(number), Some(rows), Some(chunk)) = (number, count, chunk) else {
                return Err(self.unreadable("a line of it says nothing"));
            };
            let begins = serde_json::to_string(&chunk.lower).unwrap_or_default();
            if by_lower.insert(begins, Line { number, chunk, rows }).is_some() {
                return Err(self.unreadable("two chunks begin at one place"));
            }
        }
        let mut lines: Vec<Line> = Vec::with_capacity(by_lower.len());
        let mut lower = None;
        loop {
            let begins = serde_json::to_string(&lower).unwrap_or_default();
            let Some(line) = by_lower.remove(&begins) else {
                return Err(self.unreadable("a chunk does not begin where the one before it ends"));
            };
            lower.clone_from(&line.chunk.upper);
            lines.push(line);
            if lower.is_none() {
                break;
            }
        }
        if by_lower.is_empty() { Ok(Some(lines)) } else { Err(self.unreadable("a chunk lies outside")) }
    }

    /// Understands what `blocks` asked for.
    pub fn decoded(&self, line: &Line, rows: &[Row]) -> Result<Vec<Block>> {
        let bytes = rows.first().and_then(|row| row.first()).and_then(Option::as_deref).unwrap_or_default();
        decode(bytes, line.rows)
            .ok_or_else(|| self.unreadable(&format!("chunk {} does not add up", line.number)))
    }

    /// The error for a state that this package did not write, or that was changed.
    pub fn unreadable(&self, why: &str) -> Error {
        Kind::Plan(format!(
            "the state {} cannot be read: {why}; rename that table, and sync compares everything",
            self.name
        ))
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::digest::Digest;
    use crate::mysql::chunk::{Bound, KeyValue};

    fn row(number: u64, lower: Option<u64>, upper: Option<u64>) -> Row {
        let bound = |number: u64| -> Bound { vec![KeyValue::Number(number.to_string())] };
        let bounds =
            serde_json::to_vec(&Chunk::between(lower.map(bound), upper.map(bound))).expect("a chunk");
        vec![Some(number.to_string().into_bytes()), Some(b"plan".to_vec()), Some(bounds), Some(b"3".to_vec())]
    }

    #[test]
    fn lines_come_in_the_order_of_the_key_whatever_their_numbers() {
        let state = State::new("lab");
        let rows = [row(1, None, Some(5)), row(2, Some(9), None), row(7, Some(5), Some(9))];
        let lines = state.lines("plan", &rows).expect("whole").expect("there");
        assert_eq!(lines.iter().map(|line| line.number).collect::<Vec<_>>(), [1, 7, 2]);
        assert!(state.lines("another plan", &rows).expect("other rules").is_none());
        assert!(state.lines("plan", &[]).expect("nothing").is_none());
    }

    #[test]
    fn lines_that_are_not_the_whole_table_are_refused() {
        let state = State::new("lab");
        for rows in [
            vec![row(1, None, Some(5))],
            vec![row(1, Some(5), None)],
            vec![row(1, None, None), row(2, Some(5), None)],
            vec![row(1, None, Some(5)), row(2, Some(5), Some(5)), row(3, Some(5), None)],
            vec![row(1, None, Some(5)), row(2, Some(5), None), row(3, None, Some(5))],
            vec![vec![
                Some(b"1".to_vec()),
                Some(b"plan".to_vec()),
                Some(b"{]".to_vec()),
                Some(b"3".to_vec()),
            ]],
            vec![vec![None, Some(b"plan".to_vec()), None, None]],
        ] {
            assert!(state.lines("plan", &rows).is_err());
        }
    }

    #[test]
    fn blocks_are_those_of_their_line() {
        let state = State::new("lab");
        let blocks = [Block { key: 0, digest: Digest { rows: 3, sum: 9 } }];
        let line = Line { number: 1, chunk: Chunk::default(), rows: 3 };
        let read = vec![vec![Some(encode(&blocks))]];
        assert_eq!(state.decoded(&line, &read).expect("its own"), blocks);
        assert!(state.decoded(&Line { rows: 4, ..line }, &read).is_err());
    }
}
