"""TLS as MySQL's own clients have it: whom a connection trusts, and that all are encrypted."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import certificates
import servers
import small
from certificates import Pair
from datajoint_migrate import ConnectionFailed, InvalidArgument, _core, backup_schema, migrate
from datajoint_migrate.catalog.server import resolve
from line import Harm, Packet, line
from people import wait_for
from servers import Server

HERE = "IP:127.0.0.1"


@dataclass
class Certified:
    """A server whose certificate the tests choose, and two authorities: its own and another."""

    server: Server
    folder: Path
    authority: Pair
    stranger: Pair

    def present(self, certificate: Pair) -> None:
        """From now on the server shows this certificate."""
        shutil.copy(certificate.cert, self.folder / "server.pem")
        shutil.copy(certificate.key, self.folder / "server-key.pem")
        mysql = self.server.kind == "mysql"
        self.server.sql("ALTER INSTANCE RELOAD TLS" if mysql else "FLUSH SSL")

    def url(self, **options: Any) -> str:
        said = "&".join(f"{name.replace('_', '-')}={value}" for name, value in options.items())
        return f"{self.server.url}?{said}"


@pytest.fixture(scope="module", params=["mysql", "mariadb"])
def certified(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Certified]:
    folder = tmp_path_factory.mktemp("certificates")
    ours, stranger = (certificates.authority(folder, name) for name in ("ours", "stranger"))
    certificates.signed(folder, "server", ours, HERE)
    shutil.copy(ours.cert, folder / "ca.pem")
    files = {"ca": "ca.pem", "cert": "server.pem", "key": "server-key.pem"}
    arguments = [f"--ssl-{name}={folder / file}" for name, file in files.items()]
    server = servers.start(request.param, arguments=arguments)
    yield Certified(server, folder, ours, stranger)
    server.stop()


def by_python(url: str) -> None:
    with resolve(url).session() as session:
        assert session.query("SHOW SESSION STATUS LIKE 'Ssl_cipher'")[0][1]


def by_the_engine(url: str) -> None:
    server = resolve(url)
    plan = {"source": server.spec(), "schema": "information_schema", "table": "ENGINES"}
    assert pa.RecordBatchReader.from_stream(_core.scan({**plan, "columns": ["ENGINE"]})).read_all()


def both_clients(url: str) -> None:
    """Connect with Python's sessions and with the engine."""
    by_python(url)
    by_the_engine(url)


def refusals(url: str) -> list[ConnectionFailed]:
    """What each of the two clients says when it is refused."""
    server = resolve(url)
    plan = {"source": server.spec(), "schema": "information_schema", "table": "ENGINES"}
    with pytest.raises(ConnectionFailed) as python:
        server.session()
    with pytest.raises(ConnectionFailed) as engine:
        _core.scan({**plan, "columns": ["ENGINE"]})
    return [python.value, engine.value]


def test_the_authority_and_the_host_name_are_verified(certified: Certified) -> None:
    ca = certified.authority.cert
    certified.present(certificates.signed(certified.folder, "good", certified.authority, HERE))
    for options in ({"ssl_mode": "VERIFY-IDENTITY"}, {"ssl_mode": "verify_ca"}, {}):
        both_clients(certified.url(**options, ssl_ca=ca))
    both_clients(certified.url(ssl_mode="required"))


def test_a_wrong_authority_a_wrong_name_and_an_expired_certificate_are_refused(
    certified: Certified,
) -> None:
    folder, ours = certified.folder, certified.authority
    certified.present(certificates.signed(folder, "good", ours, HERE))
    for error in refusals(certified.url(ssl_mode="verify-ca", ssl_ca=certified.stranger.cert)):
        assert error.code == "DJM-1104"
        assert "ssl_ca" in str(error.hint)
    certified.present(certificates.signed(folder, "elsewhere", ours, "DNS:db.example.org"))
    for error in refusals(certified.url(ssl_mode="verify-identity", ssl_ca=ours.cert)):
        assert error.code == "DJM-1104"
        assert "127.0.0.1" in error.message
        assert "certificate" in error.message
    both_clients(certified.url(ssl_mode="verify-ca", ssl_ca=ours.cert))
    if certified.server.kind == "mysql":
        return  # MySQL itself refuses to show an expired certificate.
    certified.present(certificates.signed(folder, "old", ours, HERE, days=-1))
    for error in refusals(certified.url(ssl_mode="verify-ca", ssl_ca=ours.cert)):
        assert error.code == "DJM-1104"
        assert "expired" in error.message.lower()
    certified.present(certificates.signed(folder, "good", ours, HERE))


