"""What a call has decided, for whoever reports on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from datajoint_migrate.build.building import Building
from datajoint_migrate.files.pointers import FileJob, Stores


def decided(
    buildings: Iterable[Building],
    schema_map: Mapping[str, str],
    files: Iterable[FileJob],
    stores: Stores,
    copy_files: bool,
    tolerance: float,
) -> dict[str, Any]:
    """Tables, columns and keys on both sides, and files: all in plain values."""
    buildings = list(buildings)
    tables = []
    for building in buildings:
        for declaration in building.declarations:
            source = building.source.tables[declaration.table]
            if source.hidden:
                continue
            tables.append(
                {
                    "source": str(source),
                    "destination": f"{building.dest}.{declaration.table}",
                    "class": source.class_name,
                    "tier": source.tier,
                    "comment": source.comment,
                    "rows": source.rows,
                    "bytes": source.data_bytes,
                    "columns": [
                        {
                            "name": column.name,
                            "before": _type(old.column_type, old.marker),
                            "after": _type(column.column_type, column.marker),
                            "comment": old.text,
                            "notes": list(column.notes),
                        }
                        for column in declaration.columns
                        for old in (source.column(column.name),)
                    ],
                    "refers_to": sorted(
                        {f"{key.ref_schema}.{key.ref_table}" for key in source.foreign_keys}
                        - {str(source)}
                    ),
                }
            )
    return {
        "schemas": dict(schema_map),
        "tolerance": tolerance,
        "tables": tables,
        "stores": [
            {
                "store": job.store,
                "kind": job.pointer["kind"],
                "written": job.writes(stores, copy_files),
                "seen": job.writes(stores, copy_files) or bool(job.readable(stores)),
                "columns": [f"{c['schema']}.{c['table']}.{c['column']}" for c in job.columns],
            }
            for job in files
        ],
        "notes": [note for building in buildings for note in building.notes],
    }


def _type(column_type: str, marker: str | None) -> str:
    return f"{column_type} <{marker.strip('<>')}>" if marker else column_type
