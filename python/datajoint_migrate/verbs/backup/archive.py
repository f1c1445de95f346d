"""A schema in an archive, a manifest and Parquet files in a folder or a bucket, and back."""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, cast, get_args
from urllib.parse import urlsplit

from datajoint_migrate import _core
from datajoint_migrate.call.connections import check_reading
from datajoint_migrate.call.journal import started
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.call.throttle import FREE, Throttle
from datajoint_migrate.catalog.externals import TRACKING, stores_tracked
from datajoint_migrate.catalog.leftovers import left_by_sync
from datajoint_migrate.catalog.names import JOURNAL, POSTPONED, SYNC
from datajoint_migrate.catalog.presence import has_rows, schema_exists
from datajoint_migrate.catalog.programs import Kind, Program, read_programs
from datajoint_migrate.catalog.server import Server
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.stores import Store, get_store
from datajoint_migrate.catalog.stores import source_stores as stores_of
from datajoint_migrate.catalog.tables import Column, Schema, Table, read_schema
from datajoint_migrate.catalog.unseen import Unseen, refuse_unseen
from datajoint_migrate.errors import ArchiveFailed, DestinationNotEmpty, InvalidArgument, NotFound
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.results import CheckBackupResult
from datajoint_migrate.rows.plan import key_index

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
MANIFEST = "manifest.json"
# How systems say that nothing more can be written.
FULL = re.compile(r"No space left|quota exceeded|File too large", re.IGNORECASE)
AMAZON = "https://s3.amazonaws.com"


@dataclass(frozen=True)
class Place:
    """Where an archive lies, for people and for the engine; `spec` may hold secrets."""

    shown: str
    spec: str | dict[str, Any] = field(repr=False)

    def __str__(self) -> str:
        return self.shown


@dataclass(frozen=True)
class ArchivedTable:
    """One table as it was: `create` is what SHOW CREATE TABLE said."""

    name: str
    create: str = field(repr=False)
    columns: tuple[Column, ...] = field(repr=False)
    primary_key: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class Archived:
    """What an archive holds, as its checked manifest says."""

    place: Place
    schema: str
    charset: str
    collation: str
    tables: dict[str, ArchivedTable]
    programs: list[Program]
    snapshot: dict[str, Any]
    server_version: str
    rows: int
    bytes: int
    # The stores whose objects it holds.
    stores: tuple[str, ...]

    @property
    def location(self) -> str:
        """The folder, or the URL."""
        return self.place.shown


def is_archive(name: Any) -> bool:
    """Whether a backup's name means an archive (a path with a separator, a URL), not a schema."""
    if isinstance(name, os.PathLike):
        return True
    text = str(name)
    separators = {"/", os.sep, os.altsep} - {None}
    return bool(URL.match(text)) or any(str(mark) in text for mark in separators)


def place_of(location: Any) -> Place:
    """Where an archive is: a folder, or `s3://bucket/prefix`.

    A bucket's service is that of AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, else Amazon's; keys come
    from the environment, the profile or the machine's role. Raises `InvalidArgument` for other
    URLs.
    """
    text = os.fspath(location) if isinstance(location, os.PathLike) else str(location)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    url = urlsplit(text) if URL.match(text) else None
    if url is None:
        folder = str(Path(text).expanduser().absolute())
        return Place(folder, folder)
    prefix = url.path.strip("/")
    if url.scheme != "s3" or not url.netloc or not prefix or "@" in url.netloc:
        raise InvalidArgument(
            f"an archive cannot be read or written at {url.scheme}://{url.hostname or ''}",
            hint="name a folder, or a place in a bucket: s3://bucket/prefix. The service is that "
            "of AWS_ENDPOINT_URL, keys come from the environment, the profile or the role",
        )
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    store = Store(
        name="archive",
        protocol="s3",
        location=prefix,
        raw={"endpoint": endpoint or AMAZON, "bucket": url.netloc},
        secure=True,
    )
    return Place(f"s3://{url.netloc}/{prefix}", store.spec())


