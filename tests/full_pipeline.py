"""The full 0.14.6 pipeline on a server: fill it, and read a migrated copy of it back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clients
import environments
from pipelines.full import options, stores
from servers import Server

PROGRAMS = Path(__file__).parent / "pipelines" / "full"
ADAPTERS = {
    "edges": "longblob",
    "wrapped": "blob@raw",
    "lines_file": "filepath@raw",
    "lines_attach": "attach@flat",
    "pairs": "varchar(60)",
}


@dataclass(frozen=True)
class FullPipeline:
    """A filled pipeline: where it is, what its stores are, and what 0.14.6 fetched from it."""

    server: Server
    prefix: str
    root: Path
    source_stores: stores.Specs
    dump: Path

    @property
    def schemas(self) -> list[str]:
        """Names of its schemas; each refers to the first, and the first to the second."""
        return [f"{self.prefix}_{name}" for name in options.SCHEMAS]

    def schema_map(self, prefix: str, *names: str) -> dict[str, str]:
        """Old to new names under `prefix`; of all schemas, or of the `names` ("colony", ...)."""
        return {f"{self.prefix}_{name}": f"{prefix}_{name}" for name in names or options.SCHEMAS}

    def stores_in_place(self) -> stores.Specs:
        """2.x store specs that read the files where 0.14.6 put them."""
        return stores.destination_specs(self.root / "stores")

    def stores_elsewhere(self, root: Path) -> stores.Specs:
        """2.x store specs of empty folders below `root`, for files to be copied to."""
        return stores.destination_specs(root)


@dataclass(frozen=True)
class Reading:
    """What a 2.x client found: `equal` when every value was what 0.14.6 fetched."""

    equal: bool
    verdicts: list[dict[str, Any]]
    output: str

    def different(self) -> list[dict[str, Any]]:
        """The verdicts that are not "equal"."""
        return [verdict for verdict in self.verdicts if not verdict["equal"]]


def fill(
    server: Server,
    prefix: str,
    root: Path,
    program: Path = PROGRAMS / "fill.py",
    specs: stores.Specs | None = None,
) -> FullPipeline:
    """Declare and fill the pipeline with 0.14.6; stores, dump and specs go below `root`.

    `program` is the one that fills: another with the same options makes another pipeline; `specs`
    are its stores, when they are not to be folders below `root`.
    """
    specs = specs or stores.source_specs(root / "stores")
    stores_file = root / "stores_014.json"
    stores_file.write_text(json.dumps(specs))
    dump = root / "dump.json"
    words = [str(environments.python("0.14.6")), str(program), *reach(server)]
    words += ["--prefix", prefix, "--stores", str(stores_file), "--out", str(dump)]
    done = clients.run(words)
    if done.returncode:
        raise RuntimeError(f"0.14.6 could not make the pipeline:\n{done.stderr[-4000:]}")
    return FullPipeline(server, prefix, root, specs, dump)


def reread(pipeline: FullPipeline, server: Server, scratch: Path) -> dict[str, Any]:
    """What 0.14.6 fetches, and SQL finds, on `server` under the pipeline's own names."""
    stores_file, out = scratch / "stores_014.json", scratch / "reread.json"
    stores_file.write_text(json.dumps(pipeline.source_stores))
    words = [str(environments.python("0.14.6")), str(PROGRAMS / "reread.py"), *reach(server)]
    words += ["--prefix", pipeline.prefix, "--stores", str(stores_file), "--out", str(out)]
    done = clients.run(words)
    if done.returncode:
        raise RuntimeError(f"0.14.6 could not read the pipeline:\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def read_with(
    version: str,
    pipeline: FullPipeline,
    server: Server,
    schema_map: dict[str, str],
    destination_stores: stores.Specs,
    scratch: Path,
    *,
    structure: bool = True,
) -> Reading:
    """Read the migrated schemas of `schema_map` on `server` with DataJoint `version`.

    `structure` also compares the definitions, when both servers are of the same kind.
    """
    stores_file, out = scratch / "stores_2x.json", scratch / "verdicts.json"
    stores_file.write_text(json.dumps(destination_stores))
    out.unlink(missing_ok=True)
    words = [str(environments.python(version)), str(PROGRAMS / "read.py"), *reach(server)]
    words += ["--dump", str(pipeline.dump), "--stores", str(stores_file), "--out", str(out)]
    for old, new in schema_map.items():
        words += ["--map", f"{old}={new}", "--only", old]
    if not structure:
        words.append("--no-structure")
    done = clients.run(words)
    if not out.is_file():
        raise RuntimeError(f"DataJoint {version} could not read:\n{done.stderr[-4000:]}")
    return Reading(done.returncode == 0, json.loads(out.read_text()), done.stdout)


def work_with(
    version: str,
    server: Server,
    prefix: str,
    destination_stores: stores.Specs,
    scratch: Path,
    steps: tuple[str, ...] = (),
) -> tuple[bool, str]:
    """Insert, declare, populate and delete with DataJoint `version`: did all go well, and what.

    All steps of the program, or only these.
    """
    stores_file = scratch / "stores_2x.json"
    stores_file.write_text(json.dumps(destination_stores))
    words = [str(environments.python(version)), str(PROGRAMS / "exercise.py"), *reach(server)]
    words += ["--prefix", prefix, "--stores", str(stores_file)]
    words += [word for step in steps for word in ("--step", step)]
    done = clients.run(words)
    return done.returncode == 0, done.stdout + done.stderr[-2000:]


def reach(server: Server) -> list[str]:
    """The options by which a client's program reaches the server."""
    account = ["--user", server.user, f"--password={server.password}"]
    return ["--host", server.host, "--port", str(server.port), *account]
