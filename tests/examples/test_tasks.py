"""examples/tasks.py on the real engine."""

from __future__ import annotations

from datetime import date

from taskflow import chord
from taskflow.testing import Harness
from tests.examples.conftest import Load


async def test_the_tasks_of_the_gallery_give_what_they_say(load_example: Load) -> None:
    example = load_example("tasks")
    async with Harness(example.app) as harness:
        runs = [
            await example.resize.adelay("cat.jpg"),
            await example.count_days.adelay(date(2030, 3, 1), date(2030, 3, 31)),
            await chord([example.resize.s(name) for name in "ab"], example.pack.s()).adelay(),
            await example.album.ainvoke({"photos": ["a.jpg", "b.jpg"]}),
        ]
        await harness.settled()
        assert [await run.aresult("5s") for run in runs] == [
            "cat.jpg@800", 30, "a@800, b@800", "a.jpg@200 + b.jpg@200"
        ]  # fmt: skip
