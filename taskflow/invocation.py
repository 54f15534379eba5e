"""What `step.invoke` takes beside its id, in its two faces. Rules S3.6, S11.3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from taskflow.headers import Headers
from taskflow.types import Duration, JsonObject
from taskflow.values.keywords import check_keywords
from taskflow.values.shape import ANY, Shape
from taskflow.values.shapes import shape_of

if TYPE_CHECKING:
    from taskflow.function import Function


class StepInvokeOptions(TypedDict, total=False):
    """What `step.invoke` takes beside the function; None counts as left out.

    data     a JSON object, which is the data of the event that the run gets
    user     a JSON object: who asks for it
    headers  short strings by name, besides those that it inherits from this run (S11.1)
    timeout  how long to wait for its end, at most 1 year; without one there is no limit
    output_type  of its output, when that is not what `function` is annotated to return (S11.3)
    """

    data: JsonObject | None
    user: JsonObject | None
    headers: Headers | None
    timeout: Duration | None
    output_type: Any


def target_id(function: Function[..., Any] | None, function_id: str | None) -> str:
    """The id of the function to invoke, given in one of two ways."""
    if (function is None) == (function_id is None):
        raise TypeError("step.invoke takes either function=... (of this app) or function_id='app/function'")
    if function is not None:
        return function.spec.id
    assert function_id is not None
    return function_id


def checked(options: StepInvokeOptions) -> StepInvokeOptions:
    """The options of an invoke. Raises TypeError for one that does not exist."""
    check_keywords(options, StepInvokeOptions, what="step.invoke()")
    return options


def invoked_output(function: Function[..., Any] | None, options: StepInvokeOptions) -> Shape:
    """The shape of what an invoked function returns: as told, else as its handler is annotated, where that is known."""
    output_type = options.get("output_type")
    if output_type is not None:
        return shape_of(output_type)
    return ANY if function is None else function.output
