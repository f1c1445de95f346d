"""The 0.14.6 client of a program that fills a pipeline: where it connects, what it may do."""

from __future__ import annotations

import os
from typing import Any

# 0.14.6 looks at these when it is imported.
os.environ["DJ_SUPPORT_FILEPATH_MANAGEMENT"] = "TRUE"
os.environ["DJ_SUPPORT_ADAPTED_TYPES"] = "TRUE"


def configure(chosen: Any, specs: dict[str, Any]) -> None:
    """Set the client up for the server of the options `chosen`, with store `specs` by name."""
    import datajoint as dj

    dj.config.update(
        {
            "database.host": chosen.host,
            "database.port": chosen.port,
            "database.user": chosen.user,
            "database.password": chosen.password,
            # With today's PyMySQL the default demands TLS, which not every server offers.
            "database.use_tls": False,
            "safemode": False,
            "loglevel": "WARNING",
            "stores": specs,
        }
    )
