"""Where the server programs come from: MySQL unpacked into the cache, MariaDB from the system.

Debian 12 carries no MySQL, its unstable branch does. Nothing of the system is touched: a private
apt state fetches the packages, they are unpacked into one folder, and every program there runs by
the C library that came with it.
"""

from __future__ import annotations

import functools
import getpass
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from environments import cache_folder, locked

KINDS = ("mysql", "mariadb")
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
DEFAULT_URI = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Maintainer scripts never run here, so what only they need stays away.
NOT_NEEDED = re.compile(r"perl|libperl|debconf|openssl-provider")
SQL_USERS = (
    "CREATE USER 'root'@'%' IDENTIFIED BY '';",
    "GRANT ALL PRIVILEGES ON *.* TO 'root'@'%' WITH GRANT OPTION;",
    "CREATE USER 'dj'@'%' IDENTIFIED BY 'dj';",
    "GRANT ALL PRIVILEGES ON *.* TO 'dj'@'%' WITH GRANT OPTION;",
)


class InstallError(Exception):
    """A server cannot be had on this machine; the message says what to do."""


@dataclass(frozen=True)
class Programs:
    """The programs of one installed server and its initialised, never started data folder."""

    kind: str
    template: Path
    root: Path | None = None

    def command(self, name: str) -> list[str]:
        """The words that start program `name` ("mysqld", "mysql", "mysqldump", ...)."""
        if self.root is None:
            return [_system_program(name)]
        return _by_own_loader(self.root, name)

    def server_arguments(self) -> list[str]:
        """Where the server finds its messages and character sets, and whom it may run as."""
        owner = ["--user=root"] if os.geteuid() == 0 else []
        if self.root is None:
            return ["--no-defaults", *owner]
        return [*_mysql_arguments(self.root), *owner]


@functools.cache
def programs(kind: str) -> Programs:
    """The programs of `kind` ("mysql" or "mariadb"), installed first when they are not there.

    Raises InstallError when that is impossible here.
    """
    if kind == "mysql":
        return _mysql()
    if kind == "mariadb":
        return _mariadb()
    raise InstallError(f"no server kind {kind!r}; known: {', '.join(KINDS)}")


def _mysql() -> Programs:
    home = cache_folder() / "mysql"
    found = Programs("mysql", home / "template", home / "root")
    if home.is_dir():
        return found
    with locked("mysql"):
        if not home.is_dir():
            _sweep("mysql.partial-")
            partial = Path(tempfile.mkdtemp(prefix="mysql.partial-", dir=cache_folder()))
            _unpack_mysql(partial / "root", partial / "apt")
            _initialise_mysql(partial / "root", partial / "template")
            shutil.rmtree(partial / "apt")
            partial.chmod(0o755)
            partial.rename(home)
    return found


def _mariadb() -> Programs:
    _install_mariadb()
    version = _run([_system_program("mariadbd"), "--no-defaults", "--version"])
    matched = re.search(r"Ver (\d+\.\d+\.\d+)", version)
    name = matched.group(1) if matched else "unknown"
    # A data folder belongs to the release that made it: an upgraded server gets a new one.
    template = cache_folder() / "mariadb" / name
    if not template.is_dir():
        with locked("mariadb"):
            if not template.is_dir():
                template.parent.mkdir(exist_ok=True)
                _initialise_mariadb(template)
    return Programs("mariadb", template)


def _unpack_mysql(root: Path, apt: Path) -> None:
    """Fetch MySQL's packages and all they depend on with a private apt state; unpack into root."""
    for folder in ("lists/partial", "cache/archives/partial", "packages", "parts"):
        (apt / folder).mkdir(parents=True)
    (apt / "status").touch()
    uri, keyring = _debian_source()
    (apt / "sources.list").write_text(f"deb [signed-by={keyring}] {uri} sid main\n")
    private = [
        word
        for option in (
            f"Dir::Etc::sourcelist={apt}/sources.list",
            f"Dir::Etc::sourceparts={apt}/parts",
            f"Dir::State::lists={apt}/lists",
            f"Dir::State::status={apt}/status",
            f"Dir::Cache={apt}/cache",
            "APT::Sandbox::User=root",
            "APT::Get::List-Cleanup=0",
        )
        for word in ("-o", option)
    ]
    _run(["apt-get", *private, "--quiet=2", "update"])
    leave_out = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    depends = [
        "apt-cache",
        *private,
        "depends",
        "--recurse",
        *(f"--no-{kind}" for kind in leave_out),
    ]
    listing = _run([*depends, "mysql-server-core", "mysql-client-core"])
    names = sorted(
        line for line in listing.splitlines() if line[:1].isalnum() and not NOT_NEEDED.match(line)
    )
    _run(["apt-get", *private, "--quiet=2", "download", *names], cwd=apt / "packages")
    root.mkdir()
    for package in sorted((apt / "packages").glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(root)])


