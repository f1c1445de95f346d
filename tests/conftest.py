"""Servers and filled pipelines for the tests: private ones, made when a test first asks."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import s3
import servers
from full_pipeline import FullPipeline, fill
from s3 import S3, Bucket
from servers import Server

Fresh = Callable[..., None]
# Every case of the tests that kill, not a choice of them: hours (`make soak`).
SOAK = "DJM_SOAK" in os.environ
# A test that asks for one of these has a server of its own, or a service.
SERVERS = {
    "full_pipeline_maria",
    "full_pipeline_mysql",
    "logged_mariadb",
    "logged_mysql",
    "mariadb",
    "mysql",
    "mysql_b",
    "s3_server",
    "server",
}
# Files of tests that start servers, clients or builds by themselves.
STARTING = {
    "test_archive",
    "test_backup",
    "test_configuration",
    "test_definitions",
    "test_demands",
    "test_demo",
    "test_docs",
    "test_exchange_hold",
    "test_folding",
    "test_hints",
    "test_jobs",
    "test_log",
    "test_logins",
    "test_outages",
    "test_places",
    "test_readme",
    "test_report",
    "test_repository",
    "test_secrets",
    "test_servers",
    "test_tls",
    "test_types",
    "test_upstream",
}
# Files of the tests that take longest, in that order.
LONGEST = (
    "test_soak_sync",
    "test_fuzz",
    "test_cutover",
    "test_cases",
    "test_s3_pipeline",
    "test_instant",
    "test_cutover_killed",
    "test_exchange_hold",
    "test_sync",
    "test_cutover_sync",
    "test_backup",
    "test_code",
    "test_promote",
    "test_docs",
    "test_bring_back_clients",
    "test_code_promoted",
    "test_full_pipeline",
    "test_copying",
    "test_sync_server",
)


def pytest_configure() -> None:
    """Ctrl-C means something to the tests and to what they start, also where a shell ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    servers.data_in_memory()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A soak takes its time; what takes longest comes first; what needs no server is quick."""
    for item in items:
        if SOAK:
            item.add_marker(pytest.mark.timeout(0), append=False)
        if isinstance(item, pytest.Function) and _is_pure(item):
            item.add_marker("quick")
    # A file is one worker's: begun last, a long one would keep the others waiting for it.
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def _is_pure(item: pytest.Function) -> bool:
    """Whether a test needs neither server nor client, as far as can be seen beforehand."""
    if item.path.stem in STARTING or SERVERS & set(item.fixturenames):
        return False
    # Who takes `request` asks for a server while it runs, or has one of each kind.
    ours = [
        one.argnames
        for made in item._fixtureinfo.name2fixturedefs.values()
        for one in made
        if one.baseid
    ]
    return not any("request" in names for names in [*ours, item._fixtureinfo.argnames])


@pytest.fixture(scope="session")
def mysql() -> Iterator[Server]:
    """A MySQL with LOCAL INFILE allowed, or the one DJM_TEST_MYSQL names."""
    with servers.running("mysql") as server:
        yield server


@pytest.fixture(scope="session")
def mysql_b() -> Iterator[Server]:
    """A second MySQL, LOCAL INFILE refused: never the server of `mysql`."""
    server = servers.start("mysql", local_infile=False)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """A MariaDB, or the one DJM_TEST_MARIADB names."""
    with servers.running("mariadb") as server:
        yield server


@pytest.fixture(scope="session")
def logged_mysql() -> Iterator[Server]:
    """A MySQL with its binary log on, as it comes."""
    server = servers.start("mysql", arguments=["--log-bin=log", "--server-id=7"])
    yield server
    server.stop()


@pytest.fixture(scope="session")
def logged_mariadb() -> Iterator[Server]:
    """A MariaDB that logs rows."""
    arguments = ["--log-bin=log", "--binlog-format=ROW", "--server-id=7"]
    server = servers.start("mariadb", arguments=arguments)
    yield server
    server.stop()


@pytest.fixture(params=["mysql", "mariadb"])
def logged(request: pytest.FixtureRequest) -> Server:
    """Each kind of server with its binary log on."""
    found: Server = request.getfixturevalue(f"logged_{request.param}")
    return found


@pytest.fixture(scope="session")
def full_pipeline_mysql(
    mysql: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FullPipeline]:
    """The full 0.14.6 pipeline on `mysql`; tests must not change it."""
    yield from _filled(mysql, tmp_path_factory.mktemp("full_mysql"))


@pytest.fixture(scope="session")
def full_pipeline_maria(
    mariadb: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FullPipeline]:
    """The full 0.14.6 pipeline on `mariadb`; tests must not change it."""
    yield from _filled(mariadb, tmp_path_factory.mktemp("full_maria"))


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """An S3 service that checks signatures."""
    with s3.running(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(s3_server: S3, request: pytest.FixtureRequest) -> Bucket:
    """An empty bucket for this test."""
    return s3_server.make_bucket(request.node.name)


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each kind of server in its turn."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def fresh() -> Iterator[Fresh]:
    """`fresh(server, *schemas)`: none of the schemas is there now, nor after the test."""
    named: list[tuple[Server, tuple[str, ...]]] = []

    def make_fresh(server: Server, *schemas: str) -> None:
        drop(server, *schemas)
        named.append((server, schemas))

    yield make_fresh
    for server, schemas in named:
        drop(server, *schemas)


def drop(server: Server, *schemas: str) -> None:
    """Drop the schemas, whatever refers to them."""
    statements = [f"DROP DATABASE IF EXISTS `{schema}`;" for schema in schemas]
    server.sql("SET FOREIGN_KEY_CHECKS=0;" + "".join(statements))


def _filled(server: Server, root: Path) -> Iterator[FullPipeline]:
    # A server named from outside may have other sessions' schemas.
    prefix = f"full{os.getpid()}"
    pipeline = fill(server, prefix, root)
    yield pipeline
    drop(server, *pipeline.schemas)
