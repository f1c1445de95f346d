"""A column whose values become objects of a store: which, and how the engine makes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datajoint_migrate.catalog.client import is_attach
from datajoint_migrate.catalog.kinds import BLOBS
from datajoint_migrate.catalog.names import COMMENT_CHARACTERS
from datajoint_migrate.catalog.stores import Store, dest_stores, get_store
from datajoint_migrate.catalog.tables import Column, Table
from datajoint_migrate.errors import InvalidArgument, Unconvertible
from datajoint_migrate.files.pointers import OBJECT_SUFFIX, Stores
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.words import counted, verb

WANTED = re.compile(r"<?(?P<codec>\w+)@(?P<store>[\w-]+)>?")
STORED = re.compile(r"<(?P<codec>\w+)@(?P<store>[\w-]*)>")
CODECS = ("npy", "blob", "attach", "hash")
# What the values of a column may become, by what its marker says they are.
ALLOWED = {
    "blob": ("npy", "blob"),
    "attach": ("attach",),
    "bytes": ("hash",),
    "hash": ("hash",),
}

JSON = ("json", "longtext")


@dataclass(frozen=True)
class Promotion:
    """`codec` and `store` are what the column becomes, `origin` what its values are now.

    `sources` are the stores that values may lie in already; empty where they lie in the rows.
    """

    table: Table
    column: Column
    codec: str
    store: Store
    origin: str
    source: str | None
    sources: Mapping[str, Store]
    final_schema: str

    @property
    def marker(self) -> str:
        """The type of the column afterwards, as 2.x writes it into the comment."""
        return f"<{self.codec}@{self.store.name}>"

    @property
    def comment(self) -> str:
        """The comment afterwards; a text that is too long is cut, never the marker."""
        return f":{self.marker}:{self.column.text}"[:COMMENT_CHARACTERS]

    def __str__(self) -> str:
        return f"{self.table}.{self.column.name}"

    def plan(self, server: Mapping[str, Any], lanes: int) -> dict[str, Any]:
        """The engine's plan to look at every value; with `into` it makes the objects."""
        return {
            "server": server,
            "schema": self.table.schema,
            "table": self.table.name,
            "key": list(self.table.primary_key),
            "index": "PRIMARY",
            "column": self.column.name,
            "stamps": [one.name for one in self.table.columns if "on update" in one.extra.lower()],
            "parts": parts(self.table),
            "target": self.target(),
            "rows": self.table.rows,
            "data_bytes": self.table.data_bytes,
            "lanes": lanes,
        }

    def target(self) -> dict[str, Any]:
        """Where objects go and come from, as the engine takes it; holds secrets."""
        array = self.codec == "npy"
        prefix = _prefix(self.store) if array else self.store.hash_prefix.strip("/")
        below = [prefix, self.final_schema, self.table.name if array else ""]
        return {
            "becomes": "array" if array else "bytes",
            "store": self.store.name,
            "destination": self.store.spec(),
            "folder": "/".join(part for part in below if part),
            "schema": self.final_schema,
            "attribute": self.column.name,
            "subfolding": list(self.store.subfolding),
            "suffix": "" if array else OBJECT_SUFFIX,
            "sources": {name: store.spec() for name, store in self.sources.items()},
            "source": self.source,
        }

    def notes(self) -> list[str]:
        """What an operator should know of the store."""
        found = []
        if self.codec == "npy" and self.store.raw.get("partition_pattern"):
            found.append(
                f"the store {self.store.name!r} has a partition_pattern, below which 2.x's "
                "collector does not look: the files are written without it, where it does"
            )
        if self.codec == "npy":
            found.append(
                "DataJoint 2.0.0 writes its own files elsewhere and its collector knows none of "
                "these: run dj.gc of 2.3.5 or later only"
            )
        return found


