"""Image configs on their way to clients and back: the history of base and build."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pybuild.buildkit.gatewayconfig import gateway_config, lowered_from
from pybuild.frontend.lowering.interface import HistoryItem, Lowered
from pybuild.model.errors import UserError
from pybuild.model.platform import LINUX_AMD64, Platform
from tests.daemon.lazytrees import MADE


def test_a_config_for_clients_has_the_history_of_base_and_build() -> None:
    lowered = Lowered(
        result=MADE,
        config={"os": "linux", "architecture": "amd64", "history": [{"created_by": "base"}]},
        base_layer_count=1,
        history=(HistoryItem(created_by="RUN x", vertex=MADE), HistoryItem(created_by="ENV a=b")),
        contexts=frozenset(),
        platform=LINUX_AMD64,
    )
    text = gateway_config(lowered)
    comment = "buildkit.dockerfile.v0"
    assert json.loads(text) == {
        "os": "linux",
        "architecture": "amd64",
        "history": [
            {"created_by": "base"},
            {"created_by": "RUN x", "comment": comment},
            {"created_by": "ENV a=b", "comment": comment, "empty_layer": True},
        ],
        "rootfs": {"type": "layers"},
    }
    assert list(json.loads(text)) == ["architecture", "history", "os", "rootfs"]
    assert lowered.config["history"] == [{"created_by": "base"}]


def test_a_fixed_time_is_that_of_all_that_a_build_adds() -> None:
    lowered = Lowered(
        result=MADE, config={}, base_layer_count=0, history=(HistoryItem(created_by="x"),),
        contexts=frozenset(), platform=LINUX_AMD64, epoch=0,
    )  # fmt: skip
    (entry,) = json.loads(gateway_config(lowered))["history"]
    assert entry["created"] == "1970-01-01T00:00:00Z"


BASE: dict[str, Any] = {
    "history": [{"created_by": "b1"}, {"created_by": "b2", "empty_layer": True}],
    "rootfs": {"diff_ids": ["sha256:1"]},
}


def test_the_bases_history_is_told_from_what_was_added() -> None:
    config: dict[str, Any] = {
        "os": "plan9",
        "rootfs": {"diff_ids": ["x"]},
        "history": [
            {"created_by": "b1", "comment": ""},
            {"created_by": "b2", "empty_layer": True},
            {"created_by": "own", "comment": "c", "created": "then", "author": "me"},
            {"created_by": "env", "empty_layer": True},
            {"created_by": "more"},
        ],
    }
    found = lowered_from(MADE, config, Platform("linux", "arm", "v6"), base=BASE, layers=2, epoch=5)
    assert found.config == {
        "os": "plan9",
        "architecture": "arm",
        "variant": "v6",
        "history": config["history"][:2],
    }
    assert (found.base_layer_count, found.epoch, found.result) == (1, 5, MADE)
    assert found.history == (
        HistoryItem(created_by="own", vertex=MADE, comment="c", created="then", author="me"),
        HistoryItem(created_by="env", vertex=None, comment=""),
        HistoryItem(created_by="more", vertex=None, comment=""),
    )
    assert "rootfs" in config


def test_without_a_base_nothing_is_taken_for_the_bases() -> None:
    found = lowered_from(MADE, {"history": BASE["history"]}, LINUX_AMD64, layers=1)
    assert found.base_layer_count == 0 and found.config["history"] == []
    assert [item.vertex for item in found.history] == [MADE, None]
    assert "variant" not in found.config
    bare = lowered_from(MADE, None, LINUX_AMD64, base=BASE, layers=0)
    assert bare.config == {"history": [], "os": "linux", "architecture": "amd64"}
    assert (bare.base_layer_count, bare.history) == (0, ())
    odd: list[dict[str, Any]] = [{"rootfs": {"diff_ids": "none"}}, {"rootfs": []}]
    for base in odd:
        assert lowered_from(MADE, None, LINUX_AMD64, base=base, layers=3).base_layer_count == 0


@pytest.mark.parametrize("history", [{}, "x", [1], [{}, None]])
def test_a_history_is_a_list_of_objects(history: object) -> None:
    with pytest.raises(UserError, match="history is no list of objects"):
        lowered_from(MADE, {"history": history}, LINUX_AMD64)
