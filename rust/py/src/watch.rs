//! Running a verb while Python looks on: the interpreter is released, events are handed over and Ctrl-C is heard on the
//! calling thread every tenth of a second.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use datajoint_migrate_core::error::{Kind, Result};
use datajoint_migrate_core::run::progress::Progress;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::errors::to_python;

const TICK: Duration = Duration::from_millis(100);

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
                let done = verb(plan, progress);
                // Wakes the watcher; it may have gone.
                let _ = sender.send(());
                done
            });
            let mut heard = Ok(());
            while receiver.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                if heard.is_ok() {
                    heard = Python::attach(|py| tell(py, on_event.as_ref(), name, progress));
                    if heard.is_err() {
                        progress.cancel();
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
    tell(py, on_event.as_ref(), name, &progress)?;
    Ok(pythonize::pythonize(py, &summary)?)
}

fn tell(py: Python<'_>, on_event: Option<&Py<PyAny>>, name: &str, progress: &Progress) -> PyResult<()> {
    py.check_signals()?;
    let Some(on_event) = on_event else { return Ok(()) };
    let event = pythonize::pythonize(py, &progress.seen())?;
    event.set_item("event", "progress")?;
    event.set_item("verb", name)?;
    on_event.call1(py, (event,)).map(drop)
}
