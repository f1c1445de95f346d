"""What others use for the same jobs, each at its best setting that we know of."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import environments
from data import COPY, MICE, PLAIN, SOURCE
from measure import Taken, Unavailable, timed, worker
from servers import Server

CONNECTIONS = 4
# Of a table that is dumped by several threads.
PIECES = 20
# A peer that takes longer is not waited for.
MOST_SECONDS = 60
CONNECTORX = ("connectorx>=0.4.3", "pyarrow")


def upstream(server: Server, call: str, **arguments: Any) -> tuple[Taken, dict[str, Any]]:
    """A function of DataJoint 2.3.5's own migration module."""
    given = {"server": _account(server), "arguments": arguments}
    return worker(_environment("2.3.5"), "upstream.py", call, given)


def fetch_and_insert(
    server: Server, source: str, table: str, dest: str, stores: dict[str, Any]
) -> tuple[Taken, dict[str, Any]]:
    """A column of blobs into one of `.npy` files, by DataJoint 2.3.5 alone."""
    given = {"server": _account(server), "source": source, "table": table, "dest": dest}
    return worker(_environment("2.3.5"), "fetch_insert.py", given | {"stores": stores})


def insert_select(server: Server) -> Taken:
    """Hand-written: equal ranges of the first key column, one connection each."""
    edges = [MICE * part // CONNECTIONS for part in range(CONNECTIONS + 1)]
    statements = [
        f"INSERT INTO {COPY}.{PLAIN} SELECT * FROM {SOURCE}.{PLAIN}"
        f" WHERE mouse_id > {low} AND mouse_id <= {high}"
        for low, high in pairwise(edges)
    ]
    return timed(*([server.program("mysql", f"--execute={one}")] for one in statements))


def mysqldump(source: Server, destination: Server, schema: str, table: str) -> Taken:
    """`mysqldump | mysql`, rows only."""
    dump = ["--single-transaction", "--no-create-info", "--no-tablespaces"]
    words = source.program("mysqldump", *dump, schema, table)
    return timed([words, destination.program("mysql", database=COPY)])


def mydumper(source: Server, destination: Server, schema: str, table: str, rows: int) -> Taken:
    """mydumper, then myloader; the dump is split, or one thread would do all the work."""
    need_mydumper()
    with tempfile.TemporaryDirectory(prefix="djm-dump-") as folder:
        dump = ["mydumper", *reach(source), f"--outputdir={folder}", f"--database={schema}"]
        # Not --tables-list, whose names mean another thing in newer versions.
        dump += [f"--regex=^{schema}\\.{table}$", f"--rows={rows // PIECES}", "--no-locks"]
        load = ["myloader", *reach(destination), f"--directory={folder}", f"--database={COPY}"]
        load += ["--overwrite-tables"]
        dumped = timed([[*dump, f"--threads={CONNECTIONS}"]])
        loaded = timed([[*load, f"--threads={CONNECTIONS}"]])
    return Taken(dumped.seconds + loaded.seconds)


def dump_to_file(source: Server, schema: str, folder: Path) -> Taken:
    """`mysqldump | zstd`, one snapshot."""
    if shutil.which("zstd") is None:
        install("zstd")
    folder.mkdir(parents=True)
    dump = source.program("mysqldump", "--single-transaction", "--no-tablespaces", schema)
    return timed([dump, ["zstd", "--quiet", "--force", "-o", str(folder / "dump.sql.zst")]])


def load_file(destination: Server, schema: str, folder: Path) -> Taken:
    """`zstdcat | mysql`."""
    words = ["zstdcat", str(folder / "dump.sql.zst")]
    return timed([words, destination.program("mysql", database=schema)])


def dump_to_folder(source: Server, schema: str, folder: Path) -> Taken:
    """`mydumper -c`, split so that all threads have work."""
    need_mydumper()
    dump = ["mydumper", *reach(source), f"--outputdir={folder}", f"--database={schema}"]
    dump += ["--rows=100000", "--compress", "--no-locks", f"--threads={CONNECTIONS}"]
    return timed([dump])


def load_folder(destination: Server, schema: str, folder: Path) -> Taken:
    """`myloader` of such a folder."""
    load = ["myloader", *reach(destination), f"--directory={folder}", f"--database={schema}"]
    return timed([[*load, "--overwrite-tables", f"--threads={CONNECTIONS}"]])


def connector_x(server: Server, connections: int) -> tuple[Taken, dict[str, Any]]:
    """ConnectorX into an Arrow table."""
    given = {
        "url": server.url + SOURCE,
        "query": f"SELECT * FROM {SOURCE}.{PLAIN}",
        "partition_on": "mouse_id",
        "connections": connections,
    }
    environments.REQUIREMENTS.setdefault("connectorx", CONNECTORX)
    return worker(_environment("connectorx"), "connector_x.py", given)


def checksums(source: Server, destination: Server) -> Taken:
    """Both servers hash their rows at once; it says whether they differ, not where."""
    columns = "mouse_id, session, trial, unit, spikes, rate, depth, region, counted"
    sums = f"SUM(CRC32(CONCAT_WS('#', {columns})))"
    ends = ((source, SOURCE), (destination, COPY))
    return timed(
        *(
            [server.program("mysql", f"--execute=SELECT COUNT(*), {sums} FROM {schema}.{PLAIN}")]
            for server, schema in ends
        )
    )


def reladiff(server: Server) -> Taken:
    """Two schemas of one server by their checksums; it prints the rows that differ."""
    environments.REQUIREMENTS.setdefault("reladiff", ("reladiff[mysql]",))
    words = [str(_environment("reladiff").with_name("reladiff"))]
    for schema in (SOURCE, COPY):
        words += [server.url + schema, PLAIN]
    words += [f"--key-columns={name}" for name in ("mouse_id", "session", "trial", "unit")]
    words += [f"--columns={name}" for name in ("spikes", "rate", "depth", "region", "counted")]
    return timed([[*words, "--algorithm=hashdiff", f"--threads={CONNECTIONS}"]])


def table_sync(source: Server, destination: Server, schema: str) -> Taken:
    """pt-table-sync: the destination's table becomes what production's is."""
    if shutil.which("pt-table-sync") is None:
        install("percona-toolkit")
    ends = [
        f"h={server.host},P={server.port},u={server.user},p={server.password},D={name},t={PLAIN}"
        for server, name in ((source, SOURCE), (destination, schema))
    ]
    words = ["timeout", str(MOST_SECONDS), "pt-table-sync", "--execute", "--no-check-slave"]
    # Chunk and Nibble cannot use a key of several columns.
    words += ["--algorithms=Stream", "--buffer-to-client"]
    words += ["--no-foreign-key-checks", "--no-check-child-tables", "--no-check-triggers"]
    begun = time.perf_counter()
    done = subprocess.run([*words, *ends], capture_output=True, text=True)
    seconds = time.perf_counter() - begun
    # 2 says that rows differed, and were put right.
    if done.returncode not in (0, 2):
        said = " ".join(done.stderr.split())[:100]
        raise Unavailable(f"ended with {done.returncode} after {seconds:.0f} s: {said}")
    if _checksum(source, SOURCE) != _checksum(destination, schema):
        raise Unavailable(f"left rows that differ, after {seconds:.0f} s")
    return Taken(seconds)


def _checksum(server: Server, schema: str) -> str | None:
    return server.sql(f"CHECKSUM TABLE `{schema}`.`{PLAIN}`")[0][1]


def _account(server: Server) -> dict[str, Any]:
    return {
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "password": server.password,
    }


def _environment(name: str) -> Path:
    try:
        return environments.python(name)
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"its environment could not be made ({error})") from error


def install(package: str) -> None:
    """Debian's package of that name; raises Unavailable when it cannot be had here."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Unavailable(f"{package} is not installed")
    words = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", package]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise Unavailable(f"apt-get install {package}: {said[-1] if said else done.returncode}")


def need_mydumper() -> None:
    """mydumper and myloader, installed where they are not there."""
    for program in ("mydumper", "myloader"):
        if shutil.which(program) is None:
            install("mydumper")


def reach(server: Server) -> list[str]:
    """A server's address and account, as mydumper takes them."""
    reach = [f"--host={server.host}", f"--port={server.port}"]
    return [*reach, f"--user={server.user}", f"--password={server.password}"]
