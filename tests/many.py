"""A server as a large lab has it: many schemas of a few nearly empty tables, in 0.14.6's own SQL.

Standard library only. Schema 0 is the colony; each other one has a session table that refers to it,
and tables that refer to that: the keys of DataJoint pipelines, most of which cross schemas.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from servers import Server

ROWS = 7

COLONY = """CREATE DATABASE `{schema}` DEFAULT CHARACTER SET latin1;
CREATE TABLE `{schema}`.`#species` (`species` varchar(24) NOT NULL COMMENT 'scientific name',
PRIMARY KEY (`species`)) ENGINE=InnoDB COMMENT 'species';
CREATE TABLE `{schema}`.`mouse` (`mouse_id` int unsigned NOT NULL COMMENT 'ear tag',
`species` varchar(24) NOT NULL COMMENT 'scientific name', `weight` float DEFAULT NULL,
`dob` date DEFAULT NULL, PRIMARY KEY (`mouse_id`),
FOREIGN KEY (`species`) REFERENCES `{schema}`.`#species` (`species`)
ON UPDATE CASCADE ON DELETE RESTRICT) ENGINE=InnoDB COMMENT 'mice';
"""

RIG = """CREATE DATABASE `{schema}` DEFAULT CHARACTER SET latin1;
CREATE TABLE `{schema}`.`session` (`mouse_id` int unsigned NOT NULL COMMENT 'ear tag',
`session` smallint unsigned NOT NULL COMMENT 'of the mouse', `notes` varchar(200) NOT NULL
DEFAULT '', PRIMARY KEY (`mouse_id`,`session`), FOREIGN KEY (`mouse_id`)
REFERENCES `{colony}`.`mouse` (`mouse_id`) ON UPDATE CASCADE ON DELETE RESTRICT)
ENGINE=InnoDB COMMENT 'sessions';
"""

# What one schema has beside its sessions, in turn: name, columns of its own, its tier's parent.
SHAPES: tuple[tuple[str, str, str], ...] = (
    ("_recording", "`rate` double NOT NULL COMMENT 'Hz', `trace` longblob COMMENT 'samples'", ""),
    ("session__trial", "`outcome` enum('hit','miss') NOT NULL, `onset` float NOT NULL", "trial"),
    ("__sorting", "`units` int NOT NULL COMMENT 'found', `made` datetime NOT NULL", ""),
    ("protocol", "`protocol_id` binary(16) NOT NULL COMMENT ':uuid:of the ethics board'", ""),
    ("__psth", "`psth` longblob NOT NULL COMMENT ''", "unit"),
)

LOG = """CREATE TABLE `{schema}`.`~log` (`id` int NOT NULL AUTO_INCREMENT COMMENT 'event order id',
`timestamp` timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP COMMENT 'event timestamp',
`version` varchar(12) NOT NULL COMMENT 'datajoint version', `user` varchar(255) NOT NULL,
`host` varchar(255) NOT NULL DEFAULT '', `event` varchar(255) NOT NULL DEFAULT '',
PRIMARY KEY (`id`)) ENGINE=InnoDB COMMENT 'event logging table for `{schema}`';
"""


@dataclass(frozen=True)
class Many:
    """What was made: schemas, user tables, and rows of those."""

    schemas: tuple[str, ...]
    tables: int
    rows: int

    @property
    def map(self) -> dict[str, str]:
        """Old to new names, the guide's way."""
        return {schema: f"{schema}_v20" for schema in self.schemas}


def make(server: Server, prefix: str, schemas: int = 75, tables: int = 278) -> Many:
    """Make `schemas` schemas with `tables` user tables between them, `~log` beside them.

    The schemas must not be there. `tables` is at least two a schema.
    """
    names = tuple(f"{prefix}_{number:03}" for number in range(schemas))
    shares = [tables // schemas + (at < tables % schemas) for at in range(schemas)]
    text = "".join(_statements(names[0], names, shares))
    # One transaction: a disk's waits are not what is measured.
    server.sql("SET autocommit = 0; SET foreign_key_checks = 0;" + text + "COMMIT;")
    return Many(names, sum(shares), sum(shares) * ROWS - (ROWS - 2))


def _statements(colony: str, names: tuple[str, ...], shares: list[int]) -> Iterator[str]:
    for at, (schema, share) in enumerate(zip(names, shares, strict=True)):
        if at == 0:
            yield COLONY.format(schema=schema)
            yield f"INSERT INTO `{schema}`.`#species` VALUES ('mouse'), ('rat');"
            mice = ", ".join(f"({one}, 'rat', {one} / 7, '2020-01-01')" for one in range(ROWS))
            yield f"INSERT INTO `{schema}`.`mouse` VALUES {mice};"
            made = 2
        else:
            yield RIG.format(schema=schema, colony=colony)
            rows = ", ".join(f"({one}, 1, 'a')" for one in range(ROWS))
            yield f"INSERT INTO `{schema}`.`session` VALUES {rows};"
            made = 1
        yield LOG.format(schema=schema)
        yield f"INSERT INTO `{schema}`.`~log` (version, user, event) VALUES ('0.14.6', 'a', 'b');"
        for number in range(share - made):
            yield from _table(schema, colony, at, number)


VALUES = {
    "_recording": "{one} / 3, x'6d596d00ff'",
    "session__trial": "'hit', {one} / 7",
    "__sorting": "{one}, '2024-01-01 10:00:00'",
    "protocol": "REPEAT(CHAR({one} + 65), 16)",
    "__psth": "x'6d596d00ff'",
}


def _table(schema: str, colony: str, at: int, number: int) -> Iterator[str]:
    base, columns, extra = SHAPES[(at + number) % len(SHAPES)]
    turn = number // len(SHAPES)
    name = f"{base}_{turn}" if turn else base
    key = ["mouse_id", "session"] if at else ["mouse_id"]
    parent = f"`{schema}`.`session`" if at else f"`{colony}`.`mouse`"
    typed = ["`mouse_id` int unsigned NOT NULL COMMENT 'ear tag'"]
    if at:
        typed.append("`session` smallint unsigned NOT NULL COMMENT 'of the mouse'")
    own = [*key, extra] if extra else key
    if extra:
        typed.append(f"`{extra}` smallint NOT NULL COMMENT 'number'")
    quoted = ",".join(f"`{one}`" for one in own)
    refers = ",".join(f"`{one}`" for one in key)
    yield (
        f"CREATE TABLE `{schema}`.`{name}` ({', '.join(typed)}, {columns},"
        f" PRIMARY KEY ({quoted}), FOREIGN KEY ({refers}) REFERENCES {parent} ({refers})"
        " ON UPDATE CASCADE ON DELETE RESTRICT) ENGINE=InnoDB COMMENT 'made by a rig';"
    )
    values = []
    for one in range(ROWS):
        keys = [str(one), *(["1"] if at else []), *(["3"] if extra else [])]
        values.append(f"({', '.join(keys)}, {VALUES[base].format(one=one)})")
    yield f"INSERT INTO `{schema}`.`{name}` VALUES {', '.join(values)};"
