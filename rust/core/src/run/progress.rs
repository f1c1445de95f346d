//! What a run tells while it runs, and how it is told to stop. The engine never prints.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{ThreadId, current};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::throttle::Throttle;
use crate::error::{Kind, Result};
use crate::lines::Lines;

/// How often a run that waits looks whether it may go on, or has to stop.
const TICK: Duration = Duration::from_millis(100);
/// What hanging up on all servers may take.
const HANGING_UP: Duration = Duration::from_secs(1);

thread_local! {
    /// The table that this thread is at, and the run that it is at it for.
    static AT: RefCell<At> = RefCell::default();
}

#[derive(Default)]
struct At {
    run: u64,
    table: String,
    threads: Places,
}

/// Where the threads of a run are, who came last at the end. The last to leave is still named.
type Places = Arc<Mutex<Vec<Place>>>;

#[derive(Debug)]
struct Place {
    thread: ThreadId,
    table: String,
    left: bool,
}

/// This thread has done what it had to do at its table: another one is what the run is at.
pub(super) fn leave() {
    AT.with_borrow(|at| {
        if let Ok(mut places) = at.threads.lock() {
            for place in places.iter_mut().filter(|place| place.thread == current().id()) {
                place.left = true;
            }
            if places.len() > 1
                && let Some(index) = places.iter().position(|place| place.left)
            {
                places.remove(index);
            }
        }
    });
}

/// What tells one run from another; an address does not, for it is given again.
#[derive(Debug)]
struct Run(u64);

impl Default for Run {
    fn default() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// Counters shared by the lanes of a run and read by whoever watches it.
#[derive(Debug, Default)]
pub struct Progress {
    run: Run,
    rows: AtomicU64,
    bytes: AtomicU64,
    retries: AtomicU64,
    rows_expected: AtomicU64,
    places: Places,
    tables: Mutex<BTreeMap<String, Counted>>,
    schemas: Mutex<Arc<Vec<String>>>,
    stage: Mutex<Option<&'static str>>,
    ended: Mutex<Vec<Ended>>,
    waits: Mutex<Waits>,
    lines: Lines,
    cancelled: AtomicBool,
    snapshot: AtomicBool,
    throttle: OnceLock<Throttle>,
    patience: OnceLock<Duration>,
    paused: Mutex<Option<String>>,
}

/// Rows and bytes of a table.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Counted {
    /// How many rows.
    pub rows: u64,
    /// What they took.
    pub bytes: u64,
}

/// What a stage had counted when the next one began.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Ended {
    /// Which stage; nothing before the first one.
    pub stage: Option<&'static str>,
    /// The table worked on last.
    pub table: String,
    /// Rows of all its tables.
    pub rows: u64,
    /// Bytes of all its tables.
    pub bytes: u64,
    /// What each table has of them, by `schema.table`.
    pub tables: BTreeMap<String, Counted>,
}

type Interrupt = Box<dyn FnOnce() + Send>;

/// How the statements that lanes wait for are ended.
#[derive(Default)]
struct Waits {
    next: u64,
    interrupts: BTreeMap<u64, Interrupt>,
}

impl fmt::Debug for Waits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Waits").field("interrupts", &self.interrupts.len()).finish_non_exhaustive()
    }
}

/// A statement that is waited for, until this is dropped.
pub struct Waiting<'a> {
    progress: &'a Progress,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Ok(mut waits) = self.progress.waits.lock() {
            waits.interrupts.remove(&self.number);
        }
    }
}

/// The counters at one moment.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Seen {
    /// The table worked on, and where several are, the one that was begun last; as `schema.table`.
    pub table: String,
    /// Rows of this stage.
    pub rows: u64,
    /// Bytes of this stage.
    pub bytes: u64,
    /// An estimate by the server's statistics.
    pub rows_expected: u64,
    /// How often something was tried again, in all stages.
    pub retries: u64,
    /// Why nothing is read at the moment.
    pub paused: Option<String>,
    /// Which part of a verb this is, where it has several; each is counted from nothing.
    pub stage: Option<&'static str>,
    /// What each table has of `rows` and `bytes`.
    pub tables: BTreeMap<String, Counted>,
    /// Stages that have ended since the last look.
    pub ended: Vec<Ended>,
}

impl Progress {
    /// Counts rows and bytes of the table that this thread is at.
    pub fn add(&self, rows: u64, bytes: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.book(|counted| {
            counted.rows += rows;
            counted.bytes += bytes;
        });
    }

