"""sync of rows whose key the server takes for the one that the copy has, spelled otherwise."""

from __future__ import annotations

import pytest

from conftest import Fresh
from datajoint_migrate import cutover, migrate, rollback, sync
from datajoint_migrate.limits import LIMITS
from servers import Server

SOURCE, COPY = "spel_lab", "spel_lab_v20"
# More than one batch, which is 64 KiB at least.
ROWS = 800

KEYS = {
    "letters": ("varchar(20) COLLATE utf8mb4_general_ci", "CONCAT('n', {n})", "UPPER(k)"),
    "blanks": ("varchar(20) COLLATE utf8mb4_bin", "{n}", "CONCAT(k, ' ')"),
    "zero": ("double", "0", "-k"),
    "prefix": ("varbinary(20)", "LPAD({n}, 6, '0')", "CONCAT(k, 'x')"),
}


@pytest.mark.parametrize("spelled", KEYS)
def test_rows_spelled_otherwise_follow_however_many_they_are(
    server: Server, fresh: Fresh, monkeypatch: pytest.MonkeyPatch, spelled: str
) -> None:
    # All of them in one chunk, which is many batches.
    monkeypatch.setattr(LIMITS, "memory_bytes", 1 << 20)
    fresh(server, SOURCE, COPY, f"{SOURCE}_old")
    kind, value, other = KEYS[spelled]
    index = "k(6)" if spelled == "prefix" else "k"
    rows = ", ".join(f"({value.format(n=n)}, {n}, REPEAT('x', 400))" for n in range(ROWS))
    server.sql(
        f"CREATE DATABASE {SOURCE}; CREATE TABLE {SOURCE}.spec (k {kind} NOT NULL, n int NOT NULL,"
        f" note varchar(400) NOT NULL, PRIMARY KEY ({index}, n));"
        f"INSERT INTO {SOURCE}.spec VALUES {rows}; ANALYZE TABLE {SOURCE}.spec"
    )
    assert migrate({SOURCE: COPY}, connection=server.url)["match"]

    def there(schema: str) -> list[tuple[str | None, ...]]:
        said = "CONCAT(k)" if spelled == "zero" else "HEX(k)"
        return server.sql(f"SELECT {said}, n, note FROM {schema}.spec ORDER BY n")

    server.sql(f"UPDATE {SOURCE}.spec SET k = {other}")
    looked = sync({SOURCE: COPY}, connection=server.url, dry_run=True)
    done = sync({SOURCE: COPY}, connection=server.url)
    assert done["match"], done["issues"]
    assert there(COPY) == there(SOURCE)
    for what in ("inserted", "updated", "deleted"):
        assert done[f"rows_{what}"] == looked[f"rows_{what}"]

    # The same way back.
    over = {"connection": server.url, "execute": True}
    assert cutover({SOURCE: COPY}, backups="rename", **over)["executed"]
    back = "LOWER(k)" if spelled == "letters" else "TRIM(k)" if spelled == "blanks" else "-k"
    back = "CONCAT(k, 'y')" if spelled == "prefix" else back
    server.sql(f"UPDATE {SOURCE}.spec SET k = {back}")
    wrote = there(SOURCE)
    assert rollback({SOURCE: COPY}, bring_back=True, **over)["executed"]
    assert there(SOURCE) == wrote
