//! Lanes: threads that take jobs from one queue, each with connections of its own. The first error stops them all.

use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::{Error, Kind, Result};
use crate::lines::Lines;

/// Where the planner puts jobs. Refuses them once a lane has failed.
pub struct Queue<'a, J> {
    sender: Sender<J>,
    stop: &'a AtomicBool,
}

impl<J> Queue<'_, J> {
    /// Waits for a lane to have room. `Err(Cancelled)` means that a lane has failed and its error will be reported.
    pub fn put(&self, job: J) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) || self.sender.send(job).is_err() {
            return Err(Kind::Cancelled.into());
        }
        Ok(())
    }
}

/// Runs `plan` on this thread and every job it puts into the queue on one of the `lanes`.
///
/// The error reported is the first one that happened; a cancel is reported only if nothing else went wrong.
pub fn run<J: Send, L: Send>(
    lanes: &mut [L],
    plan: impl FnOnce(&Queue<'_, J>) -> Result<()>,
    work: impl Fn(&mut L, J) -> Result<()> + Sync,
) -> Result<()> {
    let (sender, receiver) = bounded(lanes.len());
    let stop = AtomicBool::new(false);
    let first = Mutex::new(None);
    let fail = |error: Error| {
        stop.store(true, Ordering::Relaxed);
        if let Ok(mut first) = first.lock() {
            match &*first {
                Some(before) if !Error::is_cancelled(before) => {}
                _ => *first = Some(error),
            }
        }
    };
    let of_run = Lines::current();
    std::thread::scope(|scope| {
        for lane in lanes.iter_mut() {
            let receiver = receiver.clone();
            let (stop, work, fail) = (&stop, &work, &fail);
            let of_run = of_run.clone();
            scope.spawn(move || {
                of_run.inspect(Lines::enter);
                drive(lane, &receiver, stop, work, fail);
            });
        }
        drop(receiver);
        let queue = Queue { sender, stop: &stop };
        if let Err(error) = plan(&queue) {
            fail(error);
        }
    });
    first.into_inner().ok().flatten().map_or(Ok(()), Err)
}

fn drive<J, L>(
    lane: &mut L,
    receiver: &Receiver<J>,
    stop: &AtomicBool,
    work: impl Fn(&mut L, J) -> Result<()>,
    fail: impl Fn(Error),
) {
    for job in receiver {
        if stop.load(Ordering::Relaxed) {
            continue;
        }
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| work(lane, job)));
        super::progress::leave();
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => fail(error),
            Err(panic) => {
                let message = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or(panic.downcast_ref::<&str>().copied());
                fail(Kind::Internal(message.unwrap_or("a lane panicked").to_owned()).into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn every_job_is_done_once() {
        let sum = AtomicU32::new(0);
        let plan = |queue: &Queue<'_, u32>| (1..=100).try_for_each(|job| queue.put(job));
        run(&mut [(), (), ()], plan, |(), job| {
            sum.fetch_add(job, Ordering::Relaxed);
            Ok(())
        })
        .expect("no lane fails");
        assert_eq!(sum.into_inner(), 5050);
    }

    #[test]
    fn the_first_error_stops_all_lanes_and_is_the_one_reported() {
        let plan = |queue: &Queue<'_, u32>| (0..1_000_000).try_for_each(|job| queue.put(job));
        let error =
            run(
                &mut [(), ()],
                plan,
                |(), job| if job == 7 { Err(Kind::Value("seven".into()).into()) } else { Ok(()) },
            );
        assert_eq!(error.expect_err("a lane failed").to_string(), "seven");
    }

    #[test]
    fn a_panic_in_a_lane_becomes_an_error() {
        let error = run(&mut [()], |queue: &Queue<'_, u32>| queue.put(1), |(), _| panic!("oh"));
        assert!(error.expect_err("the lane panicked").to_string().contains("oh"));
    }
}