    /// Takes back what a failed attempt had counted.
    pub fn take_back(&self, rows: u64, bytes: u64) {
        self.rows.fetch_sub(rows, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.book(|counted| {
            counted.rows = counted.rows.saturating_sub(rows);
            counted.bytes = counted.bytes.saturating_sub(bytes);
        });
    }

    /// Counts at the table that this thread is at.
    fn book(&self, count: impl FnOnce(&mut Counted)) {
        AT.with_borrow(|at| {
            if at.run == self.run.0
                && let Ok(mut tables) = self.tables.lock()
            {
                if let Some(counted) = tables.get_mut(&at.table) {
                    count(counted);
                } else {
                    count(tables.entry(at.table.clone()).or_default());
                }
            }
        });
    }

    /// Expects so many rows more.
    pub fn expect(&self, rows: u64) {
        self.rows_expected.fetch_add(rows, Ordering::Relaxed);
    }

    /// What follows is another part of the work, counted from nothing.
    pub fn begin_stage(&self, stage: &'static str) {
        let before = self.seen();
        if let (Ok(mut current), Ok(mut ended), Ok(mut tables)) =
            (self.stage.lock(), self.ended.lock(), self.tables.lock())
        {
            let Seen { table, rows, bytes, .. } = before;
            ended.extend(before.ended);
            ended.push(Ended { stage: *current, table, rows, bytes, tables: std::mem::take(&mut tables) });
            *current = Some(stage);
            self.rows.store(0, Ordering::Relaxed);
            self.bytes.store(0, Ordering::Relaxed);
            self.rows_expected.store(0, Ordering::Relaxed);
        }
    }

    /// The table that this thread is at from now on.
    pub fn at(&self, table: &str) {
        AT.with_borrow_mut(|at| {
            at.run = self.run.0;
            table.clone_into(&mut at.table);
            at.threads = self.places.clone();
        });
        let thread = current().id();
        if let Ok(mut places) = self.places.lock() {
            places.retain(|place| place.thread != thread && !place.left);
            places.push(Place { thread, table: table.to_owned(), left: false });
        }
        if let Some((schema, _)) = table.split_once('.') {
            self.touches(schema);
        }
    }

    /// Statements of this run may name this schema from now on: by that they are known as its own.
    pub fn touches(&self, schema: &str) {
        if let Ok(mut schemas) = self.schemas.lock()
            && !schemas.iter().any(|known| known == schema)
        {
            Arc::make_mut(&mut schemas).push(schema.to_owned());
        }
    }

    pub(super) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters now. Stages that have ended are told once.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen {
            table: self
                .places
                .lock()
                .map(|places| places.last().map(|place| place.table.clone()).unwrap_or_default())
                .unwrap_or_default(),
            rows: self.rows.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            rows_expected: self.rows_expected.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            paused: self.paused.lock().map(|paused| paused.clone()).unwrap_or_default(),
            stage: self.stage.lock().map(|stage| *stage).unwrap_or_default(),
            tables: self.tables.lock().map(|tables| tables.clone()).unwrap_or_default(),
            ended: self.ended.lock().map(|mut ended| std::mem::take(&mut *ended)).unwrap_or_default(),
        }
    }

    /// The schemas that statements of the run name.
    #[must_use]
    pub fn schemas(&self) -> Arc<Vec<String>> {
        self.schemas.lock().map(|schemas| schemas.clone()).unwrap_or_default()
    }

    /// Lists a statement that is about to be waited for, and how to end the wait.
    pub fn waiting(&self, interrupt: impl FnOnce() + Send + 'static) -> Waiting<'_> {
        let mut number = 0;
        if let Ok(mut waits) = self.waits.lock() {
            waits.next += 1;
            number = waits.next;
            waits.interrupts.insert(number, Box::new(interrupt));
        }
        Waiting { progress: self, number }
    }

    /// Ends what is waited for now. A server that answers nobody is not waited for.
    pub fn interrupt(&self) {
        let interrupts = self.waits.lock().map(|mut waits| std::mem::take(&mut waits.interrupts));
        let (sender, receiver) = channel();
        for (_, interrupt) in interrupts.unwrap_or_default() {
            let sender = sender.clone();
            // Each may have to log in.
            std::thread::spawn(move || {
                interrupt();
                drop(sender);
            });
        }
        drop(sender);
        // It ends when the last of them has ended: nothing is ever sent.
        let _: std::result::Result<(), _> = receiver.recv_timeout(HANGING_UP);
    }

    /// What this thread and those of its lanes open from now on is of this run.
    pub fn enter(&self) {
        self.lines.enter();
    }

    /// Closes every line of this run, whatever it is waited for there.
    pub fn hang_up(&self) {
        self.lines.close();
    }

    /// Notes that production keeps old versions of rows for this run, from now on.
    pub fn hold_snapshot(&self) {
        self.snapshot.store(true, Ordering::Relaxed);
    }

    /// True if production keeps old versions of rows for this run.
    #[must_use]
    pub fn has_snapshot(&self) -> bool {
        self.snapshot.load(Ordering::Relaxed)
    }

    /// Asks the run to stop at the next batch.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// An error once the run was asked to stop.
    pub fn check(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) { Err(Kind::Cancelled.into()) } else { Ok(()) }
    }

