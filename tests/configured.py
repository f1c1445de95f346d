"""A program of a real client, in a folder that holds its configuration."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path
from typing import Any

import clients
import environments
from servers import Server


def run(version: str, program: str, folder: Path, server: Server) -> Any:
    """What a client prints that is run in a folder with its configuration."""
    store = {"protocol": "file", "location": str(folder / "raw"), "stage": str(folder / "stage")}
    for name in ("raw", "stage"):
        (folder / name).mkdir(exist_ok=True)
    old = {"database.port": server.port, "stores": {"Raw": store}}
    if server.kind == "mariadb":
        old["database.use_tls"] = False
    (folder / "dj_local_conf.json").write_text(json.dumps(old))
    (folder / "datajoint.json").write_text(json.dumps({"stores": {"Raw": store}}))
    switches = ("DJ_SUPPORT_FILEPATH_MANAGEMENT", "DJ_SUPPORT_ADAPTED_TYPES")
    reach = {"DJ_HOST": "127.0.0.1", "DJ_USER": server.user, "DJ_PASS": server.password}
    reach |= {"DJ_PORT": str(server.port), **dict.fromkeys(switches, "TRUE")}
    done = clients.run(
        [str(environments.python(version)), "-W", "ignore", "-c", textwrap.dedent(program)],
        cwd=folder,
        env={**os.environ, **reach},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
