"""Which functions count while workers execute several code bases of an app: all, the newest having the last word. Rule S2.7."""

from __future__ import annotations

import itertools

import pytest

from taskflow.routing.known import find_clashes
from taskflow.store.registry import AppSettings, CodeBase, RegisteredFunction
from taskflow.store.routing import EditionChanged, EventPlan
from tests.store.scene import DAY_MS, Scene

SECOND_MS = 1_000
OLD, NEW = "old:1", "new:1"
NUMBERS = itertools.count()


def code_base(version: str, *, retention_ms: int = DAY_MS, **functions: str) -> CodeBase:
    """Functions by slug; what they are given for stands in their manifest."""
    settings = AppSettings(retention_ms=retention_ms, failed_retention_ms=DAY_MS, max_crashes=3)
    rows = tuple(
        RegisteredFunction(
            slug, f'"{text}"'.encode(), f"{len(text)} - - -" if text.startswith("limited") else ""
        )
        for slug, text in functions.items()
    )
    return CodeBase("shop", settings, rows, given_version=version)


V1 = code_base("v1", both="first", old="first")
V2 = code_base("v2", retention_ms=2 * DAY_MS, both="limited second", new="second")


async def register(scene: Scene, base: CodeBase, child_id: str, *, is_watched: bool = False) -> bool:
    return await scene.store.registry.register(
        base, child_id=child_id, is_watched=is_watched, now_ms=scene.now_ms
    )


async def counting(scene: Scene) -> dict[str, str]:
    manifests = await scene.store.registry.manifests("shop")
    return {slug: manifest.decode().strip('"') for slug, manifest in manifests.items()}


async def workers(scene: Scene) -> dict[str, int]:
    return {each.version: each.workers for each in await scene.store.registry.code_bases("shop")}


async def flow_of(scene: Scene, slug: str) -> bytes | None:
    found: bytes | None = await scene.store.client.call(
        "HGET", f"{scene.store.keys.prefix}flow", f"shop/{slug}"
    )
    return found


UNION = {"both": "limited second", "new": "second", "old": "first"}


async def test_functions_of_all_live_versions_count_and_the_newest_has_the_last_word(scene: Scene) -> None:
    assert await register(scene, V1, OLD)
    assert await counting(scene) == {"both": "first", "old": "first"}
    scene.now_ms += SECOND_MS
    assert await register(scene, V2, NEW)
    assert await counting(scene) == UNION
    assert await workers(scene) == {"v1": 1, "v2": 1}
    assert await flow_of(scene, "both") == b"14 - - -"


async def test_an_old_worker_that_starts_again_turns_nothing_back(scene: Scene) -> None:
    for base, child_id in ((V1, OLD), (V2, NEW), (V1, "old-b:1"), (V1, "old:2")):
        scene.now_ms += SECOND_MS
        await register(scene, base, child_id)
    assert await counting(scene) == UNION
    assert await workers(scene) == {"v1": 2, "v2": 1}
    assert await scene.store.registry.apps() == {"shop": "v2"}


async def test_a_function_goes_with_the_last_worker_that_has_it(scene: Scene) -> None:
    await register(scene, V1, OLD)
    await register(scene, V1, "old-b:1")
    await register(scene, V2, NEW)
    await scene.store.duties.forget_worker("old")
    assert await counting(scene) == UNION
    await scene.store.duties.forget_worker("old-b")
    assert await counting(scene) == {"both": "limited second", "new": "second"}
    assert await workers(scene) == {"v2": 1}


async def test_a_deploy_that_is_given_up_leaves_what_was_before(scene: Scene) -> None:
    """The limits too: what claims know of a function goes with its manifest."""
    await register(scene, V1, OLD)
    await register(scene, V2, NEW)
    await scene.store.duties.forget_worker("new")
    assert await counting(scene) == {"both": "first", "old": "first"}
    assert await flow_of(scene, "both") is None
    assert await scene.store.registry.apps() == {"shop": "v1"}


async def test_without_workers_what_counted_last_stays(scene: Scene) -> None:
    """Crons tick and functions can be invoked while no worker runs, as between a stop and a start."""
    await register(scene, V1, OLD)
    await scene.store.duties.forget_worker("old")
    assert await counting(scene) == {"both": "first", "old": "first"}
    assert await workers(scene) == {"v1": 0}
    scene.now_ms += SECOND_MS
    await register(scene, V2, NEW)
    assert await counting(scene) == {"both": "limited second", "new": "second"}