def write_archive(
    server: Server,
    schema: str,
    location: Any,
    *,
    with_files: bool = False,
    source_stores: Mapping[str, Any] | None = None,
    unseen: Unseen = "refuse",
    lanes: int = LIMITS.lanes,
    throttle: Throttle = FREE,
    on_event: OnEvent = None,
) -> dict[str, Any]:
    """Write all tables of a schema, hidden ones included, to a new archive, as of one instant.

    `with_files` copies the objects of the schema's external stores (folders only) that rows refer
    to, to `files/<store>/`, under their own paths. A call that was interrupted is resumed by the
    same call: files that still hold what the tables hold are kept, the others written again, so
    all of the archive is of one instant.

    Returns `tables_backed_up`, `rows_backed_up`, `backup_location`, `bytes` (of the chunk files),
    `files_backed_up`, `snapshot` (kind, time, position in the binary log), `tables` (rows by
    name), `time_taken`.

    Raises `NotFound`, `DestinationNotEmpty` when the place holds anything but an unfinished
    archive, `StoreMissing`, `ExternalMissing` and `ArchiveFailed`.
    """
    began = time.monotonic()
    place = place_of(location)
    refuse_used(place)
    with server.session(read_only=True) as session:
        found = read_schema(session, schema)
        refuse_left(session, found)
        programs = read_programs(session, schema)
        notes = refuse_unseen(session, [(schema, programs)], unseen)
        check_reading(session, lanes)
    plan = backup_plan(server, found, place, lanes, programs)
    plan["throttle"] = throttle.spec()
    if with_files:
        plan["stores"] = _stores(found, stores_of(source_stores))
    with named(place):
        summary = _core.backup(plan, on_event)
    return {
        "notes": notes,
        "tables_backed_up": len(summary["tables"]),
        "rows_backed_up": summary["rows"],
        "backup_location": place.shown,
        "bytes": summary["bytes"],
        "files_backed_up": summary["files"],
        "snapshot": summary["snapshot"],
        "tables": summary["tables"],
        "time_taken": time.monotonic() - began,
    }


def refuse_left(session: Session, schema: Schema) -> None:
    """Raises `InvalidArgument` for a copy whose last sync was interrupted."""
    if SYNC in schema.tables:
        for said in left_by_sync(session, [schema]).values():
            raise InvalidArgument(said, context={"schema": schema.name})


@contextmanager
def named(place: Place) -> Iterator[None]:
    """What fails within an archive is told with the archive, and a full disk with the way out."""
    try:
        yield
    except ArchiveFailed as error:
        if place.shown not in error.message:
            error.message = f"{place.shown}: {error.message}"
        if FULL.search(error.message):
            error.hint = "make room there, then start the same call again: what is written counts"
        raise


def refuse_used(place: Place) -> None:
    """Raises `DestinationNotEmpty` unless an archive can be begun or continued there."""
    what = {"archive": "a finished archive", "other": "something that is no archive"}
    with named(place):
        holds = _core.archive_state({"archive": place.spec})
    if holds in what:
        raise DestinationNotEmpty(
            f"{place} already holds {what[holds]}",
            hint="name a place that is empty or does not exist",
        )


def backup_plan(
    server: Server, schema: Schema, place: Place, lanes: int, programs: Iterable[Program] = ()
) -> dict[str, Any]:
    """The engine's plan: plain values, readable before anything happens."""
    passing = (JOURNAL, POSTPONED)
    tables = [table for table in schema.tables.values() if table.name not in passing]
    return {
        "source": server.spec(),
        "archive": place.spec,
        "tool": f"datajoint-migrate {_core.__version__}",
        "schema": schema.name,
        "charset": schema.charset,
        "collation": schema.collation,
        "lanes": lanes,
        "chunk_bytes": LIMITS.chunk_bytes,
        "memory_bytes": LIMITS.memory_bytes,
        "tables": [_planned(table) for table in tables],
        "programs": [_as_kept(program) for program in programs],
        "stores": [],
    }


