"""The type table, proved against what the released 2.x clients read and build upon."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import clients
import environments
from datajoint_migrate import rebuild_lineage
from datajoint_migrate.build.widening import prove_widening
from datajoint_migrate.catalog.externals import External, externals_of
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Column, read_schema
from datajoint_migrate.errors import Unconvertible
from datajoint_migrate.target import (
    RULES,
    NewColumn,
    convert_column,
    declare,
    fit_comment,
    rule_for,
)
from datajoint_migrate.target.ddl import parse

CLIENTS = ("2.3.5", "2.0.0")
SOURCE = "types_source"
STORE_MAP = {"raw": "main"}
ADAPTED = Column(
    name="picture",
    column_type="binary(16)",
    data_type="binary",
    charset=None,
    collation=None,
    nullable=False,
    default=None,
    extra="",
    comment=":<graph>:of it",
    generated=False,
    invisible=False,
    auto_increment=False,
)


@dataclass(frozen=True)
class Row:
    """A 0.14.6 column, what it must become (None: exactly what it was), and a value for it."""

    definition: str
    becomes: str | None = None
    value: str = "NULL"
    key: bool = False
    widened: str | None = None


ROWS = {
    "tinyint": Row("tinyint NOT NULL", value="-5", key=True),
    "smallint": Row("smallint NOT NULL COMMENT 'a: b'", value="-5", key=True),
    "mediumint": Row("mediumint NOT NULL", value="-5", key=True),
    "int": Row("int NOT NULL DEFAULT '7'", value="-5", key=True),
    "bigint": Row("bigint NOT NULL", value="-5", key=True),
    "tinyint_u": Row(
        "tinyint unsigned NOT NULL", value="255", key=True,
        widened="smallint NOT NULL COMMENT ':int16:'",
    ),
    "smallint_u": Row(
        "smallint unsigned NOT NULL", value="65535", key=True,
        widened="int NOT NULL COMMENT ':int32:'",
    ),
    "mediumint_u": Row(
        "mediumint unsigned NOT NULL", value="16777215", key=True,
        widened="int NOT NULL COMMENT ':int32:'",
    ),
    "int_u": Row(
        "int unsigned NOT NULL COMMENT 'the id'", value="4294967295", key=True,
        widened="bigint NOT NULL COMMENT ':int64:the id'",
    ),
    "int_auto": Row(
        "int unsigned NOT NULL AUTO_INCREMENT", value="3", key=True,
        widened="bigint NOT NULL AUTO_INCREMENT COMMENT ':int64:'",
    ),
    "bigint_u": Row(
        "bigint unsigned NOT NULL DEFAULT '9'", value="9223372036854775807", key=True,
        widened="bigint NOT NULL DEFAULT '9' COMMENT ':int64:'",
    ),
    "bool": Row("tinyint(1) NOT NULL DEFAULT '1'", value="1", key=True),
    "float": Row("float NOT NULL DEFAULT '12.5'", value="1.5"),
    "float_u": Row("float unsigned NOT NULL", value="1.5", key=True),
    "float_p": Row("float(7,3) DEFAULT NULL", value="1.5"),
    "double": Row("double DEFAULT NULL", value="1.5"),
    "decimal": Row("decimal(12,4) NOT NULL DEFAULT '1.5000'", value="1.5", key=True),
    "decimal_u": Row("decimal(6,2) unsigned DEFAULT NULL", value="1.5"),
    "char": Row("char(4) NOT NULL", value="'ab'", key=True),
    "varchar": Row("varchar(24) NOT NULL DEFAULT 'it''s'", value="'ab'", key=True),
    "latin1": Row(
        "varchar(24) CHARACTER SET latin1 COLLATE latin1_bin NOT NULL", value="'é'"
    ),
    "enum": Row("enum('M','b c','d''e') NOT NULL", value="'b c'", key=True),
    "enum_colon": Row("enum('a:b','c') NOT NULL COMMENT 'x'", value="'a:b'", key=True),
    "date": Row("date NOT NULL", value="'2020-02-29'", key=True),
    "time": Row("time DEFAULT NULL", value="'10:00:00'"),
    "time3": Row("time(3) DEFAULT NULL", value="'10:00:00.125'"),
    "datetime": Row("datetime DEFAULT NULL", value="'2020-02-29 10:00:00'"),
    "datetime6": Row("datetime(6) NOT NULL", value="'2020-02-29 10:00:00.5'", key=True),
    "timestamp": Row(
        "timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP",
        value="'2020-02-29 10:00:00'", key=True,
    ),
    "year": Row("year NOT NULL", value="2020", key=True),
    "json": Row("json DEFAULT NULL", value="'[1]'"),
    "uuid": Row(
        "binary(16) NOT NULL COMMENT ':uuid:global id'", value="x'" + "ab" * 16 + "'", key=True
    ),
    "text": Row("text", value="'ab'"),
    "tinyblob": Row("tinyblob", "tinyblob COMMENT ':<blob>:'"),
    "blob": Row("blob COMMENT 'b: 100%'", "blob COMMENT ':<blob>:b: 100%'"),
    "mediumblob": Row("mediumblob NOT NULL", "mediumblob NOT NULL COMMENT ':<blob>:'", "x'00'"),
    "longblob": Row("longblob COMMENT 'signal'", "longblob COMMENT ':<blob>:signal'"),
    "attach": Row(
        "longblob NOT NULL COMMENT ':attach:a ''file'''",
        "longblob NOT NULL COMMENT ':<attach>:a ''file'''",
        "x'6100'",
    ),
    "adapted": Row("longblob COMMENT ':<graph>:a graph'"),
    "adapted_text": Row("varchar(60) DEFAULT NULL COMMENT ':<graph>:'", value="'x'"),
    "blob_store": Row(
        "binary(16) NOT NULL COMMENT ':blob@raw:big'", "json NOT NULL COMMENT ':<blob@main>:big'",
        "x'" + "00" * 16 + "'",
    ),
    "attach_store": Row(
        "binary(16) DEFAULT NULL COMMENT ':attach@arch-1:'",
        "json DEFAULT NULL COMMENT ':<attach@arch-1>:'",
    ),
    "filepath_store": Row(
        "binary(16) DEFAULT NULL COMMENT ':filepath@raw:'",
        "json DEFAULT NULL COMMENT ':<filepath@main>:'",
    ),
}  # fmt: skip

READ = """
import json, sys
import datajoint as dj
dj.logger.setLevel("ERROR")
dj.config["safemode"] = False
class Graph(dj.Codec):
    name = "graph"
    def get_dtype(self, is_store): return "<blob>"
    def encode(self, value, *, key=None, store_name=None): return value
    def decode(self, stored, *, key=None): return stored
