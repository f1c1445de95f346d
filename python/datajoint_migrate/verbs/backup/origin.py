"""What a schema can be restored from: a backup on a server, a plain schema, an archive."""

from __future__ import annotations

from dataclasses import dataclass, field

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.call import journal
from datajoint_migrate.call.ends import Ends
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.catalog.names import RECORD
from datajoint_migrate.catalog.presence import has_rows
from datajoint_migrate.catalog.programs import Program, read_programs
from datajoint_migrate.catalog.tables import Schema, read_schema
from datajoint_migrate.errors import InvalidArgument, Mismatch
from datajoint_migrate.target.foreign import prove_definition
from datajoint_migrate.target.replica import auto_increment
from datajoint_migrate.verbs.backup.archive import Archived, is_archive, load_archive, read_archive
from datajoint_migrate.verbs.backup.exchange import OURS
from datajoint_migrate.verbs.backup.record import Record, has_record, read_record
from datajoint_migrate.verbs.backup.replicate import check_kinds, fill


@dataclass
class Origin:
    """A backup, ready to be read: `schema` is what it was made of, `creates` its definitions.

    Its rows are in the schema `copy` or in the archive. `record` is what a backup of ours says of
    itself, `orphans` the keys that did not hold when it was made.
    """

    name: str
    schema: str
    charset: str
    collation: str
    creates: dict[str, str]
    programs: list[Program]
    orphans: set[str] = field(default_factory=set)
    copy: Schema | None = None
    record: Record | None = None
    archived: Archived | None = None

    @property
    def is_backup(self) -> bool:
        """Whether it was made by us, and so is known not to be a schema in use."""
        return self.record is not None or self.archived is not None

    @property
    def rows(self) -> str:
        """How many rows it has, for a plan to be read."""
        if self.archived is not None:
            return str(self.archived.rows)
        if self.record is not None:
            return str(sum(kept.rows or 0 for kept in self.record.tables.values()))
        return "an unknown number of"


def open_origin(ends: Ends, backup: str) -> Origin:
    """Read what there is to be restored.

    Raises `NotFound` when there is no such backup, `InvalidArgument` when it is empty or
    unfinished or of the other kind of server, `Mismatch` when tables of it are gone.
    """
    if is_archive(backup):
        return _from_archive(ends, backup)
    check_kinds(ends)
    schema = read_schema(ends.source, backup)
    if not has_record(ends.source, backup):
        return _from_schema(ends, schema)
    record = read_record(ends.source, backup)
    if record is None or not record.finished or journal.is_open(ends.source, backup):
        raise InvalidArgument(
            f"the backup {backup!r} is unfinished",
            hint="run the same backup_schema again to finish it",
        )
    for table, kept in record.tables.items():
        prove_definition(kept.create, table, f"the backup {backup!r}")
    lost = sorted(record.tables.keys() - schema.tables.keys())
    if lost:
        raise Mismatch(f"the backup {backup!r} has lost its table {lost[0]!r}")
    return Origin(
        name=backup,
        schema=record.source,
        charset=record.charset,
        collation=record.collation,
        creates={table: kept.create for table, kept in record.tables.items()},
        programs=record.programs,
        orphans=set(record.orphans),
        copy=schema,
        record=record,
    )


def _from_schema(ends: Ends, schema: Schema) -> Origin:
    """A schema that is no backup of ours serves as one, as it is."""
    if schema.tables.keys() & set(OURS):
        raise InvalidArgument(f"{schema.name!r} is an unfinished copy", hint="finish it first")
    if not schema.tables:
        raise InvalidArgument(f"the backup {schema.name!r} is empty: it holds no table")
    return Origin(
        name=schema.name,
        schema=schema.name,
        charset=schema.charset,
        collation=schema.collation,
        creates={name: table.create for name, table in schema.tables.items()},
        programs=read_programs(ends.source, schema.name),
        copy=schema,
    )


def _from_archive(ends: Ends, backup: str) -> Origin:
    archived = read_archive(backup)
    for table in archived.tables.values():
        prove_definition(table.create, table.name, f"the archive {backup}")
    if ("mariadb" in archived.server_version.lower()) != ends.destination.is_mariadb:
        raise InvalidArgument(
            f"the archive {backup} is of {archived.server_version}, and its definitions only fit"
            " that kind of server",
            hint="restore it to a server of the same kind",
        )
    return Origin(
        name=archived.location,
        schema=archived.schema,
        charset=archived.charset,
        collation=archived.collation,
        creates={name: table.create for name, table in archived.tables.items()},
        programs=archived.programs,
        archived=archived,
    )


def load(
    ends: Ends, origin: Origin, there: Schema, *, lanes: int, on_event: OnEvent
) -> dict[str, int]:
    """Fill the tables of `there` and prove every row; the rows of each table.

    The journal, if there is one, stays in `there`. Raises `Mismatch` when rows are not those that
    were backed up.
    """
    if origin.archived is not None:
        _empty_what_no_journal_knows(ends, origin, there)
        server = ends.destination.server
        return load_archive(server, origin.archived, there.name, lanes=lanes, on_event=on_event)
    assert origin.copy is not None
    filled = fill(ends, origin.copy, there, origin.creates, lanes=lanes, on_event=on_event)
    _refuse_changed(origin, filled.rows, filled.digests)
    return filled.rows


def _empty_what_no_journal_knows(ends: Ends, origin: Origin, there: Schema) -> None:
    """A load that was killed right after its end has no journal any more: it is done again."""
    session = ends.destination
    begun = journal.started(session, [there.name])
    for name, create in origin.creates.items():
        if (there.name, name) not in begun and has_rows(session, there.name, name):
            session.execute(f"TRUNCATE TABLE {quote(there.name, name)}")
            if number := auto_increment(create):
                session.execute(f"ALTER TABLE {quote(there.name, name)} AUTO_INCREMENT = {number}")


def _refuse_changed(origin: Origin, rows: dict[str, int], digests: dict[str, str]) -> None:
    """The rows must still be those that were proved when the backup was made."""
    record = origin.record
    if record is None:
        return
    for name, kept in record.tables.items():
        same = kept.rows is None or kept.rows == rows[name]
        if kept.digest is not None and record.version == _core.__version__:
            same = same and kept.digest == digests[name]
        if not same:
            raise Mismatch(
                f"the rows of {origin.name}.{name} are not those that were backed up",
                hint=f"somebody has changed the backup; to restore it as it is now, take its"
                f" record {RECORD} out of it first, by RENAME TABLE into another schema",
                context={"table": name},
            )
