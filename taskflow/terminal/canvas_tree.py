"""The canvas of a run as a tree: each node with its state, those too that it has not reached. Rule S15.3."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from taskflow.run import RunView
from taskflow.tasks.nodes import CANVAS, step_id_of
from taskflow.terminal.screen import Line, glyph
from taskflow.types import JsonObject

MANY = 12
"""From so many members on, a group is shown by their numbers."""


def canvas_section(run: RunView, indent: str) -> Iterator[Line]:
    """The tree of a canvas; nothing for any other run."""
    tree = (run.event.get("data") or {}).get("canvas")
    if not run.function.endswith(f"/{CANVAS}") or not isinstance(tree, dict):
        return
    yield []
    yield [(f"{indent}canvas", "dim")]
    yield from branch(run, tree, "", indent * 2)


def branch(run: RunView, node: JsonObject, path: str, indent: str) -> Iterator[Line]:
    if "call" in node:
        step_id = step_id_of(node, path)
        state = state_of(run, step_id)
        child = run.steps[step_id].child if step_id in run.steps else None
        sign = glyph(state) if step_id in run.steps else ("·", "dim")
        yield [(indent, ""), sign, (f" {step_id}", ""), (f"  {child or state}", "dim")]
        return
    links = "chain" in node
    parts: list[JsonObject] = node.get("chain") or node.get("group") or []
    paths = [f"{path}.{place}" if path else str(place) for place in range(len(parts))]
    if links:
        for part, place in zip(parts, paths, strict=True):
            yield from branch(run, part, place, indent)
        return
    yield [(f"{indent}group of {len(parts):,}", "")]
    if len(parts) < MANY:
        for part, place in zip(parts, paths, strict=True):
            yield from branch(run, part, place, f"{indent}  ")
    else:
        states = Counter(
            state_of(run, step_id_of(part, place)) if "call" in part else "canvas"
            for part, place in zip(parts, paths, strict=True)
        )
        told = ", ".join(f"{count:,} {state}" for state, count in states.most_common())
        yield [(f"{indent}  {told}", "dim")]


def state_of(run: RunView, step_id: str) -> str:
    step = run.steps.get(step_id)
    if step is None:
        return "not reached" if run.is_final else "not yet"
    return step.state
