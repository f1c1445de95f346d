//! The list of session settings, for the sessions on the side of Python.

use datajoint_migrate_core::mysql::settings::{Role, Settings};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::to_python;

fn of(version: &str, role: &str) -> PyResult<Settings> {
    let role = Role::named(role).ok_or_else(|| PyValueError::new_err(format!("no role {role:?}")))?;
    Ok(Settings::of(version, role))
}

/// What a server said of its settings: one text for all, or name and value of those that it knows.
#[derive(FromPyObject)]
pub enum Said {
    All(String),
    Known(Vec<(String, Option<String>)>),
}

/// The statements that set a session, one or many, and that read back what it was set to, in one text or in many rows.
#[pyfunction]
pub fn session_settings<'py>(py: Python<'py>, version: &str, role: &str) -> PyResult<Bound<'py, PyDict>> {
    let settings = of(version, role)?;
    let said = PyDict::new(py);
    said.set_item("set", settings.set())?;
    said.set_item("set_each", settings.set_each())?;
    said.set_item("read", settings.read())?;
    said.set_item("read_known", settings.read_known())?;
    Ok(said)
}

/// The settings that are not as they should be, of those of which the server said something.
#[pyfunction]
pub fn unsettled<'py>(
    py: Python<'py>,
    version: &str,
    role: &str,
    server: &str,
    said: Said,
) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let settings = of(version, role)?;
    let said = match said {
        Said::All(line) => settings.told(&line).map_err(|error| to_python(py, &error))?,
        Said::Known(values) => settings.known(values),
    };
    let wrong = said.into_iter().filter(|(setting, said)| !setting.holds(said.as_deref()));
    wrong
        .map(|(setting, said)| {
            let one = PyDict::new(py);
            one.set_item("name", setting.name)?;
            one.set_item("wanted", setting.wanted())?;
            one.set_item("statement", setting.statement())?;
            one.set_item("refusal", setting.refusal(server, said.as_deref()))?;
            one.set_item("value", said)?;
            Ok(one)
        })
        .collect()
}