def wanted(to: str) -> tuple[str, str]:
    """Codec and store of `npy@raw`; raises `InvalidArgument`."""
    found = WANTED.fullmatch(to)
    if found is None or found["codec"] not in CODECS:
        raise InvalidArgument(
            f"{to!r} is no type a column can be promoted to",
            hint="give npy@store, blob@store, attach@store or hash@store",
        )
    return found["codec"], found["store"]


def promotion(
    table: Table, column: Column, to: str, stores: Mapping[str, Store], final_schema: str
) -> Promotion:
    """The promotion of a column; raises `Unconvertible` and `StoreMissing`, saying why not."""
    codec, name = wanted(to)
    where = f"{table}.{column.name}"
    store = get_store(stores, name, "destination")
    origin, source = _origin(column)
    if origin == "npy":
        raise Unconvertible(
            f"{where} is :{column.marker}: already, and files of arrays are not carried to"
            f" {codec}@{name}: those that 2.x has written have no hash by which a copy could be"
            " proved",
            hint="to move the whole store, copy it (copy_store) and let its configuration name the"
            " new place; to move this column, undo its promotion while its old column is there, and"
            f" promote it to {codec}@{name}, or insert its arrays with 2.x",
            context={"column": where},
        )
    if codec not in ALLOWED.get(origin, ()):
        allowed = ", ".join(f"{one}@{name}" for one in ALLOWED.get(origin, ()))
        kind = f":{column.marker}:" if column.marker else "without a marker"
        raise Unconvertible(
            f"{where} is {column.column_type} {kind}, which does not become {codec}@{name}",
            hint=f"it can become {allowed}"
            if allowed
            else "columns marked <blob>, <attach> or bytes are promoted, in the rows or in a store",
            context={"column": where},
        )
    _refuse_keys(table, column)
    sources: dict[str, Store] = {}
    if source is not None:
        get_store(stores, source, "destination")
        sources = {
            one: found for one, found in stores.items() if one == source or found.can_be_read
        }
    return Promotion(table, column, codec, store, origin, source, sources, final_schema)


def _refuse_keys(table: Table, column: Column) -> None:
    where = f"{table}.{column.name}"
    if column.name in table.primary_key or any(column.name in one.columns for one in table.indexes):
        raise Unconvertible(f"{where} is part of an index, which JSON cannot be")
    if column.generated:
        raise Unconvertible(f"{where} is a generated column")
    if not table.primary_key:
        raise Unconvertible(f"{table} has no primary key, so no row can be told from another")


def on_the_way(
    table: Table, column: Column, to: str, stores: Stores, final_schema: str
) -> Promotion:
    """The promotion of a column of 0.14.6 while it is copied; raises as `promotion`.

    Blobs have no marker there.
    """
    codec, name = wanted(to)
    where = f"{table}.{column.name}"
    origin = "attach" if is_attach(column.marker) else "blob" if column.marker is None else ""
    if column.data_type not in BLOBS or codec not in ALLOWED.get(origin, ()):
        kind = f":{column.marker}:" if column.marker else "without a marker"
        raise Unconvertible(
            f"{where} is {column.column_type} {kind}, which does not become {to} on the way",
            hint="blobs in the table become npy@store or blob@store, attachments attach@store; what"
            " lies in a store already is promoted after the migration",
            context={"column": where},
        )
    store = get_store(stores.destination, name, "destination")
    _refuse_keys(table, column)
    return Promotion(table, column, codec, store, origin, None, {}, final_schema)


def objects_of(
    source: Table, column: Column, becomes: Column, stores: Stores, final_schema: str
) -> dict[str, Any]:
    """How the engine makes objects of a column that is copied into one that keeps them."""
    one = on_the_way(source, column, becomes.marker or "", stores, final_schema)
    return {"target": one.target(), "parts": parts(source)}


