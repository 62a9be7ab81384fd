"""Containers found by what people type."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybuild.cache.store import Store
from pybuild.containers.config import ContainerConfig
from pybuild.containers.containers import Containers
from pybuild.engine.host import SystemClock
from pybuild.model.errors import UserError


def test_a_name_is_no_path(tmp_path: Path) -> None:
    """Also one that leads to a file with an id in it, or to one that can be read for ever."""
    config = ContainerConfig(
        id="ab" * 32, name="web", image="app", manifest="", image_id="", deltas=()
    )
    (tmp_path / "planted").write_text(config.id)
    with Store.open(tmp_path / "store", SystemClock()) as store:
        containers = Containers(store)
        containers.create(config)
        for text in ("web", "/web", "abab", config.id):
            assert containers.find(text).config == config
        for text in (
            str(tmp_path / "planted"),
            "../../../planted",
            "../names/web",
            "",
            "/",
            ".",
            "web/x",
            "/web/",
        ):
            with pytest.raises(UserError, match="no such container"):
                containers.find(text)