def initialise_mysql(data: Path, *arguments: str) -> None:
    """Make a data folder of a MySQL of its own, for what has to be said when it is made."""
    _initialise_mysql(programs("mysql").root or Path(), data, *arguments)


def _initialise_mysql(root: Path, template: Path, *arguments: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".sql", dir=root.parent) as users:
        users.write("\n".join(SQL_USERS) + "\n")
        users.flush()
        owner = ["--user=root"] if os.geteuid() == 0 else []
        words = [*_by_own_loader(root, "mysqld"), *_mysql_arguments(root), *owner]
        words += [f"--datadir={template}", f"--init-file={users.name}", "--initialize-insecure"]
        _run([*words, *arguments])
    # The server's identity stands in this file: copies must not share it.
    (template / "auto.cnf").unlink(missing_ok=True)


def _initialise_mariadb(template: Path) -> None:
    _sweep(f"mariadb/{template.name}.partial-")
    partial = Path(tempfile.mkdtemp(prefix=f"{template.name}.partial-", dir=template.parent))
    owner = f"--user={getpass.getuser()}"
    common = ["--no-defaults", f"--datadir={partial}", owner, "--skip-name-resolve"]
    make = [_system_program("mariadb-install-db"), *common, "--skip-test-db"]
    _run([*make, "--auth-root-authentication-method=normal"])
    statements = ["FLUSH PRIVILEGES;", *SQL_USERS]
    fill = [_system_program("mariadbd"), *common, "--bootstrap"]
    _run(fill, text="\n".join(statements) + "\n")
    partial.rename(template)


def _install_mariadb() -> None:
    if not _which("mariadbd"):
        install_package("mariadb-server", "or name a server in DJM_TEST_MARIADB")


def install_package(name: str, instead: str = "") -> None:
    """Install a package of Debian's; raises InstallError, which says what to do by hand."""
    if os.geteuid() != 0:
        by_hand = f"run 'apt-get install {name}' " + instead
        raise InstallError(f"{name} is not installed and only root can install it: {by_hand}")
    if not shutil.which("apt-get"):
        raise InstallError(f"{name} is not installed and there is no apt-get to install it with")
    install = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "--quiet=2", "install", "--yes"]
    install += ["--no-install-recommends", name]
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with locked(f"{name}-install"):
        try:
            _run(install, env=quiet)
        except InstallError:
            # A machine that was just set up has no package lists yet.
            _run(["apt-get", "--quiet=2", "update"])
            _run(install, env=quiet)


def _debian_source() -> tuple[str, str]:
    """URI and keyring this machine already trusts for Debian's own packages."""
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise InstallError(
            "MySQL is unpacked from Debian's packages, and apt-get or dpkg is missing: "
            "name a server in DJM_TEST_MYSQL"
        )
    text = SOURCES.read_text() if SOURCES.is_file() else ""
    stanza = text.split("\n\n")[0]
    uri = re.search(r"^URIs:\s*(\S+)", stanza, re.MULTILINE)
    keyring = re.search(r"^Signed-By:\s*(/\S+)", stanza, re.MULTILINE)
    return (uri.group(1) if uri else DEFAULT_URI, keyring.group(1) if keyring else KEYRING)


def _mysql_arguments(root: Path) -> list[str]:
    share = root / "usr" / "share" / "mysql"
    return [
        "--no-defaults",
        f"--basedir={root}/usr",
        f"--lc-messages-dir={share}",
        f"--character-sets-dir={share}/charsets",
        f"--plugin-dir={root}/usr/lib/mysql/plugin",
    ]


def _by_own_loader(root: Path, name: str) -> list[str]:
    """Words that run a program of the unpacked tree with the C library of that tree."""
    loader = next(iter(sorted(root.glob("usr/lib/*-linux-gnu/ld-linux*.so.*"))), None)
    if loader is None:
        raise InstallError(f"no dynamic loader below {root}: remove that folder and try again")
    for folder in ("usr/sbin", "usr/bin"):
        program = root / folder / name
        if program.is_file():
            libraries = f"{loader.parent}:{root}/usr/lib/mysql/private"
            # Else a program of the same name on the PATH is what it takes itself for.
            start = [str(loader), "--library-path", libraries]
            return [*start, "--argv0", str(program), str(program)]
    raise InstallError(f"MySQL's packages have no program {name!r}")


def _which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _system_program(name: str) -> str:
    found = _which(name)
    if found is None:
        raise InstallError(f"no program {name!r} on this machine")
    return found


def _sweep(prefix: str) -> None:
    """Remove what an interrupted installer left; the caller holds the lock."""
    for left in cache_folder().glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)


def _run(
    words: Sequence[str],
    *,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    text: str | None = None,
) -> str:
    done = subprocess.run(words, cwd=cwd, env=env, input=text, capture_output=True, text=True)
    if done.returncode:
        tail = (done.stderr or done.stdout).strip()[-2000:]
        raise InstallError(f"{words[0]} ended with {done.returncode}: {tail}")
    return done.stdout
