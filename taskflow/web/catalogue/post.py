"""Post: sends events for clients that speak HTTP: all or none, with ids by a seed. Tells of events nobody hears. Rule S14.3."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple, Self

import orjson

from taskflow.connections import Connections
from taskflow.errors import StoreUnavailable
from taskflow.event import Event, WireEvent, encode_event, pack_messages
from taskflow.runs.functions import Registered, find_registered
from taskflow.runs.schemas import TypeOfEvent, types_of_events
from taskflow.triggers import TriggerEvent
from taskflow.values.ids import MAX_ULID_MS, VALUES, encode_40_bits, encode_time, new_ulid, ulid_ms
from taskflow.web.catalogue.fitting import problems_of
from taskflow.web.catalogue.problems import Kind, Problem

logger = logging.getLogger("taskflow.web")

LOOK_EVERY_S = 5.0  # how old what is known of the registered functions may be
MAX_RECENT_BYTES = 16 * 1024 * 1024
MAX_ERRORS = 10  # that one answer names
MAX_TOLD = 1_000  # names of events nobody listens to that are logged
ENTROPY_BYTES = 10
COUNTER = 0xFFFF_FFFF


class Seed(NamedTuple):
    """What the ids of a request's events are made of: a time (ms since the epoch) and 80 bits. The same seed gives the same ids."""

    ms: int
    bits: int

    @classmethod
    def parse(cls, header: str) -> Self | None:
        """The seed in `x-inngest-event-id-seed`: "<ms>,<base64 of 10 bytes>". None for one that can't be read."""
        ms, comma, encoded = header.partition(",")
        if not (comma and ms.isascii() and ms.isdecimal() and len(ms) < 16 and int(ms) <= MAX_ULID_MS):
            return None
        try:
            entropy = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            return None
        return cls(int(ms), int.from_bytes(entropy)) if len(entropy) == ENTROPY_BYTES else None

    @classmethod
    def of(cls, uid: str) -> Self:
        """The seed that a ULID stands for."""
        bits = 0
        for char in uid[10:]:
            bits = bits << 5 | VALUES[char]
        return cls(ulid_ms(uid), bits)

    def uid(self, number: int) -> str:
        """The id of the event of this number, from 1: it is added to the last 32 bits."""
        bits = self.bits & ~COUNTER | (self.bits + number) & COUNTER
        return encode_time(self.ms) + encode_40_bits(bits >> 40) + encode_40_bits(bits & (1 << 40) - 1)


class Posted(NamedTuple):
    """The outcome of sending: the internal ids in order, and the names of events by which no function starts."""

    uids: list[str]
    unheard: list[str]


@dataclass(slots=True)
class Audience:
    """Who listens: the names and prefixes of events by which registered functions start or are cancelled, and their apps."""

    names: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    apps: tuple[str, ...] = ()
    # By name, the types of events of which workers have registered the schemas.
    types: Mapping[str, Sequence[TypeOfEvent]] = field(default_factory=dict)

    @classmethod
    def of(cls, registered: Registered) -> Self:
        specs = [each.spec for each in registered.functions]
        heard = {
            trigger.event for spec in specs for trigger in spec.triggers if isinstance(trigger, TriggerEvent)
        }
        heard |= {
            each.event for spec in specs if spec.flow.cancel is not None for each in spec.flow.cancel.events
        }
        return cls(
            frozenset(name for name in heard if not name.endswith("*")),
            tuple(name[:-1] for name in heard if name.endswith("*")),
            tuple(sorted({each.app_id for each in registered.code_bases})),
            {
                name: tuple(types)
                for name, types in groupby(types_of_events(specs), key=lambda each: each.name)
            },
        )

    def hears(self, name: str) -> bool:
        return name in self.names or name.startswith(self.prefixes)

    def check(self, events: Sequence[Event]) -> None:
        """Raise Problem unless the data of all events fits what workers have registered for their names. Rule S11.2."""
        if not self.types:
            return
        errors = [
            {"index": index, "message": message}
            for index, event in enumerate(events)
            if (message := self.misfit(event))
        ]
        if errors:
            first = errors[0]
            told = f"event {first['index']}: {first['message']}"
            raise Problem(Kind.INVALID_EVENT, told, more={"errors": errors[:MAX_ERRORS]})

    def misfit(self, event: Event) -> str:
        """Why the event fits none of the types of its name and version; empty if it fits one, or if there is none."""
        fitting = [each for each in self.types.get(event.name, ()) if event.v in (None, each.v)]
        found = [problems_of(event.data, each.schema) for each in fitting]
        if not found or not all(found):
            return ""
        fewest = min(found, key=lambda problems: len(problems))
        return f"event {event.name!r} does not fit its type: {'; '.join(fewest)}"


