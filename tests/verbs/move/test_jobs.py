"""carry_jobs: what failed or was to be skipped with 0.14.6 is not computed again by 2.x."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import clients
import environments
from conftest import Fresh, drop
from datajoint_migrate import (
    InvalidArgument,
    NotFound,
    Unconvertible,
    carry_jobs,
    compare_schemas,
    migrate,
)
from places import PIPELINES
from servers import Server

PROGRAMS = PIPELINES / "jobs"
TAGS = [f"80000000-0000-0000-0000-000000000{end}" for end in ("0ff", "1fe", "2fd", "3fc")]
JOBS = """CREATE TABLE {jobs} (`table_name` varchar(255) NOT NULL, `key_hash` char(32) NOT NULL,
`status` enum('reserved','error','ignore') NOT NULL, `key` blob,
`error_message` varchar(2047) NOT NULL DEFAULT '', `error_stack` mediumblob,
`user` varchar(255) NOT NULL DEFAULT '', `host` varchar(255) NOT NULL DEFAULT '',
`pid` int unsigned NOT NULL DEFAULT 0, `connection_id` bigint unsigned NOT NULL DEFAULT 0,
`timestamp` timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (`table_name`,`key_hash`));"""


# -- with the real clients ---------------------------------------------------------------------


def client(version: str, program: str, server: Server, prefix: str, folder: Path) -> Any:
    """What a program of the clients prints."""
    words = [environments.python(version), PROGRAMS / program, server.host, server.port]
    words += [server.user, server.password, prefix]
    done = clients.run([*map(str, words)], cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module", params=["mysql", "mariadb"])
def failed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, dict[str, Any]]]:
    """A server with a pipeline whose computations failed, and what 0.14.6 says of them."""
    server: Server = request.getfixturevalue(request.param)
    drop(server, "jobs_work", "jobs_lab")
    # A clock that is not the one of the session that carries.
    server.sql("SET GLOBAL time_zone = '-03:30'")
    found = client("0.14.6", "fill.py", server, "jobs", tmp_path_factory.mktemp("fill"))
    yield server, found
    server.sql("SET GLOBAL time_zone = 'SYSTEM'")
    drop(server, "jobs_work", "jobs_lab")


def migrated(server: Server, target: Server, fresh: Fresh) -> dict[str, str]:
    names = {"jobs_lab": "jobsnew_lab", "jobs_work": "jobsnew_work"}
    fresh(target, *names.values())
    done = migrate(names, connection=server.url, dest_connection=target.url)
    assert done["match"]
    assert done["compatible"]
    return names


@pytest.mark.parametrize("version", ["2.3.5", "2.0.0"])
def test_2x_skips_what_failed_or_was_ignored_and_computes_the_rest(
    failed: tuple[Server, dict[str, Any]], fresh: Fresh, tmp_path: Path, version: str
) -> None:
    server, said = failed
    names = migrated(server, server, fresh)
    before = server.sql("CHECKSUM TABLE jobs_work.`~jobs`")

    result = carry_jobs(names, connection=server.url)
    assert (result["errors_carried"], result["ignores_carried"]) == (3, 2)
    assert result["reserved_dropped"] == 1
    assert result["tables_created"] == 2
    found = client(version, "work.py", server, "jobsnew", tmp_path)

    score, reading = found["Score"], found["Reading"]
    assert score["computed"] == [5, 6]
    assert reading["computed"] == TAGS[2:]
    assert [job["thing_id"] for job in score["errors"]] == [2, 4]
    assert [job["thing_id"] for job in score["ignored"]] == [3]
    assert [job["origin"] for job in reading["errors"]] == TAGS[:1]
    assert [job["origin"] for job in reading["ignored"]] == TAGS[1:2]
    when = {job["error_message"]: job["timestamp"] for job in said["jobs"]}
    for job in score["errors"] + reading["errors"]:
        assert job["error_stack"] == said["stacks"][job["error_message"]]
        assert job["created_time"] == job["completed_time"] == when[job["error_message"]]
        assert job["user"].startswith(server.user)
        assert job["priority"] == 5
    assert server.sql("CHECKSUM TABLE jobs_work.`~jobs`") == before


def test_from_one_server_to_another_they_arrive_too(
    failed: tuple[Server, dict[str, Any]], mysql_b: Server, fresh: Fresh, tmp_path: Path
) -> None:
    server, _ = failed
    names = migrated(server, mysql_b, fresh)
    result = carry_jobs(names, connection=server.url, dest_connection=mysql_b.url)
    assert result["jobs_carried"] == 5
    assert not [note for note in result["notes"] if "do not hold" in note]
    found = client("2.3.5", "work.py", mysql_b, "jobsnew", tmp_path)
    assert found["Score"]["computed"] == [5, 6]
    assert found["Reading"]["computed"] == TAGS[2:]


def test_jobs_without_an_equal_in_2x_are_named_with_the_reason(
    failed: tuple[Server, dict[str, Any]], fresh: Fresh
) -> None:
    server, _ = failed
    result = carry_jobs(migrated(server, server, fresh), connection=server.url)
    reasons = {job["table"]: job["reason"] for job in result["refused"]}
    assert set(reasons) == {"__alone", "__finer", "__of_a_table_long_gone"}
    assert "no foreign key is part of its primary key" in reasons["__alone"]
    assert "told apart by tag" in reasons["__finer"]
    assert "has no table" in reasons["__of_a_table_long_gone"]
    assert sorted(str(job["key"]["tag"]) for job in result["refused"] if job["key"]) == TAGS
    assert "4 jobs of jobs_work.__finer cannot be carried" in " ".join(result["notes"])


def test_migrate_called_again_and_compare_accept_the_job_tables(
    failed: tuple[Server, dict[str, Any]], fresh: Fresh
) -> None:
    server, _ = failed
    names = migrated(server, server, fresh)
    carry_jobs(names, connection=server.url)
    again = migrate(names, connection=server.url)
    assert again["match"]
    assert again["rows_copied"] == 0
    compared = compare_schemas("jobs_work", names["jobs_work"], connection=server.url)
    assert compared["match"]
    assert compared["structure_match"], compared["structure"]


# -- with tables of our own --------------------------------------------------------------------


class Pipeline:
    """Two schemas, a computed table with the foreign key `attribute` in each, and `~jobs`."""

    def __init__(self, server: Server, source: str, dest: str, attribute: str = "n") -> None:
        self.server, self.source, self.dest = server, source, dest
        self.attribute, self.column = attribute, f"`{attribute.replace('`', '``')}`"
        for schema in (source, dest):
            self.sql(
                f"CREATE DATABASE {self.name(schema)};"
                f"CREATE TABLE {self.name(schema, 'p')} ({self.column} int NOT NULL,"
                f" PRIMARY KEY ({self.column}));"
                f"INSERT INTO {self.name(schema, 'p')} VALUES (1), (2), (3), (4);"
            )
            self.table(schema, "__c")
        self.sql(JOBS.format(jobs=self.name(source, "~jobs")))

    def name(self, *parts: str) -> str:
        return ".".join("`" + part.replace("`", "``") + "`" for part in parts)

    def sql(self, statements: str) -> list[tuple[str | None, ...]]:
        return self.server.sql(statements)

    def table(self, schema: str, name: str, comment: str = "") -> None:
        """A table that populate fills, as a child of `p`."""
        self.sql(
            f"CREATE TABLE {self.name(schema, name)} ({self.column} int NOT NULL"
            f" COMMENT '{comment}', PRIMARY KEY ({self.column}),"
            f" CONSTRAINT `of {name[:20]}` FOREIGN KEY ({self.column})"
            f" REFERENCES {self.name(schema, 'p')} ({self.column}))"
        )

    def job(self, value: int | str, status: str = "error", table: str = "__c") -> None:
        """A job of 0.14.6."""
        data = packed({self.attribute: value}).hex()
        self.sql(
            f"INSERT INTO {self.name(self.source, '~jobs')} (table_name, key_hash, status, `key`,"
            f" error_message) VALUES ('{table}', '{abs(hash(value)):032d}', '{status}',"
            f" x'{data}', 'it''s {value}')"
        )

    def found(self, queue: str = "~~c") -> dict[str | None, str | None]:
        """Keys and statuses of the job table of 2.x."""
        rows = self.sql(f"SELECT {self.column}, status FROM {self.name(self.dest, queue)}")
        return {row[0]: row[1] for row in rows}

    def carry(self, **options: Any) -> dict[str, Any]:
        return carry_jobs({self.source: self.dest}, connection=self.server.url, **options)


def packed(key: dict[str, int | str]) -> bytes:
    """A key as 0.14.6 packs it."""

    def sized(value: int | str) -> bytes:
        if isinstance(value, int):
            blob = b"\x0a\x08\x00" + value.to_bytes(8, "little", signed=True)
        else:
            blob = b"\x05" + len(value.encode()).to_bytes(8, "little") + value.encode()
        return len(blob).to_bytes(8, "little") + blob

    items = b"".join(sized(name) + sized(value) for name, value in key.items())
    return b"dj0\0\x04" + len(key).to_bytes(8, "little") + items


@pytest.fixture
def pipeline(server: Server, fresh: Fresh) -> Pipeline:
    fresh(server, "job_old", "job_new")
    return Pipeline(server, "job_old", "job_new")


def test_names_may_hold_back_ticks_quotes_and_percent_signs(server: Server, fresh: Fresh) -> None:
    old, new = (f"job {end} `odd` 'a' 100% é" for end in ("old", "new"))
    fresh(server, *(name.replace("`", "``") for name in (old, new)))
    pipeline = Pipeline(server, old, new, "key `of` 50% 'x'")
    pipeline.job(2)
    assert pipeline.carry()["jobs_carried"] == 1
    assert pipeline.found() == {"2": "error"}


def test_a_dry_run_says_the_same_and_writes_nothing(pipeline: Pipeline) -> None:
    pipeline.job(1)
    pipeline.job(2, "ignore")
    pipeline.job(3, "reserved")
    counted = ("jobs_carried", "errors_carried", "reserved_dropped", "tables_created")
    planned = pipeline.carry(dry_run=True)
    assert pipeline.sql("SHOW TABLES IN job_new LIKE '~%'") == []
    done = pipeline.carry()
    assert [planned[name] for name in counted] == [done[name] for name in counted] == [2, 1, 1, 1]


def test_called_again_it_adds_only_what_is_missing(pipeline: Pipeline) -> None:
    pipeline.job(1)
    assert pipeline.carry()["jobs_carried"] == 1
    pipeline.job(2, "ignore")
    again = pipeline.carry()
    assert (again["jobs_carried"], again["already_there"], again["tables_created"]) == (1, 1, 0)
    assert pipeline.found() == {"1": "error", "2": "ignore"}


def test_a_pending_job_of_2x_is_taken_over_and_its_other_jobs_stay(pipeline: Pipeline) -> None:
    for value in (1, 2, 3, 4):
        pipeline.job(value)
    pipeline.carry()
    pipeline.sql(
        "UPDATE job_new.`~~c` SET status = ELT(n, 'pending', 'reserved', 'success', 'ignore'),"
        " error_message = 'of 2.x'"
    )
    again = pipeline.carry()
    assert (again["jobs_carried"], again["already_there"]) == (1, 3)
    assert pipeline.found() == {"1": "error", "2": "reserved", "3": "success", "4": "ignore"}
    said = pipeline.sql("SELECT error_message FROM job_new.`~~c` ORDER BY n")
    assert [row[0] for row in said] == ["it's 1", "of 2.x", "of 2.x", "of 2.x"]


@pytest.mark.parametrize("value", [2**40, "many", ""])
def test_a_value_that_does_not_fit_is_refused_and_the_others_arrive(
    pipeline: Pipeline, value: int | str
) -> None:
    pipeline.job(value)
    pipeline.job(2)
    result = pipeline.carry()
    assert pipeline.found() == {"2": "error"}
    assert [job["key"] for job in result["refused"]] == [{"n": value}]


def test_a_damaged_key_is_refused_and_the_others_arrive(pipeline: Pipeline) -> None:
    for value in (1, 2, 3):
        pipeline.job(value)
    pipeline.sql(
        "UPDATE job_old.`~jobs` SET `key` = LEFT(`key`, 20) WHERE key_hash LIKE '%1';"
        "UPDATE job_old.`~jobs` SET `key` = NULL WHERE key_hash LIKE '%3'"
    )
    result = pipeline.carry()
    assert pipeline.found() == {"2": "error"}
    assert ["cannot be read" in job["reason"] for job in result["refused"]] == [True, True]


def test_keys_that_are_gone_from_the_parents_are_carried_and_counted(pipeline: Pipeline) -> None:
    pipeline.job(4)
    pipeline.job(77, "ignore")
    result = pipeline.carry()
    assert pipeline.found() == {"4": "error", "77": "ignore"}
    assert "1 failed or ignored job of job_new.__c are for keys" in " ".join(result["notes"])


def test_two_tables_that_share_a_job_table_in_2x_are_refused(pipeline: Pipeline) -> None:
    pipeline.table("job_new", "_c")
    pipeline.job(1)
    result = pipeline.carry()
    assert "2.x has one job table, '~~c', for" in result["refused"][0]["reason"]


@pytest.mark.parametrize(
    ("table", "comment", "reason"),
    [
        ("c", "", "is not a table that populate fills"),
        ("__gone", "", "has no table '__gone'"),
        ("_" + "x" * 63, "", "its name would be too long"),
        ("__adapted", ":<codec>:", "is adapted by code"),
    ],
    ids=["manual", "gone", "long", "adapted"],
)
def test_a_table_that_can_have_no_jobs_is_refused_by_name(
    pipeline: Pipeline, table: str, comment: str, reason: str
) -> None:
    if table != "__gone":
        pipeline.table("job_new", table, comment)
    pipeline.job(1, table=table)
    result = pipeline.carry()
    assert [job["table"] for job in result["refused"]] == [table]
    assert reason in result["refused"][0]["reason"]
    assert pipeline.sql("SHOW TABLES IN job_new LIKE '~~%'") == []


def test_the_longest_name_that_2x_can_give_a_job_table_is_carried(pipeline: Pipeline) -> None:
    table = "__" + "x" * 62
    pipeline.table("job_new", table)
    pipeline.job(1, table=table)
    assert pipeline.carry()["jobs_carried"] == 1
    assert pipeline.found("~~" + "x" * 62) == {"1": "error"}


def test_a_job_table_with_another_key_is_left_alone(pipeline: Pipeline) -> None:
    pipeline.sql("CREATE TABLE job_new.`~~c` (other int, PRIMARY KEY (other))")
    pipeline.job(1)
    result = pipeline.carry()
    assert "has the key other, not n" in result["refused"][0]["reason"]


def test_nothing_to_carry_and_names_that_are_wrong_are_said(pipeline: Pipeline) -> None:
    pipeline.sql("DROP TABLE job_old.`~jobs`")
    assert pipeline.carry()["notes"] == ["job_old has no ~jobs: there is nothing to carry"]
    url = pipeline.server.url
    with pytest.raises(NotFound, match="job_newer"):
        carry_jobs({"job_old": "job_newer"}, connection=url)
    with pytest.raises(InvalidArgument, match="is empty"):
        carry_jobs({}, connection=url)


KILLED = """
import os, signal, sys
from datajoint_migrate import carry_jobs
from datajoint_migrate.verbs.move import jobs
insert, seen = jobs._insert, []
def die_at_last(*given):
    seen.append(1)
    if len(seen) == 350: os.kill(os.getpid(), signal.SIGKILL)
    return insert(*given)
