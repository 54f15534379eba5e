"""A broker that delays, reorders, duplicates and drops messages. Events that it has taken it keeps until they are acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from taskflow.broker.publisher import AsyncPublisher, Letter, Publisher
from taskflow.broker.streams.entry import Delivery
from taskflow.errors import BrokerUnavailable
from tests.simulation.process import SimulatedProcess
from tests.simulation.world import US_PER_S, World

SEND_TIMEOUT_S = 3.0


def is_events_queue(name: str) -> bool:
    """Whether it is an app's queue of events, and not of work messages."""
    return name.split(".")[1] == "events"


@dataclass(slots=True)
class BrokerFaults:
    """How bad the broker is now; probabilities are for each message."""

    drop_chance: float = 0.0  # of work messages
    duplicate_chance: float = 0.0
    slow_chance: float = 0.02
    slowest_s: float = 0.05
    refuse_chance: float = 0.0  # a publisher gets an error, though perhaps the message was taken
    is_back_us: int = 0  # it takes and gives nothing before


@dataclass(slots=True, eq=False)
class Message:
    """One message in a queue."""

    queue: str
    body: bytes
    is_redelivered: bool = False
    is_gone: bool = False  # acknowledged or dropped
    holder: SimulatedConsumer | None = None


@dataclass(slots=True)
class SimulatedQueue:
    waiting: list[Message] = field(default_factory=list)
    consumers: list[SimulatedConsumer] = field(default_factory=list)
    open_messages: int = 0  # accepted, and not acknowledged


