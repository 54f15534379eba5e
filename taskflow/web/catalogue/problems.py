"""Problem: why an operation was refused or failed, in the form of RFC 9457. Rule S14.1."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from taskflow.errors import (
    BrokerUnavailable,
    ConfigError,
    EventNotFound,
    InvalidDuration,
    InvalidEvent,
    NonRetriableError,
    RerunRefused,
    RunNotFound,
    StoreUnavailable,
    TaskFlowError,
    TokenRefused,
)


class Told(NamedTuple):
    """A kind of problem: its HTTP status, its title, and what to do about it."""

    status: int
    title: str
    hint: str


class Kind(Enum):
    """The kinds of problems. The name in lower case is the `code` of the answer."""

    INVALID_REQUEST = Told(400, "The request can't be read", "Compare it with /api/v1/openapi.json.")
    INVALID_FIELD = Told(400, "A field has a wrong value", "The detail names the field, and what it may be.")
    INVALID_EVENT = Told(
        400, "An event is wrong, and none was sent", "Correct the event that the detail names, and send all."
    )
    UNAUTHENTICATED = Told(
        401, "No valid key", "Make one with `taskflow keys create`, and send it as Authorization: Bearer KEY."
    )
    TOKEN_REFUSED = Told(
        401,
        "The subscription token opens nothing",
        "Get another one from the app: app.subscription_token(...)",
    )
    UNVERIFIED = Told(
        401, "The sender is not verified", "Compare the secret of the webhook's code with that of the sender."
    )
    FORBIDDEN = Told(403, "The key does not allow this", "Use a key with the scope that the detail names.")
    FOREIGN_ORIGIN = Told(
        403,
        "The request comes from elsewhere",
        "Without keys only this machine is served, under its own name.",
    )
    NOT_FOUND = Told(404, "There is no such address", "/api/v1/openapi.json lists the addresses.")
    RUN_NOT_FOUND = Told(404, "There is no such run", "Runs are removed after their retention.")
    STEP_NOT_FOUND = Told(404, "The run has no such step", "GET /api/v1/runs/{run_id}/steps lists them.")
    EVENT_NOT_FOUND = Told(404, "There is no such event", "An event is known once a worker has routed it.")
    FUNCTION_NOT_FOUND = Told(
        404, "There is no such function", "GET /api/v1/functions lists what workers have registered."
    )
    QUEUE_NOT_FOUND = Told(404, "There is no such queue", "GET /api/v1/queues lists them.")
    SIGNAL_NOT_FOUND = Told(
        404,
        "No run waits for this signal",
        "It has not come to the wait yet, or the signal was given before.",
    )
    BULK_NOT_FOUND = Told(
        404, "There is no such bulk operation", "GET /api/v1/bulk lists them; the newest 1,000 are kept."
    )
    WEBHOOK_NOT_FOUND = Told(404, "There is no such webhook", "`taskflow webhooks list` lists what has come.")
    KEY_NOT_FOUND = Told(404, "There is no such key", "`taskflow keys list` lists them.")
    KEY_EXISTS = Told(
        409,
        "There is a key of this name",
        "Names of keys are used once, so that each can be told from others.",
    )
    COUNT_DIFFERS = Told(
        409,
        "Other runs match than was expected, and nothing was done",
        "Look at the runs again, and repeat it with the number that matches now.",
    )
    METHOD_NOT_ALLOWED = Told(405, "The address has no such method", "The header Allow names its methods.")
    TOO_SLOW = Told(408, "The body came too slowly", "Send it at once, or in smaller parts.")
    RERUN_REFUSED = Told(409, "The run can't be rerun so", "A run can be rerun once it has ended.")
    TOO_LARGE = Told(413, "The body is too large", "Send it in parts, or store what is large elsewhere.")
    WRONG_MEDIA_TYPE = Told(
        415, "The body has a type that is not read here", "Send JSON with Content-Type: application/json."
    )
    KEY_REUSED = Told(
        422, "The Idempotency-Key was used for another request", "Use a new key for a new request."
    )
    TOO_MANY = Told(429, "The key has sent more than it may", "Wait as long as Retry-After says.")
    INTERNAL = Told(500, "Something went wrong here", "The log of the web process has the reason.")
    STORE_UNAVAILABLE = Told(
        503, "The store gives no answer", "Try again; `taskflow doctor` looks for the cause."
    )
    BROKER_UNAVAILABLE = Told(
        503,
        "The broker takes nothing, and no event was sent",
        "Try again; `taskflow doctor` looks for the cause.",
    )

    @property
    def code(self) -> str:
        return self.name.lower()


RETRY_AFTER_S = 1  # when a server was away


@dataclass(eq=False)
class Problem(Exception):
    """An operation was refused or failed. `detail` says what was expected and what came; `more` are further members."""

    kind: Kind
    detail: str
    retry_after_s: int | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.detail

    @property
    def status(self) -> int:
        return self.kind.value.status

    def to_json(self) -> dict[str, Any]:
        """The problem as RFC 9457 has it, with a code for programs and a hint for people."""
        status, title, hint = self.kind.value
        return {
            "type": f"urn:taskflow:problem:{self.kind.code}", "title": title, "status": status, "detail": self.detail,
            "code": self.kind.code, "hint": hint, **self.more,
        }  # fmt: skip


# The first class that fits counts, so a subclass stands before its base.
KINDS: tuple[tuple[type[TaskFlowError], Kind], ...] = (
    (RunNotFound, Kind.RUN_NOT_FOUND),
    (EventNotFound, Kind.EVENT_NOT_FOUND),
    (InvalidEvent, Kind.INVALID_EVENT),
    (RerunRefused, Kind.RERUN_REFUSED),
    (TokenRefused, Kind.TOKEN_REFUSED),
    (StoreUnavailable, Kind.STORE_UNAVAILABLE),
    (BrokerUnavailable, Kind.BROKER_UNAVAILABLE),
    (InvalidDuration, Kind.INVALID_FIELD),
    (ConfigError, Kind.INVALID_FIELD),
    (NonRetriableError, Kind.INVALID_FIELD),
)
# What any operation may answer.
COMMON = (
    Kind.INVALID_REQUEST,
    Kind.INVALID_FIELD,
    Kind.UNAUTHENTICATED,
    Kind.FORBIDDEN,
    Kind.STORE_UNAVAILABLE,
)


def problem_of(error: TaskFlowError) -> Problem:
    """The problem that stands for an error of taskflow."""
    kind = next((kind for cls, kind in KINDS if isinstance(error, cls)), Kind.INTERNAL)
    return Problem(kind, str(error), RETRY_AFTER_S if kind.value.status == 503 else None)
