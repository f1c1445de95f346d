//! The journal: which chunks of which tables are planned and done, in a hidden table of the destination.
//!
//! A chunk is marked done in the transaction that loads its rows, so the journal is right whatever is killed. This module
//! knows the words (SQL) and what they mean; verbs say them over their connections.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Kind, Result};
use crate::mysql::names::{qualified, text_literal};

const TABLE: &str = "~migrate_journal";
/// In place of a plan: the table's rows are on their way out. Python writes the mark, too.
const EMPTYING: &str = "emptying";

/// The journal of the tables of one schema.
#[derive(Debug, Clone)]
pub struct Journal {
    name: String,
}

/// One chunk as the journal knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<C> {
    /// Its place among the chunks of its table.
    pub number: u64,
    /// What it covers.
    pub chunk: C,
    /// Its rows are in the destination.
    pub done: bool,
}

impl Journal {
    /// The journal in this schema, which need not have one yet.
    #[must_use]
    pub fn new(schema: &str) -> Self {
        Self { name: qualified(schema, TABLE) }
    }

    /// The statement that makes it, if it is not there.
    #[must_use]
    pub fn create(&self) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {} (table_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
             chunk BIGINT UNSIGNED NOT NULL, plan CHAR(32) CHARACTER SET ascii NOT NULL, bounds LONGTEXT CHARACTER SET utf8mb4 NOT NULL, \
             done BOOL NOT NULL, row_count BIGINT UNSIGNED NOT NULL DEFAULT 0, PRIMARY KEY (table_name, chunk)) \
             ENGINE=InnoDB COMMENT 'chunks of an unfinished migration'",
            self.name
        )
    }

    /// The statement that removes it, if it is there.
    #[must_use]
    pub fn remove(&self) -> String {
        format!("DROP TABLE IF EXISTS {}", self.name)
    }

    /// The statement that reads a table's lines, for `entries`.
    #[must_use]
    pub fn read(&self, table: &str) -> String {
        format!(
            "SELECT chunk, plan, bounds, done FROM {} WHERE table_name = {} ORDER BY chunk",
            self.name,
            text_literal(table)
        )
    }

    /// The lines of some chunks, which `some` understands.
    #[must_use]
    pub fn read_some(&self, table: &str, numbers: &[u64]) -> String {
        let numbers: Vec<_> = numbers.iter().map(u64::to_string).collect();
        format!(
            "SELECT chunk, plan, bounds, done FROM {} WHERE table_name = {} AND chunk IN ({}) ORDER BY chunk",
            self.name,
            text_literal(table),
            if numbers.is_empty() { "NULL".to_owned() } else { numbers.join(", ") }
        )
    }

    /// Takes one table out of the journal.
    #[must_use]
    pub fn forget(&self, table: &str) -> String {
        format!("DELETE FROM {} WHERE table_name = {}", self.name, text_literal(table))
    }

    /// Marks a table that is to be emptied. Rows and journal cannot go in one transaction, so whoever finds the mark empties
    /// the table (once more) before anything else: rows never outlive the journal that accounts for them, nor it them.
    #[must_use]
    pub fn emptying(&self, table: &str) -> String {
        format!(
            "INSERT INTO {} (table_name, chunk, plan, bounds, done) VALUES ({}, 0, '{EMPTYING}', '', 0) \
             ON DUPLICATE KEY UPDATE plan = VALUES(plan), done = 0, row_count = 0",
            self.name,
            text_literal(table)
        )
    }

    /// Whether what `read` asked for says that the table was to be emptied.
    #[must_use]
    pub fn is_emptying(rows: &[Vec<Option<Vec<u8>>>]) -> bool {
        let plan = rows.first().and_then(|row| row.get(1)).and_then(Option::as_ref);
        plan.is_some_and(|plan| plan == EMPTYING.as_bytes())
    }

    /// Whether a chunk is done; to be asked within a transaction. `FOR UPDATE` waits for the commit of a session that died
    /// while its commit was under way, and of which nobody has heard how it ended.
    #[must_use]
    pub fn is_done(&self, table: &str, number: u64) -> String {
        format!(
            "SELECT done FROM {} WHERE table_name = {} AND chunk = {number} FOR UPDATE",
            self.name,
            text_literal(table)
        )
    }

    /// Notes a new chunk. It may be said again when nobody has heard whether it was done.
    pub fn planned(&self, table: &str, plan: &str, number: u64, chunk: &impl Serialize) -> Result<String> {
        let bounds = serde_json::to_string(chunk).map_err(|error| Kind::Internal(error.to_string()))?;
        Ok(format!(
            "INSERT INTO {} (table_name, chunk, plan, bounds, done) VALUES ({}, {number}, {}, {}, 0) \
             ON DUPLICATE KEY UPDATE done = done",
            self.name,
            text_literal(table),
            text_literal(plan),
            text_literal(&bounds)
        ))
    }

    /// The statement that marks a chunk as done with so many rows, for the transaction that loads them.
    #[must_use]
    pub fn done(&self, table: &str, number: u64, rows: u64) -> String {
        format!(
            "UPDATE {} SET done = 1, row_count = {rows} WHERE table_name = {} AND chunk = {number}",
            self.name,
            text_literal(table)
        )
    }

    /// Understands the rows that `read` asked for. `plan` identifies the call: a journal of another call is refused.
    pub fn entries<C: DeserializeOwned>(
        &self,
        plan: &str,
        rows: &[Vec<Option<Vec<u8>>>],
    ) -> Result<Vec<Entry<C>>> {
        let entries = self.some(plan, rows)?;
        match entries.iter().enumerate().find(|(index, entry)| entry.number != *index as u64) {
            Some((index, _)) => Err(self.unreadable(&format!("its chunk {index} is missing"))),
            None => Ok(entries),
        }
    }

    /// As `entries`, of some chunks only.
    pub fn some<C: DeserializeOwned>(
        &self,
        plan: &str,
        rows: &[Vec<Option<Vec<u8>>>],
    ) -> Result<Vec<Entry<C>>> {
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows {
            let [Some(number), Some(of), Some(bounds), Some(done)] = row.as_slice() else {
                return Err(self.unreadable("a value is missing"));
            };
            if of != plan.as_bytes() {
                let message = format!(
                    "the journal {} belongs to a call with other arguments; finish that one, or copy to another destination",
                    self.name
                );
                return Err(Kind::Plan(message).into());
            }
            let number = String::from_utf8_lossy(number)
                .parse()
                .map_err(|_| self.unreadable("a chunk has no number"))?;
            let chunk =
                serde_json::from_slice(bounds).map_err(|error| self.unreadable(&error.to_string()))?;
            let done = match done.as_slice() {
                b"0" => false,
                b"1" => true,
                _ => return Err(self.unreadable("a chunk is neither done nor not done")),
            };
            entries.push(Entry { number, chunk, done });
        }
        Ok(entries)
    }

    /// The error for a journal that this package did not write, or that was changed.
    #[must_use]
    pub fn unreadable(&self, why: &str) -> crate::error::Error {
        Kind::Plan(format!("the journal {} cannot be read: {why}; copy to another destination", self.name))
            .into()
    }
}
