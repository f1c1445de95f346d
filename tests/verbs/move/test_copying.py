"""copy_table_data and copy_all_data: rows into a schema declared for 2.x."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Fresh
from datajoint_migrate import (
    ConnectionFailed,
    DestinationNotEmpty,
    ExternalMissing,
    InvalidArgument,
    Mismatch,
    NotFound,
    StoreMissing,
    Unconvertible,
    copy_all_data,
    copy_table_data,
    create_parallel_schema,
)
from servers import Server
from small import MICE, RECORDINGS, Small, make


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, *(f"cop_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    made = make(mysql, "cop", tmp_path / "store")
    for source, dest in made.map.items():
        create_parallel_schema(source, dest, schema_map=made.map, connection=mysql.url)
    return made


def copy(small: Small, table: str, **options: object) -> dict[str, object]:
    """One table of `lab`, the guide's way."""
    return copy_table_data(
        source_schema=small.lab,
        dest_schema=small.map[small.lab],
        table=table,
        connection=small.server.url,
        **options,  # type: ignore[arg-type]
    )


def test_class_names_and_table_names_mean_the_same(small: Small) -> None:
    assert copy(small, "Species")["rows_copied"] == 2
    assert copy(small, "mouse")["rows_copied"] == MICE
    assert copy(small, "Session")["rows_copied"] == MICE
    assert copy(small, "Session.Trial")["rows_copied"] == MICE
    both = f"`{small.lab}`.mouse a JOIN `{small.map[small.lab]}`.mouse b USING (mouse_id)"
    assert small.value(f"SELECT COUNT(*) FROM {both} WHERE a.weight = b.weight") == str(MICE)


def test_a_limit_takes_the_first_rows_of_the_key_that_meet_the_clause(small: Small) -> None:
    copy(small, "Species")
    result = copy(small, "Mouse", limit=3, where_clause="weight > 0.5 AND species LIKE 'r%'")
    assert result["rows_copied"] == 3
    found = small.server.sql(f"SELECT mouse_id FROM `{small.map[small.lab]}`.mouse ORDER BY 1")
    assert found == [("4",), ("5",), ("6",)]


def test_a_limit_of_nothing_copies_nothing(small: Small) -> None:
    assert copy(small, "Species", limit=0)["rows_copied"] == 0
    assert small.count(small.map[small.lab], "#species") == 0


def test_a_dry_run_copies_nothing(small: Small) -> None:
    plan = copy(small, "Species", dry_run=True)["plan"]
    assert isinstance(plan, dict)
    assert plan["destination_table"] == "#species"
    assert small.count(small.map[small.lab], "#species") == 0


def test_rows_are_never_merged(small: Small) -> None:
    copy(small, "Species")
    with pytest.raises(DestinationNotEmpty, match="#species"):
        copy(small, "Species")


def test_a_child_before_its_parents_is_refused_with_the_parent_named(small: Small) -> None:
    with pytest.raises(Mismatch, match=r"cop_lab_v20\.mouse, which holds no rows"):
        copy(small, "Session")


def test_rows_without_their_parent_are_taken_out_again(small: Small) -> None:
    copy(small, "Species")
    copy(small, "Mouse", limit=3)
    with pytest.raises(Mismatch, match="mouse_id") as caught:
        copy(small, "Session")
    assert caught.value.context["orphans"][0]["keys"][0]["mouse_id"] == 3
    assert small.count(small.map[small.lab], "session") == 0
    assert copy(small, "Session", limit=3)["rows_copied"] == 3


def test_all_tables_are_copied_with_their_numbering(small: Small) -> None:
    for source, dest in small.map.items():
        result = copy_all_data(source, dest, connection=small.server.url)
        assert result["tables_copied"] == len(result["tables"])
        assert result["rows_copied"] == sum(result["tables"].values())
    dest = small.map[small.rig]
    assert small.count(dest, "_recording") == RECORDINGS
    small.server.sql(
        f"INSERT INTO `{dest}`._recording (mouse_id, `signal`) VALUES (1, REPEAT('x', 16))"
    )
    assert small.value(f"SELECT MAX(recording_id) FROM `{dest}`._recording") == "500"


