"""What a build that pushes does for its push while steps run."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import asyncio, sys
from types import SimpleNamespace
from pybuild.pushahead import importing_ahead
from pybuild.request import Output

async def main(output):
    told = []
    missed = importing_ahead(SimpleNamespace(outputs=[output]), lambda *what: told.append(what))
    missed("a", "b")
    missed("c", "d")
    assert told == [("a", "b"), ("c", "d")]

kind, *flags = sys.argv[1:]
asyncio.run(main(Output(type=kind, attrs=dict.fromkeys(flags, "true"))))
print("yarl" in sys.modules, "pybuild.registry.push" in sys.modules)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "is_imported"), [(["registry"], True), (["image", "push"], True), (["image"], False)]
)
def test_the_registry_client_is_imported_while_the_first_step_runs(
    output: list[str], is_imported: bool
) -> None:
    words = [sys.executable, "-c", _PROGRAM, *output]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == [str(is_imported)] * 2
