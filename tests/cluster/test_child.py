"""A child process that speaks lines: whatever it says, it is started again."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from pybuild.cluster.child import LineChild

pytestmark = pytest.mark.slow

ONCE = """
import pathlib, sys
if not pathlib.Path(sys.argv[1]).exists():
    pathlib.Path(sys.argv[1]).touch()
    {}
    sys.stdin.read()
for line in sys.stdin:
    print(line, end="", flush=True)
"""


@pytest.mark.parametrize(
    "fault",
    [
        "print('{', flush=True)",
        """print('"' + 'x' * 3000000 + '"', flush=True)""",
        "print('[' * 100000, flush=True)",
        "print('1', end='', flush=True); sys.exit(3)",
    ],
    ids=["no-json", "long", "deep", "half"],
)
def test_a_child_that_says_what_is_no_message_is_started_again(tmp_path: Path, fault: str) -> None:
    async def main() -> None:
        heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        script = ONCE.format(fault)
        command = [sys.executable, "-c", script, str(tmp_path / "again")]
        child = LineChild(command, heard.put_nowait)
        child.open()
        async with asyncio.timeout(60):
            assert await heard.get() == {}  # it has ended
            while heard.empty():
                child.say(id=1)
                await asyncio.sleep(0.01)
            assert await heard.get() == {"id": 1}
        await child.close()

    asyncio.run(main())
