"""The links of STYLE section 4 hold."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ["cache", "executor", "frontend", "grammar", "image", "model", "registry", "solver"]


@pytest.mark.parametrize("room", ROOMS)
def test_link_resolves_to_its_room(room: str) -> None:
    link = ROOT / "pybuild" / room
    assert link.is_symlink()
    assert link.resolve() == ROOT / room