async def test_settings_are_those_of_the_newest_version(scene: Scene) -> None:
    await register(scene, V2, NEW)
    await register(scene, V1, OLD)
    app = scene.store.keys.app("shop")
    assert await scene.store.client.call("HGET", app, "retention_ms") == str(DAY_MS).encode()
    await scene.store.duties.forget_worker("old")
    assert await scene.store.client.call("HGET", app, "retention_ms") == str(2 * DAY_MS).encode()


async def test_a_version_lives_while_its_worker_replaces_its_only_child(scene: Scene) -> None:
    await register(scene, V1, OLD)
    await register(scene, V2, NEW)
    await scene.hand_back(NEW, crashed=True)
    assert await counting(scene) == UNION
    await register(scene, V2, "new:2")
    await scene.hand_back("new:2", crashed=True)
    await scene.store.duties.forget_worker("new")
    assert await counting(scene) == {"both": "first", "old": "first"}


async def test_a_worker_whose_children_restart_with_new_code_executes_the_old_code_no_more(
    scene: Scene,
) -> None:
    """A rolling restart (SIGHUP): the successor is ready before the old child ends."""
    await register(scene, V1, "host:1")
    await register(scene, V2, "host:2")
    assert await counting(scene) == UNION
    await scene.hand_back("host:1")
    assert await counting(scene) == {"both": "limited second", "new": "second"}
    assert await workers(scene) == {"v2": 1}


async def test_a_worker_whose_only_child_died_goes_on_with_other_code(scene: Scene) -> None:
    await register(scene, V1, "host:1")
    await scene.hand_back("host:1", crashed=True)
    await register(scene, V2, "host:2")
    assert await counting(scene) == {"both": "limited second", "new": "second"}


async def test_a_registration_that_arrives_after_the_childs_end_does_nothing(scene: Scene) -> None:
    await register(scene, V1, OLD)
    await scene.hand_back(NEW)
    assert not await register(scene, V2, NEW)
    assert await counting(scene) == {"both": "first", "old": "first"}


async def test_a_host_that_dies_before_its_first_heartbeat_is_found_dead(scene: Scene) -> None:
    await register(scene, V1, OLD)
    await register(scene, V2, NEW, is_watched=True)
    scene.now_ms += 12 * SECOND_MS
    (dead,) = (await scene.find_lost(silence_ms=11 * SECOND_MS)).workers
    assert dead.worker_id == "new"
    await scene.store.duties.forget_worker("new", silent_since_ms=scene.now_ms - 11 * SECOND_MS)
    assert await counting(scene) == {"both": "first", "old": "first"}


async def test_code_without_functions_takes_nothing_from_others(scene: Scene) -> None:
    await register(scene, V1, OLD)
    await register(scene, code_base("empty"), NEW)
    await scene.store.duties.forget_worker("old")
    assert await counting(scene) == {"both": "first", "old": "first"}


async def test_versions_come_from_the_code_unless_they_are_given() -> None:
    first, second = code_base("", both="first"), code_base("", both="second")
    assert first.version != second.version
    assert first.version == code_base("", both="first").version
    assert code_base("", b="1", a="2").code == code_base("", a="2", b="1").code
    assert code_base("7", both="first").version == "7"


@pytest.mark.parametrize("known", [0, 1, 3])
async def test_who_plans_by_an_old_edition_is_told_so_and_nothing_is_done(scene: Scene, known: int) -> None:
    """Also when events of the batch were routed before: their count is not mistaken for the edition."""
    await register(scene, V1, OLD)
    edition = await scene.store.registry.edition("shop")
    plans = [EventPlan.of(f"U{number}", "", "order", b"{}", []) for number in range(3)]

    async def route(edition: str, plans: list[EventPlan] = plans) -> list[bool]:
        routed, _ = await scene.store.routing.route(
            plans, app_id="shop", version="", child_id="", free_slots=0, now_ms=scene.now_ms, edition=edition
        )
        return [each.is_duplicate for each in routed]

    if known:
        await route(edition, plans[:known])
    await register(scene, V2, NEW)
    before = await scene.state()
    with pytest.raises(EditionChanged):
        await route(edition)
    assert await scene.state() == before
    assert await route(await scene.store.registry.edition("shop")) == [False] * 3


async def test_a_worker_that_replaces_its_children_clashes_with_nobody(scene: Scene) -> None:
    """It can't have another version: that is in its environment, or in code that it changes many times under `taskflow dev`."""
    first, second = code_base("v1", one="first"), code_base("v1", one="second", two="second")
    await register(scene, first, "host:1")
    await register(scene, second, "host:2")
    assert find_clashes(await scene.store.registry.code_bases("shop")) == []
    await register(scene, first, "other:1")
    await scene.hand_back("host:1")
    (clash,) = find_clashes(await scene.store.registry.code_bases("shop"))
    assert "different code call it the same version, 'v1'; it differs in one, two" in clash
