//! The engine's errors as Python exceptions: the classes live in `datajoint_migrate.errors`.

use datajoint_migrate_core::error::Error;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The exception for an engine error; it carries the same code and hint.
pub fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    let build = || -> PyResult<PyErr> {
        let class = py.import("datajoint_migrate.errors")?.getattr(error.class())?;
        let fields = PyDict::new(py);
        fields.set_item("code", error.code())?;
        fields.set_item("hint", error.hint())?;
        if let Some(number) = error.server_code() {
            let context = PyDict::new(py);
            context.set_item("server_code", number)?;
            fields.set_item("context", context)?;
        }
        Ok(PyErr::from_value(class.call((error.to_string(),), Some(&fields))?))
    };
    build().unwrap_or_else(|failure| failure)
}
