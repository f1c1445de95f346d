"""One call of this package in a process of its own, to be killed: `python killed.py JSON`.

JSON is {"verb": …, "arguments": […], "options": {…}}. The result is printed as JSON. Chunks are
small, so that there is something between the first and the last.
"""

from __future__ import annotations

import json
import sys

import datajoint_migrate
from datajoint_migrate.limits import LIMITS

CHUNK_BYTES = 20_000

if __name__ == "__main__":
    LIMITS.chunk_bytes = CHUNK_BYTES
    what = json.loads(sys.argv[1])
    result = getattr(datajoint_migrate, what["verb"])(*what["arguments"], **what["options"])
    print(json.dumps(result, default=str))
