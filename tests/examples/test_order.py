"""examples/order.py on the real engine, with a clock that the tests turn."""

from __future__ import annotations

import json
import mailbox
from pathlib import Path

from taskflow.run import RunStatus
from taskflow.testing import Harness
from tests.examples.conftest import Load

ORDER = {"order_id": "A-1", "item": "oolong", "cents": 1250, "email": "ada@example.org"}


async def test_order_is_charged_once_shipped_and_thanked_for(load_example: Load, tmp_path: Path) -> None:
    example = load_example("order")
    async with Harness(example.app) as harness:
        (event_id,) = await harness.send("shop/order.created", ORDER)
        run = await harness.run_of(example.fulfil_order, event_id)
        assert (await harness.view(run)).steps["charge"].state == "retry"
        await harness.advance(seconds=1)
        assert (await harness.view(run)).steps["parcel leaves"].state == "wait"
        await harness.send("shop/order.shipped", {"order_id": "A-1"})
        await harness.advance(seconds=2)
        result = await run.aresult("5s")
        steps = (await harness.view(run)).steps
    assert result["status"] == "shipped"
    assert len(steps["charge"].failed_attempts) == 1
    (entry,) = (tmp_path / "shop" / "bank").iterdir()
    assert json.loads(entry.read_text()) == {"order_id": "A-1", "cents": 1250}
    (mail,) = mailbox.Maildir(tmp_path / "shop" / "mail" / "sent", create=False)
    assert mail["To"] == "ada@example.org"


async def test_parcel_of_another_order_does_not_count(load_example: Load) -> None:
    example = load_example("order")
    async with Harness(example.app) as harness:
        (event_id,) = await harness.send("shop/order.created", ORDER)
        run = await harness.run_of(example.fulfil_order, event_id)
        await harness.advance(seconds=1)
        await harness.send("shop/order.shipped", {"order_id": "B-2"})
        await harness.advance(hours=1)
        assert await run.astatus() is RunStatus.WAITING


async def test_order_whose_parcel_never_leaves_is_refunded(load_example: Load, tmp_path: Path) -> None:
    example = load_example("order")
    async with Harness(example.app) as harness:
        (event_id,) = await harness.send("shop/order.created", ORDER)
        run = await harness.run_of(example.fulfil_order, event_id)
        await harness.advance(days=7, seconds=1)
        assert await run.aresult("5s") == {"status": "refunded"}
    assert list((tmp_path / "shop" / "bank").iterdir()) == []
    assert list((tmp_path / "shop" / "shelf").iterdir()) == []
