"""The table of docs/middleware.md is what a real run calls. `python -m tests.docs.test_middleware_page` writes it anew."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from taskflow import Activation, Attempt, Context, Event, Middleware, Outcome, ReceivedEvent, Step, TaskFlow
from taskflow.testing import Harness
from tests.docs.blocks import REPOSITORY

PAGE = REPOSITORY / "docs" / "middleware.md"
REGION = re.compile(r"(?<=<!-- order -->\n).*?(?=<!-- /order -->)", re.DOTALL)

Call = Callable[[], Awaitable[Outcome]]


class Told(Middleware):
    """Writes a row for each call of a method."""

    def __init__(self, name: str, rows: list[tuple[int, str]], depth: list[int]) -> None:
        self.name, self.rows, self.depth = name, rows, depth

    def tell(self, text: str) -> None:
        self.rows.append((self.depth[0], f"{self.name}: {text}"))

    async def around(self, text: str, call: Call) -> Outcome:
        self.tell(f"`{text}` begins")
        self.depth[0] += 1
        outcome = await call()
        self.depth[0] -= 1
        self.tell(f"`{text}` ends: {outcome.status}")
        return outcome

    async def wrap_send(self, events: Any, send: Callable[[Any], Awaitable[list[str]]]) -> list[str]:
        self.tell("`wrap_send`")
        return await send(events)

    def transform_event(self, event: ReceivedEvent) -> None:
        self.tell("`transform_event`")

    async def wrap_run(self, run: Activation, call: Call) -> Outcome:
        return await self.around("wrap_run", call)

    async def wrap_attempt(self, attempt: Attempt, call: Call) -> Outcome:
        return await self.around(f"wrap_attempt` of `{attempt.step_id or 'the handler'}", call)

    def on_run_start(self, run: Activation) -> None:
        self.tell("`on_run_start`")

    def on_resume(self, run: Activation) -> None:
        self.tell("`on_resume`")

    def on_suspend(self, run: Activation) -> None:
        self.tell("`on_suspend`")

    def on_run_end(self, run: Activation, outcome: Outcome) -> None:
        self.tell(f"`on_run_end`: {outcome.status}")

    def on_step_start(self, attempt: Attempt) -> None:
        self.tell("`on_step_start`")

    def on_step_end(self, attempt: Attempt, outcome: Outcome) -> None:
        self.tell(f"`on_step_end`: {outcome.status}")

    def on_retry(self, attempt: Attempt, error: BaseException, due_ms: int) -> None:
        self.tell("`on_retry`")


async def table() -> str:
    """The rows of a run whose step fails once, and whose handler then sleeps."""
    rows: list[tuple[int, str]] = []
    depth = [0]
    app = TaskFlow("shop", broker="redis://localhost:6379/0", middleware=[Told("A", rows, depth)])
    tries: list[int] = []

    def charge() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("no bank")
        return "paid"

    @app.function(trigger="order", middleware=[Told("B", rows, depth)])
    async def buy(ctx: Context[Step], step: Step) -> None:
        await step.run("charge", charge)
        await step.sleep("a while", "1h")

    async with Harness(app, servers="embedded") as harness:
        await harness.send(Event("order"))
        await harness.advance(hours=2)
    lines = ["| activation | called |", "|---|---|"]
    activation = 0
    for level, text in merged(rows):
        if "on_run_start" in text or "on_resume" in text:
            activation += 1
        lines.append(f"| {activation or 'send'} | {'&nbsp;&nbsp;' * level}{text} |")
    return "\n".join(lines) + "\n"


def merged(rows: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The rows, with one for what A and then B is told of."""
    for place, (level, text) in enumerate(rows):
        other = text.replace("A: ", "B: ", 1)
        if text.startswith("A: ") and rows[place + 1 : place + 2] == [(level, other)]:
            yield level, text.replace("A: ", "A, then B: ", 1)
        elif not (
            text.startswith("B: ") and place and rows[place - 1] == (level, text.replace("B: ", "A: ", 1))
        ):
            yield level, text


async def test_the_table_of_the_order_is_that_of_a_real_run() -> None:
    found = REGION.search(PAGE.read_text())
    assert found is not None, "the page has a place for the table"
    assert found[0] == await table()


def write() -> None:
    PAGE.write_text(REGION.sub(lambda _: asyncio.run(table()), PAGE.read_text()))


if __name__ == "__main__":
    write()
