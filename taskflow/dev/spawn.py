"""Starts child processes that end with this one, however it ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1


def spawn(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdout: IO[bytes] | int | None = None,
    stderr: IO[bytes] | int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, so that Ctrl-C in the terminal reaches only us.

    On Linux the kernel kills the child when the *thread* that called this ends, even by SIGKILL: start long-lived children from the
    main thread. On other systems only a clean end of this process stops the child.
    """
    return subprocess.Popen(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True,
        preexec_fn=death_signal(),
    )  # fmt: skip


def death_signal() -> Callable[[], None] | None:
    """The function that the child calls between fork and exec: it asks the kernel for SIGKILL at its parent's death."""
    if sys.platform != "linux":
        return None
    # Looked up before the fork: after it, threads that don't exist any more may hold locks.
    return partial(ask_for_death, ctypes.CDLL(None).prctl, os.getpid())


def end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends: `death_signal` for a child that is Python itself."""
    if sys.platform == "linux":
        ask_for_death(ctypes.CDLL(None).prctl, parent)


def ask_for_death(prctl: Callable[..., int], parent: int) -> None:
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # the parent died before we could ask
        os._exit(1)


def stop(process: subprocess.Popen[bytes], *, grace_s: float, number: signal.Signals = signal.SIGTERM) -> int:
    """Ask the process to end, and kill it with its session after `grace_s`; return its exit code."""
    if process.poll() is None:
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    kill_session(process)
    return process.wait()


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """Send SIGKILL to the process and to all processes that it left behind in its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
