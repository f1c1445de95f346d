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
    DestinationNotEmpty,
    ForeignKeyLeavesMap,
    InvalidArgument,
    MigrationError,
    NotFound,
    backup_schema,
    compare_schemas,
    cutover,
    migrate,
    restore_schema,
    rollback,
    verify_schema_v20,
    write_report,
)
from datajoint_migrate.console.record import Record, line_of
from datajoint_migrate.console.report.layers import layout, shared_prefix, shortest
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
    assert not [value for name, value in dom.attributes if name == "src"]
    assert all(value.startswith("#") for name, value in dom.attributes if name == "href")
    for table, found in result["tables"].items():
        assert table in dom.text
        assert found["digest"] in dom.text
    assert "Recording.signal" in dom.text
    assert f"{small.server.host}:{small.server.port}" in dom.text
    assert "charset = keep" in dom.text
    assert "binary(16) <blob@raw> json <blob@raw>" in dom.text
    assert "attach written anew, verified by hash" in dom.text
    rows = sum(found["row_count"] for found in result["tables"].values())
    assert f"run: {told['tables']} tables, {rows} rows, every column of every row" in dom.text
    assert kinds(dom, "box") == told["tables"]
    # Species - mouse - session - trial, and mouse - recording.
    assert dom.tags.count("path") == 4
    assert "Team trained on 2.0 API no program knows" in dom.text
    assert "no backup is in this record" in dom.text


def kinds(dom: browser.Dom, kind: str) -> int:
    """How many elements are of a class."""
    return sum(name == "class" and kind in value.split() for name, value in dom.attributes)


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
    assert told["finding"] == "run is not finished; the same command resumes it."
    assert "5 of 5 tables not compared yet" in dom.text
    run(small, record)
    told, dom = page_of(record)
    assert told["good"]
    assert told["calls"] == 3
    assert "run: the last one met no error; 1 earlier call did" in dom.text


