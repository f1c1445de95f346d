"""Read the migrated full pipeline with DataJoint 2.x and compare it with what 0.14.6 fetched.

    venv-2.3.5/bin/python read.py --port 3306 --dump dump.json --prefix new --stores stores_2x.json

Prints a verdict for each table; exit status 0 only when every value is equal. The new names are
`--prefix` in place of the old prefix, or `--map OLD=NEW`. --stores: 2.x store specs by name.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import options

Difference = tuple[str, Any, Any]


def main() -> int:
    parser = options.parser(__doc__ or "")
    parser.add_argument("--dump", type=Path, required=True, help="what fill.py wrote")
    parser.add_argument("--prefix", help="the new schemas' prefix")
    parser.add_argument("--map", action="append", default=[], metavar="OLD=NEW")
    parser.add_argument("--only", action="append", default=[], metavar="SCHEMA", help="old names")
    parser.add_argument("--no-structure", action="store_true", help="compare values only")
    parser.add_argument("--out", type=Path, help="JSON file to write the verdicts to")
    chosen = parser.parse_args()
    dump = json.loads(chosen.dump.read_text())
    schema_map = dict(pair.split("=", 1) for pair in chosen.map)
    old_prefix = dump["prefix"]
    for schema in dump["schemas"]:
        prefix = chosen.prefix if chosen.prefix is not None else old_prefix
        schema_map.setdefault(schema, prefix + schema[len(old_prefix) :])
    out = chosen.out.resolve() if chosen.out else None
    specs = json.loads(chosen.stores.read_text())
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        tempfile.tempdir = scratch
        verdicts = _compare(chosen, dump, schema_map, specs)
        os.chdir("/")
    return _report(verdicts, out)


def _compare(
    chosen: Any, dump: dict[str, Any], schema_map: dict[str, str], specs: dict[str, Any]
) -> list[dict[str, Any]]:
    connection = connect(chosen, specs)
    wanted = [s for s in dump["schemas"] if not chosen.only or s in chosen.only]
    verdicts = []
    for full, expected in dump["fetched"].items():
        schema, table = full.split(".", 1)
        if schema in wanted:
            found = _fetched(connection, schema_map[schema], table, expected)
            verdicts.append(_verdict(full, "2.x", len(expected["rows"]), found))

    def query(sql: str) -> list[tuple[Any, ...]]:
        with connection._conn.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    query("SET SESSION time_zone='+00:00'")
    for schema in wanted:
        for table, expected in dump["exact"][schema].items():
            found = _exact(query, schema_map[schema], table, expected)
            verdicts.append(_verdict(f"{schema}.{table}", "sql", len(expected["rows"]), found))
    is_mariadb = "maria" in str(query("SELECT version()")[0][0]).lower()
    if is_mariadb == ("maria" in dump["server"].lower()) and not chosen.no_structure:
        for schema in wanted:
            verdicts += _structure(query, schema, schema_map, dump["structure"][schema])
    return verdicts


def connect(chosen: Any, specs: dict[str, Any]) -> Any:
    warnings.filterwarnings("ignore")
    # 2.x looks for its settings only in a file of this name, upwards from here.
    settings = {"database": {"host": chosen.host, "port": chosen.port}, "stores": specs}
    Path("datajoint.json").write_text(json.dumps(settings))
    import datajoint as dj

    logging.getLogger("datajoint").setLevel("ERROR")
    dj.config["database.user"] = chosen.user
    dj.config["database.password"] = chosen.password
    dj.config["database.use_tls"] = False
    import codecs_2x  # noqa: F401  (defining a codec registers it)

    return dj.conn()


def _fetched(
    connection: Any, schema: str, table: str, expected: dict[str, Any]
) -> Iterator[Difference]:
    import datajoint as dj
    from canon import describe

    free = dj.FreeTable(connection, f"`{schema}`.`{table}`")
    try:
        heading = free.heading
        if list(heading.primary_key) != expected["key"]:
            yield "primary key", expected["key"], list(heading.primary_key)
            return
        keys = free.keys()
        # Values that are more than their column are fetched one by one, the others at once.
        plain = {name for name, attribute in heading.attributes.items() if not attribute.codec}
        whole = _whole(free.proj(*plain), expected["key"])
    except Exception as error:  # noqa: BLE001  (an error of any kind is a verdict)
        yield "table", "readable", f"{type(error).__name__}: {error}"
        return
    by_key = {_key_text(expected["key"], row): row for row in expected["rows"]}
    for key in keys:
        described = {name: describe(value) for name, value in key.items()}
        text = _key_text(expected["key"], described)
        row = by_key.pop(text, None)
        if row is None:
            yield text, "no such row", "a row"
            continue
        for name, was in row.items():
            if name in plain:
                got = _value(lambda t=text, n=name: whole[t][n], was)
            else:
                got = _value_alone(free, key, name, was)
            if got != was and not (was[0] == "unreadable" and got[0] != "error"):
                yield f"{text} {name}", was, got
    for text in by_key:
        yield text, "a row", "no such row"


def _whole(free: Any, key: list[str]) -> dict[str, dict[str, Any]]:
    from canon import describe

    return {
        _key_text(key, {name: describe(row[name]) for name in key}): row for row in free.to_dicts()
    }


def _key_text(key: list[str], row: dict[str, Any]) -> str:
    return json.dumps([row[name] for name in key], ensure_ascii=False)


def _value_alone(free: Any, key: dict[str, Any], name: str, was: list[Any]) -> list[Any]:
    import datajoint as dj

    folder = tempfile.mkdtemp()
    dj.config["download_path"] = folder
    try:
        return _value(lambda: (free & key).proj(name).to_dicts()[0][name], was)
    finally:
        shutil.rmtree(folder)


def _value(fetch: Callable[[], Any], was: list[Any]) -> list[Any]:
    try:
        return json.loads(json.dumps(_described(fetch(), was)))  # type: ignore[no-any-return]
    except Exception as error:  # noqa: BLE001  (an error of any kind is a verdict)
        return ["error", f"{type(error).__name__}: {error}"]


def _described(value: Any, was: list[Any]) -> list[Any]:
    from canon import describe, describe_file, describe_json

    if value is None:
        return describe(value)
    if was[0] == "json":
        return describe_json(value)
    if hasattr(value, "download") and hasattr(value, "path"):
        copy = Path(tempfile.mkdtemp()) / "copy"
        copy.write_bytes(value.read())
        if value.size != copy.stat().st_size:
            return ["error", f"size {value.size} is not the file's"]
        return describe_file(copy, str(value.path))
    if was[0] == "file":
        return describe_file(value, Path(value).name)
    return describe(value)


def _exact(query: Any, schema: str, table: str, expected: dict[str, Any]) -> Iterator[Difference]:
    import exact

    try:
        found = exact.cells(query, schema, table, expected["kinds"])
    except Exception as error:  # noqa: BLE001  (an error of any kind is a verdict)
        yield "table", "readable", f"{type(error).__name__}: {error}"
        return
    was, now = (
        Counter(json.dumps(row, ensure_ascii=False) for row in rows)
        for rows in (expected["rows"], found)
    )
    lost = [json.loads(text) for text in (was - now).elements()]
    new = [json.loads(text) for text in (now - was).elements()]
    for old, other in zip(lost, new, strict=False):
        for column, before, after in zip(expected["kinds"], old, other, strict=True):
            if before != after:
                yield column, before, after
    for row in lost[len(new) :]:
        yield "row", row, None
    for row in new[len(lost) :]:
        yield "row", None, row


def _structure(
    query: Any, schema: str, schema_map: dict[str, str], expected: dict[str, Any]
) -> list[dict[str, Any]]:
    import exact

    names_back = {new: old for old, new in schema_map.items()}
    found = exact.structure_of(query, schema_map[schema], names_back)
    verdicts = []
    for table, was in expected.items():
        now = found.get(table, {})
        differences: list[Difference] = []
        for part in ("columns", "indexes", "foreign_keys", "checks"):
            before, after = was[part], now.get(part)
            if isinstance(before, dict) and isinstance(after, dict):
                for name in {**before, **after}:
                    if before.get(name) != after.get(name) and not _pointer(before, after, name):
                        differences.append((f"{part} {name}", before.get(name), after.get(name)))
                if list(before) != list(after):
                    differences.append((f"order of {part}", list(before), list(after)))
            elif before != after:
                differences.append((part, before, after))
        verdicts.append(_verdict(f"{schema}.{table}", "definition", 0, iter(differences)))
    return verdicts


def _pointer(before: dict[str, Any], after: dict[str, Any], name: str) -> bool:
    """Whether the column lies in a store and kept what it should: its comment and nullability."""
    was, now = before.get(name), after.get(name)
    return bool(
        was and now and len(was) == 2 and was == [now[0], now[2] if len(now) > 2 else now[1]]
    )


def _verdict(table: str, by: str, rows: int, differences: Iterator[Difference]) -> dict[str, Any]:
    found = [{"where": w, "expected": e, "found": f} for w, e, f in differences]
    return {"table": table, "by": by, "rows": rows, "equal": not found, "differences": found}


def _report(verdicts: list[dict[str, Any]], out: Path | None) -> int:
    if out:
        out.write_text(json.dumps(verdicts, ensure_ascii=False, indent=1))
    for verdict in verdicts:
        word = "OK     " if verdict["equal"] else "DIFFERS"
        print(f"{word} {verdict['by']:10} {verdict['table']} ({verdict['rows']} rows)")
        for difference in verdict["differences"][:10]:
            line = f"    {difference['where']}: expected {difference['expected']}"
            print(f"{line}, found {difference['found']}"[:600])
    bad = [verdict for verdict in verdicts if not verdict["equal"]]
    print(f"{len(verdicts) - len(bad)} of {len(verdicts)} equal")
    return 1 if bad or not verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
