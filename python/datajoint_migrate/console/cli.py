"""`dj-migrate`: the functions of this package as commands, and nothing more."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

import datajoint_migrate as djm
from datajoint_migrate.console.output import Output
from datajoint_migrate.console.settings import Settings, load, write

DONE, ERROR, DIFFERENT, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="dj-migrate",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Moves DataJoint 0.14.6 schemas to DataJoint 2.x. Production is only read.\n\n"
    "The server is that of --connection, of --config, or of DataJoint's own configuration, or "
    "DJ_HOST, DJ_USER and DJ_PASS. Exit codes: 0 done, 1 error, 2 differences or work left to do, "
    "130 interrupted.",
)

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="TOML file: connections, stores, options.")
]
Url = Annotated[
    str | None, typer.Option("--connection", help="mysql://user@host:3306/, password in DJ_PASS.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON lines instead of tables.")]


@contextmanager
def running(command: str, as_json: bool) -> Iterator[Output]:
    """The output of one command; the package's errors become a message and an exit code."""
    output = Output(command, as_json)
    try:
        yield output
    except djm.MigrationError as error:
        output.error(error)
        stopped = isinstance(error, djm.Interrupted)
        raise typer.Exit(INTERRUPTED if stopped else ERROR) from None
    except KeyboardInterrupt:
        output.error(
            djm.Interrupted("interrupted", hint="what is done stays; the same command goes on")
        )
        raise typer.Exit(INTERRUPTED) from None


def leave(good: bool) -> None:
    """Exit 2 when something is different, or left to do."""
    if not good:
        raise typer.Exit(DIFFERENT)


@app.command()
def inspect(
    schemas: Annotated[list[str] | None, typer.Argument(help="All of DataJoint's if none.")] = None,
    config: Config = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """What is on a server and what stands in the way; changes nothing."""
    with running("inspect", json) as output:
        settings = load(config, connection)
        found = djm.inspect_schemas(
            schemas or None,
            connection=settings.source,
            source_stores=settings.source_stores,
            adapters=settings.adapters,
        )
        output.result(found)
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
    with running("plan", json) as shown:
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
        write(output, mapped, comments, settings)
        shown.result({"file": str(output), "schemas": mapped})
        shown.say(f"wrote {output}: {len(mapped)} schemas")
        for one in described.values():
            for obstacle in one["obstacles"]:
                shown.say(f"{one['name']}: {obstacle}", style="yellow")
        leave(not any(one["obstacles"] for one in described.values()))


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="A plan file.")] = Path("migration.toml"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Migrate the schemas of a plan; run it again and it goes on where it was."""
    with running("run", json) as output:
        settings = _with_schemas(load(file, connection), file)
        with output.progress() as on_event:
            done = djm.migrate(**settings.job(), dry_run=dry_run, on_event=on_event)
        output.result(done)
        for line in done.get("plan", []):
            output.say(line)
        for note in done["notes"]:
            output.say(f"note: {note}")
        if dry_run:
            return
        output.table(
            ("table", "rows", "differences"),
            [
                (name, one["row_count"], len(one["discrepancies"]))
                for name, one in done["tables"].items()
            ],
        )
        for issue in done["issues"]:
            output.say(issue, style="red")
        output.say(
            f"{len(settings.schemas)} schemas, {done['rows_copied']:,} rows copied, "
            f"{done['files_copied']:,} files, {done['time_taken']:.1f} s: "
            + ("every value is equal" if done["match"] else "there are differences")
            + (", 2.x can read it" if done["compatible"] else ", 2.x would meet the above")
        )
        leave(done["match"] and done["compatible"])


def _with_schemas(settings: Settings, file: Path) -> Settings:
    if not settings.schemas:
        raise djm.InvalidArgument(
            f"{file} names no schemas", hint="add [schemas] with lines like my_lab = 'my_lab_v20'"
        )
    return settings


@app.command()
def doctor(
    file: Annotated[Path | None, typer.Argument(help="A plan file.")] = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Check connections, privileges, servers and stores; changes nothing."""
    with running("doctor", json) as output:
        settings = load(file, connection)
        found = djm.check_setup(
            settings.schemas,
            **settings.ends(),
            **settings.stores(),
            adapters=settings.adapters,
            copy_files=settings.options.get("copy_files", False),
        )
        output.result(found)
        for check in found["checks"]:
            mark = ("✓" if not check["hint"] else "!") if check["ok"] else "✗"
            output.say(f"{mark} {check['name']}: {check['detail']}", _style(check))
            if check["hint"]:
                output.say(f"  → {check['hint']}")
        leave(found["ok"])


def _style(check: dict[str, Any]) -> str | None:
    return None if check["ok"] else "red"


@app.command()
def compare(
    prod: str,
    test: str,
    table: Annotated[str | None, typer.Option(help="Only this table.")] = None,
    tolerance: Annotated[float, typer.Option(help="Of floats, absolute or relative.")] = 1e-6,
    config: Config = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Compare two schemas row by row; exit 2 when they differ."""
    with running("compare", json) as output:
        ends = load(config, connection).ends()
        with output.progress() as on_event:
            if table is None:
                found = djm.compare_schemas(prod, test, tolerance, on_event=on_event, **ends)
                tables = found["tables"]
            else:
                found = djm.compare_query_results(
                    prod, test, table, tolerance, on_event=on_event, **ends
                )
                tables = {table: found}
        output.result(found)
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
    with running("verify", json) as output:
        settings = load(config, connection)
        where = settings.destination or settings.source
        found = djm.verify_schema_v20(schema, connection=where)
        output.result(found)
        for issue in found["issues"]:
            output.say(issue, style="red")
        output.say(f"{schema}: " + ("ready for 2.x" if found["compatible"] else "not ready"))
        leave(found["compatible"])


@app.command()
def external(
    schema: Annotated[str, typer.Argument(help="A parallel schema.")],
    table: str,
    attribute: str,
    source_store: str,
    dest_store: str,
    copy_files: Annotated[bool, typer.Option("--copy-files")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run")] = False,
    config: Config = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Convert one external column of a parallel schema to JSON."""
    with running("external", json) as output:
        settings = load(config, connection)
        with output.progress() as on_event:
            done = djm.migrate_external_to_v20(
                schema,
                table,
                attribute,
                source_store,
                dest_store,
                copy_files,
                **settings.ends(),
                source_stores=settings.source_stores,
                dest_stores=settings.dest_stores,
                dry_run=dry_run,
                on_event=on_event,
            )
        output.result(done)
        for sql in done.get("sql", []):
            output.say(sql)
        output.say(f"{done['rows_migrated']:,} pointers, {done['files_copied']:,} files copied")
        leave(not done["errors"])


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
    with running("scan", json) as output:
        stream = djm.scan(
            schema, table, columns or None, where, connection=load(config, connection).source
        )
        rows = _written(stream, to)
        output.result({"file": str(to), "rows": rows})
        output.say(f"{rows:,} rows in {to}")


def _written(stream: Any, to: Path) -> int:
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
    return rows


def main() -> None:
    """The program `dj-migrate`."""
    # A terminal without UTF-8 must not stop a run.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    app()
