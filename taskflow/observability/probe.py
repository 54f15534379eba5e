"""Asks a health server a question, for `taskflow probe`. Containers do so all the time, so it imports next to nothing. S13.3."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence

HOST = "127.0.0.1"
PORT = 9540
TIMEOUT_S = 2.0
MAX_ANSWER_BYTES = 1_000_000
PATHS = {"live": "/livez", "ready": "/readyz", "startup": "/startupz"}
WORDS = {"live": "live", "ready": "ready", "startup": "started"}
YES, NO, NOBODY = 0, 1, 2  # exit codes


def probe(question: str, *, host: str, port: int, as_json: bool) -> int:
    """Ask, print the answer, and return the exit code."""
    try:
        answer = ask(PATHS[question], host=host, port=port)
    except OSError as error:
        say_nobody(f"nothing answers probes on port {port} of {host}: {error.strerror or error}")
        return NOBODY
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head[9:12]
    if status not in (b"200", b"500", b"503") or not body.startswith(b'{"ok":'):
        say_nobody(f"what listens on port {port} of {host} is no health server of taskflow")
        return NOBODY
    if as_json:
        sys.stdout.write(body.decode())
    elif status == b"200":
        sys.stdout.write(f"{WORDS[question]}\n")
    else:
        # Imported when it is needed: that takes 3 ms.
        import json

        sys.stdout.write(f"not {WORDS[question]}: {json.loads(body)['why']}\n")
    return YES if status == b"200" else NO


def ask(path: str, *, host: str, port: int) -> bytes:
    """The whole answer. Raises OSError."""
    # Not `create_connection`, which imports the codec of international names, at a quarter of the price of all this.
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect((host, port))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = bytearray()
        while len(answer) < MAX_ANSWER_BYTES and (data := connection.recv(65_536)):
            answer += data
    return bytes(answer)


def say_nobody(text: str) -> None:
    sys.stderr.write(f"taskflow: {text}\n")


def run_plainly(arguments: Sequence[str]) -> int | None:
    """Run `taskflow probe <arguments>` without the command line's machinery, whose import takes longer than the probe.

    Returns None for arguments that are not plainly right, or ask for help: those are for the command.
    """
    question, host, port, as_json = "ready", HOST, PORT, False
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word in PATHS:
            question = word
        elif word == "--json":
            as_json = True
        elif word == "--host" and left:
            host = left.pop(0)
        elif word == "--port" and left and left[0].isascii() and left[0].isdigit():
            port = int(left.pop(0))
        else:
            return None
    return probe(question, host=host, port=port, as_json=as_json) if 0 < port < 65_536 else None
