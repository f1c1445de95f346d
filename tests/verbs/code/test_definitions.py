"""Definitions: read as 0.14.6 reads them, and declared by 2.3.5 after they were rewritten."""

from __future__ import annotations

import itertools
import json
import os
import textwrap
from pathlib import Path
from typing import Any

import clients
import environments
from conftest import Fresh
from datajoint_migrate import rewrite_code
from datajoint_migrate.catalog.client import category_of, location_in_bucket, said_by
from datajoint_migrate.verbs.code.definitions import _attribute
from servers import Server


def asked(version: str, program: str, given: Any, **more: Any) -> Any:
    """What a client's own code answers."""
    done = clients.run(
        [str(environments.python(version)), "-W", "ignore", "-c", textwrap.dedent(program)],
        input=json.dumps(given),
        **more,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


# -- the grammar ---------------------------------------------------------------------------------

WORDS = (
    "int", "INTEGER", "int unsigned", "SmallInt (3) UNSIGNED AUTO_INCREMENT", "serial", "int8",
    "intx", "decimal", "DECIMAL (5 , 2)", "numeric(4)", "float", "double precision",
    "Real(3,2) unsigned", "varchar (32)", "CHAR(3)", "varchar", "text", "json", "JSON",
    "enum ('a','b')", 'ENUM("a")', "bool", "BOOLEAN", "date", "DateTime(6)", "timestamp",
    "YEAR(4)", "blob", "LongBlob", "textblob", "UUID", "uuid", "uuid4", "attach", "ATTACH",
    "attachment", "blob@raw", "BLOB@raw", "Blob@Raw-1_x", "blob@", "blob@1a", "attach@raw",
    "Attach@S", "filepath@s", "FilePath@Raw", "filepath", "external", "external-raw", "<graph>",
    "<Graph>", "< graph >", "<blob@raw>", "<>", "< >", "blob@raw ", " blob", "binary(16)",
    "set('a')", "bytes", "int32", "float64",
)  # fmt: skip
CASES = [word for said in WORDS for word in {said, said.lower(), said.upper(), said.title()}]

TYPES = """
    import json, sys
    from datajoint.declare import TYPE_PATTERN, SPECIAL_TYPES, EXTERNAL_TYPES, match_type
    found = []
    for word in json.load(sys.stdin):
        try:
            category = match_type(word)
        except Exception:
            category = None
        # As Heading reads the marker of a comment.
        special = next((c for c in SPECIAL_TYPES if TYPE_PATTERN[c].match(word)), None)
        store = word.split("@")[1] if special in EXTERNAL_TYPES else None
        adapter = word.lstrip("<").rstrip(">") if special == "ADAPTED" else None
        found.append([category, special, store, adapter])
    print(json.dumps(found))
"""


def test_types_and_markers_are_read_as_the_client_reads_them() -> None:
    for word, answer in zip(CASES, asked("0.14.6", TYPES, CASES), strict=True):
        said = said_by(word)
        ours = [None, None, None] if said is None else [said.category, said.store, said.adapter]
        assert [category_of(word), *ours] == answer, word


LINES = [
    line
    for name, default, type_, comment in itertools.product(
        ("a", " a_1 ", "A", "_a", "1a", "a b", ""),
        ("", "= null", "=':#' ", '="a:b"', "=CURRENT_TIMESTAMP", "=", "='a\"b'", "='a"),
        ("int", " varchar (3)", "enum('#', \"a:b\")", "<graph>", "< a", "blob@raw", "", "5", "é"),
        ("", "# note", ' # it\'s "x" : #', "#"),
    )
    for line in (f"{name}{default}:{type_}{comment}", f"{name} {default} : {type_} {comment}")
]

GRAMMAR = """
    import json, sys
    from datajoint.declare import attribute_parser
    found = []
    for line in json.load(sys.stdin):
        try:
            match = attribute_parser.parseString(line + "#", parseAll=True)
            found.append([match["name"].strip(), match["type"].strip()])
        except Exception:
            found.append(None)
    print(json.dumps(found))
"""


def test_lines_of_attributes_are_read_as_the_client_reads_them() -> None:
    different = {}
    for line, answer in zip(LINES, asked("0.14.6", GRAMMAR, LINES), strict=True):
        found = _attribute(line)
        ours = None if found is None else [found.name, found.type]
        if ours != answer:
            different[line] = (ours, answer)
    assert different == {}


# -- stores --------------------------------------------------------------------------------------

LOCATIONS = [
    "".join(parts)
    for parts in itertools.product(
        ("", "/", "\\", "C:", "C:/", "c:\\", "//host/", "./", "../", "2024:"),
        ("data", "data report", "a/b", "a\\b", "a//b", "ä"),
        ("", "/", "\\", "/x"),
    )
] + ["", "/", "\\", "C:\\"]

PLACES = """
    import json, sys
    from datajoint.external import ExternalTable
    table = object.__new__(ExternalTable)
    found = []
    for location in json.load(sys.stdin):
        table.spec = {"protocol": "s3", "location": location}
        found.append(str(table._make_external_filepath("lab/ab/cd/x")))
    print(json.dumps(found))
"""


def test_locations_in_buckets_are_read_as_the_client_reads_them() -> None:
    for location, answer in zip(LOCATIONS, asked("0.14.6", PLACES, LOCATIONS), strict=True):
        found = location_in_bucket(location)
        assert (f"{found}/" if found else "") + "lab/ab/cd/x" == answer, location


# -- declared by the real clients ----------------------------------------------------------------

CODE = '''import datajoint as dj
schema = dj.schema("NAME")

@schema
class Parent(dj.Manual):
    definition = """
    # parents
    a : INT UNSIGNED
    key_kind : enum ("x", 'y')   # quoted
    """

@schema
class Spelt(dj.Manual):
    definition = """# every spelling
    -> Parent
    b : SmallInt (3)
    who : UUID   # comment : with # signs
    ______________
    day : DATE
    day_0 = "2020-01-01" : Date
    moment : DATETIME (3)
    moment_0 = CURRENT_TIMESTAMP : timestamp
    clock = null : TIME
    year_1 : YEAR
    name : varchar (32)
    name_0 = 'a:b#c' : VARCHAR( 12 )
    code : CHAR (4)
    kind : enum ("a", "b c")   # "quoted"
    kind_0 = "A" : ENUM('A', 'B')
    yes : BOOL
    no : Boolean
    real_0 : DOUBLE
    real_1 : Float(7,3) unsigned
    exact : DECIMAL (5 , 2)
    exact_0 : decimal(5,2) UNSIGNED
    exact_1 : decimal
    whole : int signed
    whole_0 = 3 : INT(11) UNSIGNED
    whole_1 : bigint not null
    packed : LONGBLOB
    packed_0 = null : Blob   # maybe
    paper : ATTACH
    far : BLOB@raw
    far_0 = null : Attach@raw
    far_1 = null : FILEPATH@raw
    settings : JSON
    index (name, day)
    unique index (code)  # one each
    INDEX(packed(20))
    """

@schema
class Child(dj.Computed):
    definition = """
    -> Spelt   # the one
    ---
    -> [nullable, unique] Parent.proj(other='a', kind_2="key_kind")
    """
    class Part(dj.Part):
        definition = """
        -> master
        n : int
        ---
        x : mediumblob
        """
'''

COLUMNS = """
    import json, sys
    sys.path.insert(0, ".")
    import pipeline, datajoint as dj
    for table in (pipeline.Parent, pipeline.Spelt, pipeline.Child, pipeline.Child.Part):
        table()
    rows = dj.conn().query(
        "SELECT table_name, column_name, column_type, is_nullable, column_default, column_key"
        " FROM information_schema.columns WHERE table_schema = '" + pipeline.schema.database
        + "' AND table_name NOT LIKE '~%%' ORDER BY 1, ordinal_position").fetchall()
    print(json.dumps([list(map(str, row)) for row in rows]))
"""


def reached(server: Server, version: str, program: str, folder: Path) -> Any:
    """What a client answers that works on a server, in a folder."""
    reach = {"DJ_HOST": "127.0.0.1", "DJ_USER": server.user, "DJ_PASS": server.password}
    reach |= {"DJ_PORT": str(server.port), "DJ_SUPPORT_FILEPATH_MANAGEMENT": "TRUE"}
    config = folder / "dj_local_conf.json"
    if not config.exists():
        config.write_text(json.dumps({"database.port": server.port}))
    return asked(version, program, None, cwd=folder, env={**os.environ, **reach})


def declared(server: Server, version: str, folder: Path) -> dict[tuple[str, str], list[str]]:
    """The columns that a client declares from the `pipeline.py` in a folder."""
    store = {"protocol": "file", "location": str(folder), "stage": str(folder)}
    (folder / "dj_local_conf.json").write_text(
        json.dumps({"database.port": server.port, "stores": {"raw": store}})
    )
    (folder / "datajoint.json").write_text(json.dumps({"stores": {"raw": store}}))
    rows = reached(server, version, COLUMNS, folder)
    return {(row[0], row[1]): row[2:] for row in rows}


def test_every_spelling_that_0146_declares_is_declared_by_2x_once_rewritten(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    fresh(mysql, "spelt_old", "spelt_new")
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        code = CODE.replace("NAME", f"spelt_{name}")
        (tmp_path / name / "pipeline.py").write_text(code)
    before = declared(mysql, "0.14.6", tmp_path / "old")
    done = rewrite_code(tmp_path / "new", execute=True)
    assert done["left"] == []
    after = declared(mysql, "2.3.5", tmp_path / "new")
    assert before.keys() == after.keys()
    external = [["binary(16)"], ["json"]]
    different = {
        place[1]: [before[place][:1], after[place][:1]]
        for place in before
        if before[place][:3] != after[place][:3]
    }
    # Pointers are JSON in 2.x, `bool` is its word for 0 and 1, and `blob` is as long as any.
    assert different == {
        "far": external,
        "far_0": external,
        "far_1": external,
        "yes": [["tinyint(1)"], ["tinyint"]],
        "no": [["tinyint(1)"], ["tinyint"]],
        "packed_0": [["blob"], ["longblob"]],
        "x": [["mediumblob"], ["longblob"]],
    }
    assert rewrite_code(tmp_path / "new")["diff"] == ""


# What begins with three of these is a divider for 0.14.6, whatever follows; other lines are none.
DIVIDERS = (
    *(
        "___",
        "____________",
        "___ # results",
        "___results",
        "___x : int",
        "_____-> Parent",
        "___---",
    ),
    *("---", "-----", "--- # results", "---x : int", "---___", "   ___", "\t----", "___   "),
    *("-- -", "__", "--", "# ___", "\x0c___", "\xa0___"),
)

KEYS = """
    import json, sys
    sys.path.insert(0, ".")
    import dividers, datajoint as dj
    found = {}
    for name in dividers.NAMES:
        try:
            found[name] = getattr(dividers, name)().primary_key
            dj.conn().query("SELECT b FROM " + getattr(dividers, name)().full_table_name)
        except Exception:
            found[name] = None
    print(json.dumps(found))
"""


def test_a_divider_of_0146_divides_in_2x_once_rewritten(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    """By the keys of the tables that both clients declare."""
    fresh(mysql, "divided_old", "divided_new")
    names = [f"Table{chr(65 + number)}" for number in range(len(DIVIDERS))]
    keys: dict[str, Any] = {}
    for name, version in (("old", "0.14.6"), ("new", "2.3.5")):
        code = f'import datajoint as dj\nschema = dj.schema("divided_{name}")\nNAMES = {names}\n'
        for table, divider in zip(names, DIVIDERS, strict=True):
            code += f'''
try:
    @schema
    class {table}(dj.Manual):
        definition = """
        a : int
        {divider}
        b : int
        """
except Exception:
    pass
'''
        (tmp_path / name).mkdir()
        file = tmp_path / name / "dividers.py"
        file.write_text(code, encoding="utf-8")
        if name == "new":
            left = rewrite_code(file, execute=True)["left"]
            assert rewrite_code(file)["diff"] == ""
        keys[version] = reached(mysql, version, KEYS, tmp_path / name)
    for table, divider in zip(names, DIVIDERS, strict=True):
        before = keys["0.14.6"][table]
        listed = any(repr(divider.strip()) in one["what"] for one in left)
        assert keys["2.3.5"][table] == before, divider
        # What neither declares is listed.
        assert listed == (before is None), divider
    assert list(keys["0.14.6"].values()).count(["a"]) == 17


LEFT = {
    "an index over a pointer": ("far : blob@raw\n    index (far)", "has no index"),
    "an index that goes on": ("n : int\n    index (n) using btree", "an index that"),
    "a type of the server": ("n : int unsigned zerofill", "declares no"),
    "a number in a type": ("n : int8", "another type"),
    "a set": ("n : set('a')", "declares no"),
    "quotes in an enum": ('n : enum("it\'s")', "whose values have quotes"),
    "a colon that is missing": ("n int", "no attribute"),
    "a capital": ("Name : int", "no attribute"),
    "a name with an underscore": ("_n : int", "no attribute"),
    "a comment without its sign": ("n : int comment", "declares no"),
    "an old reference": ("(n) -> Parent(a)", "neither client"),
    "a reference to nothing": ("-> ", "no expression"),
    "an option": ("-> [cascade] Parent", "options"),
}


def test_whatever_2x_cannot_read_is_listed_with_its_line(tmp_path: Path) -> None:
    for line, why in LEFT.values():
        code = (
            "import datajoint as dj\nclass T(dj.Manual):\n"
            f'    definition = """\n    id : int\n    ---\n    {line}\n    """\n'
        )
        file = tmp_path / "program.py"
        file.write_text(code)
        (one,) = rewrite_code(file)["left"]
        assert why in one["what"], (line, one)
        assert one["line"] == 5 + line.count("\n") + 1
