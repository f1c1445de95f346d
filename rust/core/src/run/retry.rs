//! What is tried again, and for how long.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use super::progress::Progress;
use crate::error::Result;

/// How long what may go away by itself is waited for, unless the run was told otherwise: a server restarts within it.
const PATIENCE: Duration = Duration::from_secs(120);
/// The same while production keeps old versions of its rows for a snapshot of this run.
const PATIENCE_WITH_SNAPSHOT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Tries `attempt` again while its error may go away by itself, with pauses that grow, for two minutes;
/// for ten seconds while the run holds a snapshot.
///
/// The time counts from the first failure: how long an attempt takes that succeeds says nothing. Pauses differ, so that lanes
/// that lost their server together do not come back together.
pub fn retry<T>(progress: &Progress, attempt: impl FnMut() -> Result<T>) -> Result<T> {
    retry_for(patience(progress), progress, &Now, attempt)
}

fn patience(progress: &Progress) -> Duration {
    let patience = progress.patience().unwrap_or(PATIENCE);
    if progress.has_snapshot() { patience.min(PATIENCE_WITH_SNAPSHOT) } else { patience }
}

/// What time it is, and pauses in it.
trait Clock {
    fn now(&self) -> Instant;
    fn pause(&self, progress: &Progress, pause: Duration) -> Result<()>;
}

struct Now;

impl Clock for Now {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn pause(&self, progress: &Progress, pause: Duration) -> Result<()> {
        progress.sleep(pause)
    }
}

fn retry_for<T>(
    patience: Duration,
    progress: &Progress,
    clock: &impl Clock,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut pause = FIRST_PAUSE;
    let mut failing = None;
    loop {
        progress.check()?;
        let begun = clock.now();
        match attempt() {
            Err(error) if error.is_transient() => {
                // What failed after it had worked for long is a new failure; a wait for a lock is no work.
                let has_worked =
                    clock.now() - begun > PATIENCE.max(patience) && error.server_code() != Some(1205);
                let since = match failing {
                    Some(since) if !has_worked => since,
                    _ => {
                        pause = FIRST_PAUSE;
                        clock.now()
                    }
                };
                failing = Some(since);
                let rest = patience.saturating_sub(clock.now() - since);
                if rest.is_zero() {
                    return Err(error);
                }
                progress.retried();
                clock.pause(progress, jittered(pause).min(rest))?;
                pause = (pause * 2).min(MAX_PAUSE);
            }
            done => return done,
        }
    }
}

