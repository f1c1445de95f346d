//! One byte budget for all objects that are held in memory at a time.

use std::sync::{Condvar, Mutex, PoisonError};

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

#[cfg(test)]
mod tests {
    use super::*;

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
