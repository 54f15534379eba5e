"""Reads and writes values that need more than JSON: those that lie in blobs, and those that can't be decoded here. Rule S12."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from taskflow.engine.execution import Execution
from taskflow.errors import DecodeError, Suspend
from taskflow.store.operation import Operation


async def put_into_blob(run: Execution, stored: bytes) -> bytes:
    """Put a value into a blob of the run; return what to store in its place. Raises BlobUnavailable."""
    host = run.host
    await host.blob_owners.note(run.run_id, now_ms=host.clock.now_ms())
    return await host.codecs.blobs.put(run.run_id, stored)


async def put_result_into_blob(run: Execution, stored: bytes) -> bytes:
    """As `put_into_blob`, for the result of the run, which the run that invoked it gets."""
    reference = await put_into_blob(run, stored)
    await run.host.blob_owners.note_parent(run.run_id)
    return reference


async def fetch(run: Execution, key: str, op: Operation) -> None:
    """Read the outcome of an operation that is away in a blob. Call it before the outcome's turn.

    Meanwhile no other outcome reaches the handler: their order must not hang on which blob comes first. Raises Suspend.
    """
    assert op.data is not None, "only what is stored can be away"
    run.turns.thread_runs()
    run.tree.hold()
    try:
        fetched = await run.host.codecs.fetched(op.data)
        op.fetched = fetched if isinstance(fetched, bytes) else fetched.encode()
    except DecodeError as error:
        problem: DecodeError | None = error
    except BaseException:
        # The branch lost a race, or the run ends: nobody asks for the turn of this outcome.
        run.turns.forget(key)
        raise
    else:
        problem = None
    finally:
        run.tree.leave()
        run.turns.thread_rests()
    if problem is not None:
        await decode_failed(run, problem)


async def decode_failed(run: Execution, error: DecodeError) -> NoReturn:
    """End the activation, as what the handler asks for can't be decoded here. Raises Suspend.

    The handler must not catch the error: its code would take it for an answer.
    """
    run.spawn(run.handler_failed(error))
    del error
    # In the meantime the run begins to end, so that a `finally` of the handler gets no step.
    await asyncio.sleep(0)
    raise Suspend
