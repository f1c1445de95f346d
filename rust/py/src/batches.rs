//! The batches of a copy of files, for a Python loop.

use std::sync::Mutex;
use std::time::Duration;

use datajoint_migrate_core::error::Kind;
use datajoint_migrate_core::verbs::batches::{self as verb, Taken};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::to_python;

const TICK: Duration = Duration::from_millis(100);

/// Batches as dicts, made while they are taken.
#[pyclass(frozen)]
pub struct Batches(Mutex<verb::Batches>);

#[pymethods]
impl Batches {
    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        loop {
            match py.detach(|| self.0.lock().map_or(Taken::End, |batches| batches.take(TICK))) {
                Taken::Batch(batch) => return Ok(Some(pythonize::pythonize(py, &batch)?)),
                Taken::Failed(error) => return Err(to_python(py, &error)),
                Taken::NotYet => py.check_signals()?,
                Taken::End => return Ok(None),
            }
        }
    }
}

#[pyfunction]
pub fn batches(plan: &Bound<'_, PyDict>) -> PyResult<Batches> {
    let py = plan.py();
    let plan =
        pythonize::depythonize(plan).map_err(|error| to_python(py, &Kind::Plan(error.to_string()).into()))?;
    Ok(Batches(Mutex::new(verb::batches(plan))))
}
