//! The journal: which chunks of which tables are planned and done, in a hidden table of the destination.
//!
//! A chunk is marked done in the transaction that loads its rows, so the journal is right whatever is killed. This module
//! knows the words (SQL) and what they mean; verbs say them over their connections.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Kind, Result};
use crate::mysql::names::{qualified, text_literal};

const TABLE: &str = "~migrate_journal";

/// The journal of the tables of one schema.
#[derive(Debug, Clone)]
pub struct Journal {
    name: String,
}

/// One chunk as the journal knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<C> {
    pub number: u64,
    pub chunk: C,
    pub done: bool,
}

impl Journal {
    #[must_use]
    pub fn new(schema: &str) -> Self {
        Self { name: qualified(schema, TABLE) }
    }

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

    #[must_use]
    pub fn remove(&self) -> String {
        format!("DROP TABLE IF EXISTS {}", self.name)
    }

    #[must_use]
    pub fn read(&self, table: &str) -> String {
        format!(
            "SELECT chunk, plan, bounds, done FROM {} WHERE table_name = {} ORDER BY chunk",
            self.name,
            text_literal(table)
        )
    }

    /// Takes one table out of the journal.
    #[must_use]
    pub fn forget(&self, table: &str) -> String {
        format!("DELETE FROM {} WHERE table_name = {}", self.name, text_literal(table))
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
        let mut entries = Vec::with_capacity(rows.len());
        for (index, row) in rows.iter().enumerate() {
            let [Some(number), Some(of), Some(bounds), Some(done)] = row.as_slice() else {
                return Err(self.unreadable("a value is missing"));
            };
            if of != plan.as_bytes() {
                let message = format!(
                    "the journal {} belongs to a call with other arguments; finish that one, or drop the destination's rows and the journal",
                    self.name
                );
                return Err(Kind::Plan(message).into());
            }
            let number = String::from_utf8_lossy(number)
                .parse()
                .ok()
                .filter(|&number: &u64| number == index as u64)
                .ok_or_else(|| self.unreadable(&format!("its chunk {index} is missing")))?;
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
        Kind::Plan(format!(
            "the journal {} cannot be read: {why}; drop it and the destination's rows",
            self.name
        ))
        .into()
    }
}
