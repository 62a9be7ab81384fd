"""The interpreter's own parser of JSON, without the modules around it [MON-2]."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.harness import ROOT

_ASK = """
import sys
sys.path.insert(0, sys.argv[1])
from pybuild.model import lightjson
assert "json" not in sys.modules
try:
    lightjson.loads(sys.argv[2])
except ValueError:
    print("no JSON")
"""


@pytest.mark.parametrize("text", ["", "{", '{"id', '{"id":', '"a', "[1,", "nul", '{"a":1', "1 2"])
def test_half_a_file_is_a_value_error(text: str) -> None:
    """A power failure may leave one, and a command must be able to pass over it."""
    words = [sys.executable, "-I", "-S", "-c", _ASK, str(ROOT), text]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("no JSON\n", "")
