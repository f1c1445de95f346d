"""Production goes on: rows of the narrow table change, another thousandth of them each time."""

from __future__ import annotations

from dataclasses import dataclass, field

from data import PLAIN, SEED
from servers import Server

SHARE = 1000


@dataclass
class Drift:
    """The changes that one table of production has seen, to be made again elsewhere."""

    server: Server
    schema: str
    rounds: int = 0
    # How many of them a copy that others keep has seen.
    followed: dict[str, int] = field(default_factory=dict)

    def go_on(self) -> int:
        """One more thousandth changes, all over the table; how many rows that were."""
        changed = _change(self.server, self.schema, self.rounds)
        self.rounds += 1
        return changed

    def follow(self, server: Server, schema: str) -> None:
        """Make another table, equal when production began, equal to production again."""
        for number in range(self.followed.get(schema, 0), self.rounds):
            _change(server, schema, number)
        self.followed[schema] = self.rounds


def _change(server: Server, schema: str, number: int) -> int:
    chance = f"CRC32(CONCAT_WS('/', '{SEED}', {number}, mouse_id, session, trial, unit))"
    rows = server.sql(
        f"UPDATE `{schema}`.`{PLAIN}` SET spikes = spikes + 1 WHERE {chance} % {SHARE} = 0;"
        "SELECT ROW_COUNT();"
    )
    return int(rows[0][0] or 0)
