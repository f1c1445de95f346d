"""sync when the server itself renames keys by cascades, is started anew, or dies at a commit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import servers
from conftest import Fresh
from datajoint_migrate import MigrationError, compare_schemas, migrate, sync
from datajoint_migrate.limits import LIMITS
from line import Harm, Packet, line
from servers import Server
from small import Small, add_trials, make

# What a server of its own is started with: each way in which keys cascade.
SETTINGS = {
    "native": ("mysql", ["--log-bin=log", "--server-id=7", "--innodb-native-foreign-keys=ON"]),
    "layered": ("mysql", ["--log-bin=log", "--server-id=7"]),
    "mariadb": ("mariadb", ["--log-bin=log", "--binlog-format=ROW", "--server-id=7"]),
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of a few hundred rows are many chunks."""
    monkeypatch.setattr(LIMITS, "chunk_bytes", 4096)


@pytest.fixture(scope="module", params=sorted(SETTINGS))
def own(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that tests may kill."""
    kind, arguments = SETTINGS[request.param]
    server = servers.start(kind, arguments=arguments)
    yield server
    server.stop()


@pytest.fixture
def small(own: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(own, *(f"own_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    made = make(own, "own", tmp_path / "store")
    add_trials(made, 400)
    tags = ", ".join(f"({i}, 'tag {i}')" for i in range(200))
    own.sql(
        f"CREATE TABLE `{made.lab}`.tag (tag_id int NOT NULL PRIMARY KEY, note varchar(80));"
        f"INSERT INTO `{made.lab}`.tag VALUES {tags};"
        f"USE `{made.lab}`; CREATE TABLE a (a int NOT NULL PRIMARY KEY);"
        "CREATE TABLE b (a int NOT NULL, b int NOT NULL, PRIMARY KEY (a, b),"
        " FOREIGN KEY (a) REFERENCES a (a) ON UPDATE CASCADE);"
        "CREATE TABLE c (a int NOT NULL, b int NOT NULL, k int NOT NULL, v int,"
        " PRIMARY KEY (a, b, k), FOREIGN KEY (a, b) REFERENCES b (a, b) ON UPDATE CASCADE);"
        "INSERT INTO a VALUES (1), (2), (3); INSERT INTO b VALUES (1, 1), (1, 2), (2, 1), (3, 1);"
        "INSERT INTO c SELECT b.a, b.b, t.trial, 7 FROM b, session__trial t WHERE t.mouse_id = 0"
    )
    done = migrate(made.map, connection=own.url, **made.stores)
    assert done["match"], done["issues"]
    return made


def run(small: Small, **options: Any) -> dict[str, Any]:
    return sync(small.map, **{"connection": small.server.url, **small.stores, **options})


def equal(small: Small) -> bool:
    return all(
        compare_schemas(source, dest, 0, connection=small.server.url)["match"]
        for source, dest in small.map.items()
    )


@pytest.mark.parametrize("by", ["auto", "digest"])
def test_grandchildren_of_a_renamed_key_follow(small: Small, by: str) -> None:
    """On 9.7 as it comes, the server refuses two levels, and one it does."""
    rename = "UPDATE a SET a = 10 WHERE a = 1"
    native = "SELECT COUNT(*) FROM performance_schema.global_variables WHERE VARIABLE_NAME ="
    native += " 'innodb_native_foreign_keys' AND VARIABLE_VALUE = 'OFF'"
    if small.server.kind == "mysql" and small.value(native) == "1":
        with pytest.raises(servers.ServerError, match="1452"):
            small.server.sql(rename, small.lab)
        rename = "UPDATE b SET b = 20 WHERE a = 1 AND b = 2"
    small.server.sql(rename, small.lab)
    small.server.sql("UPDATE c SET v = 8 WHERE a = 3", small.lab)
    done = run(small, by=by)
    assert done["match"], (done["issues"], done["conflicts"])
    assert equal(small)
    found = done["tables"][f"{small.lab}.c"]
    assert found["inserted"] > 0
    assert found["inserted"] == found["deleted"]
    assert found["updated"] > 0
    assert run(small)["match"]


@pytest.mark.parametrize(
    ("own", "how"),
    [("layered", "TRUNCATE"), ("layered", "RENAME"), ("mariadb", "DELETE")],
    indirect=["own"],
)
def test_what_was_done_before_a_restart_is_never_skipped(small: Small, how: str) -> None:
    """The server forgets when a table was last written, and so does an eviction from its cache."""
    statement = {
        "TRUNCATE": "TRUNCATE TABLE tag",
        "DELETE": "DELETE FROM tag",
        "RENAME": "CREATE TABLE other LIKE tag; DROP TABLE tag; RENAME TABLE other TO tag",
    }[how]
    assert run(small)["match"]
    small.server.sql(statement, small.lab)
    small.server.kill()
    small.server.restart()
    anew = "SET SESSION information_schema_stats_expiry = 0;"
    known = small.server.sql(
        (anew if small.server.kind == "mysql" else "")
        + f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{small.lab}'"
        " AND UPDATE_TIME IS NOT NULL"
    )
    assert not known
    done = run(small, by="digest")
    assert done["tables"][f"{small.lab}.tag"]["how"] == "digest"
    assert done["tables"][f"{small.lab}.tag"]["deleted"] == 200
    assert done["match"], done["issues"]
    assert equal(small)
    small.server.sql(f"INSERT INTO `{small.lab}_v20`.`#species` VALUES ('theirs')")
    small.server.kill()
    small.server.restart()
    done = run(small, by="digest")
    assert {one["key"]["species"] for one in done["conflicts"]} == {"theirs"}


@pytest.mark.parametrize(("own", "at"), [("layered", 4), ("mariadb", 7)], indirect=["own"])
def test_a_server_that_dies_at_a_commit_loses_nothing(small: Small, at: int) -> None:
    small.server.sql(
        f"USE `{small.lab}`; UPDATE tag SET note = 'new' WHERE tag_id MOD 3 = 0;"
        "DELETE FROM session__trial WHERE trial = 11;"
        "ALTER TABLE session ADD COLUMN more int DEFAULT 7;"
        "INSERT INTO mouse VALUES (100, 'rat', 3.25, NULL)"
    )
    seen = 0

    def rule(packet: Packet) -> Harm:
        nonlocal seen
        seen += packet.upward and packet.payload[1:] == b"COMMIT"
        if seen == at and packet.upward:
            seen += 1
            small.server.kill()
            return "cut"
        return None

    with line(small.server, rule) as through, pytest.raises(MigrationError):
        run(small, dest_connection=f"{through.url}?ssl-mode=disabled")
    small.server.restart()
    done = run(small)
    assert done["match"], (done["issues"], done["conflicts"])
    assert equal(small)
