"""``pybuild registry serve`` as a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_SERVING = re.compile(r"registry: serving \S+ on (\S+)\n")


@dataclass(frozen=True, slots=True)
class Serving:
    """A running server; *host* is ``127.0.0.1:<port>``."""

    host: str
    process: subprocess.Popen[str]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)

    def stop(self) -> int:
        """Ask it to end; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def said(self) -> str:
        """Return the output of the process, once it has ended."""
        assert self.process.stderr is not None
        return self.process.stderr.read()


@contextmanager
def process(root: Path, *flags: str) -> Generator[Serving]:
    """Serve the store at *root* on a free port."""
    command = [sys.executable, "-m", "pybuild", "registry", "serve", "--root", str(root)]
    started = subprocess.Popen(
        [*command, "--addr", "127.0.0.1:0", *flags], stderr=subprocess.PIPE, text=True
    )
    errors: IO[str] | None = started.stderr
    assert errors is not None
    try:
        line = errors.readline()
        match = _SERVING.match(line)
        assert match is not None, line + errors.read()
        yield Serving(match[1], started)
    finally:
        started.kill()
        started.wait(60)
        errors.close()