def _as_kept(program: Program) -> dict[str, Any]:
    """A program as archives have it: rights on routines are those of one server's accounts."""
    kept = asdict(program)
    del kept["rights"], kept["database_collation"]
    return kept


def _planned(table: Table) -> dict[str, Any]:
    return {
        "name": table.name,
        "create": table.create,
        "columns": [asdict(column) for column in table.columns],
        "primary_key": list(table.primary_key),
        "key": list(table.walk_key),
        "index": key_index(table),
        "rows": table.rows,
        "data_bytes": table.data_bytes,
    }


def _stores(schema: Schema, stores: Mapping[str, Store]) -> list[dict[str, Any]]:
    """The stores whose objects rows of the schema refer to, as the engine wants them."""
    reads: dict[str, list[dict[str, str]]] = defaultdict(list)
    for table in schema.tables.values():
        for key in table.foreign_keys:
            if key.ref_table.startswith(TRACKING) and key.ref_schema == schema.name:
                column = {"schema": schema.name, "table": table.name, "column": key.columns[0]}
                reads[key.ref_table].append(column)
    found = []
    names = {table: store for store, table in stores_tracked(schema).items()}
    for tracking, columns in sorted(reads.items()):
        store = get_store(stores, names[tracking], "source")
        if store.protocol != "file":
            raise InvalidArgument(
                f"the files of the {store.protocol} store {store.name!r} cannot be backed up",
                hint="with_files=True works for stores of protocol 'file'; buckets have versions",
            )
        found.append(
            {
                "store": store.name,
                "location": store.location,
                "tracking_table": tracking,
                "subfolding": list(store.subfolding),
                "reads": columns,
            }
        )
    return found


def check_backup(
    backup: str | os.PathLike[str],
    subset: str = "all",
    *,
    lanes: int = LIMITS.lanes,
    on_event: OnEvent = None,
) -> CheckBackupResult:
    """Prove an archive without a server.

    Every file must be there with its size. Those of the `subset` are read in full: their BLAKE3
    hashes, their rows, and that the rows are what the server had. `subset` is "all", "n/m" (the
    nth of m parts), "x%", or a size ("500M"); the same one means the same files every time.

    Returns `ok`, `schema`, `tables`, `files`, `files_read`, `bytes_read`, `rows`, `problems` (a
    list of `file`, `table`, `problem`), `time_taken`. Raises `InvalidArgument` for a wrong subset,
    `NotFound` when there is no such folder, `ConnectionFailed` and `StoreFailed` when the bucket
    cannot be reached.
    """
    place = place_of(backup)
    if _core.archive_state({"archive": place.spec}) == "nothing":
        raise NotFound(f"there is no folder {place}", context={"archive": place.shown})
    plan = {"archive": place.spec, "subset": str(subset), "lanes": lanes}
    plan["memory_bytes"] = LIMITS.memory_bytes
    return cast(CheckBackupResult, _core.check_archive(plan, on_event))


def read_archive(location: Any) -> Archived:
    """What an archive holds. Raises `ArchiveFailed` when it is none, or its manifest is wrong."""
    place = place_of(location)
    with named(place):
        manifest = _core.read_manifest({"archive": place.spec})
    for key in ("charset", "collation"):
        if not re.fullmatch(r"[0-9a-zA-Z_]+", manifest[key]):
            raise ArchiveFailed(f"{MANIFEST}: {manifest[key]!r} is no {key}")
    return Archived(
        place=place,
        schema=manifest["schema"],
        charset=manifest["charset"],
        collation=manifest["collation"],
        tables={table["name"]: _archived(table) for table in manifest["tables"]},
        programs=[_program(item, manifest["schema"]) for item in manifest["programs"] or ()],
        snapshot=manifest["snapshot"],
        server_version=manifest["server_version"],
        rows=manifest["totals"]["rows"],
        bytes=manifest["totals"]["bytes"],
        stores=tuple(sorted(_stores_of(manifest))),
    )


