"""Runs pybuild's command line again and again, from a process that has its modules already: each command a fork of it.

Run as a program; a line of JSON on standard input is a command: its words, and the files of its output. Its status is a line
of standard output.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

from pybuild import cli
from pybuild.commandline import every

_COMMANDS = [
    "attach",
    "commit",
    "container",
    "cp",
    "create",
    "diff",
    "exec",
    "export",
    "inspect",
    "kill",
    "logs",
    "network",
    "pause",
    "port",
    "ps",
    "rename",
    "restart",
    "rm",
    "run",
    "start",
    "stop",
    "top",
    "unpause",
    "update",
    "volume",
    "wait",
]
_ALSO = ("pybuild.commands.runcontainer", "pybuild.engine.engine", "uvloop")


def main() -> int:
    targets = [one.target for one in every() if one.name.partition(" ")[0] in _COMMANDS]
    for module in {*_ALSO, *(target.partition(":")[0] for target in targets if target)}:
        importlib.import_module(module)
    for line in sys.stdin.buffer:
        words, out, err = json.loads(line)
        pid = os.fork()
        if pid == 0:
            return _command(words, out, err)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(1, b"%d\n" % status)
    return 0


def _command(words: list[str], out: str, err: str) -> int:
    for fd, path in ((0, os.devnull), (1, out), (2, err)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, fd)
        os.close(opened)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  the old one has read on
    sys.argv[1:] = words
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