def test_a_destination_that_does_not_exist_is_made(small: Small) -> None:
    dest = small.map[small.rig]
    copy_all_data(small.lab, small.map[small.lab], connection=small.server.url)
    small.server.sql(f"DROP DATABASE `{dest}`")
    options = {"schema_map": small.map, "connection": small.server.url, **small.stores}
    assert copy_all_data(small.rig, dest, dry_run=True, **options)["plan"]
    assert dest not in small.schemas_there()
    assert copy_all_data(small.rig, dest, **options)["rows_copied"] == RECORDINGS
    kind = f"SELECT JSON_TYPE(`signal`) FROM `{dest}`._recording LIMIT 1"
    assert small.value(kind) == "OBJECT"


def test_some_tables_are_copied_by_name(small: Small) -> None:
    result = copy_all_data(
        small.lab, small.map[small.lab], tables=["Species", "mouse"], connection=small.server.url
    )
    assert result["tables"] == {"#species": 2, "mouse": MICE}


def test_a_key_of_zero_and_a_zero_date_arrive_as_they_are(small: Small) -> None:
    table = "CREATE TABLE `{}`.odd (id int NOT NULL AUTO_INCREMENT PRIMARY KEY, d date NOT NULL)"
    small.server.sql(
        "SET sql_mode='NO_AUTO_VALUE_ON_ZERO';"
        + ";".join(table.format(schema) for schema in (small.lab, small.map[small.lab]))
        + f";INSERT INTO `{small.lab}`.odd VALUES (0, '0000-00-00')"
    )
    assert copy(small, "odd")["rows_copied"] == 1
    found = small.server.sql(f"SELECT id, d FROM `{small.map[small.lab]}`.odd")
    assert found == [("0", "0000-00-00")]


# -- destinations that the user declared --------------------------------------------------------


def declared(small: Small, table: str, columns: str, source: str) -> None:
    """A table the user declared on his own, and the source it is for."""
    small.server.sql(
        f"CREATE TABLE `{small.map[small.lab]}`.`{table}` ({columns});"
        f"CREATE TABLE `{small.lab}`.`{table}` {source}"
    )


def test_columns_meet_by_name_and_become_what_the_destination_declares(small: Small) -> None:
    declared(
        small,
        "own",
        "b bigint, a int NOT NULL PRIMARY KEY, t varchar(20) CHARACTER SET utf8mb4, f double,"
        " _job_duration float DEFAULT NULL, _job_version varchar(64) NOT NULL DEFAULT ''",
        "(a smallint unsigned NOT NULL PRIMARY KEY, t varchar(10) CHARACTER SET latin1,"
        " b int unsigned, f float) SELECT 65535 a, 'é' t, 4294967295 b, 0.5 f",
    )
    copy(small, "own")
    found = small.server.sql(
        f"SELECT a, HEX(t), b, f, _job_duration, _job_version FROM `{small.map[small.lab]}`.own"
    )
    assert found == [("65535", "C3A9", "4294967295", "0.5", None, "")]


def test_a_generated_column_computes_itself_and_an_invisible_one_is_copied(small: Small) -> None:
    columns = (
        "a int NOT NULL PRIMARY KEY, g int GENERATED ALWAYS AS (a * 2) STORED, s int INVISIBLE"
    )
    declared(small, "own", columns, f"({columns})")
    small.server.sql(f"INSERT INTO `{small.lab}`.own (a, s) VALUES (21, -1)")
    copy(small, "own")
    assert small.server.sql(f"SELECT a, g, s FROM `{small.map[small.lab]}`.own") == [
        ("21", "42", "-1")
    ]


@pytest.mark.parametrize(
    ("columns", "source", "names"),
    [
        ("a int PRIMARY KEY", "(a int PRIMARY KEY, lost int) SELECT 1 a, 2 lost", "'lost'"),
        ("a int PRIMARY KEY, more int NOT NULL", "(a int PRIMARY KEY) SELECT 1 a", "'more'"),
        ("a int PRIMARY KEY", "(a varchar(9) PRIMARY KEY) SELECT 'x' a", "own.a"),
        ("a int PRIMARY KEY, b tinyint", "(a int PRIMARY KEY, b int) SELECT 1 a, 300 b", "own.b"),
        (
            "a int PRIMARY KEY, b int NOT NULL",
            "(a int PRIMARY KEY, b int) SELECT 7 a, NULL b",
            "'a': 7",
        ),
        (
            "a int PRIMARY KEY, b varchar(2)",
            "(a int PRIMARY KEY, b varchar(9)) SELECT 1 a, 'long' b",
            "own.b",
        ),
        ("a int PRIMARY KEY, b json", "(a int PRIMARY KEY, b longblob) SELECT 1 a, 'x' b", "own.b"),
        (
            "a int PRIMARY KEY, b bigint",
            "(a int PRIMARY KEY, b bigint unsigned) SELECT 1 a, 18446744073709551615 b",
            "own.b",
        ),
    ],
    ids=["lost", "more", "type", "range", "null", "length", "json", "unsigned"],
)
def test_what_does_not_fit_is_refused_by_name(
    small: Small, columns: str, source: str, names: str
) -> None:
    declared(small, "own", columns, source)
    with pytest.raises(Unconvertible, match=names):
        copy(small, "own")
    assert small.count(small.map[small.lab], "own") == 0


