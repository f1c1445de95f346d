"""The report: made of a record, opened in a real browser, read, and looked at in light and dark."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import browser
from conftest import Fresh
from datajoint_migrate import (
    ForeignKeyLeavesMap,
    InvalidArgument,
    NotFound,
    backup_schema,
    compare_schemas,
    cutover,
    migrate,
    restore_schema,
    verify_schema_v20,
    write_report,
)
from datajoint_migrate.console.record import Record, line_of
from datajoint_migrate.console.report.graph import layout
from servers import Server
from small import MICE, RECORDINGS, Small, make

# Would be an element of the page, and change its title, if anything were pasted.
SCRIPT = "<script>document.title = 'owned'</script><img src=x onerror=alert(1)> & \"'"


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    ends = ("", "_v20", "_backup", "_test", "_old")
    fresh(mysql, *(f"report_{name}{end}" for name in ("lab", "rig") for end in ends))
    return make(mysql, "report", tmp_path / "store")


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "migration.jsonl"


def run(small: Small, record: Path, **options: Any) -> dict[str, Any]:
    """`migrate`, recorded."""
    common: dict[str, Any] = {"connection": small.server.url, **small.stores, **options}
    with Record(record) as kept:
        return kept.result(migrate(small.map, on_event=kept, **common))


def page_of(record: Path) -> tuple[dict[str, Any], browser.Dom]:
    page = record.with_suffix(".html")
    told = write_report(record, page)
    return told, browser.parse(page.read_text())


def test_the_page_tells_what_was_done_found_and_checked(small: Small, record: Path) -> None:
    comment = SCRIPT.replace("'", "''")
    small.server.sql(f"ALTER TABLE `{small.lab}`.mouse COMMENT '{comment}'")
    result = run(small, record)
    told, _ = page_of(record)
    dom = browser.read(record.with_suffix(".html"))
    assert (told["good"], told["tables"], told["calls"]) == (True, len(result["tables"]), 1)
    assert "Every value is equal on both sides, and 2.x finds everything it needs." in dom.text
    # Text, not markup; and nothing is fetched.
    assert SCRIPT in dom.text
    assert not {"script", "img", "link", "iframe"} & set(dom.tags)
    assert not [value for name, value in dom.attributes if name in ("src", "href")]
    for table, found in result["tables"].items():
        assert table in dom.text
        assert found["digest"] in dom.text
    assert "Recording.signal" in dom.text
    assert "binary(16) <blob@raw> json <blob@raw>" in dom.text
    assert "attach written anew, verified by hash" in dom.text
    rows = sum(found["row_count"] for found in result["tables"].values())
    assert f"run: {told['tables']} tables, {rows} rows, every column of every row" in dom.text
    assert dom.tags.count("rect") == told["tables"]
    # Species - mouse - session - trial, and mouse - recording.
    assert dom.tags.count("path") == 4
    assert "Team trained on 2.0 API no program knows" in dom.text
    assert "no backup is in this record" in dom.text


def test_files_that_nobody_could_look_at_are_not_called_checked(small: Small, record: Path) -> None:
    small.server.sql(f"UPDATE `{small.rig}`._recording SET paper = NULL")
    gcs = {"raw": {"protocol": "gcs", "bucket": "lab", "location": "raw"}}
    small.server.sql(f"ALTER TABLE `{small.rig}`._recording MODIFY paper binary(16) DEFAULT NULL")
    run(small, record, source_stores=gcs, dest_stores=gcs)
    _, dom = page_of(record)
    assert "not yet External data accessible and correct run: every pointer has its" in dom.text
    assert "no file of raw was looked at" in dom.text
    assert "stay where they are, not looked at" in dom.text


def test_a_run_that_was_refused_stopped_and_resumed_is_one_story(
    small: Small, record: Path
) -> None:
    with pytest.raises(ForeignKeyLeavesMap), Record(record) as kept:
        migrate({small.rig: f"{small.rig}_v20"}, connection=small.server.url, on_event=kept)
    told, dom = page_of(record)
    assert not told["good"]
    assert "DJM-1503" in dom.text
    assert f"→ add '{small.lab}' to schema_map" in dom.text

    def stop(event: dict[str, Any]) -> None:
        if event["verb"] == "copy":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Record(record) as kept:
        migrate(
            small.map,
            connection=small.server.url,
            on_event=lambda event: (kept(event), stop(event))[0],
            **small.stores,
        )
    told, dom = page_of(record)
    assert told["finding"] == "run is not finished; the same command goes on."
    assert "5 of 5 tables not compared yet" in dom.text
    run(small, record)
    told, dom = page_of(record)
    assert told["good"]
    assert told["calls"] == 3
    assert "run: the last one met no error; 1 earlier calls did" in dom.text


def test_a_call_that_was_killed_in_the_middle_of_a_line_is_told_as_such(
    small: Small, record: Path
) -> None:
    run(small, record)
    lines = record.read_text().splitlines()
    record.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][: len(lines[-1]) // 2])
    told, dom = page_of(record)
    assert told["finding"].startswith("run is not finished")
    assert "killed, or still at work" in dom.text
    assert "1 lines of it could not be read" in dom.text
    run(small, record)
    assert json.loads(record.read_text().splitlines()[-1])["event"] == "result"
    assert page_of(record)[0]["good"]


def test_rows_of_several_calls_add_up_until_a_comparison_counts_them(record: Path) -> None:
    table = {"source": "lab.mouse", "destination": "new.mouse", "class": "Mouse", "tier": "manual"}
    table |= {"comment": "", "columns": [], "refers_to": []}
    for rows in (5, 7):
        with suppress(NotFound), Record(record) as kept:
            kept({"event": "plan", "schemas": {"lab": "new"}, "tables": [table], "notes": []})
            copied = {"destination_schema": "new", "destination_table": "mouse"}
            copied |= {"rows_copied": rows, "bytes": 100, "time_taken": 1.0}
            kept({"event": "copied", "tables": [copied]})
            raise NotFound("the server is gone")
    told, dom = page_of(record)
    assert told["finding"] == "run ended with an error: the server is gone"
    assert "Mouse lab.mouse new.mouse copied 12 200 B 2.0 s" in dom.text


def test_speed_over_time_is_a_line_a_verb(record: Path) -> None:
    lines = [line_of("run", "begin")]
    for second in range(1, 11):
        verb, rows = ("copy", second * 100) if second < 6 else ("compare", (second - 5) * 500)
        told = {"verb": verb, "table": "lab.mouse", "rows": rows, "bytes": rows * 10}
        lines.append(line_of("run", "progress", seconds=second, **told))
    record.write_text("".join(lines))
    _, dom = page_of(record)
    drawn = [value for name, value in dom.attributes if name == "points"]
    assert dom.tags.count("polyline") == len(drawn) == 4
    # Copying went at a fifth of the speed of comparing, all the time.
    heights = [{point.split(",")[1] for point in points.split()} for points in drawn[:2]]
    assert [len(each) for each in heights] == [1, 1]
    assert "rows (or files) per second 500 250 0 0 10 s" in dom.text


def test_a_difference_found_later_is_on_the_page(small: Small, record: Path) -> None:
    run(small, record)
    small.server.sql(f"UPDATE `{small.lab}_v20`.mouse SET weight = 99 WHERE mouse_id = 3")
    pair = small.lab, f"{small.lab}_v20"
    with Record(record, "compare", {"prod": pair[0], "test": pair[1]}) as kept:
        kept.result(compare_schemas(*pair, connection=small.server.url, on_event=kept))
    told, dom = page_of(record)
    assert told["finding"] == "1 of 5 tables differ from production."
    assert f"compare and run: 1 of 5 tables differ: {small.lab}.mouse" in dom.text
    assert '"mouse_id": "3"' in dom.text


def test_backup_restore_and_cutover_tick_their_lines(small: Small, record: Path) -> None:
    run(small, record)
    url = small.server.url
    backups = {name: f"{name}_backup" for name in small.map}
    for schema, name in backups.items():
        with Record(record, "backup", {"schema": schema}) as kept:
            kept.result(backup_schema(schema, name, connection=url))
    assert "made, and every row compared; not restored" in page_of(record)[1].text
    with Record(record, "restore") as kept:
        kept.result(restore_schema(backups[small.lab], f"{small.lab}_test", connection=url))
    assert "backup and restore: every row was compared both times" in page_of(record)[1].text
    with Record(record, "cutover") as kept:
        kept.result(cutover(small.map, backups=backups, connection=url))
    with Record(record, "verify") as kept:
        kept.result(verify_schema_v20(f"{small.lab}_v20", connection=url))
    text = page_of(record)[1].text
    assert "every backup holds what production holds" in text
    assert "All 0.14.6 clients stopped (verify no processes running) cutover, " in text


def test_the_page_is_pleasant_in_light_in_dark_and_on_paper(
    small: Small, record: Path, tmp_path: Path
) -> None:
    run(small, record)
    page_of(record)
    page = record.with_suffix(".html")
    assert min(browser.corner(page, dark=False)) > 200
    assert max(browser.corner(page, dark=True)) < 60
    assert browser.printed(page, tmp_path / "page.pdf").startswith(b"%PDF")


def test_what_is_no_record_is_refused_and_nothing_else_is_overwritten(tmp_path: Path) -> None:
    page, notes = tmp_path / "page.html", tmp_path / "notes.txt"
    with pytest.raises(NotFound, match="there is no record"):
        write_report(tmp_path / "none.jsonl", page)
    notes.write_text("buy milk\n{}\n[]\n7\n")
    with pytest.raises(InvalidArgument, match="no line of a migration"):
        write_report(notes, page)
    record = tmp_path / "r.jsonl"
    with Record(record):
        pass
    with pytest.raises(InvalidArgument, match="is no report"):
        write_report(record, notes)
    assert write_report([record], page)["calls"] == 1
    assert write_report(record, page)["finding"].startswith("run is not finished")
    assert "buy milk" in notes.read_text()
    with pytest.raises(InvalidArgument, match="cannot be written"), Record(tmp_path / "no" / "r"):
        pass


def test_parents_stand_left_of_what_refers_to_them() -> None:
    parents = {"a": [], "b": ["a"], "c": ["a", "b"], "d": ["e"], "e": ["d"], "f": []}
    layers = layout(parents)
    place = {name: index for index, layer in enumerate(layers) for name in layer}
    assert sorted(place) == sorted(parents)
    assert place["a"] < place["b"] < place["c"]
    # Keys that go round in circles have no order, and stop nothing.
    assert place["d"] != place["e"]
    deep = {str(n): [str(n - 1)] if n else [] for n in range(3000)}
    assert len(layout(deep)) == 3000


def test_the_record_holds_the_rows_of_every_table(small: Small, record: Path) -> None:
    run(small, record)
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert [line["event"] for line in lines if line["event"] != "progress"] == [
        "begin",
        "plan",
        "copied",
        "result",
    ]
    (copied,) = [line for line in lines if line["event"] == "copied"]
    rows = {table["destination_table"]: table["rows_copied"] for table in copied["tables"]}
    assert (rows["mouse"], rows["_recording"]) == (MICE, RECORDINGS)
    assert small.server.password == "dj"
    assert '"password"' not in record.read_text()
