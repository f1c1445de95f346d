"""A password goes to nobody who has not proved who he is, unless the user has said so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import certificates
import servers
from certificates import Pair
from datajoint_migrate import ConnectionFailed, InvalidArgument, MigrationError, _core
from datajoint_migrate.catalog.server import resolve
from impostor import Impostor
from places import ROOT
from servers import Server

PASSWORD = "Planted-password-of-thirty-one"
PLUGINS = ("mysql_clear_password", "sha256_password", "caching_sha2_password")
# It leads to this machine, and is no name of it that may be trusted for being here.
ELSEWHERE = "0.0.0.0"


def by_session(url: str) -> None:
    resolve(url).session(read_only=True).close()


def by_engine(url: str) -> None:
    plan = {"source": resolve(url).spec(), "schema": "information_schema", "table": "ENGINES"}
    stream = _core.scan({**plan, "columns": ["ENGINE"]})
    assert pa.RecordBatchReader.from_stream(stream).read_all()


CLIENTS = pytest.mark.parametrize("client", [by_session, by_engine])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return certificates.authority(tmp_path_factory.mktemp("impostor"), "anybody")


def url(port: int, *options: str, host: str = ELSEWHERE) -> str:
    return f"mysql://keeper:{PASSWORD}@{host}:{port}/?{'&'.join(options)}"


@CLIENTS
@pytest.mark.parametrize("switch", [False, True], ids=["greets", "switches"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("plugin", PLUGINS)
def test_an_impostor_is_given_nothing(
    client: Callable[[str], None],
    plugin: str,
    tls: bool,
    switch: bool,
    certificate: Pair,
) -> None:
    with Impostor(
        certificate.cert.parent, plugin, tls=certificate if tls else None, switch=switch
    ) as impostor:
        for mode in ("preferred", "required", "disabled"):
            with pytest.raises(ConnectionFailed) as refused:
                client(url(impostor.port, f"ssl_mode={mode}"))
            assert refused.value.code == "DJM-1104"
            if mode != "required" or tls:
                assert "password in clear" in refused.value.message
                assert "trust_server" in str(refused.value.hint) or plugin == PLUGINS[0]
        if not tls or plugin == "mysql_clear_password":
            with pytest.raises(ConnectionFailed):
                client(url(impostor.port, host="127.0.0.1"))
        assert impostor.received
        assert not impostor.knows(PASSWORD)
        assert not impostor.sealed


@CLIENTS
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("plugin", PLUGINS)
def test_who_is_to_be_trusted_is_given_the_password(
    client: Callable[[str], None],
    plugin: str,
    tls: bool,
    certificate: Pair,
    caplog: pytest.LogCaptureFixture,
) -> None:
    words = ["trust-server=true"] + ["enable-cleartext-plugin=1"] * (plugin == PLUGINS[0])
    with Impostor(
        certificate.cert.parent, plugin, tls=certificate if tls else None, switch=False
    ) as impostor:
        with suppress(MigrationError), caplog.at_level(logging.DEBUG):
            client(url(impostor.port, *words))
        assert PASSWORD not in caplog.text
        # In clear it goes over no line that others can read.
        assert impostor.knows(PASSWORD) == (tls or plugin != "mysql_clear_password")
        assert bool(impostor.sealed) == (not tls and plugin != "mysql_clear_password")


@CLIENTS
@pytest.mark.parametrize(
    "plugin", ["mysql_old_password", "dialog", "authentication_oci_client", "auth.x", ""]
)
def test_a_plugin_that_is_not_known_is_refused(
    client: Callable[[str], None], plugin: str, certificate: Pair
) -> None:
    with Impostor(certificate.cert.parent, plugin, tls=None, switch=True) as impostor:
        with pytest.raises(ConnectionFailed):
            client(url(impostor.port))
        # The scramble that answers the greeting, and nothing after it.
        assert len(impostor.received) == 1


@pytest.mark.parametrize("word", ["trust_server", "enable_cleartext_plugin"])
def test_a_word_of_trust_is_true_or_false(word: str) -> None:
    assert getattr(resolve({"host": "h", word: "yes"}), word)
    assert not getattr(resolve(f"mysql://u@h/?{word}=0"), word)
    with pytest.raises(InvalidArgument, match=word):
        resolve({"host": "h", word: "maybe"})


@pytest.fixture(scope="module")
def encrypted(mysql: Server) -> Iterator[Server]:
    mysql.sql(f"CREATE USER keeper IDENTIFIED BY '{PASSWORD}'; GRANT SELECT ON *.* TO keeper")
    yield mysql
    mysql.sql("DROP USER keeper")


@CLIENTS
def test_a_server_that_remembers_nobody_gets_the_password_when_it_has_proved_itself(
    client: Callable[[str], None], encrypted: Server, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Path(str(encrypted.sql("SELECT @@datadir")[0][0])) / "ca.pem"
    encrypted.sql("FLUSH PRIVILEGES")
    for mode in ("preferred", "required"):
        with pytest.raises(ConnectionFailed, match="has not proved who it is") as refused:
            client(url(encrypted.port, f"ssl_mode={mode}"))
        assert "ssl_ca" in str(refused.value.hint)
    with caplog.at_level(logging.DEBUG):
        client(url(encrypted.port, f"ssl_ca={authority}"))
        # Now it remembers, and a scramble is enough.
        client(url(encrypted.port))
        encrypted.sql("FLUSH PRIVILEGES")
        client(url(encrypted.port, "trust_server=true"))
        encrypted.sql("FLUSH PRIVILEGES")
        client(url(encrypted.port, host="127.0.0.1"))
    assert PASSWORD not in caplog.text


@CLIENTS
@pytest.mark.parametrize("way", ["loopback", "socket"])
def test_an_account_that_forgives_one_wrong_password_is_not_locked(
    client: Callable[[str], None], way: str, mysql: Server
) -> None:
    mysql.sql(
        "DROP USER IF EXISTS careful; CREATE USER careful IDENTIFIED BY 'pw'"
        " FAILED_LOGIN_ATTEMPTS 2 PASSWORD_LOCK_TIME 1; GRANT SELECT ON *.* TO careful"
    )
    place = f"127.0.0.1:{mysql.port}/?" if way == "loopback" else f"h/?unix_socket={mysql.socket}"
    try:
        for _ in range(2):
            with pytest.raises(ConnectionFailed, match="refused the login"):
                client(f"mysql://careful:no@{place}")
            client(f"mysql://careful:pw@{place}")
        # The server remembers nobody, and a login that breaks off is a failed one.
        mysql.sql("ALTER USER careful FAILED_LOGIN_ATTEMPTS 1; FLUSH PRIVILEGES")
        client(f"mysql://careful:pw@{place}")
        with pytest.raises(ConnectionFailed, match="refused the login"):
            client(f"mysql://careful:no@{place}")
        with pytest.raises(ConnectionFailed, match=r"refused the login.*blocked"):
            client(f"mysql://careful:pw@{place}")
    finally:
        mysql.sql("DROP USER careful")


@pytest.fixture(scope="module")
def plain() -> Iterator[Server]:
    server = servers.start("mysql", arguments=["--tls-version="])
    made = f"CREATE USER keeper IDENTIFIED BY '{PASSWORD}'; GRANT SELECT ON *.* TO keeper"
    server.client("--get-server-public-key", text=made)
    yield server
    server.stop()


@CLIENTS
def test_without_tls_a_public_key_protects_the_password(
    client: Callable[[str], None], plain: Server
) -> None:
    def told(sql: str) -> str:
        return plain.client("--get-server-public-key", text=sql).decode()

    key = Path(told("SELECT @@datadir").split()[-1]) / "public_key.pem"
    for host in (ELSEWHERE, "127.0.0.1"):
        told("FLUSH PRIVILEGES")
        with pytest.raises(ConnectionFailed, match="password in clear") as refused:
            client(url(plain.port, host=host))
        assert "server_public_key_path" in str(refused.value.hint)
        client(url(plain.port, f"server-public-key-path={key}", host=host))
        told("FLUSH PRIVILEGES")
        client(url(plain.port, "get-server-public-key=true", host=host))
        client(url(plain.port, host=host))
        told("FLUSH PRIVILEGES")


@CLIENTS
def test_a_key_of_another_server_gives_nothing_away(
    client: Callable[[str], None], certificate: Pair, tmp_path: Path
) -> None:
    with Impostor(
        certificate.cert.parent, "caching_sha2_password", tls=None, switch=False
    ) as impostor:
        other = Impostor(tmp_path, "caching_sha2_password", tls=None, switch=False)
        (tmp_path / "public.pem").write_bytes(other.public)
        with suppress(MigrationError):
            client(url(impostor.port, f"server_public_key_path={tmp_path / 'public.pem'}"))
        assert len(max(impostor.received, key=len)) >= 200
        assert not impostor.knows(PASSWORD)
        assert not impostor.sealed


def test_the_rule_takes_only_what_it_knows() -> None:
    server: dict[str, Any] = resolve(f"mysql://u:{PASSWORD}@h/").spec()
    with pytest.raises(ConnectionFailed):
        _core.password_for(server, "caching_sha2_password", False, b"1" * 20, None)
    open_hand = server | {"trust_server": True}
    assert _core.password_for(open_hand, "sha256_password", False, b"1" * 20, None) is None
    with pytest.raises(ConnectionFailed, match="public key"):
        _core.password_for(open_hand, "sha256_password", False, b"1" * 20, b"no key")


def test_a_key_that_is_cut_is_refused_and_the_engine_does_not_panic() -> None:
    server: dict[str, Any] = resolve(f"mysql://u:{PASSWORD}@h/?trust_server=true").spec()
    whole = (ROOT / "rust/core/src/mysql/stranger/recorded/public_key.pem").read_text()
    begin, *lines, end = whole.splitlines()
    for kept in range(len(lines)):
        key = "\n".join([begin, *lines[:kept], end]).encode()
        with pytest.raises(ConnectionFailed, match="public key"):
            _core.password_for(server, "sha256_password", False, b"1" * 20, key)
