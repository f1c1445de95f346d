"""Will every unsigned number fit the signed type that it is to have? Proved on production."""

from __future__ import annotations

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.counting import count_rows
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Table
from datajoint_migrate.errors import Unconvertible
from datajoint_migrate.target.types import BIGINT_MAX, rule_for


def prove_widening(session: Session, table: Table) -> None:
    """Prove that every BIGINT UNSIGNED of a table fits a signed BIGINT.

    Raises `Unconvertible` naming the column and how many values do not fit.
    """
    wide = [
        column.name
        for column in table.columns
        if not table.hidden
        and column.data_type == "bigint"
        and rule_for(column, unsigned="widen") is not None
    ]
    if not wide:
        return
    over_all = count_rows(session, table, [f"{quote(name)} > {BIGINT_MAX}" for name in wide])
    for name, over in zip(wide, over_all, strict=True):
        if not over:
            continue
        where = quote(table.schema, table.name)
        value = session.query(f"SELECT MAX({quote(name)}) FROM {where}")[0][0]
        raise Unconvertible(
            f"{over} value{'' if over == 1 else 's'} of {table}.{name} (up to {value}) cannot"
            " become a signed bigint",
            hint=f"correct the values above {BIGINT_MAX}, or keep unsigned types: unsigned='keep'",
            context={"table": str(table), "column": name, "count": int(over), "max": int(value)},
        )
