"""Commands that look and change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import datajoint_migrate as djm
from datajoint_migrate.console.app import (
    PLAN,
    Config,
    Json,
    Load,
    PauseFile,
    Rate,
    Url,
    app,
    leave,
    running,
    style_of,
)
from datajoint_migrate.console.meter import size, span
from datajoint_migrate.console.record import record_of
from datajoint_migrate.console.settings import load, write


@app.command()
def inspect(
    schemas: Annotated[list[str] | None, typer.Argument(help="All of DataJoint's if none.")] = None,
    config: Config = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """What is on a server and what stands in the way; changes nothing."""
    with running("inspect", json, writes=False) as output:
        settings = load(config, connection)
        found = output.call(
            djm.inspect_schemas,
            schemas or None,
            connection=settings.source,
            source_stores=settings.source_stores,
            adapters=settings.adapters,
        )
        output.table(
            ("schema", "kind", "tables", "rows", "MB", "charset", "stores", "clients"),
            [
                (
                    one["name"],
                    one["kind"],
                    one["tables"],
                    one["rows"],
                    one["bytes"] // 1_000_000,
                    one["charset"],
                    ", ".join(f"{s} ({' '.join(k)})" for s, k in one["stores"].items()),
                    len(one["clients"]),
                )
                for one in found["schemas"]
            ],
        )
        for one in found["schemas"]:
            for client in one["clients"]:
                output.say(f"{one['name']}: in use by {client}")
            for note in one["notes"]:
                output.say(f"{one['name']}: {note}")
            for obstacle in one["obstacles"]:
                output.say(f"{one['name']}: {obstacle}", style="yellow")
        leave(not any(one["obstacles"] for one in found["schemas"]))


@app.command()
def plan(
    schemas: Annotated[list[str], typer.Argument(help="Schemas that belong together.")],
    output: Annotated[Path, typer.Option("--output", "-o")] = Path("migration.toml"),
    suffix: Annotated[str, typer.Option(help="Of the new schemas' names.")] = "_v20",
    config: Config = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Write a plan file for `run`, parents first; changes nothing."""
    with running("plan", json, writes=False) as shown:
        settings = load(config, connection)
        found = djm.inspect_schemas(
            schemas,
            connection=settings.source,
            source_stores=settings.source_stores,
            adapters=settings.adapters,
        )
        described = {one["name"]: one for one in found["schemas"]}
        ordered = [name for group in found["groups"] for name in group]
        left_out = [name for name in schemas if name not in ordered]
        if left_out:
            raise djm.InvalidArgument(
                f"{', '.join(left_out)}: not a schema of 0.14",
                hint="dj-migrate inspect tells what each schema is",
            )
        comments = {
            name: f"{one['tables']} tables, about {one['rows']} rows, "
            f"{one['bytes'] // 1_000_000} MB"
            for name, one in described.items()
        }
        mapped = {name: settings.schemas.get(name, name + suffix) for name in ordered}

        def planned() -> dict[str, Any]:
            estimate = djm.estimate_migration(
                ordered,
                copy_files=settings.options.get("copy_files", False),
                adapters=settings.adapters,
                connection=settings.source,
            )
            write(output, mapped, comments, settings)
            return {"file": str(output), "schemas": mapped, "estimate": estimate}

        written = shown.call(planned)
        shown.say(f"wrote {output}: {len(mapped)} schemas")
        for line in _estimated(written["estimate"]):
            shown.say(line)
        for one in described.values():
            for obstacle in one["obstacles"]:
                shown.say(f"{one['name']}: {obstacle}", style="yellow")
        leave(not any(one["obstacles"] for one in described.values()))


def _estimated(estimate: dict[str, Any]) -> list[str]:
    said = [
        f"disk: about {size(estimate['disk_bytes'])} on the destination server, "
        f"{size(estimate['file_bytes'])} in stores"
    ]
    if estimate["compare_seconds"] is not None:
        least, most = map(span, estimate["copy_seconds"])
        said.append(
            f"time: comparing about {span(estimate['compare_seconds'])}, copying {least} to {most}"
        )
    return said + [f"  {line}" for line in estimate["based_on"]]


