"""examples/fan_out.py on the real engine: the machine's table of time zones, and a CSV file."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskflow.testing import Harness
from tests.examples.conftest import Load


@pytest.mark.parametrize("concurrency", [100, 3])
async def test_every_row_of_the_time_zones_is_in_the_summary(load_example: Load, concurrency: int) -> None:
    example = load_example("fan_out")
    zones = example.read_zones()
    async with Harness(example.app, concurrency=concurrency, deadline_s=50) as harness:
        await harness.send("table/found")
        assert len(await harness.runs(example.read_row)) == len(zones)
        (run,) = await harness.runs(example.summarise)
        summary = await run.aresult("5s")
    assert summary["rows"] == len(zones) > 250
    assert summary["columns"]["zone"]["characters"] == sum(len(row["zone"]) for row in zones)


async def test_a_csv_file_with_a_header_is_read_too(load_example: Load, tmp_path: Path) -> None:
    example = load_example("fan_out")
    table = tmp_path / "orders.csv"
    table.write_text('number,note\n1,"two\nlines"\n2,\nthree,x\n')
    async with Harness(example.app) as harness:
        await harness.send("table/found", {"path": str(table)})
        (run,) = await harness.runs(example.summarise)
        summary = await run.aresult("5s")
    assert summary == {
        "rows": 3,
        "columns": {
            "number": {"filled": 3, "numbers": 2, "characters": 7},
            "note": {"filled": 2, "numbers": 0, "characters": 10},
        },
    }


async def test_a_table_without_rows_ends_without_a_summary(load_example: Load, tmp_path: Path) -> None:
    example = load_example("fan_out")
    table = tmp_path / "empty.csv"
    table.write_text("number,note\n")
    async with Harness(example.app) as harness:
        (event_id,) = await harness.send("table/found", {"path": str(table)})
        run = await harness.run_of(example.fan_out, event_id)
        assert await run.aresult("5s") == 0
        assert await harness.runs(example.summarise) == []


async def test_wide_rows_end_on_fewer_slots_than_they_have_cells(load_example: Load, tmp_path: Path) -> None:
    example = load_example("fan_out")
    columns = [f"c{number}" for number in range(60)]
    table = tmp_path / "wide.csv"
    table.write_text("\n".join(",".join(row) for row in [columns, *[["1"] * 60] * 2]) + "\n")
    async with Harness(example.app, concurrency=2, deadline_s=50) as harness:
        await harness.send("table/found", {"path": str(table)})
        (run,) = await harness.runs(example.summarise)
        summary = await run.aresult("5s")
    assert summary["rows"] == 2
    assert summary["columns"]["c59"] == {"filled": 2, "numbers": 2, "characters": 2}
