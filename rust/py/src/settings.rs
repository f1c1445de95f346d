//! The list of session settings, for the sessions on the side of Python.

use datajoint_migrate_core::mysql::settings::{Role, Settings};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

fn of(version: &str, role: &str) -> PyResult<Settings> {
    let role = Role::named(role).ok_or_else(|| PyValueError::new_err(format!("no role {role:?}")))?;
    Ok(Settings::of(version, role))
}

/// The statements that set a session, one or many, and that read back what it was set to, in one row or in many.
#[pyfunction]
pub fn session_settings<'py>(py: Python<'py>, version: &str, role: &str) -> PyResult<Bound<'py, PyDict>> {
    let settings = of(version, role)?;
    let said = PyDict::new(py);
    said.set_item("set", settings.set())?;
    said.set_item("set_each", settings.set_each())?;
    said.set_item("read", settings.read())?;
    said.set_item("read_known", settings.read_known())?;
    said.set_item("names", settings.all.iter().map(|setting| setting.name).collect::<Vec<_>>())?;
    Ok(said)
}

/// The settings that are not as they should be, of those whose value is given.
#[pyfunction]
pub fn unsettled<'py>(
    py: Python<'py>,
    version: &str,
    role: &str,
    server: &str,
    values: Vec<(String, Option<String>)>,
) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let settings = of(version, role)?;
    let wrong = settings.known(values).into_iter().filter(|(setting, said)| !setting.holds(said.as_deref()));
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
