"""What a run, and the cutover after it, would be refused for: found by what refuses it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from datajoint_migrate.build.building import Family, plan_schema
from datajoint_migrate.call.ends import Ends
from datajoint_migrate.catalog.grants import Grants
from datajoint_migrate.catalog.neighbours import with_neighbours
from datajoint_migrate.catalog.tables import Schema, read_schemas, user_tables
from datajoint_migrate.errors import MigrationError
from datajoint_migrate.files.pointers import (
    Stores,
    check_places,
    external_columns,
    file_jobs,
    final_name,
    missing_files,
    prove_tracked,
    raise_missing,
)
from datajoint_migrate.results import SetupCheck
from datajoint_migrate.verbs.look.children import left_out

# Whose tables change their schema.
RENAMED = ("ALTER", "DROP", "CREATE", "INSERT")


def rehearse(
    ends: Ends,
    names: Mapping[str, str],
    stores: Stores,
    adapters: Mapping[str, str] | None,
    copy_files: bool,
) -> list[SetupCheck]:
    """A check a refusal: what the tables become and where their keys lead, then their files."""
    if not names:
        return []
    checks: list[SetupCheck] = []
    sources: dict[str, Schema] = {}
    with _refused(checks, "tables and keys"):
        sources = read_schemas(ends.source, names)
        around = with_neighbours(ends.source, sources.values())
        family = Family(ends.destination, around, names)
        for schema in sources.values():
            with _refused(checks, f"tables and keys of {schema.name}"):
                plan_schema(
                    ends,
                    schema,
                    family,
                    dict(names),
                    external="convert",
                    unsigned="keep",
                    adapters=adapters,
                    store_map=stores.names,
                )
                checks.append(
                    _check(f"tables and keys of {schema.name}", True, "all have their equal in 2.x")
                )
    if all(check["ok"] for check in checks):
        with _refused(checks, "files"):
            checks.append(_files(ends, sources, names, stores, adapters, copy_files))
    return checks


def _files(
    ends: Ends,
    sources: Mapping[str, Schema],
    names: Mapping[str, str],
    stores: Stores,
    adapters: Mapping[str, str] | None,
    copy_files: bool,
) -> SetupCheck:
    columns = [
        column
        for schema in sources.values()
        for table in user_tables(schema)
        for column in external_columns(
            ends,
            schema,
            table,
            final_name(schema.name, names[schema.name]),
            stores,
            copy_files,
            adapters,
        )
    ]
    prove_tracked(ends.source, columns)
    jobs = file_jobs(columns)
    check_places(jobs, stores, copy_files)
    raise_missing(missing_files(ends, jobs, stores, copy_files))
    return _check("files", True, "all that rows refer to are there" if jobs else "none are needed")


def before_cutover(ends: Ends, names: Mapping[str, str], grants: Grants) -> list[SetupCheck]:
    """What the cutover will ask for; a run does without it."""
    if not names:
        return []
    checks: list[SetupCheck] = []
    for child, parents in left_out(ends.source, names).items():
        checks.append(
            _check(
                f"cutover: {child}",
                True,
                f"refers to {', '.join(parents)} and is not migrated with them",
                f"add {child} to [schemas] before the run: its keys would follow production",
            )
        )
    if not ends.same_server:
        return checks
    wanted = ["PROCESS"] if not grants.has("PROCESS") else []
    if not ends.destination.is_mariadb and not grants.has("SELECT", "performance_schema"):
        wanted.append("SELECT on performance_schema.*")
    user = ends.destination.server.user
    checks.append(
        _check(
            "cutover: sessions of others",
            True,
            f"{user} lacks {' and '.join(wanted)}" if wanted else "can be seen",
            "; ".join(
                f"GRANT {one if ' on ' in one else one + ' ON *.*'} TO '{user}'" for one in wanted
            ).replace(" on ", " ON ")
            or None,
        )
    )
    lacking = {name: missing for name in names if (missing := grants.missing(RENAMED, name))}
    checks.append(
        _check(
            "cutover: names",
            True,
            f"{user} may not rename tables of {', '.join(lacking)}"
            if lacking
            else "tables may be renamed",
            "; ".join(
                f"GRANT {', '.join(missing)} ON `{name}`.* TO '{user}'"
                for name, missing in lacking.items()
            )
            or None,
        )
    )
    return checks


def _check(name: str, ok: bool, detail: str, hint: str | None = None) -> SetupCheck:
    return {"name": name, "ok": ok, "detail": detail, "hint": hint}


@contextmanager
def _refused(checks: list[Any], name: str) -> Iterator[None]:
    try:
        yield
    except MigrationError as error:
        checks.append(_check(name, False, error.message, error.hint))
