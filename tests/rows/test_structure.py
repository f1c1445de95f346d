"""compare_schemas sees what a copy has lost besides values."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Fresh
from datajoint_migrate import compare_schemas, migrate
from full_pipeline import FullPipeline
from servers import Server
from small import Small, make

DDL = """CREATE TABLE `{lab}`.`odd` (`id` int unsigned NOT NULL AUTO_INCREMENT,
`mouse_id` int unsigned NOT NULL, `a` varchar(20) NOT NULL DEFAULT 'it''s', `b` int DEFAULT 7,
`c` timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
`d` int GENERATED ALWAYS AS (`b` + 1) VIRTUAL, `e` decimal(5,2) DEFAULT 1.50, `f` year DEFAULT NULL,
PRIMARY KEY (`id`), KEY `by b` (`b`,`a`(3)), UNIQUE KEY `one` (`a`,`b`),
CONSTRAINT `positive` CHECK (`b` > 0), FOREIGN KEY (`mouse_id`)
REFERENCES `{lab}`.`mouse` (`mouse_id`) ON UPDATE CASCADE);
CREATE VIEW `{lab}`.seen AS SELECT 1 AS one;
CREATE TRIGGER `{lab}`.bang BEFORE INSERT ON `{lab}`.odd FOR EACH ROW SET NEW.b = 9;"""

# What is done to the copy, and what is then said of it.
DAMAGE = (
    ("DROP INDEX `by b`", ("index", "by b")),
    ("DROP INDEX `one`", ("unique", "one")),
    ("ADD UNIQUE KEY `two` (`e`)", ("unique", "two")),
    ("MODIFY `a` varchar(20) NOT NULL", ("default", "a")),
    ("ALTER `b` SET DEFAULT 8", ("default", "b")),
    ("MODIFY `c` timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP", ("on_update", "c")),
    ("MODIFY `f` year NOT NULL", ("nullable", "f")),
    ("MODIFY `e` decimal(5,1) DEFAULT 1.50", ("type", "e")),
    ("MODIFY `a` varchar(10) NOT NULL DEFAULT 'it''s'", ("type", "a")),
    ("MODIFY `id` int unsigned NOT NULL", ("auto_increment", "id")),
    ("DROP COLUMN `d`", ("column", "d")),
    ("ALTER COLUMN `b` SET INVISIBLE", ("invisible", "b")),
    ("DROP CHECK `{check}`", ("check", "positive")),
    ("DROP FOREIGN KEY `{key}`", ("foreign_key", "odd_ibfk_1")),
)


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, *(f"str_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    made = make(mysql, "str", tmp_path / "store")
    for statement in DDL.format(lab=made.lab).split(";\n"):
        mysql.sql(statement)
    result = migrate(made.map, connection=mysql.url, **made.stores)
    assert result["match"], result["issues"]
    return made


def structure(small: Small) -> list[tuple[str, str]]:
    """What is different, and its name."""
    found = compare_schemas(small.lab, small.map[small.lab], connection=small.server.url)
    assert found["structure_match"] == (not found["structure"])
    return [(one["what"], one["name"]) for one in found["structure"]]


@pytest.mark.parametrize(("change", "said"), DAMAGE)
def test_each_loss_is_named(small: Small, change: str, said: tuple[str, str]) -> None:
    lab = small.map[small.lab]
    assert structure(small) == []
    constraints = "SELECT CONSTRAINT_NAME FROM information_schema.TABLE_CONSTRAINTS WHERE"
    of = f"TABLE_SCHEMA = '{lab}' AND TABLE_NAME = 'odd' AND CONSTRAINT_TYPE"
    check = small.value(f"{constraints} {of} = 'CHECK'")
    key = small.value(f"{constraints} {of} = 'FOREIGN KEY'")
    small.server.sql(f"ALTER TABLE `{lab}`.odd {change.format(check=check, key=key)}")
    assert said in structure(small)


def test_lost_programs_are_named(small: Small) -> None:
    lab = small.map[small.lab]
    small.server.sql(f"DROP VIEW `{lab}`.seen; DROP TRIGGER `{lab}`.bang")
    assert structure(small) == [("view", "seen"), ("trigger", "bang")]


def test_keys_into_production_are_named(small: Small) -> None:
    rig, lab = small.map[small.rig], small.map[small.lab]
    url = small.server.url
    assert compare_schemas(small.rig, rig, connection=url)["structure"] == []
    key = small.value(
        "SELECT CONSTRAINT_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS"
        f" WHERE CONSTRAINT_SCHEMA = '{lab}' AND TABLE_NAME = 'odd'"
    )
    small.server.sql(
        f"ALTER TABLE `{lab}`.odd DROP FOREIGN KEY `{key}`, ADD FOREIGN KEY (`mouse_id`)"
        f" REFERENCES `{small.lab}`.mouse (`mouse_id`) ON UPDATE CASCADE"
    )
    assert structure(small) == [("foreign_key", "odd_ibfk_1")]


@pytest.mark.parametrize("kind", ["mysql", "maria"])
def test_what_a_migration_changes_on_purpose_is_no_difference(
    kind: str, mysql: Server, fresh: Fresh, request: pytest.FixtureRequest
) -> None:
    pipeline: FullPipeline = request.getfixturevalue(f"full_pipeline_{kind}")
    schema_map = pipeline.schema_map("str_full")
    fresh(mysql, *schema_map.values())
    ends = {"connection": pipeline.server.url, "dest_connection": mysql.url}
    stores = {
        "source_stores": pipeline.source_stores,
        "dest_stores": pipeline.stores_in_place(),
    }
    done = migrate(schema_map, **ends, **stores)
    assert done["match"], done["issues"]
    for source, dest in schema_map.items():
        assert compare_schemas(source, dest, **ends)["structure"] == []


def test_wider_integers_are_no_difference(small: Small, fresh: Fresh) -> None:
    wide = {schema: f"{dest}_wide" for schema, dest in small.map.items()}
    fresh(small.server, *wide.values())
    url = small.server.url
    migrate(wide, connection=url, unsigned="widen", **small.stores)
    for source, dest in wide.items():
        assert compare_schemas(source, dest, connection=url)["structure"] == []