/// Between half of `pause` and all of it.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() as u32;
    pause / 2 + (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::error::{Error, Kind};

    #[test]
    fn what_may_go_away_is_tried_again_and_what_may_not_is_not() {
        let tries = AtomicU32::new(0);
        let progress = Progress::default();
        let deadlock = || Kind::Server { code: 1213, state: String::new(), message: String::new() };
        let done = retry(&progress, || {
            if tries.fetch_add(1, Ordering::Relaxed) < 2 { Err(deadlock().into()) } else { Ok(()) }
        });
        assert!(done.is_ok());
        assert_eq!(tries.into_inner(), 3);
        let tries = AtomicU32::new(0);
        let done: Result<()> = retry(&progress, || {
            tries.fetch_add(1, Ordering::Relaxed);
            Err(Kind::Value("no".into()).into())
        });
        assert!(done.is_err());
        assert_eq!(tries.into_inner(), 1);
    }

    #[test]
    fn a_limit_of_the_hour_is_not_waited_for() {
        let said = "User 'a' has exceeded the 'max_questions' resource (current value: 2)";
        let tries = AtomicU32::new(0);
        let done: Result<()> = retry(&Progress::default(), || {
            tries.fetch_add(1, Ordering::Relaxed);
            Err(Kind::Server { code: 1226, state: String::new(), message: said.into() }.into())
        });
        assert_eq!((done.expect_err("used up").server_code(), tries.into_inner()), (Some(1226), 1));
    }

    #[test]
    fn a_server_without_room_is_tried_again_by_time_and_a_cancel_is_heard_in_a_pause() {
        for code in [1040, 1203, 1226] {
            let full =
                move || Kind::Server { code, state: String::new(), message: "'max_user_connections'".into() };
            let (tries, clock, patience) = (AtomicU32::new(0), Sped::new(), Duration::from_millis(500));
            let done: Result<()> = retry_for(patience, &Progress::default(), &clock, || {
                tries.fetch_add(1, Ordering::Relaxed);
                Err(full().into())
            });
            assert_eq!(done.expect_err("it stays full").server_code(), Some(code));
            assert_eq!(clock.now() - clock.began, patience);
            assert!(tries.into_inner() > 2);
        }
        let progress = Progress::default();
        let tries = AtomicU32::new(0);
        let done: Result<()> = retry(&progress, || {
            tries.fetch_add(1, Ordering::Relaxed);
            progress.cancel();
            Err(Kind::Lost { server: String::new(), message: String::new() }.into())
        });
        assert!(done.expect_err("cancelled").is_cancelled());
        assert_eq!(tries.into_inner(), 1);
    }

    /// A clock that only pauses move on; each is noted.
    struct Sped {
        began: Instant,
        pauses: RefCell<Vec<Duration>>,
    }

    impl Sped {
        fn new() -> Self {
            Self { began: Instant::now(), pauses: RefCell::default() }
        }
    }

    impl Clock for Sped {
        fn now(&self) -> Instant {
            self.began + self.pauses.borrow().iter().sum::<Duration>()
        }

        fn pause(&self, progress: &Progress, pause: Duration) -> Result<()> {
            self.pauses.borrow_mut().push(pause);
            progress.check()
        }
    }

    fn lost() -> Error {
        Kind::Lost { server: String::new(), message: String::new() }.into()
    }

    #[test]
    fn a_lost_line_is_tried_again_for_two_minutes_and_for_ten_seconds_beside_a_snapshot() {
        for (holds, seconds, tries) in [(false, 120, 15..40), (true, 10, 5..14)] {
            let (progress, clock, count) = (Progress::default(), Sped::new(), AtomicU32::new(0));
            if holds {
                progress.hold_snapshot();
            }
            let done: Result<()> = retry_for(patience(&progress), &progress, &clock, || {
                count.fetch_add(1, Ordering::Relaxed);
                Err(lost())
            });
            assert!(matches!(done.expect_err("it stays away").kind(), Kind::Lost { .. }));
            assert_eq!(clock.now() - clock.began, Duration::from_secs(seconds));
            assert!(tries.contains(&count.into_inner()));
            assert!(clock.pauses.borrow().iter().all(|pause| *pause <= MAX_PAUSE));
            assert!(clock.pauses.borrow()[0] <= FIRST_PAUSE);
        }
    }

    #[test]
    fn a_server_that_is_back_after_most_of_that_time_costs_nothing_and_a_cancel_is_heard_in_it() {
        let (progress, clock) = (Progress::default(), Sped::new());
        let back = clock.began + Duration::from_secs(105);
        let done = retry_for(patience(&progress), &progress, &clock, || {
            if clock.now() < back { Err(lost()) } else { Ok(()) }
        });
        assert!(done.is_ok());
        let (clock, half) = (Sped::new(), Duration::from_secs(60));
        let done: Result<()> = retry_for(patience(&progress), &progress, &clock, || {
            if clock.now() - clock.began > half {
                progress.cancel();
            }
            Err(lost())
        });
        assert!(done.expect_err("cancelled").is_cancelled());
        assert!(clock.now() - clock.began < half + 2 * MAX_PAUSE);
    }

    #[test]
    fn a_run_that_was_told_how_long_waits_no_longer() {
        for holds in [false, true] {
            let (progress, begun) = (Progress::default(), Instant::now());
            progress.wait_for(Duration::from_millis(300));
            if holds {
                progress.hold_snapshot();
            }
            let done: Result<()> =
                retry(&progress, || Err(Kind::Lost { server: String::new(), message: String::new() }.into()));
            assert!(done.is_err());
            assert!(
                begun.elapsed() >= Duration::from_millis(300) && begun.elapsed() < PATIENCE_WITH_SNAPSHOT
            );
        }
    }

    #[test]
    fn a_lock_that_is_waited_for_longer_than_patience_lasts_ends_it_too() {
        let tries = AtomicU32::new(0);
        let locked = || Kind::Server { code: 1205, state: String::new(), message: String::new() };
        let (patience, clock) = (Duration::from_secs(1), Sped::new());
        let done: Result<()> = retry_for(patience, &Progress::default(), &clock, || {
            tries.fetch_add(1, Ordering::Relaxed);
            clock.pauses.borrow_mut().push(patience * 2);
            Err(locked().into())
        });
        assert_eq!(done.expect_err("it stays locked").server_code(), Some(1205));
        assert_eq!(tries.into_inner(), 2);
    }

    #[test]
    fn pauses_differ_and_are_never_longer_than_asked_for() {
        let pauses: std::collections::HashSet<_> = (0..20).map(|_| jittered(MAX_PAUSE)).collect();
        assert!(pauses.len() > 10);
        assert!(pauses.iter().all(|pause| *pause >= MAX_PAUSE / 2 && *pause <= MAX_PAUSE));
    }
}
