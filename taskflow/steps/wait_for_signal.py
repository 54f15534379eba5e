"""`step.wait_for_signal`: waits for `app.send_signal` of that name; at most one run of an app waits for a name. Rule S3.4."""

from __future__ import annotations

from taskflow.errors import DecodeError
from taskflow.signals import OnConflict, ReceivedSignal, check_on_conflict, check_signal_name
from taskflow.steps.host import StepHost
from taskflow.steps.settle import settle
from taskflow.store.keys import SEPARATOR, signal_key
from taskflow.store.operation import SIGNAL, WAIT, Operation
from taskflow.types import Duration
from taskflow.values.durations import parse_duration_ms


async def wait_for_signal(
    host: StepHost, step_id: str, signal: str, timeout: Duration, on_conflict: OnConflict
) -> ReceivedSignal | None:
    what = f"step.wait_for_signal({step_id!r})"
    timeout_ms = parse_duration_ms(timeout, what=f"{what} timeout")
    key = signal_key(host.config.app_id, check_signal_name(signal))
    replaces = check_on_conflict(on_conflict, what=what)
    call = await host.begin(step_id, SIGNAL)
    now_ms = host.now_ms()
    op = Operation(
        SIGNAL, WAIT, call.index, started=now_ms, due=now_ms + timeout_ms, signal=key, replaces=True if replaces else None
    )  # fmt: skip
    found = await settle(host, call, op)
    try:
        return None if found is None else ReceivedSignal.from_wire(found, host.codecs)
    except DecodeError as error:
        await host.decode_failed(error)


def describe(op: Operation) -> str:
    return f"signal {(op.signal or '').partition(SEPARATOR)[2]}"
