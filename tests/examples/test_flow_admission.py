"""The examples of rate limit, debounce, batch, singleton and idempotency do what they say."""

from __future__ import annotations

from collections import Counter
from typing import Any

from taskflow import Event
from taskflow.function import Function
from taskflow.testing import Harness
from tests.examples.conftest import Load


async def statuses(harness: Harness, function: Function[..., Any]) -> Counter[str]:
    return Counter([str(await run.astatus()) for run in await harness.runs(function)])


async def results(harness: Harness, function: Function[..., Any]) -> list[Any]:
    runs = await harness.runs(function)
    return [await run.aresult() for run in runs if await run.astatus() == "completed"]


async def test_rate_limit_indexes_a_document_once_in_ten_minutes(load_example: Load) -> None:
    example = load_example("flow.rate_limit")
    async with Harness(example.app) as harness:
        await harness.send([Event("doc/changed", {"doc": doc}) for doc in ("a", "b", "a")])
        assert sorted(await results(harness, example.index)) == ["indexed a", "indexed b"]
        assert await statuses(harness, example.index) == {"completed": 2, "skipped": 1}


async def test_debounce_publishes_the_last_text(load_example: Load) -> None:
    example = load_example("flow.debounce")
    async with Harness(example.app) as harness:
        for text in ("Hello", "Hello, world"):
            await harness.send("doc/edited", {"doc": "readme", "text": text})
        await harness.advance(seconds=5)
        assert await results(harness, example.publish) == ["published readme: Hello, world"]


async def test_batch_counts_the_views_of_a_site_together(load_example: Load) -> None:
    example = load_example("flow.batch")
    async with Harness(example.app) as harness:
        await harness.send([Event("page/viewed", {"site": "docs", "page": f"/{n % 3}"}) for n in range(23)])
        assert await results(harness, example.count_views) == [20]
        await harness.advance(seconds=5)
        assert sorted(await results(harness, example.count_views)) == [3, 20]


async def test_singleton_skips_a_tick_and_keeps_the_newest_search(load_example: Load) -> None:
    example = load_example("flow.singleton")
    async with Harness(example.app) as harness:
        for text in ("red shoes", "blue shoes"):
            await harness.send("search/wanted", {"user": "ann", "text": text})
        await harness.advance(seconds=10)
        assert await results(harness, example.search) == ["found blue shoes"]
        assert await statuses(harness, example.search) == {"cancelled": 1, "completed": 1}
        await harness.advance(minutes=3, seconds=20)
        assert await statuses(harness, example.count_stock) == {"completed": 1, "skipped": 1, "waiting": 1}


async def test_idempotency_ships_an_order_once(load_example: Load) -> None:
    example = load_example("flow.idempotency")
    async with Harness(example.app) as harness:
        for by in ("card", "the night job"):
            await harness.send("order/paid", {"order": 7, "by": by})
        assert await results(harness, example.ship) == ["shipped 7, paid by card"]
        assert await statuses(harness, example.ship) == {"completed": 1, "skipped": 1}
