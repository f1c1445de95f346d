"""Declare the tables of the DataJoint Elements on the path, with whatever client runs this.

    python declare.py host port user password prefix

Prints each table's columns as JSON: {"lab.lab": [["lab", "varchar(24)"], ...], ...}.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import sys
import types
from typing import Any
from unittest.mock import MagicMock

import datajoint as dj

# What only `make` needs: nothing of it is in a definition.
UNUSED = (
    *(
        "cv2",
        "element_interface",
        "ipywidgets",
        "matplotlib",
        "nd2",
        "pandas",
        "plotly",
        "pyopenephys",
        "quantities",
        "scipy",
    ),
    *("ruamel", "skimage", "tifffile", "tqdm", "yaml"),
)

# What a lab adds of its own, by the attribute that identifies it.
LOOKUPS = {
    "SkullReference": "skull_reference",
    "Equipment": "scanner",
    "Device": "device",
    "AnatomicalLocation": "anatomical_location",
    "Implantation": "implant",
}


class Unused(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules of `UNUSED` as modules with everything in them."""

    def find_spec(self, name: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        wanted = name.partition(".")[0] in UNUSED
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if wanted else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Any:
        made = MagicMock(name=spec.name)
        made.__path__ = []
        return made

    def exec_module(self, module: Any) -> None:
        """Nothing is in it."""


def main() -> None:
    host, port, user, password, prefix = sys.argv[1:]
    dj.config["database.host"], dj.config["database.port"] = host, int(port)
    dj.config["database.user"], dj.config["database.password"] = user, password
    sys.meta_path.insert(0, Unused())
    from element_animal import subject
    from element_array_ephys import ephys_no_curation as ephys
    from element_calcium_imaging import imaging_no_curation as imaging

    # Its modules import each other; this order works.
    from element_deeplabcut import train  # isort: skip
    from element_deeplabcut import model  # isort: skip
    from element_event import trial
    from element_lab import lab
    from element_miniscope import miniscope
    from element_optogenetics import optogenetics
    from element_session import session_with_id as session

    lab.activate(f"{prefix}lab")
    link = types.ModuleType("link")
    for name in ("Source", "Lab", "Protocol", "User", "Location", "Project"):
        setattr(link, name, getattr(lab, name))
    link.Experimenter = lab.User  # type: ignore[attr-defined]
    subject.activate(f"{prefix}subject", linking_module=link)
    link.Subject = subject.Subject  # type: ignore[attr-defined]
    session.activate(f"{prefix}session", linking_module=link)
    link.Session = session.Session  # type: ignore[attr-defined]
    trial.activate(f"{prefix}trial", f"{prefix}event", linking_module=link)
    for name in ("ephys", "imaging", "dlc", "miniscope", "processed"):
        setattr(link, f"get_{name}_root_data_dir", lambda *_: "")
    link.get_session_directory = link.get_image_files = lambda *_: ""  # type: ignore[attr-defined]
    for name, attribute in LOOKUPS.items():
        table = type(name, (dj.Lookup,), {"definition": f"{attribute} : varchar(60)"})
        table.__module__ = __name__
        setattr(link, name, session.schema(table))
    ephys.activate(f"{prefix}ephys", f"{prefix}probe", linking_module=link)
    imaging.activate(f"{prefix}imaging", f"{prefix}scan", linking_module=link)
    miniscope.activate(f"{prefix}miniscope", linking_module=link)
    optogenetics.activate(f"{prefix}optogenetics", linking_module=link)
    link.train = train  # type: ignore[attr-defined]
    train.activate(f"{prefix}train", linking_module=link)
    model.activate(f"{prefix}model", linking_module=link)
    print(json.dumps(columns(prefix)))


def columns(prefix: str) -> dict[str, list[list[str]]]:
    """Name and type of each column of each table that is no hidden one."""
    found: dict[str, list[list[str]]] = {}
    for schema, table, name, kind in dj.conn().query(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE FROM information_schema.COLUMNS"
        f" WHERE LEFT(TABLE_SCHEMA, {len(prefix)}) = '{prefix}' AND TABLE_NAME NOT LIKE '~%%'"
        " ORDER BY 1, 2, ORDINAL_POSITION"
    ):
        found.setdefault(f"{schema[len(prefix) :]}.{table}", []).append([name, kind])
    return found


if __name__ == "__main__":
    main()
