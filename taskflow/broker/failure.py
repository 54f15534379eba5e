"""Words for errors of a broker: which broker, why, what to do, and never a password."""

from __future__ import annotations

from taskflow.broker.urls import broker_url
from taskflow.errors import BrokerUnavailable
from taskflow.redis.address import redact
from taskflow.values.dev_server import dev_hint


def unavailable(url: str, *, after_ms: int, error: BaseException) -> BrokerUnavailable:
    """The error for users: which broker, why, what to do. Rule S1.2."""
    what = "can't be reached" if was_refused(error) else f"took nothing within {after_ms} ms"
    return BrokerUnavailable(
        f"the broker {redact(url)} {what}: {reason_of(error, url)}. "
        "Check that it runs, that this machine reaches it, and the user and password; sending again is safe."
        f"{dev_hint(url)}"
    )


def was_refused(error: BaseException | None) -> bool:
    """Whether the error, or one that caused it, says that no server listens there."""
    while error is not None:
        if isinstance(error, ConnectionRefusedError):
            return True
        error = error.__cause__ or error.__context__
    return False


def reason_of(error: BaseException, url: str) -> str:
    """The error in words, without credentials."""
    if was_refused(error):
        return "the connection was refused"
    if isinstance(error, TimeoutError):
        return "it gave no answer in time"
    return hide_credentials(str(error) or type(error).__name__, url)


def hide_credentials(text: str, url: str) -> str:
    """Replace the URL in the text, where a library quotes it, by its redacted form."""
    for spelling in {url, broker_url(url)}:
        text = text.replace(spelling, redact(spelling))
    return redact(text)
