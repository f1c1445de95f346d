//! `datajoint_migrate._core`: the engine's verbs for Python. One page: a function a verb, plain dicts in and out.

mod batches;
mod errors;
mod scan;
mod watch;

use pyo3::prelude::*;

#[pymodule]
mod _core {
    use datajoint_migrate_core::mysql::names;
    use datajoint_migrate_core::verbs;
    use pyo3::prelude::*;
    use pyo3::types::PyDict;

    use super::watch::watch;

    #[pymodule_export]
    use super::batches::{Batches, batches};
    #[pymodule_export]
    use super::scan::{BatchStream, scan};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        if cfg!(debug_assertions) {
            let warnings = module.py().import("warnings")?;
            let message =
                "datajoint_migrate._core is a debug build: correct, but an order of magnitude too slow";
            warnings.call_method1(
                "warn",
                (message, module.py().get_type::<pyo3::exceptions::PyRuntimeWarning>()),
            )?;
        }
        Ok(())
    }

    #[pyfunction]
    #[pyo3(signature = (*names))]
    fn quote(names: Vec<String>) -> String {
        names.iter().map(|name| names::quote(name)).collect::<Vec<_>>().join(".")
    }

    #[pyfunction]
    #[pyo3(signature = (plan, on_event=None))]
    fn copy<'py>(plan: &Bound<'py, PyDict>, on_event: Option<Py<PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "copy", verbs::copy::copy)
    }

    #[pyfunction]
    #[pyo3(signature = (plan, on_event=None))]
    fn compare<'py>(plan: &Bound<'py, PyDict>, on_event: Option<Py<PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "compare", verbs::compare::compare)
    }

    #[pyfunction]
    #[pyo3(signature = (plan, on_event=None))]
    fn pointers<'py>(plan: &Bound<'py, PyDict>, on_event: Option<Py<PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "pointers", verbs::pointers::pointers)
    }

    #[pyfunction]
    #[pyo3(signature = (plan, on_event=None))]
    fn files<'py>(plan: &Bound<'py, PyDict>, on_event: Option<Py<PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "files", verbs::files::files)
    }

    #[pyfunction]
    #[pyo3(signature = (plan, on_event=None))]
    fn copy_batches<'py>(
        plan: &Bound<'py, PyDict>,
        on_event: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "stores", verbs::batches::copy_batches)
    }

    #[pyfunction]
    #[pyo3(signature = (plan, on_event=None))]
    fn forget_batches<'py>(
        plan: &Bound<'py, PyDict>,
        on_event: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "stores", verbs::batches::forget)
    }

    #[pyfunction]
    #[pyo3(signature = (plan, on_event=None))]
    fn look<'py>(plan: &Bound<'py, PyDict>, on_event: Option<Py<PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "look", verbs::look::look)
    }

    #[pyfunction]
    #[pyo3(signature = (plan, on_event=None))]
    fn probe<'py>(plan: &Bound<'py, PyDict>, on_event: Option<Py<PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "probe", verbs::look::probe)
    }

    #[pyfunction]
    #[pyo3(signature = (plan, on_event=None))]
    fn orphans<'py>(plan: &Bound<'py, PyDict>, on_event: Option<Py<PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "orphans", verbs::orphans::orphans)
    }

    #[pyfunction]
    #[pyo3(signature = (plan, on_event=None))]
    fn lost<'py>(plan: &Bound<'py, PyDict>, on_event: Option<Py<PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "lost", verbs::lost::lost)
    }

    #[pyfunction]
    #[pyo3(signature = (plan, on_event=None))]
    fn backup<'py>(plan: &Bound<'py, PyDict>, on_event: Option<Py<PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "backup", verbs::backup::backup)
    }

    #[pyfunction]
    #[pyo3(signature = (plan, on_event=None))]
    fn restore<'py>(plan: &Bound<'py, PyDict>, on_event: Option<Py<PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "restore", verbs::restore::restore)
    }

    #[pyfunction]
    #[pyo3(signature = (plan, on_event=None))]
    fn check_archive<'py>(
        plan: &Bound<'py, PyDict>,
        on_event: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "check_archive", verbs::check::check)
    }

    #[pyfunction]
    #[pyo3(signature = (plan, on_event=None))]
    fn read_manifest<'py>(
        plan: &Bound<'py, PyDict>,
        on_event: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "read_manifest", verbs::check::read_manifest)
    }

    #[pyfunction]
    #[pyo3(signature = (plan, on_event=None))]
    fn archive_state<'py>(
        plan: &Bound<'py, PyDict>,
        on_event: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "archive_state", verbs::check::state)
    }

    #[pyfunction]
    #[pyo3(signature = (plan, on_event=None))]
    fn put_back<'py>(plan: &Bound<'py, PyDict>, on_event: Option<Py<PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "put_back", verbs::restore::objects::objects)
    }
}