jobs._insert = die_at_last
carry_jobs({"job_old": "job_new"}, connection=sys.argv[1])
"""


def test_a_killed_call_is_finished_by_the_same_call(pipeline: Pipeline) -> None:
    many = [
        f"('__c', '{value:032d}', 'error', x'{packed({'n': value}).hex()}')" for value in range(500)
    ]
    pipeline.sql(
        "INSERT INTO job_old.`~jobs` (table_name, key_hash, status, `key`) VALUES " + ",".join(many)
    )
    killed = subprocess.run([sys.executable, "-c", KILLED, pipeline.server.url])
    assert killed.returncode == -9
    assert len(pipeline.found()) == 200
    again = pipeline.carry()
    assert (again["jobs_carried"], again["already_there"]) == (300, 200)
    assert pipeline.found() == {str(value): "error" for value in range(500)}


# -- of MATLAB's client, and of older ones -------------------------------------------------------

MATLAB_JOBS = """DROP TABLE job_old.`~jobs`; CREATE TABLE job_old.`~jobs` (
`table_name` varchar(255) NOT NULL COMMENT 'className of the table', `key_hash` char(32) NOT NULL,
`status` enum('reserved','error','ignore') NOT NULL, `key` blob, `error_message` varchar(1023),
`error_stack` blob, `host` varchar(255) DEFAULT NULL, `pid` int unsigned DEFAULT NULL,
`timestamp` timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (`table_name`,`key_hash`));"""


def matlab_key(key: dict[str, float | str]) -> bytes:
    """A key as mYm packs a struct: numbers are doubles, texts are rows of characters."""

    def array(value: float | str) -> bytes:
        columns, kind = (len(value), 4) if isinstance(value, str) else (1, 6)
        head = b"A" + struct.pack("<QQQII", 2, 1, columns, kind, 0)
        data = value.encode("utf-16-le") if isinstance(value, str) else struct.pack("<d", value)
        return struct.pack("<Q", len(head + data)) + head + data

    names = b"".join(name.encode() + b"\0" for name in key)
    head = b"mYm\0S" + struct.pack("<QQQI", 2, 1, 1, len(key)) + names
    return head + b"".join(map(array, key.values()))


def test_jobs_of_matlab_are_carried_by_the_classes_it_names(pipeline: Pipeline) -> None:
    pipeline.sql(MATLAB_JOBS)
    names = ("lab.C", "+lab/C", "C", "__c", "lab.Gone")
    for number, name in enumerate(names, 1):
        data = matlab_key({"n": float(number)}).hex()
        pipeline.sql(
            "INSERT INTO job_old.`~jobs` (table_name, key_hash, status, `key`, error_message)"
            f" VALUES ('{name}', '{number:032d}', 'error', x'{data}', 'number {number}')"
        )
    planned = pipeline.carry(dry_run=True)
    result = pipeline.carry()
    assert planned["jobs_carried"] == result["jobs_carried"] == 4
    assert planned["tables_created"] == result["tables_created"] == 1
    assert [job["table"] for job in result["refused"]] == ["lab.Gone"]
    rows = pipeline.sql("SELECT n, error_message, user, host, pid FROM job_new.`~~c` ORDER BY n")
    assert rows == [(str(n), f"number {n}", "", "", "0") for n in (1, 2, 3, 4)]
    assert pipeline.carry()["already_there"] == 4


def test_a_table_called_jobs_that_is_none_is_refused(pipeline: Pipeline) -> None:
    pipeline.sql("ALTER TABLE job_old.`~jobs` DROP PRIMARY KEY, DROP COLUMN key_hash")
    pipeline.sql("INSERT INTO job_old.`~jobs` (table_name, status) VALUES ('__c', 'error')")
    with pytest.raises(Unconvertible, match="has no key_hash"):
        pipeline.carry()
