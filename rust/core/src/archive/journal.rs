//! The journal of an archive in the making: lines, one for each chunk planned and each chunk done, so that a run that was
//! killed goes on. What it says is proved again before it is believed, so it need not survive a power cut.
//!
//! In a folder it is a file. In a bucket, where nothing can be added to an object, it is one small object after the other:
//! what was planned goes with what was done next.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Mutex;

use rustix::fs::OFlags;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::manifest::{ChunkFile, VERSION, failed};
use super::place::{Holds, Place};
use crate::error::{Kind, Result};
use crate::stores::bucket::Bucket;
use crate::stores::temporary::prove_plain;

/// The journal in a folder.
pub const JOURNAL: &str = "journal.jsonl";
/// Where its objects are in a bucket.
pub const PIECES: &str = "journal";

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
    /// Its place among the chunks of its table.
    pub number: u64,
    /// Its range.
    pub bounds: C,
    /// What it came to; nothing if it was not done.
    pub done: Option<Made>,
}

struct Chunks<C> {
    plan: String,
    entries: BTreeMap<u64, Entry<C>>,
}

/// The open journal. In a folder it also keeps a second run away.
pub struct Journal<C> {
    lines: Mutex<Lines>,
    former: HashMap<String, Chunks<C>>,
}

enum Lines {
    File {
        path: PathBuf,
        file: File,
    },
    /// `run` tells this run's objects, from the one numbered `first` on, from those of another at the same time.
    Objects {
        bucket: Bucket,
        run: String,
        first: u64,
        next: u64,
        waiting: Vec<u8>,
    },
}

impl<C: Serialize + DeserializeOwned + Clone> Journal<C> {
    /// Begins an archive of `schema`, or goes on with one that was begun.
    pub fn open(place: &Place, schema: &str, server: &str) -> Result<Self> {
        let shown = place.shown();
        match place.holds()? {
            Holds::Nothing | Holds::Empty | Holds::Unfinished => {}
            Holds::Archive => return Err(failed(shown, "there is a finished archive already")),
            Holds::Other => return Err(failed(shown, "something that is no archive is there already")),
        }
        let (lines, text) = Lines::open(place)?;
        let mut said = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let mut former = HashMap::new();
        match said.next().map(|line| (line, serde_json::from_slice::<Line<C>>(line))) {
            None => {}
            Some((_, Ok(Line::Archive { version, schema: of, server: on }))) => {
                if of != schema || on != server {
                    let message = format!("an unfinished archive of `{of}` on {on} is there already");
                    return Err(failed(shown, message));
                }
                if version != VERSION {
                    let message = format!("an unfinished archive of version {version} is there already");
                    return Err(failed(shown, message));
                }
            }
            // The very line that this call would write, cut: a call was killed while it began.
            Some((line, Err(_)))
                if text.len() == line.len() && Line::<C>::head(schema, server)?.starts_with(line) => {}
            // Nothing is written to, and nothing swept from, what somebody else keeps under the same name.
            Some(_) => {
                let message =
                    "there is a journal that is not one of an archive in the making: choose another place";
                return Err(failed(shown, message));
            }
        }
        // A line that was cut, and all that may follow it, are planned again.
        said.map_while(|line| serde_json::from_slice(line).ok()).for_each(|line| remember(&mut former, line));
        if let Lines::File { file, .. } = &lines {
            file.set_len(0).map_err(|error| failed(JOURNAL, error))?;
        }
        let journal = Self { lines: Mutex::new(lines), former };
        journal.begin(schema, server)?;
        Ok(journal)
    }

    /// Writes the journal anew, without lines that were cut.
    fn begin(&self, schema: &str, server: &str) -> Result<()> {
        self.lines()?.put(&Line::<C>::head(schema, server)?)?;
        for (table, chunks) in &self.former {
            for entry in chunks.entries.values() {
                self.planned(table, &chunks.plan, entry.number, &entry.bounds)?;
                if let Some(Made(file)) = &entry.done {
                    let file = file.clone();
                    self.put(&Line::Done { table: table.clone(), number: entry.number, file })?;
                }
            }
        }
        self.lines()?.settle()
    }