schema_name, keys = sys.argv[1], sys.argv[2].split(",")
found = {}
module = dj.VirtualModule("m", schema_name)
schema = dj.Schema(schema_name)
for table in schema.list_tables():
    said = found[table] = {}
    name = "".join(part.capitalize() for part in table.split("_"))
    try:
        Parent = getattr(module, name)
        said["describe"] = Parent().describe()
        said["rows"] = len(Parent())
        if table not in keys:
            continue
        Child = type(name + "Child", (dj.Manual,), {"definition": "-> Parent\\n---\\nnote : int32"})
        schema(Child, context={"Parent": Parent})
        Child().insert1({**Parent().keys()[0], "note": 1})
        said["joined"] = len(Parent * Child)
        said["child"] = Child().describe()
    except Exception as error:
        said["error"] = repr(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def source(mysql: Any) -> Iterator[Session]:
    """A session on a server whose schema `types_source` has one table and row per row of ROWS."""
    with resolve(mysql.url).session() as session:
        session.execute(f"DROP DATABASE IF EXISTS {SOURCE}")
        session.execute(f"CREATE DATABASE {SOURCE}")
        for name, row in ROWS.items():
            keyed = "" if row.key else "`id` int NOT NULL, "
            session.execute(
                f"CREATE TABLE {SOURCE}.`{name}` ({keyed}`{name}` {row.definition},"
                f" PRIMARY KEY (`{name if row.key else 'id'}`))"
            )
            values = row.value if row.key else f"1, {row.value}"
            session.execute(f"INSERT INTO {SOURCE}.`{name}` VALUES ({values})")
        yield session
        session.execute(f"DROP DATABASE {SOURCE}")


@pytest.fixture(scope="module", params=[(c, u) for c in CLIENTS for u in ("keep", "widen")])
def read(
    request: pytest.FixtureRequest, mysql: Any, source: Session, tmp_path_factory: Any
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a real client says of every table of a schema declared with `unsigned`."""
    client, unsigned = request.param
    made = f"types_{unsigned}_{client.replace('.', '')}"
    source.execute(f"DROP DATABASE IF EXISTS {made}")
    source.execute(f"CREATE DATABASE {made}")
    schema = read_schema(source, SOURCE)
    for table in schema.tables.values():
        declaration = declare(
            table,
            dest_schema=made,
            externals=externals_of(source, schema, table),
            external="convert",
            unsigned=unsigned,
            store_map=STORE_MAP,
        )
        source.execute(declaration.create_sql)
        if ROWS[table.name].key:
            source.execute(f"INSERT INTO {made}.`{table.name}` SELECT * FROM {table}")
    rebuild_lineage(made, dry_run=False, connection=source.server)
    yield unsigned, _run_client(client, mysql, made, tmp_path_factory.mktemp("client"))
    source.execute(f"DROP DATABASE {made}")


def _run_client(client: str, server: Any, schema: str, folder: Path) -> dict[str, Any]:
    keys = ",".join(name for name, row in ROWS.items() if row.key)
    done = clients.run(
        [environments.python(client), "-c", READ, schema, keys],
        cwd=folder,
        env={
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "DJ_HOST": server.host,
            "DJ_PORT": str(server.port),
            "DJ_USER": server.user,
            "DJ_PASS": server.password,
        },
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _declared(session: Session, name: str, **options: Any) -> NewColumn:
    schema = read_schema(session, SOURCE)
    table = schema.tables[name]
    externals = externals_of(session, schema, table)
    declaration = declare(
        table, dest_schema="x", externals=externals, store_map=STORE_MAP, **options
    )
    return declaration.column(name)


@pytest.mark.parametrize("name", ROWS)
def test_a_column_becomes_what_the_table_says_and_nothing_else_changes(
    source: Session, name: str
) -> None:
    row = ROWS[name]
    written = _declared(source, name, external="convert").definition
    if row.becomes is None:
        line = next(
            line.strip().rstrip(",")
            for line in read_schema(source, SOURCE).tables[name].create.splitlines()
            if line.strip().startswith(f"`{name}`")
        )
        assert written == line
    else:
        assert written == f"`{name}` {row.becomes}"


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.widened])
def test_widening_gives_the_next_signed_type_physically_and_in_the_marker(
    source: Session, name: str
) -> None:
    column = _declared(source, name, unsigned="widen")
    assert column.definition == f"`{name}` {ROWS[name].widened}"


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if not row.widened])
def test_widening_leaves_everything_but_unsigned_integers(source: Session, name: str) -> None:
    assert _declared(source, name, unsigned="widen") == _declared(source, name, unsigned="keep")


@pytest.mark.parametrize("name", ["blob_store", "attach_store", "filepath_store"])
def test_deferred_pointers_stay_binary_with_their_old_marker(source: Session, name: str) -> None:
    column = _declared(source, name, external="defer")
    assert column.column_type == "binary(16)"
    assert column.marker == read_schema(source, SOURCE).tables[name].column(name).marker
    assert not column.becomes_json


def test_every_row_of_the_type_table_is_used_by_some_column(source: Session) -> None:
    used = set()
    schema = read_schema(source, SOURCE)
    for table in schema.tables.values():
        for column in table.columns:
            external = externals_of(source, schema, table).get(column.name)
            used.add(rule_for(column, external, unsigned="widen", external_mode="convert"))
        adapted = External("filepath", "raw", codec="graph")
        used.add(rule_for(ADAPTED, adapted, unsigned="widen", external_mode="convert"))
    assert set(RULES) <= used


def test_an_adapted_pointer_keeps_its_codec_and_names_the_store() -> None:
    external = External("filepath", "raw", codec="graph")
    column = convert_column(ADAPTED, external, external_mode="convert", store_map={"raw": "main"})
    assert column.definition == "`picture` json NOT NULL COMMENT ':<graph@main>:of it'"
    assert column.becomes_json


def test_the_real_client_describes_every_table(read: tuple[str, dict[str, Any]]) -> None:
    unsigned, said = read
    assert {name: heard["error"] for name, heard in said.items() if "error" in heard} == {}
    for name, row in ROWS.items():
        column = row.widened if unsigned == "widen" and row.widened else row.becomes
        marker = re.search(r"COMMENT ':(.*?):", column or row.definition)
        written = marker[1] if marker else row.definition
        # The client writes bool as tinyint, and leaves out what is not part of the type.
        kind = re.split(r" (?:NOT NULL|DEFAULT|COMMENT|CHARACTER|AUTO_)", written)[0]
        assert kind.replace("tinyint(1)", "tinyint") in said[name]["describe"], name


def test_the_real_client_declares_children_of_every_key_and_joins_them(
    read: tuple[str, dict[str, Any]],
) -> None:
    said = read[1]
    joined = {name: said[name].get("joined") for name, row in ROWS.items() if row.key}
    assert set(joined.values()) == {1}, joined


def test_a_long_comment_loses_its_end_and_never_its_marker(source: Session) -> None:
    text = "ü" * 1023 + "z"
    source.execute(f"CREATE TABLE {SOURCE}.long_comment (id int, b longblob COMMENT '{text}')")
    try:
        table = read_schema(source, SOURCE).tables["long_comment"]
        declaration = declare(table, dest_schema="types_long")
        comment = declaration.column("b").comment
        assert comment == ":<blob>:" + "ü" * 1016
        assert any("lost its last 8 characters" in note for note in declaration.notes)
        source.execute("CREATE DATABASE types_long")
        source.execute(declaration.create_sql)
        assert (
            read_schema(source, "types_long").tables["long_comment"].column("b").comment == comment
        )
    finally:
        source.execute(f"DROP TABLE {SOURCE}.long_comment")
        source.execute("DROP DATABASE IF EXISTS types_long")


def test_a_comment_that_fits_is_kept_whole() -> None:
    assert fit_comment("<blob>", "x" * 1016) == (":<blob>:" + "x" * 1016, 0)


def test_a_bigint_that_does_not_fit_stops_widening_and_is_named(source: Session) -> None:
    tables = read_schema(source, SOURCE).tables
    prove_widening(source, tables["bigint_u"])
    source.execute(f"INSERT INTO {SOURCE}.bigint_u VALUES (9223372036854775808), (~0)")
    try:
        with pytest.raises(
            Unconvertible, match=r"2 values of types_source\.bigint_u\.bigint_u"
        ) as no:
            prove_widening(source, tables["bigint_u"])
        assert no.value.context["max"] == 2**64 - 1
        assert "unsigned='keep'" in str(no.value)
    finally:
        source.execute(f"DELETE FROM {SOURCE}.bigint_u WHERE bigint_u > 9223372036854775807")


def test_a_default_that_does_not_fit_stops_widening() -> None:
    column = replace(ADAPTED, column_type="bigint unsigned", data_type="bigint", comment="")
    line = parse("CREATE TABLE `t` (\n  `n` bigint unsigned DEFAULT '18446744073709551615'\n)")
    with pytest.raises(Unconvertible, match="does not fit"):
        convert_column(column, unsigned="widen", text=line.columns[0])
