"""What a build imports before it knows what it is going to do: every module is paid by every build."""

from __future__ import annotations

import subprocess
import sys

# Each of them takes a millisecond or more, and is for builds that ask for something rare.
RARE = (
    *("aiohttp", "aiobotocore", "bz2", "csv", "datetime", "decimal", "difflib", "email", "lark"),
    *("lzma", "networkx", "shutil", "tempfile", "tomllib", "zstandard", "pybuild.daemon"),
    *(
        "pybuild.executor.sources.git",
        "pybuild.executor.sources.http",
        "pybuild.registry.client.client",
    ),
)


def test_a_build_imports_nothing_that_is_for_rare_ones() -> None:
    program = (
        "import sys; before = set(sys.modules); import pybuild.commands.build\n"
        f"print(*sorted(set({RARE!r}) & (set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == []
