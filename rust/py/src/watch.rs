//! Running a verb while Python looks on: the interpreter is released, events are handed over and Ctrl-C is heard on the
//! calling thread every tenth of a second.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use datajoint_migrate_core::error::{Kind, Result};
use datajoint_migrate_core::run::progress::Progress;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::errors::to_python;

const TICK: Duration = Duration::from_millis(100);
/// What a lane may take to come to its next batch before what it waits for is ended.
const GRACE: Duration = Duration::from_secs(1);

/// Reads `plan`, runs `verb` on a thread of its own and returns its summary as a dict.
pub fn watch<'py, P, S>(
    plan: &Bound<'py, PyDict>,
    on_event: Option<Py<PyAny>>,
    name: &'static str,
    verb: impl FnOnce(&P, &Progress) -> Result<S> + Send,
) -> PyResult<Bound<'py, PyAny>>
where
    P: DeserializeOwned + Send + Sync,
    S: Serialize + Send,
{
    let py = plan.py();
    let plan: P =
        pythonize::depythonize(plan).map_err(|error| to_python(py, &Kind::Plan(error.to_string()).into()))?;
    let progress = Progress::default();
    let (summary, heard) = py.detach(|| {
        std::thread::scope(|scope| {
            let (sender, receiver) = channel();
            let (plan, progress) = (&plan, &progress);
            let worker = scope.spawn(move || {
                progress.enter();
                let done = verb(plan, progress);
                // Wakes the watcher; it may have gone.
                let _ = sender.send(());
                done
            });
            let mut heard = Ok(());
            let mut stopped: Option<Instant> = None;
            while receiver.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                match stopped {
                    None => {
                        heard = Python::attach(|py| tell(py, on_event.as_ref(), name, progress, false));
                        if heard.is_err() {
                            progress.cancel();
                            stopped = Some(Instant::now());
                        }
                    }
                    Some(since) => {
                        if since.elapsed() >= GRACE {
                            progress.interrupt();
                        }
                        if since.elapsed() >= 2 * GRACE {
                            progress.hang_up();
                        }
                    }
                }
            }
            let summary =
                worker.join().unwrap_or_else(|_| Err(Kind::Internal(format!("{name} panicked")).into()));
            (summary, heard)
        })
    });
    // What Python raised (Ctrl-C, or the observer's own error) is the reason the verb stopped.
    heard?;
    let summary = summary.map_err(|error| to_python(py, &error))?;
    tell(py, on_event.as_ref(), name, &progress, true)?;
    Ok(pythonize::pythonize(py, &summary)?)
}

fn tell(
    py: Python<'_>,
    on_event: Option<&Py<PyAny>>,
    name: &str,
    progress: &Progress,
    finished: bool,
) -> PyResult<()> {
    py.check_signals()?;
    let Some(on_event) = on_event else { return Ok(()) };
    let event = pythonize::pythonize(py, &progress.seen())?;
    event.set_item("event", "progress")?;
    event.set_item("verb", name)?;
    if finished {
        event.set_item("finished", true)?;
    }
    on_event.call1(py, (event,)).map(drop)
}
