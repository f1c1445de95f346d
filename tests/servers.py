"""Private MySQL and MariaDB servers for tests, benches and demonstrations.

Standard library only: it runs on a bare machine, before any environment exists.

    python tests/servers.py install [mysql] [mariadb]
    python tests/servers.py start mysql [--no-local-infile] [-- --max-allowed-packet=4M ...]
    python tests/servers.py stop FOLDER              # the folder `start` printed
    python tests/servers.py run mysql mariadb -- make something
    python tests/servers.py program mysqldump --version

`run` sets DJM_TEST_MYSQL and DJM_TEST_MARIADB for the command. When a caller has set them already,
no server is started and the one they name is used.
"""

from __future__ import annotations

import argparse
import atexit
import ctypes
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import statements as statements_of
from server_programs import KINDS, InstallError, Programs, programs

VARIABLES = {"mysql": "DJM_TEST_MYSQL", "mariadb": "DJM_TEST_MARIADB"}
START_SECONDS = 180
STOP_SECONDS = 60
MEMORY = Path("/dev/shm")
MEMORY_NEEDED = 6 << 30
# MySQL's error for the whole list of its sessions while one of them is just ending.
HALF_ENDED, LOOKS = "ERROR 3854 ", 10


class ServerError(Exception):
    """A server did not start, or a client program failed; the message has its last words."""


@dataclass
class Server:
    """A running server and how to reach it.

    `folder` is the private folder of a server started here, None for one named from outside.
    """

    kind: str
    host: str
    port: int
    user: str = "dj"
    password: str = field(default="dj", repr=False)
    socket: str | None = None
    folder: Path | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    programs_of: Programs | None = field(default=None, repr=False)
    # How it was started: `local_infile` and further arguments.
    started_with: tuple[bool, Sequence[str]] = field(default=(True, ()), repr=False)

    @property
    def url(self) -> str:
        """`mysql://user:password@host:port/`, as datajoint_migrate and DJM_TEST_* take it."""
        return f"mysql://{quote(self.user)}:{quote(self.password)}@{self.host}:{self.port}/"

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def program(self, name: str, *arguments: str, database: str | None = None) -> list[str]:
        """Words that run client program `name` ("mysql", "mysqldump", "mysqladmin") on this server.

        `mysql...` names the MariaDB twin of the program when the server is a MariaDB.
        """
        of = self.programs_of or programs(self.kind)
        if self.kind == "mariadb":
            name = {"mysql": "mariadb", "mysqldump": "mariadb-dump"}.get(name, name)
            name = name.replace("mysqladmin", "mariadb-admin")
        reach = [f"--host={self.host}", f"--port={self.port}", "--protocol=tcp"]
        account = [f"--user={self.user}", f"--password={self.password}"]
        last = [database] if database else []
        return [*of.command(name), "--no-defaults", *reach, *account, *arguments, *last]

    def client(
        self, *arguments: str, text: str | bytes | None = None, program: str = "mysql"
    ) -> bytes:
        """Run a client program, `text` on its standard input; its standard output.

        Raises ServerError with the program's message when it fails.
        """
        given = text.encode() if isinstance(text, str) else text
        words = self.program(program, *arguments)
        # The warning about a password on the command line would hide the real message.
        done = subprocess.run(words, input=given, capture_output=True)
        if done.returncode:
            said = [
                line
                for line in done.stderr.decode(errors="replace").splitlines()
                if "Using a password on the command line" not in line
            ]
            raise ServerError("\n".join(said) or f"{program} ended with {done.returncode}")
        return done.stdout

    def sql(self, statements: str, database: str | None = None) -> list[tuple[str | None, ...]]:
        """Run SQL, one or more statements; the rows of all results as text, None for NULL."""
        for looks_left in reversed(range(LOOKS if "PROCESSLIST" in statements else 1)):
            try:
                return self._rows(statements, database)
            except ServerError as error:
                if not looks_left or not str(error).startswith(HALF_ENDED):
                    raise
        return []

    def _rows(self, statements: str, database: str | None) -> list[tuple[str | None, ...]]:
        if self.socket is not None:
            account = statements_of.Account(self.kind, self.socket, self.user, self.password)
            try:
                return statements_of.run(account, statements, database)
            except (OSError, statements_of.StatementError) as error:
                raise ServerError(str(error)) from error
        where = [f"--database={database}"] if database else []
        output = self.client(
            "--default-character-set=utf8mb4",
            "--batch",
            "--skip-column-names",
            *where,
            text=statements,
        )
        return [
            tuple(_plain(cell) for cell in line.split("\t"))
            for line in output.decode().split("\n")[:-1]
        ]

    def rest(self, *schemas: str) -> None:
        """Wait until the word of the server on their last changes cannot hide another change."""
        names = ", ".join(f"'{name}'" for name in schemas)
        fresh = "SET SESSION information_schema_stats_expiry = 0; " if self.kind == "mysql" else ""
        young = (
            f"{fresh}SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({names})"
            " AND UPDATE_TIME >= NOW() - INTERVAL 4 SECOND"
        )
        while self.sql(young) != [("0",)]:
            time.sleep(0.2)

    def kill(self) -> None:
        """End a server that was started here without a word of warning."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Start a server that was killed again: the same data, the same port."""
        assert self.folder is not None
        assert self.programs_of is not None
        until = time.monotonic() + START_SECONDS
        while True:
            self.process = _launch(self, self.programs_of, *self.started_with, False)
            if _answers(self.process, self.folder / "log"):
                return
            log = (self.folder / "log").read_text(errors="replace")
            # Another process may have the port for a moment, for a connection of its own.
            if "already in use" not in log or time.monotonic() > until:
                raise ServerError(log[-3000:])

    def stop(self) -> None:
        """Shut a server that was started here down in order, then remove its folder."""
        if self.process is not None:
            _stop_process(self.process)
            self.process = None
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None


