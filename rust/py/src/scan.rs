//! A table as an Arrow stream: any Arrow library takes it through the C stream interface.

use std::sync::Mutex;

use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::{ArrowError, SchemaRef};
use datajoint_migrate_core::error::Kind;
use datajoint_migrate_core::verbs::scan::{ScanPlan, Stream, scan as scan_table};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};

use crate::errors::to_python;

struct Reader(Stream);

impl Iterator for Reader {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map_err(|error| ArrowError::ExternalError(Box::new(error))))
    }
}

impl RecordBatchReader for Reader {
    fn schema(&self) -> SchemaRef {
        self.0.schema.clone()
    }
}

/// The batches of a table; can be read once.
#[pyclass(frozen)]
pub struct BatchStream(Mutex<Option<Reader>>);

#[pymethods]
impl BatchStream {
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyCapsule>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let reader = self.0.lock().ok().and_then(|mut reader| reader.take());
        let reader = reader.ok_or_else(|| {
            to_python(py, &Kind::Plan("this stream was read already: scan again".into()).into())
        })?;
        // The protocol lets a producer ignore the schema asked for; the consumer then casts.
        drop(requested_schema);
        PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(reader)), c"arrow_array_stream")
    }
}

#[pyfunction]
pub fn scan(plan: &Bound<'_, PyDict>) -> PyResult<BatchStream> {
    let py = plan.py();
    let plan: ScanPlan =
        pythonize::depythonize(plan).map_err(|error| to_python(py, &Kind::Plan(error.to_string()).into()))?;
    let stream = py.detach(|| scan_table(plan)).map_err(|error| to_python(py, &error))?;
    Ok(BatchStream(Mutex::new(Some(Reader(stream)))))
}
