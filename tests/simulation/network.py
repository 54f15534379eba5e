"""The network between processes and the store: it delays, and it breaks between command, execution and reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import hiredis

from taskflow.redis.connection import pack_command
from tests.simulation.forms import suspended_in
from tests.simulation.observation import untold
from tests.simulation.process import SimulatedProcess
from tests.simulation.server import StoreServer
from tests.simulation.world import US_PER_S, World

NIL_LIST = b"*-1\r\n"
WRITES = {b"EVALSHA", b"DEL", b"LPUSH", b"BLPOP", b"HSET", b"HDEL", b"SET", b"ZADD", b"ZREM"}
UNNOTICED_S = (10.0, 60.0)  # how long nobody may tell a process that its connection is gone
LATE_S = (0.01, 8.0)  # how long the network may hold up a command of a connection that is lost


@dataclass(slots=True)
class Faults:
    """How bad the network is now. Probabilities are for each request."""

    break_chance: float = 0.0
    refuse_chance: float = 0.0
    slow_chance: float = 0.01
    slowest_s: float = 0.02
    orphan_chance: float = 0.0  # that what a process sent when it died comes late
    store_is_back_us: int = 0  # the store gives no answer before
    writes_are_back_us: int = 0  # it refuses to write before, and says why
    refusal: bytes = b""


class StoreConnection(asyncio.Transport):
    """A process's end of a connection. Bytes arrive in order, or not at all."""

    def __init__(self, network: Network, process: SimulatedProcess, protocol: Any) -> None:
        super().__init__()
        self.network = network
        self.process = process
        self.protocol = protocol
        self.reader = hiredis.Reader()
        self.is_lost = False  # for the process
        self.is_cut = False  # nothing passes any more, whatever the process knows of it
        self.arrives_us = 0  # what a dead process has left in its kernel arrives then
        self.sent_us = 0  # when the last request arrives
        self.replied_us = 0  # when the last reply does
        self.channels: dict[bytes, None] = {}
        self.held_up: list[
            tuple[Sequence[list[bytes]], int]
        ] = []  # requests in the socket of a store that is away

    def write(self, data: Any) -> None:
        if self.is_lost:
            return
        self.reader.feed(bytes(data))
        commands: list[list[bytes]] = []
        while (command := self.reader.gets()) is not False:
            commands.append(command)
        if commands and not self.is_cut:
            self.network.send(self, commands)
            self.process.meet("request")

    def close(self) -> None:
        self.is_lost = True
        self.network.forget(self)

    def abort(self) -> None:
        self.close()

    def orphan(self) -> None:
        """The process has died: its kernel goes on sending, for as long as the network makes it try."""
        world = self.network.world
        if world.chance(self.network.faults.orphan_chance):
            self.arrives_us = world.now_us + int(world.between(*LATE_S) * US_PER_S)
        self.close()

    def is_closing(self) -> bool:
        return self.is_lost

    def lose(self) -> None:
        """The process learns that the connection is gone."""
        if not self.is_lost:
            self.is_lost = True
            self.network.forget(self)
            self.process.call_soon(self.protocol.connection_lost, ConnectionResetError("simulated"))


