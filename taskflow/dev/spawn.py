"""Child processes that don't outlive us, whatever ends us."""

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

    On Linux the kernel kills it when the *thread* that called this ends, even by SIGKILL: start what is to live long
    from the main thread. Elsewhere only a clean end stops it.
    """
    return subprocess.Popen(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True,
        preexec_fn=death_signal(),
    )  # fmt: skip


def death_signal() -> Callable[[], None] | None:
    """What the child does between fork and exec: ask the kernel for SIGKILL at its parent's death."""
    if sys.platform != "linux":
        return None
    # Looked up before the fork, where locks may be held by threads that are gone.
    return partial(ask_for_death, ctypes.CDLL(None).prctl, os.getpid())


def end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends. What death_signal is for, in a child that is Python."""
    if sys.platform == "linux":
        ask_for_death(ctypes.CDLL(None).prctl, parent)


def ask_for_death(prctl: Callable[..., int], parent: int) -> None:
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before we could ask
        os._exit(1)


def stop(process: subprocess.Popen[bytes], *, grace_s: float, number: signal.Signals = signal.SIGTERM) -> int:
    """Ask it to end, kill it and its session after `grace_s`; its exit code."""
    if process.poll() is None:
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    kill_session(process)
    return process.wait()


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to it and to what it left behind in its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
