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


def in_bucket(bucket: Specs, stage: Path | None = None) -> Specs:
    """The same stores in a bucket: `bucket` has a spec for each of "raw", "flat" and "deep"."""
    specs: Specs = {
        "raw": {**bucket["raw"]},
        "flat": {**bucket["flat"], **({"subfolding": []} if stage else {})},
        "deep-1": {**bucket["deep"], **({"subfolding": [3, 1]} if stage else {})},
    }
    if stage:
        for name in ("raw", "deep-1"):
            specs[name]["stage"] = str(stage / name)
            (stage / name).mkdir(parents=True)
    return specs
