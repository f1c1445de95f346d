"""Files replaced whole: what a crash leaves is the old file or the new one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from errno import EACCES
from pathlib import Path

from datajoint_migrate.errors import InvalidArgument


def replace_files(files: Mapping[Path, tuple[bytes, bytes]]) -> None:
    """Give each file its new contents, if it still has the old ones; (old, new) by path.

    All new files are written before the first takes its place, so that a full disk changes
    nothing. Mode and owner stay.

    Raises `InvalidArgument` for a file that somebody changed meanwhile, or that cannot be written.
    """
    ready: list[tuple[str, Path]] = []
    try:
        for path, (old, new) in files.items():
            ready.append((_written_beside(path, new), path))
            if path.read_bytes() != old:
                raise InvalidArgument(
                    f"{path} was changed while it was read", hint="run the same command again"
                )
        while ready:
            os.replace(*ready[0])
            ready.pop(0)
    except OSError as error:
        raise InvalidArgument(
            f"{error.filename or 'a file'} cannot be written: {error.strerror}",
            hint="files that were not reached are as they were; run the same command again",
        ) from error
    finally:
        for beside, _ in ready:
            with suppress(OSError):
                os.unlink(beside)


def _written_beside(path: Path, data: bytes) -> str:
    was = path.stat()
    if not os.access(path, os.W_OK):
        raise PermissionError(EACCES, "it is read-only", str(path))
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            with suppress(OSError):
                # Only root can keep another's file another's.
                os.fchown(file.fileno(), was.st_uid, was.st_gid)
            os.fchmod(file.fileno(), was.st_mode & 0o7777)
    except BaseException:
        os.unlink(name)
        raise
    return name
