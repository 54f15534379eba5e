"""Exchanges and queues: their names, and what is bound to what.

send --> taskflow.events (fanout) --> taskflow.events.<app_id>            each app gets its copy (S1.6)
hint --> taskflow.work (direct)   --> taskflow.work.<app_id>.<queue>      routing key = name of the queue
"""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from kombu.entity import Exchange, Queue

from taskflow.broker.urls import broker_url, register_transport

__all__ = [
    "broker_url",
    "events_exchange",
    "events_queue",
    "register_transport",
    "work_exchange",
    "work_queue",
    "work_queue_name",
]

EVENTS = "taskflow.events"
WORK = "taskflow.work"


def events_exchange() -> Exchange:
    """Fanout: every app that ever listened gets a copy of each event."""
    return Exchange(EVENTS, type="fanout", durable=True)


def events_queue(app_id: str) -> Queue:
    """The app's copy of all events; its workers compete for it."""
    return Queue(f"{EVENTS}.{app_id}", exchange=events_exchange(), durable=True)


def work_exchange() -> Exchange:
    return Exchange(WORK, type="direct", durable=True)


def work_queue(app_id: str, queue: str) -> Queue:
    """Hints that `queue` of the app has ready runs."""
    name = work_queue_name(app_id, queue)
    return Queue(name, exchange=work_exchange(), routing_key=name, durable=True)


def work_queue_name(app_id: str, queue: str) -> str:
    return f"{WORK}.{app_id}.{queue}"