def test_a_call_that_was_killed_in_the_middle_of_a_line_is_told_as_such(
    small: Small, record: Path
) -> None:
    run(small, record)
    lines = record.read_text().splitlines()
    record.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][: len(lines[-1]) // 2])
    told, dom = page_of(record)
    assert told["finding"].startswith("run is not finished")
    assert "killed, or still at work" in dom.text
    assert "1 line of it could not be read" in dom.text
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
    assert "lab → new 1 table, 12 rows copied" in dom.text
    assert "Mouse lab.mouse copied 12 200 B 2.0 s" in dom.text


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
    assert told["finding"] == "1 of 5 tables differs from production."
    assert f"compare and run: 1 of 5 tables differ: {small.lab}.mouse" in dom.text
    assert f"{small.lab}.mouse mouse_id=3: weight is " in dom.text
    assert "in production, 99" in dom.text


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
    assert "✓ backed up 2 of 2 schemas" in text
    # A look is no cutover.
    assert "– cut over not yet" in text
    assert "Production is DataJoint 0.14.6; the copy stands beside it." in text
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


def test_the_page_says_what_is_production_now_whatever_is_refused_later(
    small: Small, record: Path
) -> None:
    run(small, record)
    url = small.server.url
    backups = {name: f"{name}_backup" for name in small.map}
    for schema, name in backups.items():
        backup_schema(schema, name, connection=url)
    with Record(record, "cutover") as kept:
        done = kept.result(cutover(small.map, backups=backups, connection=url, execute=True))
    assert done["executed"], done["missing"]
    told, dom = page_of(record)
    assert told["good"]
    assert "Production is DataJoint 2.x since " in dom.text
    with Record(record, "rollback") as kept:
        kept.result(rollback(small.map, connection=url, execute=True))
    with pytest.raises(MigrationError), Record(record, "rollback") as kept:
        kept.result(rollback(small.map, connection=url, execute=True))
    told, dom = page_of(record)
    assert told["good"]
    assert told["finding"].startswith("Every value is equal on both sides")
    assert "Production is DataJoint 0.14.6 again: the cutover was rolled back on " in dom.text
    assert "✓ rolled back" in dom.text
    assert "The last command, rollback, was refused and changed nothing of this:" in dom.text


def test_a_run_that_is_refused_later_leaves_what_was_proved(small: Small, record: Path) -> None:
    run(small, record)
    small.server.sql(f"INSERT INTO `{small.lab}_v20`.mouse VALUES (77, 'rat', 1, NULL)")
    with pytest.raises(DestinationNotEmpty), Record(record) as kept:
        migrate(small.map, connection=small.server.url, on_event=kept, **small.stores)
    told, dom = page_of(record)
    assert not told["good"]
    assert told["finding"].startswith("Every value was equal on ")
    assert "After that run ended with an error: the destination" in told["finding"]
    assert kinds(dom, "banner") == kinds(dom, "now") == 1
    assert ("class", "banner wait") in dom.attributes


def imagined(record: Path, schemas: int, tables: int, differing: int = 0) -> None:
    """The record of a run over schemas of a laboratory, one of whose tables may differ."""
    tiers = ("manual", "lookup", "imported", "computed", "part")
    bare = ("session", "#probe", "_recording", "__spike_sorting", "session__trial")
    names = [f"real_lab_of_somebody_{number:03}" for number in range(schemas)]
    plan: list[dict[str, Any]] = []
    found: dict[str, dict[str, Any]] = {}
    for at in range(tables):
        schema, turn = names[at % schemas], at // schemas
        source = f"{schema}.{bare[turn % 5]}"
        parents = {f"{names[0]}.session", f"{names[at // 3 % schemas]}.session"} if at else set()
        column = {"name": "trace", "before": "longblob", "after": "longblob <blob>"}
        about: dict[str, Any] = {"source": source, "destination": f"{schema}_v20.{bare[turn % 5]}"}
        about |= {"class": bare[turn % 5].strip("_#").title(), "tier": tiers[turn % 5]}
        about |= {"comment": "what was seen", "columns": [{**column, "comment": "", "notes": []}]}
        plan.append({**about, "refers_to": sorted(parents - {source})})
        digest = f"{at:032x}"
        found[source] = {"match": at != differing - 1, "row_count": 1234, "digest": digest}
        found[source] |= {"discrepancies": [{"kind": "missing", "key": {"id": "7"}}]}
    with Record(record) as kept:
        schema_map = {name: f"{name}_v20" for name in names}
        kept({"event": "plan", "schemas": schema_map, "tables": plan, "notes": []})
        kept.result({"tables": found, "notes": [], "match": not differing, "compatible": True})


@pytest.mark.parametrize(("schemas", "tables"), [(3, 11), (356, 1300)])
def test_the_page_is_readable_on_a_screen_and_on_a_phone(
    record: Path, schemas: int, tables: int
) -> None:
    imagined(record, schemas, tables, differing=9)
    told, dom = page_of(record)
    assert told["finding"] == f"1 of {tables:,} tables differs from production."
    page = record.with_suffix(".html")
    for width in (1280, 390):
        # Nothing folded where it is quick: what is folded looks the same for all schemas.
        looks = [(width == 390, False)] + ([(width == 1280, True)] if schemas == 3 else [])
        for dark, opened in looks:
            seen = browser.measure(page, width, dark=dark, opened=opened)
            assert seen["whole"] <= seen["width"], seen["outside"]
            for unwanted in ("outside", "faint", "spilt", "broken"):
                assert seen[unwanted] == [], (unwanted, width, dark)
            # The name of the page is a line or two, and the verdict follows at once.
            assert seen["title"] < 80
            assert seen["drawings"]
            if not opened:
                assert seen["height"] < 12_000
                only = {name.split()[0] for name in seen["scrolled"]}
                assert only <= ({"DIV.scroll"} if width == 390 else set())
            if width == 1280:
                assert all(one["width"] <= one["room"] for one in seen["drawings"])
                assert all(one["text"] > 10 for one in seen["drawings"])
    before = dom.text.index("Differences real_lab")
    assert before < dom.text.index("Each box is a" if schemas > 3 else "Parents are above")
    assert "All names of schemas begin with real_lab_of_somebody_." in dom.text


def test_a_schema_in_the_graph_opens_its_tables(record: Path) -> None:
    imagined(record, 40, 120)
    page_of(record)
    page = record.with_suffix(".html")
    script = """(page, view) => {
      const box = [...page.querySelectorAll("svg.graph a")].find(
        (one) => one.querySelector("text").textContent === "017");
      view.location.hash = box.getAttribute("href");
      const opened = page.querySelector(box.getAttribute("href"));
      return [opened.checkVisibility(), opened.closest("details").textContent,
        opened.querySelectorAll("svg.graph .box").length,
        [...page.querySelectorAll("nav a")].every(
          (one) => page.querySelector(one.getAttribute("href")))];
    }"""
    is_seen, text, boxes, are_sections = browser.evaluate(page, 1280, script)
    assert is_seen
    assert are_sections
    assert text.startswith("real_lab_of_somebody_017 → real_lab_of_somebody_017_v20 3 tables")
    # Three of its own, and those of other schemas that they refer to.
    assert boxes > 3


def test_edges_that_a_longer_way_tells_are_left_out_and_circles_stay() -> None:
    parents = {"a": [], "b": ["a"], "c": ["a", "b"], "d": ["e"], "e": ["d"]}
    assert shortest(parents) == {"a": [], "b": ["a"], "c": ["b"], "d": ["e"], "e": ["d"]}


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (["lab_ephys", "lab_behavior"], "lab_"),
        (["lab_ephys", "lab_ephys_core"], "lab_"),
        (["lab_", "lab_a"], ""),
        (["lab-a", "lab-b"], "lab-"),
        (["ephys", "behavior"], ""),
        (["lab_ephys"], ""),
        ([], ""),
    ],
)
def test_what_all_names_begin_with_is_said_once(names: list[str], prefix: str) -> None:
    assert shared_prefix(names) == prefix


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


def test_parents_stand_above_what_refers_to_them() -> None:
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
    assert [line["event"] for line in lines if line["event"] not in ("progress", "stage")] == [
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
