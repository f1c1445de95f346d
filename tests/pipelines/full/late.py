"""Tables that need both schemas active, or a setting of their own. Import it after activation."""

from __future__ import annotations

import colony
import datajoint as dj
import imaging
from imaging import Cells  # noqa: F401

# With this setting 0.14.6 adds a column named _<40 hex digits>_timestamp.
with dj.config(add_hidden_timestamp=True):

    @imaging.schema
    class Stamped(dj.Manual):  # type: ignore[misc]
        definition = """
        stamped_id : int
        ---
        x : double
        """


@colony.schema
class Report(dj.Manual):  # type: ignore[misc]
    definition = """
    # the first schema refers back to the second: they depend on each other
    -> Cells
    ---
    report=null : attach@flat
    """
