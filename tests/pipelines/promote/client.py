"""A 2.x client that reads and writes what was promoted, and lists what its collector would take.

    venv-2.3.5/bin/python client.py HOST PORT USER PASSWORD SCHEMA STORES ACTION TABLE

ACTION is one of ACTIONS, STORES are the specs of the stores as JSON. Prints one JSON line. With
`stay` in place of an action, it does the one on each line of its input, and is not connected
meanwhile. `everything` reads all tables of SCHEMA, which may be several with commas, and says of
each column how many values it has and what they are together.
"""

import argparse
import functools
import hashlib
import json
import logging
import os
import sys
import tempfile
import warnings

warnings.simplefilter("ignore")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("host", "port", "user", "password", "schema", "stores", "action", "table"):
        parser.add_argument(name)
    call = parser.parse_args()
    # No configuration of whoever runs the tests.
    os.chdir(tempfile.mkdtemp())
    import datajoint as dj

    logging.disable(logging.WARNING)
    for name in ("host", "user", "password"):
        dj.config[f"database.{name}"] = getattr(call, name)
    dj.config["database.port"] = int(call.port)
    dj.config["database.use_tls"] = False
    dj.config["safemode"] = False
    for name, spec in json.loads(call.stores).items():
        dj.config.stores[name] = spec
    if call.action == "everything":
        print(json.dumps(everything(dj, call.schema.split(","))))
        return 0
    if call.action != "stay":
        print(json.dumps(act(dj, call, call.action)))
        return 0
    for line in sys.stdin:
        dj.conn(reset=True)
        print(json.dumps(act(dj, call, line.strip())), flush=True)
        dj.conn().close()
    return 0


def act(dj, call, action):
    schema = dj.VirtualModule("found", call.schema)
    table = functools.reduce(getattr, call.table.split("."), schema)()
    return ACTIONS[action](dj, schema, table)


def described(value):
    import numpy as np

    if hasattr(value, "load"):
        told = [str(value.dtype), list(value.shape)]
        value = value.load()
        assert told == [str(value.dtype), list(value.shape)], told
    # The bytes of objects are where they lie.
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        data = hashlib.sha256(value.tobytes(order="F")).hexdigest()
        return [str(value.dtype), list(value.shape), data]
    # An attachment, which the client has written into its folder.
    if isinstance(value, str) and len(value) < 255 and os.path.isfile(value):
        with open(value, "rb") as file:
            data = hashlib.sha256(file.read()).hexdigest()
        return ["file", os.path.basename(value), data]
    if isinstance(value, bytes):
        return ["bytes", len(value), hashlib.sha256(value).hexdigest()]
    return [type(value).__name__, repr(value)]


def read(_dj, _schema, table):
    keys = table.heading.primary_key
    found = []
    for row in table.to_dicts():
        values = {name: described(row[name]) for name in row if name not in keys}
        found.append([{name: str(row[name]) for name in keys}, values])
    lines = [line.strip() for line in table.describe().splitlines()]
    return {"rows": found, "definition": lines}


def each(_dj, _schema, table):
    """Every value alone: what it is, or by which error the client refuses it."""
    (column,) = set(table.heading.names) - set(table.heading.primary_key)
    found = []
    for key in table.proj().to_dicts():
        try:
            found.append(described((table & key).fetch1(column)))
        except Exception as error:  # noqa: BLE001 - it is what is compared
            found.append(["refused", type(error).__name__])
    return found


def everything(dj, schemas):
    import numpy as np

    np.set_printoptions(threshold=sys.maxsize)
    found = {}
    for name in schemas:
        todo = list(vars(dj.VirtualModule(f"found_{name}", name)).values())
        while todo:
            one = todo.pop()
            # Classes name others, their masters too.
            if not isinstance(one, type) or not getattr(one, "database", None):
                continue
            if one.full_table_name not in found:
                found[one.full_table_name] = columns(one())
                todo += [part for part in vars(one).values() if isinstance(part, type)]
    return found


def columns(table):
    keys = table.heading.primary_key
    rows = sorted(table.to_dicts(), key=lambda row: [str(row[name]) for name in keys])
    told = {}
    for name in table.heading.names:
        all_of_it = json.dumps([described(row[name]) for row in rows])
        told[name] = [len(rows), hashlib.sha256(all_of_it.encode()).hexdigest()]
    return told


def orphans(dj, schema, _table):
    from datajoint.gc import GarbageCollector

    told = {}
    for name in dj.config.stores:
        if name in ("default", "filepath_default"):
            continue
        found = GarbageCollector(schema.schema, store=name).collect(dry_run=True)
        told[name] = {key: value for key, value in found.items() if "orphan" in key or "ref" in key}
    return told


def insert(_dj, _schema, table):
    import numpy as np

    key = dict.fromkeys(table.heading.primary_key, 1000)
    column = next(iter(set(table.heading.names) - set(key)))
    table.insert1({**key, column: np.arange(6.0).reshape(2, 3)})
    return described((table & key).fetch1(column))


ACTIONS = {"read": read, "each": each, "orphans": orphans, "insert": insert}


if __name__ == "__main__":
    sys.exit(main())
