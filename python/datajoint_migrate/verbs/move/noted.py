"""Who writes to a table meanwhile: triggers note the keys, so that nobody waits for a whole look.

All rows are looked at outside of any lock. What holds then can only have changed for rows that
were written since, and those are noted: under the lock there must be no note.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from datajoint_migrate._core import quote
from datajoint_migrate.call.patience import patiently
from datajoint_migrate.catalog.presence import has_table
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Table
from datajoint_migrate.limits import LIMITS

AT = "~at"


@dataclass(frozen=True)
class Notes:
    """Two tables beside one that is in use: `~promote_…`, which triggers write, and `…_now`, what
    of it is being gone through.

    `inserted` and `updated` are the conditions for a note, of the rows `NEW` and `OLD`; a row that
    gets another key is noted in any case.
    """

    session: Session
    table: Table
    column: str
    inserted: str = "TRUE"
    updated: str = "TRUE"

    @property
    def name(self) -> str:
        place = f"{self.table.name}.{self.column}"
        return f"~promote_{hashlib.sha256(place.encode()).hexdigest()[:24]}"

    @property
    def now(self) -> str:
        return f"{self.name}_now"

    @property
    def triggers(self) -> tuple[str, str]:
        return f"{self.name}_insert", f"{self.name}_update"

    @property
    def where(self) -> str:
        return quote(self.table.schema, self.table.name)

    def place(self, name: str) -> str:
        """A table of this schema, quoted."""
        return quote(self.table.schema, name)

    def statements(self) -> list[str]:
        """What makes them."""
        keys = ", ".join(map(quote, self.table.primary_key))
        same = " AND ".join(
            f"NEW.{quote(name)} <=> OLD.{quote(name)}" for name in self.table.primary_key
        )
        values = ", ".join(f"NEW.{quote(name)}" for name in self.table.primary_key)
        # Whoever writes is not to fail because a key is one that this session would refuse.
        note = f"INSERT IGNORE INTO {self.place(self.name)} ({keys}) VALUES ({values})"
        inserted, updated = map(self.place, self.triggers)
        tables = [
            f"CREATE TABLE {self.place(name)} ({quote(AT)} BIGINT UNSIGNED NOT NULL"
            f" AUTO_INCREMENT PRIMARY KEY) ENGINE=InnoDB COMMENT 'rows written while a column is"
            f" promoted' SELECT {keys} FROM {self.where} LIMIT 0"
            for name in (self.now, self.name)
        ]
        return [
            *tables,
            f"CREATE TRIGGER {inserted} AFTER INSERT ON {self.where} FOR EACH ROW"
            f" IF {self.inserted} THEN {note}; END IF",
            f"CREATE TRIGGER {updated} AFTER UPDATE ON {self.where} FOR EACH ROW"
            f" IF {self.updated} OR NOT ({same}) THEN {note}; END IF",
        ]

    def begin(self) -> None:
        """Note what is written from now on; what an earlier call noted is forgotten."""
        self.end()
        for sql in self.statements():
            patiently(self.session, sql, LIMITS.promote_lock_seconds)

    def are_there(self) -> bool:
        """Whether everything that a call begins with is still there."""
        tables = all(has_table(self.session, self.table.schema, name) for name in self.tables())
        return tables and self._triggers() == set(self.triggers)

    def left(self) -> bool:
        """Whether a call that was stopped has left any of it."""
        return any(has_table(self.session, self.table.schema, name) for name in self.tables())

    def tables(self) -> tuple[str, str]:
        """The names of both tables."""
        return self.name, self.now

    def end(self) -> None:
        """Take everything away that is there."""
        for name in sorted(self._triggers()):
            sql = f"DROP TRIGGER {self.place(name)}"
            patiently(self.session, sql, LIMITS.promote_lock_seconds)
        for name in self.tables():
            if has_table(self.session, self.table.schema, name):
                self.session.execute(f"DROP TABLE {self.place(name)}")

    def stop(self) -> None:
        """Under the lock of the table: nothing is noted any more."""
        for name in self.triggers:
            self.session.execute(f"DROP TRIGGER {self.place(name)}")

    def _triggers(self) -> set[str]:
        names = ", ".join(["%s"] * len(self.triggers))
        return {
            str(row[0])
            for row in self.session.query(
                "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = %s"
                f" AND TRIGGER_NAME IN ({names})",
                (self.table.schema, *self.triggers),
            )
        }

    # -- going through them --------------------------------------------------------------------

    def take(self) -> int:
        """Go through what is noted by now; how many notes that are, with those of before.

        What others have not committed yet is left for later, and not waited for.
        """
        keys = ", ".join([quote(AT), *map(quote, self.table.primary_key)])
        now, noted, at = self.place(self.now), self.place(self.name), quote(AT)
        self.session.execute(f"INSERT IGNORE INTO {now} ({keys}) SELECT {keys} FROM {noted}")
        self.session.execute(
            f"DELETE {noted} FROM {now} STRAIGHT_JOIN {noted} ON {noted}.{at} = {now}.{at}"
        )
        return int(self.session.query(f"SELECT COUNT(*) FROM {now}")[0][0])

    def taken(self) -> str:
        """The condition, for the engine, that a row of the table is among them."""
        names = self.table.primary_key
        rows = ", ".join(f"s.{quote(name)}" for name in names)
        keys = ", ".join(map(quote, names))
        return f"({rows}) IN (SELECT {keys} FROM {self.place(self.now)})"

    def joined(self) -> str:
        """What is gone through, with its rows in the table that is watched."""
        notes = self.place(self.now)
        same = " AND ".join(
            f"{self.where}.{quote(one)} = {notes}.{quote(one)}" for one in self.table.primary_key
        )
        return f"{notes} STRAIGHT_JOIN {self.where} ON {same}"

    def found(self, condition: str) -> bool:
        """Whether a condition is true for any row that is gone through."""
        return bool(self.session.query(f"SELECT 1 FROM {self.joined()} WHERE {condition} LIMIT 1"))

    def forget(self) -> None:
        """What was gone through is done."""
        self.session.execute(f"DELETE FROM {self.place(self.now)}")

    def are_none(self) -> bool:
        """Whether nothing was written since notes were taken; under the lock, that stays so."""
        return not self.session.query(f"SELECT 1 FROM {self.place(self.name)} LIMIT 1")
