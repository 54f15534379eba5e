"""Wakeup: turns signals into bytes on a socket, so that a loop that waits in poll() gets them in order, between its other work."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterable
from types import FrameType, TracebackType
from typing import Any, Self

HandlerOrDefault = Callable[[int, FrameType | None], Any] | int | None


class Wakeup:
    """A context manager that catches `signals`, in the main thread; `take` returns the caught ones."""

    def __init__(self, signals: Iterable[signal.Signals]) -> None:
        self._signals = tuple(signals)
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._handlers: dict[signal.Signals, HandlerOrDefault] = {}
        self._wakeup_fd = -1

    def __enter__(self) -> Self:
        self._wakeup_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in self._signals:
            self._handlers[number] = signal.signal(number, ignore_here)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            # None means that the former handler wasn't set from Python, and can't be restored.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(self._wakeup_fd)
        self._reader.close()
        self._writer.close()

    @property
    def fds(self) -> tuple[int, int]:
        return self._reader.fileno(), self._writer.fileno()

    def fileno(self) -> int:
        return self._reader.fileno()

    def take(self) -> list[signal.Signals]:
        """Return the caught signals in order, each as often as it came; never blocks."""
        try:
            numbers = self._reader.recv(4096)
        except BlockingIOError:
            return []
        return [signal.Signals(number) for number in numbers if number in self._signals]


def ignore_here(number: int, frame: FrameType | None) -> None:
    """Do nothing. A signal reaches the wakeup socket only if it has a handler in Python."""