def _plain(cell: str) -> str | None:
    if cell == "NULL":
        return None
    if "\\" not in cell:
        return cell
    escapes = {"n": "\n", "t": "\t", "0": "\0", "\\": "\\"}
    pieces: list[str] = []
    letters = iter(cell)
    for letter in letters:
        pieces.append(escapes.get(next(letters, ""), "") if letter == "\\" else letter)
    return "".join(pieces)


def named(kind: str) -> Server | None:
    """The server that the environment names for `kind`, if it does."""
    url = os.environ.get(VARIABLES[kind])
    if not url:
        return None
    parts = urlsplit(url)
    return Server(
        kind=kind,
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or "root"),
        password=unquote(parts.password or ""),
    )


_data_within: Path | None = None


def data_in_memory() -> None:
    """Keep the data of servers started from now on in memory, where there is room.

    Statements that make tables are ten times as fast there. Not for benches: a disk's waits are
    part of what they measure.
    """
    global _data_within
    try:
        room = shutil.disk_usage(MEMORY).free
    except OSError:
        return
    if room < MEMORY_NEEDED:
        return
    _data_within = MEMORY
    # A session that was killed leaves its folders, and memory is not swept by anybody else.
    for folder in MEMORY.glob("djm-*-*"):
        # Another worker may sweep at the same time, or a session that ends remove its own.
        with suppress(FileNotFoundError):
            idle = time.time() - folder.stat().st_mtime > 600
            if idle and folder.owner() == getpass.getuser() and not _runs(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _runs(folder: Path) -> bool:
    try:
        pid = int((folder / "pid").read_text())
        return str(folder) in Path(f"/proc/{pid}/cmdline").read_text()
    except (OSError, ValueError):
        return False


def start(
    kind: str,
    *,
    local_infile: bool = True,
    arguments: Sequence[str] = (),
    detached: bool = False,
    within: Path | None = None,
    template: Path | None = None,
) -> Server:
    """Start a private server of `kind` on a free port with a fresh data folder.

    `arguments` go to the server last, so they override what is set here. `within` is where its
    folder lies: what `data_in_memory` chose, or the system's place for temporary files; `template`
    is a data folder to begin with, for what is said when it is made. It ends
    with the calling process unless `detached`. Raises InstallError or ServerError.
    """
    of = programs(kind)
    folder = Path(tempfile.mkdtemp(prefix=f"djm-{kind}-", dir=within or _data_within))
    try:
        # --sparse: the redo log of a fresh data folder is mostly holes.
        copying = [
            "cp",
            "-a",
            "--sparse=always",
            str(template or of.template),
            str(folder / "data"),
        ]
        subprocess.run(copying, check=True)
        (folder / "tmp").mkdir()
        for attempt in range(3):
            server = Server(
                kind=kind,
                host="127.0.0.1",
                port=_free_port(),
                socket=str(folder / "socket"),
                folder=folder,
                programs_of=of,
                started_with=(local_infile, arguments),
            )
            server.process = _launch(server, of, local_infile, arguments, detached)
            if _answers(server.process, folder / "log"):
                break
            log = (folder / "log").read_text(errors="replace")
            # Another process may take the port between looking and binding.
            if attempt == 2 or "already in use" not in log:
                _stop_process(server.process)
                raise ServerError(f"{kind} did not start:\n{log[-3000:]}")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if not detached:
        atexit.register(server.stop)
    return server


def _launch(
    server: Server, of: Programs, local_infile: bool, arguments: Sequence[str], detached: bool
) -> subprocess.Popen[bytes]:
    folder = server.folder
    assert folder is not None
    words = [
        *of.command("mysqld" if of.kind == "mysql" else "mariadbd"),
        *of.server_arguments(),
        f"--datadir={folder}/data",
        f"--tmpdir={folder}/tmp",
        f"--port={server.port}",
        "--bind-address=127.0.0.1",
        f"--socket={server.socket}",
        f"--pid-file={folder}/pid",
        f"--local-infile={int(local_infile)}",
        "--skip-log-bin",
        # Survives the death of the server process, which is what tests cause.
        "--innodb-flush-log-at-trx-commit=2",
    ]
    if of.kind == "mysql":
        words += ["--mysqlx=OFF", "--secure-file-priv="]
    else:
        words += ["--character-set-server=utf8mb4"]
    # Only the main thread: the signal is sent when the starting *thread* ends.
    tied = not detached and threading.current_thread() is threading.main_thread()
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [*words, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent if tied else None,
        )


def _end_with_parent() -> None:
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM, 0, 0, 0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(process: subprocess.Popen[bytes], log: Path) -> bool:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if b"ready for connections" in log.read_bytes():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.05)
    return False


