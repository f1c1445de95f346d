"""Two small schemas in an old character set, for the tests of what becomes of their text."""

from __future__ import annotations

from dataclasses import dataclass

from servers import Server

# What DataJoint 0.13 to 0.14 made on servers of their time, and what people made of it by hand.
LAB = """CREATE DATABASE `{lab}` CHARACTER SET {charset} COLLATE {collation};
CREATE TABLE `{lab}`.`#species` (`species` varchar(24) NOT NULL COMMENT 'Gattung: größer, 100%',
`code` char(3) NOT NULL DEFAULT 'ä''b', PRIMARY KEY (`species`)) COMMENT 'Tiere: größer';
CREATE TABLE `{lab}`.`mouse` (`mouse` varchar(30) NOT NULL, `species` varchar(24) NOT NULL,
`sex` enum('männlich','weiblich','?') NOT NULL DEFAULT '?', `marks` set('ä','b','c') DEFAULT NULL,
`notes` text, `shout` varchar(30) GENERATED ALWAYS AS (upper(`mouse`)) STORED,
`exact` varchar(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci DEFAULT NULL,
`raw` varbinary(8) DEFAULT NULL, `scan` longblob NOT NULL, `n` int unsigned NOT NULL DEFAULT '3',
PRIMARY KEY (`mouse`,`species`), UNIQUE KEY `both` (`species`,`sex`,`mouse`),
KEY `short` (`notes`(20)), FOREIGN KEY (`species`) REFERENCES `{lab}`.`#species` (`species`)
ON UPDATE CASCADE ON DELETE RESTRICT);
CREATE TABLE `{lab}`.`~log` (`id` int unsigned NOT NULL AUTO_INCREMENT,
`event` varchar(255) NOT NULL DEFAULT '', PRIMARY KEY (`id`));"""

RIG = """CREATE DATABASE `{rig}` CHARACTER SET {charset} COLLATE {collation};
CREATE TABLE `{rig}`.`session` (`mouse` varchar(30) NOT NULL, `species` varchar(24) NOT NULL,
`day` date NOT NULL, `who` varchar(40) NOT NULL DEFAULT 'Müller',
PRIMARY KEY (`mouse`,`species`,`day`), CONSTRAINT `of_mouse` FOREIGN KEY (`mouse`,`species`)
REFERENCES `{lab}`.`mouse` (`mouse`,`species`) ON UPDATE CASCADE);"""

MICE = 300


@dataclass(frozen=True)
class Old:
    """A pair of schemas in an old character set."""

    server: Server
    prefix: str

    @property
    def lab(self) -> str:
        return f"{self.prefix}_lab"

    @property
    def rig(self) -> str:
        return f"{self.prefix}_rig"

    @property
    def map(self) -> dict[str, str]:
        return {self.lab: f"{self.lab}_v20", self.rig: f"{self.rig}_v20"}

    def sql(self, text: str) -> list[tuple[str | None, ...]]:
        return self.server.sql(text.format(lab=self.lab, rig=self.rig))

    def copies(self) -> int:
        return len(self.server.sql(f"SHOW DATABASES LIKE '{self.prefix}\\_%\\_v20'"))


def make(server: Server, prefix: str, charset: str, collation: str) -> Old:
    old = Old(server, prefix)
    names = {"lab": old.lab, "rig": old.rig, "charset": charset, "collation": collation}
    server.sql((LAB + RIG).format(**names))
    # Names in an order that collations and bytes do not agree on.
    mice = [f"{'aBcÄöZß'[n % 7]}{'é' * (n % 3)}{n}" for n in range(MICE)]
    rows = [
        f"('{name}', '{('Maus', 'Ratte', 'Köter')[n % 3]}', {n % 3 + 1}, {n % 8}, "
        f"'größer {'ü' * n}', '猴', x'00ff', x'6d596d00ff')"
        for n, name in enumerate(mice)
    ]
    sessions = [
        f"('{name}', '{('Maus', 'Ratte', 'Köter')[n % 3]}', '2020-01-01')"
        for n, name in enumerate(mice)
    ]
    old.sql(
        "INSERT INTO `{lab}`.`#species` (species) VALUES ('Maus'), ('Ratte'), ('Köter');"
        "INSERT INTO `{lab}`.mouse (mouse, species, sex, marks, notes, exact, raw, scan) VALUES "
        + ",".join(rows)
        + ";INSERT INTO `{rig}`.session (mouse, species, day) VALUES "
        + ",".join(sessions)
    )
    return old