    fn lines(&self) -> Result<std::sync::MutexGuard<'_, Lines>> {
        self.lines.lock().map_err(|_| Kind::Internal("a lane panicked".into()).into())
    }

    fn put(&self, line: &Line<C>) -> Result<()> {
        self.lines()?.put(&line.text()?)
    }

    /// What earlier runs had planned of a table, in order; nothing if its definition has changed since.
    pub fn former(&self, table: &str, plan: &str) -> Vec<Entry<C>> {
        let chunks = self.former.get(table).filter(|chunks| chunks.plan == plan);
        chunks.map(|chunks| chunks.entries.values().cloned().collect()).unwrap_or_default()
    }

    /// Notes that a chunk of a table is about to be written. `plan` stands for the table's definition.
    pub fn planned(&self, table: &str, plan: &str, number: u64, bounds: &C) -> Result<()> {
        let bounds = bounds.clone();
        self.put(&Line::Planned { table: table.into(), plan: plan.into(), number, bounds })
    }

    /// Notes that a chunk is done, and its file, if it has rows; on the disk when this returns.
    pub fn done(&self, table: &str, number: u64, file: Option<&ChunkFile>) -> Result<()> {
        self.put(&Line::Done { table: table.into(), number, file: file.cloned() })?;
        self.lines()?.settle()
    }

    /// Fails if another run wrote to the same place meanwhile.
    pub fn prove_alone(&self) -> Result<()> {
        self.lines()?.prove_alone()
    }

    /// The archive is finished.
    pub fn remove(self) -> Result<()> {
        self.lines()?.remove()
    }
}

impl<C: Serialize> Line<C> {
    fn text(&self) -> Result<Vec<u8>> {
        let mut text = serde_json::to_vec(self).map_err(|error| Kind::Internal(error.to_string()))?;
        text.push(b'\n');
        Ok(text)
    }

    /// The first line.
    fn head(schema: &str, server: &str) -> Result<Vec<u8>> {
        Self::Archive { version: VERSION, schema: schema.into(), server: server.into() }.text()
    }
}

impl Lines {
    fn put(&mut self, text: &[u8]) -> Result<()> {
        match self {
            Self::File { file, .. } => file.write_all(text).map_err(|error| failed(JOURNAL, error)),
            Self::Objects { waiting, .. } => {
                waiting.extend_from_slice(text);
                Ok(())
            }
        }
    }

    /// The journal that is there, and what it says.
    fn open(place: &Place) -> Result<(Self, Vec<u8>)> {
        let mut text = Vec::new();
        match place {
            Place::Folder(root) => {
                let shown = place.shown();
                let fail = |error: io::Error| failed(shown.clone(), error);
                fs::create_dir_all(root).map_err(fail)?;
                let path = root.join(JOURNAL);
                let mut options = OpenOptions::new();
                options.create(true).read(true).append(true);
                // Never through a link into another file, and without waiting for what is no file.
                options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
                let mut file = options.open(&path).map_err(fail)?;
                prove_plain(&file.metadata().map_err(fail)?).map_err(fail)?;
                if file.try_lock().is_err() {
                    return Err(failed(shown, "another backup writes to this folder"));
                }
                file.read_to_end(&mut text).map_err(fail)?;
                Ok((Self::File { path, file }, text))
            }
            Place::Bucket(bucket, _) => {
                let mut next = 0;
                for path in pieces(bucket)? {
                    if number_of(&path).is_none() {
                        return Err(failed(bucket.place(&path), "this is no object of an archive's journal"));
                    }
                    text.extend_from_slice(&bucket.get(&path)?.1);
                    next = next.max(number_of(&path).map_or(0, |number| number + 1));
                }
                let run = format!("{:016x}", RandomState::new().build_hasher().finish());
                let (bucket, waiting) = (bucket.clone(), Vec::new());
                Ok((Self::Objects { bucket, run, first: next, next, waiting }, text))
            }
        }
    }

    /// Sends what waits.
    fn settle(&mut self) -> Result<()> {
        let Self::Objects { bucket, run, next, waiting, .. } = self else { return Ok(()) };
        let text = std::mem::take(waiting);
        bucket.put(&format!("{PIECES}/{next:012}-{run}.jsonl"), [text.into()])?;
        *next += 1;
        Ok(())
    }