@pytest.mark.parametrize("client", [by_python, by_the_engine])
def test_a_server_proves_who_it_is_once(
    certified: Certified, client: Callable[[str], None], tmp_path: Path
) -> None:
    """The proof costs it more than the rest of a login; a call has dozens of sessions."""
    ca = shutil.copy(certified.authority.cert, tmp_path / "ca.pem")
    url = certified.url(ssl_mode="verify-identity", ssl_ca=ca)
    certified.present(certificates.signed(certified.folder, "good", certified.authority, HERE))

    def redeemed() -> int:
        count = certified.server.sql("SHOW GLOBAL STATUS LIKE 'Ssl_session_cache_hits'")[0][1]
        return int(count or 0)

    client(url)
    before = redeemed()
    client(url)
    # MariaDB gives no tickets.
    assert (redeemed() > before) == (certified.server.kind == "mysql")
    # Whom the file named before is no matter now.
    shutil.copy(certified.stranger.cert, ca)
    with pytest.raises(ConnectionFailed) as caught:
        client(url)
    assert caught.value.code == "DJM-1104"


def test_no_session_reads_the_authorities_of_the_system(
    certified: Certified, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is asked for them, and reading takes longer than the rest of a login."""

    def read(*_: Any) -> None:
        raise AssertionError("the authorities of the system are read")

    ca = certified.authority.cert
    certified.present(certificates.signed(certified.folder, "good", certified.authority, HERE))
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", read)
    for options in ({}, {"ssl_mode": "required"}, {"ssl_mode": "verify_ca", "ssl_ca": ca}):
        with resolve(certified.url(**options)).session() as session:
            assert session.query("SHOW SESSION STATUS LIKE 'Ssl_cipher'")[0][1]


def test_a_line_that_is_cut_amid_the_handshake_is_no_matter_of_trust(certified: Certified) -> None:
    def rule(packet: Packet) -> Harm:
        # All that the client has said by then is that it wants to encrypt.
        return "cut" if packet.upward and len(packet.payload) == 32 else None

    with line(certified.server, rule, tls=True) as proxy:
        server = resolve(f"{proxy.url}?ssl-mode=required")
        plan = {"source": server.spec(), "schema": "information_schema", "table": "ENGINES"}
        with pytest.raises(ConnectionFailed) as caught:
            _core.scan({**plan, "columns": ["ENGINE"]})
    assert len(proxy.harmed) == 1
    # As any line that is lost, which is tried again.
    assert caught.value.code == "DJM-1101"


def test_an_authority_of_the_system_does_not_stand_in_for_the_one_given(
    certified: Certified, monkeypatch: pytest.MonkeyPatch
) -> None:
    certified.present(certificates.signed(certified.folder, "good", certified.authority, HERE))
    monkeypatch.setenv("SSL_CERT_FILE", str(certified.authority.cert))
    for error in refusals(certified.url(ssl_mode="verify-ca", ssl_ca=certified.stranger.cert)):
        assert error.code == "DJM-1104"


def test_an_account_that_demands_a_certificate_gets_one(certified: Certified) -> None:
    certified.server.sql(
        "CREATE USER IF NOT EXISTS 'certain'@'%' IDENTIFIED BY 'pw' REQUIRE X509;"
        "GRANT SELECT ON *.* TO 'certain'@'%';"
    )
    certified.present(certificates.signed(certified.folder, "good", certified.authority, HERE))
    client = certificates.signed(certified.folder, "client", certified.authority, "DNS:me")
    address = f"mysql://certain:pw@127.0.0.1:{certified.server.port}/?ssl-mode=verify-identity"
    address += f"&ssl-ca={certified.authority.cert}"
    for error in refusals(address):
        assert error.code in ("DJM-1101", "DJM-1102")
        assert "Access denied" in error.message
    for _ in range(2):
        both_clients(f"{address}&ssl-cert={client.cert}&ssl-key={client.key}")


def connections(server: Server) -> int:
    """How many there have been, without the one that asks."""
    return int(server.sql("SHOW GLOBAL STATUS LIKE 'Connections'")[0][1] or 0) - 1


def test_a_login_that_is_refused_is_tried_once(certified: Certified) -> None:
    """Servers count them, and lock accounts and hosts."""
    server = certified.server
    server.sql("CREATE USER IF NOT EXISTS counted IDENTIFIED BY 'pw'")
    for way in f"127.0.0.1:{server.port}/", f"localhost/?unix_socket={server.socket}":
        before = connections(server)
        for error in refusals(f"mysql://counted:no@{way}"):
            assert error.code == "DJM-1102", error
        # One of each client, and the look before.
        assert connections(server) - before == 3, way


def test_an_account_that_demands_tls_is_not_refused_first(certified: Certified) -> None:
    server = certified.server
    server.sql(
        "CREATE USER IF NOT EXISTS 'private'@'%' IDENTIFIED BY 'pw' REQUIRE SSL;"
        "GRANT SELECT ON *.* TO 'private'@'%'; FLUSH PRIVILEGES"
    )
    # Who is refused is told so before it is counted, and is connected until then.
    connected = "SHOW GLOBAL STATUS LIKE 'Threads_connected'"
    wait_for(lambda: server.sql(connected)[0][1] == "1")
    counted = "SHOW GLOBAL STATUS LIKE 'Aborted_connects'"
    before = server.sql(counted)
    both_clients(f"mysql://private:pw@127.0.0.1:{server.port}/")
    wait_for(lambda: server.sql(connected)[0][1] == "1")
    assert server.sql(counted) == before


def test_every_connection_of_a_migration_is_encrypted(certified: Certified, tmp_path: Path) -> None:
    certified.present(certificates.signed(certified.folder, "good", certified.authority, HERE))
    pipeline = small.make(certified.server, f"tls_{certified.server.kind}", tmp_path)
    url = certified.url(ssl_mode="verify-identity", ssl_ca=certified.authority.cert)

    def counted() -> tuple[int, int]:
        with resolve(url).session() as session:
            told = dict(
                session.query(
                    "SHOW GLOBAL STATUS WHERE Variable_name IN"
                    " ('Connections', 'Ssl_finished_accepts')"
                )
            )
        return int(told["Connections"]), int(told["Ssl_finished_accepts"])

    before = counted()
    if certified.server.kind == "mysql":
        done = migrate(pipeline.map, connection=url, **pipeline.stores)
        assert done["match"]
    else:
        # A pipeline on MariaDB is only read.
        backup_schema(pipeline.lab, tmp_path / "archive", connection=url)
    connections, encrypted = (now - then for now, then in zip(counted(), before, strict=True))
    assert connections == encrypted
    assert connections > 5


@pytest.fixture(scope="module")
def plain() -> Iterator[Server]:
    """A server without TLS."""
    server = servers.start("mysql", arguments=["--tls-version="])
    yield server
    server.stop()


def test_a_server_without_tls_is_refused_before_anybody_logs_in(plain: Server) -> None:
    for error in refusals(f"{plain.url}?ssl-mode=required"):
        assert error.code == "DJM-1104"
        assert "offers no TLS" in error.message


def test_a_password_is_not_sent_in_clear(plain: Server) -> None:
    # Nobody has logged in as this user: the server asks for the whole password.
    plain.client(
        "--get-server-public-key", text="CREATE USER fresh@'%' IDENTIFIED BY 'fresh-secret'"
    )
    with pytest.raises(ConnectionFailed, match="password in clear") as error:
        resolve(f"mysql://fresh:fresh-secret@127.0.0.1:{plain.port}/").session()
    assert error.value.code == "DJM-1104"


@pytest.mark.parametrize(
    ("tls", "mode"),
    [
        ({"ssl": {}}, "required"),
        ({"ca": "/ca.pem"}, "verify_identity"),
        ({"ca": "/ca.pem", "check_hostname": False}, "verify_ca"),
        ({"ca": "/ca.pem", "verify_mode": "none"}, "required"),
    ],
)
def test_datajoints_use_tls_means_what_it_means_there(tls: Any, mode: str) -> None:
    assert resolve({"host": "h", "use_tls": tls}).ssl_mode == mode


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ssl_cert": "/c.pem"}, "belong together"),
        ({"unix_socket": "/s", "ssl_mode": "required"}, "socket"),
        ({"use_tls": {"capath": "/etc"}}, "capath"),
    ],
)
def test_a_wish_that_cannot_be_kept_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        resolve({"host": "h", **given})
