"""The pipeline of tests/pipelines/inplace on a server, and real clients that use it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clients
import environments
from servers import Server

PROGRAM = Path(__file__).parent / "pipelines" / "inplace" / "client.py"
EXTERNAL = {"movie", "paper", "source"}


@dataclass(frozen=True)
class Pipeline:
    """One schema with a store, filled by 0.14.6: `fetched` is what it read back."""

    server: Server
    schema: str
    root: Path
    fetched: dict[str, dict[str, Any]]

    @property
    def stores(self) -> dict[str, Any]:
        """Both sides' stores, as keywords."""
        spec = {"protocol": "file", "location": str(self.root / "store")}
        return {"source_stores": {"raw": spec}, "dest_stores": {"raw": spec}}

    def client(self, version: str, action: str) -> Any:
        """What DataJoint `version` says to an action of the program."""
        return client(version, self.server, self.schema, self.root, action)

    def ddl(self, table: str = "scan") -> str:
        """SHOW CREATE TABLE."""
        return str(self.server.sql(f"SHOW CREATE TABLE `{self.schema}`.`{table}`")[0][1])

    def columns(self, table: str = "scan") -> list[str]:
        """The columns in their order."""
        rows = self.server.sql(
            "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA ="
            f" '{self.schema}' AND TABLE_NAME = '{table}' ORDER BY ORDINAL_POSITION"
        )
        return [str(row[0]) for row in rows]

    def value(self, sql: str) -> str | None:
        """The one value of a query about `{s}`.scan."""
        return self.server.sql(sql.format(s=f"`{self.schema}`"))[0][0]


def make(server: Server, schema: str, root: Path) -> Pipeline:
    """Declare and fill it (`fresh` must have dropped the schema)."""
    client("0.14.6", server, schema, root, "fill")
    return Pipeline(server, schema, root, client("0.14.6", server, schema, root, "fetch"))


def client(version: str, server: Server, schema: str, root: Path, action: str) -> Any:
    words = [str(environments.python(version)), str(PROGRAM), server.host, str(server.port)]
    words += [server.user, server.password, schema, str(root), action]
    done = clients.run(words)
    if done.returncode:
        raise RuntimeError(f"DataJoint {version}, {action}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])
