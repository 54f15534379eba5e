"""Imports the user's app in a process of its own, and prints facts about it: `python -m taskflow.dev.probe MODULE[:APP]`.

So `taskflow dev` itself never runs user code, which can then neither break it nor stay loaded in an old version.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict

import orjson

from taskflow.app import TaskFlow
from taskflow.errors import TaskFlowError
from taskflow.loading import load_app
from taskflow.values.record import record


@record(kw_only=True)
class AppFacts:
    """The facts of an app that `taskflow dev` needs, and that a running worker can't change."""

    app_id: str
    store: str
    broker: str
    namespace: str
    queues: list[str]


def facts_of(app: TaskFlow) -> AppFacts:
    queues = sorted({"default", *(function.spec.queue for function in app.functions.values())})
    config = app.config
    return AppFacts(
        app_id=app.id, store=config.store, broker=config.broker, namespace=config.namespace, queues=queues
    )  # fmt: skip


def main(target: str) -> None:
    # Output of user code must not mix with the answer.
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        told = {"facts": asdict(facts_of(load_app(target)))}
    except TaskFlowError as error:
        told = {"error": {"message": str(error)}}
    with answer:
        answer.write(orjson.dumps(told))
    sys.stdout.flush()
    os._exit(0)  # don't wait for threads that user code has started


if __name__ == "__main__":
    main(sys.argv[1])
