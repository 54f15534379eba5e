"""The options of step tools that both faces share: those of `step.with_options`, and of `step.invoke`. Rules S3.1, S3.6."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict

from taskflow.errors import ConfigError
from taskflow.event_type import TypedEvent
from taskflow.headers import Headers
from taskflow.retries import Exceptions, Retries
from taskflow.timeouts import limit_ms
from taskflow.types import Duration, JsonObject
from taskflow.values.keywords import check_keywords
from taskflow.values.record import record
from taskflow.values.shape import ANY, Shape
from taskflow.values.shapes import shape_of

if TYPE_CHECKING:
    from taskflow.function import Function


class StepOptions(TypedDict, total=False):
    """What `step.with_options` takes; None counts as left out: then it is as the function says.

    retries       attempts after the first one, with the function's delays; or a Retries, which replaces the function's (S5.1)
    retry_on      exceptions, a class or a tuple, against which another attempt is made; others end the step (S5.3)
    give_up_on    exceptions, a class or a tuple, against which none is made
    timeout       of each attempt, which then fails with StepTimeout (S6.3); more than 0, at most 1 year
    record_input  True keeps the arguments with the step, for people and tools to see (S10.2); they must have a JSON form
    """

    retries: int | Retries | None
    retry_on: Exceptions | None
    give_up_on: Exceptions | None
    timeout: Duration | None
    record_input: bool | None


@record
class StepSettings:
    """The checked options of `step.run`; what is None is as the function says."""

    retries: int | Retries | None = None
    retry_on: Exceptions | None = None
    give_up_on: Exceptions | None = None
    timeout_ms: int | None = None
    records_input: bool = False

    @classmethod
    def of(cls, options: StepOptions) -> StepSettings:
        """Raises ConfigError for a wrong value, TypeError for an option that does not exist."""
        check_keywords(options, StepOptions, what="step.with_options()")
        records_input = options.get("record_input")
        if records_input not in (None, True, False):
            raise ConfigError(f"record_input must be True or False, got {records_input!r:.80}")
        settings = cls(
            retries=options.get("retries"),
            retry_on=options.get("retry_on"),
            give_up_on=options.get("give_up_on"),
            timeout_ms=limit_ms("timeout", options.get("timeout")),
            records_input=bool(records_input),
        )
        settings.over(Retries())
        return settings

    def over(self, retries: Retries) -> Retries:
        """When to try again, in a function whose policy is `retries`."""
        if self is PLAIN:
            return retries
        if isinstance(self.retries, Retries):
            retries = self.retries
        elif self.retries is not None:
            retries = replace(retries, attempts=self.retries)
        return Retries.of(retries, retry_on=self.retry_on, give_up_on=self.give_up_on)


PLAIN = StepSettings()


class StepInvokeOptions(TypedDict, total=False):
    """What `step.invoke` takes beside the function; None counts as left out.

    data     a JSON object or a model (S11.2), which is the data of the event that the run gets
    user     a JSON object: who asks for it
    headers  short strings by name, besides those that it inherits from this run (S11.1)
    queue    in which the run executes, in place of the function's (S7.2); a worker of its app must serve it (`-Q`)
    timeout  how long to wait for its end, at most 1 year; without one there is no limit
    output_type  of its output, when that is not what `function` is annotated to return (S11.3)
    """

    data: JsonObject | TypedEvent | None
    user: JsonObject | None
    headers: Headers | None
    queue: str | None
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
