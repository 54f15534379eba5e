"""Depends: the mark of a parameter that taskflow fills in. Rule S11.5."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from taskflow.errors import ConfigError
from taskflow.values.record import record

Scope = Literal["process", "run", "attempt"]
Provider = Callable[..., Any]

SCOPES: tuple[str, ...] = get_args(Scope)
"""From the one that lasts longest. A dependency may itself need what lasts as long as it, or longer."""


@record
class Dependency:
    """What `Depends` gives: the provider to call, and how long its value lasts."""

    provider: Provider
    scope: Scope


def Depends(provider: Provider, *, scope: Scope = "attempt") -> Any:
    """Mark a parameter of a handler, of a step's function, or of another provider: it gets what `provider` gives. Rule S11.5.

        async def fulfil(ctx: Context[Step], db: Annotated[Pool, Depends(get_pool, scope="process")]) -> str: ...
        def charge(order_id: str, db: Session = Depends(get_session)) -> str: ...  # step.run("charge", charge, "o-7")

    A provider is a `def`, an `async def`, or a generator of either kind, which yields once and takes down what it has set up after
    the `yield`. Its own parameters are marked in the same way; one that is annotated with `Context` gets the run's context, without
    step tools. `scope` says how long a value lasts: "attempt", one execution of user code; "run", one activation of a run;
    "process", until the worker process has drained. Raises ConfigError for another scope, or what can't be called.
    """
    if scope not in SCOPES:
        raise ConfigError(f"Depends(scope={scope!r}): a scope is one of {', '.join(map(repr, SCOPES))}")
    if not callable(provider):
        raise ConfigError(f"Depends takes a function that gives the value, got {provider!r:.80}")
    return Dependency(provider, scope)
