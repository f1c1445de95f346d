//! The journal of an archive in the making: a file of lines, one for each chunk planned and each chunk done, so that a run
//! that was killed goes on. What it says is proved again before it is believed, so it need not survive a power cut.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::manifest::{ChunkFile, MANIFEST, VERSION, failed};
use crate::error::{Kind, Result};

const JOURNAL: &str = "journal.jsonl";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<C> {
    Archive {
        version: u32,
        schema: String,
        server: String,
    },
    /// `plan` identifies the table's definition: chunks of another one are of no use.
    Planned {
        table: String,
        plan: String,
        number: u64,
        bounds: C,
    },
    /// A chunk without rows has no file.
    Done {
        table: String,
        number: u64,
        file: Option<ChunkFile>,
    },
}

/// What a chunk that was done came to: its file, or none if it had no rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Made(pub Option<ChunkFile>);

/// A chunk that an earlier run had planned.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<C> {
    pub number: u64,
    pub bounds: C,
    pub done: Option<Made>,
}

struct Chunks<C> {
    plan: String,
    entries: BTreeMap<u64, Entry<C>>,
}

/// The open journal, which also keeps a second run away from the folder.
pub struct Journal<C> {
    path: PathBuf,
    file: Mutex<File>,
    former: HashMap<String, Chunks<C>>,
}

impl<C: Serialize + DeserializeOwned + Clone> Journal<C> {
    /// Begins an archive of `schema` in the folder `root`, or goes on with one that was begun.
    pub fn open(root: &Path, schema: &str, server: &str) -> Result<Self> {
        let shown = root.to_string_lossy();
        let fail = |error: io::Error| failed(shown.clone(), error);
        fs::create_dir_all(root).map_err(fail)?;
        if root.join(MANIFEST).exists() {
            return Err(failed(shown, "there is a finished archive already"));
        }
        let path = root.join(JOURNAL);
        if !path.exists() && fs::read_dir(root).map_err(fail)?.next().is_some() {
            return Err(failed(shown, "the folder holds something that is no archive"));
        }
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path).map_err(fail)?;
        if file.try_lock().is_err() {
            return Err(failed(shown, "another backup writes to this folder"));
        }
        let mut lines = BufReader::new(&file).lines().map_while(io::Result::ok);
        let head = lines.next().map(|line| serde_json::from_str::<Line<C>>(&line));
        let mut former = HashMap::new();
        let mine = match head {
            None | Some(Err(_)) => false,
            Some(Ok(Line::Archive { version, schema: of, server: on })) => {
                if of != schema || on != server {
                    let message = format!("the folder holds an unfinished archive of `{of}` on {on}");
                    return Err(failed(shown, message));
                }
                version == VERSION
            }
            Some(Ok(_)) => return Err(failed(shown, "its journal.jsonl cannot be read")),
        };
        if mine {
            // A line that was cut, and all that may follow it, are planned again.
            lines
                .map_while(|line| serde_json::from_str(&line).ok())
                .for_each(|line| remember(&mut former, line));
        }
        let journal = Self { path, file: Mutex::new(file), former };
        journal.begin(schema, server)?;
        Ok(journal)
    }

    /// Writes the journal anew, without lines that were cut.
    fn begin(&self, schema: &str, server: &str) -> Result<()> {
        if let Ok(file) = self.file.lock() {
            file.set_len(0).map_err(|error| failed(JOURNAL, error))?;
        }
        self.put(&Line::Archive { version: VERSION, schema: schema.into(), server: server.into() })?;
        for (table, chunks) in &self.former {
            for entry in chunks.entries.values() {
                self.planned(table, &chunks.plan, entry.number, &entry.bounds)?;
                if let Some(Made(file)) = &entry.done {
                    self.done(table, entry.number, file.as_ref())?;
                }
            }
        }
        Ok(())
    }

    fn put(&self, line: &Line<C>) -> Result<()> {
        let mut text = serde_json::to_vec(line).map_err(|error| Kind::Internal(error.to_string()))?;
        text.push(b'\n');
        let mut file = self.file.lock().map_err(|_| Kind::Internal("a lane panicked".into()))?;
        file.write_all(&text).map_err(|error| failed(JOURNAL, error))
    }

    /// What earlier runs had planned of a table, in order; nothing if its definition has changed since.
    pub fn former(&self, table: &str, plan: &str) -> Vec<Entry<C>> {
        let chunks = self.former.get(table).filter(|chunks| chunks.plan == plan);
        chunks.map(|chunks| chunks.entries.values().cloned().collect()).unwrap_or_default()
    }

    pub fn planned(&self, table: &str, plan: &str, number: u64, bounds: &C) -> Result<()> {
        let bounds = bounds.clone();
        self.put(&Line::Planned { table: table.into(), plan: plan.into(), number, bounds })
    }

    pub fn done(&self, table: &str, number: u64, file: Option<&ChunkFile>) -> Result<()> {
        self.put(&Line::Done { table: table.into(), number, file: file.cloned() })
    }

    /// The archive is finished.
    pub fn remove(self) -> Result<()> {
        fs::remove_file(&self.path).map_err(|error| failed(JOURNAL, error))
    }
}

fn remember<C>(former: &mut HashMap<String, Chunks<C>>, line: Line<C>) {
    match line {
        Line::Archive { .. } => {}
        Line::Planned { table, plan, number, bounds } => {
            let chunks = former
                .entry(table)
                .or_insert_with(|| Chunks { plan: plan.clone(), entries: BTreeMap::new() });
            if chunks.plan != plan {
                *chunks = Chunks { plan, entries: BTreeMap::new() };
            }
            // Bounds follow one another: a hole would lose rows.
            if number == chunks.entries.len() as u64 {
                chunks.entries.insert(number, Entry { number, bounds, done: None });
            }
        }
        Line::Done { table, number, file } => {
            if let Some(entry) = former.get_mut(&table).and_then(|chunks| chunks.entries.get_mut(&number)) {
                entry.done = Some(Made(file));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> ChunkFile {
        ChunkFile { path: path.into(), rows: 1, bytes: 2, blake3: String::new(), digest: String::new() }
    }

    #[test]
    fn a_journal_whose_last_line_was_cut_goes_on_from_the_line_before() {
        let root = std::env::temp_dir().join(format!("djm-journal-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let journal = Journal::<String>::open(&root, "lab", "s").expect("begun");
        journal.planned("t", "p", 0, &"a".into()).expect("written");
        journal.planned("t", "p", 1, &"b".into()).expect("written");
        journal.done("t", 1, Some(&file("x"))).expect("written");
        journal.done("t", 0, None).expect("written");
        drop(journal);
        let path = root.join(JOURNAL);
        let text = fs::read(&path).expect("there");
        fs::write(&path, &text[..text.len() - 5]).expect("cut");
        let journal = Journal::<String>::open(&root, "lab", "s").expect("goes on");
        assert!(Journal::<String>::open(&root, "lab", "s").is_err(), "two runs at once");
        let former = journal.former("t", "p");
        assert_eq!(
            former.iter().map(|entry| entry.done.clone()).collect::<Vec<_>>(),
            [None, Some(Made(Some(file("x"))))]
        );
        assert!(journal.former("t", "other").is_empty());
        drop(journal);
        assert!(Journal::<String>::open(&root, "other", "s").is_err());
        let _ = fs::remove_dir_all(&root);
    }
}
