"""`~lineage` is what 2.x writes itself when it declares the same tables."""

from __future__ import annotations

import itertools
import json
import os
import random
import textwrap
from pathlib import Path
from typing import Any

import pytest

import clients
import environments
from conftest import Fresh
from datajoint_migrate import migrate, rebuild_lineage, verify_schema_v20
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.session import Session
from servers import Server

SCHEMAS = ("lin_a", "lin_b")


def cases() -> dict[str, dict[str, str]]:
    """Definitions by schema and class; two schemas, later tables refer to earlier ones."""
    made: dict[str, dict[str, str]] = {
        "lin_a": {
            "Person": "person : int",
            "Animal": "animal : int\n---\n-> Person\nweight=null : float",
            "Place": "place : int\n-> Person",
        },
        "lin_b": {},
    }
    later = {
        "Renamed": "-> a.Animal.proj(pet='animal')\nn : int\n---\n"
        "-> [nullable] a.Person.proj(owner='person')",
        "Two": "-> a.Animal\n-> a.Place",
        "TwoTurned": "-> a.Place\n-> a.Animal\n---\n"
        "-> [nullable, unique] a.Person.proj(who='person')",
        # One attribute of two keys, in every order.
        "Alike": "a_1 : int\n---\n-> a.Person",
        "Both": "-> a.Person.proj(x='person')\n-> a.Animal.proj(x='animal')",
        "BothTurned": "-> a.Animal.proj(x='animal')\n-> a.Person.proj(x='person')",
        "Native": "x : int\n-> a.Animal.proj(x='animal')\n---\n-> a.Person.proj(x='person')",
        "Apart": "-> a.Animal.proj(x='animal')\n---\nnote='' : varchar(9)\n"
        "-> a.Person.proj(x='person')",
        "Child": "-> Both\n---\n-> a.Animal.proj(x='animal')",
        "Grandchild": "-> Child\n-> BothTurned\nm : int",
        "Cross": "-> Grandchild\n---\n-> Native.proj(y='x')",
        # More than nine keys: their names are in another order than they are.
        "Many": "\n".join(f"-> a.Person.proj(p_{n}='person')" for n in range(9))
        + "\n-> a.Person.proj(x='person')\n-> a.Animal.proj(x='animal')",
        "ManyTurned": "\n".join(f"-> a.Person.proj(p_{n}='person')" for n in range(8))
        + "\n-> a.Animal.proj(x='animal')\n-> a.Place.proj(x='place', p_0='person')",
    }
    rng = random.Random(5)
    origins = ("a.Person.proj(x='person')", "a.Animal.proj(x='animal')", "Both", "Native", "Apart")
    for number, chosen in enumerate(itertools.permutations(origins, 3)):
        lines = [f"-> {one}" for one in chosen]
        lines.insert(rng.randrange(1, 4), "---")
        later[f"Mix{chr(97 + number % 26)}{chr(97 + number // 26)}"] = "\n".join(lines)
    made["lin_b"] = later
    return made


DECLARE = """
    import json, sys, datajoint as dj
    Schema = getattr(dj, "Schema", None) or dj.schema
    context = {"dj": dj}
    class a: pass
    context["a"] = a
    for schema_name, tables in json.load(sys.stdin).items():
        schema = Schema(schema_name, context)
        for name, definition in tables.items():
            body = {"definition": definition}
            said = "-> master\\nk : int\\n---\\n-> a.Person"
            part = type("Part", (dj.Part,), {"definition": said})
            if name in ("Two", "Both", "Many"):
                body["Part"] = part
            table = schema(type(name, (dj.Manual,), body))
            context[name] = table
            setattr(a, name, table)
    print("null")
"""


def client(version: str, program: str, given: Any, folder: Path, server: Server) -> Any:
    """What a client prints."""
    (folder / "dj_local_conf.json").write_text(json.dumps({"database.port": server.port}))
    reach = {"DJ_HOST": "127.0.0.1", "DJ_USER": server.user, "DJ_PASS": server.password}
    done = clients.run(
        [str(environments.python(version)), "-W", "ignore", "-c", textwrap.dedent(program)],
        input=json.dumps(given),
        cwd=folder,
        env={**os.environ, **reach, "DJ_PORT": str(server.port)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def written(session: Session, schema: str) -> dict[tuple[str, str], str]:
    """`~lineage` of a schema."""
    rows = session.query(f"SELECT table_name, attribute_name, lineage FROM {schema}.`~lineage`")
    return {(str(table), str(attribute)): str(lineage) for table, attribute, lineage in rows}


@pytest.mark.parametrize("version", ["2.3.5", "2.0.0"])
def test_it_is_what_the_client_writes_when_it_declares_the_tables(
    server: Server, fresh: Fresh, tmp_path: Path, version: str
) -> None:
    fresh(server, *SCHEMAS)
    if version == "2.0.0" and server.kind == "mariadb":
        pytest.skip("2.0.0 writes there what it writes anywhere")
    client(version, DECLARE, cases(), tmp_path, server)
    with resolve(server.url).session() as session:
        native = {schema: written(session, schema) for schema in SCHEMAS}
        assert sum(map(len, native.values())) > 100
        for schema in SCHEMAS:
            found = verify_schema_v20(schema, connection=server.url)
            assert found["issues"] == []
        rebuild_lineage(list(SCHEMAS), dry_run=False, connection=server.url)
        assert {schema: written(session, schema) for schema in SCHEMAS} == native


def test_a_migrated_copy_has_the_lineage_of_tables_that_2x_declared(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    copies = {schema: f"{schema}_v20" for schema in SCHEMAS}
    fresh(mysql, *SCHEMAS, *copies.values())
    client("0.14.6", DECLARE, cases(), tmp_path, mysql)
    done = migrate(copies, connection=mysql.url)
    assert (done["match"], done["compatible"]) == (True, True)
    with resolve(mysql.url).session() as session:
        ours = [written(session, schema) for schema in copies.values()]
    fresh(mysql, *copies.values())
    under = {copies[schema]: tables for schema, tables in cases().items()}
    client("2.3.5", DECLARE, under, tmp_path, mysql)
    with resolve(mysql.url).session() as session:
        assert [written(session, schema) for schema in copies.values()] == ours
