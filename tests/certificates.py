"""Certificates for tests: authorities, servers and clients, made by openssl."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from server_programs import install_package


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, PEM files."""

    cert: Path
    key: Path


def authority(folder: Path, name: str) -> Pair:
    """A new authority that signs its own certificate."""
    pair = Pair(folder / f"{name}.pem", folder / f"{name}-key.pem")
    _openssl(
        f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30"
        f" -subj /CN={name} -keyout {pair.key} -out {pair.cert}"
    )
    return pair


def signed(folder: Path, name: str, by: Pair, hosts: str, days: int = 30) -> Pair:
    """A certificate of an authority for `hosts` (`DNS:…,IP:…`); expired with negative `days`."""
    pair = Pair(folder / f"{name}.pem", folder / f"{name}-key.pem")
    request, extensions = folder / f"{name}.csr", folder / f"{name}.cnf"
    extensions.write_text(f"subjectAltName={hosts}\n")
    _openssl(
        f"req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name}"
        f" -keyout {pair.key} -out {request}"
    )
    _openssl(
        f"x509 -req -in {request} -CA {by.cert} -CAkey {by.key} -CAcreateserial -days {days}"
        f" -extfile {extensions} -out {pair.cert}"
    )
    return pair


def _openssl(words: str) -> None:
    if not shutil.which("openssl"):
        install_package("openssl")
    subprocess.run(["openssl", *words.split()], check=True, capture_output=True)