def _stop_process(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def running(
    kind: str, *, local_infile: bool = True, arguments: Sequence[str] = ()
) -> Iterator[Server]:
    """A server of `kind` for a `with` block: the one the environment names, else a private one."""
    server = named(kind)
    if server is not None:
        yield server
        return
    server = start(kind, local_infile=local_infile, arguments=arguments)
    try:
        yield server
    finally:
        server.stop()


def _command_install(kinds: list[str]) -> int:
    for kind in kinds or KINDS:
        print(f"{kind}: {programs(kind).template.parent}", flush=True)
    return 0


def _command_start(kind: str, local_infile: bool, arguments: list[str]) -> int:
    server = start(kind, local_infile=local_infile, arguments=arguments, detached=True)
    assert server.folder is not None
    said = {"url": server.url, "folder": str(server.folder), "pid": server.pid}
    print(json.dumps(said | {"socket": server.socket}))
    return 0


def _command_stop(folder: Path) -> int:
    if not folder.name.startswith("djm-") or not (folder / "data").is_dir():
        print(f"{folder} is not the folder of a server started here", file=sys.stderr)
        return 2
    try:
        # A stale file may name a process of somebody else by now.
        if _runs(folder):
            pid = int((folder / "pid").read_text())
            os.kill(pid, signal.SIGTERM)
            until = time.monotonic() + STOP_SECONDS
            while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
                time.sleep(0.1)
    except (FileNotFoundError, ProcessLookupError):
        pass
    shutil.rmtree(folder)
    return 0


def _command_run(kinds: list[str], command: list[str]) -> int:
    with ExitStack() as stack:
        environment = dict(os.environ)
        for kind in kinds:
            environment[VARIABLES[kind]] = stack.enter_context(running(kind)).url
        return subprocess.run(command, env=environment).returncode


def _command_program(name: str, arguments: list[str]) -> int:
    kind = "mariadb" if name.startswith("mariadb") else "mysql"
    return subprocess.run([*programs(kind).command(name), *arguments]).returncode


def main(words: list[str]) -> int:
    command: list[str] = []
    if "--" in words:
        at = words.index("--")
        words, command = words[:at], words[at + 1 :]
    if words[:1] == ["program"] and len(words) > 1:
        return _command_program(words[1], words[2:] + command)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("install").add_argument("kinds", nargs="*", choices=[*KINDS, []])
    starting = verbs.add_parser("start")
    starting.add_argument("kind", choices=KINDS)
    starting.add_argument("--no-local-infile", action="store_true")
    verbs.add_parser("stop").add_argument("folder", type=Path)
    verbs.add_parser("run").add_argument("kinds", nargs="+", choices=KINDS)
    options = parser.parse_args(words)
    try:
        if options.verb == "install":
            return _command_install(options.kinds)
        if options.verb == "start":
            return _command_start(options.kind, not options.no_local_infile, command)
        if options.verb == "stop":
            return _command_stop(options.folder.resolve())
        return _command_run(options.kinds, command)
    except (InstallError, ServerError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