@dataclass(slots=True)
class Post:
    """Sends events over the broker. It needs the store only to know who listens, and goes on without it."""

    link: Connections
    audience: Audience | None = None
    looked_s: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    told: set[str] = field(default_factory=set)
    # What was sent last, as on the wire, by uid: a client may ask for it before a worker has routed it.
    recent: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    recent_bytes: int = 0

    async def send(self, events: Sequence[Event], seed: Seed | None = None) -> Posted:
        """Check all events, publish all. Raises Problem, InvalidEvent, BrokerUnavailable, StoreUnavailable if no app is known."""
        now_ms, max_bytes = self.link.clock.now_ms(), self.link.config.max_event_bytes
        uids = [seed.uid(number) if seed else new_ulid(now_ms) for number in range(1, len(events) + 1)]
        encoded = [
            encode_event(event, now_ms=now_ms, max_bytes=max_bytes, uid=uid, codecs=self.link.codecs)[1]
            for event, uid in zip(events, uids, strict=True)
        ]
        audience = await self.who_listens()
        audience.check(events)
        await self.link.async_publisher.publish_events(pack_messages(encoded), app_ids=audience.apps)
        for uid, text in zip(uids, encoded, strict=True):
            self.remember(uid, text)
        unheard = sorted({event.name for event in events if not audience.hears(event.name)})
        for name in unheard:
            self.tell_unheard(name)
        return Posted(uids, unheard)

    async def who_listens(self) -> Audience:
        """What is known of the registered functions. Raises StoreUnavailable when it is not known for which app to send."""
        now_s = asyncio.get_running_loop().time()
        if self.audience is not None and now_s - self.looked_s < LOOK_EVERY_S:
            return self.audience
        async with self.lock:
            if self.audience is None or now_s - self.looked_s >= LOOK_EVERY_S:
                await self.look(now_s)
        if self.audience is None or not (self.audience.apps or self.link.config.app_id):
            raise StoreUnavailable(
                "no app is known for which to keep events: no worker has ever started here. Start one, or give the web process -A"
            )
        return self.audience

    async def look(self, now_s: float) -> None:
        self.looked_s = now_s
        try:
            async with self.link.session().deadline() as store:
                self.audience = Audience.of(await find_registered(store))
        except StoreUnavailable:
            if self.audience is None:
                if not self.link.config.app_id:
                    raise
                self.audience = Audience()

    def tell_unheard(self, name: str) -> None:
        if name not in self.told and len(self.told) < MAX_TOLD:
            self.told.add(name)
            logger.warning(
                "no function that workers have registered starts by events %r; a run may wait for them", name
            )

    def remember(self, uid: str, text: bytes) -> None:
        # A request that is repeated gives the same ids.
        self.recent_bytes += len(text) - len(self.recent.pop(uid, b""))
        self.recent[uid] = text
        while self.recent_bytes > MAX_RECENT_BYTES:
            self.recent_bytes -= len(self.recent.popitem(last=False)[1])

    def recall(self, uid: str) -> WireEvent | None:
        """An event that this process has sent lately."""
        text = self.recent.get(uid)
        return None if text is None else orjson.loads(text)
