"""The program that reads a pipeline back: it must see a difference when there is one."""

from __future__ import annotations

from pathlib import Path

from conftest import Fresh
from full_pipeline import FullPipeline, read_with
from servers import Server

TABLES = ("precision", "wide_key", "limits")
CHANGES = {
    "precision": "UPDATE `{schema}`.`precision` SET single=1.2345678 WHERE precision_id=0",
    "wide_key": "DELETE FROM `{schema}`.wide_key WHERE label='a b' LIMIT 1",
    "limits": "ALTER TABLE `{schema}`.limits ALTER d_int SET DEFAULT 8",
}
"""A change by the table where it must be seen: a seventh digit, a missing row, a default."""


def test_a_changed_digit_row_and_default_are_seen(
    full_pipeline_mysql: FullPipeline, mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    schema_map = full_pipeline_mysql.schema_map("seen", "colony")
    [(old, new)] = schema_map.items()
    fresh(mysql, new)
    mysql.sql(f"CREATE DATABASE `{new}`")
    for table in TABLES:
        copied = f"CREATE TABLE `{new}`.`{table}` LIKE `{old}`.`{table}`;"
        mysql.sql(f"{copied} INSERT INTO `{new}`.`{table}` SELECT * FROM `{old}`.`{table}`")

    def verdicts() -> dict[tuple[str, str], bool]:
        stores = full_pipeline_mysql.stores_in_place()
        reading = read_with("2.3.5", full_pipeline_mysql, mysql, schema_map, stores, tmp_path)
        assert not reading.equal, "the tables that were not copied must count"
        return {
            (verdict["table"].split(".")[1], verdict["by"]): verdict["equal"]
            for verdict in reading.verdicts
        }

    before = verdicts()
    assert all(before[table, by] for table in TABLES for by in ("2.x", "sql", "definition"))
    for change in CHANGES.values():
        mysql.sql(change.format(schema=new))
    after = verdicts()
    seen = {place for place, equal in after.items() if before[place] and not equal}
    assert seen == {
        ("precision", "sql"),
        ("wide_key", "2.x"),
        ("wide_key", "sql"),
        ("limits", "definition"),
    }
