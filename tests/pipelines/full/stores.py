"""The stores of the pipeline: what 0.14.6 is told of them, and what 2.x is told. Stdlib only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

Specs = dict[str, dict[str, Any]]


def source_specs(root: Path) -> Specs:
    """0.14.6 store specs below `root` (folders are made): every kind of subfolding there is."""
    specs: Specs = {
        # Subfolding left out means (2, 2).
        "raw": {"location": str(root / "raw"), "stage": str(root / "stage_raw")},
        "flat": {"location": str(root / "flat"), "subfolding": []},
        # A dash in the name and a slash at the end of the location are both legal.
        "deep-1": {
            "location": f"{root / 'deep'}/",
            "subfolding": [3, 1],
            "stage": str(root / "stage_deep"),
        },
    }
    for spec in specs.values():
        spec["protocol"] = "file"
        for key in ("location", "stage"):
            if key in spec:
                Path(spec[key]).mkdir(parents=True, exist_ok=True)
    return specs


def destination_specs(root: Path) -> Specs:
    """2.x store specs of the same names with their locations below `root` (folders are made)."""
    folders = {"raw": "raw", "flat": "flat", "deep-1": "deep"}
    specs: Specs = {}
    for name, folder in folders.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        specs[name] = {"protocol": "file", "location": str(root / folder)}
    return specs