class Network:
    """Carries requests to the store and replies back."""

    def __init__(self, world: World, server: StoreServer) -> None:
        self.world = world
        self.server = server
        self.faults = Faults()
        self.connections: dict[StoreConnection, None] = {}
        self.poppers: list[
            tuple[StoreConnection, bytes, int]
        ] = []  # who waits in a BLPOP, for what, until when (us)
        self.has_forgotten = False  # its scripts, by a restart

    # --- connecting ---

    async def connect(
        self, process: SimulatedProcess, factory: Callable[[], Any]
    ) -> tuple[StoreConnection, Any]:
        await asyncio.sleep(self.delay_us() / US_PER_S)
        if self.world.now_us < self.faults.store_is_back_us or self.world.chance(self.faults.refuse_chance):
            raise ConnectionRefusedError("simulated")
        protocol = factory()
        connection = StoreConnection(self, process, protocol)
        self.connections[connection] = None
        process.on_death.append(connection.orphan)
        protocol.connection_made(connection)
        return connection, protocol

    def forget(self, connection: StoreConnection) -> None:
        self.connections.pop(connection, None)
        self.poppers = [popper for popper in self.poppers if popper[0] is not connection]

    def break_all(self) -> None:
        """All connections are lost, as by a restart of the store."""
        for connection in list(self.connections):
            connection.is_cut = True
            connection.lose()

    def restart(self) -> None:
        """The store forgets its scripts; what came in no reply is not executed any more."""
        self.has_forgotten = True

    def delay_us(self) -> int:
        world, faults = self.world, self.faults
        if world.chance(faults.slow_chance):
            return int(world.between(0.001, faults.slowest_s) * US_PER_S)
        return world.random.randrange(40, 400)

    # --- requests ---

    def send(self, connection: StoreConnection, commands: list[list[bytes]]) -> None:
        world = self.world
        connection.sent_us = max(connection.sent_us, world.now_us + self.delay_us())
        if not world.chance(self.faults.break_chance):
            world.at(connection.sent_us, partial(self.serve, connection, commands, len(commands)))
            return
        # The connection breaks: some commands are executed (now, or much later), some replies come back, perhaps none.
        executed = world.random.randint(0, len(commands))
        replied = world.random.randint(0, executed)
        late_us = int(world.between(*LATE_S) * US_PER_S) if world.chance(0.3) else 0
        world.history.add(
            "break",
            connection.process.name,
            commands=len(commands),
            executed=executed,
            replied=replied,
            late_us=late_us,
        )
        if late_us:
            replied = 0
        world.at(connection.sent_us + late_us, partial(self.serve, connection, commands[:executed], replied))
        connection.is_cut = True
        if world.chance(0.9):
            world.at(connection.sent_us + self.delay_us() * 2, connection.lose)
        else:  # nothing tells the process, until its kernel gives up
            world.later(int(world.between(*UNNOTICED_S) * US_PER_S), connection.lose)

    def serve(self, connection: StoreConnection, commands: Sequence[list[bytes]], replied: int) -> None:
        """The store executes commands, and sends the first of the replies."""
        if self.world.now_us < connection.arrives_us:
            self.world.at(connection.arrives_us, partial(self.serve, connection, commands, replied))
            return
        if self.world.now_us < self.faults.store_is_back_us or connection.held_up:
            connection.held_up.append((commands, replied))
            if len(connection.held_up) == 1:
                self.world.at(self.faults.store_is_back_us, partial(self.serve_held_up, connection))
            return
        for number, command in enumerate(commands):
            raw = self.execute(connection, command)
            if raw is not None and number < replied:
                self.reply(connection, raw)

    def serve_held_up(self, connection: StoreConnection) -> None:
        """The store is back, unless it is away once more: in the order in which they came."""
        if self.world.now_us < self.faults.store_is_back_us:
            self.world.at(self.faults.store_is_back_us, partial(self.serve_held_up, connection))
            return
        held_up, connection.held_up = connection.held_up, []
        for commands, replied in held_up:
            self.serve(connection, commands, replied)

    def reply(self, connection: StoreConnection, raw: bytes) -> None:
        world = self.world
        connection.replied_us = max(connection.replied_us, world.now_us + self.delay_us())
        world.at(connection.replied_us, partial(self.deliver, connection, raw))

    def deliver(self, connection: StoreConnection, raw: bytes) -> None:
        """A process gets nothing any more over a connection that it has closed, in the same turn of its loop even."""
        connection.process.call_soon(
            lambda: None if connection.is_lost else connection.protocol.data_received(raw)
        )

    # --- the store ---

    def execute(self, connection: StoreConnection, command: list[bytes]) -> bytes | None:
        """One command; its reply as bytes, or None when it comes later."""
        name = command[0].upper()
        if name in WRITES and self.world.now_us < self.faults.writes_are_back_us:
            return b"-%b\r\n" % self.faults.refusal
        if name == b"EVALSHA":
            return self.run_script(connection, command)
        if name == b"SCRIPT":  # the server knows them already
            self.has_forgotten = False
            return b"$-1\r\n"
        if name == b"TIME":
            return encode_list([str(part).encode() for part in divmod(self.world.now_us, US_PER_S)])
        if name == b"BLPOP":
            return self.pop_soon(connection, command)
        if name in (b"SUBSCRIBE", b"UNSUBSCRIBE"):
            return self.subscribe(connection, name, command[1])
        if name == b"PING" and connection.channels:
            return encode_list([b"pong", b""])
        _, raw = self.server.ask_raw(pack_command(tuple(command)))
        if name in (b"LPUSH", b"PUBLISH"):
            self.pass_on(name == b"LPUSH", name == b"PUBLISH")
        return raw

    def run_script(self, connection: StoreConnection, command: list[bytes]) -> bytes:
        if self.has_forgotten:
            return b"-NOSCRIPT No matching script.\r\n"
        sha = command[1]
        reply, raw = self.server.ask_raw(pack_command(tuple(command)))
        record = self.world.history.add(
            "script",
            connection.process.name,
            name=self.server.names.get(sha, "?"),
            argv=command[4:],
            reply=reply,
        )
        if run_id := suspended_in(record):
            self.world.history.add("suspended", "", run=run_id, untold=untold(self.server, run_id))
        self.pass_on(sha in self.server.nudging, sha in self.server.publishing)
        connection.process.meet("reply")
        return raw

    def pass_on(self, may_nudge: bool, may_publish: bool) -> None:
        """What a command has pushed or published goes to those who wait for it."""
        if may_nudge and self.poppers:
            for popper in list(self.poppers):
                self.try_pop(popper)
        if may_publish:
            for channel, message in self.server.take_published():
                for connection in list(self.connections):
                    if channel in connection.channels and not connection.is_cut:
                        self.reply(connection, encode_list([b"message", channel, message]))

    def subscribe(self, connection: StoreConnection, name: bytes, channel: bytes) -> bytes:
        if name == b"SUBSCRIBE":
            connection.channels[channel] = None
        else:
            connection.channels.pop(channel, None)
        head = encode_list([name.lower(), channel])
        return b"*3" + head[2:] + b":%d\r\n" % len(connection.channels)

    def pop_soon(self, connection: StoreConnection, command: list[bytes]) -> bytes | None:
        until_us = self.world.now_us + int(float(command[2]) * US_PER_S)
        popper = (connection, command[1], until_us)
        self.poppers.append(popper)
        self.try_pop(popper)
        self.world.at(until_us, partial(self.give_up_pop, popper))
        return None

    def try_pop(self, popper: tuple[StoreConnection, bytes, int]) -> None:
        connection, key, _ = popper
        value = self.server.ask("LPOP", key)
        if value is not None:
            self.poppers.remove(popper)
            self.reply(connection, encode_list([key, value]))

    def give_up_pop(self, popper: tuple[StoreConnection, bytes, int]) -> None:
        if popper in self.poppers:
            self.poppers.remove(popper)
            self.reply(popper[0], NIL_LIST)


def encode_list(parts: Sequence[bytes]) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