def as_json(small: Small, marker: str = "<blob@raw>") -> None:
    """The user's own class declared its pointers as 2.x has them."""
    table = f"`{small.map[small.rig]}`._recording"
    for column, kind in (("signal", "blob"), ("paper", "attach"), ("movie", "filepath")):
        small.server.sql(
            f"ALTER TABLE {table} DROP `{column}`;"
            f"ALTER TABLE {table} ADD `{column}` json COMMENT ':{marker.replace('blob', kind)}:'"
        )
    copy_all_data(small.lab, small.map[small.lab], connection=small.server.url)


def test_pointers_become_json_where_the_destination_declares_json(small: Small) -> None:
    as_json(small)
    result = copy_table_data(
        small.rig, small.map[small.rig], "Recording", connection=small.server.url, **small.stores
    )
    assert result["rows_copied"] == RECORDINGS
    assert result["files_copied"] == RECORDINGS - 1
    paths = small.server.sql(
        "SELECT `signal`->>'$.path', paper->>'$.path', movie->>'$.path', movie->>'$.store'"
        f" FROM `{small.map[small.rig]}`._recording WHERE recording_id = 2"
    )
    for path in paths[0][:3]:
        assert (small.root / str(path)).is_file()
    assert paths[0][3] == "raw"


def test_tracking_rows_looked_up_in_memory_give_the_same_json_as_joined_ones(small: Small) -> None:
    as_json(small)
    table = f"`{small.map[small.rig]}`._recording"
    copied = []
    # With a condition tracking rows are joined: they may be many more than the rows it leaves.
    for where_clause in (None, "TRUE"):
        small.server.sql(f"DELETE FROM {table}")
        result = copy_table_data(
            small.rig,
            small.map[small.rig],
            "Recording",
            where_clause=where_clause,
            connection=small.server.url,
            **small.stores,
        )
        assert result["snapshot"] == "shared"
        copied.append(small.server.sql(f"SELECT * FROM {table} ORDER BY recording_id"))
    assert len(copied[0]) == RECORDINGS
    assert copied[0] == copied[1]


def test_a_missing_tracking_row_is_named(small: Small) -> None:
    as_json(small)
    small.server.sql(
        "SET foreign_key_checks=0;"
        f"DELETE FROM `{small.rig}`.`~external_raw` WHERE filepath = 'movies/m 2.avi'"
    )
    with pytest.raises(ExternalMissing, match="movie"):
        copy_table_data(
            small.rig,
            small.map[small.rig],
            "Recording",
            connection=small.server.url,
            **small.stores,
        )


def test_a_missing_file_is_named_before_any_row_is_copied(small: Small) -> None:
    as_json(small)
    (small.root / "movies" / "m 3.avi").unlink()
    with pytest.raises(ExternalMissing, match=r"movies/m 3\.avi"):
        copy_table_data(
            small.rig,
            small.map[small.rig],
            "Recording",
            connection=small.server.url,
            **small.stores,
        )
    assert small.count(small.map[small.rig], "_recording") == 0


def test_a_store_that_is_not_configured_is_named(small: Small) -> None:
    as_json(small)
    with pytest.raises(StoreMissing, match="'raw'"):
        copy_table_data(
            small.rig,
            small.map[small.rig],
            "Recording",
            connection=small.server.url,
            source_stores={},
            dest_stores={},
        )


# -- bad input ----------------------------------------------------------------------------------


def test_a_wrong_table_is_named_with_its_near_misses(small: Small) -> None:
    with pytest.raises(NotFound, match="'Mouse'"):
        copy(small, "Mose")


def test_a_negative_limit_is_refused(small: Small) -> None:
    with pytest.raises(InvalidArgument):
        copy(small, "Mouse", limit=-1)


def test_a_dead_server_is_said_to_be_one(small: Small) -> None:
    with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1:1"):
        copy_table_data(small.lab, "x", "Mouse", connection="mysql://dj:dj@127.0.0.1:1/")
