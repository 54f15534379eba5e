"""The list of runs over many functions: what a merge of all indexes gives, page by page, in few commands. Rule S14.1."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

import pytest

from taskflow.store import listing
from taskflow.store.listing import Place
from tests.store.scene import DAY_MS, NOW_MS, Scene

FUNCTIONS = [f"shop/fn-{number}" for number in range(30)]
WAYS = ("queued", "waiting", "scheduled", "completed", "failed", "cancelled")


@pytest.fixture
async def made(scene: Scene) -> list[tuple[Place, str, str]]:
    """The place, the function and the status of runs of many functions; several are of one millisecond. Newest first."""
    await scene.register()
    draw, rows = random.Random(7), []
    for number in range(240):
        run_id, fn, status = f"r{draw.randrange(10**6):06}", draw.choice(FUNCTIONS), draw.choice(WAYS)
        # Each in a queue of its own, so that it is the one that is claimed.
        queue = f"q{number}"
        start_ms = scene.now_ms + DAY_MS if status == "scheduled" else 0
        await scene.make_run(run_id, fn=fn, queue=queue, start_at_ms=start_ms)
        if status == "cancelled":
            await scene.cancel(run_id)
        elif status not in ("queued", "scheduled"):
            (run,) = (await scene.claim(queue=queue)).runs
            if status == "waiting":
                await scene.retry(run.claim)
            else:
                await scene.finish(run.claim, status)
        rows.append((Place(scene.now_ms, run_id), fn, status))
        scene.now_ms += draw.choice((0, 0, 1, 1000))
    return sorted(rows, reverse=True)


async def listed(
    scene: Scene,
    functions: Sequence[str] | None,
    statuses: Collection[str],
    *,
    limit: int,
    oldest_first: bool = False,
) -> tuple[list[str], int]:
    """The whole list, page by page, and how many pages it took."""
    run_ids: list[str] = []
    place, pages = None, 0
    while place is not None or not pages:
        page = await scene.store.listing.page(
            functions, limit=limit, statuses=statuses, after=place, oldest_first=oldest_first
        )
        assert len(page.run_ids) <= limit
        assert place is None or page.next is None or (page.next > place) == oldest_first
        run_ids += page.run_ids
        place, pages = page.next, pages + 1
    return run_ids, pages


@pytest.mark.parametrize(
    "statuses",
    [(), ("failed",), ("waiting",), ("completed",), ("queued", "running", "waiting", "scheduled"), ("failed", "scheduled"), WAYS],
    ids=",".join,
)  # fmt: skip
async def test_pages_are_the_merge_of_all_functions(
    scene: Scene, made: list[tuple[Place, str, str]], statuses: tuple[str, ...]
) -> None:
    expected = [place.run_id for place, _, status in made if not statuses or status in statuses]
    for limit in (1, 7, 50, 500):
        assert (await listed(scene, None, statuses, limit=limit))[0] == expected
        assert (await listed(scene, None, statuses, limit=limit, oldest_first=True))[0] == expected[::-1]
    some = FUNCTIONS[3:20]
    of_some = [
        place.run_id for place, fn, status in made if fn in some and (not statuses or status in statuses)
    ]
    assert (await listed(scene, some, statuses, limit=9))[0] == of_some
    assert (await listed(scene, [], statuses, limit=9))[0] == []


async def test_a_list_begins_and_ends_where_it_is_told(
    scene: Scene, made: list[tuple[Place, str, str]]
) -> None:
    since_ms, until_ms = made[180][0].created_ms, made[60][0].created_ms
    expected = [place.run_id for place, *_ in made if since_ms <= place.created_ms <= until_ms]
    for oldest_first in (False, True):
        page = await scene.store.listing.page(
            None, limit=500, since_ms=since_ms, until_ms=until_ms, oldest_first=oldest_first
        )
        assert page.run_ids == (expected[::-1] if oldest_first else expected)
        assert page.next is None
    counts = await scene.store.listing.count(None, since_ms=since_ms)
    newer = [status for place, _, status in made if place.created_ms >= since_ms]
    assert counts == {
        "": len(newer), "failed": newer.count("failed"), "cancelled": newer.count("cancelled"), "skipped": 0,
        "live": sum(newer.count(status) for status in ("queued", "waiting", "scheduled")),
    }  # fmt: skip
    assert await scene.store.listing.count(["shop/nobody"]) == dict.fromkeys(counts, 0)


async def test_a_list_that_is_cut_short_goes_on_where_it_was(
    scene: Scene, made: list[tuple[Place, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its parts reads the status of few runs at a time: pages are short, and none is left out."""
    monkeypatch.setattr(listing, "MOST_LOOKS", 3)
    expected = [place.run_id for place, _, status in made if status == "completed"]
    run_ids, pages = await listed(scene, None, ["completed"], limit=20)
    assert run_ids == expected
    assert pages > 20
    assert (await listed(scene, None, ["completed"], limit=20, oldest_first=True))[0] == expected[::-1]


async def test_many_runs_of_one_millisecond_and_function(scene: Scene) -> None:
    run_ids = [f"r{number:03}" for number in range(300)]
    for run_id in run_ids:
        await scene.make_run(run_id)
    assert (await listed(scene, None, (), limit=11))[0] == run_ids[::-1]


async def test_the_parts_share_the_functions(scene: Scene) -> None:
    """Else one script would do the work of all."""
    for number in range(400):
        await scene.make_run(f"r{number}", fn=f"shop/fn-{number:04}")
    keys = scene.store.keys
    sizes = [
        len(
            (
                await scene.store.scripts.list_runs(
                    from_ms="+inf", from_id="", to_ms=NOW_MS, oldest_first=False, limit=400, most=1, part=part, parts=4,
                    kinds=[""], statuses=[], functions=[],
                )
            )[0]
        ) // 2
        for part in range(4)
    ]  # fmt: skip
    assert sum(sizes) == await scene.store.client.call("SCARD", keys.known_functions) == 400
    assert max(sizes) < 200
