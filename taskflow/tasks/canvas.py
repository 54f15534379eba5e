"""The run of a canvas: a durable function of each app that has tasks; each node is a `step.invoke`. Rule S15.3.

Step ids are the places of the nodes: "0:add" is the first link of a chain, "1.3:resize" the fourth member of the group behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from taskflow.context import Context
from taskflow.errors import ChordError, StepError
from taskflow.step import Step
from taskflow.tasks.nodes import step_id_of
from taskflow.types import JsonObject

WIDEST = 500
"""The most members of a group in one run; a wider group is split into canvases of their own."""

OUTCOMES = "outcomes"
"""The mode of a part of a wide group: its result says of each member whether it failed, so that the whole can judge."""

NOTHING: Any = object()

CancelLive = Callable[[str, str], Coroutine[Any, Any, int]]
"""Cancels the live runs that a run has invoked, for a reason; returns how many."""


class CanvasRun:
    """Carries out the canvas of one run."""

    def __init__(self, ctx: Context[Step], function_id: str, cancel_live: CancelLive) -> None:
        self.run_id = ctx.run_id
        self.step = ctx.step
        self.function_id = function_id
        self.cancel_live = cancel_live

    async def whole(self, data: JsonObject) -> Any:
        """The result of the canvas. An `on_failure` call gets the run, the node and the error; its own failure changes nothing."""
        try:
            return await self.node(data["canvas"], data.get("input", NOTHING), "")
        except (StepError, ChordError) as error:
            if (call := data.get("on_failure")) is not None:
                await self.tell(call, error)
            raise

    async def tell(self, call: JsonObject, error: StepError | ChordError) -> None:
        told = {
            "run_id": self.run_id,
            "node": error.step_id,
            "name": error.name,
            "message": error.message,
        }
        try:
            await self.call(call, told, "on failure")
        except StepError:
            # It is recorded in its own run, and in the step of this one.
            return

    async def node(self, node: JsonObject, given: Any, path: str) -> Any:
        if "call" in node:
            return await self.call(node, given, step_id_of(node, path))
        if "chain" in node:
            for place, link in enumerate(node["chain"]):
                given = await self.node(link, given, f"{path}.{place}" if path else str(place))
            return given
        return await self.group(node, given, path)

    async def call(self, node: JsonObject, given: Any, step_id: str) -> Any:
        if (countdown_ms := node.get("countdown_ms")) is not None:
            await self.step.sleep(f"{step_id} countdown", countdown_ms / 1000)
        data = filled(node, given)
        return await self.step.invoke(
            step_id, function_id=node["call"], data=data, queue=node.get("queue"), headers=node.get("headers")
        )

    # --- groups ---

    async def group(self, node: JsonObject, given: Any, path: str) -> list[Any]:
        members, mode = node["group"], node.get("on_error", "wait")
        if len(members) > WIDEST:
            return await self.parts(members, mode, given, path)
        prefix = f"{path}." if path else ""
        work = [self.node(member, given, f"{prefix}{place}") for place, member in enumerate(members)]
        if mode == "stop":
            return await self.until_one_fails(work, path)
        return settled(await asyncio.gather(*map(outcome_of, work)), mode)

    async def parts(self, members: Sequence[JsonObject], mode: str, given: Any, path: str) -> list[Any]:
        """A wide group: canvases of up to WIDEST members each, whose outcomes are put together here."""
        work = []
        for at in range(0, len(members), WIDEST):
            part = {"group": members[at : at + WIDEST], "on_error": "stop" if mode == "stop" else OUTCOMES}
            data = {"canvas": part} if given is NOTHING else {"canvas": part, "input": given}
            step_id = f"{path or 'group'}[{at}:{at + len(part['group'])}]"
            work.append(self.step.invoke(step_id, function_id=self.function_id, data=data))
        if mode == "stop":
            return [each for part in await self.until_one_fails(work, path) for each in part]
        parts = await asyncio.gather(*work)
        return settled([told if ok else Failure(**told) for part in parts for ok, told in part], mode)

    async def until_one_fails(self, work: Sequence[Coroutine[Any, Any, Any]], path: str) -> list[Any]:
        try:
            return list(await asyncio.gather(*work))
        except (StepError, ChordError) as error:
            await self.step.with_options(retries=4).run(
                f"{path or 'group'} cancel others", self.cancel_live, self.run_id, "another member of its group failed"
            )  # fmt: skip
            raise ChordError(failures_of(error), of=len(work)) from error


class Failure(NamedTuple):
    """A member of a group that failed: its node, and its error."""

    node: str
    name: str
    message: str

    @classmethod
    def of(cls, error: StepError | ChordError) -> Failure:
        return cls(error.step_id, error.name, error.message)


async def outcome_of(work: Coroutine[Any, Any, Any]) -> Any:
    """The result, or the Failure of a member that failed."""
    try:
        return await work
    except (StepError, ChordError) as error:
        return Failure.of(error)


def failures_of(error: StepError | ChordError) -> list[JsonObject]:
    return error.failures if isinstance(error, ChordError) else [Failure.of(error)._asdict()]


def settled(outcomes: Sequence[Any], mode: str) -> list[Any]:
    """The results of a group whose members have ended. Raises ChordError with the mode "wait" if one failed."""
    if mode == OUTCOMES:
        return [[False, each._asdict()] if type(each) is Failure else [True, each] for each in outcomes]
    failures = [each._asdict() for each in outcomes if type(each) is Failure]
    if failures and mode == "wait":
        raise ChordError(failures, of=len(outcomes))
    return [{"error": each._asdict()} if type(each) is Failure else each for each in outcomes]


def filled(node: JsonObject, given: Any) -> JsonObject:
    """The arguments of a call, with the result of the one before where it belongs."""
    data: JsonObject = dict(node["data"])
    place = node.get("takes")
    if place is None or given is NOTHING:
        return data
    if isinstance(place, list):
        # The first of `*args`.
        data[place[0]] = [given, *data.get(place[0], [])]
    else:
        data[place] = given
    return data
