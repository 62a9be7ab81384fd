"""The stress of `tests.stress.untagged`, in small."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import leftovers
from tests.stress.untagged import build_all

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]


def test_builds_without_a_name_never_end_for_want_of_room(tmp_path: Path) -> None:
    """A thousand of them, which take a quarter of an hour, are the command line's."""
    found = build_all(tmp_path, builds=14, ceiling="24MB", layer=1_500_000)
    assert found.wrong == []
    assert found.images < 10
    assert leftovers(tmp_path / "store") == []
