"""The nodes of a canvas by name: which function carries it out, and which step makes a call of it. Rule S15.3."""

from __future__ import annotations

from taskflow.types import JsonObject

CANVAS = "canvas"
"""The id, within its app, of the function that carries canvases out."""

CANVAS_CANCELLED = "canvas-cancelled"
"""The id of the function that cancels what a cancelled canvas has started."""


def step_id_of(call: JsonObject, path: str) -> str:
    """The id of the step that makes a call of a canvas: the place of its node, and the name of its task."""
    name = str(call["call"]).rpartition(".")[2].rpartition("/")[2]
    return f"{path}:{name}" if path else name