class SimulatedBroker:
    """Queues in memory. An events queue gets a copy of each event; a work queue what is sent to it by name."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.faults = BrokerFaults()
        self.queues: dict[str, SimulatedQueue] = {}

    def queue(self, name: str) -> SimulatedQueue:
        return self.queues.setdefault(name, SimulatedQueue())

    @property
    def is_down(self) -> bool:
        return self.world.now_us < self.faults.is_back_us

    def delay_us(self) -> int:
        if self.world.chance(self.faults.slow_chance):
            return int(self.world.between(0.002, self.faults.slowest_s) * US_PER_S)
        return self.world.random.randrange(100, 2_000)

    # --- messages ---

    def take(self, letter: Letter) -> None:
        """Accept what a publisher sends."""
        for name in letter.queues:
            self.queue(name)
        for message in letter.messages:
            if message.routing_key:
                self.put(message.routing_key, message.body, may_drop=True)
            else:
                for name in list(self.queues):
                    if is_events_queue(name):
                        self.put(name, message.body, may_drop=False)

    def put(self, name: str, body: bytes, *, may_drop: bool) -> None:
        if may_drop and self.world.chance(self.faults.drop_chance):
            self.world.history.add("dropped", "", queue=name)
            return
        copies = 2 if self.world.chance(self.faults.duplicate_chance) else 1
        self.queue(name).open_messages += copies
        for _ in range(copies):
            self.world.later(self.delay_us(), partial(self.enqueue, Message(name, body)))

    def enqueue(self, message: Message) -> None:
        if not message.is_gone:
            message.holder = None
            self.queue(message.queue).waiting.append(message)
            self.dispatch(message.queue)

    def dispatch(self, name: str) -> None:
        """Give what waits to those who listen; several messages may go as one delivery."""
        queue = self.queue(name)
        if not queue.waiting:
            return
        if self.is_down:
            self.world.at(self.faults.is_back_us, partial(self.dispatch, name))
            return
        listening = [consumer for consumer in queue.consumers if consumer.listens(name)]
        if not listening:
            return
        self.world.random.shuffle(queue.waiting)
        while queue.waiting:
            count = self.world.random.randint(1, len(queue.waiting))
            part, queue.waiting = queue.waiting[:count], queue.waiting[count:]
            self.world.random.choice(listening).receive(part)

    def release(self, messages: Sequence[Message]) -> None:
        """Whoever held these is gone, or gave them back: to the next."""
        for message in messages:
            message.is_redelivered = True
            self.world.later(self.delay_us(), partial(self.enqueue, message))


class SimulatedConsumer:
    """What the intake knows as its consumer. `on_deliveries` is called in the process's own loop."""

    def __init__(
        self,
        broker: SimulatedBroker,
        process: SimulatedProcess,
        *,
        queues: Sequence[str],
        on_deliveries: Callable[[list[Delivery]], None],
    ) -> None:
        self.broker = broker
        self.process = process
        self.names = list(queues)
        self.on_deliveries = on_deliveries
        self.last_poll_ms = 0
        self.connected = True
        self.paused_names: set[str] = set()
        self.held: dict[Message, None] = {}
        self.is_stopped = False

    async def open(self, timeout_s: float) -> None:
        self.process.on_death.append(self.died)
        for name in self.names:
            self.broker.queue(name).consumers.append(self)
            self.broker.world.later(self.broker.delay_us(), partial(self.broker.dispatch, name))

    def listens(self, name: str) -> bool:
        return not self.is_stopped and name not in self.paused_names

    def receive(self, messages: Sequence[Message]) -> None:
        for message in messages:
            message.holder = self
            self.held[message] = None
        self.broker.world.later(self.broker.delay_us(), partial(self.hand_over, messages))

    def hand_over(self, messages: Sequence[Message]) -> None:
        if self.is_stopped:
            return
        world = self.broker.world
        deliveries = [
            Delivery(message.queue, message.body, message.is_redelivered, message) for message in messages
        ]
        self.process.call_soon(self.on_deliveries, deliveries)
        if world.chance(self.broker.faults.duplicate_chance):  # it is taken for dead, but isn't
            world.later(int(world.between(0.001, 3.0) * US_PER_S), partial(self.take_away, messages))

    def take_away(self, messages: Sequence[Message]) -> None:
        kept = [message for message in messages if message.holder is self]
        for message in kept:
            self.held.pop(message, None)
            message.holder = None
        self.broker.release(kept)

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        self.order(deliveries, self.acked)

    def acked(self, message: Message) -> None:
        message.is_gone = True
        self.broker.queue(message.queue).open_messages -= 1
        if is_events_queue(message.queue):
            self.broker.world.history.add("acked", self.process.name, body=message.body)

    def reject(self, deliveries: Sequence[Delivery], *, requeue: bool) -> None:
        self.order(deliveries, lambda message: self.broker.release([message]))

    def order(self, deliveries: Sequence[Delivery], action: Callable[[Message], None]) -> None:
        """Carried out a little later; by then the message may be somebody else's."""
        for delivery in deliveries:
            self.broker.world.later(self.broker.delay_us(), partial(self.follow, delivery.message, action))

    def follow(self, message: Message, action: Callable[[Message], None]) -> None:
        if message.holder is self and message in self.held:
            del self.held[message]
            message.holder = None
            action(message)

    def pause(self, queue_name: str) -> None:
        self.paused_names.add(queue_name)

    def resume(self, queue_name: str) -> None:
        self.paused_names.discard(queue_name)
        self.broker.world.later(self.broker.delay_us(), partial(self.broker.dispatch, queue_name))

    async def close(self, timeout_s: float) -> None:
        self.leave(0.0)

    def died(self) -> None:
        self.leave(self.broker.world.between(0.0, 30.0))

    def leave(self, after_s: float) -> None:
        """What was not acknowledged goes to others: at once, or when the broker finds out."""
        if self.is_stopped:
            return
        self.is_stopped = True
        for name in self.names:
            self.broker.queue(name).consumers.remove(self)
        held, self.held = list(self.held), {}
        for message in held:
            message.holder = None
        self.broker.world.later(int(after_s * US_PER_S), partial(self.broker.release, held))


class SimulatedPublisher(AsyncPublisher):
    """Publishes to the simulated broker, in the time that the network takes."""

    def __init__(self, broker: SimulatedBroker, app_id: str) -> None:
        super().__init__(Publisher("memory://", app_id=app_id, send_timeout_ms=int(SEND_TIMEOUT_S * 1000)))
        self.broker = broker

    async def _send(self, letter: Letter) -> None:
        if not letter.messages:
            return
        broker = self.broker
        await asyncio.sleep(broker.delay_us() / US_PER_S)
        if broker.is_down:
            await asyncio.sleep(SEND_TIMEOUT_S)
            raise BrokerUnavailable("simulated: the broker is away")
        is_refused = broker.world.chance(broker.faults.refuse_chance)
        if not is_refused or broker.world.chance(0.5):
            broker.take(letter)
        await asyncio.sleep(broker.delay_us() / US_PER_S)
        if is_refused:
            raise BrokerUnavailable("simulated: no confirmation came")

    def close(self) -> None:
        return
