"""The command `taskflow`, also as `python -m taskflow`."""

from __future__ import annotations

import sys


def main() -> None:
    # A probe comes every few seconds, and is over before the command line is imported.
    if sys.argv[1:2] == ["probe"]:
        from taskflow.observability.probe import run_plainly

        code = run_plainly(sys.argv[2:])
        if code is not None:
            sys.exit(code)
    from taskflow.cli import main as command_line

    command_line(prog_name="taskflow")


if __name__ == "__main__":
    main()
