"""A table, fanned out: one event a row, the cells of a row side by side, and one summary at the end.

Start it in one terminal:

    taskflow dev -A examples.fan_out

and name a table in another: this machine's table of time zones, or any CSV file with a header:

    taskflow send table/found
    taskflow send table/found --data '{"path": "customers.csv"}'
    taskflow runs list

The newest run is that of `summarise`, and `taskflow runs show` prints what it found out. Each row counts once, whatever
crashes on the way: events that a step sends twice have the same ids, and a row that is kept twice is kept once.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import sqlite3
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import Any

from taskflow import Context, Event, Step, TaskFlow

app = TaskFlow("tables")

ZONES = Path("/usr/share/zoneinfo/zone1970.tab")
ZONE_COLUMNS = ["countries", "coordinates", "zone", "comments"]

Row = dict[str, str]
Facts = dict[str, dict[str, int]]  # by column


@app.function(trigger="table/found")
async def fan_out(ctx: Context[Step], step: Step) -> int:
    """Read the table, and send one event a row."""
    rows = await step.run("read", read_table, ctx.event.data.get("path"))
    events = [
        Event("table/row.read", {"table": ctx.run_id, "number": number, "rows": len(rows), "cells": cells})
        for number, cells in enumerate(rows, start=1)
    ]
    await step.send_event("send rows", events)
    return len(events)


@app.function(trigger="table/row.read")
async def read_row(ctx: Context[Step], step: Step) -> None:
    """Look at the cells of a row, all at the same time; whoever does the last row asks for the summary."""
    row = ctx.event.data
    looks = [step.run(f"look at {column}", look_at, cell) for column, cell in row["cells"].items()]
    facts = dict(zip(row["cells"], await asyncio.gather(*looks), strict=True))
    rows_kept = await step.run("keep", keep, row["table"], row["number"], facts)
    if rows_kept == row["rows"]:
        # Two may both come to be the last when one is tried again; the id makes it one event.
        done = Event("table/read", {"table": row["table"]}, id=f"{row['table']} read")
        await step.send_event("tell", done)


@app.function(trigger="table/read")
async def summarise(ctx: Context[Step], step: Step) -> dict[str, Any]:
    """Add up what was found out of all rows."""
    summary: dict[str, Any] = await step.run("sum up", sum_up, ctx.event.data["table"])
    return summary


# The steps


def read_table(path: str | None) -> list[Row]:
    """The rows of a CSV file, or of the time zones."""
    if path is None:
        return read_zones()
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        return [{column: row[column] or "" for column in row if column} for row in csv.DictReader(file)]


def read_zones() -> list[Row]:
    """The machine's table of time zones, else that of the package tzdata, which comes with taskflow."""
    table = ZONES if ZONES.exists() else files("tzdata").joinpath("zoneinfo", ZONES.name)
    lines = [line for line in table.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines, ZONE_COLUMNS, restval="", delimiter="\t"))


def look_at(cell: str) -> dict[str, int]:
    return {"filled": int(cell != ""), "numbers": int(cell.isdecimal()), "characters": len(cell)}


def keep(table: str, number: int, facts: Facts) -> int:
    """Keep what was found out of a row; how many rows of the table are kept now."""
    with closing(open_database()) as db, db:
        db.execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", (table, number, json.dumps(facts)))
        (count,) = db.execute("SELECT count(*) FROM rows WHERE name = ?", (table,)).fetchone()
    return int(count)


def sum_up(table: str) -> dict[str, Any]:
    with closing(open_database()) as db:
        rows: list[Facts] = [
            json.loads(facts) for (facts,) in db.execute("SELECT facts FROM rows WHERE name = ?", (table,))
        ]
    columns = {
        column: {fact: sum(row[column][fact] for row in rows) for fact in facts}
        for column, facts in rows[0].items()
    }
    return {"rows": len(rows), "columns": columns}


def open_database() -> sqlite3.Connection:
    """Rows of all tables; TABLES_FOLDER names another place for it."""
    folder = Path(os.environ.get("TABLES_FOLDER", ".taskflow/tables"))
    folder.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(folder / "rows.sqlite", timeout=30, isolation_level="IMMEDIATE")
    db.execute("PRAGMA synchronous = OFF")  # fast, and safe from all but a crash of the machine
    db.execute("CREATE TABLE IF NOT EXISTS rows (name, number, facts, PRIMARY KEY (name, number))")
    return db