    /// How long this run waits for what may go away by itself.
    pub fn wait_for(&self, patience: Duration) {
        let _ = self.patience.set(patience);
    }

    /// How long this run waits for what may go away by itself, if it was told.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        self.patience.get().copied()
    }

    /// Spares the source from now on.
    pub fn spare(&self, throttle: Throttle) {
        // A run has one source, and says so once.
        let _ = self.throttle.set(throttle);
    }

    /// Waits before a statement until the source may be read; an error once the run was asked to stop.
    pub fn turn(&self) -> Result<()> {
        self.check()?;
        let Some(throttle) = self.throttle.get() else { return Ok(()) };
        loop {
            let reason = throttle.reason()?;
            let free = reason.is_none();
            if let Ok(mut paused) = self.paused.lock() {
                *paused = reason;
            }
            if free {
                return self.wait_until(throttle.paid());
            }
            std::thread::sleep(TICK);
            self.check()?;
        }
    }

    /// Counts bytes read from the source, and waits as long as they cost; an error once the run was asked to stop.
    pub fn read(&self, bytes: u64) -> Result<()> {
        self.check()?;
        match self.throttle.get() {
            Some(throttle) => self.wait_until(throttle.read(bytes)),
            None => Ok(()),
        }
    }

    /// Waits; an error once the run was asked to stop.
    pub(super) fn sleep(&self, pause: Duration) -> Result<()> {
        self.wait_until(Instant::now() + pause)?;
        self.check()
    }

    /// Waits for a while and says why; an error once the run was asked to stop.
    pub fn pause(&self, why: &str, how_long: Duration) -> Result<()> {
        let say = |why: Option<String>| {
            if let Ok(mut paused) = self.paused.lock() {
                *paused = why;
            }
        };
        say(Some(why.to_owned()));
        let waited = self.wait_until(Instant::now() + how_long);
        say(None);
        waited
    }

    fn wait_until(&self, moment: Instant) -> Result<()> {
        loop {
            let rest = moment.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(());
            }
            std::thread::sleep(rest.min(TICK));
            self.check()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shown_is_one_that_a_thread_is_still_at() {
        let progress = Progress::default();
        let shown = || progress.seen().table;
        progress.at("lab.long");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                progress.at("lab.short");
                assert_eq!(shown(), "lab.short");
                leave();
                assert_eq!(shown(), "lab.long");
                progress.at("lab.next");
                assert_eq!(shown(), "lab.next");
                leave();
            });
        });
        assert_eq!(shown(), "lab.long");
        leave();
        assert_eq!(shown(), "lab.long");
        progress.at("lab.last");
        assert_eq!(shown(), "lab.last");
    }

    #[test]
    fn what_a_thread_counts_is_of_the_table_it_is_at() {
        let progress = Progress::default();
        std::thread::scope(|scope| {
            for table in ["lab.a", "lab.b"] {
                let progress = &progress;
                scope.spawn(move || {
                    progress.at(table);
                    for _ in 0..1000 {
                        progress.add(2, 3);
                        progress.take_back(1, 1);
                    }
                });
            }
        });
        let seen = progress.seen();
        assert_eq!((seen.rows, seen.bytes), (2000, 4000));
        for table in ["lab.a", "lab.b"] {
            assert_eq!((seen.tables[table].rows, seen.tables[table].bytes), (1000, 2000));
        }
    }

    #[test]
    fn a_thread_that_was_at_a_table_of_another_run_counts_at_none() {
        Progress::default().at("lab.a");
        let progress = Progress::default();
        progress.add(1, 1);
        assert_eq!(progress.seen().rows, 1);
        assert!(progress.seen().tables.is_empty());
    }

    #[test]
    fn a_stage_is_counted_from_nothing_and_the_one_before_is_told_once() {
        let progress = Progress::default();
        progress.expect(5);
        progress.at("lab.a");
        progress.add(5, 50);
        progress.begin_stage("compare");
        progress.add(2, 20);
        let seen = progress.seen();
        assert_eq!((seen.stage, seen.rows, seen.rows_expected), (Some("compare"), 2, 0));
        assert_eq!((seen.ended.len(), seen.ended[0].rows, seen.ended[0].tables["lab.a"].bytes), (1, 5, 50));
        assert!(progress.seen().ended.is_empty());
    }

    #[test]
    fn only_what_is_still_waited_for_is_interrupted() {
        static ENDED: AtomicU64 = AtomicU64::new(0);
        let progress = Progress::default();
        drop(progress.waiting(|| {
            ENDED.fetch_add(100, Ordering::Relaxed);
        }));
        let _waiting = progress.waiting(|| {
            ENDED.fetch_add(1, Ordering::Relaxed);
        });
        progress.interrupt();
        progress.interrupt();
        assert_eq!(ENDED.load(Ordering::Relaxed), 1);
    }
}
