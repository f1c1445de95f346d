//! Byte budgets: of the objects that are held in memory at a time, and of the rows of a run that are larger than a batch.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::progress::Progress;
use crate::error::Result;

/// How often one that waits looks whether the run was told to stop.
const TICK: Duration = Duration::from_millis(100);

/// A budget of objects.

#[derive(Debug)]
pub struct Memory {
    total: u64,
    free: Mutex<u64>,
    given_back: Condvar,
}

/// Bytes taken from a budget; gives them back.
#[derive(Debug)]
pub struct Taken<'a> {
    memory: &'a Memory,
    bytes: u64,
}

impl Memory {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(total: u64) -> Self {
        Self { total, free: Mutex::new(total), given_back: Condvar::new() }
    }

    /// Waits until `bytes` are free; whoever asks for more than there is waits for all.
    pub fn take(&self, bytes: u64) -> Taken<'_> {
        let bytes = bytes.min(self.total);
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free =
            self.given_back.wait_while(free, |free| *free < bytes).unwrap_or_else(PoisonError::into_inner);
        *free -= bytes;
        Taken { memory: self, bytes }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.memory.free.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.memory.given_back.notify_all();
    }
}

/// The budget of a run for rows that are larger than a batch, whatever the number of lanes. Rows within a batch are bounded by the size and the number of batches and ask for nothing.
///
/// Nobody waits for ever, by two rules. Whoever asked first gets what it asks for, whatever the others have: so one lane
/// always goes on, a row larger than the whole budget is alone, and the budget is exceeded by one row at most. And whoever waits
/// holds nothing else that the one who goes on may need: a lane ends its open statement before it waits (an open `LOAD DATA`
/// has the lock of an `AUTO_INCREMENT` counter), asks for no second room, and takes no other lock of ours meanwhile. What
/// stays are the locks of its own rows, which no other chunk has; should a unique index make two lanes meet all the same,
/// the server ends the wait after `innodb_lock_wait_timeout`, and the chunk is tried again.
#[derive(Debug)]
pub struct LargeRows {
    total: u64,
    state: Mutex<State>,
    given_back: Condvar,
    alone: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// What each has, in the order in which they asked.
    held: BTreeMap<u64, u64>,
}

impl LargeRows {
    /// Half of `bytes`: the other is for batches.
    #[must_use]
    pub fn of(bytes: usize) -> Arc<Self> {
        let total = bytes as u64 / 2;
        Arc::new(Self { total, state: Mutex::default(), given_back: Condvar::new(), alone: Mutex::default() })
    }

    /// For work that holds rows longer than until the next one: one lane after another, each before it asks for room.
    pub fn alone(&self) -> MutexGuard<'_, ()> {
        self.alone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one lane has of the budget; gives it back when it is dropped.
#[derive(Debug)]
pub struct Room {
    rows: Arc<LargeRows>,
    ticket: Option<u64>,
}

impl Room {
    /// No room yet, of this budget.
    #[must_use]
    pub fn new(rows: &Arc<LargeRows>) -> Self {
        Self { rows: rows.clone(), ticket: None }
    }

    /// Makes room for a row of `bytes`, counting what it has already. Calls `before_waiting` once if it has to wait.
    pub fn make(
        &mut self,
        bytes: u64,
        progress: &Progress,
        before_waiting: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let mut state = self.rows.state();
        let ticket = *self.ticket.get_or_insert_with(|| {
            state.next += 1;
            state.next
        });
        state.held.entry(ticket).or_default();
        let mut is_ready = false;
        loop {
            let others: u64 =
                state.held.iter().filter(|(other, _)| **other != ticket).map(|(_, held)| held).sum();
            let is_first = state.held.keys().next() == Some(&ticket);
            if is_first || others.saturating_add(bytes) <= self.rows.total {
                let held = state.held.entry(ticket).or_default();
                *held = bytes.max(*held);
                return Ok(());
            }
            if is_ready {
                let waited = self.rows.given_back.wait_timeout(state, TICK);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                progress.check()?;
            } else {
                drop(state);
                before_waiting()?;
                is_ready = true;
                state = self.rows.state();
            }
        }
    }

    /// Gives back what was taken; whoever waits is told.
    pub fn give_back(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.rows.state().held.remove(&ticket);
            self.rows.given_back.notify_all();
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn all_that_is_held_is_the_budget_and_one_row_at_most_and_nobody_waits_for_ever() {
        for budget in [0, 10, 300] {
            let (rows, progress) = (LargeRows::of(2 * budget), Progress::default());
            let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
            std::thread::scope(|scope| {
                for lane in 0..4_u64 {
                    let (rows, progress, now, most) = (&rows, &progress, &now, &most);
                    scope.spawn(move || {
                        let mut room = Room::new(rows);
                        for row in 0..200 {
                            // In two steps, as a packet of several frames is read.
                            let bytes = 1 + (lane * 31 + row * 17) % 150;
                            room.make(bytes / 2, progress, &mut || Ok(())).expect("half a row");
                            room.make(bytes, progress, &mut || Ok(())).expect("a row");
                            most.fetch_max(now.fetch_add(bytes, Ordering::SeqCst) + bytes, Ordering::SeqCst);
                            now.fetch_sub(bytes, Ordering::SeqCst);
                            room.give_back();
                        }
                    });
                }
            });
            assert!(most.into_inner() <= budget as u64 + 150);
            assert!(rows.state().held.is_empty());
        }
    }

    #[test]
    fn a_cancel_is_heard_by_one_that_waits_which_has_ended_its_statement() {
        let (rows, progress) = (LargeRows::of(60), Progress::default());
        let mut first = Room::new(&rows);
        first.make(1000, &progress, &mut || panic!("nothing to wait for")).expect("alone");
        let mut second = Room::new(&rows);
        let waited = second.make(5, &progress, &mut || {
            progress.cancel();
            Ok(())
        });
        assert!(waited.expect_err("cancelled").is_cancelled());
        drop(first);
        second.make(5, &progress, &mut || panic!("nothing to wait for")).expect("free");
    }

    #[test]
    fn more_than_there_is_waits_for_all_and_gets_it() {
        let memory = Memory::new(10);
        drop(memory.take(100));
        let held = memory.take(4);
        std::thread::scope(|scope| {
            let late = scope.spawn(|| drop(memory.take(7)));
            drop(held);
            late.join().expect("given back");
        });
        assert_eq!(*memory.free.lock().expect("unpoisoned"), 10);
    }
}
