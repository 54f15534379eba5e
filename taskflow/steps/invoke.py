"""`step.invoke`: starts another run, together with the operation, and waits for its end. Rule S3.6."""

from __future__ import annotations

from typing import Any

import orjson

from taskflow.config import check_slug
from taskflow.event import encode_event
from taskflow.function import FunctionSpec, read_spec
from taskflow.routing.plan import plan_run
from taskflow.step_options import StepInvokeOptions
from taskflow.steps.call import Call
from taskflow.steps.host import StepHost
from taskflow.steps.settle import settle
from taskflow.store.claims import InvokedRun
from taskflow.store.operation import FAILED, INVOKE, WAIT, Operation, step_error
from taskflow.typed_data import invoke_event
from taskflow.values.durations import parse_duration_ms
from taskflow.values.ids import run_id_for
from taskflow.values.shape import Shape
from taskflow.values.stored import dump


async def invoke(
    host: StepHost, step_id: str, function_id: str, options: StepInvokeOptions, output: Shape
) -> Any:
    timeout_ms = None
    if (timeout := options.get("timeout")) is not None:
        timeout_ms = parse_duration_ms(timeout, what=f"step.invoke({step_id!r}) timeout")
    if (queue := options.get("queue")) is not None:
        check_slug(queue, what=f"step.invoke({step_id!r}) queue")
    call = await host.begin(step_id, INVOKE)
    now_ms = host.now_ms()
    due_ms = None if timeout_ms is None else now_ms + timeout_ms
    op = Operation(INVOKE, WAIT, call.index, started=now_ms, due=due_ms)
    if call.known is not None:
        return await settle(host, call, op, output=output)
    manifest = await host.find_manifest(function_id)
    if manifest is None:
        op.state, op.error = FAILED, not_found(function_id)
        await host.keep(call, op)
        raise step_error(op.error, step_id)
    child = plan_child(host, call, read_spec(manifest), options, now_ms)
    op.child = child.run_id
    return await settle(host, call, op, child, output)


def plan_child(
    host: StepHost, call: Call, spec: FunctionSpec, options: StepInvokeOptions, now_ms: int
) -> InvokedRun:
    """Plan the run to start. Its id derives from this run and the step, so that the script may be repeated."""
    uid = host.derive_uid(f"{host.run.run_id}:{call.key}", now_ms)
    headers = host.run.function.hooks.headers_of_call(options.get("headers"))
    event = invoke_event(spec, options.get("data"), user=options.get("user"), headers=headers)
    _, body = encode_event(
        event, now_ms=now_ms, max_bytes=host.config.max_event_bytes, uid=uid, internal=True,
        inherited=host.run.input.event.headers, codecs=host.codecs,
    )  # fmt: skip
    if spec.parameters is not None:  # a task can ask who called it
        body = dump(orjson.loads(body) | {"parent": host.run.run_id}, what=f"a call of {spec.id}")
    run_id = run_id_for(uid, spec.id)
    plan = plan_run(spec, orjson.loads(body), run_id=run_id, queue=options.get("queue"))
    return InvokedRun(
        spec.id, plan.queue, run_id, body, plan.start_timeout_ms, plan.finish_timeout_ms, plan.flow
    )


def not_found(function_id: str) -> dict[str, Any]:
    return {
        "name": "FunctionNotFound",
        "message": f"no worker has registered the function {function_id!r}; "
        "check the id, and that its app's worker has run",
        "stack": "",
    }


def describe(op: Operation) -> str:
    return f"run {op.child}"