@app.command()
def doctor(
    file: Annotated[Path | None, typer.Argument(help="A plan file.")] = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Check connections, privileges, servers and stores; changes nothing."""
    with running("doctor", json, writes=False) as output:
        settings = load(file, connection)
        found = output.call(
            djm.check_setup,
            settings.schemas,
            **settings.ends(),
            **settings.stores(),
            adapters=settings.adapters,
            copy_files=settings.options.get("copy_files", False),
        )
        for check in found["checks"]:
            mark = ("✓" if not check["hint"] else "!") if check["ok"] else "✗"
            output.say(f"{mark} {check['name']}: {check['detail']}", style_of(check))
            if check["hint"]:
                output.say(f"  → {check['hint']}")
        leave(found["ok"])


@app.command()
def compare(
    prod: str,
    test: str,
    table: Annotated[str | None, typer.Option(help="Only this table.")] = None,
    tolerance: Annotated[float, typer.Option(help="Of floats, absolute or relative.")] = 1e-6,
    max_bytes_per_second: Rate = None,
    max_load: Load = None,
    pause_file: PauseFile = None,
    config: Config = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Compare two schemas row by row; exit 2 when they differ."""
    with running("compare", json, writes=False) as output:
        settings = load(config, connection)
        limits = settings.limits(
            max_bytes_per_second=max_bytes_per_second,
            max_load=max_load,
            pause_file=pause_file,
        )
        said = {"prod": prod, "test": test, "table": table}
        common = {**settings.ends(), **limits, "plan": config, "said": said}
        if table is None:
            found = output.call(djm.compare_schemas, prod, test, tolerance, **common)
            tables = found["tables"]
        else:
            found = output.call(djm.compare_query_results, prod, test, table, tolerance, **common)
            tables = {table: found}
        output.table(
            ("table", "rows", "differences"),
            [(name, one["row_count"], len(one["discrepancies"])) for name, one in tables.items()],
        )
        for name, one in tables.items():
            for difference in one["discrepancies"][:10]:
                output.say(f"{name}: {difference}", style="red")
        output.say("equal" if found["match"] else "different")
        leave(found["match"])


@app.command()
def verify(schema: str, config: Config = None, connection: Url = None, json: Json = False) -> None:
    """Is a schema ready for 2.x; exit 2 when it is not."""
    with running("verify", json, writes=False) as output:
        settings = load(config, connection)
        where = settings.destination or settings.source
        found = output.call(
            djm.verify_schema_v20, schema, connection=where, plan=config, said={"schema": schema}
        )
        for issue in found["issues"]:
            output.say(issue, style="red")
        output.say(f"{schema}: " + ("ready for 2.x" if found["compatible"] else "not ready"))
        leave(found["compatible"])


@app.command()
def scan(
    schema: str,
    table: str,
    to: Annotated[Path, typer.Option("--to", "-o", help="A new .parquet or .csv file.")],
    columns: Annotated[list[str] | None, typer.Option("--column", help="Repeatable.")] = None,
    where: Annotated[str | None, typer.Option(help="SQL of your own.")] = None,
    config: Config = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Read a table into a Parquet or CSV file."""
    with running("scan", json, writes=False) as output:
        server = load(config, connection).source
        done = output.call(
            lambda: _written(djm.scan(schema, table, columns or None, where, connection=server), to)
        )
        output.say(f"{done['rows']:,} rows in {to}")


def _written(stream: Any, to: Path) -> dict[str, Any]:
    try:
        import pyarrow
        from pyarrow import csv, parquet
    except ModuleNotFoundError:
        raise djm.InvalidArgument(
            "pyarrow writes these files, and is not installed",
            hint="pip install 'datajoint-migrate[arrow]'",
        ) from None
    writers = {".parquet": parquet.ParquetWriter, ".csv": csv.CSVWriter}
    if to.suffix not in writers:
        raise djm.InvalidArgument(f"{to} is neither .parquet nor .csv")
    reader = pyarrow.RecordBatchReader.from_stream(stream)
    rows = 0
    try:
        with to.open("xb") as file, writers[to.suffix](file, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
                rows += batch.num_rows
    except FileExistsError:
        raise djm.InvalidArgument(f"{to} is there already", hint="write to another file") from None
    except BaseException:
        to.unlink(missing_ok=True)
        raise
    return {"file": str(to), "rows": rows}


@app.command()
def check(
    archive: Annotated[str, typer.Argument(help="A folder, or s3://bucket/prefix.")],
    subset: Annotated[str, typer.Option(help="all, n/m, x% or a size such as 500M.")] = "all",
    json: Json = False,
) -> None:
    """Prove an archive without a server; exit 2 when it is damaged."""
    with running("check", json, writes=False) as output:
        found = output.call(djm.check_backup, archive, subset)
        for problem in found["problems"]:
            output.say(f"{problem['file']}: {problem['problem']}", style="red")
        output.say(
            f"{found['files_read']} of {found['files']} files read: "
            + ("everything is as it was written" if found["ok"] else "damaged")
        )
        leave(found["ok"])


@app.command()
def report(
    file: Annotated[
        list[Path] | None,
        typer.Argument(help="Plan files, or records (.jsonl). Default: migration.toml"),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The page.")] = None,
    json: Json = False,
) -> None:
    """Write what was done, found and checked into one HTML page; works after a failed run too."""
    with running("report", json, writes=False) as shown:
        given = file or [PLAN]
        records = [one if one.suffix == ".jsonl" else record_of(one) for one in given]
        done = shown.call(djm.write_report, records, output or records[0].with_suffix(".html"))
        shown.say(f"{done['file']}: {done['finding']}")
