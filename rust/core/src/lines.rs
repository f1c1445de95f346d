//! The lines to servers that a run has open, so that all of them can be closed at once.
//!
//! A run that is to stop may wait for an answer anywhere. Whoever opens a line need not say for which run: its thread knows.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

type Close = Box<dyn Fn() + Send>;

#[derive(Default)]
struct Open {
    next: u64,
    lines: BTreeMap<u64, Close>,
}

/// The lines of one run.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Open>>);

thread_local! {
    static CURRENT: RefCell<Option<Lines>> = const { RefCell::new(None) };
}

impl Lines {
    /// What this thread opens from now on is of this run.
    pub fn enter(&self) {
        CURRENT.with_borrow_mut(|current| *current = Some(self.clone()));
    }

    /// The run of this thread, for a thread that it starts.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Closes all of them: whoever reads from one or writes to it fails at once.
    pub fn close(&self) {
        if let Ok(open) = self.0.lock() {
            open.lines.values().for_each(|close| close());
        }
    }

    /// Lists a line of this thread's run until what is returned is dropped. `close` may be called more than once.
    fn list(self, close: Close) -> Listed {
        let mut number = 0;
        if let Ok(mut open) = self.0.lock() {
            open.next += 1;
            number = open.next;
            open.lines.insert(number, close);
        }
        Listed { lines: self, number }
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

/// A line in the list of its run.
pub struct Listed {
    lines: Lines,
    number: u64,
}

/// Lists a line that this thread has opened; None where it works for no run, or there is nothing to close.
pub fn list<F: Fn() + Send + 'static>(close: impl FnOnce() -> Option<F>) -> Option<Listed> {
    let lines = Lines::current()?;
    Some(lines.list(Box::new(close()?)))
}

impl Drop for Listed {
    fn drop(&mut self) {
        let line = self.lines.0.lock().ok().and_then(|mut open| open.lines.remove(&self.number));
        // Outside of the lock: it may close a socket.
        drop(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn a_run_closes_its_own_lines_and_those_of_its_threads_only() {
        static CLOSED: AtomicU64 = AtomicU64::new(0);
        let count = |by: u64| {
            move || {
                CLOSED.fetch_add(by, Ordering::Relaxed);
            }
        };
        assert!(list(|| Some(count(1000))).is_none());
        let (mine, other) = (Lines::default(), Lines::default());
        mine.enter();
        let _kept = list(|| Some(count(1)));
        drop(list(|| Some(count(100))));
        let inherited = Lines::current();
        let _theirs = std::thread::spawn(move || {
            inherited.inspect(Lines::enter);
            list(|| Some(count(10)))
        })
        .join();
        other.close();
        assert_eq!(CLOSED.load(Ordering::Relaxed), 0);
        mine.close();
        assert_eq!(CLOSED.load(Ordering::Relaxed), 11);
    }
}