    /// Nothing in a bucket keeps a second run away; this tells that there was one.
    fn prove_alone(&self) -> Result<()> {
        let Self::Objects { bucket, run, first, .. } = self else { return Ok(()) };
        let other = pieces(bucket)?.into_iter().find(|path| {
            number_of(path).is_some_and(|number| number >= *first) && !path.contains(run.as_str())
        });
        match other {
            Some(path) => Err(failed(bucket.place(&path), "another backup writes to this place")),
            None => Ok(()),
        }
    }

    fn remove(&mut self) -> Result<()> {
        match self {
            Self::File { path, .. } => fs::remove_file(path).map_err(|error| failed(JOURNAL, error)),
            Self::Objects { bucket, .. } => pieces(bucket)?
                .iter()
                .filter(|path| number_of(path).is_some())
                .try_for_each(|path| bucket.remove(path)),
        }
    }
}

fn number_of(path: &str) -> Option<u64> {
    let name = path.strip_prefix(PIECES)?.strip_prefix('/')?.strip_suffix(".jsonl")?;
    name.split_once('-')?.0.parse().ok()
}

/// The journal's objects in a bucket, in their order.
fn pieces(bucket: &Bucket) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    bucket.list(PIECES, &mut |path, _| {
        paths.push(path);
        Ok(())
    })?;
    paths.sort();
    Ok(paths)
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
        let place = Place::Folder(root.clone());
        let journal = Journal::<String>::open(&place, "lab", "s").expect("begun");
        journal.planned("t", "p", 0, &"a".into()).expect("written");
        journal.planned("t", "p", 1, &"b".into()).expect("written");
        journal.done("t", 1, Some(&file("x"))).expect("written");
        journal.done("t", 0, None).expect("written");
        drop(journal);
        let path = root.join(JOURNAL);
        let text = fs::read(&path).expect("there");
        fs::write(&path, &text[..text.len() - 5]).expect("cut");
        let journal = Journal::<String>::open(&place, "lab", "s").expect("goes on");
        assert!(Journal::<String>::open(&place, "lab", "s").is_err(), "two runs at once");
        let former = journal.former("t", "p");
        assert_eq!(
            former.iter().map(|entry| entry.done.clone()).collect::<Vec<_>>(),
            [None, Some(Made(Some(file("x"))))]
        );
        assert!(journal.former("t", "other").is_empty());
        drop(journal);
        assert!(Journal::<String>::open(&place, "other", "s").is_err());
        let _ = fs::remove_dir_all(&root);
    }

    #[test]
    fn a_journal_of_something_else_is_refused_and_stays_as_it_is() {
        let root = std::env::temp_dir().join(format!("djm-foreign-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("tables/mine")).expect("made");
        fs::write(root.join("tables/mine/x"), "x").expect("written");
        let place = Place::Folder(root.clone());
        let path = root.join(JOURNAL);
        let other =
            format!("{{\"archive\":{{\"version\":{},\"schema\":\"lab\",\"server\":\"s\"}}}}", VERSION + 1);
        for text in [
            "{\"day\": 1, \"entry\": \"slept\"}\n{}\n",
            "dear diary",
            "{\"archive\":{}}\n",
            "\u{0}",
            other.as_str(),
        ] {
            fs::write(&path, text).expect("written");
            let Err(error) = Journal::<String>::open(&place, "lab", "s") else { panic!("{text} was taken") };
            assert_eq!(error.code(), "DJM-1406");
            assert_eq!(fs::read_to_string(&path).expect("there"), text);
        }
        let head = Line::<String>::head("lab", "s").expect("JSON");
        for end in [0, 1, 10, head.len() - 1, head.len()] {
            fs::write(&path, &head[..end]).expect("written");
            assert!(Journal::<String>::open(&place, "lab", "s").is_ok(), "a call was killed at byte {end}");
        }
        assert!(root.join("tables/mine/x").exists());
        let _ = fs::remove_dir_all(&root);
    }
}
