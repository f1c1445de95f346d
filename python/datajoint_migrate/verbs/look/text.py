"""Text that was encoded twice: found and told, never changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from datajoint_migrate._core import quote
from datajoint_migrate.call.ends import schema_of
from datajoint_migrate.catalog.kinds import TEXTS
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Column, Schema, Table, find_table, read_schema
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.results import DamageResult
from datajoint_migrate.target.charset import UTF8MB4

TEXT_TYPES = {"char", "varchar", *TEXTS}


def check_text(
    schema: Any,
    table: str | None = None,
    *,
    connection: Any = None,
    limit: int = LIMITS.listed_values,
) -> DamageResult:
    """Find UTF-8 that was read as latin1: `MÃ¼ller` where somebody wrote `Müller`. Reads only.

    That is UTF-8 bytes in a latin1 column, or text encoded twice in a UTF-8 one. A migration
    carries such text over as it is, also with `charset="utf8mb4"`: which texts are meant
    otherwise is for a person to decide. `schema` is a name or a DataJoint schema object, `table`
    a class or table name. Everything is counted in the server, one scan a table.

    Returns `ok` (nothing found), `columns` (dicts with `table`, `column`, `charset`, `collation`,
    `rows`, `non_ascii`, `double_encoded`), `damaged` (dicts with `table`, `column`, `key`, `text`,
    `reads_as`: both cut to 200 characters; at most `limit`) and `truncated`.
    """
    name, server = schema_of(schema, connection)
    result: dict[str, Any] = {"ok": True, "columns": [], "damaged": [], "truncated": False}
    with server.session(read_only=True) as session:
        found = read_schema(session, name)
        for one in chosen_tables(found, table):
            _check_table(session, one, result, limit)
    result["ok"] = not any(column["double_encoded"] for column in result["columns"])
    return cast(DamageResult, result)


def chosen_tables(schema: Schema, table: str | None) -> list[Table]:
    """One table by name, or all that a user declared."""
    if table is not None:
        return [find_table(schema, table)]
    return [one for one in schema.tables.values() if not one.hidden]


def key_of(table: Table) -> tuple[str, ...]:
    """The columns that name a row in a report."""
    return table.walk_key or tuple(column.name for column in table.columns[:3])


@dataclass(frozen=True)
class _Suspect:
    """SQL about a text column: is it beyond ASCII, is it encoded twice, what would it read as."""

    non_ascii: str
    double: str
    reads_as: str


def _suspect(session: Session, column: Column) -> _Suspect:
    text = quote(column.name)
    unicode = f"CONVERT({text} USING {UTF8MB4})"
    non_ascii = f"LENGTH({unicode}) > CHAR_LENGTH({text})"
    # The server's latin1 is Windows-1252, which is what clients that lie about their character
    # set leave behind. Text with other characters does not survive the way there and back.
    latin = f"CONVERT({unicode} USING latin1)"
    lossless = _same(f"CONVERT({latin} USING {UTF8MB4})", unicode)
    first, first_reads = _reads(f"CAST({latin} AS BINARY)")
    double = f"({lossless} AND {first})"
    reads = f"CASE WHEN {double} THEN {first_reads} END"
    if session.is_mariadb or session.version >= (8, 0, 4):
        # Programs that decoded by ISO 8859-1 leave control characters U+0080 to U+009F.
        digits = f"HEX(CONVERT({unicode} USING utf16))"
        group = "\\\\1" if session.is_mariadb else "$1"
        controls = (
            f"CHAR_LENGTH({text}) <= {LIMITS.text_characters}"
            f" AND {digits} REGEXP '^(00..)*00[89].(00..)*$'"
        )
        second, second_reads = _reads(f"UNHEX(REGEXP_REPLACE({digits}, '00(..)', '{group}'))")
        double = f"({double} OR ({controls} AND {second}))"
        reads = f"COALESCE({reads}, {second_reads})"
    return _Suspect(non_ascii, f"({non_ascii} AND {double})", reads)


def _same(one: str, other: str) -> str:
    return f"CAST({one} AS BINARY) = CAST({other} AS BINARY)"


def _reads(octets: str) -> tuple[str, str]:
    """Whether bytes are UTF-8, and the text they then are."""
    # What cannot be decoded comes back as NULL, cut, or with question marks.
    decoded = f"CONVERT({octets} USING {UTF8MB4})"
    return f"CAST({decoded} AS BINARY) <=> {octets}", decoded


def _check_table(session: Session, table: Table, result: dict[str, Any], limit: int) -> None:
    columns = [
        (column, _suspect(session, column))
        for column in table.columns
        if column.data_type in TEXT_TYPES and column.charset
    ]
    if not columns:
        return
    where = quote(table.schema, table.name)
    sums = ", ".join(
        f"COALESCE(SUM({suspect.non_ascii}), 0), COALESCE(SUM({suspect.double}), 0)"
        for _, suspect in columns
    )
    rows, *counts = session.query(f"SELECT COUNT(*), {sums} FROM {where}")[0]
    names = key_of(table)
    for (column, suspect), beyond, double in zip(columns, counts[::2], counts[1::2], strict=True):
        result["columns"].append(
            {
                "table": str(table),
                "column": column.name,
                "charset": column.charset,
                "collation": column.collation,
                "rows": int(rows),
                "non_ascii": int(beyond),
                "double_encoded": int(double),
            }
        )
        if not int(double):
            continue
        left = limit - len(result["damaged"])
        result["truncated"] = result["truncated"] or int(double) > left
        keys = ", ".join(map(quote, names))
        for row in session.query(
            f"SELECT {keys}, LEFT({quote(column.name)}, {LIMITS.shown_text}),"
            f" LEFT({suspect.reads_as}, {LIMITS.shown_text}) FROM {where}"
            f" WHERE {suspect.double} ORDER BY {keys} LIMIT {left}"
        ):
            result["damaged"].append(
                {
                    "table": str(table),
                    "column": column.name,
                    "key": dict(zip(names, row, strict=False)),
                    "text": row[-2],
                    "reads_as": row[-1],
                }
            )
