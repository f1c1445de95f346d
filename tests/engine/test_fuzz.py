"""What nobody would write into archives, blobs, logs and packets is refused, and no worse."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest

import fuzzing
from conftest import SOAK, Fresh
from datajoint_migrate import backup_schema
from places import PIPELINES, ROOT
from servers import Server

RECORDED = ROOT / "rust/core/src/mysql/binlog/recorded"
SAID = ROOT / "rust/core/src/mysql/stranger/recorded"
SECONDS = 600 if SOAK else 30
TYPES = """CREATE DATABASE fuzz_old;
CREATE TABLE fuzz_old.every (a int NOT NULL PRIMARY KEY, b bigint unsigned, c float, d double,
 e decimal(20,6), f varchar(40), g text, h longblob, i date, j datetime(6), k time(3), l year,
 m enum('x','y'), n json, o bit(9), p binary(16), q timestamp(2) NULL);
INSERT INTO fuzz_old.every WITH RECURSIVE r AS (SELECT 1 n UNION ALL SELECT n + 1 FROM r
 WHERE n < 60) SELECT n, n * 7, n / 3, n / 7, n / 11, CONCAT('é', n), REPEAT('text ', n % 9),
 REPEAT(UNHEX('00FF'), n % 20), '2024-01-01' + INTERVAL n DAY, '2024-01-01' + INTERVAL n HOUR,
 SEC_TO_TIME(n * 4000), 1970 + n, IF(n % 2, 'x', 'y'), JSON_OBJECT('n', n), n % 512,
 UNHEX(LEFT(SHA2(n, 256), 32)), '2024-01-01' + INTERVAL n SECOND FROM r;
CREATE TABLE fuzz_old.odd (a int NOT NULL PRIMARY KEY, i date, m enum('x','y'), k time);
SET sql_mode = '';
INSERT INTO fuzz_old.odd VALUES (1, '0000-00-00', 0, '100:00:00'), (2, '2024-00-00', 'x', NULL);
CREATE TABLE fuzz_old.none (a int NOT NULL PRIMARY KEY);"""

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800 + 2 * SECONDS)]


@pytest.fixture
def archive(mysql: Server, fresh: Fresh, tmp_path: Path) -> Path:
    """An archive with every kind of column, and values that Arrow has not."""
    fresh(mysql, "fuzz_old")
    mysql.sql(TYPES)
    backup_schema("fuzz_old", str(tmp_path / "archive"), connection=mysql.url)
    return tmp_path / "archive"


def fuzz(target: str, corpus: Path, archive: Path) -> None:
    """Fails with what the fuzzer said when it found something."""
    fuzzing.build()
    findings = corpus.parent / "findings"
    findings.mkdir()
    done = fuzzing.run(target, corpus, SECONDS, findings, archive)
    assert done.returncode == 0, done.stderr[-4000:]
    assert list(findings.iterdir()) == []
    executed = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
    assert executed
    assert int(executed[1]) > 100 * SECONDS


def test_any_manifest_is_read_or_refused(archive: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "whole").write_bytes((archive / "manifest.json").read_bytes())
    fuzz("manifest", corpus, archive)


def test_any_chunk_file_is_read_or_refused(archive: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    # The fuzzer knows a table by its number in the manifest, which are in order of their names.
    tables = sorted(path for path in (archive / "tables").iterdir())
    for number, table in enumerate(tables):
        for file in table.glob("*.parquet"):
            (corpus / f"{number}-{file.name}").write_bytes(bytes([number]) + file.read_bytes())
    assert len(list(corpus.iterdir())) == 2
    fuzz("chunk", corpus, archive)


def test_any_packed_value_is_read_or_refused(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    kinds = json.loads((PIPELINES / "promote" / "kinds.json").read_text(encoding="utf-8"))
    for number, packed in enumerate(kinds.values()):
        (corpus / str(number)).write_bytes(base64.b64decode(packed))
    fuzz("blob", corpus, tmp_path)


def test_any_binary_log_is_read_or_refused(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for path in RECORDED.iterdir():
        log, events = path.read_bytes()[4:], b""
        while log:
            size = int.from_bytes(log[9:13], "little")
            # The first event says that none has a checksum, because the fuzzer makes none.
            event = log[: size - 5] + bytes(5) if not events else log[: size - 4]
            events += len(event).to_bytes(2, "little") + event
            log = log[size:]
        (corpus / path.name).write_bytes(events)
    fuzz("log", corpus, tmp_path)


def test_any_packet_of_a_server_is_read_or_refused(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for path in SAID.glob("*.bin"):
        (corpus / path.name).write_bytes(path.read_bytes())
    fuzz("packets", corpus, tmp_path)
