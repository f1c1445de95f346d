"""Schemas whose keys lead to some others, and that were not named with them."""

from __future__ import annotations

from collections.abc import Collection

from datajoint_migrate.catalog.session import Session


def left_out(session: Session, schemas: Collection[str]) -> dict[str, list[str]]:
    """Each schema outside `schemas` that refers to some of them → those it refers to.

    A cutover gives what they refer to another name, and keys follow their tables.
    """
    if not schemas:
        return {}
    marks = ", ".join(["%s"] * len(schemas))
    found: dict[str, list[str]] = {}
    for child, parent in session.query(
        "SELECT DISTINCT CONSTRAINT_SCHEMA, UNIQUE_CONSTRAINT_SCHEMA"
        " FROM information_schema.REFERENTIAL_CONSTRAINTS"
        f" WHERE UNIQUE_CONSTRAINT_SCHEMA IN ({marks}) AND CONSTRAINT_SCHEMA NOT IN ({marks})"
        " ORDER BY 1, 2",
        [*schemas, *schemas],
    ):
        found.setdefault(session.spelt(str(child)), []).append(session.spelt(str(parent)))
    return found
