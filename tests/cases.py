"""Real 0.14 pipelines as migration cases: restore one, and check a migrated copy of it.

The cases lie beside the checkout or where DJM_CASES says; without them the tests are skipped.
"""

from __future__ import annotations

import ast
import json
import lzma
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clients
import environments
from servers import Server

Specs = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """A case folder."""

    folder: Path
    stats: dict[str, Any]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def schemas(self) -> list[str]:
        return list(self.stats["schemas"])

    def schema_map(self, prefix: str) -> dict[str, str]:
        """Old to new names: the new `prefix` in place of the case's own."""
        own = len(self.stats["prefix"])
        return {schema: prefix + schema[own:] for schema in self.schemas}

    def source_stores(self, root: Path) -> Specs:
        """The 0.14.6 store specs for a store restored at `root` (locations are made)."""
        text = json.dumps(self.stats["stores"])
        text = text.replace("{STORE_ROOT}", str(root)).replace("{WORK}", str(root / "work"))
        specs: Specs = json.loads(text)
        for spec in specs.values():
            Path(spec["location"]).mkdir(parents=True, exist_ok=True)
        return specs

    def destination_stores(self, root: Path) -> Specs:
        """2.x specs of the same stores below `root` (locations are made)."""
        specs: Specs = {}
        for name, spec in self.source_stores(root).items():
            specs[name] = {"protocol": "file", "location": spec["location"]}
        return specs

    def adapters(self) -> dict[str, str]:
        """What each 0.14.6 attribute adapter of the case is over: name to attribute type."""
        source = self.folder / "adapters_014.py"
        if not source.is_file():
            return {}
        types: dict[str, str] = {}
        adapters: dict[str, str] = {}
        # Read, not run: it imports a client that this environment does not have.
        for node in ast.parse(source.read_text()).body:
            if isinstance(node, ast.ClassDef):
                for line in node.body:
                    if isinstance(line, ast.Assign) and _target(line) == "attribute_type":
                        types[node.name] = ast.literal_eval(line.value)
            elif isinstance(node, ast.Assign) and _target(node) == "ADAPTERS":
                assert isinstance(node.value, ast.Dict)
                for key, call in zip(node.value.keys, node.value.values, strict=True):
                    assert key is not None
                    assert isinstance(call, ast.Call)
                    assert isinstance(call.func, ast.Name)
                    adapters[ast.literal_eval(key)] = types[call.func.id]
        return adapters


def cases_folder() -> Path | None:
    """The folder of the cases, None when this machine does not have them."""
    named = os.environ.get("DJM_CASES")
    checkout = Path(__file__).resolve().parent.parent
    folder = Path(named) if named else checkout.parent / "shared" / "cases"
    return folder if (folder / "check.py").is_file() else None


def all_cases() -> list[Case]:
    """Every case there is, the smallest dump first."""
    folder = cases_folder()
    if folder is None:
        return []
    dumps = sorted(folder.glob("*/dump.sql.xz"), key=lambda dump: dump.stat().st_size)
    return [Case(d.parent, json.loads((d.parent / "stats.json").read_text())) for d in dumps]


def restore(case: Case, server: Server, root: Path) -> None:
    """Load the case's schemas, in place of those there are, and its files below `root`."""
    drops = "".join(f"DROP DATABASE IF EXISTS `{schema}`;" for schema in case.schemas)
    server.sql("SET FOREIGN_KEY_CHECKS=0;" + drops)
    with lzma.open(case.folder / "dump.sql.xz") as dump:
        server.client(text=dump.read())
    root.mkdir(parents=True, exist_ok=True)
    with tarfile.open(case.folder / "store.tar.xz") as store:
        # Debian 12's Python has no filters yet, a newer one asks for one.
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        store.extractall(root, **safely)


def check(case: Case, server: Server, prefix: str, specs: Specs, scratch: Path) -> tuple[bool, str]:
    """Read the migrated case with DataJoint 2.3.5: is every table equal, and if not, which."""
    stores_file = scratch / "stores_2x.json"
    stores_file.write_text(json.dumps(specs))
    words = [str(environments.python("2.3.5")), "-W", "ignore", f"{case.folder.parent}/check.py"]
    words += ["--quiet", "--case", str(case.folder), "--host", server.host]
    words += ["--port", str(server.port), "--user", server.user, f"--password={server.password}"]
    words += ["--prefix-new", prefix, "--stores", str(stores_file)]
    done = clients.run(words, cwd=scratch)
    return done.returncode == 0, done.stdout + done.stderr[-2000:]


def _target(line: ast.Assign) -> str | None:
    target = line.targets[0]
    return target.id if isinstance(target, ast.Name) else None