def _stores_of(manifest: Mapping[str, Any]) -> set[str]:
    """The stores whose objects came along; earlier manifests list the objects themselves."""
    named = manifest.get("objects") or {"stores": ()}
    return {*named["stores"], *(file["store"] for file in manifest["files"])}


def _archived(table: Mapping[str, Any]) -> ArchivedTable:
    return ArchivedTable(
        name=table["name"],
        create=table["create"],
        columns=tuple(Column(**column) for column in table["columns"]),
        primary_key=tuple(table["primary_key"]),
        rows=table["rows"],
    )


def _program(item: Any, schema: str) -> Program:
    """A program of the manifest, which may say anything."""
    try:
        program = Program(**item)
    except TypeError:
        raise ArchiveFailed(f"{MANIFEST}: what it says of a program cannot be read") from None
    texts = [getattr(program, part.name) for part in fields(Program) if part.name != "rights"]
    kinds = get_args(Kind)
    if (
        program.kind not in kinds
        or program.schema != schema
        or not program.name
        or program.rights
        or not all(isinstance(text, str | None) for text in texts)
    ):
        raise ArchiveFailed(f"{MANIFEST}: what it says of the program {program.name!r} cannot be")
    return program


def load_archive(
    server: Server,
    archived: Archived,
    dest_schema: str,
    *,
    lanes: int = LIMITS.lanes,
    on_event: OnEvent = None,
) -> dict[str, int]:
    """Load an archive into the tables of `dest_schema`, which are there and empty.

    Every file is proved before it is loaded, and every table is read back afterwards: its rows are
    those of the manifest to the last bit. A call that was interrupted is resumed by the same call.
    Foreign keys are not checked here.

    Returns the rows of each table. Raises `NotFound` for a table that is missing,
    `DestinationNotEmpty`, `ArchiveFailed` naming the file, `Mismatch` naming the table.
    """
    with server.session() as session:
        if not schema_exists(session, dest_schema):
            raise NotFound(f"there is no schema {dest_schema!r}", hint="make its tables first")
        there = read_schema(session, dest_schema).tables
        missing = [name for name in archived.tables if name not in there]
        if missing:
            raise NotFound(
                f"{dest_schema} has no table {missing[0]!r}",
                hint="make all tables of the archive first",
                context={"tables": missing},
            )
        begun = started(session, [dest_schema])
        full = [
            name
            for name in archived.tables
            if (dest_schema, name) not in begun and has_rows(session, dest_schema, name)
        ]
        if full:
            raise DestinationNotEmpty(
                f"{dest_schema}.{full[0]} already holds rows",
                hint="rows are never merged: restore into empty tables",
                context={"tables": full},
            )
    with named(archived.place):
        summary = _core.restore(
            {
                "archive": archived.place.spec,
                "destination": server.spec(),
                "schema": dest_schema,
                "lanes": lanes,
                "memory_bytes": LIMITS.memory_bytes,
            },
            on_event,
        )
    return {str(name): int(rows) for name, rows in summary["tables"].items()}


def put_files_back(
    archived: Archived,
    source_stores: Mapping[str, Any] | None = None,
    *,
    lanes: int = LIMITS.lanes,
    on_event: OnEvent = None,
) -> int:
    """Put the objects of an archive back into the folders of their stores; how many were missing.

    Raises `StoreMissing`, `ArchiveFailed` naming the file, and `ExternalMissing` for one that is
    there with other contents, which stays as it is.
    """
    stores = stores_of(source_stores)
    folders = {name: _folder(get_store(stores, name, "source")) for name in archived.stores}
    plan = {"archive": archived.place.spec, "stores": folders, "lanes": lanes}
    with named(archived.place):
        return int(_core.put_back(plan, on_event)["files"])


def _folder(store: Store) -> str:
    if store.protocol != "file":
        raise InvalidArgument(
            f"files cannot be put back into the {store.protocol} store {store.name!r}",
            hint="give a store of protocol 'file' and its name in source_stores",
        )
    return str(store.spec()["location"])
