"""A stream of rows as a Parquet or CSV file."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from datajoint_migrate.errors import InvalidArgument


def written(stream: Any, to: Path) -> dict[str, Any]:
    """Write a stream into a new file; returns `file` and `rows`.

    CSV knows text only: bytes become hexadecimal digits, `0x00ff`, which MySQL reads as bytes.
    """
    try:
        import pyarrow
        from pyarrow import csv, parquet
    except ModuleNotFoundError:
        raise InvalidArgument(
            "pyarrow writes these files, and is not installed",
            hint="pip install 'datajoint-migrate[arrow]'",
        ) from None
    writers = {".parquet": parquet.ParquetWriter, ".csv": csv.CSVWriter}
    if to.suffix not in writers:
        raise InvalidArgument(
            f"{to} is neither .parquet nor .csv", hint="choose the format by the file's ending"
        )
    reader = pyarrow.RecordBatchReader.from_stream(stream)
    schema = _as_text(pyarrow, reader.schema) if to.suffix == ".csv" else reader.schema
    rows = 0
    try:
        with to.open("xb") as file, writers[to.suffix](file, schema) as writer:
            for batch in reader:
                writer.write_batch(batch if schema is reader.schema else _texts(pyarrow, batch))
                rows += batch.num_rows
    except FileExistsError:
        raise InvalidArgument(f"{to} is there already", hint="write to another file") from None
    except BaseException as error:
        if isinstance(error, OSError):
            with suppress(OSError):
                to.unlink(missing_ok=True)
            why = os.strerror(error.errno) if error.errno else str(error)
            raise InvalidArgument(f"{to} cannot be written: {why}") from None
        to.unlink(missing_ok=True)
        raise
    return {"file": str(to), "rows": rows}


def _is_bytes(pyarrow: Any, kind: Any) -> bool:
    types = pyarrow.types
    return bool(
        types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    )


def _as_text(pyarrow: Any, schema: Any) -> Any:
    """The schema of the file, with text where the table has bytes."""
    fields = [
        pyarrow.field(field.name, pyarrow.large_string(), field.nullable)
        if _is_bytes(pyarrow, field.type)
        else field
        for field in schema
    ]
    return pyarrow.schema(fields)


def _texts(pyarrow: Any, batch: Any) -> Any:
    columns = [
        pyarrow.array(
            [None if one is None else f"0x{one.hex()}" for one in column.to_pylist()],
            pyarrow.large_string(),
        )
        if _is_bytes(pyarrow, column.type)
        else column
        for column in batch.columns
    ]
    return pyarrow.RecordBatch.from_arrays(columns, schema=_as_text(pyarrow, batch.schema))
