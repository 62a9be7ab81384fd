"""Running a piece of Python in another process on the same store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PRELUDE = """
import os, sys, time
from pybuild.cache.store import Store
from pybuild.cache.records.results import Results
from tests.clocks import FakeClock
from pybuild.model.descriptor import OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.snapshot import Record
from pybuild.model.snapshot import Snapshot
store = Store.open(sys.argv[1], FakeClock())
"""


def start(root: Path, program: str, *arguments: str) -> subprocess.Popen[str]:
    """Run *program* with ``store`` open; its standard output is a pipe of lines."""
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + program, str(root), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line(child: subprocess.Popen[str]) -> str:
    """Wait for the child to say something."""
    assert child.stdout is not None
    return child.stdout.readline().strip()


def kill(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.communicate(timeout=60)
