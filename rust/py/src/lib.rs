//! `datajoint_migrate._core`: the engine's verbs for Python. One page: a function a verb, plain dicts in and out.

mod batches;
mod errors;
mod scan;
mod settings;
mod watch;

use pyo3::prelude::*;

#[pymodule]
mod _core {
    use datajoint_migrate_core::convert::blob::{self, Fault, Kind::Damaged};
    use datajoint_migrate_core::error::Kind;
    use datajoint_migrate_core::mysql::settings::{FREE, REFUSAL_HINT};
    use datajoint_migrate_core::mysql::{self, Server, names, numbers};
    use datajoint_migrate_core::verbs;
    use pyo3::prelude::*;
    use pyo3::types::PyDict;

    use super::errors::to_python;
    use super::watch::watch;

    #[pymodule_export]
    use super::batches::{Batches, batches};
    #[pymodule_export]
    use super::scan::{BatchStream, scan};
    #[pymodule_export]
    use super::settings::{session_settings, unsettled};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("FREE", FREE)?;
        module.add("REFUSAL_HINT", REFUSAL_HINT)?;
        module.add("LOGIN_REFUSED", numbers::LOGIN_REFUSED)?;
        module.add("UNREACHABLE", numbers::UNREACHABLE)?;
        module.add("DENIED", numbers::DENIED)?;
        Ok(())
    }

    #[pyfunction]
    #[pyo3(signature = (*names))]
    fn quote(names: Vec<String>) -> String {
        names.iter().map(|name| names::quote(name)).collect::<Vec<_>>().join(".")
    }

    /// The rule of whom a password is given to, for the sessions on the other side.
    #[pyfunction]
    fn password_for(
        server: &Bound<'_, PyDict>,
        plugin: &str,
        encrypted: bool,
        nonce: &[u8],
        key: Option<Vec<u8>>,
    ) -> PyResult<Option<Vec<u8>>> {
        let py = server.py();
        let server: Server = pythonize::depythonize(server)
            .map_err(|error| to_python(py, &Kind::Plan(error.to_string()).into()))?;
        server.password_for(plugin, encrypted, nonce, key.as_deref()).map_err(|error| to_python(py, &error))
    }

    /// What a packed value is, by its head: the word for its kind, its dtype and its shape.
    #[pyfunction]
    #[pyo3(signature = (head, length=None))]
    fn unpack_header(
        head: &[u8],
        length: Option<u64>,
    ) -> (&'static str, Option<&'static str>, Option<Vec<u64>>) {
        match blob::header(head, length.unwrap_or(head.len() as u64)) {
            Ok(header) => {
                let shape = header.axes().map(<[u64]>::to_vec);
                (header.kind.word(), header.dtype.map(|dtype| dtype.name), shape)
            }
            Err(Fault::Bad(kind, _)) => (kind.word(), None, None),
            Err(Fault::Io(_)) => (Damaged.word(), None, None),
        }
    }

    /// Heads of values and their lengths, counted as `heads` does.
    #[pyfunction]
    fn count_heads(py: Python<'_>, values: Vec<Option<(Vec<u8>, u64)>>) -> PyResult<Bound<'_, PyAny>> {
        let mut tally = verbs::heads::Tally::default();
        for value in &values {
            tally.add(value.as_ref().map(|(head, length)| (head.as_slice(), *length)));
        }
        Ok(pythonize::pythonize(py, &tally.told())?)
    }

    /// What an operator can do about an error of a server, where that is known.
    #[pyfunction]
    #[pyo3(signature = (number, message=""))]
    fn hint_for(number: u16, message: &str) -> Option<&'static str> {
        numbers::hint(number, message)
    }

    /// The judge of silences, for the sessions on the other side.
    #[pyfunction]
    fn why_broken(server: &Bound<'_, PyDict>, session: u32) -> PyResult<Option<String>> {
        let py = server.py();
        let server: Server = pythonize::depythonize(server)
            .map_err(|error| to_python(py, &Kind::Plan(error.to_string()).into()))?;
        Ok(py.detach(|| mysql::why_broken(&server, session)))
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

    /// `files` is called with what the rows that are about to be put point to.
    #[pyfunction]
    #[pyo3(signature = (plan, files, on_event=None))]
    fn sync<'py>(
        plan: &Bound<'py, PyDict>,
        files: Py<PyAny>,
        on_event: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let raised = std::sync::Mutex::new(None);
        let done = watch(plan, on_event, "sync", |plan, progress| {
            verbs::sync::sync(plan, progress, |pointed| {
                let told =
                    Python::attach(|py| files.call1(py, (pythonize::pythonize(py, &pointed)?,)).map(drop));
                told.map_err(|error| {
                    if let Ok(mut raised) = raised.lock() {
                        *raised = Some(error);
                    }
                    Kind::Cancelled.into()
                })
            })
        });
        // What Python raised is the reason why the verb stopped.
        match raised.into_inner().ok().flatten() {
            Some(error) => Err(error),
            None => done,
        }
    }

    #[pyfunction]
    #[pyo3(signature = (plan, on_event=None))]
    fn written<'py>(plan: &Bound<'py, PyDict>, on_event: Option<Py<PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "written", verbs::sync::written::written)
    }

    #[pyfunction]
    #[pyo3(signature = (plan, on_event=None))]
    fn bring_back<'py>(
        plan: &Bound<'py, PyDict>,
        on_event: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "bring_back", verbs::bring_back::bring_back)
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
    fn promote<'py>(plan: &Bound<'py, PyDict>, on_event: Option<Py<PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "promote", verbs::promote::promote)
    }

    #[pyfunction]
    #[pyo3(signature = (plan, on_event=None))]
    fn heads<'py>(plan: &Bound<'py, PyDict>, on_event: Option<Py<PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "heads", verbs::heads::heads)
    }

    #[pyfunction]
    #[pyo3(signature = (plan, on_event=None))]
    fn proofs<'py>(plan: &Bound<'py, PyDict>, on_event: Option<Py<PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "proofs", verbs::proofs::proofs)
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

    #[pyfunction]
    #[pyo3(signature = (plan, on_event=None))]
    fn log_position<'py>(
        plan: &Bound<'py, PyDict>,
        on_event: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "log_position", verbs::changed::log_position)
    }

    #[pyfunction]
    #[pyo3(signature = (plan, on_event=None))]
    fn changed_keys<'py>(
        plan: &Bound<'py, PyDict>,
        on_event: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        watch(plan, on_event, "changed_keys", verbs::changed::changed_keys)
    }
}