def held(
    table: Table,
    column: Column,
    old: Column,
    to: str,
    stores: Mapping[str, Any] | None,
    *,
    objects: bool = False,
) -> dict[str, Any]:
    """The engine's plan, but for where and how: each row's JSON is held against its old value.

    With `objects` what it names is read, too. Nothing is written, and no other store is read than
    that of the old values, if they lie in one.
    """
    codec, name = wanted(to)
    _, source = _origin(old)
    read = [name] if objects else [source] if source is not None else []
    found: Mapping[str, Store] = dest_stores(stores) if read else {}
    for one in read:
        get_store(found, one, "destination")
    sources = {one: store.spec() for one, store in found.items() if store.can_be_read}
    return {
        "schema": table.schema,
        "table": table.name,
        "key": list(table.primary_key),
        "index": "PRIMARY",
        "column": old.name,
        "against": column.name,
        "objects": objects,
        "parts": parts(table),
        "target": {
            "becomes": "array" if codec == "npy" else "bytes",
            "store": name,
            "folder": "",
            "schema": table.schema,
            "attribute": column.name,
            "sources": sources,
            "source": source,
        },
        "rows": table.rows,
        "data_bytes": table.data_bytes,
    }


def refusal(one: Promotion, looked: Mapping[str, Any]) -> Unconvertible:
    """Why nothing was written: what of the column cannot be promoted, and the first keys."""
    counts = ", ".join(f"{count} × {kind}" for kind, count in sorted(looked["refused"].items()))
    shown = "; ".join(
        f"{example['key']}: {example['kind']}"
        for example in looked["examples"][: LIMITS.shown_examples]
    )
    return Unconvertible(
        f"{one} holds values that cannot become {one.codec}@{one.store.name}: {counts}; the first:"
        f" {shown}",
        code="DJM-1302",
        hint="nothing was written; " + " ".join(advice(one, looked)),
        context={
            "column": str(one),
            "refused": looked["refused"],
            "examples": looked["examples"],
        },
    )


def advice(one: Promotion, looked: Mapping[str, Any]) -> list[str]:
    """What the operator can do with a column of which not every value can be promoted."""
    if one.codec != "npy":
        return ["restore the objects, or set the values to NULL"]
    arrays = looked["kinds"].get("array", 0)
    others = sum(looked["refused"].values())
    return [
        f"{counted(arrays, 'value')} {verb(arrays, 'is an array', 'are arrays')} and {others:,} "
        f"{verb(others, 'is', 'are')} not: promote the column to"
        f" blob@{one.store.name}, which takes every value, or split it into one column for arrays"
        " and one for the others"
    ]


def _origin(column: Column) -> tuple[str, str | None]:
    """What the values are, and the store they lie in."""
    marker = column.marker
    stored = STORED.fullmatch(marker or "")
    if stored and column.data_type in JSON and stored["store"]:
        return stored["codec"], stored["store"]
    if column.data_type in BLOBS:
        if marker in (None, "bytes"):
            return "bytes", None
        if marker in ("<blob>", "<attach>"):
            return marker[1:-1], None
    return "", None


def parts(table: Table) -> list[dict[str, str]]:
    """The columns of the key that become folders, in the order of the heading.

    2.x hides columns that begin with an underscore.
    """
    return [
        {"name": column.name, **_spelled(column)}
        for column in table.columns
        if column.name in table.primary_key and not column.name.startswith("_")
    ]


def _spelled(column: Column) -> dict[str, str]:
    kind = column.data_type
    if column.marker == "uuid" or (kind == "binary" and column.column_type == "binary(16)"):
        return {"read": "hex", "spelling": "uuid"}
    if kind in ("binary", "varbinary", "bit", *BLOBS):
        return {"read": "hex", "spelling": "plain"}
    if kind in ("float", "double"):
        return {"read": "number", "spelling": "float"}
    if kind in ("datetime", "timestamp"):
        return {"read": "number", "spelling": "moment"}
    if column.charset is not None:
        return {"read": "text", "spelling": "plain"}
    return {"read": "number", "spelling": "plain"}


def _prefix(store: Store) -> str:
    prefix = store.raw.get("schema_prefix")
    return "_schema" if prefix is None else str(prefix).strip("/")
