"""Many steps, ended and cancelled at random moments, leave nothing behind, on any rung.

``PYBUILD_LEAK_STEPS=1000 PYBUILD_LEAK_CANCELS=100`` makes it long.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.executor.contract.rungs import RUNGS, Rung, command_on, place_for

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]

STEPS = int(os.environ.get("PYBUILD_LEAK_STEPS", "24"))
CANCELS = int(os.environ.get("PYBUILD_LEAK_CANCELS", "12"))
PROGRAM = Path(__file__).with_name("leaking.py")


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)
def test_nothing_is_left(rung: Rung) -> None:
    with place_for(rung) as user:
        place = user.place / "steps"
        place.mkdir()
        os.chown(place, rung.uid, rung.uid)
        asked = {
            "steps": STEPS,
            "cancels": CANCELS,
            "options": rung.options,
            "networks": ["default", "host"] if rung.is_jailed else ["default", "none", "host"],
            "lower": str(user.lower),
            "place": str(place),
        }
        text = PROGRAM.read_text(encoding="utf-8")
        command, environment = command_on(rung, user, text, json.dumps(asked))
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=1800, check=False, env=environment
        )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    print(f"{rung.name}: {STEPS} steps, {CANCELS} cancelled, {told['seconds']:.0f} s")
    assert told["after"] == told["before"]
    assert told["left"] == []
    assert told["works"] == rung.isolation
