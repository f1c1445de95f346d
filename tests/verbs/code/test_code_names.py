"""Whose a name is: only what is certainly a table of DataJoint is rewritten."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from datajoint_migrate import InvalidArgument, rewrite_code

CORE = """import datajoint as dj
import numpy as np
from datajoint import Manual as Plain

schema = dj.schema('lab')

@schema
class Mouse(dj.Manual):
    definition = 'mouse : int'
    class Weight(dj.Part):
        definition = '-> master'

class Session(Plain):
    definition = '-> Mouse'

@schema
class Derived(Session):
    pass

class Downloader:
    def fetch(self, url):
        return url
"""

UNTOUCHED = {
    "matrices": "import datajoint as dj, numpy as np\nA, B = np.eye(2), np.eye(2)\nC = A @ B\n",
    "matrices by one letter": "import datajoint as dj\ndef f(A, B):\n    return A @ B\n",
    "matrices with the names of tables": "from core import *\ndef f(Mouse, Session):\n"
    "    return Mouse @ Session\n",
    "a table's name, bound anew": "from core import Mouse\nimport numpy as np\n"
    "Mouse = np.eye(2)\nx = Mouse @ Mouse\n",
    "another's class": "from core import *\nx = Downloader().fetch('url')\n",
    "a class from elsewhere": "import datajoint as dj\nfrom web import Client\n"
    "x = Client().fetch('url')\n",
    "a name that nobody binds": "import datajoint as dj\nx = Mouse.fetch()\n",
    "a decorator that is no schema": "import datajoint as dj\nfrom dataclasses import dataclass\n"
    "class Base:\n    pass\n@dataclass\nclass Field(Base):\n    definition = 'a : longblob'\n"
    "    def f(self):\n        return self.fetch()\n",
    "a table of another's library": "import datajoint as dj, other as oj\n"
    "class Field(oj.Manual):\n    definition = 'a : longblob'\n",
    "perhaps a table": "from core import *\ntry:\n    from fast import Mouse\n"
    "except ImportError:\n    Mouse = None\nx = Mouse.fetch()\n",
    "what a loop binds": "from core import *\nfor Table in (Mouse, Session):\n    Table.fetch()\n",
    "a static method": "from core import *\n@schema\nclass T(dj.Manual):\n"
    "    definition = 'a : int'\n    @staticmethod\n    def f(self):\n        self.fetch()\n",
    "a method of its own": "from core import *\n@schema\nclass T(dj.Manual):\n"
    "    definition = 'a : int'\n    def fetch(self, url):\n        return url\n"
    "    def g(self):\n        return self.fetch('url')\n",
    "a lookalike of datajoint": "from core import schema\nclass dj:\n    schema = print\n"
    "dj.schema('x')\nMouse = 1\nMouse.fetch()\n",
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_what_may_be_no_table_stays_byte_for_byte_and_is_listed(tmp_path: Path, name: str) -> None:
    (tmp_path / "core.py").write_text(CORE)
    file = tmp_path / "program.py"
    file.write_text(UNTOUCHED[name])
    done = rewrite_code(tmp_path, execute=True)
    assert file.read_text() == UNTOUCHED[name]
    assert any(one["file"] == str(file) for one in done["left"])


REWRITTEN = {
    "through an alias": (
        "from datajoint import Computed as C, schema as s\nmine = s('x')\n@mine\nclass T(C):\n"
        "    definition = 'a : UUID'\nT.fetch()\n",
        "from datajoint import Computed as C, Schema as s\nmine = s('x')\n@mine\nclass T(C):\n"
        "    definition = 'a : uuid'\nT.to_arrays()\n",
    ),
    "by an import of everything": (
        "from core import *\n@schema\nclass T(dj.Manual):\n    definition = 'a : DATE'\n"
        "x = (T * Mouse & 'a').fetch('KEY')\n",
        "from core import *\n@schema\nclass T(dj.Manual):\n    definition = 'a : date'\n"
        "x = (T * Mouse & 'a').keys()\n",
    ),
    "by a module": (
        "import core as c\nx = c.Mouse.Weight().fetch()\ny = c.Derived.proj().fetch()\n",
        "import core as c\nx = c.Mouse.Weight().to_arrays()\ny = c.Derived.proj().to_arrays()\n",
    ),
    "by a module within a package": (
        "from pkg import inner\nimport pkg.inner\nx = inner.Deep.fetch()\n"
        "y = pkg.inner.Deep @ inner.Mouse\n",
        "from pkg import inner\nimport pkg.inner\nx = inner.Deep.to_arrays()\n"
        "y = pkg.inner.Deep.join(inner.Mouse, semantic_check=False)\n",
    ),
    "self": (
        "from core import Mouse\nclass T(Mouse):\n    def f(self):\n"
        "        self.key_source.fetch('KEY')\n        return [self.fetch() for _ in 'ab']\n",
        "from core import Mouse\nclass T(Mouse):\n    def f(self):\n"
        "        self.key_source.keys()\n        return [self.to_arrays() for _ in 'ab']\n",
    ),
    "a query that grows": (
        "from core import *\ndef f(k):\n    q = Mouse & k\n    if k:\n        q = q & 'a'\n"
        "    q &= k\n    return q.fetch()\n",
        "from core import *\ndef f(k):\n    q = Mouse & k\n    if k:\n        q = q & 'a'\n"
        "    q &= k\n    return q.to_arrays()\n",
    ),
    "a virtual module": (
        "import datajoint as dj\nlab = dj.create_virtual_module('lab', 'lab')\n"
        "x = lab.Mouse.Weight.fetch()\n",
        "import datajoint as dj\nlab = dj.VirtualModule('lab', 'lab')\n"
        "x = lab.Mouse.Weight.to_arrays()\n",
    ),
    "an annotated definition": (
        "from core import *\nclass T(dj.Lookup):\n    definition: str = 'a : BLOB@raw'\n",
        "from core import *\nclass T(dj.Lookup):\n    definition: str = 'a : <blob@raw>'\n",
    ),
}


@pytest.mark.parametrize("name", REWRITTEN)
def test_a_table_is_known_wherever_its_name_comes_from(tmp_path: Path, name: str) -> None:
    (tmp_path / "core.py").write_text(CORE)
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("")
    (tmp_path / "pkg" / "inner.py").write_text(
        "from core import *\n@schema\nclass Deep(dj.Imported):\n    definition = '-> Mouse'\n"
    )
    file = tmp_path / "program.py"
    before, after = REWRITTEN[name]
    file.write_text(before)
    done = rewrite_code(tmp_path, execute=True)
    assert file.read_text() == after
    assert done["left"] == []
    again = rewrite_code(tmp_path, execute=True)
    assert (again["files_changed"], again["left"], again["diff"]) == ([], [], "")


UNSEEN = {
    "a property": "    @property\n    def definition(self):\n        return 'a : longblob'\n",
    "an expression": "    definition = 'a : ' + KIND\n",
    "a name": "    definition = TEXT\n",
    "a formatted text": "    definition = 'a : {}'.format(KIND)\n",
}


@pytest.mark.parametrize("name", UNSEEN)
def test_a_definition_that_is_not_read_is_listed(tmp_path: Path, name: str) -> None:
    file = tmp_path / "program.py"
    file.write_text("import datajoint as dj\nclass T(dj.Manual):\n" + UNSEEN[name])
    (one,) = rewrite_code(file)["left"]
    assert "was not looked at" in one["what"]


MADE = {
    "from outside": "T.definition = 'a : longblob'\n",
    "by type()": "T = type('T', (dj.Manual,), dict(definition='a : longblob'))\n",
    "in a dict": "T = type('T', (dj.Manual,), {'definition': 'a : longblob'})\n",
    "in a class that tables inherit": "class Mixin:\n    definition = 'a : longblob'\n",
}


@pytest.mark.parametrize("name", MADE)
def test_a_definition_outside_of_a_table_is_listed(tmp_path: Path, name: str) -> None:
    file = tmp_path / "program.py"
    file.write_text("import datajoint as dj\n" + MADE[name])
    (one,) = rewrite_code(file)["left"]
    assert "was not looked at" in one["what"]


def test_a_file_whose_datajoint_comes_from_elsewhere_is_listed(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    code = "from lab_core import *\n@schema\nclass T(dj.Manual):\n    definition = 'a : longblob'\n"
    file.write_text(code)
    done = rewrite_code(file, execute=True)
    assert file.read_text() == code
    (one,) = done["left"]
    assert "was not looked at" in one["what"]


# -- writing -------------------------------------------------------------------------------------

OLD = "import datajoint as dj\nx = dj.schema('é')\n"
NEW = OLD.replace("dj.schema", "dj.Schema")


def test_files_keep_mode_encoding_line_ends_and_links(tmp_path: Path) -> None:
    latin = tmp_path / "latin.py"
    latin.write_bytes(f"# -*- coding: latin-1 -*-\r\n{OLD}".replace("\n", "\r\n").encode("latin-1"))
    latin.chmod(0o750)
    real = tmp_path / "elsewhere" / "real.txt"
    real.parent.mkdir()
    real.write_bytes(b"\xef\xbb\xbf" + OLD.encode())
    (tmp_path / "link.py").symlink_to(real)
    done = rewrite_code(tmp_path, execute=True)
    assert len(done["files_changed"]) == 2
    assert latin.read_bytes().decode("latin-1").endswith(NEW.replace("\n", "\r\n"))
    assert stat.S_IMODE(latin.stat().st_mode) == 0o750
    assert (tmp_path / "link.py").is_symlink()
    assert real.read_bytes() == b"\xef\xbb\xbf" + NEW.encode()
    assert {path.name for path in tmp_path.iterdir()} == {"latin.py", "link.py", "elsewhere"}


def test_a_file_that_cannot_be_written_leaves_all_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(OLD)
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InvalidArgument, match="No space left"):
        rewrite_code(tmp_path, execute=True)
    assert [file.read_text() for file in sorted(tmp_path.iterdir())] == [OLD, OLD]
